"""Images and the sets that a step works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, InvalidArgument, expected
from ..fusion.pose import Pose


class PixelFormat(StrEnum):
    """What the bytes of a frame are."""

    BGR8 = "bgr8"
    RGB8 = "rgb8"
    MONO8 = "mono8"
    JPEG = "jpeg"
    PNG = "png"

    @property
    def encoded(self) -> bool:
        """Whether a decoder must run before pixels are there."""
        return self in (PixelFormat.JPEG, PixelFormat.PNG)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of one camera.

    Parameters
    ----------
    camera : name of the camera in the rig
    timestamp_ns : capture time (mid-exposure), nanoseconds since the epoch
    data : uint8 [H, W, 3] (bgr8, rgb8) or [H, W] (mono8), any row stride, borrowed and not written to; or the encoded
        bytes (jpeg, png). The frame holds a reference, so a view keeps its owner alive.
    pixel_format : what `data` is
    world_from_ego : where the ego was when this image was taken, None when not known (the set's pose is used)
    """

    camera: str
    timestamp_ns: int
    data: NDArray[np.uint8] | bytes
    pixel_format: PixelFormat = PixelFormat.BGR8
    world_from_ego: Pose | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixel_format", PixelFormat(self.pixel_format))
        where = f"camera {self.camera} at {self.timestamp_ns} ns: "
        if self.pixel_format.encoded:
            if not isinstance(self.data, bytes) or not self.data:
                raise ImageError(where + expected("data", "the encoded bytes", type(self.data).__name__))
            return
        shape = getattr(self.data, "shape", None)
        channels = (3,) if self.pixel_format is not PixelFormat.MONO8 else ()
        if not isinstance(self.data, np.ndarray) or self.data.dtype != np.uint8:
            kind = getattr(self.data, "dtype", type(self.data).__name__)
            raise ImageError(where + expected("data", "a uint8 array", kind))
        if shape is None or len(shape) != 2 + len(channels) or shape[2:] != channels or 0 in shape:
            wanted = "(height, width, 3)" if channels else "(height, width)"
            raise ImageError(where + expected("image shape", wanted, shape))


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
