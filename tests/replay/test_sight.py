from __future__ import annotations

import numpy as np
import pytest
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera
from octobev.replay.render import Renderer
from octobev.replay.rigs import fisheye_rig, optical_mounting
from octobev.replay.sight import visible_from
from octobev.replay.world import START_NS, World

FRONT = Camera("front", Intrinsics(100, 100, 50.0, 50.0, 49.5, 49.5), optical_mounting(0, 0, 1.0, 0, 0))


class Wall:
    """Thing 7, eight metres ahead, above a row; the ground below it."""

    def __init__(self, foot_row: int) -> None:
        self.foot_row = foot_row

    def look(self, column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rays, _ = FRONT.intrinsics.unproject(np.stack((column, row), axis=-1).astype(float))
        wall = row < self.foot_row
        with np.errstate(divide="ignore"):
            return np.where(wall, 7, 0).astype(np.int32), np.where(wall, 8 / rays[:, 2], 1 / rays[:, 1])


def test_a_cell_behind_a_wall_is_hidden_and_one_before_it_is_not() -> None:
    points = np.array([[[4.0, 0.0, 0.0], [12.0, 0.0, 0.0], [8.1, 0.0, 0.0], [-3.0, 0.0, 0.0]]])
    things = np.array([[0, 0, 7, 0]], np.int32)
    # the foot of a wall eight metres ahead is in row 49.5 + 50 / 8 = 55.75
    assert visible_from(FRONT, Pose.identity(), Wall(57), points, things).tolist() == [[True, False, True, False]]


def test_the_far_end_of_a_long_thing_is_not_visible() -> None:
    points, things = np.array([[[9.0, 0.0, 0.0], [14.0, 0.0, 0.0]]]), np.array([[7, 7]], np.int32)
    assert visible_from(FRONT, Pose.identity(), Wall(100), points, things).tolist() == [[True, False]]


@pytest.fixture(scope="module")
def world() -> World:
    return World(3, 8.0)


@pytest.mark.parametrize("name", ["front", "left", "rear"])
def test_what_a_fisheye_sees_lies_on_things_even_behind_its_plane(world: World, name: str) -> None:
    chosen = fisheye_rig()[name]
    camera = Camera(name, chosen.intrinsics.resized(640, 480), chosen.ego_from_camera)
    now_ns = START_NS + 4_000_000_000
    pose = world.ego_pose(now_ns)
    view = Renderer(world, effects=False).render(camera, pose, now_ns, labels=True)
    row, column = np.nonzero(view.things > 0)
    things, range_m = view.sight.look(column, row)
    assert np.array_equal(things, view.things[row, column])
    rays, _ = camera.intrinsics.unproject(np.column_stack((column, row)).astype(float))
    assert view.depth[row, column] == pytest.approx(range_m * rays[:, 2], rel=1e-2, abs=1e-2)
    points = (pose @ camera.ego_from_camera).apply(rays * range_m[:, None])
    inside = np.zeros(len(points), bool)
    for bodies in (world.standing, world.moving_bodies(now_ns)):
        for thing, centre, radius in zip(bodies.things, bodies.centres, bodies.radii, strict=True):
            own = things == thing
            inside[own] |= np.linalg.norm(points[own, :2] - centre, axis=1) < radius + 0.3
    assert inside.mean() > 0.99
    assert (rays[:, 2] < 0).sum() > 50
    assert np.isinf(view.depth).any()
    assert not np.isnan(view.depth).any()


def test_a_sight_is_the_same_with_and_without_labels(world: World) -> None:
    chosen = fisheye_rig()["rear"]
    camera = Camera("rear", chosen.intrinsics.resized(160, 120), chosen.ego_from_camera)
    renderer, pose = Renderer(world), world.ego_pose(START_NS)
    plain, full = (renderer.render(camera, pose, START_NS, labels=labels, sight=True) for labels in (False, True))
    assert plain.classes is None
    assert np.array_equal(plain.image, full.image)
    for one, other in zip(plain.sight.everywhere(), full.sight.everywhere(), strict=True):
        assert np.array_equal(one, other)
