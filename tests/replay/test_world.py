from __future__ import annotations

import numpy as np
import pytest
from octobev.fusion.grid import BevGrid
from octobev.fusion.pose import Pose
from octobev.replay.bodies import OTHER, PEDESTRIAN, VEHICLE
from octobev.replay.world import START_NS, World, _widened, _within

GRID = BevGrid(-24.0, 40.0, -24.0, 24.0, 0.5)
NOW_NS = START_NS + 5_000_000_000


@pytest.fixture(scope="module")
def world() -> World:
    return World(11, 10.0)


def test_the_truth_has_streets_with_edges_around_the_ego(world: World) -> None:
    layers, _ = world.truth(GRID, world.ego_pose(NOW_NS), NOW_NS)
    assert layers["drivable"][48, 48] == 1  # the ego stands on the street
    for name in ("drivable", "road_edge", "lane_divider", "occupancy"):
        assert 0.0 < layers[name].mean() < 0.8, name


def test_moving_the_grid_moves_the_truth(world: World) -> None:
    pose = world.ego_pose(NOW_NS)
    ahead = pose @ Pose.planar(5.0, 2.0, 0.0)
    here, _ = world.truth(GRID, pose, NOW_NS)
    there, _ = world.truth(GRID, ahead, NOW_NS)
    # five metres are ten cells: what lay at x is now at x - 10
    for name in ("drivable", "intersection", "road_edge"):
        assert np.array_equal(here[name][10:, 4:], there[name][:-10, :-4]), name


def test_turning_left_moves_the_truth_to_the_right(world: World) -> None:
    pose = world.ego_pose(NOW_NS)
    here, _ = world.truth(GRID, pose, NOW_NS)
    turned, _ = world.truth(GRID, pose @ Pose.planar(0.0, 0.0, np.pi / 2), NOW_NS)
    # after a left turn by a right angle a cell at (x, y) is at (y, -x)
    square = slice(0, 96)
    assert (turned["drivable"][square, square] == np.rot90(here["drivable"][square, square], -1)).mean() > 0.99


def test_corridor_direction_follows_the_street_below_the_ego(world: World) -> None:
    for seconds in (1, 2, 3):
        time_ns = START_NS + seconds * 1_000_000_000
        layers, _ = world.truth(GRID, world.ego_pose(time_ns), time_ns)
        if layers["intersection"][44:53, 44:53].any():
            continue
        assert abs(layers["direction_rad"][48, 48]) < np.radians(12)


def test_direction_is_known_exactly_on_streets_and_not_in_intersections(world: World) -> None:
    layers, _ = world.truth(GRID, world.ego_pose(NOW_NS), NOW_NS)
    known = np.isfinite(layers["direction_rad"])
    assert (layers["drivable"][known] == 1).all()
    assert not known[layers["intersection"] == 1].any()
    assert np.nanmax(np.abs(layers["direction_rad"])) <= np.float32(np.pi / 2)


def test_edges_surround_drivable_space(world: World) -> None:
    layers, _ = world.truth(GRID, world.ego_pose(NOW_NS), NOW_NS)
    drivable = layers["drivable"].astype(int)
    jumps = np.abs(np.diff(drivable, axis=0)) > 0
    beside = (layers["road_edge"][1:] | layers["road_edge"][:-1]) > 0
    assert beside[jumps].all()


def test_occupied_cells_know_their_thing(world: World) -> None:
    layers, things = world.truth(GRID, world.ego_pose(NOW_NS), NOW_NS)
    assert np.array_equal(things > 0, layers["occupancy"] > 0)


def test_a_moving_car_occupies_the_place_where_it_is(world: World) -> None:
    moving = world.moving_bodies(NOW_NS)
    people = int(moving.things[-1]) - len(world.pedestrians.models)  # who pass each other closely
    for centre, thing in zip(moving.footprints.mean(axis=1), moving.things, strict=True):
        if thing > people:
            continue
        _, things = world.truth(BevGrid(-2.0, 2.0, -2.0, 2.0, 0.5), Pose.planar(*centre.astype(float), 0.3), NOW_NS)
        assert things[4, 4] == thing


def test_parked_cars_do_not_stand_in_each_other(world: World) -> None:
    standing = world.standing
    assert len(np.unique(standing.things)) > 200
    middles = standing.footprints.mean(axis=1)
    apart = np.linalg.norm(middles[:, None] - middles[None], axis=2) + 10 * np.eye(len(middles))
    assert apart.min() > 0.15


def test_equal_seeds_give_equal_towns(world: World) -> None:
    again = World(11, 10.0)
    assert np.array_equal(world.ground.atlas, again.ground.atlas)
    assert np.array_equal(world.ground.layers, again.ground.layers)
    assert np.array_equal(world.standing.polygons, again.standing.polygons)
    assert np.array_equal(world.moving_bodies(NOW_NS).polygons, again.moving_bodies(NOW_NS).polygons)


def test_points_on_both_sides_of_an_outline() -> None:
    square = np.array([[1.0, -1], [1, 1], [-1, 1], [-1, -1]])
    points = np.array([[0.0, 0.0], [0.9, 0.9], [1.1, 0.0], [0.0, -1.1]])
    assert _within(points, square).tolist() == [True, True, False, False]


def test_a_pole_is_widened_to_half_a_metre_and_a_house_is_not() -> None:
    pole = 0.1 * np.array([[1.0, -1], [1, 1], [-1, 1], [-1, -1]]) + (3, 4)
    assert np.ptp(_widened(pole, 0.5), axis=0) == pytest.approx([0.5, 0.5])
    house = np.array([[5.0, -2], [5, 2], [-5, 2], [-5, -2]])
    assert _widened(house, 0.5) == pytest.approx(house)


def test_every_thing_is_of_the_kind_that_it_looks_like(world: World) -> None:
    bodies = [world.standing, world.moving_bodies(NOW_NS)]
    number = np.concatenate([placed.things for placed in bodies])
    footprints = np.concatenate([placed.footprints for placed in bodies])
    tops_m = np.concatenate([placed.tops_m for placed in bodies])
    long_m = np.linalg.norm(footprints[:, 0] - footprints[:, 3], axis=1)
    kinds = world.kinds[number]
    assert world.kinds[0] == 0
    assert number.max() == len(world.kinds) - 1
    cars, people = kinds == VEHICLE, kinds == PEDESTRIAN
    assert cars.sum() > 20
    assert people.sum() > 5
    assert ((long_m[cars] > 2.0) & (long_m[cars] < 9.5)).all()
    assert ((tops_m[people] > 1.4) & (tops_m[people] < 2.0) & (long_m[people] < 0.6)).all()
    assert (kinds[tops_m > 5.0] == OTHER).all()
    driving = world.moving_bodies(NOW_NS).things
    assert set(world.kinds[driving].tolist()) == {VEHICLE, PEDESTRIAN}
