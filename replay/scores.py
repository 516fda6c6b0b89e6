"""Counts of one class over many sets, and the figures that follow from them.

Counts are kept as histograms of the predicted probability, one for cells where the class is there and one for cells
where it is not, so that every threshold can be read from one pass and memory does not grow with the drives. All
figures are pooled: counts are summed over the sets first and divided once. docs/evaluation.md defines every key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected
from ..fusion.grid import BevGrid
from ..runtime.images import load_opencv
from .drive import UNKNOWN

cv2: Any = load_opencv()

BINS: Final = 200
THRESHOLD: Final = 0.5
RANGES_M: Final = (10.0, 20.0, 30.0, 40.0)
"""Upper ends of the range bands; the last band is what lies beyond."""

CALIBRATION_BINS: Final = 20
"""Bins of equal width over which the calibration error is taken."""

_LEVEL: Final = round(THRESHOLD * BINS)
_NEIGHBOURS: Final = np.ones((3, 3), dtype=np.uint8)
_DIRECTION_STEP_DEG: Final = 0.1
_DIRECTION_BINS: Final = 900


@dataclass(frozen=True, slots=True, eq=False)
class CellMasks:
    """Which cells of a set count where.

    visible : bool [nx, ny], cells that at least one camera sees unobstructed
    remembered : bool [nx, ny], cells that are hidden now and were visible in an earlier set of the drive
    band : int64 [nx, ny], index of the range band, see :func:`range_bands`
    """

    visible: NDArray[np.bool_]
    remembered: NDArray[np.bool_]
    band: NDArray[np.int64]


class ClassCounts:
    """Histograms of one class: float predictions in [0, 1] against truth."""

    def __init__(self) -> None:
        self._all = np.zeros((2, BINS), dtype=np.int64)
        self._visible = np.zeros((len(RANGES_M) + 1, 2, BINS), dtype=np.int64)
        self._remembered = np.zeros((2, BINS), dtype=np.int64)
        self._probability = np.zeros(BINS, dtype=np.float64)
        self._tolerant = ToleranceCounts()

    def add(self, probability: NDArray[np.float32], truth: NDArray[np.uint8], masks: CellMasks) -> float:
        """Count one set; arrays [nx, ny]. Cells whose truth is unknown do not count.

        Returns the set's own IoU in visible cells, NaN where the class is not.
        """
        level = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
        known = truth != UNKNOWN
        there = known & (truth != 0)
        key = there * BINS + level
        self._all += _histogram(key[known], 2).reshape(2, BINS)
        self._remembered += _histogram(key[masks.remembered & known], 2).reshape(2, BINS)
        seen = masks.visible & known
        banded = _histogram(masks.band[seen] * 2 * BINS + key[seen], 2 * len(self._visible))
        added = banded.reshape(self._visible.shape)
        self._visible += added
        self._probability += np.bincount(level[seen], weights=probability[seen], minlength=BINS)
        self._tolerant.add(level >= _LEVEL, there, seen)
        return float(_iou_curve(added.sum(axis=0))[_LEVEL])

    @property
    def visible(self) -> NDArray[np.int64]:
        """Histogram of the visible cells, int64 [class absent or there, BINS]."""
        pooled: NDArray[np.int64] = self._visible.sum(axis=0)
        return pooled

    def report(self) -> dict[str, Any]:
        """The figures of the class."""
        visible = self.visible
        curve = _iou_curve(visible)
        best = int(np.nanargmax(curve)) if np.isfinite(curve).any() else 0
        return {
            "iou": _iou_at(self._all),
            "iou_visible": _iou_at(visible),
            "iou_visible_20m": _iou_at(self._visible[:2].sum(axis=0)),
            "iou_remembered": _iou_at(self._remembered),
            "iou_best_visible": rounded(curve[best]),
            "threshold_best": best / BINS,
            "f1_tolerant": self._tolerant.f1(),
            "by_range_m": {label: _iou_at(counts) for label, counts in zip(band_labels(), self._visible, strict=True)},
            "cells": int(visible[1].sum()),
            "cells_remembered": int(self._remembered[1].sum()),
        }

    def reliability(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """How often the class is there when it is said to be, in visible cells.

        Returns
        -------
        confidence : float64 [CALIBRATION_BINS], mean predicted probability in each bin, NaN in an empty one
        frequency : float64 [CALIBRATION_BINS], share of its cells where the class is there, NaN in an empty one
        cells : int64 [CALIBRATION_BINS]
        """
        visible = self.visible.reshape(2, CALIBRATION_BINS, -1).sum(axis=2)
        cells = visible.sum(axis=0)
        with np.errstate(invalid="ignore"):
            confidence = self._probability.reshape(CALIBRATION_BINS, -1).sum(axis=1) / cells
            return confidence, visible[1] / cells, cells

    def calibration_error(self) -> float | None:
        """Expected calibration error in visible cells (Naeini et al. 2015; Guo et al. 2017), of the class against not.

        The mean over cells of |confidence - frequency| of their bin, see :meth:`reliability`; None without a cell.
        """
        confidence, frequency, cells = self.reliability()
        if not cells.any():
            return None
        gap = np.nan_to_num(np.abs(confidence - frequency))
        return rounded(float((gap * cells).sum() / cells.sum()))

    def precision_recall(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision and recall in visible cells at each threshold i / BINS, NaN where undefined."""
        predicted = self.visible[:, ::-1].cumsum(axis=1)[:, ::-1]
        with np.errstate(invalid="ignore"):
            return predicted[1] / predicted.sum(axis=0), predicted[1] / predicted[1, 0]


