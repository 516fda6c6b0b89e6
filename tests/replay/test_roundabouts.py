from __future__ import annotations

import numpy as np
import pytest
from octobev.replay.ground import DRIVABLE, EDGE, HALF_EXTENT_M, INTERSECTION, TRUTH_M
from octobev.replay.roads import RING_M, Intersection
from octobev.replay.routes import make_route
from octobev.replay.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return World(5, 2.0)


@pytest.fixture(scope="module")
def rings(world: World) -> list[Intersection]:
    found = [place for place in world.network.intersections if place.island_m > 0]
    assert len(found) > 1
    return found


def layers_at(world: World, points: np.ndarray) -> np.ndarray:
    column, row = np.floor((points + HALF_EXTENT_M) / TRUTH_M).astype(int).T
    return world.ground.layers[row, column]


def circle(place: Intersection, radius_m: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 60)
    return place.centre + radius_m * np.stack((np.cos(angles), np.sin(angles)), axis=-1)


def test_one_drives_around_an_island_and_not_over_it(world: World, rings: list[Intersection]) -> None:
    for place in rings:
        for radius_m in (place.island_m + 0.5, place.island_m + RING_M / 2, place.island_m + RING_M - 0.5):
            assert (layers_at(world, circle(place, radius_m)) & DRIVABLE > 0).all()
        island = layers_at(world, np.concatenate((circle(place, 0.5), circle(place, place.island_m - 1.0))))
        assert not (island & DRIVABLE).any()
        assert (layers_at(world, circle(place, place.island_m)) & EDGE > 0).all()
        assert (island & INTERSECTION > 0).all()


def test_most_of_a_ring_has_a_curb_on_the_outside(world: World, rings: list[Intersection]) -> None:
    for place in rings:
        outside = layers_at(world, circle(place, place.island_m + RING_M + 1.0)) & DRIVABLE > 0
        assert 0.1 < outside.mean() < 0.9  # where arms come in, and nowhere else


def test_small_rings_have_room_for_their_arms(rings: list[Intersection]) -> None:
    for place in rings:
        distance = np.linalg.norm(place.outline - place.centre, axis=1)
        assert distance.min() > place.island_m + RING_M - 0.5


def test_traffic_goes_around_counter_clockwise_and_stays_on_the_street(world: World) -> None:
    passages = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        road = int(rng.integers(len(world.network.roads)))
        route = make_route(rng, world.network, road, int(rng.choice((-1, 1))), 2.0, 220.0)
        for crossing in route.crossings:
            place = world.network.intersections[crossing.intersection]
            if place.island_m == 0:
                continue
            way = route.poses(np.arange(crossing.begin_m, crossing.end_m, 0.5))[:, :2]
            assert (layers_at(world, way) & DRIVABLE > 0).all()
            apart = way - place.centre
            assert np.linalg.norm(apart, axis=1).min() > place.island_m + 1.2  # half a car and a little
            turned = np.diff(np.unwrap(np.arctan2(apart[:, 1], apart[:, 0])))
            assert turned.sum() > 0
            passages += 1
    assert passages > 10
