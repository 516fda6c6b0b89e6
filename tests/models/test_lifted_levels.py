"""Which networks come to take levels, and that they compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from octobev.fusion.levels import Levels
from octobev.models.lifted_levels import take_levels
from octobev.models.variant_files import without_variant, write_variants
from octobev.runtime.bundle import open_bundle
from onnx import TensorProto, helper, numpy_helper

LEVELS = Levels(0.25, 100)


def network(rounded_to=np.uint8, more=(), outputs=("y",)):
    """y = the lifted input rounded to levels and back, plus the state."""
    floats = helper.make_tensor_value_info
    nodes = [
        helper.make_node("QuantizeLinear", ["lifted", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["rounded"]),
        helper.make_node("Add", ["rounded", "state"], ["y"]),
        *more,
    ]
    kinds = {"levels": TensorProto.UINT8}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [floats(name, TensorProto.FLOAT, [2, 3]) for name in ("lifted", "state")],
        [floats(name, kinds.get(name, TensorProto.FLOAT), [2, 3]) for name in outputs],
        [
            numpy_helper.from_array(np.float32(LEVELS.scale), "scale"),
            numpy_helper.from_array(rounded_to(LEVELS.zero_point), "zero"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model, **inputs):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def test_an_input_that_is_only_rounded_becomes_levels():
    model = network()
    lifted, state = np.float32([[-99, -0.5, 0.3], [7, 25, 99]]), np.float32([[0, 1, 2], [3, 4, 5]])
    before = run(model, lifted=lifted, state=state)
    assert take_levels(model, {"lifted", "absent"}) == {"lifted": LEVELS}
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "Add"]
    levels = np.clip(np.rint(lifted / LEVELS.scale) + LEVELS.zero_point, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(run(model, lifted=levels, state=state), before)


@pytest.mark.parametrize(
    ("given", "tensors"),
    [
        ({}, {"state"}),
        ({}, set()),
        ({"rounded_to": np.int8}, {"lifted"}),
        ({"more": [helper.make_node("Neg", ["lifted"], ["n"])], "outputs": ("y", "n")}, {"lifted"}),
        ({"outputs": ("y", "levels")}, {"lifted"}),
    ],
)
def test_an_input_that_somebody_reads_as_it_is_stays(given, tensors):
    model = network(**given)
    before = model.SerializeToString()
    assert take_levels(model, tensors) == {}
    assert model.SerializeToString() == before


def test_levels_stand_in_the_manifest_and_go_with_their_variant(write_bundle, topdown_model):
    bundle = open_bundle(write_bundle())
    text = (bundle.path / "bundle.toml").read_text()
    levels = {"topdown.onnx": {"lifted": Levels(float(np.float32(0.1)), 3)}}
    written = write_variants(bundle, {"topdown.onnx": topdown_model()}, bundle.path, levels=levels)
    assert written.manifest.networks["topdown"].variants["int8"].levels == levels["topdown.onnx"]
    assert without_variant((bundle.path / "bundle.toml").read_text(), "int8") == text
