"""Cameras that are levelled by the horizons that a network sees, from the next step on."""

import numpy as np
import pytest
from octobev.errors import BundleError
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from onnx import TensorProto, helper, numpy_helper

STEP_NS = 250_000_000
PER_DEGREE_PX = 16 * np.radians(1.0)
"""A camera of the tiny rig sees the horizon so much lower for each degree that it looks up."""

LEVEL_BY = 'license = "MIT"\nlevel_by = "horizon"\n'
OUTPUT = """\
[networks.hydranet.outputs.horizon]
tensor = "horizon"
kind = "horizon"
stride = 4

[networks.topdown]
"""


def horizon_model():
    """Features as they are seen; a horizon that is 10 degrees lower in white images than in black ones."""
    distance = np.broadcast_to(7.5 - (4.0 * np.arange(4) + 1.5)[:, None], (4, 8))
    base = np.stack((distance - 5 * PER_DEGREE_PX, np.full((4, 8), 6.0)))[np.newaxis].astype(np.float32)
    constants = {
        "w_features": np.array([[1, 0, 0], [0, 1, -1]], np.float32).reshape(2, 3, 1, 1),
        "w_horizon": np.array([[10 * PER_DEGREE_PX / 3] * 3, [0, 0, 0]], np.float32).reshape(2, 3, 1, 1),
        "base": base,
    }
    nodes = [
        helper.make_node("AveragePool", ["image"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["small", "w_features"], ["features"]),
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Conv", ["mean", "w_horizon"], ["shift"]),
        helper.make_node("Add", ["base", "shift"], ["horizon"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 32])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 4, 8]) for name in ("features", "horizon")]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "horizon", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


@pytest.fixture
def level_manifest(manifest_text):
    return manifest_text.replace('license = "MIT"\n', LEVEL_BY).replace("[networks.topdown]\n", OUTPUT, 1)


@pytest.fixture
def bundle(write_bundle, level_manifest):
    return open_bundle(write_bundle(level_manifest, {"hydra.onnx": horizon_model()}))


@pytest.fixture
def rig(make_rig):
    return make_rig("a", "b", "c", "d")


def frame_set(number, up_deg=2.0, cameras="abcd"):
    """Images whose horizon is where cameras see it that look up by degrees; brightness has 255 levels."""
    grey = round(255 * (0.5 + up_deg / 10))
    ramp = np.zeros((16, 32, 3), np.uint8)
    ramp[:, ::2], ramp[:, 1::2] = max(grey - 40, 0), min(grey + 40, 255)
    frames = tuple(Frame(name, number * STEP_NS, ramp, world_from_ego=Pose.identity()) for name in cameras)
    return FrameSet(number * STEP_NS, frames, Pose.identity())


def turned_up(rig, degrees):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = Pose(np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1.0]]))
    return Rig(tuple(Camera(c.name, c.intrinsics, c.ego_from_camera @ turn) for c in rig), rig.name)


def test_steps_after_the_first_see_the_ground_as_the_cameras_are(bundle, rig):
    with Runtime(bundle, rig, ["layout"]) as runtime, Runtime(bundle, turned_up(rig, 2.0), ["layout"]) as right:
        first, second = (runtime.step(frame_set(number)) for number in range(2))
        right.step(frame_set(0))
        expected = right.step(frame_set(1))
    assert first.levelled == {}
    assert set(second.levelled) == set("abcd")
    for pitch, roll in second.levelled.values():
        assert (pitch, roll) == (pytest.approx(2.0, abs=0.2), pytest.approx(0.0, abs=0.2))
    assert expected.levelled == {}
    assert (second.bev["layout"].seen_by != first.bev["layout"].seen_by).any()
    np.testing.assert_array_equal(second.bev["layout"].seen_by, expected.bev["layout"].seen_by)


