"""The latest ego poses."""

import numpy as np
import pytest
from octobev.fusion.pose import Pose
from octobev.runtime.live.pose_track import PoseTrack

MS = 1_000_000


def track(*times_ms, speed_m_per_s=10.0, **options):
    poses = PoseTrack(**options)
    for time_ms in times_ms:
        poses.add(time_ms * MS, Pose.planar(speed_m_per_s * time_ms / 1e3, 0.0, 0.0))
    return poses


def x_at(poses, time_ms):
    pose = poses.at(time_ms * MS)
    return None if pose is None else pytest.approx(pose.translation_m[0])


def test_pose_of_a_known_time_is_that_pose():
    assert x_at(track(0, 50, 100), 50) == 0.5


@pytest.mark.parametrize(
    ("time_ms", "x_m"), [(75, 0.75), (150, 1.5), (-100, -1.0), (300, 3.0), (301, None), (-201, None)]
)
def test_poses_between_and_within_reach(time_ms, x_m):
    assert x_at(track(0, 50, 100), time_ms) == x_m


def test_order_of_arrival_does_not_matter():
    assert x_at(track(100, 0, 50), 75) == 0.75


def test_of_two_poses_at_one_time_the_later_arrival_stays():
    poses = track(0, 50)
    poses.add(50 * MS, Pose.planar(7.0, 0.0, 0.0))
    assert len(poses) == 2
    assert x_at(poses, 50) == 7.0


def test_no_pose_in_the_middle_of_a_long_gap():
    assert x_at(track(0, 1000), 500) is None
    assert x_at(track(0, 1000), 900) == 9.0


def test_single_pose_is_held_within_reach():
    assert x_at(track(100), 250) == 1.0
    assert x_at(track(100), 301) is None


def test_empty_track_has_no_pose():
    assert PoseTrack().at(0) is None


def test_oldest_poses_go():
    poses = track(*range(0, 1000, 50), capacity=4)
    assert len(poses) == 4
    assert x_at(poses, 950) == 9.5
    assert x_at(poses, 500) is None


def test_noise_of_near_poses_is_not_drawn_out():
    poses = track(0, 50, 100)
    poses.add(101 * MS, Pose.planar(1.01 + 0.05, 0.0, 0.0))  # 5 cm off, 1 ms after: 50 m/s
    assert np.abs(poses.at(201 * MS).translation_m[0] - 2.01) < 0.2
