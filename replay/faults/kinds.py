"""What can go wrong, as values: one type per fault. Times are nanoseconds after the first frame that is played."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ...errors import InvalidArgument, expected

ALL: Final = "*"
"""As a camera or a network: every one."""


@dataclass(frozen=True, slots=True)
class Window:
    """When a fault holds: the half-open interval [start, end); an end of None never comes."""

    start_ns: int = 0
    end_ns: int | None = None

    def __post_init__(self) -> None:
        if self.start_ns < 0:
            raise InvalidArgument(expected("start of a fault", "from 0 on", self.start_ns))
        if self.end_ns is not None and self.end_ns <= self.start_ns:
            raise InvalidArgument(expected("end of a fault", f"after its start ({self.start_ns} ns)", self.end_ns))

    def holds(self, at_ns: int) -> bool:
        """Whether a time is in it."""
        return self.start_ns <= at_ns and (self.end_ns is None or at_ns < self.end_ns)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong for a while."""

    window: Window


@dataclass(frozen=True, slots=True)
class CameraFault(Fault):
    """Something that goes wrong with the frames of a camera, or of :data:`ALL`."""

    camera: str

    def concerns(self, camera: str) -> bool:
        """Whether the camera is meant."""
        return self.camera in (ALL, camera)


@dataclass(frozen=True, slots=True)
class Lose(CameraFault):
    """Frames do not arrive. share: of them, 0..1; which ones is chance."""

    share: float = 1.0

    def __post_init__(self) -> None:
        _check_share(self.share)


@dataclass(frozen=True, slots=True)
class Freeze(CameraFault):
    """Every frame shows the image of the last one before the fault, with a timestamp of its own."""


@dataclass(frozen=True, slots=True)
class Noise(CameraFault):
    """Gaussian noise on the pixels. deviation: its standard deviation as a share of full scale, 0..1."""

    deviation: float

    def __post_init__(self) -> None:
        _check_share(self.deviation)


@dataclass(frozen=True, slots=True)
class Delay(CameraFault):
    """Frames arrive later, with the timestamps that they have."""

    delay_ns: int

    def __post_init__(self) -> None:
        _check_delay(self.delay_ns)


@dataclass(frozen=True, slots=True)
class Reorder(CameraFault):
    """Frames change places with the next one of their camera; which ones is chance. share: how often, 0..1."""

    share: float = 0.5

    def __post_init__(self) -> None:
        _check_share(self.share)


@dataclass(frozen=True, slots=True)
class Repeat(CameraFault):
    """Every frame arrives twice."""


@dataclass(frozen=True, slots=True)
class ClockJump(CameraFault):
    """The clock that stamps the frames is off by `jump_ns`; that of :data:`ALL` stamps the ego poses, too."""

    jump_ns: int

    def __post_init__(self) -> None:
        if self.jump_ns == 0:
            raise InvalidArgument(expected("clock jump", "forwards or backwards", "0"))


@dataclass(frozen=True, slots=True)
class Corrupt(CameraFault):
    """The encoded bytes are damaged: cut short, or some of them changed. share: of the frames, 0..1.

    A frame of bare pixels is encoded as JPEG first, and arrives as one.
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        _check_share(self.share)


@dataclass(frozen=True, slots=True)
class NetworkFault(Fault):
    """Something that goes wrong in a network of the bundle, or in :data:`ALL`; `network` is its id in the manifest."""

    network: str


@dataclass(frozen=True, slots=True)
class NotANumber(NetworkFault):
    """One element of each of its floating-point outputs and states is NaN."""


@dataclass(frozen=True, slots=True)
class Slow(NetworkFault):
    """Each of its runs takes longer."""

    delay_ns: int

    def __post_init__(self) -> None:
        _check_delay(self.delay_ns)


@dataclass(frozen=True, slots=True)
class StalledSubscriber(Fault):
    """Somebody subscribes to everything that is published and reads nothing."""


@dataclass(frozen=True, slots=True)
class FullDisk(Fault):
    """The disk that is recorded to has no room."""


def _check_share(share: float) -> None:
    if not (math.isfinite(share) and 0 < share <= 1):
        raise InvalidArgument(expected("share", "above 0 and at most 1", share))


def _check_delay(delay_ns: int) -> None:
    if delay_ns <= 0:
        raise InvalidArgument(expected("delay", "above 0", delay_ns))
