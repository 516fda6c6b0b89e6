"""Forms of the same computation that ONNX Runtime's 8-bit kernels run faster, or more exactly.

- A Relu behind a reshape moves before it, so that it follows its layer and becomes part of that layer's kernel.
- Nearest upsampling by a whole factor becomes copies of whole pixels, channels last, then of whole lines, each put
  beside itself; the 8-bit Resize takes ten times as long, an Expand twice.
- A product of rows with a matrix becomes a 1x1 convolution, which rounds its sums to 8 bits while they are in the
  nearest cache; the 8-bit product writes them all out first, and takes up to twice as long. Only without a reader in
  8 bits it stays: it hands on its 32-bit sums.
- A last 1x1 convolution of few channels becomes a product of rows with a matrix, which can hand on its 32-bit sums as
  float32; an 8-bit convolution rounds them to 8 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ..runtime.subgraph import replace_content
from .int8_choice import GraphIndex, Int8Choice, attribute, gives_float


class Rewriting:
    """Nodes and constants that take the place of one node; `name` is a prefix of theirs."""

    def __init__(self, name: str, source: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._name, self._tensor = name, source

    def transpose(self, *order: int) -> Rewriting:
        """Put the axes into another order."""
        return self._then("Transpose", perm=order)

    def shape(self, *shape: int) -> Rewriting:
        """Reshape."""
        return self.with_constants("Reshape", np.array(shape, np.int64))

    def repeat(self, times: int) -> Rewriting:
        """Put every row so many times side by side."""
        return self._then("Concat", *[self._tensor] * (times - 1), axis=1)

    def relu(self) -> Rewriting:
        """Set negative numbers to 0."""
        return self._then("Relu")

    def with_constants(self, kind: str, *values: NDArray[Any]) -> Rewriting:
        """Add a node that reads constants after what was made so far."""
        names = [f"{self._name}/constant_{len(self.nodes)}_{index}" for index in range(len(values))]
        self.constants += [numpy_helper.from_array(value, name) for value, name in zip(values, names, strict=True)]
        return self._then(kind, *names)

    def ending_in(self, tensor: str) -> Rewriting:
        """Give the last node's output the name that others know."""
        self.nodes[-1].output[0] = tensor
        return self

    def _then(self, kind: str, *more: str, **attributes: Any) -> Rewriting:
        out = f"{self._name}/step_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self._tensor, *more], [out], name=out, **attributes))
        self._tensor = out
        return self


def with_int8_forms(model: onnx.ModelProto, graph: GraphIndex, choice: Int8Choice) -> onnx.ModelProto:
    """Rewrite, in place, the nodes of which int8 has a better form; returns the model with its shapes."""
    nodes: list[onnx.NodeProto] = []
    absorbed: set[str] = set()
    for node in graph.nodes:
        if node.name in absorbed:
            continue
        rewriting = None
        if node.op_type == "Resize" and node.name in choice.int8:
            rewriting = _copies_of_pixels(node, graph)
        elif node.op_type == "Conv" and node.name in choice.narrow_ends:
            rewriting = _product_of_rows(node, graph)
        elif node.op_type == "Gemm" and node.name in choice.int8 and not gives_float(graph, node, choice.int8):
            rewriting = _convolution_of_rows(node, graph)
            relu = graph.absorbed_relu(node)
            if rewriting is not None and relu is not None:
                absorbed.add(relu.name)
        nodes += [node_copy(node)] if rewriting is None else rewriting.nodes
        model.graph.initializer.extend([] if rewriting is None else rewriting.constants)
    replace_content(model.graph.node, nodes)
    return with_shapes(model)


