import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.grid import BevGrid
from octobev.fusion.pose import Pose
from octobev.fusion.state import GroundWindow, ObservedGround, RollingMap, carry_raster, planar_motion

GRID = BevGrid(-4.0, 8.0, -5.0, 5.0, 0.5)


def mark(rolling, x_m, y_m, value=1.0):
    """Write into the window cell that holds an ego point."""
    distance = np.linalg.norm(rolling.points_ego() - np.array([x_m, y_m]), axis=1)
    row = int(np.argmin(distance))
    assert distance[row] < GRID.resolution_m
    rolling.values[row] = value
    rolling.observed[row] = 1
    return rolling.points_ego()[row]


def peak(plane):
    """Ego coordinates of the largest value."""
    cell = np.unravel_index(int(np.argmax(plane)), plane.shape)
    return GRID.centres()[cell]


def test_window_lies_where_a_chain_of_poses_says():
    """However the ego tilts; the window's corner is a whole number of cells from where the ground frame begins."""
    window, ground_from_ego = GroundWindow(GRID), Pose.identity()
    first = window.ego_from_window.translation_m[:2] / GRID.resolution_m  # the ground frame is still that of the ego
    corner = first.copy()
    for k in range(50):
        tilted = Pose.from_quaternion([0.7, 0.1 * (k % 5), 0.2], [0.01, -0.02, np.sin(0.06), np.cos(0.06)])
        corner += window.move(tilted)
        ground_from_ego = ground_from_ego @ planar_motion(tilted)
    x, y = corner * GRID.resolution_m
    expected = ground_from_ego.inverse() @ Pose.planar(x, y, 0.0)
    np.testing.assert_allclose(window.ego_from_window.matrix, expected.matrix, atol=1e-12)
    assert np.round(first) == pytest.approx(first)


