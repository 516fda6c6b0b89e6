"""Int8 networks that take what is lifted as levels, in place of numbers that they would round to levels first.

The lift then writes a quarter of the bytes, already rounded, and the network begins with its first product.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx
from onnx import numpy_helper

from ..fusion.levels import Levels
from ..runtime.bundle import Bundle
from ..runtime.subgraph import names_used, parse_model, replace_content


def lifted_as_levels(
    bundle: Bundle, models: Mapping[str, bytes]
) -> tuple[dict[str, bytes], dict[str, dict[str, Levels]]]:
    """Let networks take lifted tensors as levels wherever they round them before anything else.

    Parameters
    ----------
    models : file of a network, as the manifest names it -> its int8 form

    Returns
    -------
    models : the same; the lifted inputs of some are uint8 now
    levels : file -> tensor that is uint8 now -> what its levels stand for; files without one are left out
    """
    lifted: dict[str, set[str]] = {}
    for network in bundle.manifest.topdown_networks.values():
        lifted.setdefault(network.file, set()).update(lift.tensor for lift in network.lifts)
    taken, levels = dict(models), {}
    for file, content in models.items():
        model = parse_model(content, file)
        if found := take_levels(model, lifted.get(file, ())):
            taken[file], levels[file] = model.SerializeToString(deterministic=True), found
    return taken, levels


def take_levels(model: onnx.ModelProto, tensors: Collection[str]) -> dict[str, Levels]:
    """Make graph inputs uint8, in place, that nothing reads but one QuantizeLinear to uint8; the node goes.

    Parameters
    ----------
    tensors : names of the inputs in question

    Returns
    -------
    Input -> what its levels stand for; none for inputs that somebody reads as they are.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    found: dict[str, Levels] = {}
    for value in graph.input:
        readers = [node for node in graph.node if value.name in names_used(node)]
        levels = _rounding(readers[0], constants) if len(readers) == 1 and value.name in tensors else None
        if levels is None or readers[0].output[0] in outputs:
            continue
        rounded = readers[0].output[0]
        if any(rounded in {*names_used(node)} - {*node.input} for node in graph.node):
            continue  # read inside a body, where its name may mean something else
        graph.node.remove(readers[0])
        for node in graph.node:
            node.input[:] = [value.name if name == rounded else name for name in node.input]
        value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
        found[value.name] = levels
    if not found:
        return {}
    used = {name for node in graph.node for name in names_used(node)} | outputs
    replace_content(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    return found


def _rounding(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Levels | None:
    """What a node rounds to, when it is a QuantizeLinear to uint8 with one constant scale and zero point."""
    if node.op_type != "QuantizeLinear" or len(node.input) != 3 or not {*node.input[1:]} <= constants.keys():
        return None
    scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
    if scale.size != 1 or zero.size != 1 or zero.dtype != "uint8":
        return None
    return Levels(float(scale.item()), int(zero.item()))
