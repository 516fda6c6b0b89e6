"""Reading a frame ring: what the runtime does."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..._ext import seqlock
from ...errors import FrameOverwritten, FrameRingError, ImageError, InvalidArgument, OctobevError, expected
from ...fusion.pose import Pose
from ..frames import Frame, PixelFormat
from .file import Ring, has_writer, open_ring, remove_abandoned, ring_path
from .layout import PAGE_BYTES, SLOT_BYTES_READ, SlotHeader

_SLICE_S: Final = 0.02
"""How often somebody who waits looks whether the ring was replaced, and whether a writer woke nobody."""

_ATTEMPTS: Final = 1000
"""How often the newest frame may be overwritten while its header is read."""


@dataclass(frozen=True, slots=True, eq=False)
class RingFrame:
    """A frame in the memory of a ring: a view that the writer will overwrite some day.

    As a context manager it raises :class:`~octobev.errors.FrameOverwritten` at the end if that day came in between.

    Parameters
    ----------
    camera : name of the camera
    sequence : number of the frame, from 0 in each epoch
    epoch : which writer of the ring it comes from
    missed
        Frames between this one and the one that the reader took before: overwritten before it came, or skipped by
        :meth:`FrameRingReader.newest_frame`.
    timestamp_ns : capture time (mid-exposure), nanoseconds since the epoch
    pixel_format : what the data are
    data
        pixels, an array as :class:`PixelFormat` says, or the encoded bytes, uint8 [n]; read-only, not copied, rows may
        have gaps. It keeps the memory mapped, but not unchanged: believe nothing that was computed from it until
        :meth:`still_valid` said so afterwards.
    world_from_ego : where the ego was at `timestamp_ns`, None when not known
    """

    camera: str
    sequence: int
    epoch: int
    missed: int
    timestamp_ns: int
    pixel_format: PixelFormat
    data: NDArray[np.uint8]
    world_from_ego: Pose | None
    _ring: Ring = field(repr=False)

    def still_valid(self) -> bool:
        """Whether everything read from `data` so far was this frame's, whole."""
        lock = self._ring.header.slot_offset(self.sequence) // 8
        return seqlock.load_after_reads(self._ring.words, lock) == _complete(self.sequence)

    def check(self) -> None:
        """Raise FrameOverwritten unless the frame is still valid."""
        if not self.still_valid():
            raise FrameOverwritten(self._overwritten())

    def copy(self) -> Frame:
        """Return the frame with pixels of its own.

        Raises
        ------
        FrameOverwritten
            It was overwritten, before or while it was copied.
        """
        data = self.data.tobytes() if self.pixel_format.encoded else self.data.copy()
        self.check()
        return Frame(self.camera, self.timestamp_ns, data, self.pixel_format, self.world_from_ego)

    def borrow(self) -> Frame:
        """Return the frame with pixels that are the ring's: check after the last use. Encoded images are copied."""
        if self.pixel_format.encoded:
            return self.copy()
        return Frame(self.camera, self.timestamp_ns, self.data, self.pixel_format, self.world_from_ego)

    def __enter__(self) -> RingFrame:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.check()
        elif not self.still_valid():
            error.add_note(self._overwritten())

    def _overwritten(self) -> str:
        return (
            f"frame {self.sequence} of ring {self.camera} was overwritten while it was read, {self._ring.head()} are"
            " written: copy frames, be quicker, or give the ring more slots"
        )


