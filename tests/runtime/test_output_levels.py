"""Outputs given as levels where the graph makes numbers of levels at its end, and what a runtime does with them."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.levels import Levels
from octobev.replay.rigs import reference_rig
from octobev.runtime import topdowns
from octobev.runtime.bundle import REFERENCE_BUNDLE, open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.output_levels import give_levels
from onnx import TensorProto, checker, helper, numpy_helper

SCALE, ZERO = np.float32(0.03), np.uint8(43)
SAID = {"numbers": Levels(float(SCALE), 43)}
WANTED = ("road_layout", "features")


def node(op, inputs, outputs, **how):
    return helper.make_node(op, inputs, outputs, **how)


QUANTISED = node("QuantizeLinear", ["image", "scale", "zero"], ["levels"])
TURNED = node("Transpose", ["levels"], ["turned"], perm=[1, 0])
LAST = node("DequantizeLinear", ["turned", "scale", "zero"], ["numbers"])


def model(*nodes, outputs=("numbers",), zero=ZERO, scale=SCALE, types=None):
    types = types or {}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, 2])],
        [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), [2, 3]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (("scale", scale), ("zero", zero))],
        value_info=[helper.make_tensor_value_info("turned", TensorProto.UINT8, [2, 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(proto, image):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})


@pytest.mark.parametrize("beside", [[], [node("DequantizeLinear", ["turned", "scale", "zero"], ["more"])]])
def test_levels_are_those_of_the_numbers_and_others_that_read_them_still_do(beside):
    image = np.random.default_rng(0).normal(0, 3, (3, 2)).astype(np.float32)
    nodes, outputs = [QUANTISED, TURNED, *beside, LAST], ["numbers", *(name for n in beside for name in n.output)]
    before, proto = model(*nodes, outputs=outputs), model(*nodes, outputs=outputs)
    assert give_levels(proto, ["numbers"]) == SAID
    checker.check_model(proto)
    (levels, *rest), (numbers, *rest_before) = run(proto, image), run(before, image)
    assert levels.dtype == np.uint8
    np.testing.assert_array_equal(SAID["numbers"].numbers(levels), numbers)
    np.testing.assert_array_equal(SAID["numbers"].nearest(numbers), levels)
    np.testing.assert_array_equal(rest, rest_before)


@pytest.mark.parametrize(
    "proto",
    [
        model(node("Identity", ["image"], ["numbers"])),
        model(QUANTISED, TURNED, LAST, node("Relu", ["numbers"], ["more"]), outputs=["numbers", "more"]),
        model(QUANTISED, TURNED, LAST, outputs=["numbers", "turned"], types={"turned": TensorProto.UINT8}),
        model(QUANTISED, TURNED, LAST, zero=np.int8(3)),
        model(QUANTISED, TURNED, LAST, zero=np.array([1, 2], np.uint8), scale=np.array([1, 2], np.float32)),
        model(QUANTISED, TURNED, node("DequantizeLinear", ["turned", "scale"], ["numbers"])),
        model(QUANTISED, TURNED, LAST, types={"numbers": TensorProto.FLOAT16}),
    ],
    ids=["no levels", "numbers read", "levels given too", "signed", "a scale each", "of no said type", "half numbers"],
)
def test_other_outputs_stay_as_they_are(proto):
    before = proto.SerializeToString()
    assert give_levels(proto, ["numbers"]) == {}
    assert proto.SerializeToString() == before


RIG = reference_rig()


def frame_set(number=0):
    """Noise in blocks, the same for the same number."""
    images = np.random.default_rng(number).integers(0, 256, (len(RIG), 24, 32, 3), dtype=np.uint8)
    time_ns = number * 100_000_000
    frames = [
        Frame(name, time_ns, image.repeat(40, 0).repeat(40, 1)) for name, image in zip(RIG.names, images, strict=True)
    ]
    return FrameSet(time_ns, tuple(frames))


@pytest.fixture(scope="module")
def of_floats():
    """What a step gives where floats are lifted, and what the top-down network reads then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topdowns, "is_quick", lambda: False)
        with Runtime(open_bundle(REFERENCE_BUNDLE), RIG, WANTED, 1, variant="int8") as runtime:
            assert rows(runtime).dtype == np.float32
            return watched_step(runtime)


