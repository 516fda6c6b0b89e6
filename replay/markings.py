"""Paint on the streets of the synthetic town: outlines of every line, and the areas they stand for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .roads import CROSSWALK_M, STOP_LINE_M, ParkingLot, Road, RoadNetwork

Array = NDArray[np.float64]

LINE_M = 0.14
"""Width of a painted line."""

DIVIDER_M = 0.5
"""Width in which lane dividers stand in the ground truth."""


@dataclass(slots=True)
class Markings:
    """Outlines in the world frame, each float64 [k, 2], metres.

    white, yellow : painted shapes
    dividers : lines between lanes and between directions, :data:`DIVIDER_M` wide, the gaps of dashed lines filled
    crosswalks : areas of crosswalks
    """

    white: list[Array] = field(default_factory=list)
    yellow: list[Array] = field(default_factory=list)
    dividers: list[Array] = field(default_factory=list)
    crosswalks: list[Array] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MarkingStyle:
    """How a town paints its streets: yellow or white centre lines, zebra stripes or two bars, lengths of dashes."""

    yellow_centre: bool
    zebra: bool
    dash_m: float
    gap_m: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> MarkingStyle:
        """Choose a style at random."""
        return cls(bool(rng.random() < 0.6), bool(rng.random() < 0.7), rng.uniform(2.5, 3.5), rng.uniform(3.5, 7.0))


def make_markings(network: RoadNetwork, style: MarkingStyle) -> Markings:
    """Paint every road and parking lot of the network."""
    markings = Markings()
    for road in network.roads:
        _paint_lines(markings, road, style)
        for end in (0, 1):
            _paint_end(markings, road, end, style)
    for lot in network.lots:
        _paint_stalls(markings, network.roads[lot.road], lot)
    return markings


def _paint_lines(markings: Markings, road: Road, style: MarkingStyle) -> None:
    profile = road.profile
    if profile.kind == "aisle":
        return
    begin, end = road.span_m
    begin += STOP_LINE_M if road.crosswalks[0] else 0.8
    end -= STOP_LINE_M if road.crosswalks[1] else 0.8
    if end - begin < 2.0:
        return
    half = LINE_M / 2
    centre = markings.yellow if style.yellow_centre else markings.white
    if profile.centre == "double":
        centre += [road.strip(begin, end, low, low + LINE_M) for low in (-1.5 * LINE_M, 0.5 * LINE_M)]
    elif profile.centre == "mixed":
        centre.append(road.strip(begin, end, -1.5 * LINE_M, -0.5 * LINE_M))
        centre += _dashes(road, begin, end, LINE_M, style)
    elif profile.centre == "solid":
        centre.append(road.strip(begin, end, -half, half))
    elif profile.centre == "dashed":
        centre += _dashes(road, begin, end, 0.0, style)
    offsets = [side * lane * profile.lane_m for lane in range(1, profile.lanes) for side in (-1, 1)]
    for offset in offsets:
        markings.white += _dashes(road, begin, end, offset, style)
    markings.dividers += [
        road.strip(begin, end, offset - DIVIDER_M / 2, offset + DIVIDER_M / 2) for offset in [0.0, *offsets]
    ]
    if profile.edge_line or profile.parking_m > 0:
        for side in (-1, 1):
            offset = side * profile.lanes * profile.lane_m
            markings.white.append(road.strip(begin, end, offset - half, offset + half))


def _dashes(road: Road, begin: float, end: float, offset: float, style: MarkingStyle) -> list[Array]:
    starts = np.arange(begin + 0.5, end - 1.0, style.dash_m + style.gap_m)
    return [
        road.strip(start, min(start + style.dash_m, end), offset - LINE_M / 2, offset + LINE_M / 2) for start in starts
    ]


def _paint_end(markings: Markings, road: Road, end: int, style: MarkingStyle) -> None:
    """Stop line, crosswalk and arrows at one end of a road."""
    profile = road.profile
    lanes_m = profile.lanes * profile.lane_m
    arriving = (-lanes_m, 0.0) if end == 1 else (0.0, lanes_m)  # offsets of the lanes that lead to this end
    stop_m = STOP_LINE_M if road.crosswalks[end] else 0.9
    if profile.kind != "aisle":
        markings.white.append(_across(road, end, stop_m, stop_m + 0.35, arriving[0] + 0.12, arriving[1] - 0.12))
    if road.crosswalks[end]:
        width = profile.half_width_m
        markings.crosswalks.append(_across(road, end, *CROSSWALK_M, -width, width))
        if style.zebra:
            for low in np.arange(-width + 0.35, width - 0.7, 1.0):
                markings.white.append(_across(road, end, *CROSSWALK_M, low, low + 0.5))
        else:
            for low in (CROSSWALK_M[0], CROSSWALK_M[1] - 0.3):
                markings.white.append(_across(road, end, low, low + 0.3, -width + 0.3, width - 0.3))
    if profile.lanes > 1 and road.span_m[1] - road.span_m[0] > 30:
        for lane in range(profile.lanes):
            offset = (-1 if end == 1 else 1) * (lane + 0.5) * profile.lane_m
            markings.white += _arrow(road, end, stop_m + 4.0, offset)


def _across(road: Road, end: int, near_m: float, far_m: float, low_m: float, high_m: float) -> Array:
    """Outline of an area between two distances from an intersection and two lateral offsets."""
    span = road.span_m
    if end == 0:
        return road.strip(span[0] + near_m, span[0] + far_m, low_m, high_m)
    return road.strip(span[1] - far_m, span[1] - near_m, low_m, high_m)


def _arrow(road: Road, end: int, near_m: float, offset: float) -> list[Array]:
    """Arrow that points along a lane, towards the intersection."""
    base = road.span_m[end]
    outward = 1.0 if end == 0 else -1.0

    def place(along: Array, across: Array) -> Array:
        return road.at(base + outward * (near_m + along), offset + across)

    shaft = place(np.array([1.2, 3.4, 3.4, 1.2]), np.array([-0.08, -0.08, 0.08, 0.08]))
    head = place(np.array([0.0, 1.3, 1.3]), np.array([0.0, -0.32, 0.32]))
    return [shaft, head]


def _paint_stalls(markings: Markings, road: Road, lot: ParkingLot) -> None:
    begin, end = lot.span_m
    aisle = road.profile.half_width_m
    count = round((end - begin) / lot.stall_m)
    for arc in begin + lot.stall_m * np.arange(count + 1) if count > 0 else ():
        for side in (-1, 1):
            positions = np.array([arc - 0.06, arc + 0.06, arc + 0.06, arc - 0.06])
            offsets = side * np.array([aisle, aisle, lot.half_width_m - 0.3, lot.half_width_m - 0.3])
            markings.white.append(road.at(positions, offsets))
