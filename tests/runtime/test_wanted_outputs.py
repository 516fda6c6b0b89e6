"""Other outputs while running: what nobody wants does not run, what stays wanted goes on, what comes back is loaded."""

import hashlib

import numpy as np
import pytest
from octobev.errors import BundleError, InvalidArgument
from octobev.fusion.pose import Pose
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.predictions import StateStatus
from octobev.runtime.session import Network
from octobev.runtime.sessions import KEPT, Sessions

STEP_NS = 100_000_000


@pytest.fixture
def bundle(write_bundle, manifest_text):
    return open_bundle(write_bundle(manifest_text))


@pytest.fixture
def rig(make_rig):
    return make_rig("front")


@pytest.fixture
def loaded(monkeypatch):
    """Networks in the order in which they are loaded."""
    names = []

    def load(model, **options):
        names.append((options["name"], *sorted(options["outputs"])))
        return Network(model, **options)

    monkeypatch.setattr("octobev.runtime.sessions.Network", load)
    return names


def frame_set(number=0):
    """The car drives on and its camera fires a little earlier each time."""
    image = np.random.default_rng(number).integers(0, 255, (16, 32, 3), np.uint8)
    time_ns = number * STEP_NS
    frame = Frame("front", time_ns, image, world_from_ego=Pose.planar(0.98 * number, 0, 0))
    return FrameSet(time_ns, (frame,), Pose.planar(number, 0, 0))


def digest(predictions, *names):
    sha256 = hashlib.sha256()
    for name, output in sorted(predictions.outputs(), key=lambda item: item[0]):
        if not names or name in names:
            for array in output.arrays().values():
                sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["layout"], ["road_layout"]),
        (["layout"], ["layout", "occupancy"]),
        (["layout", "occupancy"], ["layout"]),
        (["depth"], ["depth", "bright", "segmentation"]),
        (["features"], None),
        (None, ["features"]),
        ([], ["layout", "depth"]),
    ],
)
def test_after_a_reset_all_is_as_if_it_had_been_wanted_from_the_start(bundle, rig, before, after):
    with Runtime(bundle, rig, before, threads=1) as runtime, Runtime(bundle, rig, after, threads=1) as fresh:
        for number in range(3):
            runtime.step(frame_set(number))
        runtime.want(after)
        assert runtime.plan == fresh.plan
        runtime.reset()
        for number in range(3, 6):
            one, other = runtime.step(frame_set(number)), fresh.step(frame_set(number))
            assert [name for name, _ in one.outputs()] == [name for name, _ in other.outputs()]
            assert digest(one) == digest(other)
        assert runtime.provenance == fresh.provenance


def test_what_stays_wanted_goes_on_bit_for_bit(bundle, rig):
    changes = {2: ["layout", "road_layout", "depth"], 3: ["road_layout", "layout"], 5: None}
    always = ("layout", "road_layout")
    with Runtime(bundle, rig, always, threads=1) as runtime, Runtime(bundle, rig, always, threads=1) as left_alone:
        for number in range(8):
            if number in changes:
                runtime.want(changes[number])
            one, other = runtime.step(frame_set(number)), left_alone.step(frame_set(number))
            assert digest(one, *always) == digest(other, *always)
            assert one.states["layout"] == other.states["layout"]


def test_networks_that_nobody_wants_do_not_run(bundle, rig):
    runs = []
    with Runtime(bundle, rig, threads=1) as runtime:
        runtime.watch_inputs(lambda network, inputs: runs.append(network))
        runtime.step(frame_set(0))
        assert runs == ["hydranet", "topdown"]
        runtime.want(["road_layout"])
        assert len(runs) == 2  # whatever is tried out beforehand is not seen
        assert list(runtime.step(frame_set(1)).bev) == ["road_layout"]
        assert runs[2:] == ["hydranet"]
        runtime.want([])
        predictions = runtime.step(frame_set(2))
        assert len(runs) == 3
    assert not list(predictions.outputs())
    assert predictions.camera_mask.tolist() == [True]


