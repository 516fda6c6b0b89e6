"""Ways through the road network: lanes, lane changes and turns as one smooth path with speed limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .roads import RING_M, Intersection, Road, RoadNetwork, arc_length, left_of

Array = NDArray[np.float64]

PATH_STEP_M: Final = 0.25
LATERAL_MPS2: Final = 2.3
"""Lateral acceleration that drivers accept in bends."""

BRAKE_MPS2: Final = 1.8
"""Deceleration of gentle braking."""

_RING_LEAD_RAD: Final = np.radians(32)
_SMOOTH_M: Final = 1.2


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where a route passes an intersection: distances along the route; it is entered over arm `arm`."""

    intersection: int
    arm: int
    begin_m: float
    end_m: float
    stop_m: float
    """Where a driver waits who may not enter yet."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A path to drive.

    points : float64 [n, 2], every :data:`PATH_STEP_M` or so; arc_m : float64 [n]
    yaw_rad : float64 [n], heading, continuous (not wrapped)
    limit_mps : float64 [n], speed from which all limits ahead, by road and by bend, can be kept with gentle braking
    """

    points: Array
    arc_m: Array
    yaw_rad: Array
    limit_mps: Array
    crossings: tuple[Crossing, ...]

    def poses(self, distance_m: Array | float) -> Array:
        """(x, y, yaw) at distances along the route, float64 [..., 3]."""
        columns = (self.points[:, 0], self.points[:, 1], self.yaw_rad)
        return np.stack([np.interp(distance_m, self.arc_m, column) for column in columns], axis=-1)


def make_route(
    rng: np.random.Generator, network: RoadNetwork, road: int, sense: int, start_m: float, length_m: float
) -> Route:
    """Wander through the network.

    Parameters
    ----------
    road, sense : where to begin; sense 1 drives along the road's points, -1 against them
    start_m : distance from the beginning of that road proper, in the direction of travel
    length_m : least length of the route
    """
    lane = int(rng.integers(network.roads[road].profile.lanes))  # before the draws whose number depends on the length
    legs = _wander(rng, network, road, sense, length_m + start_m)
    pieces: list[Array] = []
    limits: list[Array] = []
    marks: list[tuple[int, int, int, int, float]] = []
    count = 0
    for index, (leg, direction) in enumerate(legs[:-1]):
        here, (following, next_direction) = network.roads[leg], legs[index + 1]
        there = network.roads[following]
        turn = _turn(here, direction, there, next_direction)
        exit_lane = _lane_for(turn, lane, here)
        points = _leg(here, direction, lane, exit_lane, start_m if index == 0 else 0.0)
        lane = _lane_for(turn, exit_lane, there)
        after = _leg(there, next_direction, lane, lane, 0.0)
        end = 1 if direction > 0 else 0
        place = network.intersections[here.ends[end]]
        curve = (
            _ring_curve(place, points[-2:], after[:2]) if place.island_m > 0 else _turn_curve(points[-2:], after[:2])
        )
        pieces += [points, curve]
        limits += [np.full(len(points), here.profile.speed_mps), np.full(len(curve), 9.0)]
        stop_m = 4.9 if here.crosswalks[end] else 1.4
        marks.append((here.ends[end], 2 * leg + end, count + len(points), count + len(points) + len(curve) - 1, stop_m))
        count += len(points) + len(curve)
    return _finish(np.concatenate(pieces), np.concatenate(limits), marks)


def _wander(
    rng: np.random.Generator, network: RoadNetwork, road: int, sense: int, length_m: float
) -> list[tuple[int, int]]:
    legs, driven = [(road, sense)], 0.0
    while driven < length_m or len(legs) < 2:
        leg, direction = legs[-1]
        here = network.roads[leg]
        driven += here.span_m[1] - here.span_m[0] + 10.0
        end = 1 if direction > 0 else 0
        arms = [arm for arm in network.intersections[here.ends[end]].arms if (arm.road, arm.end) != (leg, end)]
        weights = np.array([2.0 if network.roads[arm.road].profile.kind == "aisle" else 1.0 for arm in arms])
        arm = arms[int(rng.choice(len(arms), p=weights / weights.sum()))]
        legs.append((arm.road, 1 if arm.end == 0 else -1))
    return legs


def _turn(here: Road, direction: int, there: Road, next_direction: int) -> float:
    """Change of heading from one road to the next, radians, to the left positive."""
    out = here.heading_at(here.span_m[1 if direction > 0 else 0]) + (0.0 if direction > 0 else np.pi)
    into = there.heading_at(there.span_m[0 if next_direction > 0 else 1]) + (0.0 if next_direction > 0 else np.pi)
    return float((into - out + np.pi) % (2 * np.pi) - np.pi)


def _lane_for(turn: float, lane: int, road: Road) -> int:
    """Lane to turn from or into, counted from the middle of the road."""
    outermost = road.profile.lanes - 1
    if turn > np.radians(40):
        return 0
    return outermost if turn < -np.radians(40) else min(lane, outermost)


def _leg(road: Road, direction: int, lane: int, exit_lane: int, start_m: float) -> Array:
    begin, end = road.span_m
    length = end - begin
    along = np.linspace(min(start_m, length - 1.0), length, max(int(length / 0.5), 2) + 1)
    share = np.clip((along / length - 0.15) / 0.6, 0, 1)
    position = lane + (exit_lane - lane) * share * share * (3 - 2 * share)
    offset = -(position + 0.5) * road.profile.lane_m
    return road.at(begin + along, offset) if direction > 0 else road.at(end - along, -offset)