def relus_before_reshapes(model: onnx.ModelProto) -> None:
    """Swap, in place, every reshape with the Relu that alone reads it."""
    graph = GraphIndex(model)
    for reshape in graph.nodes:
        relu = graph.only_relu(reshape) if reshape.op_type in ("Reshape", "Squeeze", "Unsqueeze") else None
        if relu is None:
            continue
        source, between, target = reshape.input[0], reshape.output[0], relu.output[0]
        first, second = node_copy(relu), node_copy(reshape)
        first.input[0], first.output[0] = source, between
        second.input[0], second.output[0] = between, target
        reshape.CopyFrom(first)
        relu.CopyFrom(second)


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Infer the shapes of all tensors anew."""
    del model.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model)


def node_copy(node: onnx.NodeProto) -> onnx.NodeProto:
    """Copy a node."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _copies_of_pixels(resize: onnx.NodeProto, graph: GraphIndex) -> Rewriting | None:
    """Rewrite a Resize that repeats every pixel a whole number of times; None for any other."""
    before, after = graph.shapes.get(resize.input[0], ()), graph.shapes.get(resize.output[0], ())
    floor = attribute(resize, "nearest_mode", "round_prefer_floor") == "floor"
    corner = attribute(resize, "coordinate_transformation_mode", "half_pixel") == "asymmetric"
    if not (floor and corner) or len(before) != 4 or before[:2] != after[:2]:
        return None
    (n, c, h, w), (tall, wide) = before, after[2:]
    if tall % h or wide % w:
        return None
    pixels = Rewriting(resize.name, resize.input[0]).transpose(0, 2, 3, 1).shape(n * h * w, c)
    lines = pixels.repeat(wide // w).shape(n * h, wide * c)
    repeated = lines.repeat(tall // h).shape(n, tall, wide, c)
    return repeated.transpose(0, 3, 1, 2).ending_in(resize.output[0])


def _product_of_rows(conv: onnx.NodeProto, graph: GraphIndex) -> Rewriting | None:
    """Rewrite a 1x1 convolution as a matrix product of pixel rows; None for any other."""
    weights, shape = graph.constant(conv.input[1]), graph.shapes.get(conv.input[0], ())
    plain = {"strides": [1, 1], "pads": [0, 0, 0, 0], "group": 1, "auto_pad": "NOTSET"}
    if weights is None or weights.shape[2:] != (1, 1) or len(shape) != 4:
        return None
    if any(attribute(conv, name, usual) != usual for name, usual in plain.items()):
        return None
    (n, c, h, w), wide = shape, weights.shape[0]
    bias = graph.constant(conv.input[2]) if len(conv.input) > 2 else None
    if bias is None:
        bias = np.zeros(wide, np.float32)
    matrix = np.ascontiguousarray(weights.reshape(wide, c).T)
    rows = Rewriting(conv.name, conv.input[0]).transpose(0, 2, 3, 1).shape(n * h * w, c)
    product = rows.with_constants("Gemm", matrix, bias).shape(n, h, w, wide)
    return product.transpose(0, 3, 1, 2).ending_in(conv.output[0])


def _convolution_of_rows(gemm: onnx.NodeProto, graph: GraphIndex) -> Rewriting | None:
    """Rewrite a product of rows with a matrix as a 1x1 convolution, its Relu included; None for shapes not known."""
    weights, shape = graph.constant(gemm.input[1]), graph.shapes.get(gemm.input[0], ())
    if weights is None or len(shape) != 2:
        return None
    filters = weights if attribute(gemm, "transB", 0) else weights.T
    wide, channels = filters.shape
    bias = graph.constant(gemm.input[2]) if len(gemm.input) > 2 else None
    if bias is None:
        bias = np.zeros(wide, np.float32)
    pixels = Rewriting(gemm.name, gemm.input[0]).shape(1, shape[0], 1, channels).transpose(0, 3, 1, 2)
    product = pixels.with_constants("Conv", np.ascontiguousarray(filters[:, :, None, None]), bias)
    if graph.absorbed_relu(gemm) is not None:
        product = product.relu()
    return product.transpose(0, 2, 3, 1).shape(shape[0], wide).ending_in(graph.result(gemm))
