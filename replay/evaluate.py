"""Compares predictions with the truth of drives, pooled over all their sets.

Masks: `all` cells of the grid; `visible` cells, which at least one camera sees unobstructed (the truth's own layer);
`remembered` cells, hidden now and visible in an earlier set. A cell that was never observed counts as probability 0.
docs/evaluation.md defines every figure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DriveError, expected
from ..fusion.direction import CorridorDirection
from ..fusion.geometry import Polyline
from ..fusion.grid import BevGrid
from ..fusion.polylines import trace_polylines
from ..fusion.rig import Rig
from ..runtime.engine import Runtime
from ..runtime.frames import FrameSet
from ..runtime.predictions import Predictions, RoadLayout
from .disturbance import Disturbance
from .drive import UNKNOWN, Drive, DriveStep, GroundTruth, Losses
from .matching import IntersectionCounts, PolylineCounts, visible_stretches
from .refine import Refinement
from .remembered import VisibleBefore
from .scores import THRESHOLD, CellMasks, ClassCounts, DirectionErrors, range_bands

OCCUPANCY: Final = "occupancy"
INTERSECTION: Final = "intersection"
POLYLINE_CLASSES: Final = ("lane_divider", "road_edge")
COMPARED_KINDS: Final = ("road_layout", "occupancy", "direction")
"""Kinds of outputs that are compared with the truth; no other one is needed, unless `watch` looks at it."""


@dataclass(frozen=True, slots=True, eq=False)
class ComparedSet:
    """One set that was compared.

    drive, index : where it is from; `index` counts the sets of the drive from 0
    rig : what the runtime believed in
    frame_set : what the runtime got
    iou_visible : class -> the set's own IoU in visible cells; classes that neither are nor are predicted are left out
    """

    drive: Drive
    index: int
    rig: Rig
    frame_set: FrameSet
    predictions: Predictions
    truth: GroundTruth
    iou_visible: Mapping[str, float]


@dataclass(slots=True)
class Counts:
    """What was counted over sets; `frames` is how many."""

    frames: int = 0
    road_layout: dict[str, ClassCounts] = field(default_factory=dict)
    occupancy: ClassCounts | None = None
    corridor_direction: DirectionErrors = field(default_factory=DirectionErrors)
    intersections: IntersectionCounts = field(default_factory=IntersectionCounts)
    polylines: dict[str, PolylineCounts] = field(
        default_factory=lambda: {name: PolylineCounts() for name in POLYLINE_CLASSES}
    )


@dataclass(slots=True)
class Evaluation:
    """Figures of one or more drives.

    counts : of whole sets: a set that an interrupt cut short is in none of the figures
    interrupted : the evaluation was stopped before its end
    losses : what of each drive could not be read, as far as it was read
    refinements : drive by name, and what was found about its calibration; empty when nobody looked
    levelled : drive by name -> camera -> pitch and roll by which the runtime corrected it in the end, degrees
    """

    counts: Counts = field(default_factory=Counts)
    interrupted: bool = False
    losses: tuple[Losses, ...] = ()
    refinements: list[tuple[str, Refinement]] = field(default_factory=list)
    levelled: dict[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Sets that were compared."""
        return self.counts.frames

    @property
    def corrupt(self) -> int:
        """Frames of the drives that could not be read."""
        return sum(losses.corrupt for losses in self.losses)

    @property
    def truncated(self) -> list[str]:
        """Where drives end too early."""
        return [losses.truncated for losses in self.losses if losses.truncated is not None]

    @property
    def classes(self) -> dict[str, ClassCounts]:
        """The counts of every class by name, occupancy among them."""
        counts = self.counts
        return counts.road_layout | ({OCCUPANCY: counts.occupancy} if counts.occupancy is not None else {})

    def report(self) -> dict[str, Any]:
        """The figures as JSON; the keys are part of the command's interface. None is what could not be measured."""
        counts = self.counts
        nowhere = {"precision": None, "recall": None}
        return {
            "frames": counts.frames,
            "threshold": THRESHOLD,
            "road_layout": {name: of_class.report() for name, of_class in counts.road_layout.items()},
            "occupancy": counts.occupancy.report() if counts.occupancy is not None else None,
            "calibration_error": {name: of_class.calibration_error() for name, of_class in self.classes.items()},
            "corridor_direction_deg": {
                "median": counts.corridor_direction.quantile(0.5),
                "p90": counts.corridor_direction.quantile(0.9),
            },
            "intersections": counts.intersections.report() if INTERSECTION in counts.road_layout else nowhere,
            "polylines": {name: of_class.report() for name, of_class in counts.polylines.items()},
            "interrupted": self.interrupted,
            "corrupt": self.corrupt,
            "truncated": self.truncated,
            "refinements": [{"drive": name, **found.report()} for name, found in self.refinements],
            "levelled": [{"drive": name, "cameras": dict(cameras)} for name, cameras in self.levelled.items()],
        }


