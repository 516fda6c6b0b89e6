"""Which nodes of a network compute in int8, and why the others do not.

The rules are measurements of ONNX Runtime's CPU kernels: an 8-bit convolution or matrix product is two to four times as
fast as one in float32, but not with three input channels, nor for a handful of numbers. Everything between two of them
stays in 8 bits where it can (sums, concatenations, what only moves numbers), because a change of arithmetic costs more
than such a node itself. Curves (sigmoid, tanh, softmax, exp), sums of exponentials, what is blended into a recurrent
state, and interpolation stay in float32: there 8 bits cost accuracy and save nothing.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ..errors import InvalidArgument, expected
from ..runtime.input_levels import MOVES

FEWEST_INPUT_CHANNELS: Final = 4
"""A convolution of fewer is slower in 8 bits: 366 us against 130 us for the first layer of the reference HydraNet."""

FEWEST_OUTPUT_CHANNELS: Final = 16
"""A last convolution of fewer gains nothing, and its output would be rounded to 8 bits."""

FEWEST_PRODUCTS: Final = 1 << 16
"""A layer of fewer multiplications costs less than the change of arithmetic."""

PRODUCTS: Final = frozenset({"Conv", "Gemm", "MatMul"})
SUMS: Final = frozenset({"Add", "Concat"})
GATES: Final = frozenset({"Sigmoid", "Mul"})
"""Are in 8 bits where nothing reads what they make but nodes in 8 bits: it is rounded then anyway."""


class GraphIndex:
    """Names of a graph's tensors looked up: who makes one, who reads it, what is constant, which shape it has."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes = list(graph.node)
        self.outputs = frozenset(value.name for value in graph.output)
        self.makers = {tensor: node for node in self.nodes for tensor in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(filter(None, node.input)):
                self.readers.setdefault(tensor, []).append(node)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        values = [*graph.input, *graph.output, *graph.value_info]
        self.shapes = {value.name: shape for value in values if (shape := _fixed_shape(value)) is not None}

    def constant(self, tensor: str) -> NDArray[Any] | None:
        """Value of a constant; None for another tensor."""
        found = self._constants.get(tensor)
        return None if found is None else numpy_helper.to_array(found)

    def only_relu(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The Relu that alone reads what a node makes."""
        readers = self.readers.get(node.output[0], [])
        alone = len(readers) == 1 and readers[0].op_type == "Relu" and node.output[0] not in self.outputs
        return readers[0] if alone else None

    def absorbed_relu(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The Relu that becomes part of a layer's or a sum's kernel."""
        return None if moves(node) else self.only_relu(node)

    def result(self, node: onnx.NodeProto) -> str:
        """The tensor that a node makes, its absorbed Relu included."""
        relu = self.absorbed_relu(node)
        made: str = (node if relu is None else relu).output[0]
        return made


@dataclass(frozen=True, slots=True)
class Int8Choice:
    """Names of nodes.

    int8 : those that compute in int8, Relus that are absorbed not counted
    reasons : layers (convolutions, matrix products) that stay in float32 -> why
    narrow_ends : those of them that are last convolutions of few channels
    """

    int8: frozenset[str]
    reasons: Mapping[str, str]
    narrow_ends: frozenset[str]


def choose_int8(graph: GraphIndex, keep: Collection[str] = ()) -> Int8Choice:
    """Choose the nodes that compute in int8.

    Parameters
    ----------
    graph : nodes in topological order, with names that are unique
    keep : names of nodes that stay in float32, or patterns of them (`*` stands for anything)
    """
    kept = {node.name for node in graph.nodes if _matches(node.name, keep)}
    reasons = {}
    for node in graph.nodes:
        if node.op_type in PRODUCTS:
            reason = "kept on request" if node.name in kept else _why_not(graph, node)
            if reason is not None:
                reasons[node.name] = reason
    banned = kept | set(reasons)
    narrow: set[str] = set()
    while True:
        chosen = _grown(graph, banned)
        for node in reversed(graph.nodes):
            may = _is_gate(graph, node) or (moves(node) and _only_moves(node))
            if may and node.name not in banned and _only_int8_reads(graph, node, chosen):
                chosen.add(node.name)
        for node in graph.nodes:
            if node.name in chosen and node.op_type == "Conv" and _is_narrow_end(graph, node, chosen):
                narrow.add(node.name)
        useless = {node.name for node in graph.nodes if node.name in chosen and _is_useless(graph, node, chosen)}
        before, banned = banned, banned | useless | narrow
        if banned == before:
            reasons |= dict.fromkeys(narrow, f"a last convolution of fewer than {FEWEST_OUTPUT_CHANNELS} channels")
            return Int8Choice(frozenset(chosen), reasons, frozenset(narrow))


def check_patterns(names: Collection[str], patterns: Collection[str]) -> None:
    """Refuse a pattern that none of the names matches.

    Raises
    ------
    InvalidArgument
    """
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in names):
            near = difflib.get_close_matches(pattern, names, n=3) or sorted(names)[:3]
            raise InvalidArgument(expected("node to keep", f"one of the networks' ({', '.join(near)}, ...)", pattern))


def moves(node: onnx.NodeProto) -> bool:
    """Whether a node gives numbers of its first input on, unchanged: the same 8 bits with the same scale."""
    return node.op_type in MOVES or (node.op_type == "Concat" and len({*node.input}) == 1)


def read_tensors(node: onnx.NodeProto) -> list[str]:
    """The inputs of a node that are activations: all of a sum's or a gate's, the first of another's."""
    return list(node.input) if node.op_type in SUMS | GATES else [node.input[0]]


def int8_readers(graph: GraphIndex, tensor: str, chosen: Collection[str]) -> Iterator[onnx.NodeProto]:
    """The nodes computing in int8 that read a tensor as an activation."""
    for node in graph.readers.get(tensor, []):
        if node.name in chosen and tensor in read_tensors(node):
            yield node


def gives_float(graph: GraphIndex, node: onnx.NodeProto, chosen: Collection[str]) -> bool:
    """Whether a matrix product hands its 32-bit sums on as float32, because nothing reads them in int8."""
    if node.op_type not in ("Gemm", "MatMul") or graph.absorbed_relu(node) is not None:
        return False
    return not any(int8_readers(graph, node.output[0], chosen))


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Value of a node's attribute, bytes as str."""
    for own in node.attribute:
        if own.name == name:
            value = onnx.helper.get_attribute_value(own)
            return value.decode() if isinstance(value, bytes) else value
    return default


def _why_not(graph: GraphIndex, node: onnx.NodeProto) -> str | None:
    """Why a convolution or matrix product cannot or should not compute in int8."""
    weights = graph.constant(node.input[1])
    shape = graph.shapes.get(node.output[0])
    if weights is None or weights.dtype != np.float32:
        return "no constant float32 weights"
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if len(node.input) > 2 and node.input[2] and (bias is None or bias.ndim != 1):
        return "a bias that is not one constant per channel"
    if shape is None:
        return "a shape that is not fixed"
    if node.op_type == "Conv":
        if weights.shape[1] < FEWEST_INPUT_CHANNELS and attribute(node, "group", 1) == 1:
            return f"fewer than {FEWEST_INPUT_CHANNELS} input channels"
        products = int(np.prod(shape)) * int(np.prod(weights.shape[1:]))
    else:
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        if weights.ndim != 2 or any(attribute(node, name, usual) != usual for name, usual in plain.items()):
            return "no plain product with a matrix"
        maker = graph.makers.get(node.input[0])
        if maker is not None and maker.op_type == "Exp":
            return "a sum of exponentials"
        products = int(np.prod(shape)) * weights.shape[1 if attribute(node, "transB", 0) else 0]
    return "too small to gain" if products < FEWEST_PRODUCTS else None


def _grown(graph: GraphIndex, banned: Collection[str]) -> set[str]:
    """The layers that are not banned, and what follows them in 8 bits, as far as it goes."""
    chosen: set[str] = set()
    made: set[str] = set()  # tensors that int8 nodes make
    for node in graph.nodes:
        if node.name in banned or not node.output:
            continue
        follows = [tensor in made for tensor in node.input if tensor]
        sums = node.op_type in SUMS and any(follows) and not moves(node)
        moved = moves(node) and bool(follows) and follows[0] and _only_moves(node)
        if node.op_type in PRODUCTS or sums or moved:
            chosen.add(node.name)
            made.add(graph.result(node))
    return chosen


def _is_gate(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    """Whether a node is a gate that has nothing to spread."""
    return node.op_type in GATES and len({graph.shapes.get(tensor) for tensor in (*node.output, *node.input)}) == 1


def _only_int8_reads(graph: GraphIndex, node: onnx.NodeProto, chosen: Collection[str]) -> bool:
    """Whether only nodes in int8 read what a node makes: then it may as well be rounded before."""
    made, readers = node.output[0], graph.readers.get(node.output[0], [])
    return made not in graph.outputs and 0 < len(readers) == sum(1 for _ in int8_readers(graph, made, chosen))


def _only_moves(node: onnx.NodeProto) -> bool:
    return len(node.output) == 1 and (node.op_type != "Resize" or attribute(node, "mode", "nearest") == "nearest")


def _is_useless(graph: GraphIndex, node: onnx.NodeProto, chosen: Collection[str]) -> bool:
    """Whether a node that is no layer gains nothing: none in int8 reads what it makes, and it reads float32 itself."""
    made = {graph.result(other) for other in graph.nodes if other.name in chosen}
    if node.op_type in PRODUCTS or (node.op_type in SUMS and made.issuperset(node.input)):
        return False
    return not any(int8_readers(graph, graph.result(node), chosen))


def _is_narrow_end(graph: GraphIndex, node: onnx.NodeProto, chosen: Collection[str]) -> bool:
    weights = graph.constant(node.input[1])
    narrow = weights is not None and weights.shape[0] < FEWEST_OUTPUT_CHANNELS
    return narrow and not any(int8_readers(graph, graph.result(node), chosen))


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _fixed_shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    sizes = [size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim]
    return None if None in sizes else tuple(size for size in sizes if size is not None)
