import numpy as np
import pytest
from octobev.fusion.pose import Pose
from octobev.replay.lookahead import MAX_WAITING, Lookahead
from octobev.replay.transforms import MAX_GAP_NS, FrameTree, PoseBuffer, differs
from octobev.runtime.frames import Frame, PixelFormat

MS = 1_000_000


def shift(x):
    return Pose.planar(x, 0, 0)


def tree(*edges):
    found = FrameTree()
    for number, (parent, child) in enumerate(edges, 1):
        found.add(parent, child, shift(number))
    return found


def test_transforms_are_chained_from_ancestor_to_frame():
    found = tree(("map", "base"), ("base", "mast"), ("mast", "cam"))
    assert found.ancestors("cam") == ["mast", "base", "map"]
    np.testing.assert_allclose(found.lookup("base", "cam").translation_m, (5, 0, 0))
    np.testing.assert_allclose(found.lookup("mast", "cam").translation_m, (3, 0, 0))
    assert found.lookup("cam", "base") is None
    assert found.lookup("base", "elsewhere") is None


def test_a_frame_keeps_its_first_parent_and_its_latest_transform():
    found = tree(("map", "base"))
    found.add("odom", "base", shift(7))
    found.add("map", "base", shift(9))
    assert found.parent("base") == "map"
    assert found.lookup("map", "base").translation_m[0] == 9


def test_frames_in_a_circle_end():
    found = tree(("a", "b"), ("b", "a"), ("c", "c"))
    assert found.ancestors("a") == ["b", "a"]
    assert found.ancestors("c") == []


@pytest.mark.parametrize(
    ("edges", "ego"),
    [
        ([("map", "vut"), ("vut", "l"), ("vut", "r")], "vut"),
        ([("map", "vut"), ("vut", "rack"), ("rack", "l"), ("rack", "r")], "rack"),
        ([("map", "base_link"), ("base_link", "rack"), ("rack", "l"), ("rack", "r")], "base_link"),
        ([("vut", "rack"), ("rack", "l"), ("vut", "r")], "vut"),
        ([("one", "l"), ("other", "r")], None),
    ],
)
def test_ego_frame_is_above_all_cameras(edges, ego):
    assert tree(*edges).common_ancestor(["l", "r"]) == ego


def test_no_frames_have_no_ancestor():
    assert FrameTree().common_ancestor([]) is None


def test_poses_are_interpolated_in_whatever_order_they_come():
    poses = PoseBuffer()
    for ms in (200, 0, 100):
        poses.add(ms * MS, shift(ms))
    assert poses.newest_ns == 200 * MS
    assert [poses.at(ms * MS).translation_m[0] for ms in (0, 50, 100, 175, 250)] == pytest.approx(
        [0, 50, 100, 175, 250]
    )
    assert poses.at(301 * MS) is None
    assert poses.at(-101 * MS) is None
    assert PoseBuffer().at(0) is None


def test_a_written_pose_is_given_as_it_is():
    poses = PoseBuffer()
    pose = Pose.planar(1, 2, 3)
    poses.add(0, shift(0))
    poses.add(100, pose)
    assert poses.at(100) is pose


def test_no_pose_is_made_up_in_a_long_gap():
    poses = PoseBuffer()
    poses.add(0, shift(0))
    poses.add(MAX_GAP_NS + MS, shift(50))
    assert poses.at(MAX_GAP_NS // 2) is None
    assert poses.at(MAX_GAP_NS - 50 * MS).translation_m[0] == 50


def test_forgotten_poses_leave_enough_to_interpolate():
    poses = PoseBuffer()
    for ms in range(0, 1000, 100):
        poses.add(ms * MS, shift(ms))
    poses.forget(450 * MS)
    assert poses.at(350 * MS).translation_m[0] == pytest.approx(350)
    assert poses.at(100 * MS) is None


def test_mountings_differ_beyond_the_noise_of_writing():
    assert not differs(shift(0), shift(0.004))
    assert differs(shift(0), shift(0.006))
    assert not differs(shift(0), Pose.planar(0, 0, 0.001))
    assert differs(shift(0), Pose.planar(0, 0, 0.003))


def frame(ms, camera="a"):
    return Frame(camera, ms * MS, b"\xff\xd8\xff", PixelFormat.JPEG)


def released(ahead, log_ms):
    return [item.timestamp_ns // MS for item in ahead.ready(log_ms * MS)]


def test_frames_wait_for_their_pose_and_for_earlier_frames():
    ahead = Lookahead(60 * MS)
    ahead.push(frame(30), 30 * MS)
    ahead.push(frame(10), 31 * MS)
    assert released(ahead, 31) == []
    ahead.poses.add(100 * MS, shift(1))
    assert released(ahead, 100) == [], "an earlier frame may still come"
    ahead.push(frame(95), 101 * MS)
    assert released(ahead, 101) == [10, 30]
    assert len(ahead) == 1
    assert [item.timestamp_ns // MS for item in ahead.rest()] == [95]


def test_frames_do_not_wait_longer_than_a_second_of_log_time():
    ahead = Lookahead(60 * MS)
    ahead.push(frame(0), 500 * MS)
    assert released(ahead, 1499) == []
    assert released(ahead, 1500) == [0]


def test_not_more_than_so_many_frames_wait():
    ahead = Lookahead(60 * MS)
    for ms in range(MAX_WAITING + 5):
        ahead.push(frame(ms), 0)
    assert released(ahead, 0) == [0, 1, 2, 3, 4]


def test_frame_leaves_with_the_pose_of_its_time():
    ahead = Lookahead(0)
    for ms in (0, 100):
        ahead.poses.add(ms * MS, shift(ms))
    ahead.push(frame(25), 0)
    (item,) = ahead.rest()
    assert item.world_from_ego.translation_m[0] == pytest.approx(25)