class FrameRingReader:
    """A reader of a ring of frames in shared memory, one of any number.

    It maps the ring for reading only, holds no lock, and no writer ever knows of it. The ring need not be there yet,
    and its writer may die and start again: the reader takes what is left of the old ring and goes on with the new one
    (:attr:`RingFrame.epoch` differs). Of one thread.

    Parameters
    ----------
    ring : name of the ring (`front` is the file `/dev/shm/octobev-front`), or the path of its file
    camera : the camera that the ring must be of; None: any
    writer_uid : the user who must own the ring; None: this process's effective user, or root

    Raises
    ------
    EndpointError
        No permission to read the ring, or its owner is not to be trusted, or others may write to it.
    FrameRingError
        Not a ring, or one of another version, or damaged, or of another camera.
    """

    def __init__(
        self, ring: str | os.PathLike[str], camera: str | None = None, *, writer_uid: int | None = None
    ) -> None:
        self.path: Final = ring_path(ring)
        self._camera = camera
        self._writer_uid = writer_uid
        self._ring: Ring | None = None
        self._cursor = 0
        self._closed = False
        if self._attach():
            self._cursor = max(self._mapped().head() - 1, 0)

    @property
    def attached(self) -> bool:
        """Whether there is a ring to read from. Its writer may be dead: see :meth:`writer_alive`."""
        return self._ring is not None

    @property
    def camera(self) -> str | None:
        """Name of the ring's camera; None where neither a ring nor the caller has said it."""
        return self._camera if self._ring is None else self._ring.header.camera

    @property
    def epoch(self) -> int | None:
        """Which writer's ring is being read, None where there is none."""
        return None if self._ring is None else self._ring.header.epoch

    def writer_alive(self) -> bool:
        """Whether the ring being read has a living writer. It may hang all the same."""
        return self._ring is not None and not self._ring.removed() and has_writer(self._ring.file)

    def next_frame(self, timeout_s: float = 0.0) -> RingFrame | None:
        """Give the frame after the one taken before; None where none comes in time.

        Begins with the newest frame there is. A reader that is a whole ring behind goes on with the newest frame, and
        :attr:`RingFrame.missed` says how many it lost.

        Raises
        ------
        ImageError
            A frame whose description cannot be; the next call goes on with the next frame.
        EndpointError, FrameRingError
            As when the reader is made, about the ring of a writer that has started again.
        """
        return self._frame(timeout_s, newest=False)

    def newest_frame(self, timeout_s: float = 0.0) -> RingFrame | None:
        """Give the newest frame, if it is newer than the one taken before; None where none comes in time.

        Raises
        ------
        ImageError, EndpointError, FrameRingError
            As :meth:`next_frame`.
        """
        return self._frame(timeout_s, newest=True)

    def close(self) -> None:
        """Give up the ring. Views of frames stay what they are. A ring that its dead writer left behind is removed."""
        if self._closed:
            return
        self._closed = True
        self._detach()
        remove_abandoned(self.path)

    def __enter__(self) -> FrameRingReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frame(self, timeout_s: float, *, newest: bool) -> RingFrame | None:
        if self._closed:
            raise InvalidArgument(f"ring {self.path}: " + expected("reader", "open", "a closed one"))
        deadline = time.monotonic() + timeout_s
        while True:
            if (frame := self._available(newest=newest)) is not None:
                return frame
            rest = deadline - time.monotonic()
            if rest <= 0:
                return None
            self._wait(min(rest, _SLICE_S))

    def _wait(self, seconds: float) -> None:
        if self._ring is None:
            time.sleep(seconds)
        else:
            self._ring.wait(self._cursor, seconds)

    def _available(self, *, newest: bool) -> RingFrame | None:
        """A frame that is there now, be it in the ring of the next writer."""
        while True:
            if self._ring is None and not self._attach():
                return None
            ring = self._mapped()
            if (frame := self._take(ring, newest=newest)) is not None:
                return frame
            if not ring.removed():
                return None
            if (frame := self._take(ring, newest=newest)) is not None:  # written before it was removed
                return frame
            self._detach()

    def _take(self, ring: Ring, *, newest: bool) -> RingFrame | None:
        where = f"ring {self.path}"
        for _ in range(_ATTEMPTS):
            head = ring.head()
            if head == self._cursor:
                return None
            if head < self._cursor:
                raise FrameRingError(f"{where}: " + expected("frames written", f"at least {self._cursor}", head))
            sequence = head - 1 if newest else self._cursor
            packed = _read_header(ring, sequence, where)
            if packed is None:
                newest = True
                continue
            missed, self._cursor = sequence - self._cursor, sequence + 1
            try:
                header = SlotHeader.unpack(packed, sequence, ring.header.payload_bytes)
            except OctobevError as error:
                raise ImageError(f"{where}, frame {sequence}: {error}") from error
            return _view(ring, header, missed)
        raise FrameRingError(f"{where}: " + expected("newest frame", "readable", f"overwritten {_ATTEMPTS} times"))

    def _attach(self) -> bool:
        ring = open_ring(self.path, self._writer_uid)
        if ring is None:
            return False
        if self._camera not in (None, ring.header.camera):
            ring.close()
            raise FrameRingError(
                f"ring {self.path}: " + expected("camera", str(self._camera), repr(ring.header.camera))
            )
        self._ring = ring
        self._cursor = 0
        return True

    def _mapped(self) -> Ring:
        if self._ring is None:
            raise RuntimeError("no ring is mapped")
        return self._ring

    def _detach(self) -> None:
        if self._ring is not None:
            self._ring.close()
        self._ring = None


def _complete(sequence: int) -> int:
    """The lock word of a slot that holds this frame, whole."""
    return 2 * sequence + 2


def _read_header(ring: Ring, sequence: int, where: str) -> bytes | None:
    """The header of a frame's slot, whole; None where the slot has another frame already."""
    offset = ring.header.slot_offset(sequence)
    before = seqlock.load_acquire(ring.words, offset // 8)
    if before < _complete(sequence):
        raise FrameRingError(
            f"{where}: " + expected(f"slot of frame {sequence}", "written before it is shown", f"lock word {before}")
        )
    packed = ring.memory[offset : offset + SLOT_BYTES_READ].tobytes()
    after = seqlock.load_after_reads(ring.words, offset // 8)
    return packed if before == after == _complete(sequence) else None


def _view(ring: Ring, header: SlotHeader, missed: int) -> RingFrame:
    start = ring.header.slot_offset(header.sequence) + PAGE_BYTES
    return RingFrame(
        ring.header.camera,
        header.sequence,
        ring.header.epoch,
        missed,
        header.timestamp_ns,
        header.pixel_format,
        header.pixels(ring.memory[start : start + header.payload_bytes]),
        header.world_from_ego,
        ring,
    )
