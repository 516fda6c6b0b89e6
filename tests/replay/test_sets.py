import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.pose import Pose
from octobev.replay.drive import DriveStep, Losses
from octobev.replay.sets import check_window, group_frames, skew_for_period, window
from octobev.runtime.frames import Frame, FrameSet, PixelFormat

MS = 1_000_000


def frame(camera, ms, pose=None):
    return Frame(camera, ms * MS, b"\xff\xd8\xff", PixelFormat.JPEG, pose)


def group(*events, cameras="abc", losses=None, skew_ms=60):
    losses = Losses() if losses is None else losses
    return list(group_frames((frame(*event) for event in events), cameras, skew_ms * MS, losses))


def members(sets):
    return [[(item.camera, item.timestamp_ns // MS) for item in one.frames] for one in sets]


def test_a_complete_set_closes_and_lists_cameras_in_rig_order():
    sets = group(("b", 0), ("c", 10), ("a", 20), ("a", 100), ("b", 101), ("c", 102))
    assert members(sets) == [[("a", 20), ("b", 0), ("c", 10)], [("a", 100), ("b", 101), ("c", 102)]]
    assert [dict(one.absences) for one in sets] == [{}, {}]


def test_timestamp_and_pose_of_a_set_are_those_of_its_latest_frame():
    early, late = Pose.planar(1, 0, 0), Pose.planar(2, 0, 0)
    (one,) = group(("a", 5, early), ("b", 9, late), cameras="ab")
    assert one.timestamp_ns == 9 * MS
    assert one.world_from_ego is late


def test_a_set_closes_when_a_camera_comes_again():
    sets = group(("a", 0), ("b", 1), ("a", 30), ("b", 31))
    assert members(sets) == [[("a", 0), ("b", 1)], [("a", 30), ("b", 31)]]
    assert dict(sets[0].absences) == {"c": "no frame within 60 ms"}


def test_the_skew_bound_counts_from_the_first_frame_and_is_inclusive():
    assert members(group(("a", 0), ("b", 60), cameras="ab")) == [[("a", 0), ("b", 60)]]
    assert members(group(("a", 0), ("b", 61), cameras="ab")) == [[("a", 0)], [("b", 61)]]
    assert members(group(("a", 0), ("b", 40), ("c", 80))) == [[("a", 0), ("b", 40)], [("c", 80)]]


def test_the_last_incomplete_set_is_given():
    assert members(group(("a", 0))) == [[("a", 0)]]


def test_no_frames_give_no_sets():
    assert group() == []


def test_frames_of_other_cameras_are_ignored():
    losses = Losses()
    assert members(group(("x", 0), ("a", 1), ("x", 2), cameras="a", losses=losses)) == [[("a", 1)]]
    assert not losses


def test_time_never_runs_backwards():
    losses = Losses()
    sets = group(("a", 100), ("b", 90), ("a", 50), ("b", 120), cameras="ab", losses=losses)
    assert members(sets) == [[("a", 100), ("b", 120)]]
    assert losses.reasons == {"timestamp goes backwards": 2}


def test_a_repeated_frame_is_counted_and_dropped():
    losses = Losses()
    sets = group(("a", 0), ("a", 0), ("b", 1), ("b", 1), cameras="ab", losses=losses)
    assert members(sets) == [[("a", 0), ("b", 1)]]
    assert losses.reasons == {"two frames of one camera at the same time": 2}


def test_a_lost_frame_does_not_shift_the_sets_after_it():
    # b fires 25 ms after a, a 58 ms after b: both fit into the bound
    events = [("a", 0), ("b", 25), ("a", 83), ("b", 108), ("b", 191), ("a", 249), ("b", 274), ("a", 332), ("b", 357)]
    assert members(group(*events, cameras="ab")) == [
        [("a", 0), ("b", 25)],
        [("a", 83), ("b", 108)],
        [("b", 191)],
        [("a", 249), ("b", 274)],
        [("a", 332), ("b", 357)],
    ]


def test_phases_that_change_for_good_are_learned_anew():
    events = [(camera, 83 * n + offset) for n in range(3) for camera, offset in (("a", 0), ("b", 25))]
    events += [(camera, 249 + 83 * n + offset) for n in range(20) for camera, offset in (("b", 0), ("a", 20))]
    sizes = [len(one.frames) for one in group(*events, cameras="ab")]
    assert sizes[:3] == [2, 2, 2]
    assert sizes[-5:] == [2, 2, 2, 2, 2]


@pytest.mark.parametrize(("period_s", "skew_s"), [(None, 0.06), (0.0, 0.06), (0.1, 0.06), (1 / 36, 0.75 / 36)])
def test_fast_rigs_get_a_smaller_bound(period_s, skew_s):
    assert skew_for_period(period_s) == pytest.approx(skew_s)


def steps(*ms):
    return iter([DriveStep(FrameSet(at * MS, ())) for at in ms])


def cut(found):
    return [step.frame_set.timestamp_ns // MS for step in found]


def test_window_is_half_open_and_counts_from_the_first_step():
    assert cut(window(steps(1000, 1100, 1200, 1300), 0.1, 0.2)) == [1100, 1200]
    assert cut(window(steps(1000, 1100, 1200), 0.0, None)) == [1000, 1100, 1200]
    assert cut(window(steps(1000), 0.0, 0.0)) == []


def test_window_counts_from_a_given_first_step():
    assert cut(window(steps(1100, 1200, 1300), 0.2, None, first_ns=1000 * MS)) == [1200, 1300]


@pytest.mark.parametrize(
    ("start", "duration"), [(-1, None), (float("nan"), None), (float("inf"), None), (0, -0.5), (0, float("inf"))]
)
def test_window_of_other_than_finite_times_from_0_on_is_refused(start, duration):
    with pytest.raises(InvalidArgument, match="must be finite seconds from 0 on"):
        check_window(start, duration)
