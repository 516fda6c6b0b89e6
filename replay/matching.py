"""Things matched one to one between prediction and truth: intersections by their centres, polylines by their distance.

Polylines follow the average precision that HDMapNet (Li et al. 2022), VectorMapNet (Liu et al. 2023) and MapTR (Liao et
al. 2023) report: Chamfer distance under a threshold, predictions taken in the order of their confidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..fusion.grid import BevGrid
from ..runtime.images import load_opencv
from .scores import THRESHOLD, rounded

cv2: Any = load_opencv()

WITHIN_M: Final = 3.0
"""Farthest distance between the centres of one intersection in prediction and truth."""

LEAST_AREA_M2: Final = 4.0
"""Smaller patches are no intersections, neither in the prediction nor in the truth."""

CHAMFER_THRESHOLDS_M: Final = (0.5, 1.0, 1.5)

BRIDGED_M: Final = 4.0
"""A polyline goes on over hidden stretches that are no longer than this."""

LEAST_LENGTH_M: Final = 3.0
"""Shorter visible stretches of a polyline are not looked at."""

_SPACING_M: Final = 0.5
_CONFIDENCE_BINS: Final = 200
_NEIGHBOURS: Final = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Connected patches of a raster.

    centres_xy : float64 [n, 2], metres in the ego frame
    mostly_visible : bool [n], at least half of the patch's cells are visible
    """

    centres_xy: NDArray[np.float64]
    mostly_visible: NDArray[np.bool_]


def find_patches(raster: NDArray[np.bool_], visible: NDArray[np.bool_], grid: BevGrid) -> Patches:
    """Find the 8-connected patches of at least :data:`LEAST_AREA_M2` in a raster [nx, ny]."""
    count, labels = cv2.connectedComponents(raster.astype(np.uint8), connectivity=8)
    flat = labels.ravel()
    cells = np.bincount(flat, minlength=count)
    seen = np.bincount(flat, weights=visible.ravel(), minlength=count)
    sums = [np.bincount(flat, weights=axis.ravel(), minlength=count) for axis in np.moveaxis(grid.centres(), -1, 0)]
    kept = cells * grid.resolution_m**2 >= LEAST_AREA_M2
    kept[0] = False
    centres = np.stack(sums, axis=-1)[kept] / cells[kept, np.newaxis]
    return Patches(centres, seen[kept] * 2 >= cells[kept])


def match_nearest(
    predicted_xy: NDArray[np.float64], truth_xy: NDArray[np.float64], within_m: float
) -> list[tuple[int, int]]:
    """Match points one to one, the nearest pair first, none farther apart than `within_m`; pairs of indices."""
    distances = np.linalg.norm(predicted_xy[:, np.newaxis] - truth_xy[np.newaxis], axis=-1)
    pairs: list[tuple[int, int]] = []
    for flat in np.argsort(distances, axis=None, kind="stable"):
        i, j = (int(index) for index in np.unravel_index(flat, distances.shape))
        if distances[i, j] > within_m:
            break
        if all(i != taken_i and j != taken_j for taken_i, taken_j in pairs):
            pairs.append((i, j))
    return pairs


class IntersectionCounts:
    """Intersections found, missed and invented.

    A true intersection most of which is hidden need not be found: it is neither missed nor, when it is found, counted.
    Nor is a predicted one that lies mostly in hidden cells an invention.
    """

    def __init__(self) -> None:
        self.found = self.missed = self.invented = 0

    def add(
        self, probability: NDArray[np.float32], truth: NDArray[np.uint8], visible: NDArray[np.bool_], grid: BevGrid
    ) -> None:
        """Count one set; arrays [nx, ny]."""
        predicted = find_patches(probability >= THRESHOLD, visible, grid)
        true = find_patches(truth != 0, visible, grid)
        pairs = match_nearest(predicted.centres_xy, true.centres_xy, WITHIN_M)
        free_predicted, free_true = predicted.mostly_visible.copy(), true.mostly_visible.copy()
        for i, j in pairs:
            self.found += bool(true.mostly_visible[j])
            free_predicted[i] = free_true[j] = False
        self.invented += int(free_predicted.sum())
        self.missed += int(free_true.sum())

    def report(self) -> dict[str, float | None]:
        """Precision and recall; None where nothing was predicted, or nothing is there."""
        predicted, true = self.found + self.invented, self.found + self.missed
        return {
            "precision": rounded(self.found / predicted) if predicted else None,
            "recall": rounded(self.found / true) if true else None,
        }


def visible_stretches(
    line_xy: NDArray[np.float64], visible: NDArray[np.bool_], grid: BevGrid
) -> list[NDArray[np.float64]]:
    """Stretches of a polyline [n, 2] that lie in visible cells or beside them, each float64 [m, 2], m of 2 or more.

    A stretch begins and ends where it is visible; hidden parts of up to :data:`BRIDGED_M` in it stay. What is left with
    less than :data:`LEAST_LENGTH_M` is left out.
    """
    points = _spaced(line_xy)
    step_m = float(np.linalg.norm(np.diff(line_xy, axis=0), axis=1).sum()) / (len(points) - 1)
    cells, inside = grid.cell_of(points)
    i, j = cells[inside].T
    seen = np.zeros(len(points), np.bool_)
    seen[inside] = cv2.dilate(visible.astype(np.uint8), _NEIGHBOURS)[i, j] != 0
    at = np.flatnonzero(seen)
    runs = np.split(at, np.flatnonzero(np.diff(at) * step_m > BRIDGED_M) + 1)
    long_enough = [run for run in runs if len(run) > 1 and (run[-1] - run[0]) * step_m >= LEAST_LENGTH_M]
    return [points[run[0] : run[-1] + 1] for run in long_enough]