def _turn_curve(before: Array, after: Array) -> Array:
    """Cubic from the end of one lane to the beginning of another, tangent to both."""
    start, stop = before[-1], after[0]
    into = (before[-1] - before[0]) / np.linalg.norm(before[-1] - before[0])
    out = (after[1] - after[0]) / np.linalg.norm(after[1] - after[0])
    gap = stop - start
    determinant = into[0] * out[1] - into[1] * out[0]
    reach = np.linalg.norm(gap) / 3
    if abs(determinant) > 0.35:
        first = (gap[0] * out[1] - gap[1] * out[0]) / determinant
        second = (into[0] * gap[1] - into[1] * gap[0]) / determinant
        if 0.5 < first < 40 and 0.5 < second < 40:
            # drive straight on until both ends are equally far from the corner, then turn
            leg = min(first, second)
            lead_in = _straight(start, start + (first - leg) * into)
            lead_out = _straight(stop - (second - leg) * out, stop)
            curve = _cubic(lead_in[-1], lead_in[-1] + 0.6 * leg * into, lead_out[0] - 0.6 * leg * out, lead_out[0])
            return np.concatenate((lead_in[1:], curve[1:-1], lead_out[:-1]))
    return _cubic(start, start + reach * into, stop - reach * out, stop)[1:-1]


def _ring_curve(place: Intersection, before: Array, after: Array) -> Array:
    """Way through a roundabout, counter-clockwise, from the end of one lane to the beginning of another."""
    start, stop = before[-1], after[0]
    into = (before[-1] - before[0]) / np.linalg.norm(before[-1] - before[0])
    out = (after[1] - after[0]) / np.linalg.norm(after[1] - after[0])
    radius_m = place.island_m + RING_M / 2
    entry, leave = (float(np.arctan2(*(point - place.centre)[[1, 0]])) for point in (start, stop))
    sweep = (leave - entry) % (2 * np.pi)
    lead = min(_RING_LEAD_RAD, 0.5 * sweep)
    angles = entry + np.linspace(lead, max(sweep - lead, lead), max(int((sweep - 2 * lead) * radius_m / 0.5), 1) + 1)
    ring = place.centre + radius_m * np.stack((np.cos(angles), np.sin(angles)), axis=-1)
    along = np.stack((-np.sin(angles), np.cos(angles)), axis=-1)
    reach_in, reach_out = (0.38 * np.linalg.norm(gap) for gap in (ring[0] - start, stop - ring[-1]))
    enter = _cubic(start, start + reach_in * into, ring[0] - reach_in * along[0], ring[0])
    depart = _cubic(ring[-1], ring[-1] + reach_out * along[-1], stop - reach_out * out, stop)
    return np.concatenate((enter[1:], ring[1:], depart[1:-1]))


def _straight(start: Array, stop: Array) -> Array:
    count = max(int(np.linalg.norm(stop - start) / 0.5), 1)
    return np.linspace(start, stop, count + 1)


def _cubic(start: Array, near: Array, far: Array, stop: Array) -> Array:
    t = np.linspace(0, 1, 41)[:, None]
    return np.asarray((1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * near + 3 * (1 - t) * t**2 * far + t**3 * stop)


def _finish(raw: Array, limits: Array, marks: list[tuple[int, int, int, int, float]]) -> Route:
    raw_arc = arc_length(raw)
    positions = np.arange(0.0, raw_arc[-1], PATH_STEP_M)
    points = np.stack([np.interp(positions, raw_arc, raw[:, i]) for i in (0, 1)], axis=-1)
    half = int(np.ceil(3 * _SMOOTH_M / PATH_STEP_M))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) * PATH_STEP_M / _SMOOTH_M) ** 2)
    kernel /= kernel.sum()
    # continue straight beyond both ends, so that smoothing does not bend them
    start = points[0] + (points[0] - points[1]) * np.arange(half, 0, -1)[:, None]
    stop = points[-1] + (points[-1] - points[-2]) * np.arange(1, half + 1)[:, None]
    wide = np.concatenate((start, points, stop))
    smooth = np.stack([np.convolve(wide[:, i], kernel, "valid") for i in (0, 1)], axis=-1)
    left = left_of(smooth)
    yaw = np.unwrap(np.arctan2(-left[:, 0], left[:, 1]))
    arc = arc_length(smooth)
    curvature = np.abs(np.gradient(yaw, arc))
    limit = np.minimum(np.interp(positions, raw_arc, limits), np.sqrt(LATERAL_MPS2 / np.maximum(curvature, 1e-4)))
    # from s, a limit v at t > s may be approached from sqrt(v^2 + 2 a (t - s)): a running minimum from the end
    budget = limit**2 + 2 * BRAKE_MPS2 * arc
    limit = np.sqrt(np.minimum.accumulate(budget[::-1])[::-1] - 2 * BRAKE_MPS2 * arc)
    at = np.interp(raw_arc, positions, arc)
    crossings = tuple(
        Crossing(place, arm, float(at[i]), float(at[min(j + 1, len(at) - 1)]), float(at[i]) - stop_m)
        for place, arm, i, j, stop_m in marks
    )
    return Route(smooth, arc, yaw, limit, crossings)
