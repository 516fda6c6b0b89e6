"""Road layout, occupancy and ground truth as bird's-eye-view pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected
from ..fusion.geometry import Arm, LayoutGeometry
from ..fusion.grid import BevGrid
from ..runtime.predictions import OccupancyGrid, Predictions, RoadLayout
from .drawing import (
    CLASS_COLOURS,
    GROUND,
    BevView,
    Colour,
    Picture,
    blend,
    class_colour,
    draw_ego,
    draw_hatching,
    draw_ranges,
    polyline,
)
from .drive import GroundTruth

EDGE_LINE: Final = (214, 220, 255)
DIVIDER_LINE: Final = (206, 246, 255)
CORRIDOR_LINE: Final = (190, 150, 70)
INTERSECTION_LINE: Final = (255, 205, 150)
"""Colours of the geometry: blue, green, red; pale shades of those of the rasters that they lie on."""

_ARROW_M: Final = 3.0
_BARB_M: Final = 0.8
_FAINTEST: Final = 0.15
_FULL: Final = 0.7
_STRENGTH: Final = {"intersection": 0.5}
_REMEMBERED: Final = 0.72
_HIDDEN: Final = 0.5
_TRUTH_PAINTED: Final = ("drivable", "intersection", "crosswalk", "lane_divider", "road_edge", "occupancy")


def bev_outputs(predictions: Predictions) -> tuple[RoadLayout | None, OccupancyGrid | None]:
    """Return the road layout and the occupancy to draw: those of the usual names, else the first of each kind."""
    layouts = [output for output in predictions.bev.values() if isinstance(output, RoadLayout)]
    grids = [output for output in predictions.bev.values() if isinstance(output, OccupancyGrid)]
    return (
        predictions.road_layout or (layouts[0] if layouts else None),
        predictions.occupancy or (grids[0] if grids else None),
    )


@dataclass(frozen=True, slots=True, eq=False)
class BevPanel:
    """What is drawn into one bird's-eye view.

    title : "prediction" for the usual outputs, else the network that gave them
    layout_name : output name of the layout, None without one
    """

    title: str
    layout_name: str | None
    layout: RoadLayout | None
    occupancy: OccupancyGrid | None


def bev_panels(predictions: Predictions) -> list[BevPanel]:
    """One panel of the outputs that :func:`bev_outputs` gives, and one for each network that none of them is from."""
    shown = bev_outputs(predictions)
    names = {id(output): name for name, output in predictions.bev.items()}
    panels = [BevPanel("prediction", names.get(id(shown[0])), *shown)]
    drawn = {predictions.networks.get(names[id(output)]) for output in shown if output is not None}
    for network in dict.fromkeys(predictions.networks.values()):
        given = [(key, value) for key, value in predictions.bev.items() if predictions.networks.get(key) == network]
        layouts = [(key, value) for key, value in given if isinstance(value, RoadLayout)]
        grids = [value for _, value in given if isinstance(value, OccupancyGrid)]
        if network not in drawn and (layouts or grids):
            name, layout = layouts[0] if layouts else (None, None)
            panels.append(BevPanel(network, name, layout, grids[0] if grids else None))
    return panels


def draw_bev(
    view: BevView,
    layout: RoadLayout | None,
    occupancy: OccupancyGrid | None,
    geometry: LayoutGeometry | None = None,
) -> Picture:
    """Draw predictions: classes over each other by probability, occupancy on top, hatching where nobody ever saw.

    What is remembered but not seen in this very set is darker. The geometry of the layout is drawn over all of it as
    thin lines, see :func:`draw_geometry`.

    Raises
    ------
    InvalidArgument
        Neither is there, or they are on another grid than the view.
    """
    observed = np.zeros(view.grid.shape, dtype=np.bool_)
    seen_now = np.zeros(view.grid.shape, dtype=np.bool_)
    outputs = [output for output in (layout, occupancy) if output is not None]
    if not outputs or any(output.grid != view.grid for output in outputs):
        what = "outputs of a bird's-eye view"
        raise InvalidArgument(expected(what, f"one or more on {view.grid}", [output.grid for output in outputs]))
    for output in outputs:
        observed |= output.observed
        seen_now |= output.seen_by != 0
    cells = _ground(view.grid)
    if layout is not None:
        _paint(cells, {name: layout[name] for name in layout.classes})
    if occupancy is not None:
        likely = np.where(occupancy.observed, (occupancy.probability - 0.5) / 0.4, 0.0).clip(0.0, 1.0)
        blend(cells, CLASS_COLOURS["occupancy"], likely.astype(np.float32))
    _darken(cells, observed & ~seen_now, _REMEMBERED)
    picture = view.raster(cells)
    draw_hatching(picture, np.asarray(view.raster((~observed).astype(np.uint8)), dtype=np.bool_))
    draw_ranges(picture, view)
    if geometry is not None:
        draw_geometry(picture, view, geometry)
    draw_ego(picture, view)
    return picture


def draw_geometry(picture: Picture, view: BevView, geometry: LayoutGeometry) -> None:
    """Draw lines, centre lines of corridors, and outlines of intersections with an arrow along each arm."""
    for corridor in geometry.corridors:
        polyline(picture, view.pixels(corridor.points_xy), CORRIDOR_LINE, 1)
    for place in geometry.intersections:
        polyline(picture, view.pixels(place.outline_xy), INTERSECTION_LINE, 1, closed=True)
        for arm in place.arms:
            _draw_arm(picture, view, arm)
    for lines, colour in ((geometry.road_edges, EDGE_LINE), (geometry.lane_dividers, DIVIDER_LINE)):
        for line in lines:
            polyline(picture, view.pixels(line.points_xy), colour, 1)


def _draw_arm(picture: Picture, view: BevView, arm: Arm) -> None:
    along = np.array([np.cos(arm.direction_rad), np.sin(arm.direction_rad)])
    across = np.array([-along[1], along[0]])
    foot = np.array([arm.x_m, arm.y_m])
    tip = foot + _ARROW_M * along
    barbs = [tip - _BARB_M * (along + across), tip, tip - _BARB_M * (along - across)]
    polyline(picture, view.pixels(np.array([foot, tip])), INTERSECTION_LINE, 1)
    polyline(picture, view.pixels(np.array(barbs)), INTERSECTION_LINE, 1)


def draw_truth(view: BevView, truth: GroundTruth) -> Picture:
    """Draw ground truth in the colours of the predictions; what no camera can see is darker."""
    shown = BevView(truth.grid, view.px_per_m)
    if shown.size != view.size:
        raise InvalidArgument(expected("grid of the ground truth", f"of the extent of {view.grid}", truth.grid))
    layers = {name: truth.layers[name].astype(np.float32) for name in _TRUTH_PAINTED if name in truth.layers}
    cells = _ground(truth.grid)
    _paint(cells, layers)
    if "visible" in truth.layers:
        _darken(cells, truth.layers["visible"] == 0, _HIDDEN)
    picture = shown.raster(cells)
    draw_ranges(picture, view)
    draw_ego(picture, view)
    return picture


def legend_of(classes: Iterable[str]) -> list[tuple[str, Colour | None]]:
    """Return legend entries for classes, in painting order, without those that say "nothing"."""
    colours = {name: class_colour(name) for name in _ordered(classes)}
    return [(name.replace("_", " "), colour) for name, colour in colours.items() if colour is not None]


def _ordered(classes: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(classes))
    known = [name for name in CLASS_COLOURS if name in names]
    return [*(name for name in names if name not in CLASS_COLOURS), *known]


def _ground(grid: BevGrid) -> Picture:
    """Return the colour of every cell, uint8 [nx, ny, 3], before anything is known."""
    return np.full((*grid.shape, 3), GROUND, dtype=np.uint8)


def _paint(cells: Picture, layers: Mapping[str, NDArray[Any]]) -> None:
    for name in _ordered(layers):
        colour = class_colour(name)
        if colour is not None:
            strength = ((layers[name] - _FAINTEST) / (_FULL - _FAINTEST)).clip(0.0, 1.0) * _STRENGTH.get(name, 1.0)
            blend(cells, colour, strength.astype(np.float32))


def _darken(cells: Picture, where: NDArray[np.bool_], factor: float) -> None:
    cells[where] = (cells[where] * factor).astype(np.uint8)
