"""The geometry of a road layout as arrays on the wire, and back.

Shapes of one kind lie one after the other in `<kind>_points`; shape k has the rows from `<kind>_starts[k]` up to
`<kind>_starts[k + 1]`. docs/topics.md states the arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError, expected
from ...fusion.geometry import Arm, Corridor, Intersection, LayoutGeometry, Polyline
from .kinds import LAYOUT_GEOMETRY

MAX_SHAPES: Final = 4096
"""Most shapes of a kind in a message; of more the first are sent, which are the largest."""

MAX_ARMS: Final = 65536
"""Most arms of all intersections of a message together."""

_COLUMNS: Final = {"lane_divider": 2, "road_edge": 2, "corridor": 4, "intersection": 2}


def to_arrays(geometry: LayoutGeometry) -> dict[str, NDArray[Any]]:
    """The arrays of a geometry, in wire order."""
    corridors = [
        np.column_stack((corridor.points_xy, corridor.width_m, corridor.direction_rad))
        for corridor in geometry.corridors
    ]
    shapes: dict[str, tuple[Sequence[NDArray[np.float64]], Sequence[Polyline | Corridor | Intersection]]] = {
        "lane_divider": ([line.points_xy for line in geometry.lane_dividers], geometry.lane_dividers),
        "road_edge": ([line.points_xy for line in geometry.road_edges], geometry.road_edges),
        "corridor": (corridors, geometry.corridors),
        "intersection": ([place.outline_xy for place in geometry.intersections], geometry.intersections),
    }
    arrays: dict[str, NDArray[Any]] = {}
    for kind, (points, values) in shapes.items():
        arrays[f"{kind}_points"], arrays[f"{kind}_starts"] = _packed(points[:MAX_SHAPES], _COLUMNS[kind])
        arrays[f"{kind}_confidence"] = np.array([value.confidence for value in values[:MAX_SHAPES]], dtype=np.float32)
    places = geometry.intersections[:MAX_SHAPES]
    arrays["intersection_whole"] = np.array([place.whole for place in places], dtype=np.bool_)
    arms = [
        np.array([(arm.x_m, arm.y_m, arm.direction_rad, arm.width_m) for arm in place.arms]).reshape(-1, 4)
        for place in places
    ]
    arrays["arms"], arrays["arm_starts"] = _packed(arms, 4)
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> LayoutGeometry:
    """The geometry that arrays state.

    Raises
    ------
    WireError
        An array is missing, or not of the type and shape stated, or the starts do not divide the points.
    InvalidArgument
        A shape that no geometry can have: too few points, a point that is not finite, a width of 0.
    """
    if (count := len(_array(arrays, "arms", "float32", (None, 4)))) > MAX_ARMS:
        raise WireError(expected("arms", f"at most {MAX_ARMS}", count))
    arms = _unpacked(arrays, "arms", "arm_starts", 4)
    intersections = _shapes(arrays, "intersection")
    whole = _array(arrays, "intersection_whole", "bool", (len(intersections),))
    if len(arms) != len(intersections):
        raise WireError(expected("arm_starts", f"{len(intersections) + 1} numbers", len(arms) + 1))
    return LayoutGeometry(
        lane_dividers=tuple(Polyline(points, sure) for points, sure in _shapes(arrays, "lane_divider")),
        road_edges=tuple(Polyline(points, sure) for points, sure in _shapes(arrays, "road_edge")),
        corridors=tuple(
            Corridor(rows[:, :2], rows[:, 2], rows[:, 3], sure) for rows, sure in _shapes(arrays, "corridor")
        ),
        intersections=tuple(
            Intersection(points, tuple(Arm(*row) for row in rows.tolist()), entire, sure)
            for (points, sure), rows, entire in zip(intersections, arms, whole.tolist(), strict=True)
        ),
    )


def _packed(points: Sequence[NDArray[np.float64]], columns: int) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    starts = np.cumsum([0, *map(len, points)]).astype(np.uint32)
    rows = np.concatenate([np.empty((0, columns)), *points]).astype(np.float32)
    return rows, starts


def _shapes(arrays: Mapping[str, NDArray[Any]], kind: str) -> list[tuple[NDArray[np.float64], float]]:
    points = _unpacked(arrays, f"{kind}_points", f"{kind}_starts", _COLUMNS[kind])
    confidence = _array(arrays, f"{kind}_confidence", "float32", (len(points),))
    return list(zip(points, confidence.tolist(), strict=True))


def _unpacked(arrays: Mapping[str, NDArray[Any]], points: str, starts: str, columns: int) -> list[NDArray[np.float64]]:
    rows = _array(arrays, points, "float32", (None, columns))
    at = _array(arrays, starts, "uint32", (None,)).astype(np.int64)
    if len(at) > MAX_SHAPES + 1:
        raise WireError(expected(starts, f"at most {MAX_SHAPES + 1} numbers", len(at)))
    if len(at) == 0 or at[0] != 0 or at[-1] != len(rows) or (np.diff(at) < 0).any():
        raise WireError(expected(starts, f"rising from 0 to {len(rows)}", at.tolist()[:8]))
    with np.errstate(invalid="ignore"):  # NaN may be there; the shapes refuse it
        return [rows[first:stop].astype(np.float64) for first, stop in itertools.pairwise(at.tolist())]


def _array(arrays: Mapping[str, NDArray[Any]], name: str, dtype: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    array = arrays.get(name)
    if array is None:
        raise WireError(expected(f"arrays of a {LAYOUT_GEOMETRY}", f"with {name}", ", ".join(arrays) or "none"))
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype.name != dtype or not fits:
        wanted = ", ".join("n" if n is None else str(n) for n in shape)
        raise WireError(expected(f"array {name}", f"{dtype} ({wanted})", f"{array.dtype.name} {array.shape}"))
    return array
