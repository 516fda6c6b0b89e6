"""From a float32 ONNX network to one that computes in int8: QuantizeLinear and DequantizeLinear around its layers.

Activations are unsigned with one scale and zero point a tensor, weights signed with one scale a channel and no zero
point, biases 32 bits wide (Krishnamoorthi 2018, arXiv:1806.08342). ONNX Runtime turns such a graph into its 8-bit
kernels when it loads it. Inputs and outputs keep their names, types and shapes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ..errors import BundleError, expected
from ..runtime.subgraph import names_used, replace_content
from .int8_choice import (
    PRODUCTS,
    GraphIndex,
    Int8Choice,
    attribute,
    choose_int8,
    gives_float,
    int8_readers,
    moves,
    read_tensors,
)
from .int8_forms import node_copy, relus_before_reshapes, with_int8_forms, with_shapes

FIRST_OPSET: Final = 13
"""From here on scales may be given per channel."""

PRODUCER: Final = "octobev.models.quantize"

_LARGEST_BIAS: Final = 2.0**30
Range = tuple[float, float]


def prepared(content: bytes, name: str) -> onnx.ModelProto:
    """Parse a float32 network and bring it into the form that is quantised; it computes the same.

    ONNX Runtime folds constants and batch normalisations and joins matrix products with their biases; every node gets a
    name, and a Relu that follows a reshape moves before it, next to its layer.

    Raises
    ------
    BundleError
        It cannot be loaded, or its opset is too old.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        try:
            ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises bare RuntimeError and a dozen types of its own
            raise BundleError(
                f"network {name}: " + expected("model", "one that ONNX Runtime can load", error)
            ) from error
        model = onnx.load(options.optimized_model_filepath)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    if opset < FIRST_OPSET:
        raise BundleError(f"network {name}: " + expected("opset", f"{FIRST_OPSET} or newer", opset))
    used = {node.domain for node in model.graph.node} | {""}
    replace_content(model.opset_import, [entry for entry in model.opset_import if entry.domain in used])
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        node.name = node.name if node.name and node.name not in taken else f"{node.op_type}_{index}"
        taken.add(node.name)
    relus_before_reshapes(model)
    return with_shapes(model)


def chosen(content: bytes, name: str, keep: Collection[str] = ()) -> tuple[onnx.ModelProto, GraphIndex, Int8Choice]:
    """Prepare a network, and choose the nodes that compute in int8.

    Some nodes are rewritten for it, see :mod:`octobev.models.int8_forms`.

    Raises
    ------
    BundleError
        See :func:`prepared`.
    """
    model = prepared(content, name)
    graph = GraphIndex(model)
    model = with_int8_forms(model, graph, choose_int8(graph, keep))
    graph = GraphIndex(model)
    return model, graph, choose_int8(graph, keep)


def quantised_tensors(graph: GraphIndex, choice: Int8Choice) -> tuple[str, ...]:
    """Names of the activations whose range must be known, in order of appearance."""
    names: dict[str, None] = {}
    for node in graph.nodes:
        if node.name not in choice.int8:
            continue
        sources = [_source(graph, tensor, choice) for tensor in read_tensors(node)]
        names.update(dict.fromkeys(tensor for tensor in sources if graph.constant(tensor) is None))
        if not moves(node) and not gives_float(graph, node, choice.int8):
            names[graph.result(node)] = None
    return tuple(names)