def test_motion_that_ends_upright_turns_nothing():
    window, upright = GroundWindow(GRID), np.eye(4)
    upright[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    window.move(Pose(upright))
    assert window.ego_from_window.yaw_rad == 0


def test_cells_of_window_and_ego_are_mapped_there_and_back():
    window = GroundWindow(GRID)
    window.move(Pose.planar(3.3, -1.7, 0.4))
    there, back = (np.vstack((cells, (0, 0, 1))) for cells in (window.window_cells(), window.ego_cells()))
    np.testing.assert_allclose(there @ back, np.eye(3), atol=1e-12)
    i, j = 5, 9
    u, v, _ = back @ (i, j, 1)  # of the ego grid
    centre = window.ego_from_window.apply(np.array([(i + 0.5) * GRID.resolution_m, (j + 0.5) * GRID.resolution_m, 0]))
    corner = np.array([GRID.x_min_m, GRID.y_min_m])
    assert (np.array([u, v]) + 0.5) * GRID.resolution_m + corner == pytest.approx(centre[:2])


def test_window_covers_the_grid_at_every_heading():
    rolling = RollingMap(GRID, 1)
    for yaw in np.linspace(-np.pi, np.pi, 13):
        rolling.move(Pose.planar(0.37, -0.21, 0.5))
        rolling.move(Pose.planar(0, 0, yaw))
        cells = rolling.nearest_cells()
        assert cells.min() >= 0
        assert cells.max() < rolling.side**2
        centres = rolling.points_ego()[cells]
        assert np.abs(centres - GRID.centres()).max() <= GRID.resolution_m * 0.5 * np.sqrt(2) + 1e-9


def test_point_ahead_comes_closer_when_the_ego_drives_on():
    rolling = RollingMap(GRID, 1)
    at = mark(rolling, 6.0, 1.0)
    rolling.move(Pose.planar(2.0, 0.0, 0.0))
    values, observed = rolling.read()
    assert peak(values[0]) == pytest.approx(at - [2.0, 0.0], abs=0.26)
    assert observed.sum() == 1


def test_point_ahead_moves_right_when_the_ego_turns_left():
    rolling = RollingMap(GRID, 1)
    mark(rolling, 4.0, 0.0)
    rolling.move(Pose.planar(0.0, 0.0, np.pi / 2))
    values, _ = rolling.read()
    assert peak(values[0]) == pytest.approx([0.0, -4.0], abs=0.4)


def test_carrying_for_long_does_not_blur():
    """One resampling on reading, none on the way: a single cell keeps its weight over 200 small moves and back."""
    rolling = RollingMap(GRID, 1)
    rolling.move(Pose.planar(0.0, 0.0, 0.3))
    at = mark(rolling, 3.0, 1.0, 8.0)
    for _ in range(100):
        rolling.move(Pose.planar(0.013, 0.007, 0.002))
    for _ in range(100):
        rolling.move(Pose.planar(0.013, 0.007, 0.002).inverse())
    assert rolling.values.max() == 8.0
    assert (rolling.values > 0).sum() == 1
    assert rolling.points_ego()[int(np.argmax(rolling.values))] == pytest.approx(at, abs=1e-9)


def test_what_leaves_the_window_is_forgotten():
    rolling = RollingMap(GRID, 2)
    rolling.values[:] = 1.0
    rolling.observed[:] = 1
    rolling.move(Pose.planar(1000.0, 0.0, 0.0))
    assert not rolling.values.any()
    assert not rolling.observed.any()


def test_only_new_cells_are_empty_after_a_scroll():
    rolling = RollingMap(GRID, 1)
    rolling.observed[:] = 1
    rolling.move(Pose.planar(1.5, -1.0, 0.0))
    empty = rolling.observed.reshape(rolling.side, rolling.side) == 0
    assert empty.sum() == rolling.side**2 - (rolling.side - 3) * (rolling.side - 2)
    assert empty[-3:].all()
    assert empty[:, :2].all()


def test_reset_forgets_and_begins_at_the_ego():
    rolling = RollingMap(GRID, 1)
    rolling.values[:] = 1
    rolling.observed[:] = 1
    rolling.move(Pose.planar(3.3, 1.1, 0.4))
    rolling.reset()
    assert not rolling.values.any()
    assert rolling.ego_from_window.yaw_rad == 0


def test_map_without_channels_is_refused():
    with pytest.raises(InvalidArgument, match="channels must be at least 1, got 0"):
        RollingMap(GRID, 0)


def test_planar_motion_drops_height_roll_and_pitch():
    tilted = Pose.from_quaternion([1.0, 2.0, 0.3], [0.02, 0.03, np.sin(0.2), np.cos(0.2)] / np.sqrt(1 + 0.0013))
    flat = planar_motion(tilted)
    assert flat.matrix[2].tolist() == [0, 0, 1, 0]
    assert flat.translation_m[:2] == pytest.approx([1.0, 2.0])
    assert flat.yaw_rad == pytest.approx(tilted.yaw_rad)


def test_carried_raster_and_mask_follow_the_ego():
    raster = np.zeros((2, *GRID.shape), dtype=np.float32)
    cell = GRID.cell_of(np.array([4.25, 2.25]))[0]
    raster[1, cell[0], cell[1]] = 1.0
    out = np.empty_like(raster)
    motion = Pose.planar(1.0, 0.5, 0.0)
    carry_raster(raster, GRID, motion, out)
    assert not out[0].any()
    assert peak(out[1]) == pytest.approx([3.25, 1.75])


def see(ground, seen):
    return ground.take(ground.look(seen))


@pytest.mark.parametrize("speed_m", [0.1, 0.35, 1.7])
def test_observed_ground_stays_where_it_is_at_any_speed(speed_m):
    ground = ObservedGround(GRID)
    seen = (np.abs(GRID.centres() - [5.0, 1.0]) < 1.5).all(axis=-1)
    assert np.array_equal(see(ground, seen), seen)
    steps = round(6.0 / speed_m)
    for _ in range(steps):
        ground.move(Pose.planar(speed_m, 0.0, 0.0))
        observed = see(ground, np.zeros_like(seen))
    assert observed.sum() == seen.sum()
    expected = np.array([5.0 - steps * speed_m, 1.0])
    assert GRID.centres()[observed].mean(axis=0) == pytest.approx(expected, abs=0.26)


def test_observed_ground_that_left_the_grid_is_forgotten():
    ground = ObservedGround(GRID)
    seen = GRID.centres()[..., 0] > 0
    see(ground, seen)
    ground.move(Pose.planar(9.0, 0.0, 0.0))
    assert not see(ground, np.zeros_like(seen))[GRID.centres()[..., 0] > 0].any()
    ground.move(Pose.planar(-9.0, 0.0, 0.0))
    back = see(ground, np.zeros_like(seen))
    assert back[GRID.centres()[..., 0] > 5.0].all()
    assert not back[GRID.centres()[..., 0] < 4.5].any()


def test_observed_ground_has_no_holes_when_the_ego_turns():
    ground = ObservedGround(GRID)
    everything = np.ones(GRID.shape, np.bool_)
    see(ground, everything)
    for _ in range(7):
        ground.move(Pose.planar(0.0, 0.0, 0.03))
        observed = see(ground, np.zeros_like(everything))
    inner = np.linalg.norm(GRID.centres() - [2.0, 0.0], axis=-1) < 3.5
    assert observed[inner].all()
    assert not observed.all()


def test_observed_ground_is_forgotten_on_reset():
    ground = ObservedGround(GRID)
    see(ground, np.ones(GRID.shape, np.bool_))
    ground.reset()
    assert not see(ground, np.zeros(GRID.shape, np.bool_)).any()


def test_a_look_that_is_not_taken_changes_nothing_but_what_left_the_grid():
    ground, nothing = ObservedGround(GRID), np.zeros(GRID.shape, np.bool_)
    ahead = GRID.centres()[..., 0] > 0
    see(ground, ahead)
    everything = ground.look(np.ones(GRID.shape, np.bool_))
    assert np.array_equal(ground.take(everything, seen=False), ahead)
    assert np.array_equal(see(ground, nothing), ahead)
    ground.move(Pose.planar(1000.0, 0.0, 0.0))
    assert not ground.take(ground.look(~nothing), seen=False).any()
    ground.move(Pose.planar(-1000.0, 0.0, 0.0))
    assert not see(ground, nothing).any()
