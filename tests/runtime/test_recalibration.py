"""Another calibration while running: from the next step on, with all that is remembered, or not at all."""

import logging
import threading
from dataclasses import replace

import numpy as np
import pytest
from octobev.errors import InvalidArgument, RigError
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig, rig_sha256
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.predictions import StateStatus

PATIENCE_S = 30
STEP_NS = 100_000_000
LENS = Intrinsics(32, 16, 16, 16, 15.5, 7.5)


@pytest.fixture
def bundle(write_bundle, manifest_text):
    return open_bundle(write_bundle(manifest_text))


def camera(name, y_m, yaw_deg=0.0, z_m=1.5, lens=LENS):
    cos, sin = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return Camera(name, lens, Pose(np.array([[sin, 0, cos, 0], [-cos, 0, sin, y_m], [0, -1, 0, z_m], [0, 0, 0, 1]])))


def rig_of(left_deg=0.0, **changes):
    return Rig((camera("a", 1.0, left_deg, **changes), camera("b", -1.0)), "pair")


def frame_set(number=0, x_m=0.0, cameras=("a", "b"), size=(16, 32)):
    pose, time_ns = Pose.planar(x_m, 0, 0), number * STEP_NS
    rng = np.random.default_rng(number)
    frames = [
        Frame(name, time_ns, rng.integers(0, 255, (*size, 3), np.uint8), world_from_ego=pose)
        for name in ("a", "b")
        if name in cameras
    ]
    return FrameSet(time_ns, tuple(frames), pose)


def assert_same(one, other):
    """Bit for bit."""
    assert {name for name, _ in one.outputs()} == {name for name, _ in other.outputs()}
    theirs = dict(other.outputs())
    for name, output in one.outputs():
        for array, value in output.arrays().items():
            np.testing.assert_array_equal(value, theirs[name].arrays()[array], err_msg=f"{name} {array}")


@pytest.mark.parametrize("threads", [1, 3])
def test_next_step_is_that_of_a_runtime_with_the_new_calibration(bundle, threads):
    new = rig_of(left_deg=20)
    with Runtime(bundle, rig_of(), threads=threads) as runtime, Runtime(bundle, new, threads=1) as fresh:
        old = runtime.step(frame_set(0))
        runtime.recalibrate(new)
        assert runtime.rig is new
        runtime.reset()
        now = runtime.step(frame_set(1))
        assert_same(now, fresh.step(frame_set(1)))
        assert not np.array_equal(old.bev["layout"].seen_by, now.bev["layout"].seen_by)
    assert old.provenance.rig_sha256 == rig_sha256(rig_of())
    assert now.provenance.rig_sha256 == rig_sha256(new)
    assert now.provenance == replace(old.provenance, rig_sha256=rig_sha256(new), threads=threads)


def test_what_is_remembered_goes_on(bundle):
    outputs = ["layout", "road_layout"]
    with Runtime(bundle, rig_of(), outputs) as runtime, Runtime(bundle, rig_of(), outputs) as left_alone:
        before = runtime.step(frame_set(0))
        left_alone.step(frame_set(0))
        runtime.recalibrate(rig_of(left_deg=90))
        after = runtime.step(frame_set(1, x_m=1.0, cameras=()))
        assert_same(after, left_alone.step(frame_set(1, x_m=1.0, cameras=())))
    assert after.state.carried
    assert not after.resets
    for name in outputs:
        assert before.bev[name].observed.any()
        assert after.states[name] == StateStatus(True, None, STEP_NS)
        np.testing.assert_array_equal(after.bev[name].observed[:-1], before.bev[name].observed[1:])


def test_the_same_calibration_again_changes_nothing(bundle):
    with Runtime(bundle, rig_of(), threads=1) as changed, Runtime(bundle, rig_of(), threads=1) as left_alone:
        for number in range(4):
            assert_same(changed.step(frame_set(number, x_m=number)), left_alone.step(frame_set(number, x_m=number)))
            changed.recalibrate(rig_of())


