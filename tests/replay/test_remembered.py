import numpy as np
from octobev.fusion.grid import BevGrid
from octobev.fusion.pose import Pose
from octobev.replay.remembered import VisibleBefore

GRID = BevGrid(-4.0, 4.0, -3.0, 3.0, 1.0)
ALL = np.ones(GRID.shape, dtype=np.bool_)
NONE = np.zeros(GRID.shape, dtype=np.bool_)


def test_nothing_was_visible_before_the_first_set():
    assert not VisibleBefore(GRID).follow(Pose.identity(), NONE).any()


def test_hidden_cells_that_were_visible_are_remembered():
    before = VisibleBefore(GRID)
    first, second = NONE.copy(), NONE.copy()
    first[2, 1] = first[2, 2] = True
    second[2, 2] = second[5, 5] = True
    before.follow(Pose.identity(), first)
    assert np.argwhere(before.follow(Pose.identity(), second)).tolist() == [[2, 1]]
    assert np.argwhere(before.follow(Pose.identity(), NONE)).tolist() == [[2, 1], [2, 2], [5, 5]]


def test_the_mask_stays_with_the_ground():
    """One step of 2 m forward: what was in row 5 is in row 3, and what comes in at the front is new."""
    before = VisibleBefore(GRID)
    before.follow(Pose.identity(), ALL)
    remembered = before.follow(Pose.planar(2.0, 0.0, 0.0), NONE)
    assert remembered[:6].all()
    assert not remembered[6:].any()


def test_a_turn_in_a_world_frame_far_away():
    """A quarter turn to the left: the ground 1.5 m ahead (cell 5, 3) is now 1.5 m to the right."""
    before = VisibleBefore(GRID)
    first = NONE.copy()
    first[5, 3] = True  # x 1.5, y 0.5
    start = Pose.planar(1000.0, -500.0, 0.3)
    before.follow(start, first)
    remembered = before.follow(start @ Pose.planar(0.0, 0.0, np.pi / 2), NONE)
    assert np.argwhere(remembered).tolist() == [[4, 1]]  # x 0.5, y -1.5


def test_without_a_pose_nothing_is_known():
    before = VisibleBefore(GRID)
    before.follow(Pose.identity(), ALL)
    assert not before.follow(None, NONE).any()
    before.follow(Pose.identity(), ALL)
    assert before.follow(Pose.identity(), NONE).all()


def test_small_steps_are_added_up():
    """Twenty steps of 0.1 m are two cells, though none of them is one."""
    before = VisibleBefore(GRID)
    before.follow(Pose.identity(), ALL)
    for step in range(1, 21):
        remembered = before.follow(Pose.planar(0.1 * step, 0.0, 0.0), NONE)
    assert remembered[:6].all()
    assert not remembered[6:].any()
