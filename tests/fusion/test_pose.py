"""Rigid transforms against SciPy, interpolation and the ends of a trajectory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from octobev.errors import CalibrationError, InvalidArgument
from octobev.fusion.pose import Pose, Trajectory, interpolate
from scipy.spatial.transform import Rotation, Slerp

MS = 1_000_000


def random_poses(count: int, seed: int = 3) -> list[Pose]:
    rng = np.random.default_rng(seed)
    quaternions = Rotation.random(count, rng=rng).as_quat()
    return [Pose.from_quaternion(rng.uniform(-50, 50, 3), q) for q in quaternions]


def test_quaternion_to_matrix_equals_scipy() -> None:
    for quaternion in Rotation.random(200, rng=np.random.default_rng(1)).as_quat():
        pose = Pose.from_quaternion((1, 2, 3), quaternion)
        np.testing.assert_allclose(pose.rotation, Rotation.from_quat(quaternion).as_matrix(), atol=1e-14)
        np.testing.assert_array_equal(pose.translation_m, (1, 2, 3))


def test_matrix_to_quaternion_equals_scipy() -> None:
    half_turns = [Rotation.from_rotvec(np.pi * axis).as_quat() for axis in np.eye(3)]
    for quaternion in [*Rotation.random(200, rng=np.random.default_rng(2)).as_quat(), *half_turns]:
        again = Pose.from_quaternion((0, 0, 0), quaternion).quaternion_xyzw
        assert again[3] >= 0
        assert abs(again @ quaternion) == pytest.approx(1.0, abs=1e-12)


def test_quaternion_order_is_xyzw() -> None:
    left = Pose.from_quaternion((0, 0, 0), (0, 0, math.sqrt(0.5), math.sqrt(0.5)))
    np.testing.assert_allclose(left.apply(np.array([1.0, 0.0, 0.0])), (0, 1, 0), atol=1e-15)
    assert left.yaw_rad == pytest.approx(math.pi / 2)


def test_inverse_and_chain() -> None:
    a, b = random_poses(2)
    np.testing.assert_allclose((a @ a.inverse()).matrix, np.eye(4), atol=1e-13)
    np.testing.assert_allclose((a @ b).inverse().matrix, (b.inverse() @ a.inverse()).matrix, atol=1e-12)
    points = np.random.default_rng(0).normal(size=(4, 5, 3))
    np.testing.assert_allclose((a @ b).apply(points), a.apply(b.apply(points)), atol=1e-12)
    np.testing.assert_allclose(a.inverse().apply(a.apply(points)), points, atol=1e-12)


def test_planar_motion_turns_left() -> None:
    pose = Pose.planar(2.0, 1.0, math.pi / 2)
    np.testing.assert_allclose(pose.apply(np.array([3.0, 0.0, 0.5])), (2, 4, 0.5), atol=1e-12)


def test_identity_changes_nothing() -> None:
    np.testing.assert_array_equal(Pose.identity().apply(np.array([1.0, 2.0, 3.0])), (1, 2, 3))


def test_a_rounded_rotation_becomes_the_nearest_rotation() -> None:
    exact = random_poses(1)[0]
    rounded = np.eye(4)
    rounded[:3, :3] = np.round(exact.rotation, 4)
    pose = Pose(rounded)
    np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(pose.rotation, exact.rotation, atol=2e-4)


def test_a_pose_is_read_only_and_its_own() -> None:
    matrix = np.eye(4)
    pose = Pose(matrix)
    matrix[0, 3] = 9.0
    assert pose.translation_m[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        pose.translation_m[0] = 1.0


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), r"transform must be a 4x4 matrix, got shape \(3, 3\)"),
        (np.full((4, 4), np.nan), "transform must be finite"),
        (np.ones((4, 4)), "last row of a transform must be 0 0 0 1"),
        (np.diag([1.0, 1.0, 1.1, 1.0]), "rotation must be orthonormal within 0.001, got an error of 0.21"),
        (np.diag([1.0, 1.0, -1.0, 1.0]), "rotation must be right-handed, got a mirror image"),
        (np.diag([0.0, 0.0, 0.0, 1.0]), "rotation must be orthonormal"),
    ],
)
def test_what_is_no_rigid_transform_is_refused(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Pose(matrix)


@pytest.mark.parametrize(
    ("translation", "quaternion", "message"),
    [
        ((0, 0, 0), (0, 0, 0, 0), "quaternion must be of length 1 within 0.01, got length 0"),
        ((0, 0, 0), (0, 0, 0, 1.02), "quaternion must be of length 1"),
        ((0, 0, 0), (0, 0, 0, np.nan), "quaternion must be of length 1"),
        ((0, 0, 0), (0, 0, 1), r"quaternion must be four numbers x, y, z, w, got shape \(3,\)"),
        ((0, 0), (0, 0, 0, 1), r"translation must be three numbers x, y, z, got shape \(2,\)"),
        ((0, 0, np.inf), (0, 0, 0, 1), "transform must be finite"),
    ],
)
def test_bad_quaternions_and_translations_are_refused(
    translation: tuple[float, ...], quaternion: tuple[float, ...], message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        Pose.from_quaternion(translation, quaternion)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_interpolation_equals_scipys_slerp(fraction: float) -> None:
    for start, stop in zip(random_poses(20, 4), random_poses(20, 5), strict=True):
        between = interpolate(start, stop, fraction)
        slerp = Slerp([0, 1], Rotation.from_matrix([start.rotation, stop.rotation]))
        np.testing.assert_allclose(between.rotation, slerp(fraction).as_matrix(), atol=1e-9)
        np.testing.assert_allclose(
            between.translation_m, (1 - fraction) * start.translation_m + fraction * stop.translation_m, atol=1e-12
        )


def test_interpolation_of_equal_rotations() -> None:
    pose = random_poses(1)[0]
    np.testing.assert_allclose(interpolate(pose, pose, 0.3).matrix, pose.matrix, atol=1e-14)


def test_extrapolation_keeps_the_velocity() -> None:
    ahead = interpolate(Pose.planar(0, 0, 0.1), Pose.planar(1.0, 0.5, 0.2), 1.5)
    assert ahead.yaw_rad == pytest.approx(0.25)
    np.testing.assert_allclose(ahead.translation_m, (1.5, 0.75, 0))


def trajectory() -> Trajectory:
    poses = [Pose.planar(0, 0, 0), Pose.planar(1, 0, 0), Pose.planar(3, 0, 0.2)]
    return Trajectory([0, 100 * MS, 200 * MS], poses, extrapolate_ns=50 * MS)


@pytest.mark.parametrize(
    ("time_ms", "x_m"), [(0, 0.0), (25, 0.25), (100, 1.0), (150, 2.0), (200, 3.0), (-50, -0.5), (250, 4.0)]
)
def test_pose_at_a_time(time_ms: int, x_m: float) -> None:
    pose = trajectory().at(time_ms * MS)
    assert pose is not None
    assert pose.translation_m[0] == pytest.approx(x_m)


@pytest.mark.parametrize("time_ns", [-50 * MS - 1, 250 * MS + 1])
def test_no_pose_is_invented_beyond_the_ends(time_ns: int) -> None:
    assert trajectory().at(time_ns) is None


def test_a_single_pose_is_held_for_the_time_of_extrapolation() -> None:
    held = Trajectory([1000], [Pose.planar(2, 0, 0)], extrapolate_ns=10)
    assert len(held) == 1
    assert held.at(1010) is held.poses[0]
    assert held.at(989) is None


def test_nanoseconds_since_the_epoch_lose_nothing() -> None:
    start = 1_533_201_470_404_874_000
    moving = Trajectory([start, start + 10], [Pose.planar(0, 0, 0), Pose.planar(10, 0, 0)])
    pose = moving.at(start + 3)
    assert pose is not None
    assert pose.translation_m[0] == pytest.approx(3.0, abs=1e-12)


@pytest.mark.parametrize(
    ("times", "count", "message"),
    [
        ([], 0, "trajectory must be one timestamp for each pose"),
        ([1, 2], 1, "trajectory must be one timestamp for each pose"),
        ([2, 1], 2, "timestamps of a trajectory must be strictly increasing"),
        ([1, 1], 2, "timestamps of a trajectory must be strictly increasing"),
    ],
)
def test_bad_trajectories_are_refused(times: list[int], count: int, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Trajectory(times, [Pose.identity()] * count)


def test_a_product_that_rounding_took_away_from_a_rotation_is_put_right():
    turn = Pose.planar(1.0, 2.0, 0.3)
    off = turn.matrix.copy()
    off[:3, :3] *= 1 + 3e-13  # accepted as it is: below what is put right
    almost = Pose(off)
    np.testing.assert_array_equal(almost.matrix, off)
    product = almost @ almost
    assert np.abs(product.rotation @ product.rotation.T - np.eye(3)).max() < 1e-14
    assert not product.matrix.flags.writeable
    assert not almost.inverse().matrix.flags.writeable


def test_a_product_beyond_all_numbers_is_refused():
    far = Pose.planar(1e308, 0.0, 0.0)
    with np.errstate(over="ignore"), pytest.raises(CalibrationError, match="transform must be finite"):
        far @ far @ far
