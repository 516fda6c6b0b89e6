"""The tightest set of capture times, one per camera, around an instant."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_CLEARLY_TIGHTER: Final = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Capture times that lie close together around an anchor.

    times : camera -> capture time, nanoseconds
    spread_ns : length of the interval that holds them and the anchor
    """

    times: Mapping[str, int]
    spread_ns: int

    def gives_up(self, camera: str, following: Window) -> bool:
        """Whether the frame of a camera is better left to the window that follows, which then is clearly tighter."""
        return (
            self.times[camera] == following.times.get(camera)
            and len(following.times) >= len(self.times)
            and following.spread_ns < _CLEARLY_TIGHTER * self.spread_ns
        )


def tightest_window(anchor_ns: int, candidates: Mapping[str, Sequence[int]], max_skew_ns: int) -> Window:
    """Find the shortest interval around an anchor that holds a capture time of as many cameras as possible.

    Parameters
    ----------
    anchor_ns : time that must be in it
    candidates : camera -> capture times, rising
    max_skew_ns : the interval is not longer than this

    Returns
    -------
    window : of each camera, the time in that interval that is nearest to the anchor
    """
    starts = {time for times in candidates.values() for time in times if anchor_ns - max_skew_ns <= time <= anchor_ns}
    intervals = []
    for start in sorted(starts | {anchor_ns}):
        nexts = (times[at] for times in candidates.values() if (at := bisect_left(times, start)) < len(times))
        inside = [time for time in nexts if time <= start + max_skew_ns]
        intervals.append((-len(inside), max([anchor_ns, *inside]) - start, start))
    _, spread, start = min(intervals)
    held = {
        camera: min(inside, key=lambda time: abs(time - anchor_ns))
        for camera, times in candidates.items()
        if (inside := [time for time in times if start <= time <= start + spread])
    }
    return Window(held, spread)