@pytest.fixture
def runtime(monkeypatch):
    """The reference bundle in int8, lifting levels."""
    monkeypatch.setattr(topdowns, "is_quick", lambda: True)
    with Runtime(open_bundle(REFERENCE_BUNDLE), RIG, WANTED, 2, variant="int8") as runtime:
        assert rows(runtime).dtype == np.uint8
        yield runtime


def watched_step(runtime):
    seen = {}
    runtime.watch_inputs(lambda network, inputs: seen.update({network: inputs}))
    predictions = runtime.step(frame_set())
    return predictions, seen["topdown"]["lifted"].copy()


def rows(runtime):
    return runtime._graph.hydranets["hydranet"].rows("features")


def assert_same(predictions, others):
    np.testing.assert_array_equal(predictions.bev["road_layout"].belief, others.bev["road_layout"].belief)
    for name, output in predictions.camera_outputs.get("features", {}).items():
        np.testing.assert_array_equal(output.values, others.camera_outputs["features"][name].values)


def test_features_are_the_same_to_the_bit_and_lifted_levels_nearly(runtime, of_floats):
    (predictions, lifted), (expected, expected_lifted) = watched_step(runtime), of_floats
    assert list(predictions.camera_outputs["features"]) == list(RIG.names)
    for name, output in expected.camera_outputs["features"].items():
        values = predictions.camera_outputs["features"][name].values
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, output.values)
    steps = np.abs(lifted.astype(int) - expected_lifted)
    assert np.ptp(expected_lifted) > 100
    assert steps.max() <= 1
    assert steps.mean() < 0.001
    layout, other = (given.bev["road_layout"].belief for given in (predictions, expected))
    assert np.mean(np.abs(layout - other) > 0.05) < 0.01


def test_whoever_tampers_sees_numbers_and_changes_nothing_by_looking(runtime, of_floats):
    seen = {}
    runtime.tamper("hydranet", lambda cameras, outputs: seen.update({cameras: outputs["features"].copy()}))
    watched = runtime.step(frame_set())
    runtime.tamper("hydranet", None)
    runtime.reset()
    assert_same(watched, runtime.step(frame_set()))
    for (name,), numbers in seen.items():
        np.testing.assert_array_equal(numbers, of_floats[0].camera_outputs["features"][name].values)
    assert len(seen) == len(RIG)


def test_numbers_written_by_whoever_tampers_are_lifted(runtime):
    runtime.tamper("hydranet", lambda cameras, outputs: outputs["features"].fill(0))
    predictions = runtime.step(frame_set())
    assert not predictions.camera_outputs["features"]["rear"].values.any()
    assert (rows(runtime) == rows(runtime)[0, 0]).all()


def test_features_that_are_not_numbers_are_withheld(runtime):
    def spoil(cameras, outputs):
        if "rear" in cameras:
            outputs["features"][7, 3] = np.nan

    runtime.tamper("hydranet", spoil)
    predictions = runtime.step(frame_set())
    assert list(predictions.invalid) == ["features/rear"]
    assert predictions.invalid["features/rear"] == "network gave NaN or Inf in 1 of 184320 numbers"
    bit = 1 << RIG.names.index("rear")
    assert not (predictions.bev["road_layout"].seen_by & bit).any()
    runtime.tamper("hydranet", None)
    assert (runtime.step(frame_set(1)).bev["road_layout"].seen_by & bit).any()


def test_levels_are_kept_and_stepped_on_again(runtime):
    kept = runtime.perceive(frame_set())
    whole = runtime.step(frame_set())
    runtime.step(frame_set(1))
    runtime.reset()
    assert_same(runtime.step(frame_set(), kept), whole)


def test_what_was_kept_as_numbers_is_refused(runtime):
    kept = runtime.perceive(frame_set())
    numbers = {"hydranet": {name: array.astype(np.float32) for name, array in kept.rows["hydranet"].items()}}
    with pytest.raises(InvalidArgument, match=r"rows kept for network hydranet must be .*uint8.*, got .*float32"):
        runtime.step(frame_set(), replace(kept, rows=numbers))


def test_another_variant_lifts_floats():
    with Runtime(open_bundle(REFERENCE_BUNDLE), RIG, {"road_layout"}, 1, variant="fp32") as runtime:
        assert rows(runtime).dtype == np.float32
