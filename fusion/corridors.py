"""Corridors from rasters: centre lines of roads between intersections, with width and direction.

Each cell of a road looks to the left and to the right of the road's direction. The middle between the two sides is the
centre line; cells near it form a ridge, which is followed like any other line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .._ext import regions as kernel
from ..errors import InvalidArgument, expected
from .geometry import Corridor
from .grid import BevGrid
from .polylines import LineRules, cells_of, simplified, to_metres, trace_lines
from .ridges import RidgeField, smooth
from .skeleton import Points

_LEVEL: Final = 0.5
_NEAR_CELLS: Final = 2.0
"""Cells so near to the middle make the ridge that is followed."""

_COHERENT: Final = 0.2
"""Road edges within the window must agree on a direction at least so much, 0..1."""

_MEDIAN_REACH: Final = 3
_NOT_THERE: Final = np.float32(np.nan)


@dataclass(frozen=True, slots=True)
class CorridorRules:
    """What counts as a corridor.

    threshold : least probability of drivable space, and of an intersection, which is none
    min_length_m : shorter corridors are left out
    join_m : longest gap that is bridged
    width_m : narrower and wider ones are left out, metres
    window_m : where the direction of a road is not given, that of the road edges in a square of this size is taken
    tolerance_m : how far a centre line may be from the points that it is simplified from
    """

    threshold: float = 0.5
    min_length_m: float = 5.0
    join_m: float = 4.0
    width_m: tuple[float, float] = (2.5, 30.0)
    window_m: float = 16.0
    tolerance_m: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise InvalidArgument(expected("threshold", "more than 0 and at most 1", self.threshold))
        if not 0.0 < self.width_m[0] < self.width_m[1] < np.inf:
            raise InvalidArgument(expected("width_m", "positive and rising", self.width_m))
        for name in ("min_length_m", "join_m", "window_m", "tolerance_m"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise InvalidArgument(expected(name, "finite and not negative", getattr(self, name)))


def find_corridors(
    grid: BevGrid,
    drivable: NDArray[np.float32],
    observed: NDArray[np.bool_],
    intersection: NDArray[np.float32] | None = None,
    direction_rad: NDArray[np.float32] | None = None,
    rules: CorridorRules | None = None,
) -> tuple[Corridor, ...]:
    """Find the corridors.

    Parameters
    ----------
    drivable, intersection : float32 [nx, ny], probabilities 0..1; without intersections a road is not cut where it
        meets others
    observed : bool [nx, ny]
    direction_rad : float32 [nx, ny], direction of the road without sign, NaN where there is none; None: that of the
        edges of drivable space nearby

    Returns
    -------
    The longest first; each runs from its rear end (lowest x, then lowest y) to its front end.
    """
    rules = CorridorRules() if rules is None else rules
    grid.check("drivable", drivable, np.float32)
    grid.check("observed", observed, np.bool_)
    likely = np.ascontiguousarray(smooth(drivable, observed)[1:-1, 1:-1])
    direction = road_direction(grid, likely, rules.window_m) if direction_rad is None else direction_rad
    grid.check("direction_rad", direction, np.float32)
    if intersection is not None:
        grid.check("intersection", intersection, np.float32)
        direction = np.where(smooth(intersection, observed)[1:-1, 1:-1] < rules.threshold, direction, _NOT_THERE)
    offset, width = np.empty(grid.shape, np.float32), np.empty(grid.shape, np.float32)
    kernel.centre(
        likely,
        np.ascontiguousarray(observed).view(np.uint8),
        np.ascontiguousarray(direction),
        rules.threshold,
        rules.width_m[1] / grid.resolution_m,
        _NEAR_CELLS,
        offset,
        width,
    )
    with np.errstate(invalid="ignore"):
        fits = (width * grid.resolution_m >= rules.width_m[0]) & (width * grid.resolution_m <= rules.width_m[1])
    ridge = np.where(fits, 1 - np.abs(offset) / np.float32(_NEAR_CELLS), np.float32(0)).astype(np.float32)
    field = RidgeField.of(ridge, observed, _LEVEL)
    lines = trace_lines(grid, field, LineRules(_LEVEL, rules.min_length_m, rules.min_length_m, rules.join_m))
    return tuple(_corridor(grid, line, np.where(fits, width, _NOT_THERE), drivable, rules) for line in lines)


def _corridor(
    grid: BevGrid, line: Points, width: NDArray[np.float32], drivable: NDArray[np.float32], rules: CorridorRules
) -> Corridor:
    i, j = cells_of(grid, line)
    arc = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))))
    known = np.isfinite(width[i, j])
    widths = np.interp(arc, arc[known], width[i, j][known].astype(np.float64))
    widths = _median(widths)
    points, widths_m = to_metres(grid, line), widths * grid.resolution_m
    along = np.gradient(points, axis=0)
    direction = (np.arctan2(along[:, 1], along[:, 0]) + np.pi / 2) % np.pi - np.pi / 2
    sides = np.stack((arc * grid.resolution_m, widths_m / 2), axis=-1)
    keep = simplified(points, rules.tolerance_m) | simplified(sides, 2 * rules.tolerance_m)
    confidence = float(np.clip(drivable[i, j].mean(dtype=np.float64), 0.0, 1.0))
    return Corridor(points[keep], widths_m[keep], direction[keep], confidence)


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of each value and its neighbours along the line."""
    padded = np.pad(values, _MEDIAN_REACH, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * _MEDIAN_REACH + 1), axis=-1))


def road_direction(grid: BevGrid, drivable: NDArray[np.float32], window_m: float) -> NDArray[np.float32]:
    """Direction of the edges of drivable space around each cell (structure tensor), NaN where they do not agree.

    Parameters
    ----------
    drivable : float32 [nx, ny], smoothed
    window_m : size of the square around a cell whose edges count

    Returns
    -------
    float32 [nx, ny], -pi/2..pi/2
    """
    gx, gy = np.gradient(drivable) if min(drivable.shape) > 1 else (np.zeros_like(drivable),) * 2
    reach = max(round(window_m / 2 / grid.resolution_m), 1)
    xx, yy, xy = (_box_sum(np.asarray(product), reach) for product in (gx * gx, gy * gy, gx * gy))
    total, apart = xx + yy, np.hypot(xx - yy, 2 * xy)
    across = np.arctan2(2 * xy, xx - yy) / 2
    along = np.where(across > 0, across - np.pi / 2, across + np.pi / 2)
    return np.where((total > 1e-3) & (apart >= _COHERENT * total), along, np.nan).astype(np.float32)


def _box_sum(values: NDArray[Any], reach: int) -> NDArray[np.float64]:
    """Sum over the square of cells around each cell."""
    total = values.astype(np.float64)
    for axis in (0, 1):
        count = total.shape[axis]
        running = np.concatenate((np.zeros_like(total.take([0], axis)), total.cumsum(axis=axis)), axis=axis)
        at = np.arange(count)
        total = running.take(np.minimum(at + reach + 1, count), axis) - running.take(np.maximum(at - reach, 0), axis)
    return total