def evaluate(
    drives: Iterable[Drive],
    make_runtime: Callable[[Rig], Runtime],
    *,
    warm_up: int = 0,
    duration_s: float | None = None,
    reset_every_frame: bool = False,
    disturbance: Disturbance = Disturbance(),  # noqa: B008  (frozen)
    refine: Callable[[Iterable[FrameSet], Rig], Refinement] | None = None,
    watch: Callable[[ComparedSet], None] | None = None,
    progress: Callable[[Drive, int], None] | None = None,
) -> Evaluation:
    """Run drives, each through a runtime of its own, and compare with their truth.

    A KeyboardInterrupt ends the evaluation; the sets that were compared so far are returned, each of them whole, and it
    says `interrupted`.

    Parameters
    ----------
    make_runtime : makes the runtime for the rig of a drive
    warm_up : sets at the start of each drive that are predicted but not compared
    duration_s : only this much of each drive
    reset_every_frame : forget the state before each set
    disturbance : what the runtime gets and believes instead of the drive as it is
    refine : called with the sets of each drive as the runtime will get them and the calibration as it would believe it;
        the runtime then believes what was found. It never gets the truth. None: the calibration stays
    watch : called with every set that was compared
    progress : called with the drive and the number of sets done, after each set

    Raises
    ------
    DriveError
        A drive has no ground truth, or on another grid than the bundle's.
    RigError
        A camera that is to be left out is not in a drive's rig.
    """
    result = Evaluation()
    comparison: _Comparison | None = None
    try:
        for drive in drives:
            rig = disturbance.rig(drive.rig)
            if refine is not None:
                unsettled = disturbance.frames()
                sets = (unsettled(step.frame_set) for step in drive.steps(duration_s=duration_s))
                found = refine(sets, rig)
                result.refinements.append((drive.name, found))
                rig = found.rig
            comparison = _Comparison(drive, rig, result, watch)
            under_way = _UnderWay(drive.steps(duration_s=duration_s), disturbance)
            with make_runtime(rig) as runtime:
                for index, predictions in enumerate(runtime.stream(under_way)):
                    step, frame_set = under_way.take()
                    comparison.add(index, step, frame_set, predictions, counts=index >= warm_up)
                    result.levelled[drive.name] = predictions.levelled
                    if progress is not None:
                        progress(drive, index + 1)
                    if reset_every_frame:  # for the next one; the first has nothing to forget
                        runtime.reset("reset at every frame")
            comparison.finish()
    except KeyboardInterrupt:
        result.interrupted = True
        if comparison is not None:
            comparison.take_losses()
    return result


class _UnderWay:
    """Sets of a drive as a runtime gets them, each kept until it was predicted: one more may be asked for by then."""

    def __init__(self, steps: Iterable[DriveStep], disturbance: Disturbance) -> None:
        self._steps = iter(steps)
        self._disturbed = disturbance.frames()
        self._given: deque[tuple[DriveStep, FrameSet]] = deque()

    def __iter__(self) -> Iterator[FrameSet]:
        for step in self._steps:
            frame_set = self._disturbed(step.frame_set)
            self._given.append((step, frame_set))
            yield frame_set

    def take(self) -> tuple[DriveStep, FrameSet]:
        """Give the step that was predicted, and what of it the runtime got, in their order."""
        return self._given.popleft()


