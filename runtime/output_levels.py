"""Outputs of an ONNX graph that are levels until its last node makes numbers of them: given as levels."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from ..fusion.levels import Levels
from .input_levels import ONNX, constants_of, levels_of
from .subgraph import names_used


def give_levels(model: onnx.ModelProto, outputs: Collection[str]) -> dict[str, Levels]:
    """Have a graph give outputs as uint8 levels, in place, where the last thing it does is to make numbers of them.

    An output stays as it is unless it comes from a DequantizeLinear of one constant scale and uint8 zero point, nothing
    in the graph reads its numbers, and its levels are no output themselves.

    Parameters
    ----------
    outputs : graph outputs that are wanted as levels

    Returns
    -------
    Output -> what its levels stand for, for those that are given as levels now.
    """
    graph = model.graph
    constants = constants_of(graph)
    makers = {tensor: node for node in graph.node for tensor in node.output}
    declared = {value.name: value for value in graph.output}
    read = {tensor for node in graph.node for tensor in names_used(node)}
    given: dict[str, Levels] = {}
    for output in outputs:
        last = makers.get(output)
        if last is None or last.op_type != "DequantizeLinear" or last.domain not in ONNX or output in read:
            continue
        levels, tensor = levels_of(last, constants), last.input[0]
        numbers = declared[output].type.tensor_type
        if levels is None or not _of_bytes(last, constants) or numbers.elem_type != onnx.TensorProto.FLOAT:
            continue
        if tensor in declared or not _rename(graph, tensor, output):
            continue
        graph.node.remove(last)
        numbers.elem_type = onnx.TensorProto.UINT8
        given[output] = levels
    return given


def _of_bytes(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether a DequantizeLinear takes uint8: levels have the type of their zero point."""
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    return zero is not None and zero.data_type == onnx.TensorProto.UINT8


def _rename(graph: onnx.GraphProto, old: str, new: str) -> bool:
    """Give a tensor that a node makes another name; False, and nothing done, where a body of control flow reads it."""
    readers = [node for node in graph.node if old in node.input]
    makers = [node for node in graph.node if old in node.output]
    if not makers or len(readers) < sum(old in names_used(node) for node in graph.node):
        return False
    for node in readers:
        node.input[:] = [new if name == old else name for name in node.input]
    for node in makers:
        node.output[:] = [new if name == old else name for name in node.output]
    for value in [value for value in graph.value_info if value.name == old]:
        graph.value_info.remove(value)
    return True
