"""The bytes of a frame ring: stated in docs/frame-ring.md, so that a driver in any language can write them.

A ring is one file: a page for the ring, then slots of equal size, each a page for what the slot holds and room for one
image. Everything is little-endian.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import FrameRingError, ImageError, InvalidArgument, OctobevError, expected
from ...fusion.pose import Pose
from ..frames import Frame, PixelFormat

MAGIC: Final = b"OCTORING"
"""First eight bytes of a ring, written last."""

VERSION: Final = 1
"""Version of this layout; a reader refuses any other."""

PAGE_BYTES: Final = 4096
"""Size of the ring's header, of each slot's header, and what a slot's size is a multiple of."""

HEAD_OFFSET: Final = 256
"""Where the number of frames written so far is, in a cache line that nothing else uses."""

MIN_SLOTS: Final = 2
MAX_SLOTS: Final = 1024
MAX_PAYLOAD_BYTES: Final = 1 << 30
MAX_CAMERA_BYTES: Final = 127

PIXEL_FORMATS: Final = {
    1: PixelFormat.BGR8,
    2: PixelFormat.RGB8,
    3: PixelFormat.MONO8,
    4: PixelFormat.JPEG,
    5: PixelFormat.PNG,
    6: PixelFormat.NV12,
    7: PixelFormat.YUYV,
}
"""Number of a pixel format in a slot."""

_CODES: Final = {pixel_format: code for code, pixel_format in PIXEL_FORMATS.items()}
_HAS_POSE: Final = 1

_RING: Final = struct.Struct("<8sIIQQQQIII4x128s")
_SLOT: Final = struct.Struct("<QqQIIIIQQ12d")

SLOT_BYTES_READ: Final = _SLOT.size
"""How much of a slot's header has a meaning."""


