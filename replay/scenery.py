"""What stands where in the synthetic town: houses, trees, street furniture, parked cars and people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from . import bodies
from .bodies import Model
from .daylight import Daylight
from .ground import DRIVABLE, HALF_EXTENT_M, TRUTH_M
from .roads import Road, RoadNetwork

Array = NDArray[np.float64]

_SIDEWALK_END_M: Final = 2.45
_CELL_M: Final = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Bodies:
    """Placed and lit models, packed into arrays, world frame.

    polygons : float32 [f, CORNERS, 3]; bgr : float32 [f, 3], lit; normals : float32 [f, 3]; detail : bool [f]
    first : int64 [b + 1], where each body's polygons begin
    footprints : float32 [b, 4, 2]; centres : float32 [b, 2]; radii : float32 [b], a circle around all its polygons
    tops_m : float32 [b], height; screens_m : float32 [b], see :class:`Model`
    extents_m : float32 [f], longest side of each polygon's bounding box
    things : int32 [b], number of the thing that the body is a part of, from 1
    """

    polygons: NDArray[np.float32]
    bgr: NDArray[np.float32]
    normals: NDArray[np.float32]
    detail: NDArray[np.bool_]
    first: NDArray[np.int64]
    footprints: NDArray[np.float32]
    centres: NDArray[np.float32]
    radii: NDArray[np.float32]
    tops_m: NDArray[np.float32]
    screens_m: NDArray[np.float32]
    extents_m: NDArray[np.float32]
    things: NDArray[np.int32]


class ModelSet:
    """Models packed once, to be placed many times.

    Parameters
    ----------
    models : the parts of each thing; all parts of a thing move together
    first_thing : number of the first thing

    Attributes
    ----------
    kinds : uint8 [things], numbers of :data:`~octobev.replay.bodies.KINDS`
    """

    def __init__(self, models: Sequence[Sequence[Model]], first_thing: int = 1) -> None:
        parts = [(index, part) for index, thing in enumerate(models) for part in thing]
        self.things = len(models)
        self.kinds = np.array([thing[0].kind for thing in models], np.uint8)
        self._thing = np.array([index for index, _ in parts], np.int64)
        counts = [len(part.polygons) for _, part in parts]
        self._first = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        self._thing_of_polygon = np.repeat(self._thing, counts)
        self._polygons = _stack([part.polygons for _, part in parts], (bodies.CORNERS, 3))
        self._normals = _stack([part.normals for _, part in parts], (3,))
        self._bgr = _stack([part.bgr for _, part in parts], (3,))
        self._detail = np.concatenate([part.detail for _, part in parts]) if parts else np.zeros(0, np.bool_)
        self._glow = np.concatenate([part.glow for _, part in parts]) if parts else np.zeros(0, np.bool_)
        self._footprints = _stack([part.footprint for _, part in parts], (4, 2))
        self._radii = np.array(
            [np.linalg.norm(part.polygons[..., :2], axis=-1).max() for _, part in parts], np.float32
        ).reshape(-1)
        self._tops = np.array([part.polygons[..., 2].max() for _, part in parts], np.float32).reshape(-1)
        self._screens = np.array([part.screen_m for _, part in parts], np.float32).reshape(-1)
        self._extents = np.ptp(self._polygons, axis=1).max(axis=1).astype(np.float32)
        self._numbers = (self._thing + first_thing).astype(np.int32)

    def place(self, poses: Array, light: Daylight) -> Bodies:
        """Put thing i at `poses[i]` = (x, y, yaw)."""
        cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        rotation = np.stack((cos, -sin, sin, cos), axis=-1).reshape(-1, 2, 2)
        thing = self._thing_of_polygon
        c, s = cos[thing], sin[thing]
        x, y = self._polygons[..., 0], self._polygons[..., 1]
        polygons = np.empty(self._polygons.shape, np.float32)
        polygons[..., 0] = c[:, None] * x - s[:, None] * y + poses[thing, 0, None]
        polygons[..., 1] = s[:, None] * x + c[:, None] * y + poses[thing, 1, None]
        polygons[..., 2] = self._polygons[..., 2]
        x, y = self._normals[:, 0], self._normals[:, 1]
        normals = np.stack((c * x - s * y, s * x + c * y, self._normals[:, 2]), axis=-1)
        bgr = np.where(self._glow[:, None], self._bgr, self._bgr * light.shade(normals))
        footprints = self._footprints @ rotation[self._thing].transpose(0, 2, 1) + poses[self._thing, None, :2]
        return Bodies(
            polygons,
            np.clip(bgr, 0, 255).astype(np.float32),
            normals.astype(np.float32),
            self._detail,
            self._first,
            footprints.astype(np.float32),
            poses[self._thing, :2].astype(np.float32),
            self._radii,
            self._tops,
            self._screens,
            self._extents,
            self._numbers,
        )


def _stack(arrays: Sequence[Array], shape: tuple[int, ...]) -> Array:
    return np.concatenate([np.zeros((0, *shape)), *(a.reshape(-1, *shape) for a in arrays)])


class Scenery:
    """Places things one by one where there is room for them.

    things : the parts of each thing placed
    poses : (x, y, yaw) of each
    """

    def __init__(self, rng: np.random.Generator, layers: NDArray[np.uint8], blocked: NDArray[np.uint8]) -> None:
        self._rng = rng
        self.things: list[list[Model]] = []
        self.poses: list[tuple[float, float, float]] = []
        shrink = round(_CELL_M / TRUTH_M)
        self._street = np.ascontiguousarray((layers & DRIVABLE)[::shrink, ::shrink])
        self._walk = np.ascontiguousarray(blocked[::shrink, ::shrink])
        self._taken = np.zeros_like(self._street)

    def free(self, at: Array, radius_m: float) -> bool:
        """Whether four spots around a place are neither street, sidewalk nor taken: cheaper than to try in vain."""
        spots = at + radius_m * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
        column, row = np.clip((spots + HALF_EXTENT_M) / _CELL_M, 0, len(self._walk) - 1).astype(int).T
        return not bool((self._walk[row, column] | self._taken[row, column]).any())

    def add(self, parts: list[Model], at: Array, yaw: float, *, margin_m: float, avoid: str) -> bool:
        """Place a thing unless it would overlap: `avoid` is "walk" (streets and sidewalks), "street" or "nothing"."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        outlines = []
        for part in parts:
            reach = part.footprint + margin_m * np.sign(part.footprint - part.footprint.mean(axis=0))
            outlines.append(reach @ np.array([[cos, sin], [-sin, cos]]) + at)
        points = np.concatenate(outlines)
        if np.abs(points).max() > HALF_EXTENT_M - 1:
            return False
        low = np.floor((points.min(axis=0) + HALF_EXTENT_M) / _CELL_M).astype(int)
        high = np.ceil((points.max(axis=0) + HALF_EXTENT_M) / _CELL_M).astype(int) + 1
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        for outline in outlines:
            cells = (outline + HALF_EXTENT_M) / _CELL_M - 0.5 - low
            cv2.fillPoly(mask, [np.round(cells * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        rasters = {"walk": (self._walk, self._taken), "street": (self._street, self._taken)}.get(avoid, (self._taken,))
        if any((mask & raster[window]).any() for raster in rasters):
            return False
        self._taken[window] |= mask
        self.things.append(parts)
        self.poses.append((float(at[0]), float(at[1]), yaw))
        return True


def furnish(
    rng: np.random.Generator, network: RoadNetwork, layers: NDArray[np.uint8], blocked: NDArray[np.uint8]
) -> Scenery:
    """Fill the town."""
    scenery = Scenery(rng, layers, blocked)
    for lot in network.lots:
        _park_in_lot(rng, scenery, network.roads[lot.road], lot.span_m, lot.stall_m)
    for road in network.roads:
        for end in (0, 1):
            ring = network.intersections[road.ends[end]].island_m > 0
            _signals(rng, scenery, road, end, ring)
    green = rng.uniform(0.3, 1.0)
    for road in network.roads:
        if road.profile.parking_m > 0:
            _park_at_curb(rng, scenery, road)
        _along(rng, scenery, road, (24, 34), lambda: bodies.lamp_post(rng), (0.7, 0.8), "street", inward=True)
        _along(rng, scenery, road, (14, 60), lambda: bodies.person(rng), (0.7, 1.8), "street")
        _along(rng, scenery, road, (20, 70), lambda: bodies.cabinet(rng), (1.7, 2.1), "street")
        _along(rng, scenery, road, (30, 80), lambda: bodies.sign(rng), (0.6, 0.8), "street")
        if rng.random() < 0.5:
            _along(rng, scenery, road, (8 / green, 16 / green), lambda: bodies.tree(rng), (1.5, 1.9), "street")
        _build(rng, scenery, road)
        _along(
            rng,
            scenery,
            road,
            (9 / green, 40 / green),
            lambda: bodies.hedge(rng, rng.uniform(3, 8)),
            (3.0, 3.4),
            "walk",
        )
        _along(rng, scenery, road, (7 / green, 20 / green), lambda: bodies.tree(rng), (4.0, 12.0), "walk")
    for _ in range(int(260 * green)):
        scenery.add(bodies.tree(rng), rng.uniform(-158, 158, 2), 0.0, margin_m=1.5, avoid="walk")
    for _ in range(60):
        at, length, depth = rng.uniform(-150, 150, 2), rng.uniform(9, 24), rng.uniform(8, 13)
        if scenery.free(at, depth / 2):
            scenery.add(bodies.building(rng, length, depth), at, rng.uniform(0, 3), margin_m=2.0, avoid="walk")
    return scenery


def _along(
    rng: np.random.Generator,
    scenery: Scenery,
    road: Road,
    spacing_m: tuple[float, float],
    make: Callable[[], list[Model]],
    behind_curb_m: tuple[float, float],
    avoid: str,
    *,
    inward: bool = False,
) -> None:
    """Place things on both sides of a road, at a distance behind the curb."""
    begin, end = road.span_m
    for side in (-1, 1):
        arc = begin + rng.uniform(0, spacing_m[1])
        while arc < end:
            offset = side * (road.profile.half_width_m + rng.uniform(*behind_curb_m))
            yaw = road.heading_at(arc) + (-side * np.pi / 2 if inward else (0.0 if side > 0 else np.pi))
            scenery.add(make(), road.at(arc, offset), yaw, margin_m=0.1, avoid=avoid)
            arc += rng.uniform(*spacing_m)


def _build(rng: np.random.Generator, scenery: Scenery, road: Road) -> None:
    begin, end = road.span_m
    town = road.profile.kind != "residential" and rng.random() < 0.6
    for side in (-1, 1):
        arc = begin - 5.0
        while arc < end + 5.0:
            length, depth = (
                (rng.uniform(14, 30), rng.uniform(11, 16)) if town else (rng.uniform(8, 13), rng.uniform(7, 10))
            )
            setback = rng.uniform(1.0, 6.0) if town else rng.uniform(3.5, 9.0)
            offset = side * (road.profile.half_width_m + _SIDEWALK_END_M + setback + depth / 2)
            middle = arc + length / 2
            at = road.at(middle, offset)
            if rng.random() < 0.85 and scenery.free(at, min(length, depth) / 2):
                yaw = road.heading_at(float(np.clip(middle, begin, end)))
                scenery.add(bodies.building(rng, length, depth), at, yaw, margin_m=0.6, avoid="walk")
            arc += length + (rng.uniform(1, 8) if town else rng.uniform(3, 14))


def _park_at_curb(rng: np.random.Generator, scenery: Scenery, road: Road) -> None:
    begin, end = road.span_m
    profile = road.profile
    density = rng.uniform(0.3, 0.85)
    for side in (-1, 1):
        offset = side * (profile.lanes * profile.lane_m + profile.parking_m / 2 + 0.12)
        for arc in np.arange(begin + 9.0, end - 9.0, 6.3):
            if rng.random() < density:
                yaw = road.heading_at(arc) + (0.0 if side < 0 else np.pi) + rng.normal(0, 0.015)
                at = road.at(arc + rng.uniform(-0.4, 0.4), offset + rng.uniform(-0.08, 0.08))
                scenery.add(bodies.car(rng), at, yaw, margin_m=0.05, avoid="nothing")


def _park_in_lot(
    rng: np.random.Generator, scenery: Scenery, road: Road, span_m: tuple[float, float], stall_m: float
) -> None:
    density = rng.uniform(0.3, 0.8)
    count = round((span_m[1] - span_m[0]) / stall_m)
    for stall in range(max(count, 0)):
        arc = span_m[0] + (stall + 0.5) * stall_m
        for side in (-1, 1):
            if rng.random() < density:
                offset = side * (road.profile.half_width_m + 2.6 + rng.uniform(-0.15, 0.25))
                yaw = road.heading_at(arc) + rng.choice((-1, 1)) * np.pi / 2 + rng.normal(0, 0.02)
                scenery.add(bodies.car(rng), road.at(arc, offset), yaw, margin_m=0.02, avoid="nothing")


def _signals(rng: np.random.Generator, scenery: Scenery, road: Road, end: int, ring: bool) -> None:
    """A signal or a sign at the right-hand side of the traffic that comes to an intersection; a sign at a ring."""
    if road.profile.kind == "aisle":
        return
    inward = -1 if end == 0 else 1  # direction of that traffic along the road's points
    arc = road.span_m[end] - inward * (4.2 if road.crosswalks[end] else 1.0)
    offset = -inward * (road.profile.half_width_m + 0.65)
    facing = road.heading_at(arc) + (np.pi if inward > 0 else 0.0)
    lit = road.crosswalks[end] and road.profile.kind != "residential" and not ring
    make = bodies.traffic_light if lit else bodies.sign
    scenery.add(make(rng), road.at(arc, offset), facing, margin_m=0.05, avoid="street")


def shadow_outlines(placed: Bodies, light: Daylight, chosen_bodies: NDArray[np.int64] | None = None) -> list[Array]:
    """Where bodies (None: all) shade the ground: the hull of each one's polygons along the light, world frame."""
    outlines = []
    reach = -light.sun[:2] / max(light.sun[2], 0.12)
    for body in range(len(placed.things)) if chosen_bodies is None else chosen_bodies:
        chosen = slice(placed.first[body], placed.first[body + 1])
        solid = placed.polygons[chosen][~placed.detail[chosen]].reshape(-1, 3)
        spots = (solid[:, :2] + solid[:, 2:] * reach).astype(np.float32)
        outlines.append(cv2.convexHull(spots)[:, 0].astype(np.float64))
    return outlines
