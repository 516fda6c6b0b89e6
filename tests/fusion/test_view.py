"""The view transform: cameras that fire while the car drives, masks, when it is built again, and which way is left."""

import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.levels import Levels
from octobev.fusion.pose import Pose, Trajectory
from octobev.fusion.rig import Camera, Rig
from octobev.fusion.view import FeatureCamera
from octobev.fusion.view_builder import ViewBuilder, grid_points

WIDTH, HEIGHT = 320, 192
PINHOLE = Intrinsics(WIDTH, HEIGHT, 170.0, 170.0, 159.5, 95.5)
FISHEYE = Intrinsics(WIDTH, HEIGHT, 90.0, 90.0, 159.5, 95.5, LensModel.KANNALA_BRANDT, (0.03, -0.008, 0.002, -3e-4))
GRID = BevGrid(-12.0, 20.0, -12.0, 12.0, 1.0)


def mounting(yaw_rad, x_m=1.0, y_m=0.0, z_m=1.6, pitch_rad=0.25):
    """A camera that looks to `yaw_rad` (left positive) and down by `pitch_rad`."""
    forward = np.array([np.cos(yaw_rad) * np.cos(pitch_rad), np.sin(yaw_rad) * np.cos(pitch_rad), -np.sin(pitch_rad)])
    right = np.array([np.sin(yaw_rad), -np.cos(yaw_rad), 0.0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack((right, np.cross(forward, right), forward))
    matrix[:3, 3] = (x_m, y_m, z_m)
    return Pose(matrix)


def surround(lens=PINHOLE, count=8):
    return [FeatureCamera(lens, mounting(2 * np.pi * i / count, 1.0 + 0.2 * i, 0.05 * i)) for i in range(count)]


def builder(cameras=None, *, stride=1.0, heights_m=(0.0,), **options):
    cameras = surround() if cameras is None else cameras
    shape = (round(HEIGHT / stride), round(WIDTH / stride))
    return ViewBuilder(grid_points(GRID, heights_m), cameras, shape, stride, resolution_m=GRID.resolution_m, **options)


def sampled_pixels(view, camera):
    """Where the matrix of a stride-1 builder samples one camera: pixels [rows, 2], NaN where it does not."""
    pixels = np.full((view.rows, 2), np.nan)
    of_camera = view.indices // (WIDTH * HEIGHT) == camera
    rows = np.repeat(np.arange(view.rows), np.diff(view.indptr))[of_camera]
    columns, weights = view.indices[of_camera] % (WIDTH * HEIGHT), view.weights[of_camera].astype(np.float64)
    total = np.bincount(rows, weights, view.rows)
    seen = total > 0
    for axis, value in enumerate((columns % WIDTH, columns // WIDTH)):
        pixels[seen, axis] = np.bincount(rows, weights * value, view.rows)[seen] / total[seen]
    return pixels


def test_cameras_50_ms_apart_on_a_moving_turning_car():
    # 13 m/s and 0.5 rad/s to the left, body pitching; camera i fires i * 50 / 7 ms before the set's instant
    times_ns = np.arange(0, 400_000_001, 10_000_000)
    poses = []
    for time_ns in times_ns:
        t = time_ns * 1e-9
        yaw, pitch = 0.3 + 0.5 * t, 0.01 * np.sin(9 * t)
        turn = Pose.planar(50.0 + 26.0 * np.sin(yaw), -20.0 - 26.0 * np.cos(yaw), yaw)
        tilt = np.eye(4)
        tilt[:3, :3] = [[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]]
        poses.append(turn @ Pose(tilt))
    trajectory = Trajectory(times_ns, poses)
    instant_ns = 300_000_000
    cameras = surround()
    ego_from_world = [trajectory.at(instant_ns - i * 50_000_000 // 7).inverse() for i in range(len(cameras))]
    world_from_points = trajectory.at(instant_ns)

    views = builder(cameras, heights_m=(0.0, 1.0))
    view = views.build([then @ world_from_points for then in ego_from_world])
    frozen = views.build()

    world = world_from_points.apply(grid_points(GRID, (0.0, 1.0)).reshape(-1, 3))
    worst_frozen = 0.0
    for index, camera in enumerate(cameras):
        local = camera.ego_from_camera.inverse().apply(ego_from_world[index].apply(world))
        wanted, valid = camera.intrinsics.project(local)
        pixels = sampled_pixels(view, index)
        np.testing.assert_array_equal(np.isfinite(pixels[:, 0]), valid)
        edge = np.clip(wanted, 0, (WIDTH - 1, HEIGHT - 1))
        assert valid.sum() > 100
        assert np.abs(pixels - edge)[valid].max() < 2e-3
        worst_frozen = max(worst_frozen, np.nanmax(np.abs(sampled_pixels(frozen, index) - edge)))
    assert worst_frozen > 10  # pixels: what a table that ignores the cameras' own times gets wrong


def test_fisheye_rig_samples_its_own_projection():
    cameras = surround(FISHEYE, 4)
    view = builder(cameras).build()
    for index, camera in enumerate(cameras):
        local = camera.ego_from_camera.inverse().apply(grid_points(GRID, (0.0,)).reshape(-1, 3))
        wanted, valid = FISHEYE.project(local)
        pixels = sampled_pixels(view, index)
        np.testing.assert_array_equal(np.isfinite(pixels[:, 0]), valid)
        assert np.abs(pixels - np.clip(wanted, 0, (WIDTH - 1, HEIGHT - 1)))[valid].max() < 2e-3


def ground_image(camera, colour_of):
    """What a camera sees of a coloured ground, float32 [h * w]; 0 above the horizon."""
    u, v = np.meshgrid(np.arange(camera.intrinsics.width), np.arange(camera.intrinsics.height))
    rays, _ = camera.intrinsics.unproject(np.stack((u, v), axis=-1).astype(np.float64))
    rays = rays @ camera.ego_from_camera.rotation.T
    centre = camera.ego_from_camera.translation_m
    down = rays[..., 2] < -1e-3
    reach = np.where(down, centre[2] / np.where(down, -rays[..., 2], 1.0), 0.0)
    x, y = centre[0] + reach * rays[..., 0], centre[1] + reach * rays[..., 1]
    return np.where(down, colour_of(x, y), 0.0).astype(np.float32).ravel()


def painted_ground(x, y):
    """A checkerboard of 4 m squares, with a bright patch ahead on the left and a dim one ahead on the right."""
    board = 0.3 + 0.2 * ((np.floor(x / 4) + np.floor(y / 4)) % 2)
    board = np.where((x > 8) & (x < 12) & (y > 4) & (y < 8), 1.0, board)
    return np.where((x > 8) & (x < 12) & (y < -4) & (y > -8), 0.0, board)


@pytest.mark.parametrize("lens", [PINHOLE, FISHEYE], ids=["pinhole", "fisheye"])
def test_ground_comes_back_neither_mirrored_nor_turned(lens):
    cameras = surround(lens)
    features = np.concatenate([ground_image(camera, painted_ground) for camera in cameras])[:, None]
    view = builder(cameras, border_px=8.0).build()
    bev = view.lift(features).reshape(GRID.shape)
    x, y = np.moveaxis(GRID.centres(), -1, 0)
    wanted = painted_ground(x, y)
    seen = view.seen_by.reshape(GRID.shape) > 0
    near = seen & (np.hypot(x - 1, y) < 11) & (np.hypot(x - 1, y) > 3)
    assert near.sum() > 200
    assert np.abs(bev - wanted)[near].mean() < 0.03
    i, j = GRID.cell_of(np.array([10.0, 6.0]))[0]
    assert bev[i, j] > 0.95
    i, j = GRID.cell_of(np.array([10.0, -6.0]))[0]
    assert bev[i, j] < 0.05


def test_masked_camera_gives_its_cells_to_the_others():
    views = builder(border_px=8.0)
    whole = views.build()
    active = np.arange(8) != 2
    masked = views.build(active=active)
    assert not (masked.seen_by & np.uint64(4)).any()
    np.testing.assert_array_equal(masked.seen_by, whole.seen_by & ~np.uint64(4))
    np.testing.assert_allclose(masked.mass(), masked.seen_by > 0, atol=1e-6)
    assert not (masked.indices // (WIDTH * HEIGHT) == 2).any()
    assert views.builds == 2


def test_masked_cells_stay_empty():
    wanted = np.zeros(GRID.cells, bool)
    wanted[::5] = True
    view = builder(heights_m=(0.0, 0.5)).build(point_active=wanted)
    assert not view.seen_by[~wanted].any()
    assert view.seen_by[wanted].any()
    assert not view.mass().reshape(-1, 2)[~wanted].any()


def test_seen_by_joins_all_heights():
    views = builder(heights_m=(-30.0, 0.0))
    both, ground = views.build().seen_by, builder(heights_m=(0.0,)).build().seen_by
    np.testing.assert_array_equal(both & ground, ground)


def test_rows_and_planes_hold_the_same_numbers():
    view = builder(stride=4.0, heights_m=(0.0, 0.7, 2.0)).build()
    features = np.random.default_rng(0).random((view.pixels, 5)).astype(np.float32)
    rows, planes = view.lift(features), view.lift_planes(features)
    assert rows.shape == (GRID.cells, 15)
    np.testing.assert_array_equal(rows.T, planes)
    out = np.full_like(rows, np.nan)
    assert view.lift(features, out, num_threads=2) is out
    np.testing.assert_array_equal(out, rows)
    out = np.full_like(planes, np.nan)
    assert view.lift_planes(features, out, num_threads=2) is out
    np.testing.assert_array_equal(out, planes)


def test_depth_that_agrees_keeps_the_weight():
    view = builder(stride=4.0, heights_m=(0.0,)).build()
    assert view.depth_m.min() > 0
    pixel, depth = int(view.indices[0]), float(view.depth_m[0])
    depths = np.full(view.pixels, np.nan, np.float32)
    depths[pixel] = depth
    weighted, mass = view.depth_weighted(depths, sigma_m=0.5, sigma_relative=0.1)
    assert weighted.weights[0] == view.weights[0]
    assert (weighted.weights[view.indices != pixel] == 0).all()
    np.testing.assert_allclose(mass, weighted.mass())
    depths[pixel] = depth + 0.5 + 0.1 * depth  # one standard deviation behind
    weighted, _ = view.depth_weighted(depths, sigma_m=0.5, sigma_relative=0.1)
    np.testing.assert_allclose(weighted.weights[0], view.weights[0] * np.exp(-0.5), rtol=1e-5)


def test_same_view_comes_back_while_nothing_moves():
    views = builder()
    first = views.build()
    assert views.build() is first
    assert views.build([Pose.identity()] * 8, np.ones(8, bool)) is first
    assert views.builds == 1


def test_built_again_when_the_ground_moves_by_more_than_the_tolerance():
    views = builder(tolerance_cells=0.1)  # of 1 m
    first = views.build()
    assert views.build([Pose.planar(0.06, 0.07, 0.0)] * 8) is first  # 9 cm
    assert views.build([Pose.planar(0.08, 0.08, 0.0)] * 8) is not first  # 11 cm
    assert views.builds == 2


def test_views_that_somebody_holds_are_not_overwritten():
    views = builder(stride=4.0)
    held = [views.build([Pose.planar(float(step), 0.0, 0.0)] * 8) for step in range(5)]
    part = views.build([Pose.planar(5.0, 0.0, 0.0)] * 8).weights[3:]
    copies = [view.weights.copy() for view in held], part.copy()
    for step in range(6, 12):
        views.build([Pose.planar(float(step), 0.0, 0.0)] * 8)
    for view, weights in zip(held, copies[0], strict=True):
        np.testing.assert_array_equal(view.weights, weights)
    np.testing.assert_array_equal(part, copies[1])


def test_memory_of_views_that_nobody_holds_is_used_again():
    views = builder(stride=4.0)
    places = set()
    for step in range(8):
        view = views.build([Pose.planar(float(step), 0.0, 0.0)] * 8)
        places.add(view.weights.__array_interface__["data"][0])
    assert len(places) == 2


def test_slow_drift_adds_up():
    views = builder(tolerance_cells=0.1)
    first = views.build()
    for step in range(1, 4):
        assert views.build([Pose.planar(0.03 * step, 0.0, 0.0)] * 8) is first
    assert views.build([Pose.planar(0.12, 0.0, 0.0)] * 8) is not first


def test_one_moving_camera_counts_unless_it_is_masked():
    moves = [Pose.identity()] * 7 + [Pose.planar(1.0, 0.0, 0.0)]
    views = builder()
    first = views.build()
    assert views.build(moves) is not first
    active = np.arange(8) < 7
    first = views.build(active=active)
    assert views.build(moves, active) is first


def test_displacement_is_computed_by_hand():
    # a turn by 0.01 rad about the ego origin moves the farthest cell centre, (19.5, 11.5), by 2 sin(0.005) * 22.6387
    views = builder()
    views.build()
    expected_m = 2 * np.sin(0.005) * np.hypot(19.5, 11.5)
    assert views.displacement_m([Pose.planar(0.0, 0.0, 0.01)] * 8) == pytest.approx(expected_m, rel=1e-9)
    # all points 1 cm higher: the camera at (1, 0) stands 1.59 m above the ground and looks 1 cm above its points
    views = builder(surround(count=1))
    views.build()
    up = np.eye(4)
    up[2, 3] = 0.01
    reach_m = np.hypot(19.5 - 1, 11.5)
    assert views.displacement_m([Pose(up)]) == pytest.approx(0.01 * reach_m / (1.59 - 0.01), rel=1e-9)
    up[2, 3] = 1.0
    assert views.displacement_m([Pose(up)]) == np.inf


def test_displacement_bounds_what_pixels_really_see():
    rng = np.random.default_rng(5)
    camera = surround(count=1)[0]
    views = builder([camera])
    points = grid_points(GRID, (0.0,)).reshape(-1, 3)
    views.build()
    for _ in range(20):
        angles = rng.normal(0, 0.003, 3)
        skew = np.array([[0, -angles[2], angles[1]], [angles[2], 0, -angles[0]], [-angles[1], angles[0], 0]])
        matrix = np.eye(4)
        matrix[:3, :3] += skew
        matrix[:3, 3] = rng.normal(0, 0.03, 3)
        move = Pose(matrix)
        _, valid = camera.intrinsics.project(camera.ego_from_camera.inverse().apply(points))
        rays = camera.ego_from_camera.inverse().apply(points[valid])  # directions that the old matrix samples
        points_from_camera = move.inverse() @ camera.ego_from_camera
        centre, rays = points_from_camera.translation_m, rays @ points_from_camera.rotation.T
        hits = centre + rays * (-centre[2] / rays[:, 2:])
        really_m = np.hypot(*(hits - points[valid])[rays[:, 2] < 0, :2].T).max()
        assert 0.1 * views.displacement_m([move]) < really_m <= views.displacement_m([move])


def test_recalibration_is_followed():
    views = builder()
    first = views.build()
    views.recalibrate(surround())
    assert views.build() is first
    views.recalibrate([FeatureCamera(PINHOLE, mounting(0.1 + 2 * np.pi * i / 8)) for i in range(8)])
    second = views.build()
    assert second is not first
    longer = Intrinsics(WIDTH, HEIGHT, 171.0, 170.0, 159.5, 95.5)
    views.recalibrate([FeatureCamera(longer, camera.ego_from_camera) for camera in views.cameras])
    assert views.build() is not second


def test_recalibration_to_another_number_of_cameras():
    views = builder()
    views.build()
    views.recalibrate(surround(count=3))
    assert views.build().pixels == 3 * WIDTH * HEIGHT


def test_threads_change_no_bit():
    one, two = builder(border_px=8.0).build(), builder(border_px=8.0).build(num_threads=2)
    for name in ("indptr", "indices", "weights", "depth_m", "seen_by"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_more_entries_than_expected_find_room():
    views = builder(surround(FISHEYE, 16))
    view = views.build()
    assert len(view.indices) == view.indptr[-1] > 8 * view.rows
    assert views.builds == 1


def test_grid_and_rig_alone_make_a_builder():
    lens = Intrinsics(2 * WIDTH, 2 * HEIGHT, 340.0, 340.0, 319.5, 191.5)
    rig = Rig(tuple(Camera(f"camera{i}", lens, camera.ego_from_camera) for i, camera in enumerate(surround())))
    view = ViewBuilder.for_grid(GRID, [0.0], rig, (48, 80), 4.0, weighting="uniform").build()
    wanted = builder(stride=4.0, weighting="uniform").build()
    np.testing.assert_array_equal(view.indices, wanted.indices)
    np.testing.assert_allclose(view.weights, wanted.weights, atol=1e-5)


def test_views_are_read_only():
    view = builder(stride=4.0).build()
    for name in ("indptr", "indices", "weights", "depth_m", "seen_by"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(view, name)[0] = 0


def test_no_cells_give_an_empty_view():
    views = ViewBuilder(np.zeros((0, 2, 3)), surround(), (48, 80), 4.0, resolution_m=1.0)
    view = views.build()
    assert (view.cells, view.rows) == (0, 0)
    assert view.lift(np.zeros((view.pixels, 3), np.float32)).shape == (0, 6)
    assert view.lift_planes(np.zeros((view.pixels, 3), np.float32)).shape == (6, 0)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"points": np.zeros((4, 3))}, r"points must be of shape \(cells, heights, 3\), got \(4, 3\)"),
        ({"points": np.full((4, 1, 3), np.nan)}, "points must be finite"),
        ({"cameras": []}, "cameras must be 1 to 64, got 0"),
        ({"feature_shape": (0, 80)}, "feature size must be positive, got 0"),
        ({"stride": -1.0}, "stride must be positive"),
        ({"resolution_m": np.nan}, "resolution_m must be positive, got nan"),
        ({"weighting": "nearest"}, "weighting must be one of uniform, resolution, got 'nearest'"),
        ({"border_px": -1.0}, "border_px must be finite and not negative"),
        ({"tolerance_cells": np.inf}, "tolerance_cells must be finite and not negative"),
    ],
)
def test_wrong_builders_are_refused(changes, match):
    given = {
        "points": np.zeros((4, 1, 3)),
        "cameras": surround(),
        "feature_shape": (48, 80),
        "stride": 4.0,
        "resolution_m": 1.0,
    }
    with pytest.raises(InvalidArgument, match=match):
        ViewBuilder(**(given | changes))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"ego_moves": [Pose.identity()]}, "ego_moves must be 8 poses, got 1"),
        ({"active": [True]}, r"active must be of shape \(8,\), got \(1,\)"),
        ({"point_active": np.ones((2, 2))}, r"point_active must be of shape \(768,\), got \(2, 2\)"),
    ],
)
def test_wrong_builds_are_refused(given, match):
    with pytest.raises(InvalidArgument, match=match):
        builder(stride=4.0).build(**given)


def test_wrong_features_and_outputs_are_refused():
    view = builder(stride=4.0).build()
    features = np.zeros((view.pixels, 4), np.float32)
    with pytest.raises(InvalidArgument, match=r"features must be of shape \(30720, channels\), got \(30719, 4\)"):
        view.lift(features[1:])
    with pytest.raises(InvalidArgument, match=r"out must be C-contiguous float32 of shape \(768, 4\)"):
        view.lift(features, np.zeros((768, 5), np.float32))
    with pytest.raises(InvalidArgument, match=r"out must be C-contiguous float32 of shape \(4, 768\)"):
        view.lift_planes(features, np.zeros((768, 4), np.float32).T)


def test_levels_are_written_to_uint8():
    view, levels = builder(stride=4.0, heights_m=(0.0, 2.0)).build(), Levels(0.01, 20)
    features = np.random.default_rng(0).random((view.pixels, 5)).astype(np.float32)
    rows, planes = view.lift(features, levels=levels), view.lift_planes(features, levels=levels)
    assert (rows.dtype, rows.shape) == (np.uint8, (GRID.cells, 10))
    np.testing.assert_array_equal(rows.T, planes)
    np.testing.assert_allclose((rows.astype(np.float32) - 20) * 0.01, view.lift(features), atol=0.00501)
    out = np.zeros_like(rows)
    assert view.lift(features, out, levels=levels) is out
    np.testing.assert_array_equal(out, rows)
    with pytest.raises(InvalidArgument, match=r"out must be C-contiguous uint8 of shape \(768, 10\), got float32"):
        view.lift(features, np.zeros((768, 10), np.float32), levels=levels)
    with pytest.raises(InvalidArgument, match=r"out must be C-contiguous float32 of shape \(10, 768\), got uint8"):
        view.lift_planes(features, planes)


@pytest.mark.parametrize(
    ("scale", "zero_point", "match"),
    [
        (0.0, 0, r"scale must be 1e-30\.\.1e\+30, got 0\.0"),
        (float("nan"), 0, "scale must be .* got nan"),
        (0.1, 256, r"zero_point must be 0\.\.255, got 256"),
        (0.1, -1, r"zero_point must be 0\.\.255, got -1"),
    ],
)
def test_wrong_levels_are_refused(scale, zero_point, match):
    with pytest.raises(InvalidArgument, match=match):
        Levels(scale, zero_point)


def test_wrong_heights_are_refused():
    with pytest.raises(InvalidArgument, match="heights_m must be one or more finite numbers"):
        grid_points(GRID, [])
