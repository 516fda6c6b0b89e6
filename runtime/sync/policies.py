"""When frames of several cameras are one instant: the policies of the synchroniser. Value types: errors only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import InvalidArgument, expected


@dataclass(frozen=True, slots=True)
class ExactTime:
    """Frames with the very same timestamp are a set: cameras fired by one trigger, stamped by one clock.

    Parameters
    ----------
    max_wait_ns : how long a frame waits for the others of its set, arrival time, nanoseconds
    """

    max_wait_ns: int

    def __post_init__(self) -> None:
        _check_ns("max_wait_ns", self.max_wait_ns, least=1)


@dataclass(frozen=True, slots=True)
class ApproximateTime:
    """Around each frame of a reference camera, the tightest set of one frame per camera.

    Parameters
    ----------
    max_skew_ns : bound on the time between the first and the last frame of a set, capture time, nanoseconds
    max_wait_ns : how long a frame waits for the others of its set, arrival time, nanoseconds
    reference : camera that sets the pace, one of the slowest; None: the first. While it is missing, the camera whose
        rate is nearest to its own stands in.
    """

    max_skew_ns: int
    max_wait_ns: int
    reference: str | None = None

    def __post_init__(self) -> None:
        _check_ns("max_skew_ns", self.max_skew_ns, least=0)
        _check_ns("max_wait_ns", self.max_wait_ns, least=1)


@dataclass(frozen=True, slots=True)
class Latest:
    """Each frame of a reference camera leaves at once, with the newest frames that the other cameras have by then.

    Parameters
    ----------
    max_skew_ns : bound on the time between the first and the last frame of a set, capture time, nanoseconds
    reference : as in :class:`ApproximateTime`
    """

    max_skew_ns: int
    reference: str | None = None

    def __post_init__(self) -> None:
        _check_ns("max_skew_ns", self.max_skew_ns, least=0)


Policy = ExactTime | ApproximateTime | Latest


def _check_ns(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(expected(name, f"an integer of nanoseconds from {least} on", value))
