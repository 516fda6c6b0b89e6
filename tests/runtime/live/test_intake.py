"""What arrives becomes the newest set."""

from collections import Counter

import numpy as np
import pytest
from octobev.fusion.pose import Pose
from octobev.runtime.frames import Frame
from octobev.runtime.live.intake import STALE, Intake
from octobev.runtime.sync import ApproximateTime, Synchroniser

MS = 1_000_000
EPOCH = 1_700_000_000_000_000_000
CAMERAS = ("front", "left", "rear")
IMAGE = np.zeros((2, 2, 3), dtype=np.uint8)


class Rig:
    """An intake on a clock of its own; cameras fire every 50 ms, all arrive 5 ms later."""

    def __init__(self, cameras=CAMERAS):
        self.cameras = cameras
        self.overruns = Counter()
        policy = ApproximateTime(max_skew_ns=20 * MS, max_wait_ns=30 * MS)
        self.intake = Intake(Synchroniser(cameras, policy), lambda camera: self.overruns.update([camera]))

    def fire(self, number, cameras=None, poses=False):
        for camera in self.cameras if cameras is None else cameras:
            time_ns = EPOCH + number * 50 * MS
            pose = Pose.planar(0.5 * number, 0.0, 0.0) if poses else None
            self.intake.submit(Frame(camera, time_ns, IMAGE, world_from_ego=pose), self.now(number))

    @staticmethod
    def now(number, after_ms=5):
        return 1000 * MS + number * 50 * MS + after_ms * MS


@pytest.fixture
def rig():
    return Rig()


def test_complete_set_is_ready_with_its_last_frame(rig):
    rig.fire(0, CAMERAS[:2])
    assert not rig.intake.ready
    rig.fire(0, CAMERAS[2:])
    assert rig.intake.ready
    pending = rig.intake.take()
    assert [frame.camera for frame in pending.frame_set.frames] == list(CAMERAS)
    assert pending.frame_set.timestamp_ns == EPOCH
    assert not rig.intake.ready
    assert rig.intake.idle


def test_newest_set_wins_and_the_frames_of_the_other_are_counted(rig):
    for number in range(3):
        rig.fire(number)
    assert rig.intake.take().frame_set.timestamp_ns == EPOCH + 100 * MS
    assert rig.intake.overruns == 2
    assert rig.overruns == dict.fromkeys(CAMERAS, 2)


def test_incomplete_set_leaves_when_its_waiting_is_over(rig):
    rig.fire(0)
    rig.intake.take()
    rig.fire(1, ("front", "rear"))
    assert not rig.intake.idle
    rig.intake.pull(rig.intake.deadline_ns)
    assert dict(rig.intake.take().frame_set.absences) == {"left": "not there within 30 ms"}


def test_poses_that_arrive_after_the_frames_are_used(rig):
    rig.fire(0)
    rig.intake.submit_pose(EPOCH, Pose.planar(3.0, 0.0, 0.0))
    frame_set = rig.intake.take().frame_set
    assert frame_set.world_from_ego.translation_m[0] == 3.0
    assert frame_set.frames[1].world_from_ego.translation_m[0] == 3.0


def test_poses_of_frames_serve_the_set(rig):
    rig.fire(0, poses=True)
    rig.intake.take()
    rig.fire(1, poses=True)
    assert rig.intake.take().frame_set.world_from_ego.translation_m[0] == 0.5


def test_without_poses_none_is_invented(rig):
    rig.fire(0)
    frame_set = rig.intake.take().frame_set
    assert frame_set.world_from_ego is None
    assert all(frame.world_from_ego is None for frame in frame_set.frames)


def test_refused_camera_is_absent_for_that_reason_until_it_comes_again(rig):
    for number in range(5):
        rig.fire(number)
    rig.intake.refuse("left", STALE)
    rig.fire(5, ("front", "rear"))
    rig.intake.pull(rig.now(5, 36))
    assert dict(rig.intake.take().frame_set.absences) == {"left": STALE}
    rig.fire(6)
    assert not rig.intake.take().frame_set.absences


def test_silence_begins_after_the_latest_set(rig):
    assert rig.intake.silent_since_ns(rig.now(100), 500 * MS) is None  # nothing has begun
    for number in range(10):
        rig.fire(number)
        rig.intake.take()
    assert rig.intake.silent_since_ns(rig.now(9, 504), 500 * MS) is None
    assert rig.intake.silent_since_ns(rig.now(9, 506), 500 * MS) == rig.now(9)
    assert rig.intake.reason_of_silence(rig.now(9, 2000)) == "no camera delivers (missing)"
    assert rig.intake.capture_time_ns(rig.now(9, 505)) == EPOCH + 450 * MS + 500 * MS
    rig.fire(20)
    assert rig.intake.silent_since_ns(rig.now(20), 500 * MS) is None


def test_slow_cameras_are_not_silent_between_their_frames(rig):
    for number in range(0, 200, 20):  # one a second
        rig.fire(number)
        rig.intake.take()
    assert rig.intake.silent_since_ns(rig.now(180, 2000), 500 * MS) is None
    assert rig.intake.silent_since_ns(rig.now(180, 2600), 500 * MS) is not None


@pytest.mark.parametrize(("after_ms", "taken"), [(5, True), (20, True), (25, False)])
def test_set_that_came_within_a_third_of_a_period_came_lately(rig, after_ms, taken):
    for number in range(4):
        rig.fire(number)
        pending = rig.intake.take_lately(rig.now(number, after_ms))
        if number > 1:  # the period is known
            assert (pending is not None) == taken
        if pending is None:
            pending = rig.intake.take()
        assert pending.frame_set.timestamp_ns == EPOCH + number * 50 * MS


def test_nothing_came_lately_where_no_set_waits_or_no_period_is_known(rig):
    assert rig.intake.take_lately(rig.now(0)) is None
    rig.fire(0)
    assert rig.intake.take_lately(rig.now(0)) is None
    assert rig.intake.ready
