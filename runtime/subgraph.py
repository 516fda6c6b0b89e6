"""The part of an ONNX graph that some of its outputs need.

ONNX Runtime executes a whole graph whatever is fetched, so what nobody wants is cut away before loading. The walk goes
backwards from the wanted outputs over tensor names. Bodies of control flow (If, Loop, Scan) see the tensors around
them: names used in them count as inputs of their node. All else stays as it is: opsets, functions, metadata. Shapes of
inner tensors need not be declared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from ..errors import BundleError, expected


def parse_model(content: bytes, name: str) -> onnx.ModelProto:
    """Parse a single-file ONNX model.

    Raises
    ------
    BundleError
        It is no ONNX model, or keeps tensors in other files.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, and others on mutated bytes
        raise BundleError(f"network {name}: " + expected("model", "an ONNX file", f"{type(error).__name__}")) from error
    if not model.graph.output:
        raise BundleError(f"network {name}: " + expected("model", "an ONNX file", "a file without graph outputs"))
    graph = model.graph
    names = [value.name for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer)]
    names += [tensor for node in graph.node for tensor in (*node.input, *node.output)]
    if broken := [value for value in names if not isinstance(value, str)]:  # protobuf then gives bytes
        raise BundleError(f"network {name}: " + expected("names in the model", "UTF-8", broken[0]))
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise BundleError(
                f"network {name}: " + expected("model", "a single file", f"tensor {tensor.name!r} in external data")
            )
    return model


def keep_outputs(model: onnx.ModelProto, outputs: Sequence[str], name: str) -> None:
    """Cut away, in place, what the given graph outputs do not need. They come in the given order.

    Raises
    ------
    BundleError
        The graph has no such output.
    """
    graph = model.graph
    declared = {value.name: value for value in graph.output}
    for output in outputs:
        if output not in declared:
            raise BundleError(f"network {name}: " + expected("output tensor", f"one of {', '.join(declared)}", output))
    makers = {tensor: index for index, node in enumerate(graph.node) for tensor in node.output if tensor}
    needed, nodes, pending = set(outputs), set[int](), list(outputs)
    while pending:
        index = makers.get(pending.pop())
        if index is None or index in nodes:
            continue
        nodes.add(index)
        used = set(names_used(graph.node[index])) - needed
        needed |= used
        pending.extend(used)
    kept = [declared[output] for output in outputs]
    replace_content(graph.output, kept)
    replace_content(graph.node, [node for index, node in enumerate(graph.node) if index in nodes])
    replace_content(graph.input, [value for value in graph.input if value.name in needed])
    replace_content(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])
    replace_content(
        graph.sparse_initializer, [tensor for tensor in graph.sparse_initializer if tensor.values.name in needed]
    )
    made = {tensor for node in graph.node for tensor in node.output}
    replace_content(graph.value_info, [value for value in graph.value_info if value.name in made])
    known = made | needed
    replace_content(graph.quantization_annotation, [q for q in graph.quantization_annotation if q.tensor_name in known])


def replace_content(field: object, kept: Sequence[object]) -> None:
    """Give a repeated protobuf field new content; `kept` are messages of the field itself, so they are copied first."""
    copies = [type(message)() for message in kept]
    for copy, message in zip(copies, kept, strict=True):
        copy.CopyFrom(message)  # type: ignore[attr-defined]
    del field[:]  # type: ignore[attr-defined]
    field.extend(copies)  # type: ignore[attr-defined]


def names_used(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the tensors that a node reads, also inside of bodies of control flow."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for body in [attribute.g, *attribute.graphs]:
            for inner in body.node:
                yield from names_used(inner)
            yield from (value.name for value in body.output)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for body in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(body)
