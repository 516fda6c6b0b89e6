"""Overlaps counted by hand, and which places are compared."""

import numpy as np
import pytest
from octobev.fusion.grid import BevGrid
from octobev.fusion.layout import RoadLayout
from octobev.fusion.pose import Pose
from octobev.replay.agreement import PLACES, STRETCHES, choose_stretches, layout_overlap, similarity
from octobev.runtime.frames import Frame, FrameSet

GRID = BevGrid(0.0, 4.0, 0.0, 1.0, 1.0)  # four cells in a row


def layout(*probability, seen=(1, 1, 1, 1)):
    row = np.array(probability, dtype=np.float32).reshape(1, 4, 1)
    seen_by = np.array(seen, dtype=np.uint64).reshape(4, 1)
    return RoadLayout(GRID, ("drivable",), row, np.ones((4, 1), dtype=np.bool_), seen_by)


def test_overlap_of_two_layouts_in_one_place():
    """Smaller: 0.2 + 0.5 + 0 + 0; larger: 0.4 + 0.5 + 0.3 + 0."""
    overlap = layout_overlap(layout(0.4, 0.5, 0, 0), layout(0.2, 0.5, 0.3, 0), Pose.identity())
    np.testing.assert_allclose(overlap, [0.7, 1.2], rtol=1e-5)


def test_ground_that_came_nearer_is_compared_with_itself():
    """One metre on, cell i of before is cell i - 1; what comes in at the far edge was not seen before."""
    ahead = Pose.planar(1.0, 0.0, 0.0)
    overlap = layout_overlap(layout(0.0, 0.5, 0.25, 1.0), layout(0.5, 0.25, 1.0, 0.8), ahead)
    np.testing.assert_allclose(overlap, [1.75, 1.75], rtol=1e-5)
    assert similarity(overlap) == pytest.approx(1.0)


def test_only_what_is_seen_from_both_places_counts():
    before, after = layout(1, 1, 1, 1, seen=(1, 1, 0, 0)), layout(1, 0, 0, 0, seen=(2, 2, 2, 0))
    np.testing.assert_allclose(layout_overlap(before, after, Pose.identity()), [1.0, 2.0], rtol=1e-5)


def test_nothing_probable_is_no_agreement():
    assert similarity(np.zeros((3, 2))) == 0.0


def drive(*x_m, pose=True):
    for number, x in enumerate(x_m):
        frame = Frame("front", number, np.zeros((2, 2, 3), dtype=np.uint8))
        yield FrameSet(number, (frame,), Pose.planar(x, 0.0, 0.0) if pose else None)


def places(stretches):
    return [[frame_set.world_from_ego.translation_m[0] for frame_set in stretch] for stretch in stretches]


def test_places_are_apart_and_stretches_whole():
    assert places(choose_stretches(drive(*range(14)))) == [[0, 3, 6, 9, 12]]
    assert places(choose_stretches(drive(*range(30)))) == [[0, 3, 6, 9, 12], [13, 16, 19, 22, 25]]


def test_a_jump_of_the_pose_ends_a_stretch():
    assert places(choose_stretches(drive(0, 3, 6, 1000, 1003, 1006, 1009, 1012))) == [[1000, 1003, 1006, 1009, 1012]]


def test_a_car_that_stands_or_knows_no_pose_has_no_places():
    assert choose_stretches(drive(*[1.0] * 50)) == []
    assert choose_stretches(drive(*range(50), pose=False)) == []


def test_stretches_of_a_long_drive_are_spread_over_it():
    chosen = choose_stretches(drive(*range(0, 3 * PLACES * 100, 3)))
    assert len(chosen) == STRETCHES
    starts = np.array(places(chosen))[:, 0] / (3 * PLACES * 100)
    assert starts[0] == 0.0
    assert starts[-1] > 0.8
    assert np.diff(starts).min() > 0.05