class PredictedPolyline(Protocol):
    """What average precision asks of a predicted polyline."""

    @property
    def points_xy(self) -> NDArray[np.float64]:
        """Float64 [n, 2], metres in the ego frame."""

    @property
    def confidence(self) -> float:
        """How sure it is, 0..1."""


class PolylineCounts:
    """Average precision of the polylines of one class at several Chamfer distances."""

    def __init__(self) -> None:
        self._hits = np.zeros((len(CHAMFER_THRESHOLDS_M), 2, _CONFIDENCE_BINS), dtype=np.int64)
        self._true = 0

    def add(self, predicted: Iterable[PredictedPolyline], truth: Sequence[NDArray[np.float64]]) -> None:
        """Count one set: predictions in the order of their confidence, each against the nearest true polyline.

        It is right when that is near enough and not taken by a surer one.
        """
        self._true += len(truth)
        taken = np.zeros((len(CHAMFER_THRESHOLDS_M), len(truth)), dtype=np.bool_)
        for line in sorted(predicted, key=lambda line: -line.confidence):
            level = min(int(line.confidence * _CONFIDENCE_BINS), _CONFIDENCE_BINS - 1)
            distances = [_distance_if_near(line.points_xy, other) for other in truth]
            nearest = int(np.argmin(distances)) if distances else -1
            for row, threshold_m in enumerate(CHAMFER_THRESHOLDS_M):
                right = nearest >= 0 and distances[nearest] <= threshold_m and not taken[row, nearest]
                if right:
                    taken[row, nearest] = True
                self._hits[row, int(right), level] += 1

    def report(self) -> dict[str, Any]:
        """`chamfer_ap` by threshold in metres, and their `mean`; None where there is no true polyline."""
        values = [average_precision(hits, self._true) for hits in self._hits]
        known = [value for value in values if value is not None]
        by_threshold = {
            f"{threshold_m:.1f}": None if value is None else rounded(value)
            for threshold_m, value in zip(CHAMFER_THRESHOLDS_M, values, strict=True)
        }
        return {"chamfer_ap": {**by_threshold, "mean": rounded(float(np.mean(known))) if known else None}}


def average_precision(hits: NDArray[np.int64], true: int) -> float | None:
    """Area under the precision-recall curve, precision made monotonous (as PASCAL VOC does since 2010).

    Parameters
    ----------
    hits : int64 [wrong or right, confidence in rising order], predictions
    true : how many there are to be found
    """
    if not true:
        return None
    wrong, right = hits[:, ::-1].cumsum(axis=1)
    said = np.maximum(wrong + right, 1)
    precision = np.maximum.accumulate((right / said)[::-1])[::-1]
    return float((np.diff(right / true, prepend=0.0) * precision).sum())


def chamfer_distance_m(a_xy: NDArray[np.float64], b_xy: NDArray[np.float64]) -> float:
    """Mean distance between two polylines [n, 2]: that from points of a to b, and from points of b to a, averaged.

    Points stand every half metre along a line, its ends included; distances are to the nearest place on the other line.
    """
    return (_mean_distance(_spaced(a_xy), b_xy) + _mean_distance(_spaced(b_xy), a_xy)) / 2


def _distance_if_near(a_xy: NDArray[np.float64], b_xy: NDArray[np.float64]) -> float:
    """Chamfer distance, or infinity where the lines' boxes alone are farther apart than any threshold."""
    gap = np.maximum(a_xy.min(axis=0) - b_xy.max(axis=0), b_xy.min(axis=0) - a_xy.max(axis=0))
    return np.inf if gap.max() > CHAMFER_THRESHOLDS_M[-1] else chamfer_distance_m(a_xy, b_xy)


def _mean_distance(points_xy: NDArray[np.float64], line_xy: NDArray[np.float64]) -> float:
    start = line_xy[:-1] if len(line_xy) > 1 else line_xy
    along = np.diff(line_xy, axis=0) if len(line_xy) > 1 else np.zeros_like(line_xy)
    offset = points_xy[:, np.newaxis] - start
    length_2 = np.maximum((along**2).sum(axis=-1), 1e-12)
    fraction = np.clip((offset * along).sum(axis=-1) / length_2, 0.0, 1.0)
    distance = np.linalg.norm(offset - fraction[..., np.newaxis] * along, axis=-1)
    return float(distance.min(axis=1).mean())


def _spaced(line_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    reached = np.concatenate(([0.0], np.linalg.norm(np.diff(line_xy, axis=0), axis=1).cumsum()))
    stations = np.linspace(0.0, reached[-1], max(round(reached[-1] / _SPACING_M) + 1, 2))
    return np.stack([np.interp(stations, reached, axis) for axis in line_xy.T], axis=-1)