def quantised(model: onnx.ModelProto, choice: Int8Choice, ranges: Mapping[str, Range]) -> onnx.ModelProto:
    """Make the int8 network.

    Parameters
    ----------
    model : as :func:`prepared` gives it; not changed
    choice : the nodes that compute in int8
    ranges : smallest and largest value of every tensor of :func:`quantised_tensors`
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _Writer(copy, choice, ranges).write()
    del copy.graph.value_info[:]
    outputs = {value.name for value in copy.graph.output}
    used = {tensor for node in copy.graph.node for tensor in names_used(node)}
    unread = [node for node in copy.graph.node if not {*node.output} & (used | outputs)]
    for node in unread:  # float32 forms that only nodes which move levels would read
        copy.graph.node.remove(node)
    replace_content(copy.graph.initializer, [tensor for tensor in copy.graph.initializer if tensor.name in used])
    copy.producer_name, copy.producer_version = PRODUCER, ""
    onnx.checker.check_model(copy)
    return copy


class _Writer:
    """Rewrites a graph node by node.

    What an int8 node makes is quantised, and all read it rounded. Of a tensor that is made in float32 only the int8
    nodes read the rounded form: a recurrent state, for one, is handed on as it was. Nodes that only move numbers move
    the 8-bit levels.
    """

    def __init__(self, model: onnx.ModelProto, choice: Int8Choice, ranges: Mapping[str, Range]) -> None:
        self._model, self._choice = model, choice
        self._graph = GraphIndex(model)
        self._scales = {tensor: _scale_and_zero(*span) for tensor, span in ranges.items()}
        self._level_concats: set[str] = set()
        for names, tensors in scale_groups(self._graph, choice):
            self._level_concats |= names
            lows, highs = zip(*(ranges[tensor] for tensor in tensors), strict=True)
            self._scales |= dict.fromkeys(tensors, _scale_and_zero(min(lows), max(highs)))
        self._nodes: list[onnx.NodeProto] = []
        self._rounded: dict[str, str] = {}
        self._constants: set[str] = set()

    def write(self) -> None:
        """Replace the nodes of the graph."""
        absorbed: set[str] = set()
        for node in self._graph.nodes:
            if node.name in absorbed:
                continue
            if node.name not in self._choice.int8:
                self._nodes.append(node_copy(node))
                continue
            relu = self._graph.absorbed_relu(node)
            self._write(node, relu)
            if relu is not None:
                absorbed.add(relu.name)
        replace_content(self._model.graph.node, self._nodes)

    def _write(self, original: onnx.NodeProto, relu: onnx.NodeProto | None) -> None:
        node, result = node_copy(original), self._graph.result(original)
        activations = read_tensors(original)
        rounded = {tensor: self._read(tensor) for tensor in activations}
        if moves(node) or node.name in self._level_concats:
            node.input[: len(activations)] = [f"{tensor}/levels" for tensor in activations]
            node.output[0] = f"{result}/levels"
            self._nodes.append(node)
            self._restore(result, result)
            return
        node.input[:] = [rounded.get(tensor, tensor) for tensor in original.input]
        if node.op_type in PRODUCTS:
            self._quantise_weights(original, node)
        self._nodes.append(node)
        if gives_float(self._graph, original, self._choice.int8):
            return
        node.output[0], levels = f"{result}/float", f"{result}/levels"
        if relu is not None and self._scales[result][1]:  # not the lowest level: cut off in a step of its own
            self._quantise(node.output[0], result, f"{result}/uncut")
            cut = [f"{result}/uncut", self._scale_of(result)[1]]
            self._nodes.append(helper.make_node("Clip", cut, [levels], name=f"{result}/cut"))
        else:
            if relu is not None:
                node.output[0] = original.output[0]
                self._nodes.append(node_copy(relu))
                self._nodes[-1].output[0] = f"{result}/float"
            self._quantise(f"{result}/float", result, levels)
        self._restore(result, result)

    def _read(self, tensor: str) -> str:
        """Name of the rounded form of an activation, which is made where there is none yet."""
        if tensor not in self._rounded:
            constant = self._graph.constant(tensor)
            if constant is not None:
                self._scales[tensor] = _scale_and_zero(float(constant.min()), float(constant.max()))
            self._quantise(tensor, tensor, f"{tensor}/levels")
            self._restore(tensor, f"{tensor}/rounded")
        return self._rounded[tensor]

    def _quantise(self, source: str, tensor: str, levels: str) -> None:
        inputs = [source, *self._scale_of(tensor)]
        self._nodes.append(helper.make_node("QuantizeLinear", inputs, [levels], name=levels))

    def _restore(self, tensor: str, rounded: str) -> None:
        inputs = [f"{tensor}/levels", *self._scale_of(_source(self._graph, tensor, self._choice))]
        self._nodes.append(helper.make_node("DequantizeLinear", inputs, [rounded], name=f"{tensor}/restored"))
        self._rounded[tensor] = rounded

    def _quantise_weights(self, original: onnx.NodeProto, node: onnx.NodeProto) -> None:
        weights = self._graph.constant(original.input[1])
        if weights is None:
            raise TypeError(f"node {node.name} was chosen without constant weights")
        axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1
        bias = self._graph.constant(original.input[2]) if len(original.input) > 2 else None
        input_scale = self._scales[_source(self._graph, original.input[0], self._choice)][0]
        scales = _weight_scales(weights, axis, bias, input_scale)
        shape = [-1 if own == axis else 1 for own in range(weights.ndim)]
        levels = np.clip(np.rint(weights / scales.reshape(shape)), -127, 127).astype(np.int8)
        node.input[1] = self._dequantised(f"{node.name}/weights", levels, scales, axis)
        if bias is not None:
            bias_scales = scales * np.float32(input_scale)
            levels = np.rint(bias / bias_scales.astype(np.float64)).astype(np.int32)
            node.input[2] = self._dequantised(f"{node.name}/bias", levels, bias_scales, 0)

    def _dequantised(self, name: str, levels: NDArray[Any], scales: NDArray[np.float32], axis: int) -> str:
        inputs = [
            self._constant(f"{name}/levels", levels),
            self._constant(f"{name}/scale", scales),
            self._constant(f"{name}/zero", np.zeros(scales.shape, levels.dtype)),
        ]
        self._nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=name, axis=axis))
        return name

    def _scale_of(self, tensor: str) -> list[str]:
        """Names of an activation's scale and zero point."""
        scale, zero = self._scales[tensor]
        return [
            self._constant(f"{tensor}/scale", np.array(scale, np.float32)),
            self._constant(f"{tensor}/zero", np.array(zero, np.uint8)),
        ]

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants.add(name)
            self._model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name


