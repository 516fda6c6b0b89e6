"""How far the road layouts of one piece of ground agree that are predicted from places some metres apart.

A camera that looks farther down than its calibration says puts everything too far away, the more so the farther it is.
From ten metres nearer the same curb then lies elsewhere, and what the two predictions say of the ground differs. Where
they agree best the calibration is right, and for that nobody needs to know what is really there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..fusion.layout import RoadLayout
from ..fusion.pose import Pose
from ..fusion.rig import Rig
from ..fusion.state import carry_raster
from ..runtime.engine import Runtime
from ..runtime.frames import FrameSet
from ..runtime.graph import Percepts

SPACING_M: Final = 3.0
"""The ego moves at least this far from place to place."""

PLACES: Final = 5
"""Places of a stretch."""

STRETCHES: Final = 6
"""Most stretches that are kept, spread over the drive."""

PAIR_M: Final = (6.0, 20.0)
"""How far apart two places are whose predictions are compared."""

_BROKEN_M: Final = 10.0
_WHOLE: Final = np.float32(0.99)


def choose_stretches(frame_sets: Iterable[FrameSet]) -> list[list[FrameSet]]:
    """Choose places to compare: stretches of :data:`PLACES` sets, :data:`SPACING_M` or a little more apart.

    At most :data:`STRETCHES` are given, spread evenly over what there is; never more than twice as many are in memory.
    Sets without an ego pose are left out; where the pose jumps, a stretch ends.
    """
    kept: list[list[FrameSet]] = []
    every = 1
    for index, stretch in enumerate(_stretches(frame_sets)):
        if index % every == 0:
            kept.append(stretch)
        if len(kept) == 2 * STRETCHES:
            kept, every = kept[::2], 2 * every
    chosen = np.linspace(0, len(kept) - 1, min(len(kept), STRETCHES)).round().astype(int)
    return [kept[index] for index in chosen]


def layout_overlap(before: RoadLayout, after: RoadLayout, before_from_after: Pose) -> NDArray[np.float64]:
    """What two road layouts say together of the cells that a camera sees from both places.

    Returns
    -------
    float64 [2]: sums over cells and classes of the smaller and of the larger probability. The first divided by the
    second is the Ruzicka similarity, 1 where both say the same: the intersection over union of what is probable.
    """
    seen = (before.seen_by != 0).astype(np.float32)
    raster = np.concatenate([before.probability, seen[np.newaxis]])
    carried = np.zeros_like(raster)
    carry_raster(raster, before.grid, before_from_after, carried)
    both = (carried[-1] > _WHOLE) & (after.seen_by != 0)
    a, b = carried[:-1, both], after.probability[:, both]
    return np.array([np.minimum(a, b).sum(dtype=np.float64), np.maximum(a, b).sum(dtype=np.float64)])


def similarity(overlaps: NDArray[np.float64]) -> float:
    """Ruzicka similarity over all overlaps [..., 2] together, 0..1; 0 where nothing is probable."""
    smaller, larger = overlaps.reshape(-1, 2).sum(axis=0)
    return float(smaller / larger) if larger > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A set, and what the per-camera networks gave for it."""

    frame_set: FrameSet
    percepts: Percepts


class Agreement:
    """Measures how far a runtime's road layouts agree under one calibration or another.

    Every set is predicted by itself, with nothing remembered: what is carried over would agree with itself. The
    per-camera networks run once.

    Parameters
    ----------
    runtime : gives the road layout; recalibrated by :meth:`measure`
    output : name of the road layout
    stretches : see :func:`choose_stretches`
    """

    def __init__(self, runtime: Runtime, output: str, stretches: Sequence[Sequence[FrameSet]]) -> None:
        self._runtime = runtime
        self._output = output
        self._stretches = [[_Place(frames, runtime.perceive(frames)) for frames in stretch] for stretch in stretches]
        self._pairs = [list(_pairs(stretch)) for stretch in stretches]

    @property
    def sets(self) -> int:
        """Number of sets."""
        return sum(map(len, self._stretches))

    @property
    def pairs(self) -> int:
        """Number of pairs of sets that are compared."""
        return sum(map(len, self._pairs))

    def measure(self, rig: Rig) -> NDArray[np.float64]:
        """Predict under a calibration; returns the overlaps of each stretch, float64 [stretches, 2], pairs summed."""
        self._runtime.recalibrate(rig, check=False)
        overlaps = np.zeros((len(self._stretches), 2))
        for overlap, stretch, pairs in zip(overlaps, self._stretches, self._pairs, strict=True):
            layouts = [self._layout(place) for place in stretch]
            for first, second, motion in pairs:
                before, after = layouts[first], layouts[second]
                if before is not None and after is not None:
                    overlap += layout_overlap(before, after, motion)
        return overlaps

    def _layout(self, place: _Place) -> RoadLayout | None:
        self._runtime.reset("each set by itself")
        layout = self._runtime.step(place.frame_set, place.percepts).bev.get(self._output)
        return layout if isinstance(layout, RoadLayout) else None


def _stretches(frame_sets: Iterable[FrameSet]) -> Iterable[list[FrameSet]]:
    stretch: list[FrameSet] = []
    for frame_set in frame_sets:
        if frame_set.world_from_ego is None or not frame_set.frames:
            continue
        if stretch:
            moved_m = _distance_m(stretch[-1], frame_set)
            if moved_m < SPACING_M:
                continue
            if moved_m > _BROKEN_M:
                stretch = []
        stretch.append(frame_set)
        if len(stretch) == PLACES:
            yield stretch
            stretch = []


def _pairs(stretch: Sequence[FrameSet]) -> Iterable[tuple[int, int, Pose]]:
    """Places that are compared, with `ego_first_from_ego_second`."""
    for first, before in enumerate(stretch):
        for second in range(first + 1, len(stretch)):
            after = stretch[second]
            if before.world_from_ego is None or after.world_from_ego is None:
                continue
            if PAIR_M[0] <= _distance_m(before, after) <= PAIR_M[1]:
                yield first, second, before.world_from_ego.inverse() @ after.world_from_ego


def _distance_m(before: FrameSet, after: FrameSet) -> float:
    if before.world_from_ego is None or after.world_from_ego is None:
        return 0.0
    return float(np.linalg.norm((after.world_from_ego.translation_m - before.world_from_ego.translation_m)[:2]))
