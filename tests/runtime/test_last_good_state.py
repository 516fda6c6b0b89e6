"""What a network that gives NaN, or fails, does to what is remembered: nothing."""

import numpy as np
import pytest
from octobev.errors import NetworkError
from octobev.fusion.pose import Pose
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.memory import Continuity
from octobev.runtime.predictions import StateStatus

STEP_NS = 100_000_000
NAN = "NaN or Inf in state_out, layout of network topdown"


@pytest.fixture
def bundle(write_bundle, manifest_text):
    """The tiny top-down network: its state is the sum of what it saw."""
    return open_bundle(write_bundle(manifest_text))


def frame_set(number, x_m=0.0, cameras=("front",), red=255):
    pose = Pose.planar(x_m, 0, 0)
    image = np.full((16, 32, 3), (0, 0, red), np.uint8)
    frames = tuple(Frame(name, number * STEP_NS, image, world_from_ego=pose) for name in cameras)
    return FrameSet(number * STEP_NS, frames, pose)


def spoil(cameras, outputs):
    outputs["state_out"][0, 0, 3, 3] = np.nan
    outputs["layout"][0, 0, 3, 3] = np.nan


def fail(cameras, outputs):
    raise NetworkError("out of memory")


def state_of(predictions):
    """The tiny layout is the sigmoid of the state; of all cells, also those that nobody observed."""
    belief = predictions.bev["layout"].belief[0].astype(np.float64)
    return np.log(belief / (1 - belief))


@pytest.mark.parametrize("tamper", [spoil, fail])
def test_state_goes_on_from_the_last_good_one_along_the_motion(bundle, make_rig, tamper):
    rig = make_rig("front")
    with Runtime(bundle, rig, ["layout"], threads=1) as runtime:
        first = runtime.step(frame_set(0))
        runtime.tamper("topdown", tamper)
        bad = [runtime.step(frame_set(number, x_m=number)) for number in (1, 2)]  # 1 m is one cell
        runtime.tamper("topdown", None)
        last = runtime.step(frame_set(3, x_m=3.0, cameras=()))
    why = NAN if tamper is spoil else "out of memory"
    for predictions in bad:
        assert dict(predictions.invalid) == {"layout": why}
        assert predictions.states["layout"].restored == why
        assert predictions.states["layout"].carried
        assert predictions.state.restored is None
        assert predictions.resets == (f"{why}; back to the last good state",)
    assert last.states["layout"] == StateStatus(True, None, 3 * STEP_NS)
    assert not last.resets
    before = state_of(first)
    assert before.max() > 0.1
    np.testing.assert_allclose(state_of(last)[:-3], before[3:], atol=1e-5)  # carried by three cells, nothing added
    np.testing.assert_array_equal(last.bev["layout"].observed[:-3], first.bev["layout"].observed[3:])
    assert not last.bev["layout"].observed[-3:].any()


def test_ground_seen_only_in_a_bad_step_is_not_observed(bundle, make_rig):
    with Runtime(bundle, make_rig("front"), ["layout"], threads=1) as runtime:
        runtime.step(frame_set(0, cameras=()))
        runtime.tamper("topdown", spoil)
        runtime.step(frame_set(1))
        runtime.tamper("topdown", None)
        assert not runtime.step(frame_set(2, cameras=())).bev["layout"].observed.any()


def test_state_begins_anew_when_the_last_good_one_is_too_old(bundle, make_rig):
    with Runtime(bundle, make_rig("front"), ["layout", "road_layout"], threads=1, max_gap_s=0.25) as runtime:
        runtime.step(frame_set(0))
        runtime.tamper("topdown", spoil)
        statuses = [runtime.step(frame_set(number)).states["layout"] for number in (1, 2, 3)]
        runtime.tamper("topdown", None)
        last = runtime.step(frame_set(4, cameras=()))
    why = "network topdown: nothing usable for 0.300 s"
    assert [status.reset_reason for status in statuses] == [None, None, why]
    assert all(status.restored for status in statuses)
    assert not last.bev["layout"].observed.any()
    assert last.states["layout"] == StateStatus(True, None, STEP_NS)
    assert last.states["road_layout"] == StateStatus(True, None, 4 * STEP_NS)  # the cast-out was never in trouble
    assert last.bev["road_layout"].observed.any()


def test_features_of_one_camera_with_nan_mask_that_camera_and_leave_the_state_good(bundle, make_rig):
    def spoil_right(cameras, outputs):
        if cameras == ("right",):
            outputs["features"][0, 1, 2, 2] = np.inf

    rig = make_rig("left", "right")
    with Runtime(bundle, rig, ["layout"], threads=1) as runtime:
        runtime.tamper("hydranet", spoil_right)
        spoilt = [runtime.step(frame_set(number, cameras=("left", "right"))) for number in range(3)]
    with Runtime(bundle, rig, ["layout"], threads=1) as runtime:
        without = [runtime.step(frame_set(number, cameras=("left",))) for number in range(3)]
    for one, other in zip(spoilt, without, strict=True):
        assert list(one.invalid) == ["features/right"]
        assert one.states == other.states
        np.testing.assert_array_equal(one.bev["layout"].belief, other.bev["layout"].belief)
        np.testing.assert_array_equal(one.bev["layout"].seen_by, other.bev["layout"].seen_by)
        assert set(np.unique(one.bev["layout"].seen_by)) == {0, 1}
    assert not spoilt[2].resets


def test_what_never_took_part_begins_in_the_midst():
    carried = StateStatus(True, None, 7)
    continuity = Continuity("network lanes", 1.0)
    assert continuity.follow(50, carried) == StateStatus(False, "network lanes: not wanted before", 0)
    continuity.take_in()
    assert continuity.follow(60, carried) == StateStatus(True, None, 10)


def test_what_begins_anew_as_a_whole_begins_anew_in_every_part():
    continuity = Continuity("network lanes", 1.0)
    assert continuity.follow(50, StateStatus(False, "gap of 2.000 s", 0)) == StateStatus(False, "gap of 2.000 s", 0)
    assert continuity.follow(60, StateStatus(True, None, 10)).carried


def test_beginning_anew_gives_another_full_gap():
    continuity = Continuity("network lanes", 1.0)
    continuity.follow(0, StateStatus(False, "first set", 0))
    carried = [continuity.follow(n * 600_000_000, StateStatus(True, None, 1)).carried for n in range(1, 7)]
    assert carried == [True, False, True, False, True, False]
