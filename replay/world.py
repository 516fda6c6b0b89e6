"""A synthetic town: streets, what stands beside them, who drives there, the light of the day, and the exact truth."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..fusion.grid import BevGrid
from ..fusion.pose import Pose
from .daylight import make_daylight
from .ground import (
    CROSSWALK,
    DIVIDER,
    DRIVABLE,
    EDGE,
    HALF_EXTENT_M,
    INTERSECTION,
    TRUTH_M,
    draw_layout,
    fill,
    make_ground,
)
from .markings import MarkingStyle, make_markings
from .pedestrians import Pedestrians
from .roads import make_network
from .scenery import Bodies, ModelSet, furnish, shadow_outlines
from .suspension import Suspension
from .traffic import STEP_S, Traffic

START_NS: Final = 1_700_000_000_000_000_000
"""When the town's clock starts, nanoseconds since the epoch."""

_BITS: Final = {
    "drivable": DRIVABLE,
    "lane_divider": DIVIDER,
    "road_edge": EDGE,
    "crosswalk": CROSSWALK,
    "intersection": INTERSECTION,
}


class World:
    """A town made from a seed.

    Parameters
    ----------
    seed : equal seeds give equal towns
    seconds : how long traffic is simulated, from :data:`START_NS`; what happens does not depend on it;
        at later times everybody stands where the simulation ended

    Attributes
    ----------
    network : streets and intersections
    ground : rasters of the look and of the truth
    light : sun, sky and haze
    standing : houses, trees, parked cars and all else that does not move
    pedestrians : people who walk
    traffic : where moving cars and the ego are over time
    suspension : how the ego's body tilts over time
    kinds : uint8, what each thing is by its number, see :data:`~octobev.replay.bodies.KINDS`
    """

    def __init__(self, seed: int, seconds: float = 30.0) -> None:
        self.seed = seed
        streams = [np.random.default_rng([seed, part]) for part in range(8)]
        self.network = make_network(streams[0], HALF_EXTENT_M)
        markings = make_markings(self.network, MarkingStyle.draw(streams[1]))
        self.light = make_daylight(streams[2])
        layout = draw_layout(self.network, markings)
        scenery = furnish(streams[3], self.network, layout[0], (layout[2] > -2.45).astype(np.uint8))
        furniture = ModelSet(scenery.things)
        self.standing = furniture.place(np.array(scenery.poses).reshape(-1, 3), self.light)
        shadows = shadow_outlines(self.standing, self.light)
        self.ground = make_ground(streams[4], self.network, markings, layout, shadows, self.light)
        self._occupied = np.zeros(self.ground.layers.shape, np.int32)
        for footprint, thing in zip(self.standing.footprints, self.standing.things, strict=True):
            fill(self._occupied, [_widened(footprint.astype(np.float64), 0.5)], int(thing), TRUTH_M)
        self.pedestrians = Pedestrians(streams[7], self.network)
        self.traffic = Traffic(streams[5], self.network, seconds, self.pedestrians)
        self._speed_mps, self._yaw_rate_rps = self.traffic.ego_motion()
        self.suspension = Suspension(streams[6], self._speed_mps, self._yaw_rate_rps)
        self._movers = ModelSet([*self.traffic.models, *self.pedestrians.models], first_thing=len(scenery.things) + 1)
        self.kinds = np.concatenate((np.zeros(1, np.uint8), furniture.kinds, self._movers.kinds))

    def moving_bodies(self, timestamp_ns: int) -> Bodies:
        """Cars and trucks that drive and people who walk, where they are at a time."""
        time_s = (timestamp_ns - START_NS) * 1e-9
        poses = np.concatenate((self.traffic.poses(time_s), self.pedestrians.poses(time_s)))
        return self._movers.place(poses, self.light)

    def ego_pose(self, timestamp_ns: int) -> Pose:
        """`world_from_ego` at a time; the ego frame stays level on the ground."""
        return Pose.planar(*self.traffic.ego((timestamp_ns - START_NS) * 1e-9))

    def ego_motion(self, timestamp_ns: int) -> tuple[float, float]:
        """Speed (m/s) and yaw rate (rad/s) of the ego at a time."""
        step = (timestamp_ns - START_NS) * 1e-9 / STEP_S
        steps = np.arange(len(self._speed_mps))
        return float(np.interp(step, steps, self._speed_mps)), float(np.interp(step, steps, self._yaw_rate_rps))

    def body_pose(self, timestamp_ns: int, tilt: float = 1.0) -> Pose:
        """`world_from_body` at a time: the ego's pose, pitched and rolled `tilt` times as an ordinary car."""
        time_s = (timestamp_ns - START_NS) * 1e-9
        return self.ego_pose(timestamp_ns) @ self.suspension.ego_from_body(time_s, tilt)

    def truth(self, grid: BevGrid, world_from_ego: Pose, timestamp_ns: int) -> tuple[dict[str, Any], NDArray[np.int32]]:
        """Ground truth on a grid around the ego, without visibility.

        Returns
        -------
        layers : name -> uint8 [nx, ny]; `direction_rad` float32 in the ego frame
        things : int32 [nx, ny], number of the thing that stands in the cell, 0 for none
        """
        centres = grid.centres()
        points = world_from_ego.apply(np.concatenate((centres, np.zeros((*centres.shape[:2], 1))), axis=2))[..., :2]
        cells = np.floor((points + HALF_EXTENT_M) / TRUTH_M).astype(np.int64)
        inside = ((cells >= 0) & (cells < self.ground.layers.shape[0])).all(axis=-1)
        column, row = np.where(inside[..., None], cells, 0).transpose(2, 0, 1)
        bits = np.where(inside, self.ground.layers[row, column], 0)
        layers: dict[str, Any] = {name: ((bits & bit) > 0).astype(np.uint8) for name, bit in _BITS.items()}
        direction = np.where(inside, self.ground.direction_rad[row, column], np.nan) - world_from_ego.yaw_rad
        layers["direction_rad"] = ((direction + np.pi / 2) % np.pi - np.pi / 2).astype(np.float32)
        things = np.where(inside, self._occupied[row, column], 0)
        moving = self.moving_bodies(timestamp_ns)
        middles = np.concatenate((moving.centres, np.zeros((len(moving.centres), 1))), axis=1, dtype=np.float64)
        in_ego = world_from_ego.inverse().apply(middles)[:, :2]
        reach_m = moving.radii[:, None] + grid.resolution_m
        low, high = (np.clip(grid.cell_of(in_ego + side * reach_m)[0], 0, grid.shape) for side in (-1, 1))
        for body in np.flatnonzero((low < high).all(axis=1)):
            footprint = _widened(moving.footprints[body].astype(np.float64), grid.resolution_m * np.sqrt(2))
            window = np.s_[low[body, 0] : high[body, 0], low[body, 1] : high[body, 1]]
            things[window][_within(points[window], footprint)] = moving.things[body]
        layers["occupancy"] = (things > 0).astype(np.uint8)
        return layers, things


def _widened(footprint: NDArray[np.float64], least_m: float) -> NDArray[np.float64]:
    """A footprint at least so long and wide that even a pole or a person marks a cell of the grid."""
    middle = footprint.mean(axis=0)
    axes = (footprint[0] - footprint[3], footprint[1] - footprint[0])
    widened = np.zeros_like(footprint)
    for axis, signs in zip(axes, ((1, 1, -1, -1), (-1, 1, 1, -1)), strict=True):
        length = float(np.linalg.norm(axis))
        widened += np.outer(signs, axis / length * max(length, least_m) / 2)
    return np.asarray(middle + widened)


def _within(points: NDArray[np.float64], outline: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points [..., 2] lie in a convex counter-clockwise outline."""
    edges = np.roll(outline, -1, axis=0) - outline
    inside = np.ones(points.shape[:-1], np.bool_)
    for corner, edge in zip(outline, edges, strict=True):
        inside &= edge[0] * (points[..., 1] - corner[1]) - edge[1] * (points[..., 0] - corner[0]) >= 0
    return inside
