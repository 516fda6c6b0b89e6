"""What the levels of an input stand for, read from the graph."""

import numpy as np
import pytest
from octobev.fusion.levels import Levels
from octobev.runtime.input_levels import input_levels
from onnx import TensorProto, helper, numpy_helper

SCALE, ZERO = np.float32(0.03), np.uint8(43)
SAID = {"lifted": Levels(float(SCALE), 43)}


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))


def dequantised(levels="lifted", scale="scale", zero="zero", numbers="numbers", **how):
    return helper.make_node("DequantizeLinear", [levels, scale, zero], [numbers], **how)


def model(*nodes, scale=SCALE, zero=ZERO, dtype=TensorProto.UINT8):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("lifted", dtype, [1, 4, 2, 2])],
        [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (("scale", scale), ("zero", zero))],
    )
    return helper.make_model(graph)


@pytest.mark.parametrize(
    "nodes",
    [
        [dequantised()],
        [dequantised(), dequantised(numbers="again")],
        [helper.make_node("Transpose", ["lifted"], ["turned"]), dequantised("turned")],
        [
            helper.make_node("Reshape", ["lifted", "shape"], ["a"]),
            helper.make_node("Transpose", ["a"], ["b"]),
            dequantised("b"),
        ],
        [constant("s", SCALE), constant("z", ZERO), dequantised("lifted", "s", "z")],
        [helper.make_node("Cast", ["lifted"], ["other"], to=TensorProto.FLOAT), dequantised()],
    ],
    ids=["at once", "twice", "turned", "reshaped and turned", "constant nodes", "beside a cast"],
)
def test_dequantising_says_what_levels_stand_for(nodes):
    assert input_levels(model(*nodes)) == SAID


def test_without_a_zero_point_it_is_the_first_level():
    node = helper.make_node("DequantizeLinear", ["lifted", "scale"], ["numbers"])
    assert input_levels(model(node)) == {"lifted": Levels(float(SCALE), 0)}


@pytest.mark.parametrize(
    "graph",
    [
        model(helper.make_node("Cast", ["lifted"], ["numbers"], to=TensorProto.FLOAT)),
        model(helper.make_node("Mul", ["lifted", "lifted"], ["product"]), dequantised("product")),
        model(dequantised(), scale=np.full(4, SCALE), zero=np.full(4, ZERO)),
        model(dequantised(), scale=np.float32(-1)),
        model(dequantised(), scale=np.float32("nan")),
        model(dequantised(scale="computed")),
        model(dequantised(), dequantised(zero="", numbers="other")),
        model(dequantised(domain="com.example")),
        model(helper.make_node("DequantizeLinear", ["lifted"], ["numbers"])),
        model(helper.make_node("Reshape", ["lifted", "shape"], ["lifted"])),
        model(dequantised(), dtype=TensorProto.INT8),
    ],
    ids=[
        "cast", "computed", "per channel", "negative", "not a number", "scale computed", "two answers",
        "another domain", "no scale", "a loop", "signed",
    ],
)  # fmt: skip
def test_other_graphs_say_nothing(graph):
    assert input_levels(graph) == {}
