"""A stream of sets gives what steps give, though the next set's cameras run beside the rest of the one before."""

import gc
import hashlib
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
from colours import HEIGHT, POISON, WIDTH
from octobev.errors import InvalidArgument, NetworkError
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.arrangement import Arrangement
from octobev.runtime.bundle import REFERENCE_BUNDLE, open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet

STEP_NS = 100_000_000
TEAMS = [1, 2, 5]


def noise(seed):
    return np.random.default_rng(seed).integers(0, 70, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def frame_set(number, absent=(), poisoned=()):
    pose, timestamp_ns = Pose.planar(0.7 * number, 0, 0), number * STEP_NS
    frames = []
    for index, name in enumerate(("front", "rear")):
        image = noise(10 * number + index)
        if name in poisoned:
            image[0, 0] = POISON
        if name not in absent:
            frames.append(Frame(name, timestamp_ns, image, world_from_ego=pose))
    return FrameSet(timestamp_ns, tuple(frames), pose)


def changing():
    """Whole sets, sets with a camera less, with none, with NaN, one after a gap, one in which time goes back."""
    sets = [frame_set(0), frame_set(1, absent=["rear"]), frame_set(2), frame_set(3, poisoned=["front"]), frame_set(4)]
    return [*sets, frame_set(5, absent=["front", "rear"]), frame_set(6), frame_set(30), frame_set(29), frame_set(31)]


def told(predictions):
    """All that predictions say, but for the times that it took."""
    sha256 = hashlib.sha256()
    predictions.digest_into(sha256)
    said = replace(predictions, spans=())
    numbers = (said.timestamp_ns, said.sequence, said.camera_mask.tolist(), said.camera_age_ns.tolist())
    reasons = (dict(said.absences), dict(said.invalid), said.state, dict(said.states), said.provenance.rig_sha256)
    return sha256.hexdigest(), numbers, reasons


def turned(rig):
    turn = Pose.planar(0.0, 0.0, 0.05)
    return Rig(tuple(Camera(camera.name, camera.intrinsics, turn @ camera.ego_from_camera) for camera in rig), "turned")


def front_only(frame_sets):
    return [replace(given, frames=given.frames[:1]) for given in frame_sets]


@pytest.fixture(params=TEAMS)
def runtime(request, bundle, rig):
    with Runtime(bundle, rig, threads=request.param) as made:
        yield made


def stepped(bundle, rig, frame_sets, between=lambda runtime, number: None):
    with Runtime(bundle, rig, threads=1) as runtime:
        given = []
        for number, each in enumerate(frame_sets):
            given.append(told(runtime.step(each)))
            between(runtime, number)
    return given


def test_stream_gives_what_steps_give(bundle, rig, runtime):
    assert [told(given) for given in runtime.stream(changing())] == stepped(bundle, rig, changing())


def test_next_sets_cameras_begin_beside_this_sets_top_down_network(bundle, rig):
    begun, order = threading.Event(), []

    def note(cameras, outputs):
        order.append(cameras)
        if order.count(("front",)) == 2:
            begun.set()

    with Runtime(bundle, rig, ["remembered"], threads=2) as runtime:
        runtime.tamper("colours", note)
        runtime.tamper("memory", lambda cameras, outputs: begun.wait(20) or pytest.fail("it did not begin"))
        stream = runtime.stream(front_only([frame_set(0), frame_set(1)]))
        next(stream)
        assert order == [("front",)] * 2
        next(stream)


def test_one_set_is_asked_for_ahead_and_no_more(bundle, rig):
    asked = []

    def sets():
        for number in range(4):
            asked.append(number)
            yield frame_set(number)

    for threads, ahead in ((1, 0), (2, 1)):
        asked.clear()
        with Runtime(bundle, rig, threads=threads) as runtime:
            stream = runtime.stream(sets())
            assert not asked
            for number in range(3):
                next(stream)
                assert asked == list(range(number + 1 + ahead))


@pytest.mark.parametrize(
    "change",
    [
        lambda runtime: runtime.recalibrate(turned(runtime.rig)),
        lambda runtime: runtime.want(["segmentation"]),
        lambda runtime: runtime.reset("new drive"),
        lambda runtime: runtime.step(frame_set(2, absent=["front"])),
        lambda runtime: runtime.perceive(frame_set(7)),
        lambda runtime: runtime.tamper("colours", lambda cameras, outputs: outputs["segmentation"].fill(0.5)),
    ],
    ids=["recalibrated", "wanted", "reset", "stepped", "perceived", "tampered"],
)
def test_what_is_done_between_two_sets_counts_for_the_second(bundle, rig, runtime, change):
    sets = [frame_set(0), frame_set(1), frame_set(3), frame_set(4)]

    def between(runtime, number):
        if number == 1:
            change(runtime)

    given = []
    for number, predictions in enumerate(runtime.stream(sets)):
        given.append(told(predictions))
        between(runtime, number)
    assert given == stepped(bundle, rig, sets, between)


def test_two_streams_take_turns(bundle, rig, runtime):
    sets = [frame_set(number) for number in range(6)]
    streams = runtime.stream(sets[0::2]), runtime.stream(sets[1::2])
    given = [told(next(streams[number % 2])) for number in range(6)]
    assert given == stepped(bundle, rig, sets)


def test_step_says_which_set_comes_next_and_may_be_given_another(bundle, rig, runtime):
    sets = [frame_set(number) for number in range(4)]
    given = [
        runtime.step(sets[0], following=lambda: sets[1]),
        runtime.step(sets[1], following=lambda: None),
        runtime.step(sets[2], following=lambda: frame_set(9, poisoned=["front", "rear"])),
        runtime.step(sets[3]),
    ]
    assert [told(predictions) for predictions in given] == stepped(bundle, rig, sets)


@pytest.mark.parametrize("network", ["colours", "memory"])
@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
def test_what_a_hook_raises_is_raised_at_the_set_of_its_run(bundle, rig, runtime, network, error):
    runs = []

    def fail(cameras, outputs):
        runs.append(cameras)
        if len(runs) == 3:
            raise error("broken")

    runtime.tamper(network, fail)
    sets = front_only([frame_set(number) for number in range(5)])
    stream, given = runtime.stream(sets), []
    with pytest.raises(error, match="broken"):
        given.extend(told(predictions) for predictions in stream)
    assert given == stepped(bundle, rig, sets[:2])
    assert next(stream, None) is None
    runtime.tamper(network, None)
    begun_anew, carried = runtime.stream(sets[3:])
    assert begun_anew.state.reset_reason == "the step before was broken off"
    assert carried.state.carried


def test_network_that_fails_withholds_the_outputs_of_its_set(bundle, rig, runtime):
    runs = []

    def fail(cameras, outputs):
        runs.append(cameras)
        if len(runs) == 2:
            raise NetworkError("it fell over")

    runtime.tamper("colours", fail)
    first, second, third = runtime.stream(front_only([frame_set(number) for number in range(3)]))
    assert not first.invalid
    assert second.invalid["segmentation/front"] == "it fell over"
    assert not third.invalid


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
def test_what_the_source_raises_comes_after_the_sets_before_it(bundle, rig, runtime, error):
    def sets():
        yield frame_set(0)
        yield frame_set(1)
        raise error("cut")

    stream = runtime.stream(sets())
    assert [told(next(stream)), told(next(stream))] == stepped(bundle, rig, [frame_set(0), frame_set(1)])
    with pytest.raises(error, match="cut"):
        next(stream)


def test_what_is_no_set_is_refused_when_its_turn_has_come(runtime):
    stream = runtime.stream([frame_set(0), "a set"])
    next(stream)
    with pytest.raises(AttributeError):
        next(stream)


def test_stream_that_is_closed_early_leaves_the_rest_undone(bundle, rig, runtime):
    sets = changing()
    stream = runtime.stream(sets)
    given = [told(next(stream)), told(next(stream))]
    stream.close()
    given += [told(predictions) for predictions in map(runtime.step, sets[2:])]
    assert given == stepped(bundle, rig, sets)


def test_runtime_that_is_closed_ends_the_stream(bundle, rig):
    before = set(threading.enumerate())
    runtime = Runtime(bundle, rig, threads=3)
    stream = runtime.stream(changing())
    next(stream)
    runtime.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(InvalidArgument, match="this runtime is closed"):
        next(stream)
    with pytest.raises(InvalidArgument, match="this runtime is closed"):
        runtime.stream([])


def test_frames_are_let_go_of_when_their_set_is_done(runtime):
    images = []

    def noted(given):
        images.extend(weakref.ref(frame.data) for frame in given.frames)
        return given

    gc.disable()
    try:
        stream = runtime.stream(noted(frame_set(number)) for number in range(5))
        for number in range(4):
            next(stream)
            alive = {index // 2 for index, image in enumerate(images) if image() is not None}
            assert alive <= {number + 1}
        stream.close()
        assert not any(image() is not None for image in images)
    finally:
        gc.enable()


def test_measured_stages_are_those_of_the_set(runtime):
    for given in runtime.stream(front_only([frame_set(number) for number in range(4)])):
        stages = [span.stage for span in given.spans]
        for stage in ("carry", "castout", "topdown", "network"):
            assert stages.count(stage) == 1
        times = {span.stage: span.start_ns for span in given.spans}
        assert times["preprocess"] < times["network"] < times["topdown"]


def test_stream_of_the_reference_bundle_gives_what_steps_give():
    drive = SyntheticDrive(20_003, 0.75, rate_hz=8.0, size=(320, 240))
    sets = [step.frame_set for step in drive.steps()]
    sets[2] = replace(sets[2], frames=sets[2].frames[3:])
    with Runtime(open_bundle(REFERENCE_BUNDLE), drive.rig, threads=2) as runtime:
        given = [told(predictions) for predictions in runtime.stream(sets)]
    assert len(given) == len(sets)
    assert given == stepped(open_bundle(REFERENCE_BUNDLE), drive.rig, sets)


@pytest.mark.parametrize(("threads", "inside"), [(1, [1]), (2, [1, 2]), (8, [2, 8])])
def test_top_down_network_is_there_for_few_threads_and_for_all(bundle, rig, threads, inside):
    """Beside the next set's cameras, which take a thread each, it has few."""
    with Runtime(bundle, rig, ["remembered"], threads=threads) as runtime:
        loaded = [network for network in runtime._graph.loaded if network.name == "memory"]
    assert sorted(network.threads for network in loaded) == inside
    assert Arrangement.side_by_side(threads).threads_beside == inside[0]
