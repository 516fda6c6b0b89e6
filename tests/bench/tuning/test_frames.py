from __future__ import annotations

import itertools

import numpy as np
import pytest
from octobev.bench.material import PERIOD_NS
from octobev.bench.tuning.frames import first_sets, without_end
from octobev.errors import DriveError
from octobev.fusion.pose import Pose
from octobev.replay.drive import Drive, DriveStep, Losses
from octobev.runtime.frames import Frame, FrameSet


class Listed(Drive):
    """Sets that are given."""

    def __init__(self, rig, sets) -> None:
        self.name, self.rig, self.losses, self._sets = "listed", rig, Losses(), sets

    def steps(self, *, start_s=0.0, duration_s=None):
        return map(DriveStep, self._sets)


def frame_set(number: int, *cameras: str) -> FrameSet:
    pose = Pose.planar(number, 0.0, 0.0)
    image = np.full((16, 32, 3), number, np.uint8)
    frames = [Frame(name, number * 10**9 - index, image, "bgr8", pose) for index, name in enumerate(cameras)]
    return FrameSet(number * 10**9, tuple(frames), pose)


def test_sets_in_which_a_camera_is_absent_are_left_out(make_rig):
    rig = make_rig("a", "b")
    sets = [
        frame_set(0, "a"),
        frame_set(1, "a", "b"),
        frame_set(2, "b"),
        frame_set(3, "b", "a", "c"),
        frame_set(4, "a", "b"),
    ]
    assert first_sets(Listed(rig, sets), rig, 2) == (sets[1], sets[3])


def test_where_a_camera_is_always_absent_the_first_sets_are_taken(make_rig):
    rig = make_rig("a", "b")
    sets = [frame_set(number, "a") for number in range(5)]
    assert first_sets(Listed(rig, sets), rig, 2) == (sets[0], sets[1])


def test_drive_of_other_cameras_is_refused(make_rig):
    rig = make_rig("a", "b")
    with pytest.raises(DriveError, match="listed: frame sets must be at least one with a frame of a, b, got none"):
        first_sets(Listed(rig, [frame_set(0, "x")]), rig, 2)


def test_images_come_again_at_times_that_increase():
    sets = [frame_set(0, "a", "b"), frame_set(5, "a", "b")]
    found = list(itertools.islice(without_end(sets), 5))
    times = [each.timestamp_ns for each in found]
    assert set(np.diff(times)) == {PERIOD_NS}
    assert [int(each.frames[0].array[0, 0, 0]) for each in found] == [0, 5, 0, 5, 0]
    assert [each.timestamp_ns - each.frames[1].timestamp_ns for each in found] == [1] * 5
    moved = [found[i].world_from_ego.inverse() @ found[i + 1].world_from_ego for i in range(4)]
    assert all(0.3 < np.linalg.norm(pose.translation_m) < 2.0 for pose in moved)  # a car's metres in a period


def test_sets_without_a_pose_stay_without_one():
    bare = FrameSet(0, (Frame("a", 0, np.zeros((16, 32, 3), np.uint8)),))
    found = next(without_end([bare]))
    assert found.world_from_ego is None
    assert found.frames[0].world_from_ego is None
