"""Intersections from rasters: outlines as polygons, and the directions in which roads leave them.

An intersection is a region of its class. Its outline is the level line of the smoothed probability. Where there is
drivable space beyond the outline a road leaves it: an arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .._ext import regions as kernel
from ..errors import InvalidArgument, expected
from .geometry import Arm, Intersection
from .grid import BevGrid
from .polylines import simplified, to_metres
from .ridges import smooth
from .skeleton import Points

_BEYOND_CELLS: Final = 2.0
"""So far beyond the outline there is drivable space where a road leaves, and none at a curb."""

_SPAN: Final = 3
"""The outline's direction at a point is that from so many points before to so many after."""

_BROKEN: Final = 3
"""Openings with so few points or less between them are one."""

_SAME_ROAD: Final = float(np.cos(np.radians(60.0)))
"""The direction raster tells the direction of an arm unless it is off the opening's normal by more than this."""


@dataclass(frozen=True, slots=True)
class IntersectionRules:
    """What counts as an intersection.

    threshold : class probability on the outline, 0..1; also that of drivable space where a road leaves
    min_area_m2 : smaller areas are left out
    min_arm_m : narrower openings are no arms
    tolerance_m : how far the outline may be from the points that it is simplified from
    """

    threshold: float = 0.5
    min_area_m2: float = 20.0
    min_arm_m: float = 2.5
    tolerance_m: float = 0.25

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise InvalidArgument(expected("threshold", "more than 0 and at most 1", self.threshold))
        for name in ("min_area_m2", "min_arm_m", "tolerance_m"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise InvalidArgument(expected(name, "finite and not negative", getattr(self, name)))


def find_intersections(
    grid: BevGrid,
    intersection: NDArray[np.float32],
    drivable: NDArray[np.float32],
    observed: NDArray[np.bool_],
    direction_rad: NDArray[np.float32] | None = None,
    rules: IntersectionRules | None = None,
) -> tuple[Intersection, ...]:
    """Find intersections and their arms.

    Parameters
    ----------
    intersection, drivable : float32 [nx, ny], probabilities 0..1
    observed : bool [nx, ny]
    direction_rad : float32 [nx, ny], direction of the road without sign, NaN where there is none; None: not known,
        an arm then leads straight out of its opening

    Returns
    -------
    The largest first.
    """
    rules = IntersectionRules() if rules is None else rules
    for name, raster in (("intersection", intersection), ("drivable", drivable)):
        grid.check(name, raster, np.float32)
    grid.check("observed", observed, np.bool_)
    likely = np.ascontiguousarray(smooth(intersection, observed)[1:-1, 1:-1])
    road = smooth(drivable, observed)[1:-1, 1:-1] >= rules.threshold
    labels = np.empty(grid.shape, np.int32)
    count = kernel.label(
        ((likely >= rules.threshold) & observed).astype(np.uint8), labels, np.empty((grid.cells, 2), np.int32)
    )
    areas = np.bincount(labels.ravel(), minlength=count + 1) * grid.resolution_m**2
    found = []
    for region in np.flatnonzero(areas[1:] >= rules.min_area_m2) + 1:
        border, beyond = _outline(likely, labels, int(region), rules.threshold)
        arms, open_border = _arms(grid, border, beyond, road, observed, direction_rad, rules.min_arm_m)
        points = to_metres(grid, border)
        keep = simplified(np.concatenate((points, points[:1])), rules.tolerance_m)[:-1]
        if np.count_nonzero(keep) >= 3:
            confidence = float(intersection[labels == region].mean(dtype=np.float64))
            found.append(Intersection(points[keep], arms, not open_border, min(max(confidence, 0.0), 1.0)))
    return tuple(sorted(found, key=lambda place: (-round(place.area_m2, 6), *place.centre_xy)))


def _outline(
    values: NDArray[np.float32], labels: NDArray[np.int32], region: int, level: float
) -> tuple[Points, NDArray[np.int32]]:
    """Outline of a region in cells, counter-clockwise, and for each point the cell beyond it."""
    room = 4 * int(np.count_nonzero(labels == region))
    points, beyond = np.empty((room, 2)), np.empty((room, 2), np.int32)
    count = kernel.outline(values, labels, region, level, points, beyond)
    return points[:count], beyond[:count]


def _arms(
    grid: BevGrid,
    border: Points,
    beyond: NDArray[np.int32],
    road: NDArray[np.bool_],
    observed: NDArray[np.bool_],
    direction_rad: NDArray[np.float32] | None,
    min_arm_m: float,
) -> tuple[tuple[Arm, ...], bool]:
    """Arms along an outline, and whether any of it lies on the border of what is observed."""
    off_grid = ((beyond < 0) | (beyond >= grid.shape)).any(axis=1)
    known: NDArray[np.bool_] = np.asarray(~off_grid)
    known[known] = observed[beyond[known, 0], beyond[known, 1]]
    along = np.roll(border, -_SPAN, axis=0) - np.roll(border, _SPAN, axis=0)
    outward = np.stack((along[:, 1], -along[:, 0]), axis=-1)
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    cells = np.rint(border + _BEYOND_CELLS * outward).astype(np.int64)
    leads_on: NDArray[np.bool_] = np.asarray(known & ((cells >= 0) & (cells < grid.shape)).all(axis=1))
    leads_on[leads_on] = road[cells[leads_on, 0], cells[leads_on, 1]]
    arms = []
    for run in _runs(leads_on):
        first, last = border[run[0]], border[run[-1]]
        chord = last - first
        width = float(np.linalg.norm(chord))
        if width * grid.resolution_m < min_arm_m:
            continue
        away = np.array([chord[1], -chord[0]]) / width
        if direction_rad is not None:
            i, j = cells[run[leads_on[run]]].T  # what lies in a bridged break may be off the grid
            away = _along_road(away, direction_rad[i, j])
        x, y = to_metres(grid, (first + last) / 2)
        arms.append(Arm(float(x), float(y), float(np.arctan2(away[1], away[0])), width * grid.resolution_m))
    return tuple(arms), bool((~known).any())


def _runs(there: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Runs of points around a closed outline, small breaks bridged: indices of each, in order."""
    count = len(there)
    if there.all() or not there.any():
        return [np.arange(count)] if there.any() else []
    start = int(np.argmin(there))  # a point that belongs to no run
    rolled = np.roll(there, -start)
    ends = np.flatnonzero(np.diff(np.concatenate(([0], rolled.astype(np.int8), [0]))))
    runs: list[list[int]] = []
    for first, stop in ends.reshape(-1, 2).tolist():
        if runs and first - runs[-1][1] <= _BROKEN:
            runs[-1][1] = stop
        else:
            runs.append([first, stop])
    return [(np.arange(first, stop) + start) % count for first, stop in runs]


def _along_road(away: NDArray[np.float64], direction_rad: NDArray[np.float32]) -> NDArray[np.float64]:
    """Direction of the road beyond an opening, pointing away; the opening's own normal where it is not told."""
    known = direction_rad[np.isfinite(direction_rad)].astype(np.float64)
    if len(known) == 0:
        return away
    angle = np.arctan2(np.sin(2 * known).sum(), np.cos(2 * known).sum()) / 2
    road = np.array([np.cos(angle), np.sin(angle)])
    ahead = float(road @ away)
    return np.asarray(np.sign(ahead) * road) if abs(ahead) >= _SAME_ROAD else away
