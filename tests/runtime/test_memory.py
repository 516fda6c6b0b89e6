import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.pose import Pose
from octobev.runtime.memory import Memory

SECOND = 1_000_000_000


def at(x_m):
    return Pose.planar(x_m, 0.0, 0.0)


def test_first_set_has_nothing_to_carry():
    status, motion = Memory(1.0).follow(5 * SECOND, at(0))
    assert (status.carried, status.reset_reason, status.age_ns) == (False, "first set", 0)
    assert motion is None


def test_second_set_carries_the_motion_between():
    memory = Memory(1.0)
    memory.follow(5 * SECOND, at(1.0))
    status, motion = memory.follow(5 * SECOND + SECOND // 10, at(2.5))
    assert (status.carried, status.reset_reason, status.age_ns) == (True, None, SECOND // 10)
    assert motion.elapsed_s == pytest.approx(0.1)
    assert motion.before_from_now.translation_m == pytest.approx([1.5, 0, 0])


def test_motion_is_given_in_the_frame_of_the_ego_before():
    memory = Memory(1.0)
    memory.follow(0, Pose.planar(0, 0, np.pi / 2))
    _, motion = memory.follow(SECOND // 2, Pose.planar(0, 3, np.pi / 2))
    assert motion.before_from_now.translation_m == pytest.approx([3, 0, 0])


@pytest.mark.parametrize(
    ("timestamp_ns", "pose", "reason"),
    [
        (4 * SECOND, at(0), "time went back by 1.000 s"),
        (5 * SECOND, at(0), "time stood still"),
        (7 * SECOND, at(0), "gap of 2.000 s"),
        (5 * SECOND + SECOND // 10, None, "no ego pose"),
        (5 * SECOND + SECOND // 10, at(500), "ego pose jumped by 500.0 m in 0.100 s"),
    ],
)
def test_state_begins_anew_and_says_why(timestamp_ns, pose, reason):
    memory = Memory(1.0)
    memory.follow(5 * SECOND, at(0))
    status, motion = memory.follow(timestamp_ns, pose)
    assert (status.carried, status.reset_reason, status.age_ns) == (False, reason, 0)
    assert motion is None


def test_age_counts_from_the_last_reset():
    memory = Memory(1.0)
    memory.follow(0, at(0))
    memory.follow(3 * SECOND, at(0))
    memory.follow(4 * SECOND - 1, at(0))
    status, _ = memory.follow(4 * SECOND, at(0))
    assert status.age_ns == SECOND


def test_pose_must_be_known_at_both_ends():
    memory = Memory(1.0)
    memory.follow(0, None)
    assert memory.follow(1, at(0))[0].reset_reason == "no ego pose"
    assert memory.follow(2, at(0))[0].carried


def test_what_is_forgotten_begins_anew_once():
    memory = Memory(1.0)
    memory.follow(0, at(0))
    memory.forget("asked for")
    assert memory.follow(1, at(0))[0].reset_reason == "asked for"
    assert memory.follow(2, at(0))[0].carried


def test_gap_that_is_never_allowed_is_refused():
    with pytest.raises(InvalidArgument, match="max_gap_s must be positive, got 0"):
        Memory(0)