def test_network_that_did_not_run_begins_with_nothing(bundle, rig):
    with Runtime(bundle, rig, ["layout", "road_layout"], threads=1) as runtime:
        runtime.step(frame_set(0))
        runtime.want(["road_layout"])
        runtime.step(frame_set(1))
        runtime.want(["layout", "road_layout"])
        back = runtime.step(FrameSet(2 * STEP_NS, (), Pose.identity()))
        after = runtime.step(FrameSet(3 * STEP_NS, (), Pose.identity()))
    why = "network topdown: not wanted before"
    assert back.states["layout"] == StateStatus(False, why, 0)
    assert back.states["road_layout"] == back.state == StateStatus(True, None, 2 * STEP_NS)
    assert back.resets == (why,)
    assert not back.bev["layout"].observed.any()
    assert back.bev["road_layout"].observed.any()
    assert after.states["layout"] == StateStatus(True, None, STEP_NS)


def test_what_comes_back_is_still_loaded(bundle, rig, loaded):
    with Runtime(bundle, rig, ["layout"], threads=1) as runtime:
        assert loaded == [("hydranet", "features"), ("topdown", "layout", "state_out")]
        runtime.want(["depth"])
        assert loaded[2:] == [("hydranet", "log_depth")]
        runtime.want(["layout"])
        runtime.want(["depth"])
        assert len(loaded) == 3


def test_few_sub_graphs_of_a_file_stay_loaded(bundle, loaded):
    tensors = [["features"], ["logits"], ["log_depth"], ["bright"], ["features", "logits"], ["features", "bright"]]
    sessions = Sessions(bundle)
    networks = [sessions.load("hydranet", names) for names in tensors]
    sessions.trim(networks)
    assert [sessions.load("hydranet", names) for names in tensors] == networks  # all run
    sessions.trim(networks[:1])
    del loaded[:]
    kept = [networks[0], *networks[1 - KEPT :]]
    assert [sessions.load("hydranet", tensors[networks.index(network)]) for network in kept] == kept
    assert not loaded
    assert sessions.load("hydranet", tensors[1]) is not networks[1]
    assert loaded == [("hydranet", "logits")]


def test_order_of_tensors_makes_no_other_sub_graph(bundle):
    sessions = Sessions(bundle)
    assert sessions.load("hydranet", ["logits", "bright"]) is sessions.load("hydranet", ["bright", "logits", "bright"])


def test_what_cannot_be_had_leaves_what_was_wanted(bundle, rig):
    with Runtime(bundle, rig, ["layout"], threads=1) as runtime, Runtime(bundle, rig, ["layout"], threads=1) as other:
        runtime.step(frame_set(0))
        other.step(frame_set(0))
        with pytest.raises(InvalidArgument, match=r"outputs of bundle tiny must be among .*, got lanes"):
            runtime.want(["lanes"])
        (bundle.path / "hydra.onnx").write_bytes(b"another file")
        with pytest.raises(BundleError, match=r"must be that of hydra\.onnx"):
            runtime.want(["layout", "depth"])
        predictions = runtime.step(frame_set(1))
        assert digest(predictions) == digest(other.step(frame_set(1)))
    assert list(predictions.bev) == ["layout"]


def test_any_number_of_threads_gives_the_same_bytes(bundle, make_rig):
    def digests(threads):
        with Runtime(bundle, make_rig("front"), ["layout"], threads=threads) as runtime:
            for number, wanted in enumerate((["layout"], ["occupancy", "layout"], None, ["road_layout"])):
                runtime.want(wanted)
                yield digest(runtime.step(frame_set(number)))

    assert list(digests(1)) == list(digests(3))


def test_closed_runtime_takes_no_wishes(bundle, rig):
    runtime = Runtime(bundle, rig, ["layout"], threads=1)
    runtime.close()
    with pytest.raises(InvalidArgument, match="this runtime is closed"):
        runtime.want(["depth"])
