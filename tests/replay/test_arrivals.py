import numpy as np
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Rig
from octobev.replay.arrivals import StampedPose, drive_arrivals
from octobev.replay.drive import Drive, DriveStep, Losses
from octobev.runtime.frames import Frame, FrameSet

IMAGE = np.zeros((3, 4, 3), np.uint8)
MS = 1_000_000


class Recorded(Drive):
    """Sets of given frames: (camera, capture time in ms, pose or None); the poses of the sets are given."""

    def __init__(self, rig, sets, pose=None):
        self.name, self.rig, self.losses, self.sets, self.pose = "recorded", rig, Losses(), sets, pose

    def steps(self, *, start_s=0.0, duration_s=None):
        for frames in self.sets:
            made = tuple(Frame(name, 1_000 * MS + at * MS, IMAGE, "bgr8", pose) for name, at, pose in frames)
            yield DriveStep(FrameSet(max(frame.timestamp_ns for frame in made), made, self.pose))


def shown(arrivals):
    return [
        (a.at_ns // MS, "pose" if isinstance(a.item, StampedPose) else a.item.camera, a.item.timestamp_ns // MS - 1000)
        for a in arrivals
    ]


def test_frames_come_in_the_order_of_their_capture_with_their_poses_before_them(make_rig):
    here = Pose.identity()
    drive = Recorded(make_rig("a", "b"), [[("a", 10, here), ("b", 0, here)], [("a", 110, None), ("b", 100, None)]])
    assert shown(drive_arrivals(drive)) == [
        (0, "pose", 0), (0, "b", 0), (10, "pose", 10), (10, "a", 10), (100, "b", 100), (110, "a", 110)
    ]  # fmt: skip


def test_frame_without_a_pose_has_that_of_its_set(make_rig):
    there = Pose.planar(3, 4, 0)
    drive = Recorded(make_rig("a"), [[("a", 0, None)]], there)
    pose, frame = (arrival.item for arrival in drive_arrivals(drive))
    assert pose.world_from_ego is there
    assert frame.world_from_ego is there


def test_time_of_arrival_never_falls(make_rig):
    drive = Recorded(make_rig("a", "b"), [[("a", 50, None)], [("b", 40, None)], [("a", 90, None)]])
    assert shown(drive_arrivals(drive)) == [(0, "a", 50), (0, "b", 40), (40, "a", 90)]


def test_empty_drive_has_no_arrivals():
    assert list(drive_arrivals(Recorded(Rig, []))) == []
