"""Who drives in the synthetic town: cars that keep their lanes and distances and take turns at intersections.

Vehicle 0 is the ego; it has the right of way. Its route is that of the middle of its rear axle, the others' of their
middles.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from . import bodies
from .bodies import Model
from .pedestrians import Pedestrians
from .roads import RoadNetwork
from .routes import BRAKE_MPS2, PATH_STEP_M, Crossing, Route, make_route

Array = NDArray[np.float64]

STEP_S: Final = 0.1
EGO_BOX_M: Final = (-1.0, 3.7, -0.95, 0.95)
"""Footprint of the ego, x0, x1, y0, y1 in its frame."""

_ACCELERATE, _FIRM_BRAKE, _HARD_BRAKE = 1.6, 4.0, 5.0
_TOP_MPS: Final = 14.0
_AHEAD_M: Final = np.arange(1.0, 42.0, 1.5)
_LANE_HALF_M: Final = 1.55


class Traffic:
    """Simulates all vehicles from time 0 on.

    Parameters
    ----------
    rng : decides on routes, models and places
    seconds : how long to simulate; what happens before does not depend on it
    pedestrians : whom drivers let pass on crosswalks
    """

    def __init__(
        self, rng: np.random.Generator, network: RoadNetwork, seconds: float, pedestrians: Pedestrians | None = None
    ) -> None:
        self._pedestrians = pedestrians
        steps = int(np.ceil(seconds / STEP_S)) + 12
        seeds = rng.integers(0, 1 << 31, 64)
        self.models: list[list[Model]] = []
        self._network = network
        self._routes: list[Route] = []
        self._front_m: list[float] = []
        self._rear_m: list[float] = []
        length_m = _TOP_MPS * steps * STEP_S + 60.0
        self._add_ego(np.random.default_rng(seeds[0]), length_m)
        count = int(rng.integers(10, 19))
        for seed in seeds[1:]:
            if len(self._routes) > count:
                break
            self._add_car(np.random.default_rng(seed), length_m)
        self._conflicts: dict[tuple[int, int, int, int], bool] = {}
        steps_m = np.arange(0.0, min(route.arc_m[-1] for route in self._routes), PATH_STEP_M)
        self._tracks = np.array([route.poses(steps_m) for route in self._routes])
        self._envelopes = np.array([np.interp(steps_m, route.arc_m, route.limit_mps) for route in self._routes])
        self._distances = self._simulate(steps)

    def ego(self, time_s: float) -> tuple[float, float, float]:
        """(x, y, yaw) of the ego at a time."""
        x, y, yaw = self._poses(time_s)[0]
        return float(x), float(y), float(yaw)

    def ego_speed_mps(self, time_s: float) -> float:
        """Speed of the ego at a time."""
        before, after = (np.interp(time_s + dt, self._times, self._distances[:, 0]) for dt in (-0.05, 0.05))
        return float((after - before) / 0.1)

    def ego_motion(self) -> tuple[Array, Array]:
        """Speed (m/s) and yaw rate (rad/s) of the ego, float64 [n] each, every :data:`STEP_S`."""
        speed = np.gradient(self._distances[:, 0], STEP_S)
        headings = np.array([self._poses(time_s)[0, 2] for time_s in self._times])
        return speed, np.gradient(headings, STEP_S)

    def poses(self, time_s: float) -> Array:
        """(x, y, yaw) of all vehicles but the ego, float64 [n, 3]."""
        return self._poses(time_s)[1:]

    @property
    def _times(self) -> Array:
        return np.asarray(np.arange(len(self._distances)) * STEP_S, np.float64)

    def _poses(self, time_s: float) -> Array:
        step = min(max(time_s / STEP_S, 0.0), len(self._distances) - 1.001)
        before, after = self._distances[int(step) : int(step) + 2]
        place = np.minimum((before + (after - before) * (step % 1.0)) / PATH_STEP_M, self._tracks.shape[1] - 1.001)
        index, vehicle = place.astype(np.int64), np.arange(len(place))
        behind, ahead = self._tracks[vehicle, index], self._tracks[vehicle, index + 1]
        return np.asarray(behind + (ahead - behind) * (place % 1.0)[:, None])

    def _add_ego(self, rng: np.random.Generator, length_m: float) -> None:
        streets = [i for i, road in enumerate(self._network.roads) if road.profile.kind != "aisle"]
        longest = sorted(streets, key=lambda i: np.diff(self._network.roads[i].span_m)[0])[-max(len(streets) // 2, 1) :]
        road = int(rng.choice(longest))
        begin, end = self._network.roads[road].span_m
        start = max(end - begin - rng.uniform(35, 110), 6.0)
        self._routes.append(make_route(rng, self._network, road, int(rng.choice((-1, 1))), start, length_m))
        self._front_m.append(EGO_BOX_M[1])
        self._rear_m.append(-EGO_BOX_M[0])

    def _add_car(self, rng: np.random.Generator, length_m: float) -> None:
        roads = self._network.roads
        spans = np.array([np.diff(road.span_m)[0] if road.profile.kind != "aisle" else 0.0 for road in roads])
        road = int(rng.choice(len(roads), p=spans / spans.sum()))
        start = rng.uniform(3, max(spans[road] - 8, 4))
        parts = bodies.truck(rng) if rng.random() < 0.15 else bodies.car(rng, lights=bool(rng.random() < 0.5))
        route = make_route(rng, self._network, road, int(rng.choice((-1, 1))), start, length_m)
        apart = [np.linalg.norm(route.points[0] - other.points[0]) for other in self._routes]
        if min(apart) < 16.0:
            return
        half = max(part.footprint[:, 0].max() for part in parts)
        self._routes.append(route)
        self.models.append(parts)
        self._front_m.append(float(half))
        self._rear_m.append(float(half))

    def _simulate(self, steps: int) -> Array:
        count = len(self._routes)
        distance = np.zeros(count)
        speed = np.array([min(0.8 * route.limit_mps[0], 9.0) for route in self._routes])
        next_crossing = [0] * count
        holders: dict[int, list[tuple[int, int]]] = {}
        history = np.empty((steps, count))
        for step in range(steps):
            history[step] = distance
            allowed = self._envelopes[np.arange(count), self._index(distance)]
            allowed = np.minimum(allowed, self._following_limits(distance, speed))
            if self._pedestrians is not None:
                spots = self._pedestrians.on_crosswalks(step * STEP_S)
                allowed = np.minimum(allowed, self._yielding_limits(distance, speed, spots))
            for vehicle in range(count):
                wait = self._turn_taking(vehicle, distance, next_crossing, holders)
                allowed[vehicle] = min(allowed[vehicle], wait)
            speed = np.clip(allowed, speed - _HARD_BRAKE * STEP_S, speed + _ACCELERATE * STEP_S).clip(0.0, None)
            distance = distance + speed * STEP_S
        return history

    def _following_limits(self, distance: Array, speed: Array) -> Array:
        """Speed from which each vehicle can still stop behind what is on its path ahead."""
        poses = self._tracks[np.arange(len(distance)), self._index(distance)]
        paths = self._tracks[np.arange(len(distance))[:, None], self._index(distance[:, None] + _AHEAD_M), :2]
        heading = np.stack((np.cos(poses[:, 2]), np.sin(poses[:, 2])), axis=-1)
        along = np.linspace(-np.array(self._rear_m), np.array(self._front_m), 4, axis=1)
        spots = poses[:, None, :2] + along[:, :, None] * heading[:, None]
        a, b = paths.reshape(-1, 2), spots.reshape(-1, 2)
        squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
        near = (squared < _LANE_HALF_M**2).reshape(len(poses), len(_AHEAD_M), len(poses), 4)
        blocked = near.any(axis=3).transpose(0, 2, 1)  # [vehicle, other, place on the path]
        blocked[np.arange(len(poses)), np.arange(len(poses))] = False
        limits = np.full(len(poses), np.inf)
        for vehicle, other in np.argwhere(blocked.any(axis=2)):
            gap = _AHEAD_M[int(np.argmax(blocked[vehicle, other]))] - self._front_m[vehicle] - 3.0
            with_it = max(float(heading[vehicle] @ heading[other]), 0.0) * speed[other]
            limit = np.sqrt(with_it**2 + 2 * BRAKE_MPS2 * gap) if gap > 0 else 0.6 * with_it
            limits[vehicle] = min(limits[vehicle], limit)
        return limits

    def _yielding_limits(self, distance: Array, speed: Array, spots: Array) -> Array:
        """Speed from which each vehicle can still stop before people [k, 2] on its path; those too near it drive on."""
        limits = np.full(len(distance), np.inf)
        if not len(spots):
            return limits
        paths = self._tracks[np.arange(len(distance))[:, None], self._index(distance[:, None] + _AHEAD_M), :2]
        near = np.linalg.norm(paths[:, :, None] - spots, axis=3).min(axis=2) < _LANE_HALF_M + 0.5
        for vehicle in np.flatnonzero(near.any(axis=1)):
            gaps = _AHEAD_M[near[vehicle]] - self._front_m[vehicle]
            gap = max(float(gaps.min()) - 1.2, 0.0)
            if speed[vehicle] ** 2 <= 2 * _FIRM_BRAKE * (gap + 1.0):
                limits[vehicle] = np.sqrt(2 * BRAKE_MPS2 * gap)
        return limits

    def _index(self, distance_m: Array) -> NDArray[np.int64]:
        return np.asarray(np.minimum(distance_m / PATH_STEP_M + 0.5, self._tracks.shape[1] - 1), np.int64)

    def _turn_taking(
        self, vehicle: int, distance: Array, next_crossing: list[int], holders: dict[int, list[tuple[int, int]]]
    ) -> float:
        """Speed from which a vehicle can stop before an intersection that it may not enter yet; infinity when it may.

        `next_crossing` and `holders` (INOUT): each vehicle's next crossing, and who has been let into an intersection.
        """
        crossings = self._routes[vehicle].crossings
        at = float(distance[vehicle])
        if next_crossing[vehicle] and at - self._rear_m[vehicle] > crossings[next_crossing[vehicle] - 1].end_m:
            place = crossings[next_crossing[vehicle] - 1].intersection
            entry = (vehicle, next_crossing[vehicle] - 1)
            if entry in holders.get(place, []):
                holders[place].remove(entry)
        if next_crossing[vehicle] >= len(crossings):
            return np.inf
        crossing = crossings[next_crossing[vehicle]]
        to_stop = crossing.stop_m - at - self._front_m[vehicle]
        reach = 55.0 if vehicle == 0 else 28.0
        inside = holders.setdefault(crossing.intersection, [])
        if at > crossing.begin_m:
            next_crossing[vehicle] += 1
        entry = (vehicle, next_crossing[vehicle] - (1 if at > crossing.begin_m else 0))
        if entry in inside or to_stop > reach:
            return np.inf
        if not any(self._conflict(entry, other) for other in inside):
            inside.append(entry)
            return np.inf
        return float(np.sqrt(2 * BRAKE_MPS2 * max(to_stop, 0.0)))

    def _conflict(self, first: tuple[int, int], second: tuple[int, int]) -> bool:
        """Whether two passages of one intersection come so close that only one vehicle may be in it."""
        key = (*min(first, second), *max(first, second))
        if key not in self._conflicts:
            a, b = (self._routes[v].crossings[c] for v, c in (first, second))
            if a.arm == b.arm:
                self._conflicts[key] = False
            else:
                near, far = (self._sweep(v, c) for v, c in ((first[0], a), (second[0], b)))
                self._conflicts[key] = bool((np.linalg.norm(near[:, None] - far[None], axis=2) < 3.0).any())
        return self._conflicts[key]

    def _sweep(self, vehicle: int, crossing: Crossing) -> Array:
        positions = np.arange(crossing.begin_m - 3.0, crossing.end_m + 4.0, 1.0)
        return self._routes[vehicle].poses(positions)[:, :2]