def test_level_false_takes_the_calibration_as_it_is(bundle, rig):
    with Runtime(bundle, rig, ["layout"], level=False) as runtime:
        assert runtime.plan.horizon is None
        assert "horizon" not in runtime.plan.networks["hydranet"]
        assert not any(runtime.step(frame_set(number)).levelled for number in range(4))


def test_who_wants_nothing_on_the_ground_levels_nothing(bundle):
    assert bundle.plan(["features"]).horizon is None
    assert bundle.plan(["layout"]).horizon == ("hydranet", "horizon")
    assert "horizon" not in bundle.default_outputs


@pytest.mark.parametrize("threads", [1, 3])
def test_streams_and_threads_make_no_difference(bundle, rig, threads):
    sets = [frame_set(number, 1.0 + 0.2 * number) for number in range(8)]
    with Runtime(bundle, rig, ["layout"], 1) as one, Runtime(bundle, rig, ["layout"], threads) as other:
        steps = [one.step(given) for given in sets]
        streamed = list(other.stream(sets))
    assert [made.levelled for made in streamed] == [made.levelled for made in steps]
    assert steps[-1].levelled
    for made, wanted in zip(streamed, steps, strict=True):
        np.testing.assert_array_equal(made.bev["layout"].probability, wanted.bev["layout"].probability)


def test_reset_and_another_calibration_forget_and_other_outputs_do_not(bundle, rig):
    with Runtime(bundle, rig, ["layout"]) as runtime:
        runtime.step(frame_set(0))
        runtime.want(["layout", "features"])
        assert runtime.step(frame_set(1)).levelled
        runtime.reset()
        assert not runtime.step(frame_set(2)).levelled
        assert runtime.step(frame_set(3)).levelled
        runtime.recalibrate(turned_up(rig, 2.0), check=False)
        assert not any(runtime.step(frame_set(number)).levelled for number in range(4, 8))


def test_horizons_are_kept_with_percepts(bundle, rig):
    with Runtime(bundle, rig, ["layout"]) as runtime:
        percepts = [runtime.perceive(frame_set(number)) for number in range(2)]
        runtime.step(frame_set(0), percepts[0])
        assert runtime.step(frame_set(1), percepts[1]).levelled


def test_horizons_that_are_no_numbers_are_told_and_not_used(bundle, rig):
    def spoil(cameras, outputs):
        outputs["horizon"][:] = np.nan

    with Runtime(bundle, rig, ["layout"]) as runtime:
        runtime.tamper("hydranet", spoil)
        spoilt = [runtime.step(frame_set(number)) for number in range(3)]
    assert not any(made.levelled for made in spoilt)
    assert "NaN" in spoilt[-1].invalid["horizon/a"]
    assert "layout" in spoilt[-1].bev


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (
            'level_by = "horizon"',
            'level_by = "skyline"',
            r"level_by must be an output of kind horizon \(horizon\), got sk",
        ),
        ('level_by = "horizon"', 'level_by = "depth"', r"level_by .* got depth of kind depth"),
        ('kind = "horizon"\nstride = 4', 'kind = "horizon"', r"stride must be given for kind horizon"),
    ],
)
def test_bad_manifest_is_refused_with_its_path(write_bundle, level_manifest, old, new, match):
    assert old in level_manifest
    with pytest.raises(BundleError, match=match):
        open_bundle(write_bundle(level_manifest.replace(old, new)))


def test_map_of_other_channels_is_refused(write_bundle, level_manifest, rig):
    text = level_manifest.replace('tensor = "horizon"', 'tensor = "logits"').replace(
        '[networks.hydranet.outputs.segmentation]\ntensor = "logits"',
        '[networks.hydranet.outputs.segmentation]\ntensor = "else"',
    )
    bundle = open_bundle(write_bundle(text))
    with pytest.raises(BundleError, match=r"outputs\.horizon: tensor logits \(kind horizon\) must be .*2, 4, 8"):
        Runtime(bundle, rig, ["layout"])
