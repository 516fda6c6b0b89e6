from __future__ import annotations

import numpy as np
import pytest
from octobev.replay.daylight import make_daylight
from octobev.replay.roads import RoadNetwork, make_network
from octobev.replay.routes import LATERAL_MPS2, make_route
from octobev.replay.scenery import ModelSet
from octobev.replay.traffic import EGO_BOX_M, Traffic

SECONDS = 16.0


@pytest.fixture(scope="module")
def network() -> RoadNetwork:
    return make_network(np.random.default_rng([7, 0]), 160.0)


@pytest.fixture(scope="module")
def traffic(network: RoadNetwork) -> Traffic:
    return Traffic(np.random.default_rng([7, 5]), network, SECONDS)


def corners(x: float, y: float, yaw: float, box: tuple[float, float, float, float]) -> np.ndarray:
    cos, sin = np.cos(yaw), np.sin(yaw)
    outline = np.array([[box[1], box[2]], [box[1], box[3]], [box[0], box[3]], [box[0], box[2]]])
    return outline @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


def overlap(first: np.ndarray, second: np.ndarray) -> bool:
    """Separating axes of two convex counter-clockwise outlines."""
    for own, other in ((first, second), (second, first)):
        edges = np.roll(own, -1, axis=0) - own
        outward = np.stack((edges[:, 1], -edges[:, 0]), axis=1)
        if ((other @ outward.T).min(axis=0) > (own * outward).sum(axis=1)).any():
            return False
    return True


def test_nobody_runs_into_the_ego(traffic: Traffic) -> None:
    models, light = ModelSet(traffic.models), make_daylight(np.random.default_rng(0))
    for time_s in np.arange(0, SECONDS, 0.5):
        ego = corners(*traffic.ego(time_s), EGO_BOX_M)
        for footprint in models.place(traffic.poses(time_s), light).footprints:
            assert not overlap(ego, footprint.astype(np.float64)), f"at {time_s} s"


def test_the_ego_drives_at_the_speed_of_town_traffic(traffic: Traffic) -> None:
    speeds = [traffic.ego_speed_mps(t) for t in np.arange(0.2, SECONDS, 0.2)]
    assert 4.0 < np.median(speeds) < 14.0
    assert max(speeds) < 14.5


def test_the_ego_does_not_corner_faster_than_people_do(traffic: Traffic) -> None:
    times = np.arange(0.2, SECONDS, 0.2)
    rates = [(traffic.ego(t + 0.1)[2] - traffic.ego(t - 0.1)[2]) / 0.2 for t in times]
    lateral = [abs(rate) * traffic.ego_speed_mps(t) for rate, t in zip(rates, times, strict=True)]
    assert max(lateral) < LATERAL_MPS2 + 0.4


def test_the_ego_moves_in_the_direction_it_faces(traffic: Traffic) -> None:
    for time_s in np.arange(0.5, SECONDS, 0.5):
        x, y, yaw = traffic.ego(time_s)
        ahead = np.subtract(traffic.ego(time_s + 0.1)[:2], (x, y))
        assert ahead @ (np.cos(yaw), np.sin(yaw)) > 0.98 * np.linalg.norm(ahead)


def test_what_happens_does_not_depend_on_how_long_it_is_simulated(network: RoadNetwork, traffic: Traffic) -> None:
    longer = Traffic(np.random.default_rng([7, 5]), network, SECONDS + 5.0)
    assert longer.poses(10.0) == pytest.approx(traffic.poses(10.0))
    assert longer.ego(10.0) == pytest.approx(traffic.ego(10.0))


@pytest.mark.parametrize("sense", [1, -1])
def test_routes_keep_to_the_right(network: RoadNetwork, sense: int) -> None:
    road = network.roads[0]
    route = make_route(np.random.default_rng(1), network, 0, sense, 0.0, 60.0)
    middle = (road.span_m[0] + road.span_m[1]) / 2
    centre = road.at(middle)
    nearest = route.points[np.argmin(np.linalg.norm(route.points - centre, axis=1))]
    heading = road.heading_at(middle) + (0.0 if sense > 0 else np.pi)
    to_the_right = (nearest - centre) @ (np.sin(heading), -np.cos(heading))
    assert 0.4 * road.profile.lane_m < to_the_right < road.profile.half_width_m
