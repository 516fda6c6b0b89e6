"""Images and the sets that a step works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, InvalidArgument, expected
from ..fusion.pose import Pose


class PixelFormat(StrEnum):
    """What the bytes of a frame are.

    BGR8, RGB8 : uint8 [height, width, 3]
    MONO8 : uint8 [height, width], 0 black, 255 white
    NV12 : uint8 [height * 3 / 2, width]: the luma, then the rows of colour, U and V by turns, one pair for two columns
        of two rows. Width and height even
    YUYV : uint8 [height, width, 2], also called YUY2: luma, and by turns U and V, which two columns share. Width even
    JPEG, PNG : the encoded bytes

    NV12 and YUYV are taken to be BT.601 with limited range (Y 16..235, U and V 16..240 around 128), which cameras
    deliver unless they say otherwise, and which `cv2.COLOR_YUV2BGR_NV12` and `cv2.COLOR_YUV2BGR_YUY2` take them for.
    """

    BGR8 = "bgr8"
    RGB8 = "rgb8"
    MONO8 = "mono8"
    NV12 = "nv12"
    YUYV = "yuyv"
    JPEG = "jpeg"
    PNG = "png"

    @property
    def encoded(self) -> bool:
        """Whether a decoder must run before pixels are there."""
        return self in (PixelFormat.JPEG, PixelFormat.PNG)

    @property
    def yuv(self) -> bool:
        """Whether pixels are luma with a colour that several share."""
        return self in _MULTIPLES

    def array_shape(self, width: int, height: int) -> tuple[int, ...]:
        """Shape of the array with the pixels of an image (not of encoded formats)."""
        rows = height + height // 2 if self is PixelFormat.NV12 else height
        return (rows, width, *_CHANNELS[self])

    def size_of(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Width and height of the image in an array of this shape; None where no image of this format has it."""
        if len(shape) < 2 or 0 in shape:
            return None
        width, height = shape[1], shape[0] * 2 // 3 if self is PixelFormat.NV12 else shape[0]
        across, down = _MULTIPLES.get(self, (1, 1))
        fits = width % across == 0 and height % down == 0 and self.array_shape(width, height) == shape
        return (width, height) if fits else None


_CHANNELS: Final = {
    PixelFormat.BGR8: (3,),
    PixelFormat.RGB8: (3,),
    PixelFormat.MONO8: (),
    PixelFormat.NV12: (),
    PixelFormat.YUYV: (2,),
}
_MULTIPLES: Final = {PixelFormat.NV12: (2, 2), PixelFormat.YUYV: (2, 1)}
"""What width and height are multiples of: the pixels that share a colour."""

_SHAPES: Final = {
    PixelFormat.BGR8: "(height, width, 3)",
    PixelFormat.RGB8: "(height, width, 3)",
    PixelFormat.MONO8: "(height, width)",
    PixelFormat.NV12: "(height * 3 / 2, width), height and width even",
    PixelFormat.YUYV: "(height, width, 2), width even",
}


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of one camera.

    Parameters
    ----------
    camera : name of the camera in the rig
    timestamp_ns : capture time (mid-exposure), nanoseconds since the epoch
    data : pixels, an array as :class:`PixelFormat` says, any row stride; or encoded bytes: `bytes`, a contiguous
        memoryview, or a contiguous uint8 array [n]. Borrowed and not written to. The frame holds a reference, so a view
        keeps its owner alive.
    pixel_format : what `data` is
    world_from_ego : where the ego was when this image was taken, None when not known (the set's pose is used)

    Raises
    ------
    ImageError
        With camera and timestamp: data that are not what the pixel format says.
    """

    camera: str
    timestamp_ns: int
    data: NDArray[np.uint8] | bytes | memoryview
    pixel_format: PixelFormat = PixelFormat.BGR8
    world_from_ego: Pose | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixel_format", PixelFormat(self.pixel_format))
        try:
            self._check_encoded() if self.pixel_format.encoded else self._check_pixels()
        except ImageError as error:
            raise ImageError(f"camera {self.camera} at {self.timestamp_ns} ns: {error}") from None

    @property
    def array(self) -> NDArray[np.uint8]:
        """`data` as an array, not copied: the pixels, or the encoded bytes [n]."""
        return self.data if isinstance(self.data, np.ndarray) else np.frombuffer(self.data, np.uint8)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the image; None of encoded ones: :func:`.images.image_size` reads theirs."""
        return None if self.pixel_format.encoded else self.pixel_format.size_of(self.array.shape)

    def _check_encoded(self) -> None:
        data = self.data
        if isinstance(data, np.ndarray):
            fits = data.dtype == np.uint8 and data.ndim == 1 and data.flags.c_contiguous
        else:
            fits = isinstance(data, bytes) or (isinstance(data, memoryview) and data.c_contiguous)
        if not fits:
            raise ImageError(expected("data", "the encoded bytes, contiguous", _kind(data)))
        if not len(data):
            raise ImageError(expected("data", "the encoded bytes", "none"))

    def _check_pixels(self) -> None:
        data = self.data
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8:
            raise ImageError(expected("data", "a uint8 array", _kind(data)))
        if self.pixel_format.size_of(data.shape) is None:
            raise ImageError(expected("image shape", _SHAPES[self.pixel_format], data.shape))
        if self.pixel_format.yuv and data.strides[1:] != (*_CHANNELS[self.pixel_format], 1):
            raise ImageError(expected("image", "with the bytes of a row side by side", f"strides {data.strides}"))


def _kind(data: object) -> str:
    if isinstance(data, np.ndarray):
        return f"{data.dtype} {data.shape}"
    return type(data).__name__


@dataclass(frozen=True, slots=True, eq=False)
class FrameSet:
    """One instant of the rig: at most one frame per camera, absences explicit.

    Parameters
    ----------
    timestamp_ns : the instant that predictions will be about
    frames : at most one per camera
    world_from_ego : where the ego was at `timestamp_ns`; None when not known: nothing is then carried over time
    absences : camera name -> why it has no frame here
    """

    timestamp_ns: int
    frames: tuple[Frame, ...]
    world_from_ego: Pose | None = None
    absences: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", tuple(self.frames))
        object.__setattr__(self, "absences", MappingProxyType(dict(self.absences)))
        names = [frame.camera for frame in self.frames]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidArgument(
                f"frame set at {self.timestamp_ns} ns: "
                + expected("frames", "at most one per camera", f"several of {', '.join(twice)}")
            )
        if both := sorted(set(names) & set(self.absences)):
            raise InvalidArgument(
                f"frame set at {self.timestamp_ns} ns: "
                + expected("absent cameras", "without a frame", ", ".join(both))
            )

    def frame(self, camera: str) -> Frame | None:
        """Return the frame of a camera, or None."""
        for frame in self.frames:
            if frame.camera == camera:
                return frame
        return None
