import numpy as np
import pytest
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.levelling import INTERVAL_S, Levelling, horizon_rays, tilts_in_degrees
from octobev.fusion.pose import Pose
from octobev.fusion.view import FeatureCamera

SHAPE, STRIDE = (6, 10), 16.0
LENS = Intrinsics(160, 96, 90.0, 90.0, 79.5, 47.5)
FISHEYE = Intrinsics(160, 96, 50.0, 50.0, 79.5, 47.5, LensModel.KANNALA_BRANDT, (0.02, 0.0, 0.0, 0.0))
OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
SECOND_NS = 1_000_000_000


def around(count=8, lens=LENS):
    """Cameras that look to all sides and a little down."""
    cameras = []
    for index in range(count):
        yaw = 2 * np.pi * index / count
        mounting = Pose.planar(np.cos(yaw), np.sin(yaw), yaw).matrix.copy()
        mounting[2, 3] = 1.5
        mounting[:3, :3] = mounting[:3, :3] @ OPTICAL @ turn(0.05, 0.0)
        cameras.append(FeatureCamera(lens, Pose(mounting)))
    return cameras


def turn(about_x, about_z):
    """Rotation matrix of a rotation vector without a y component."""
    angle = np.hypot(about_x, about_z) or 1.0
    k = np.array([[0, -about_z, 0], [about_z, 0, -about_x], [0, about_x, 0]]) / angle
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k if about_x or about_z else np.eye(3)


def tilted(cameras, tilts_deg):
    """The cameras as they really are: [N, 2] up and clockwise."""
    real = []
    for camera, (up, clockwise) in zip(cameras, tilts_deg, strict=True):
        matrix = camera.ego_from_camera.matrix.copy()
        matrix[:3, :3] = matrix[:3, :3] @ turn(np.radians(up), np.radians(clockwise))
        real.append(FeatureCamera(camera.intrinsics, Pose(matrix)))
    return real


def horizons(real, rng=None, sigma_px=0.0, tilt=None):
    """What a perfect network says of cameras, or one with errors of so many pixels; float32 rows."""
    rows = []
    for camera in real:
        rays, slopes = horizon_rays(camera.intrinsics, SHAPE, STRIDE)
        up = camera.ego_from_camera.rotation.T @ (np.array([0.0, 0, 1]) if tilt is None else tilt.rotation @ [0, 0, 1])
        distance = rays @ up / np.maximum(np.hypot(*(slopes @ up).T), 1e-6)
        error = rng.normal(0.0, sigma_px, len(rays)) if sigma_px else 0.0
        precision = np.where(np.abs(distance) < 25, -2 * np.log(max(sigma_px, 0.3)), -12.0)
        rows.append(np.stack((distance + error, precision), axis=1))
    return np.concatenate(rows).astype(np.float32)


def drive(cameras, real, seconds=10.0, *, rng=None, sigma_px=0.0, active=None):
    levelling = Levelling(cameras, SHAPE, STRIDE)
    poses = [Pose.identity()] * len(cameras)
    active = np.ones(len(cameras), np.uint8) if active is None else active
    for index in range(int(seconds * 5)):
        rows = horizons(real, rng, sigma_px)
        levelling.observe(round(index * SECOND_NS / 5), rows, active, poses)
    return levelling


def found(levelling, cameras):
    return tilts_in_degrees([str(index) for index in range(len(cameras))], levelling.tilts_rad)


@pytest.mark.parametrize("lens", [LENS, FISHEYE], ids=["pinhole", "fisheye"])
@pytest.mark.parametrize("pitch", [0.4, -0.4, 1.5])
def test_pitch_of_all_cameras_is_found(lens, pitch):
    cameras = around(lens=lens)
    levelling = drive(cameras, tilted(cameras, [(pitch, 0.0)] * 8))
    tilts = found(levelling, cameras)
    assert len(tilts) == 8
    np.testing.assert_allclose(list(tilts.values()), [(pitch, 0.0)] * 8, atol=0.12)


def test_corrected_view_is_that_of_the_cameras_as_they_are():
    cameras = around()
    real = tilted(cameras, [(1.0, 0.0)] * 8)
    levelling = drive(cameras, real)
    moved = Pose.planar(0.3, -0.1, 0.02)  # the ego when a camera fired, from the ego now
    corrected = levelling.corrected([moved] * 8)
    ground = np.array([[12.0, 3.0, 0.0], [20.0, -6.0, 0.0], [-9.0, 4.0, 0.0], [1.0, 15.0, 0.0], [2.0, -14.0, 0.0]])
    compared = 0
    for camera, truth, pose in zip(cameras, real, corrected, strict=True):
        right, seen = truth.intrinsics.project((truth.ego_from_camera.inverse() @ moved).apply(ground))
        given, _ = camera.intrinsics.project((camera.ego_from_camera.inverse() @ pose).apply(ground))
        wrong, _ = camera.intrinsics.project((camera.ego_from_camera.inverse() @ moved).apply(ground))
        compared += int(seen.sum())
        assert np.abs(given - right)[seen].max(initial=0.0) < 0.35
        assert not seen.any() or np.abs(wrong - right)[seen].max() > 1.0
    assert compared >= 5


