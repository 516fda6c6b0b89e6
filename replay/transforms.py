"""Named frames: how they hang together, and where the ego was while a drive streams by."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Final

import numpy as np

from ..fusion.pose import Pose, Trajectory

EGO_FRAMES: Final = ("base_link", "ego", "ego_vehicle", "vehicle", "base_footprint")
"""Names that mark the ego frame where several frames could be it."""

MAX_GAP_NS: Final = 2_000_000_000
"""Longest time between two poses over which one is interpolated, nanoseconds."""

_MAX_POSES: Final = 20_000


class FrameTree:
    """The latest transform between each frame and its parent."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._transforms: dict[str, Pose] = {}

    def add(self, parent: str, child: str, parent_from_child: Pose) -> None:
        """Take in a transform; a child keeps the first parent that it was given."""
        if parent != child and self._parents.setdefault(child, parent) == parent:
            self._transforms[child] = parent_from_child

    def parent(self, frame: str) -> str | None:
        """Return the frame's parent, None when there is none."""
        return self._parents.get(frame)

    def ancestors(self, frame: str) -> list[str]:
        """Parent, parent's parent and so on."""
        chain: list[str] = []
        while (parent := self._parents.get(frame)) is not None and parent not in chain:
            chain.append(parent)
            frame = parent
        return chain

    def common_ancestor(self, frames: Iterable[str]) -> str | None:
        """Find the nearest frame above all the given ones, or the one above them that by its name is the ego frame."""
        chains = [self.ancestors(frame) for frame in frames]
        if not chains:
            return None
        common = [frame for frame in chains[0] if all(frame in chain for chain in chains[1:])]
        named = [frame for frame in common if frame in EGO_FRAMES]
        return next(iter(named or common), None)

    def lookup(self, target: str, source: str) -> Pose | None:
        """`target_from_source`, where target is an ancestor of source."""
        if target not in self.ancestors(source):
            return None
        pose = Pose.identity()
        while source != target:
            pose = self._transforms[source] @ pose
            source = self._parents[source]
        return pose


class PoseBuffer:
    """The last poses `world_from_ego` of a stream, interpolated as :class:`Trajectory` does, but not over long gaps.

    Give it every pose as it comes, ask it in nearly rising order, and :meth:`forget` what lies behind.
    """

    def __init__(self) -> None:
        self._times: list[int] = []
        self._poses: dict[int, Pose] = {}

    @property
    def newest_ns(self) -> int | None:
        """Time of the latest pose, None when there is none."""
        return self._times[-1] if self._times else None

    def add(self, timestamp_ns: int, world_from_ego: Pose) -> None:
        """Take in a pose; a second one of the same time replaces the first."""
        if timestamp_ns not in self._poses:
            insort(self._times, timestamp_ns)
        self._poses[timestamp_ns] = world_from_ego
        if len(self._times) > _MAX_POSES:
            del self._poses[self._times.pop(0)]

    def at(self, timestamp_ns: int) -> Pose | None:
        """`world_from_ego` at a time, None where no pose is near enough."""
        if not self._times:
            return None
        if (pose := self._poses.get(timestamp_ns)) is not None:
            return pose
        after = bisect_left(self._times, timestamp_ns)
        start = max(0, min(after - 1, len(self._times) - 2))
        times = self._times[start : start + 2]
        if times[-1] - times[0] > MAX_GAP_NS:
            times = [min(times, key=lambda time: abs(time - timestamp_ns))]
        return Trajectory(times, [self._poses[time] for time in times]).at(timestamp_ns)

    def forget(self, before_ns: int) -> None:
        """Drop poses older than a time, but keep the two latest of them: they may be needed to interpolate."""
        old = bisect_left(self._times, before_ns) - 2
        for time in self._times[: max(old, 0)]:
            del self._poses[time]
        del self._times[: max(old, 0)]


def differs(one: Pose, other: Pose, *, metres: float = 5e-3, radians: float = 2e-3) -> bool:
    """Whether two mountings differ by more than the noise of writing them down."""
    turn = np.abs(one.rotation - other.rotation).max()
    return bool(np.abs(one.translation_m - other.translation_m).max() > metres or turn > radians)
