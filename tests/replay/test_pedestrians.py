from __future__ import annotations

import numpy as np
import pytest
from octobev.fusion.grid import BevGrid
from octobev.replay.ground import CROSSWALK, DRIVABLE, HALF_EXTENT_M, TRUTH_M
from octobev.replay.pedestrians import Pedestrians
from octobev.replay.world import START_NS, World

SECONDS = 24.0
TIMES = np.arange(0.0, SECONDS, 0.5)


@pytest.fixture(scope="module")
def world() -> World:
    return World(21, SECONDS)


def layers_at(world: World, points: np.ndarray) -> np.ndarray:
    column, row = np.floor((points + HALF_EXTENT_M) / TRUTH_M).astype(int).T
    return world.ground.layers[row, column]


def test_people_walk_at_the_pace_of_people_and_look_ahead(world: World) -> None:
    step = 0.1
    here, there = (world.pedestrians.poses(10.0 + t) for t in (0.0, step))
    speeds = np.linalg.norm(there[:, :2] - here[:, :2], axis=1) / step
    assert len(here) > 20
    assert speeds.max() < 1.65
    assert np.median(speeds) > 0.9
    walking = speeds > 0.9
    facing = np.stack((np.cos(here[:, 2]), np.sin(here[:, 2])), axis=1)
    along = ((there - here)[:, :2] * facing).sum(axis=1)[walking] / step
    assert np.median(along / speeds[walking]) > 0.99


def test_people_are_on_the_street_on_crosswalks_only(world: World) -> None:
    on_street = on_crosswalk = 0
    for time_s in TIMES:
        layers = layers_at(world, world.pedestrians.poses(time_s)[:, :2])
        on_street += int((layers & DRIVABLE > 0).sum())
        on_crosswalk += int((layers & CROSSWALK > 0).sum())
    assert on_crosswalk > 20
    assert on_street - on_crosswalk < 0.1 * on_crosswalk  # the first and last step, beside the curb


def test_drivers_foresee_who_is_on_a_crosswalk(world: World) -> None:
    crossing = 0
    for time_s in TIMES:
        people = world.pedestrians.poses(time_s)[:, :2]
        people = people[layers_at(world, people) & CROSSWALK > 0]
        spots = world.pedestrians.on_crosswalks(time_s)
        for person in people:
            assert np.linalg.norm(spots - person, axis=1).min() < 0.01
        crossing += len(people)
    assert crossing > 20


@pytest.mark.parametrize("seed", [3, 15, 21])
def test_nobody_is_run_over(seed: int) -> None:
    town = World(seed, SECONDS)
    cars = len(town.traffic.models)
    for time_s in TIMES[6:]:  # traffic starts at speed, wherever somebody is
        now_ns = START_NS + round(time_s * 1e9)
        bodies = town.moving_bodies(now_ns)
        crossing = town.pedestrians.on_crosswalks(time_s)[::5]
        boxes = [f.astype(np.float64) for f, thing in zip(bodies.footprints, bodies.things, strict=True) if thing]
        first_person = int(bodies.things[-1]) - len(town.pedestrians.models) + 1
        boxes = [box for box, thing in zip(boxes, bodies.things, strict=True) if thing < first_person]
        assert len(boxes) >= cars
        ego = town.ego_pose(now_ns).apply(np.array([[3.7, -0.95, 0], [3.7, 0.95, 0], [-1, 0.95, 0], [-1, -0.95, 0.0]]))
        for box in [*boxes, ego[:, :2]]:
            edges = np.roll(box, -1, axis=0) - box
            for person in crossing:
                inside = (edges[:, 0] * (person[1] - box[:, 1]) - edges[:, 1] * (person[0] - box[:, 0]) > 0).all()
                assert not inside, f"at {time_s} s"


def test_everybody_is_in_the_ground_truth(world: World) -> None:
    grid, seen = BevGrid(-24.0, 40.0, -24.0, 24.0, 0.5), 0
    for time_s in TIMES[::6]:
        now_ns = START_NS + round(time_s * 1e9)
        pose = world.ego_pose(now_ns)
        layers, things = world.truth(grid, pose, now_ns)
        people = world.pedestrians.poses(time_s)[:, :2]
        in_ego = pose.inverse().apply(np.column_stack((people, np.zeros(len(people)))))[:, :2]
        cells, inside = grid.cell_of(in_ego)
        first = int(world.moving_bodies(now_ns).things[-1]) - len(people) + 1
        seen += int(inside.sum())
        for person in np.flatnonzero(inside):
            assert (things == first + person).sum() in range(1, 7)
            assert layers["occupancy"][tuple(cells[person])] == 1
    assert seen > 5


def test_equal_seeds_give_equal_people(world: World) -> None:
    again = Pedestrians(np.random.default_rng([21, 7]), world.network)
    assert np.array_equal(again.poses(5.0), world.pedestrians.poses(5.0))
