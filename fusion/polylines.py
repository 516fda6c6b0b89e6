"""Polylines from the raster of a thin class: lane dividers, road edges.

The ridges of the raster are followed (:mod:`octobev.fusion.ridges`, :mod:`octobev.fusion.skeleton`), gaps between lines
that point at each other are bridged, and what is long enough is smoothed and simplified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .._ext import polylines as kernel
from ..errors import InvalidArgument, expected
from .geometry import Polyline
from .grid import BevGrid
from .ridges import RidgeField
from .skeleton import Chain, End, Points, follow_ridges, in_a_row, runs_of

_AIMED: Final = float(np.cos(np.radians(30.0)))
"""Ends of lines are joined when their directions differ by less than this."""

_ASIDE: Final = (1.0, 0.25)
"""How far aside of a line's continuation the end may lie that it is joined with: cells, and cells per cell of gap."""

_REACH: Final = 2
_SMOOTHINGS: Final = 2


@dataclass(frozen=True, slots=True)
class LineRules:
    """What counts as a line.

    threshold : least class probability that a line comes to somewhere, 0..1
    faint : least probability anywhere on it: far away a network spreads a line over the cells that it may be in, and
        every one of them gets less (two thresholds, as Canny 1986 follows edges). No more than `threshold` counts.
    min_length_m : shorter lines are left out
    spur_m : shorter branches of a line are left out
    join_m : longest gap that is bridged between lines that continue each other; 0 bridges none
    tolerance_m : how far a line may be from the points that it is simplified from
    """

    threshold: float = 0.5
    min_length_m: float = 3.0
    spur_m: float = 3.0
    join_m: float = 4.0
    tolerance_m: float = 0.1
    faint: float = 0.3

    def __post_init__(self) -> None:
        for name in ("threshold", "faint"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise InvalidArgument(expected(name, "more than 0 and at most 1", getattr(self, name)))
        for name in ("min_length_m", "spur_m", "join_m", "tolerance_m"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise InvalidArgument(expected(name, "finite and not negative", getattr(self, name)))


def trace_polylines(
    grid: BevGrid, probability: NDArray[np.float32], observed: NDArray[np.bool_], rules: LineRules | None = None
) -> tuple[Polyline, ...]:
    """Find the lines of a class.

    Parameters
    ----------
    probability : float32 [nx, ny], 0..1
    observed : bool [nx, ny]; what is not observed is neither line nor none

    Returns
    -------
    The longest first; each runs from its rear end (lowest x, then lowest y) to its front end.
    """
    rules = LineRules() if rules is None else rules
    grid.check("probability", probability, np.float32)
    grid.check("observed", observed, np.bool_)
    field = RidgeField.of(probability, observed, min(rules.faint, rules.threshold))
    return tuple(_polyline(grid, line, field.strength, rules.tolerance_m) for line in trace_lines(grid, field, rules))


def trace_lines(grid: BevGrid, field: RidgeField, rules: LineRules) -> list[Points]:
    """Lines along the ridges of a field, each float64 [n, 2] in cells, in steps of about a cell; ordered and directed.

    Those are left out whose strength comes to the threshold nowhere. Whole numbers are cell centres; the first point
    of a closed line is its last.
    """
    chains = follow_ridges(field, rules.spur_m / grid.resolution_m)
    chains = join_gaps(chains, rules.join_m / grid.resolution_m)
    lines = [(chain.length, smoothed(chain)) for chain in chains if len(chain.points) > 1]
    lines = [
        (length, points)
        for length, points in lines
        if length * grid.resolution_m >= rules.min_length_m
        and field.strength[cells_of(grid, points)].max() >= rules.threshold
    ]
    forward = [(length, points[::-1] if tuple(points[-1]) < tuple(points[0]) else points) for length, points in lines]
    return [points for _, points in sorted(forward, key=lambda line: (-round(line[0], 6), *line[1][0], *line[1][-1]))]


def join_gaps(lines: Sequence[Chain], gap_cells: float) -> list[Chain]:
    """Join lines whose free ends lie within a gap of each other and point at each other, the nearest first."""
    ends = [
        (index, side)
        for index, line in enumerate(lines)
        for side in (0, 1)
        if not line.closed and not line.junctions[side] and len(line.points) > 1
    ]
    if len(ends) < 2 or gap_cells <= 0:
        return list(lines)
    leaving = [lines[index] if side == 0 else lines[index].reversed() for index, side in ends]
    place = np.array([line.points[0] for line in leaving])
    outward = -np.array([line.tangent() for line in leaving])
    gap = place[None] - place[:, None]  # [from, to]
    distance = np.linalg.norm(gap, axis=-1)
    ahead = np.einsum("abk,ak->ab", gap, outward)
    aside = np.abs(gap[..., 0] * outward[:, None, 1] - gap[..., 1] * outward[:, None, 0])
    fits = (ahead >= -_ASIDE[0]) & (aside <= _ASIDE[0] + _ASIDE[1] * distance)
    fits &= fits.T & (distance <= gap_cells) & (outward @ outward.T <= -_AIMED)
    partner: dict[End, End] = {}
    candidates = [(distance[a, b], a, b) for a, b in np.argwhere(fits) if a < b]
    for _, a, b in sorted(candidates):
        if ends[a] not in partner and ends[b] not in partner:
            partner[ends[a]], partner[ends[b]] = ends[b], ends[a]
    return [in_a_row(lines, run, ring) for run, ring in runs_of(len(lines), partner)]


def to_metres(grid: BevGrid, cells: Points) -> Points:
    """Places in cells (whole numbers are cell centres) to the ego frame, float64 [n, 2]."""
    return np.asarray((grid.x_min_m, grid.y_min_m) + (cells + 0.5) * grid.resolution_m)


def simplified(points: Points, tolerance: float) -> NDArray[np.bool_]:
    """Which points of a line are enough to stay within `tolerance` of all of them, bool [n]."""
    keep = np.empty(len(points), np.uint8)
    kernel.simplify(np.ascontiguousarray(points), tolerance, keep, np.empty(2 * len(points), np.int32))
    return keep.astype(np.bool_)


def even(points: Points) -> Points:
    """The same line with points in equal steps of about a cell."""
    out = np.empty((max(round(kernel.length(points)), 1) + 1, 2))
    kernel.even(points, out)
    return out


def smoothed(chain: Chain) -> Points:
    """Points of a chain in even steps, without the jitter of the cells; ends stay where they are."""
    points = even(chain.points)
    for _ in range(_SMOOTHINGS if len(points) > _REACH else 0):
        before, points = points, np.empty_like(points)
        kernel.smooth(before, chain.closed, points)
    return points


def cells_of(grid: BevGrid, points: Points) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices i and j of the cells nearest to points in cells."""
    i, j = np.clip(np.rint(points), 0, np.array(grid.shape) - 1).astype(np.int64).T
    return i, j


def _polyline(grid: BevGrid, line: Points, strength: NDArray[np.float32], tolerance_m: float) -> Polyline:
    confidence = float(np.clip(strength[cells_of(grid, line)].mean(dtype=np.float64), 0.0, 1.0))
    points = to_metres(grid, line)
    return Polyline(points[simplified(points, tolerance_m)], confidence)
