"""Variants of a bundle's networks: which there are, which one runs, and that one is known from the other."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from octobev.errors import BundleError, InvalidArgument
from octobev.fusion.pose import Pose
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.variants import select_variant, variants_of
from onnx import TensorProto, helper

VNNI = ("avx512_vnni",)


def quantised(model: bytes, levels: float = 255.0) -> bytes:
    """The model with its image rounded to so many levels first."""
    proto = onnx.load_from_string(model)
    proto.graph.initializer.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [1 / levels]))
    proto.graph.initializer.append(helper.make_tensor("zero", TensorProto.UINT8, [], [0]))
    for node in proto.graph.node:
        node.input[:] = ["image_dq" if name == "image" else name for name in node.input]
    proto.graph.node.insert(0, helper.make_node("DequantizeLinear", ["image_q", "scale", "zero"], ["image_dq"]))
    proto.graph.node.insert(0, helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["image_q"]))
    return proto.SerializeToString()


def renamed(model: bytes, old: str, new: str) -> bytes:
    proto = onnx.load_from_string(model)
    for node in proto.graph.node:
        node.output[:] = [new if name == old else name for name in node.output]
    for value in proto.graph.output:
        value.name = new if value.name == old else value.name
    return proto.SerializeToString()


TABLE = '\n[networks.hydranet.variants.int8]\nfile = "hydra.int8.onnx"\nsha256 = "{sha256 of hydra.int8.onnx}"\n'


@pytest.fixture
def write_both(write_bundle, hydra_model, manifest_text):
    """Write a bundle whose HydraNet has an int8 variant, of coarse levels so that the numbers show which one ran."""

    def write(int8: bytes | None = None, name: str = "both"):
        model = quantised(hydra_model(), levels=4.0) if int8 is None else int8
        return write_bundle(manifest_text + TABLE, {"hydra.int8.onnx": model}, name=name)

    return write


def test_a_bundle_without_variants_runs_as_it_is(write_bundle, hydra_model):
    plain = open_bundle(write_bundle())
    assert variants_of(plain) == ("fp32",)
    assert select_variant(plain, "auto", VNNI).variant == "fp32"
    own = open_bundle(write_bundle(models={"hydra.onnx": quantised(hydra_model())}, name="int8"))
    assert variants_of(own) == ("int8",)
    assert select_variant(own, "auto", ()).variant == "int8"
    with pytest.raises(BundleError, match="variant of bundle tiny must be fp32, got int8 only"):
        select_variant(own, "fp32")


def test_int8_of_a_bundle_without_it_is_refused(write_bundle):
    with pytest.raises(BundleError, match="variant of bundle tiny must be int8, got fp32 only"):
        select_variant(open_bundle(write_bundle()), "int8")


def test_unknown_variant_is_refused(write_bundle):
    with pytest.raises(InvalidArgument, match="variant must be one of auto, fp32, int8, got fp16"):
        select_variant(open_bundle(write_bundle()), "fp16")


@pytest.mark.parametrize(
    ("choice", "features", "runs"),
    [
        ("auto", VNNI, "int8"),
        ("auto", (), "fp32"),
        ("fp32", VNNI, "fp32"),
        ("int8", (), "int8"),
    ],
)
def test_the_processor_decides_for_auto_alone(write_both, choice, features, runs):
    assert select_variant(open_bundle(write_both()), choice, features).variant == runs


def test_each_variant_reads_its_own_files(write_both, hydra_model):
    bundle = open_bundle(write_both())
    own, int8 = hydra_model(), quantised(hydra_model(), levels=4.0)
    assert bundle.model_bytes("hydranet") == own
    assert bundle.model_bytes("hydranet", "int8") == int8
    chosen = select_variant(bundle, "int8")
    assert chosen.model_bytes("hydranet") == int8
    assert chosen.model_bytes("topdown") == bundle.model_bytes("topdown")


def test_predictions_say_which_variant_made_them(write_both, make_rig):
    bundle, rig = open_bundle(write_both()), make_rig()
    picture = np.arange(16 * 32 * 3, dtype=np.uint8).reshape(16, 32, 3)
    frame_set = FrameSet(0, (Frame("front", 0, picture),), Pose.identity())
    depths = {}
    for variant in ("fp32", "int8"):
        with Runtime(bundle, rig, outputs=["depth"], threads=1, variant=variant) as runtime:
            predictions = runtime.step(frame_set)
        assert runtime.bundle.variant == variant
        assert predictions.provenance.variant == variant
        assert predictions.provenance.bundle_sha256 == bundle.sha256
        depths[variant] = predictions.camera_outputs["depth"]["front"].values
    assert np.abs(depths["int8"] / depths["fp32"] - 1).max() > 0.01


def test_hash_of_a_variant_is_checked(write_both, hydra_model):
    path = write_both()
    (path / "hydra.int8.onnx").write_bytes(hydra_model())
    actual = hashlib.sha256(hydra_model()).hexdigest()
    where = r"networks\.hydranet\.variants\.int8\.sha256 must be that of hydra\.int8\.onnx"
    with pytest.raises(BundleError, match=rf"{where} \({actual}\)"):
        open_bundle(path)


def test_missing_file_of_a_variant_is_named(write_both):
    path = write_both()
    (path / "hydra.int8.onnx").unlink()
    with pytest.raises(BundleError, match=r"networks\.hydranet\.variants\.int8\.file must be a file in the bundle"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (".int8]", ".int4]", r"networks\.hydranet: variants must be among int8, got int4"),
        ('"hydra.int8.onnx"', '"../hydra.onnx"', r"variants\.int8: file must be a relative path inside the bundle"),
        ("sha256 = ", "hash = ", r"unknown key at networks\.hydranet\.variants\.int8: hash"),
    ],
)
def test_bad_table_of_a_variant_is_refused(write_bundle, hydra_model, manifest_text, old, new, match):
    path = write_bundle(manifest_text + TABLE.replace(old, new), {"hydra.int8.onnx": hydra_model()})
    with pytest.raises(BundleError, match=match):
        open_bundle(path)


def test_variant_with_other_tensors_is_refused(write_both, hydra_model):
    other = open_bundle(write_both(renamed(quantised(hydra_model()), "log_depth", "depth")))
    assert select_variant(other, "fp32").variant == "fp32"
    match = (
        r"variants\.int8: outputs must be those of the network \(.*log_depth float \[1, 1, 4, 8\].*got .* depth float"
    )
    with pytest.raises(BundleError, match=match):
        select_variant(other, "int8")
    grouped = open_bundle(write_both(quantised(hydra_model(2)), name="grouped"))
    with pytest.raises(BundleError, match=r"inputs must be .*image float \[1, 3, 16, 32\]\), got image float \[2, 3,"):
        select_variant(grouped, "int8")