def test_body_that_leans_is_found():
    cameras = around()
    lean = Pose.from_quaternion((0, 0, 0), (np.sin(np.radians(0.8) / 2), 0, 0, np.cos(np.radians(0.8) / 2)))
    real = [FeatureCamera(camera.intrinsics, lean @ camera.ego_from_camera) for camera in cameras]
    levelling = drive(cameras, real)
    for camera, truth, pose in zip(cameras, real, levelling.corrected([Pose.identity()] * 8), strict=True):
        up = (camera.ego_from_camera.inverse() @ pose).rotation @ [0, 0, 1]
        assert np.degrees(np.arccos(up @ truth.ego_from_camera.rotation.T @ [0, 0, 1])) < 0.15


def test_one_camera_that_is_off_is_found_alone():
    cameras = around()
    tilts = np.zeros((8, 2))
    tilts[3] = 0.9, 0.0
    levelling = drive(cameras, tilted(cameras, tilts), 60.0)
    correction = found(levelling, cameras)
    assert set(correction) == {"3"}
    assert correction["3"][0] == pytest.approx(0.9, abs=0.35)  # a part of it is put down to chance


def test_right_calibration_stays_under_noise():
    cameras = around()
    for seed in range(5):
        levelling = drive(cameras, cameras, rng=np.random.default_rng(seed), sigma_px=3.0)
        assert not levelling.tilts_rad.any()
        pose = Pose.planar(1.0, 2.0, 0.3)
        assert all(given is pose for given in levelling.corrected([pose] * 8))


def test_cameras_that_contradict_each_other_are_not_believed():
    cameras = around()
    tilts = np.array([(2.0, 0.0), (-2.0, 0.0)] * 4)
    assert not drive(cameras, tilted(cameras, tilts)).tilts_rad.any()


def test_tilts_too_large_to_be_true_are_not_believed():
    cameras = around()
    assert not drive(cameras, tilted(cameras, [(5.0, 0.0)] * 8)).tilts_rad.any()


def test_absent_cameras_say_nothing_but_share_what_all_have():
    cameras = around()
    real = tilted(cameras, [(0.8, 0.0)] * 8)
    real[5] = tilted(cameras, [(-3.0, 2.0)] * 8)[5]  # what an absent camera's memory holds does not matter
    active = np.ones(8, np.uint8)
    active[5] = 0
    levelling = drive(cameras, real, active=active)
    np.testing.assert_allclose(levelling.tilts_rad, [(-np.radians(0.8), 0.0)] * 8, atol=np.radians(0.15))


def test_tilt_that_odometry_knows_is_no_error():
    cameras = around()
    nose_down = Pose.from_quaternion((0, 0, 0), (0, np.sin(0.01), 0, np.cos(0.01)))  # body now level, tilted when fired
    levelling = Levelling(cameras, SHAPE, STRIDE)
    for index in range(50):
        rows = horizons(cameras, tilt=nose_down)
        levelling.observe(round(index * SECOND_NS / 5), rows, np.ones(8, np.uint8), [nose_down] * 8)
    assert not levelling.tilts_rad.any()


def test_more_sets_in_the_same_time_say_no_more():
    cameras = around()
    real = tilted(cameras, [(0.3, 0.0)] * 8)
    slow, fast = Levelling(cameras, SHAPE, STRIDE), Levelling(cameras, SHAPE, STRIDE)
    poses, active = [Pose.identity()] * 8, np.ones(8, np.uint8)
    for index in range(100):
        rows = horizons(real)
        fast.observe(round(index * INTERVAL_S * SECOND_NS / 10), rows, active, poses)
        if index % 10 == 0:
            slow.observe(round(index * INTERVAL_S * SECOND_NS / 10), rows, active, poses)
    np.testing.assert_array_equal(slow.tilts_rad, fast.tilts_rad)


def test_time_that_goes_back_and_extreme_numbers_do_no_harm():
    cameras = around()
    levelling = drive(cameras, tilted(cameras, [(0.5, 0.0)] * 8))
    before = levelling.tilts_rad.copy()
    rows = horizons(cameras)
    rows[:, 1] = 3e4  # surer than any network can be
    levelling.observe(-SECOND_NS, rows, np.zeros(8, np.uint8), [Pose.identity()] * 8)
    np.testing.assert_allclose(levelling.tilts_rad, before, atol=1e-3)
    levelling.observe(SECOND_NS, rows, np.ones(8, np.uint8), [Pose.identity()] * 8)
    assert np.isfinite(levelling.tilts_rad).all()


def test_reset_forgets_and_only_the_same_cameras_take_over():
    cameras = around()
    levelling = drive(cameras, tilted(cameras, [(0.5, 0.0)] * 8))
    same, other = Levelling(cameras, SHAPE, STRIDE), Levelling(around(7), SHAPE, STRIDE)
    same.take_over(levelling)
    other.take_over(levelling)
    np.testing.assert_array_equal(same.tilts_rad, levelling.tilts_rad)
    assert not other.tilts_rad.any()
    same.reset()
    assert not same.tilts_rad.any()
