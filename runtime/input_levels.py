"""What an ONNX graph itself says of levels: of those of its uint8 inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import onnx
from onnx import numpy_helper

from ..fusion.levels import Levels

MOVES: Final = frozenset(
    ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "MaxPool", "Resize", "Expand")
)
"""Types of nodes that give numbers of their first input on, unchanged."""

ONNX: Final = ("", "ai.onnx")
"""Domains of the operators that are ONNX's own."""


def input_levels(model: onnx.ModelProto) -> dict[str, Levels]:
    """Find what the levels of uint8 inputs stand for.

    A graph says it where an input, as it is or only moved, goes into DequantizeLinear nodes, all of which have the same
    constant scale and zero point.

    Returns
    -------
    Input -> what its levels stand for; inputs of which the graph does not say it are left out.
    """
    graph = model.graph
    values = [value for value in graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8]
    if not values:
        return {}
    readers: dict[str, list[onnx.NodeProto]] = {}
    constants = constants_of(graph)
    for node in graph.node:
        if node.domain in ONNX and node.input:
            readers.setdefault(node.input[0], []).append(node)
    said = {value.name: set(_dequantised(value.name, readers, constants)) for value in values}
    return {name: levels.pop() for name, levels in said.items() if len(levels) == 1}


def constants_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The tensors of a graph that are constant, by name."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors = [attribute.t for attribute in node.attribute if attribute.name == "value"]
            constants |= dict(zip(node.output, tensors, strict=False))
    return constants


def _dequantised(
    tensor: str, readers: Mapping[str, Sequence[onnx.NodeProto]], constants: Mapping[str, onnx.TensorProto]
) -> Iterator[Levels]:
    """What DequantizeLinear nodes take the levels of a tensor for."""
    pending, seen = [tensor], set[str]()
    while pending:
        name = pending.pop()
        for node in readers.get(name, ()) if name not in seen else ():
            if node.op_type in MOVES:
                pending.extend(node.output[:1])
            elif node.op_type == "DequantizeLinear" and (levels := levels_of(node, constants)) is not None:
                yield levels
        seen.add(name)


def levels_of(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Levels | None:
    """What a DequantizeLinear takes levels for, if that is one for all of them, and constant."""
    names = [name for name in node.input[1:] if name]  # without a zero point it is 0
    if not names or not {*names} <= constants.keys():
        return None
    try:
        scale, zero = [*(numpy_helper.to_array(constants[name]).item() for name in names), 0][:2]
        return Levels(float(scale), int(zero))
    except (ValueError, TypeError):  # one for each channel; or what nobody can declare, and no network runs with
        return None
