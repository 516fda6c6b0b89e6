"""Compares predictions with the truth of a drive: intersection over union, pooled over all sets.

Counts are kept as histograms of the predicted probability, one for cells where the class is there and one for cells
where it is not, so that every threshold can be read from one pass and memory does not grow with the drive.

Masks: `all` cells of the grid; `visible` cells, which at least one camera sees unobstructed (the truth's own layer).
A cell that was never observed counts as probability 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DriveError, expected
from ..fusion.grid import BevGrid
from ..fusion.rig import Rig
from ..runtime.engine import Runtime
from ..runtime.predictions import Predictions
from .drive import Drive, GroundTruth

BINS: Final = 200
THRESHOLD: Final = 0.5
RANGES_M: Final = (10.0, 20.0, 30.0, 40.0)
"""Upper ends of the range bands; the last band is what lies beyond."""

OCCUPANCY: Final = "occupancy"


class ClassCounts:
    """Histograms of one class: float predictions in [0, 1] against truth, in `all` cells and per range band."""

    def __init__(self) -> None:
        self._all = np.zeros((2, BINS), dtype=np.int64)
        self._visible = np.zeros((len(RANGES_M) + 1, 2, BINS), dtype=np.int64)

    def add(
        self,
        probability: NDArray[np.float32],
        truth: NDArray[np.uint8],
        visible: NDArray[np.uint8],
        band: NDArray[np.int64],
    ) -> None:
        """Count one set; all arrays [nx, ny], `band` the index of each cell's range band."""
        level = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
        key = (truth != 0) * BINS + level
        self._all += np.bincount(key.ravel(), minlength=2 * BINS).reshape(2, BINS)
        seen = visible != 0
        banded = band[seen] * 2 * BINS + key[seen]
        self._visible += np.bincount(banded, minlength=self._visible.size).reshape(self._visible.shape)

    def report(self) -> dict[str, Any]:
        """The figures of the class."""
        visible = self._visible.sum(axis=0)
        curve = _iou_curve(visible)
        best = int(np.nanargmax(curve)) if np.isfinite(curve).any() else 0
        return {
            "iou": _iou_at(self._all, THRESHOLD),
            "iou_visible": _iou_at(visible, THRESHOLD),
            "iou_visible_20m": _iou_at(self._visible[:2].sum(axis=0), THRESHOLD),
            "iou_best_visible": _rounded(curve[best]),
            "threshold_best": best / BINS,
            "by_range_m": {
                label: _iou_at(counts, THRESHOLD) for label, counts in zip(_band_labels(), self._visible, strict=True)
            },
            "cells": int(visible[1].sum()),
        }


@dataclass(slots=True)
class Evaluation:
    """Figures of one or more drives; `frames` counts the sets that were compared."""

    frames: int
    road_layout: dict[str, ClassCounts]
    occupancy: ClassCounts | None

    def report(self) -> dict[str, Any]:
        """JSON: `frames`, `threshold`, `road_layout.<class>.*`, `occupancy.*`."""
        return {
            "frames": self.frames,
            "threshold": THRESHOLD,
            "road_layout": {name: counts.report() for name, counts in self.road_layout.items()},
            "occupancy": self.occupancy.report() if self.occupancy is not None else None,
        }


def evaluate(
    drives: Iterable[Drive],
    make_runtime: Callable[[Rig], Runtime],
    *,
    warm_up: int = 0,
    duration_s: float | None = None,
    reset_every_frame: bool = False,
    progress: Callable[[Drive, int], None] | None = None,
) -> Evaluation:
    """Run drives, each through a runtime of its own, and compare with their truth.

    Parameters
    ----------
    make_runtime : makes the runtime for the rig of a drive
    warm_up : sets at the start of each drive that are predicted but not compared
    duration_s : only this much of each drive
    reset_every_frame : forget the state before each set
    progress : called with the drive and the number of sets done, after each set

    Raises
    ------
    DriveError
        A drive has no ground truth, or on another grid than the bundle's.
    """
    result = Evaluation(0, {}, None)
    for drive in drives:
        compared = 0
        with make_runtime(drive.rig) as runtime:
            for index, step in enumerate(drive.steps(duration_s=duration_s)):
                if reset_every_frame:
                    runtime.reset("reset at every frame")
                predictions = runtime.step(step.frame_set)
                if step.truth is not None and index >= warm_up:
                    _compare(drive, predictions, step.truth, result)
                    compared += 1
                if progress is not None:
                    progress(drive, index + 1)
        if not compared:
            raise DriveError(f"{drive.name}: " + expected("a drive to evaluate", "one with ground truth", "none in it"))
        result.frames += compared
    return result


def _compare(drive: Drive, predictions: Predictions, truth: GroundTruth, result: Evaluation) -> None:
    visible = truth.layers.get("visible", np.ones(truth.grid.shape, dtype=np.uint8))
    band = range_bands(truth.grid)
    layout, occupancy = predictions.road_layout, predictions.occupancy
    for output in (layout, occupancy):
        if output is not None and output.grid != truth.grid:
            raise DriveError(f"{drive.name}: " + expected("grid of the truth", f"{output.grid}", truth.grid))
    if layout is not None:
        for name in layout.classes:
            if name in truth.layers:
                counts = result.road_layout.setdefault(name, ClassCounts())
                counts.add(layout[name], truth.layers[name], visible, band)
    if occupancy is not None and OCCUPANCY in truth.layers:
        result.occupancy = result.occupancy or ClassCounts()
        probability = np.where(occupancy.observed, occupancy.probability, np.float32(0))
        result.occupancy.add(probability, truth.layers[OCCUPANCY], visible, band)


def range_bands(grid: BevGrid) -> NDArray[np.int64]:
    """Index of the range band of each cell, by the distance of its centre from the ego origin, int64 [nx, ny]."""
    range_m = np.linalg.norm(grid.centres(), axis=-1)
    bands: NDArray[np.int64] = np.searchsorted(np.array(RANGES_M), range_m, side="right")
    return bands


def _band_labels() -> list[str]:
    lower = (0.0, *RANGES_M)
    return [f"{low:g}-{high:g}" for low, high in zip(lower, RANGES_M, strict=False)] + [f"{RANGES_M[-1]:g}-"]


def _iou_curve(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU at each threshold i / BINS, from histograms [absent or there, BINS]; NaN where the class never occurs."""
    predicted = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    union = predicted[0] + counts[1].sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, predicted[1] / union, np.nan)


def _iou_at(counts: NDArray[np.int64], threshold: float) -> float | None:
    return _rounded(_iou_curve(counts)[round(threshold * BINS)])


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def flat(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The classes of a report by name, occupancy among them."""
    classes = dict(report["road_layout"])
    if report["occupancy"] is not None:
        classes[OCCUPANCY] = report["occupancy"]
    return classes