def scale_groups(graph: GraphIndex, choice: Int8Choice) -> list[tuple[set[str], set[str]]]:
    """Concatenations, and the tensors that they read and make, which get one scale together.

    Then the levels are put side by side as they are, and what several concatenations read is rounded once. A tensor
    that a layer or a sum reads, too, keeps a scale of its own, as finer levels may matter there.
    """
    groups: list[tuple[set[str], set[str]]] = []
    for node in graph.nodes:
        if (
            node.op_type != "Concat"
            or moves(node)
            or node.name not in choice.int8
            or graph.absorbed_relu(node) is not None
        ):
            continue
        if not all(_only_put_together(graph, tensor, choice) for tensor in node.input):
            continue
        names, tensors = {node.name}, {*node.input, node.output[0]}
        for group in [group for group in groups if group[1] & tensors]:
            groups.remove(group)
            names, tensors = names | group[0], tensors | group[1]
        groups.append((names, tensors))
    return groups


def _only_put_together(graph: GraphIndex, tensor: str, choice: Int8Choice) -> bool:
    readers = {node.op_type for node in int8_readers(graph, tensor, choice.int8)}
    own = graph.constant(tensor) is None and _source(graph, tensor, choice) == tensor
    return own and readers <= {"Concat", "Mul"}


def _source(graph: GraphIndex, tensor: str, choice: Int8Choice) -> str:
    """The tensor whose scale a tensor has: behind nodes that only move numbers, the one before them."""
    maker = graph.makers.get(tensor)
    while maker is not None and moves(maker) and maker.name in choice.int8:
        tensor = maker.input[0]
        maker = graph.makers.get(tensor)
    return tensor


def _scale_and_zero(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of unsigned 8 bits for a range; 0 is always one of its levels."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / 255)) or 1.0
    return scale, int(np.clip(np.rint(-low / scale), 0, 255))


def _weight_scales(
    weights: NDArray[np.float32], axis: int, bias: NDArray[np.float32] | None, input_scale: float
) -> NDArray[np.float32]:
    """Scale per channel: the largest weight is 127, unless the bias would not fit into 32 bits then."""
    others = tuple(own for own in range(weights.ndim) if own != axis)
    scales = np.abs(weights).max(axis=others).astype(np.float64) / 127
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias) / (input_scale * _LARGEST_BIAS))
    return np.where(scales > 0, scales, 1.0).astype(np.float32)
