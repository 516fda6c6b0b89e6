"""From the rasters of a road layout to its geometry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .corridors import CorridorRules, find_corridors
from .geometry import LayoutGeometry
from .grid import BevGrid
from .intersections import IntersectionRules, find_intersections
from .layout import RoadLayout
from .polylines import LineRules, trace_polylines

LANE_DIVIDER: Final = "lane_divider"
ROAD_EDGE: Final = "road_edge"
DRIVABLE: Final = "drivable"
INTERSECTION: Final = "intersection"


@dataclass(frozen=True, slots=True)
class GeometryRules:
    """What counts as a line, a corridor and an intersection."""

    lines: LineRules = field(default_factory=LineRules)
    corridors: CorridorRules = field(default_factory=CorridorRules)
    intersections: IntersectionRules = field(default_factory=IntersectionRules)


def vectorise(
    layout: RoadLayout, direction_rad: NDArray[np.float32] | None = None, rules: GeometryRules | None = None
) -> LayoutGeometry:
    """Find the lines, corridors and intersections of a road layout; see :meth:`RoadLayout.geometry`."""
    rules = GeometryRules() if rules is None else rules
    grid, observed = layout.grid, layout.observed
    if direction_rad is not None:
        grid.check("direction_rad", direction_rad, np.float32)
    dividers, edges, drivable, intersection = (
        layout[name] if name in layout.classes else None for name in (LANE_DIVIDER, ROAD_EDGE, DRIVABLE, INTERSECTION)
    )
    return LayoutGeometry(
        lane_dividers=() if dividers is None else trace_polylines(grid, dividers, observed, rules.lines),
        road_edges=() if edges is None else trace_polylines(grid, edges, observed, rules.lines),
        corridors=()
        if drivable is None
        else find_corridors(grid, drivable, observed, intersection, direction_rad, rules.corridors),
        intersections=()
        if intersection is None
        else find_intersections(
            grid, intersection, _or_nothing(drivable, grid), observed, direction_rad, rules.intersections
        ),
    )


def _or_nothing(raster: NDArray[np.float32] | None, grid: BevGrid) -> NDArray[np.float32]:
    return np.zeros(grid.shape, np.float32) if raster is None else raster