@dataclass(frozen=True, slots=True)
class RingHeader:
    """What never changes while a ring exists.

    Parameters
    ----------
    camera : name of the camera whose frames these are, at most 127 bytes in UTF-8
    slots : how many frames the ring holds, 2 .. 1024
    payload_bytes : largest image, 1 .. 2**30
    epoch : tells one writer of a ring from the one before it: when it started, nanoseconds since the epoch
    writer_pid : process of the writer, for people who look

    Raises
    ------
    InvalidArgument
        A value outside of these limits.
    """

    camera: str
    slots: int
    payload_bytes: int
    epoch: int
    writer_pid: int = 0

    def __post_init__(self) -> None:
        name = self.camera.encode("utf-8", "surrogatepass")
        if not 0 < len(name) <= MAX_CAMERA_BYTES or b"\0" in name:
            raise InvalidArgument(expected("camera of a ring", f"1 .. {MAX_CAMERA_BYTES} bytes in UTF-8", len(name)))
        if not MIN_SLOTS <= self.slots <= MAX_SLOTS:
            raise InvalidArgument(expected("slots of a ring", f"{MIN_SLOTS} .. {MAX_SLOTS}", self.slots))
        if not 1 <= self.payload_bytes <= MAX_PAYLOAD_BYTES:
            raise InvalidArgument(expected("payload_bytes of a ring", f"1 .. {MAX_PAYLOAD_BYTES}", self.payload_bytes))

    @property
    def slot_bytes(self) -> int:
        """From the start of a slot to the start of the next."""
        return PAGE_BYTES + -(-self.payload_bytes // PAGE_BYTES) * PAGE_BYTES

    @property
    def file_bytes(self) -> int:
        """Size of the whole ring."""
        return PAGE_BYTES + self.slots * self.slot_bytes

    def slot_offset(self, sequence: int) -> int:
        """Where the slot of a frame begins, in bytes."""
        return PAGE_BYTES + sequence % self.slots * self.slot_bytes

    def pack(self) -> bytes:
        """The bytes of the header after the magic number."""
        return _RING.pack(
            MAGIC,
            VERSION,
            PAGE_BYTES,
            self.epoch,
            self.file_bytes,
            self.slot_bytes,
            self.payload_bytes,
            self.slots,
            PAGE_BYTES,
            self.writer_pid,
            self.camera.encode(),
        )[len(MAGIC) :]

    @classmethod
    def unpack(cls, page: bytes, file_bytes: int, where: str) -> RingHeader:
        """Read the first page of a ring, whose magic number was checked.

        Raises
        ------
        FrameRingError
            Another version, or sizes that contradict each other or the file: nothing can then be read beyond its end.
        """
        _, version, header, epoch, size, slot, payload, slots, slot_header, pid, name = _RING.unpack_from(page)
        if version != VERSION:
            raise FrameRingError(f"{where}: " + expected("version of the ring", str(VERSION), version))
        try:
            ring = cls(name.rstrip(b"\0").decode(), slots, payload, epoch, pid)
        except (UnicodeDecodeError, OctobevError) as error:
            raise FrameRingError(f"{where}: damaged header: {error}") from error
        wanted = (PAGE_BYTES, PAGE_BYTES, ring.slot_bytes, ring.file_bytes, ring.file_bytes)
        found = (header, slot_header, slot, size, file_bytes)
        if found != wanted:
            raise FrameRingError(
                f"{where}: damaged header: "
                + expected("sizes (header, slot header, slot, ring, file)", str(wanted), str(found))
            )
        return ring


@dataclass(frozen=True, slots=True)
class SlotHeader:
    """What a slot says of its frame.

    Parameters
    ----------
    sequence : number of the frame, from 0 in each epoch
    timestamp_ns : capture time (mid-exposure), nanoseconds since the epoch
    pixel_format : what the payload is
    width, height : size in pixels; of encoded images for information, 0 when not known
    stride_bytes : from one row of the array to the next; 0 of encoded images
    payload_bytes : how much of the slot's room is used
    world_from_ego : where the ego was at `timestamp_ns`, None when not known
    """

    sequence: int
    timestamp_ns: int
    pixel_format: PixelFormat
    width: int
    height: int
    stride_bytes: int
    payload_bytes: int
    world_from_ego: Pose | None = None

    @classmethod
    def of(cls, frame: Frame, sequence: int) -> SlotHeader:
        """The header of a frame whose rows lie without a gap.

        Raises
        ------
        InvalidArgument
            A pixel format that slots do not know.
        """
        if frame.pixel_format not in _CODES:
            raise InvalidArgument(
                expected("pixel format of a ring's frame", f"one of {', '.join(_CODES)}", frame.pixel_format)
            )
        width, height = frame.size or (0, 0)
        size = frame.array.size
        stride = 0 if frame.pixel_format.encoded else size // frame.array.shape[0]
        return cls(sequence, frame.timestamp_ns, frame.pixel_format, width, height, stride, size, frame.world_from_ego)

    def pack(self) -> bytes:
        """The bytes of the slot's header after the lock word."""
        pose = self.world_from_ego
        return _SLOT.pack(
            0,
            self.timestamp_ns,
            self.sequence,
            _CODES[self.pixel_format],
            0 if pose is None else _HAS_POSE,
            self.width,
            self.height,
            self.stride_bytes,
            self.payload_bytes,
            *([0.0] * 12 if pose is None else pose.matrix[:3].ravel()),
        )[8:]

    @classmethod
    def unpack(cls, packed: bytes, sequence: int, capacity: int) -> SlotHeader:
        """Read the header of a slot, known to be whole.

        Raises
        ------
        ImageError
            A frame that cannot be: not the number that it should have, of an unknown format, larger than its slot.
        """
        _, timestamp_ns, number, code, flags, width, height, stride, size, *matrix = _SLOT.unpack_from(packed)
        if number != sequence:
            raise ImageError(expected("sequence in the slot", str(sequence), number))
        pixel_format = PIXEL_FORMATS.get(code)
        if pixel_format is None:
            raise ImageError(expected("pixel format", f"one of {', '.join(map(str, PIXEL_FORMATS))}", code))
        if not 0 < size <= capacity:
            raise ImageError(expected("payload", f"1 .. {capacity} bytes", size))
        if not pixel_format.encoded:
            shape = pixel_format.array_shape(width, height)
            row = math.prod(shape[1:])
            if pixel_format.size_of(shape) is None:
                raise ImageError(expected(f"size of an image in {pixel_format}", "possible", f"{width} x {height}"))
            if not (row <= stride and stride * (shape[0] - 1) + row <= size):
                raise ImageError(
                    expected("image", f"within its {size} bytes", f"{width} x {height} with a stride of {stride}")
                )
        pose = Pose(np.array([*matrix, 0, 0, 0, 1]).reshape(4, 4)) if flags & _HAS_POSE else None
        return cls(number, timestamp_ns, pixel_format, width, height, stride, size, pose)

    def pixels(self, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """View the payload as what it is: an array as :class:`PixelFormat` says, or the encoded bytes [n]."""
        if self.pixel_format.encoded:
            return payload[: self.payload_bytes]
        shape = self.pixel_format.array_shape(self.width, self.height)
        strides = (self.stride_bytes, *shape[2:], 1)
        return np.ndarray(shape, np.uint8, payload, 0, strides)