class _Comparison:
    """Compares the sets of one drive, in order."""

    def __init__(self, drive: Drive, rig: Rig, result: Evaluation, watch: Callable[[ComparedSet], None] | None) -> None:
        self._drive, self._rig, self._result, self._watch = drive, rig, result, watch
        self._losses_before = result.losses
        self._before: VisibleBefore | None = None
        self._band: NDArray[np.int64] | None = None
        self._compared = 0

    def add(self, index: int, step: DriveStep, frame_set: FrameSet, predictions: Predictions, *, counts: bool) -> None:
        """Take a set; one that does not count is only remembered."""
        truth = step.truth
        if truth is None:
            return
        masks = self._masks(step.frame_set, truth)
        if not counts:
            return
        counted = deepcopy(self._result.counts)
        ious = self._count(counted, predictions, truth, masks)
        self._result.counts = counted  # all at once: Ctrl-C may come at any line
        self._compared += 1
        if self._watch is not None:
            self._watch(ComparedSet(self._drive, index, self._rig, frame_set, predictions, truth, ious))

    def finish(self) -> None:
        """End the drive; one in which there was nothing to compare is refused."""
        if not self._compared:
            must_be = "one with ground truth and more sets than the warm-up"
            raise DriveError(f"{self._drive.name}: " + expected("a drive to evaluate", must_be, "nothing to compare"))
        self.take_losses()

    def take_losses(self) -> None:
        """Take into the result what the drive has lost so far; a second time changes nothing."""
        self._result.losses = (*self._losses_before, self._drive.losses)

    def _masks(self, frame_set: FrameSet, truth: GroundTruth) -> CellMasks:
        if self._before is None or self._band is None:
            self._before, self._band = VisibleBefore(truth.grid), range_bands(truth.grid)
        layer = truth.layers.get("visible")
        visible = np.ones(truth.grid.shape, dtype=np.bool_) if layer is None else layer == 1
        return CellMasks(visible, self._before.follow(frame_set.world_from_ego, visible), self._band)

    def _count(self, into: Counts, predictions: Predictions, truth: GroundTruth, masks: CellMasks) -> dict[str, float]:
        """Count a set; returns its own IoU by class."""
        into.frames += 1
        ious = {}
        layout, occupancy = predictions.road_layout, predictions.occupancy
        if layout is not None:
            self._check_grid(layout.grid, truth)
            for name in layout.classes:
                if name in truth.layers:
                    counts = into.road_layout.setdefault(name, ClassCounts())
                    ious[name] = counts.add(layout[name], truth.layers[name], masks)
            for name in POLYLINE_CLASSES:
                if name in ious:
                    into.polylines[name].add(*_lines(layout, truth, name, masks.visible))
            if INTERSECTION in ious:
                patches = truth.layers[INTERSECTION]
                seen = masks.visible & (patches != UNKNOWN)
                into.intersections.add(layout[INTERSECTION], np.uint8(1) * (patches == 1), seen, truth.grid)
        if occupancy is not None and OCCUPANCY in truth.layers:
            self._check_grid(occupancy.grid, truth)
            into.occupancy = into.occupancy or ClassCounts()
            probability = np.where(occupancy.observed, occupancy.probability, np.float32(0))
            ious[OCCUPANCY] = into.occupancy.add(probability, truth.layers[OCCUPANCY], masks)
        if (direction := _corridor_direction(predictions)) is not None and "direction_rad" in truth.layers:
            into.corridor_direction.add(direction, truth.layers["direction_rad"], masks.visible)
        return {name: iou for name, iou in ious.items() if np.isfinite(iou)}

    def _check_grid(self, grid: BevGrid, truth: GroundTruth) -> None:
        if grid != truth.grid:
            raise DriveError(f"{self._drive.name}: " + expected("grid of the truth", f"{grid}", truth.grid))


def _lines(
    layout: RoadLayout, truth: GroundTruth, name: str, visible: NDArray[np.bool_]
) -> tuple[list[Polyline], list[NDArray[np.float64]]]:
    """Polylines of a class as predicted and as they are, of both the stretches in visible cells."""
    grid, everywhere = truth.grid, np.ones(truth.grid.shape, np.bool_)
    predicted = trace_polylines(grid, layout[name], layout.observed)
    cells = truth.layers[name]
    true = trace_polylines(grid, (cells == 1).astype(np.float32), everywhere)
    visible = visible & (cells != UNKNOWN)
    return (
        [Polyline(part, line.confidence) for line in predicted for part in _visible(line, visible, grid)],
        [part for line in true for part in _visible(line, visible, grid)],
    )


def _visible(line: Polyline, visible: NDArray[np.bool_], grid: BevGrid) -> list[NDArray[np.float64]]:
    return visible_stretches(line.points_xy, visible, grid)


def _corridor_direction(predictions: Predictions) -> NDArray[np.float32] | None:
    """Direction of the corridor from the first output that has one, float32 [nx, ny], NaN where not observed."""
    for output in predictions.bev.values():
        if isinstance(output, CorridorDirection):
            return np.where(output.observed, output.direction_rad, np.float32(np.nan))
    return None


def flat(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The classes of a report by name, occupancy among them."""
    classes = dict(report["road_layout"])
    if report["occupancy"] is not None:
        classes[OCCUPANCY] = report["occupancy"]
    return classes
