"""The latest ego poses, as they arrive."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from ...fusion.pose import Pose, interpolate

_BASELINE_NS: Final = 20_000_000
"""Poses nearer to each other than this give no velocity worth following: their noise would be drawn out."""


class PoseTrack:
    """Where the ego was lately. Poses may arrive late, twice and out of order. Not thread-safe.

    Parameters
    ----------
    capacity : so many poses are kept, the oldest go
    reach_ns : how far before the first and after the last pose one may still be had, at the velocity of the nearest two
    """

    def __init__(self, capacity: int = 512, reach_ns: int = 200_000_000) -> None:
        self._capacity = capacity
        self._reach_ns = reach_ns
        self._times_ns: list[int] = []
        self._poses: list[Pose] = []

    def __len__(self) -> int:
        return len(self._poses)

    def add(self, timestamp_ns: int, world_from_ego: Pose) -> None:
        """Take a pose; of two at the same time the later arrival stays."""
        index = bisect_left(self._times_ns, timestamp_ns)
        if index < len(self._times_ns) and self._times_ns[index] == timestamp_ns:
            self._poses[index] = world_from_ego
            return
        self._times_ns.insert(index, timestamp_ns)
        self._poses.insert(index, world_from_ego)
        if len(self._poses) > self._capacity:
            del self._times_ns[0], self._poses[0]

    def at(self, timestamp_ns: int) -> Pose | None:
        """`world_from_ego` at a time, between the poses around it; None where none is near: no pose is invented."""
        times = self._times_ns
        if not times or not times[0] - self._reach_ns <= timestamp_ns <= times[-1] + self._reach_ns:
            return None
        after = bisect_left(times, timestamp_ns)
        if after < len(times) and times[after] == timestamp_ns:
            return self._poses[after]
        if len(times) == 1:
            return self._poses[0]
        before, after = self._around(after)
        if min(abs(timestamp_ns - times[after]), abs(timestamp_ns - times[before])) > self._reach_ns:
            return None
        fraction = (timestamp_ns - times[before]) / (times[after] - times[before])
        return interpolate(self._poses[before], self._poses[after], fraction)

    def _around(self, after: int) -> tuple[int, int]:
        """The poses to go by, for a time before the pose of this index; at the ends, two that are far enough apart."""
        times = self._times_ns
        if after == len(times):
            return max(0, bisect_right(times, times[-1] - _BASELINE_NS) - 1), len(times) - 1
        if after == 0:
            return 0, min(len(times) - 1, bisect_left(times, times[0] + _BASELINE_NS))
        return after - 1, after