class ToleranceCounts:
    """Counts for F1 with one cell of tolerance, for classes that are one or two cells wide.

    A predicted cell is right when the class is in it or in one of its eight neighbours; a cell of the class is found
    when it or one of its eight neighbours is predicted. Only visible cells are asked; a neighbour may be hidden.
    """

    def __init__(self) -> None:
        self._predicted = self._right = self._there = self._found = 0

    def add(self, predicted: NDArray[np.bool_], there: NDArray[np.bool_], visible: NDArray[np.bool_]) -> None:
        """Count one set; bool [nx, ny]."""
        asked, true = predicted & visible, there & visible
        self._predicted += int(np.count_nonzero(asked))
        self._right += int(np.count_nonzero(asked & _dilated(there)))
        self._there += int(np.count_nonzero(true))
        self._found += int(np.count_nonzero(true & _dilated(predicted)))

    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None where the class neither is nor is predicted."""
        if not self._predicted and not self._there:
            return None
        precision = self._right / self._predicted if self._predicted else 0.0
        recall = self._found / self._there if self._there else 0.0
        return rounded(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


class DirectionErrors:
    """Errors of directions without sign, as a histogram in steps of 0.1 degrees."""

    def __init__(self) -> None:
        self._counts = np.zeros(_DIRECTION_BINS, dtype=np.int64)

    def add(
        self, direction_rad: NDArray[np.float32], truth_rad: NDArray[np.float32], visible: NDArray[np.bool_]
    ) -> None:
        """Count one set, in visible cells that have a direction.

        Parameters
        ----------
        direction_rad : float32 [nx, ny], NaN where nothing is said: counts as an error of 90 degrees
        truth_rad : float32 [nx, ny], NaN where there is no direction
        """
        if direction_rad.shape != truth_rad.shape:
            raise InvalidArgument(expected("shape of the directions", str(truth_rad.shape), direction_rad.shape))
        where = visible & np.isfinite(truth_rad)
        error_deg = direction_error_deg(direction_rad[where], truth_rad[where])
        level = np.minimum((error_deg / _DIRECTION_STEP_DEG).astype(np.int64), _DIRECTION_BINS - 1)
        self._counts += np.bincount(level, minlength=_DIRECTION_BINS)

    def quantile(self, share: float) -> float | None:
        """Error that this share of the cells does not exceed, to 0.05 degrees; None without a cell."""
        total = int(self._counts.sum())
        if not total:
            return None
        index = int(np.searchsorted(self._counts.cumsum(), share * total))
        return rounded((index + 0.5) * _DIRECTION_STEP_DEG)


def direction_error_deg(direction_rad: NDArray[np.float32], truth_rad: NDArray[np.float32]) -> NDArray[np.float64]:
    """Angle between two directions without sign, 0 to 90 degrees; 90 where nothing is said (NaN). float32 [n] each."""
    turn = direction_rad.astype(np.float64) - truth_rad
    error = np.degrees(np.abs((turn + np.pi / 2) % np.pi - np.pi / 2))
    return np.where(np.isfinite(turn), error, 90.0)


def range_bands(grid: BevGrid) -> NDArray[np.int64]:
    """Index of the range band of each cell, by the distance of its centre from the ego origin, int64 [nx, ny]."""
    range_m = np.linalg.norm(grid.centres(), axis=-1)
    bands: NDArray[np.int64] = np.searchsorted(np.array(RANGES_M), range_m, side="right")
    return bands


def band_labels() -> list[str]:
    """Names of the range bands."""
    lower = (0.0, *RANGES_M)
    return [f"{low:g}-{high:g}" for low, high in zip(lower, RANGES_M, strict=False)] + [f"{RANGES_M[-1]:g}-"]


def rounded(value: float) -> float | None:
    """To four decimals; None for what is not finite."""
    return round(float(value), 4) if np.isfinite(value) else None


def _histogram(key: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    return np.bincount(key.ravel(), minlength=rows * BINS)


def _dilated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), _NEIGHBOURS), dtype=np.bool_)


def _iou_curve(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU at each threshold i / BINS, from histograms [absent or there, BINS]; NaN where the class never occurs."""
    predicted = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    union = predicted[0] + counts[1].sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, predicted[1] / union, np.nan)


def _iou_at(counts: NDArray[np.int64]) -> float | None:
    return rounded(_iou_curve(counts)[_LEVEL])