@pytest.mark.parametrize(
    ("rig", "message"),
    [
        (Rig((camera("a", 1.0),)), "cameras of the new calibration must be a, b, got a"),
        (Rig((camera("b", -1.0), camera("a", 1.0))), "cameras of the new calibration must be a, b, got b, a"),
        (Rig((camera("a", 1.0), camera("c", -1.0))), "must be a, b, got a, c"),
        (rig_of(z_m=-0.5), "error: a: .*height above the ground must be 0.2 to 5 m, got -0.50 m"),
        (rig_of(lens=replace(LENS, fx=1.0, fy=1.0)), "error: a: horizontal field of view of a pinhole must be at most"),
        (rig_of(lens=replace(LENS, fx=2e3, fy=2e3)), "error: a: horizontal field of view must be 8 to 220 degrees"),
        (rig_of(lens=replace(LENS, cx=300.0)), "error: a: principal point must be within 15% of the image size"),
        (Rig((camera("a", 1.0), camera("b", 900.0))), "error: b: mounting must be in metres, within 30"),
        (Rig((camera("a", 1.0), camera("b", 1.0))), "error: b: must be mounted elsewhere than a"),
    ],
)
def test_refused_calibration_leaves_the_old_one_in_use(bundle, rig, message):
    old = rig_of()
    with Runtime(bundle, old, threads=1) as runtime, Runtime(bundle, old, threads=1) as left_alone:
        runtime.step(frame_set(0))
        left_alone.step(frame_set(0))
        with pytest.raises(RigError, match=message):
            runtime.recalibrate(rig)
        assert runtime.rig is old
        predictions = runtime.step(frame_set(1, x_m=1.0))
        assert_same(predictions, left_alone.step(frame_set(1, x_m=1.0)))
    assert predictions.provenance.rig_sha256 == rig_sha256(old)


def test_what_the_check_calls_impossible_may_be_real(bundle):
    rig = rig_of(z_m=-0.5)
    with Runtime(bundle, rig_of(), threads=1) as runtime:
        runtime.recalibrate(rig, check=False)
        assert runtime.step(frame_set()).provenance.rig_sha256 == rig_sha256(rig)


def test_unlikely_calibration_is_taken_and_logged(bundle, caplog):
    rig = rig_of(z_m=5.5)
    with Runtime(bundle, rig_of(), threads=1) as runtime, caplog.at_level(logging.WARNING, "octobev"):
        runtime.recalibrate(rig)
        assert runtime.rig is rig
    assert "new calibration: warning: a: height above the ground must be 0.2 to 5 m" in caplog.text


def test_images_may_have_another_size(bundle):
    larger = Intrinsics(64, 32, 32, 32, 31.5, 15.5)
    with Runtime(bundle, rig_of(), threads=1) as runtime:
        runtime.step(frame_set(0))
        runtime.recalibrate(Rig((camera("a", 1.0, lens=larger), camera("b", -1.0, lens=larger))))
        late = runtime.step(frame_set(1))
        now = runtime.step(frame_set(2, size=(32, 64)))
    assert late.camera_mask.tolist() == [False, False]
    assert "image size must be 64x32 as calibrated, got 32x16" in late.absences["a"]
    assert now.camera_mask.tolist() == [True, True]


def test_step_that_has_begun_ends_with_the_calibration_it_began_with(bundle):
    new, inside, go_on = rig_of(left_deg=20), threading.Event(), threading.Event()
    results = []

    def wait(cameras, outputs):
        inside.set()
        assert go_on.wait(PATIENCE_S)

    with Runtime(bundle, rig_of(), threads=1) as runtime, Runtime(bundle, rig_of(), threads=1) as left_alone:
        runtime.tamper("hydranet", wait)
        stepping = threading.Thread(target=lambda: results.append(runtime.step(frame_set())))
        stepping.start()
        assert inside.wait(PATIENCE_S)
        runtime.recalibrate(new)  # returns while the step is still inside
        assert not results
        go_on.set()
        stepping.join(PATIENCE_S)
        assert_same(results[0], left_alone.step(frame_set()))
        assert results[0].provenance.rig_sha256 == rig_sha256(rig_of())
        assert runtime.step(frame_set(1)).provenance.rig_sha256 == rig_sha256(new)


def test_the_latest_of_several_counts(bundle):
    with Runtime(bundle, rig_of(), ["layout"], threads=1) as runtime, Runtime(bundle, rig_of(), threads=1) as fresh:
        runtime.step(frame_set(0))
        runtime.recalibrate(rig_of(left_deg=20))
        runtime.want()
        runtime.recalibrate(rig_of())
        runtime.reset()
        assert_same(runtime.step(frame_set(1)), fresh.step(frame_set(1)))


def test_closed_runtime_is_not_recalibrated(bundle):
    runtime = Runtime(bundle, rig_of(), threads=1)
    runtime.close()
    with pytest.raises(InvalidArgument, match="this runtime is closed"):
        runtime.recalibrate(rig_of())
