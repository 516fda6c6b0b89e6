"""Top-down networks that take what is lifted as uint8 levels: what they see, and declarations that do not fit."""

from __future__ import annotations

import re
import shutil

import numpy as np
import onnx
import pytest
from octobev.errors import BundleError, NetworkError
from octobev.fusion.levels import Levels
from octobev.fusion.pose import Pose
from octobev.runtime.bundle import REFERENCE_BUNDLE, open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.variants import select_variant
from octobev.runtime.verification import verify_bundle
from onnx import TensorProto, helper

SCALE, ZERO = 0.0078125, 20
LEVELS = f"{{ lifted = {{ scale = {SCALE}, zero_point = {ZERO} }} }}"
TABLE = (
    '\n[networks.topdown.variants.int8]\nfile = "topdown.int8.onnx"\nsha256 = "{sha256 of topdown.int8.onnx}"\n'
    f"levels = {LEVELS}\n"
)
OWN = f"heights_m = [0.0, 1.0]\nlevels = {{ scale = {SCALE}, zero_point = {ZERO} }}"


def taking_levels(model: bytes, *, rounding: bool = False) -> bytes:
    """The top-down network with its lifted input in levels; `rounding`: with an input in numbers, rounded first."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    graph.initializer.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [SCALE]))
    graph.initializer.append(helper.make_tensor("zero", TensorProto.UINT8, [], [ZERO]))
    for node in graph.node:
        node.input[:] = ["numbers" if name == "lifted" else name for name in node.input]
    levels = "levels" if rounding else "lifted"
    graph.node.insert(0, helper.make_node("DequantizeLinear", [levels, "scale", "zero"], ["numbers"]))
    if rounding:
        graph.node.insert(0, helper.make_node("QuantizeLinear", ["lifted", "scale", "zero"], ["levels"]))
    else:
        graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return proto.SerializeToString()


@pytest.fixture
def write_variant(write_bundle, topdown_model, manifest_text):
    """Write a bundle whose top-down network has an int8 variant that takes levels."""

    def write(int8: bytes | None = None, table: str = TABLE, name: str = "levels"):
        model = taking_levels(topdown_model()) if int8 is None else int8
        return write_bundle(manifest_text + table, {"topdown.int8.onnx": model}, name=name)

    return write


def frame_set(number=0, cameras=("front",), broken=()):
    image = np.random.default_rng(number).integers(0, 256, (16, 32, 3)).astype(np.uint8)
    time_ns = number * 100_000_000
    frames = tuple(Frame(name, time_ns, image, world_from_ego=Pose.identity()) for name in cameras)
    return FrameSet(time_ns, frames, Pose.identity())


def layouts(path, rig, variant, steps=3, threads=1):
    with Runtime(open_bundle(path), rig, {"layout"}, threads=threads, variant=variant) as runtime:
        return [runtime.step(frame_set(number)).bev["layout"].belief for number in range(steps)]


def test_a_network_sees_the_levels_that_it_would_have_rounded_to(write_variant, topdown_model, make_rig):
    rig = make_rig("front")
    rounding = TABLE.replace(f"levels = {LEVELS}\n", "")
    before = write_variant(taking_levels(topdown_model(), rounding=True), rounding, name="rounding")
    path = write_variant()
    levels, numbers = layouts(path, rig, "int8"), layouts(path, rig, "fp32")
    np.testing.assert_array_equal(levels, layouts(before, rig, "int8"))
    np.testing.assert_array_equal(levels, layouts(path, rig, "int8", threads=3))
    assert 0 < np.abs(np.subtract(levels, numbers)).max() < 3 * SCALE


def test_rows_and_a_network_without_variants_take_levels_too(write_bundle, topdown_model, manifest_text, make_rig):
    def as_rows(model: bytes) -> bytes:
        proto = onnx.load_from_string(model)
        cells = helper.make_tensor("cells", TensorProto.INT64, [4], [1, 8, 6, 4])
        proto.graph.initializer.append(cells)
        for node in proto.graph.node:
            node.input[:] = ["planes" if name == "numbers" else name for name in node.input]
        proto.graph.node.insert(1, helper.make_node("Transpose", ["grid"], ["planes"], perm=[0, 3, 1, 2]))
        proto.graph.node.insert(1, helper.make_node("Reshape", ["numbers", "cells"], ["grid"]))
        shape = helper.make_tensor_value_info("lifted", TensorProto.UINT8, [48, 4])
        proto.graph.input[0].CopyFrom(shape)
        return proto.SerializeToString()

    text = manifest_text.replace("heights_m = [0.0, 1.0]", OWN)
    planes = taking_levels(topdown_model())
    rows = text.replace(OWN, f'{OWN}\nlayout = "rows"')
    paths = [
        write_bundle(text, {"topdown.onnx": planes}, name="planes"),
        write_bundle(rows, {"topdown.onnx": as_rows(planes)}, name="rows"),
    ]
    given = [layouts(path, make_rig("front"), "auto") for path in paths]
    np.testing.assert_allclose(*given, atol=1e-6)
    assert np.ptp(given[0]) > 0.1


def test_levels_of_the_network_itself_are_not_those_of_a_variant(write_bundle, topdown_model, manifest_text):
    text = manifest_text.replace("heights_m = [0.0, 1.0]", OWN)
    model = {"topdown.onnx": taking_levels(topdown_model()), "topdown.int8.onnx": topdown_model()}
    bundle = open_bundle(write_bundle(text + TABLE.replace(f"levels = {LEVELS}\n", ""), model))
    network = bundle.manifest.topdown_networks["topdown"]
    assert network.levels_of(network.lifts[0], "fp32") == Levels(SCALE, ZERO)
    assert network.levels_of(network.lifts[0], "int8") is None


def test_features_that_are_not_numbers_are_withheld_before_they_are_rounded(write_variant, make_rig):
    def spoil(cameras, outputs):
        if "rear" in cameras:
            outputs["features"][..., 0, 0] = np.nan

    with Runtime(open_bundle(write_variant()), make_rig("front", "rear"), {"layout"}, 1, variant="int8") as runtime:
        runtime.tamper("hydranet", spoil)
        predictions = runtime.step(frame_set(cameras=("front", "rear")))
        assert list(predictions.invalid) == ["features/rear"]
        assert "NaN or Inf" in predictions.invalid["features/rear"]
        assert set(np.unique(predictions.bev["layout"].seen_by)) == {0, 1}
        runtime.tamper("hydranet", lambda cameras, outputs: outputs["features"].fill(np.inf))
        assert not runtime.step(frame_set(1, ("front", "rear"))).bev["layout"].seen_by.any()


def test_a_network_that_fails_on_levels_keeps_its_state(write_variant, make_rig):
    def fail(cameras, outputs):
        raise NetworkError("made to fail")

    with Runtime(open_bundle(write_variant()), make_rig("front"), {"layout"}, 1, variant="int8") as runtime:
        runtime.step(frame_set(0))
        runtime.tamper("topdown", fail)
        assert runtime.step(frame_set(1)).invalid == {"layout": "made to fail"}
        runtime.tamper("topdown", None)
        assert runtime.step(frame_set(2)).states["layout"].carried


def test_who_watches_inputs_sees_levels(write_variant, make_rig):
    seen = {}
    with Runtime(open_bundle(write_variant()), make_rig("front"), {"layout"}, 1, variant="int8") as runtime:
        runtime.watch_inputs(lambda network, inputs: seen.update({network: inputs}))
        runtime.step(frame_set())
    assert seen["topdown"]["lifted"].dtype == np.uint8
    assert seen["topdown"]["lifted"].min() == ZERO  # where no camera sees the ground


def test_verification_runs_both_variants(write_variant):
    assert verify_bundle(open_bundle(write_variant())).variants == ("fp32", "int8")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("lifted = ", "lited = ", r"variants\.int8\.levels\.lited must be a tensor of the lifts \(lifted\), got lited"),
        (f"scale = {SCALE}", "scale = 0", r"variants\.int8\.levels\.lifted: scale must be 1e-30\.\.1e\+30, got 0"),
        (f"scale = {SCALE}", 'scale = "1"', r"variants\.int8\.levels\.lifted\.scale must be a number, got '1'"),
        (f"zero_point = {ZERO}", "zero_point = 256", r"levels\.lifted: zero_point must be 0\.\.255, got 256"),
        (f"zero_point = {ZERO}", "zero_point = 1.5", r"levels\.lifted\.zero_point must be a whole number, got 1\.5"),
        (f", zero_point = {ZERO}", "", r"networks\.topdown\.variants\.int8\.levels\.lifted\.zero_point: missing key"),
        ("zero_point", "zero", r"unknown key at networks\.topdown\.variants\.int8\.levels\.lifted: zero \(known"),
    ],
)
def test_wrong_levels_in_a_manifest_are_refused(write_variant, old, new, match):
    assert old in TABLE
    with pytest.raises(BundleError, match=match):
        open_bundle(write_variant(table=TABLE.replace(old, new)))


def test_levels_of_a_network_that_lifts_nothing_are_refused(write_bundle, hydra_model, manifest_text):
    table = TABLE.replace("topdown", "hydranet")
    match = r"networks\.hydranet: variants\.int8\.levels\.lifted must be left out: nothing is lifted into it"
    with pytest.raises(BundleError, match=match):
        open_bundle(write_bundle(manifest_text + table, {"hydranet.int8.onnx": hydra_model()}))


def test_a_variant_that_is_not_as_its_levels_say_is_refused(write_variant, topdown_model):
    undeclared = open_bundle(write_variant(table=TABLE.replace(f"levels = {LEVELS}\n", ""), name="undeclared"))
    match = r"variants\.int8: inputs must be those of the network \(lifted float .*\), got lifted uint8"
    with pytest.raises(BundleError, match=match):
        select_variant(undeclared, "int8")
    numbers = open_bundle(write_variant(topdown_model(), name="numbers"))
    match = r"inputs must be those of the network, with levels for lifted \(lifted uint8 .*\), got lifted float"
    with pytest.raises(BundleError, match=match):
        select_variant(numbers, "int8")
    assert select_variant(numbers, "fp32").variant == "fp32"


def test_a_network_that_is_not_as_its_lift_says_is_refused(write_bundle, topdown_model, manifest_text, make_rig):
    declared = manifest_text.replace("heights_m = [0.0, 1.0]", OWN)
    match = r"networks\.topdown\.lifts\[0\]: tensor lifted must be uint8 \(1, 4, 8, 6\), got float32 \(1, 4, 8, 6\)"
    with pytest.raises(BundleError, match=match):
        Runtime(open_bundle(write_bundle(declared, name="numbers")), make_rig("front"), {"layout"}, 1)
    path = write_bundle(models={"topdown.onnx": taking_levels(topdown_model())}, name="undeclared")
    match = r"tensor lifted must be float32 \(1, 4, 8, 6\), got uint8 \(1, 4, 8, 6\); levels must be declared for uint8"
    with pytest.raises(BundleError, match=match):
        Runtime(open_bundle(path), make_rig("front"), {"layout"}, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [(f"scale = {SCALE}", "scale = 0.0078126"), (f"zero_point = {ZERO}", "zero_point = 21"), (f"{SCALE}", "1.0")],
)
def test_levels_that_the_network_takes_for_other_numbers_are_refused(write_variant, make_rig, old, new):
    bundle = open_bundle(write_variant(table=TABLE.replace(old, new)))
    declared = f"scale {0.0078125}" if old.startswith("zero") else r"scale \d\.\d+"
    match = (
        r"levels: networks\.topdown\.variants\.int8\.levels\.lifted: levels of tensor lifted "
        r"must be those of its ONNX file, "
        rf"scale 0\.0078125 and zero_point 20, got {declared} and zero_point \d+$"
    )
    with pytest.raises(BundleError, match=match):
        Runtime(bundle, make_rig("front"), {"layout"}, 1, variant="int8")
    with pytest.raises(BundleError, match="must be those of its ONNX file"):
        verify_bundle(bundle)
    Runtime(bundle, make_rig("front"), {"layout"}, 1, variant="fp32").close()


def test_levels_of_a_lift_are_compared_with_its_network(write_bundle, topdown_model, manifest_text, make_rig):
    text = manifest_text.replace("heights_m = [0.0, 1.0]", OWN.replace("20", "19"))
    bundle = open_bundle(write_bundle(text, {"topdown.onnx": taking_levels(topdown_model())}))
    match = r"networks\.topdown\.lifts\[0\]: levels of tensor lifted must be .* zero_point 20, got .* zero_point 19$"
    with pytest.raises(BundleError, match=match):
        Runtime(bundle, make_rig("front"), {"layout"}, 1)


def test_reference_bundle_with_other_levels_is_refused(tmp_path, make_rig):
    path = tmp_path / "bundle"
    shutil.copytree(REFERENCE_BUNDLE, path)
    manifest = path / "bundle.toml"
    manifest.write_text(re.sub(r"(levels = .*zero_point = )\d+", r"\g<1>7", manifest.read_text()))
    with pytest.raises(BundleError, match=r"levels\.lifted: levels of tensor lifted must be those of its ONNX file"):
        Runtime(open_bundle(path), make_rig("front"), {"road_layout"}, 1, variant="int8")
