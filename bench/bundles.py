"""Bundles of made-up networks: one with eight heads, and a full stack of 48 networks with 1,000 outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..runtime.bundle import Bundle, open_bundle

HEADS: Final = 8
HEAD_IMAGE: Final = (320, 192)
STACK_NETWORKS: Final = 48
STACK_OUTPUTS: Final = 1000
STACK_IMAGE: Final = (16, 16)

_OPSET: Final = 17
_TRUNK_CHANNELS: Final = 32
_GRID: Final = "[grid]\nx_min_m = 0.0\nx_max_m = 8.0\ny_min_m = -4.0\ny_max_m = 4.0\nresolution_m = 0.5\n"


def eight_heads(folder: Path) -> tuple[Bundle, float]:
    """A network of one trunk and eight heads of equal size.

    Returns
    -------
    bundle : with the outputs `head0` .. `head7`
    share : nodes that one head needs, of all
    """
    random = np.random.default_rng(0)
    nodes, weights = _trunk(random)
    trunk_nodes = len(nodes)
    for head in range(HEADS):
        hidden = f"hidden{head}"
        _convolution(nodes, weights, "trunk", hidden, _TRUNK_CHANNELS, _TRUNK_CHANNELS, random)
        nodes.append(helper.make_node("Relu", [hidden], [f"{hidden}_relu"]))
        _convolution(nodes, weights, f"{hidden}_relu", f"head{head}", _TRUNK_CHANNELS, 4, random)
    width, height = HEAD_IMAGE
    shape = [1, 4, height // 4, width // 4]
    model = _model(nodes, weights, HEAD_IMAGE, {f"head{head}": shape for head in range(HEADS)})
    bundle = _write(folder, {"net": (model, HEAD_IMAGE, [f"head{head}" for head in range(HEADS)])})
    head_nodes = (len(nodes) - trunk_nodes) / HEADS
    return bundle, (trunk_nodes + head_nodes) / len(nodes)


def full_stack(folder: Path) -> Bundle:
    """48 small networks with 1,000 outputs together, 20 or 21 each."""
    networks = {}
    each, rest = divmod(STACK_OUTPUTS, STACK_NETWORKS)
    width, height = STACK_IMAGE
    for number in range(STACK_NETWORKS):
        names = [f"n{number}_o{output}" for output in range(each + (number < rest))]
        nodes = [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("AveragePool", ["float"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        ]
        weights = []
        for index, name in enumerate(names):
            weights.append(numpy_helper.from_array(np.array(index, np.float32), f"c{index}"))
            nodes.append(helper.make_node("Add", ["pooled", f"c{index}"], [name]))
        model = _model(nodes, weights, STACK_IMAGE, {name: [1, 3, height // 4, width // 4] for name in names})
        networks[f"net{number}"] = (model, STACK_IMAGE, names)
    return _write(folder, networks)


def _trunk(random: np.random.Generator) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From the image to `trunk`, a quarter of its size."""
    nodes = [helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT)]
    weights: list[onnx.TensorProto] = []
    _convolution(nodes, weights, "float", "stem", 3, _TRUNK_CHANNELS, random, stride=4)
    nodes.append(helper.make_node("Relu", ["stem"], ["trunk"]))
    return nodes, weights


def _convolution(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    source: str,
    target: str,
    channels: int,
    wanted: int,
    random: np.random.Generator,
    stride: int = 1,
) -> None:
    kernel = (random.standard_normal((wanted, channels, 3, 3)) * 0.05).astype(np.float32)
    weights.append(numpy_helper.from_array(kernel, f"{target}_weight"))
    node = helper.make_node("Conv", [source, f"{target}_weight"], [target], pads=[1, 1, 1, 1], strides=[stride, stride])
    nodes.append(node)


def _model(
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    image: tuple[int, int],
    outputs: dict[str, list[int]],
) -> bytes:
    width, height = image
    given = [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, height, width])]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    graph = helper.make_graph(list(nodes), "made_up", given, results, initializer=list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    content: bytes = onnx.shape_inference.infer_shapes(model).SerializeToString()
    return content


def _write(folder: Path, networks: dict[str, tuple[bytes, tuple[int, int], list[str]]]) -> Bundle:
    folder.mkdir()
    text = f'schema = 1\nname = "made-up"\nversion = "1.0.0"\n{_GRID}'
    for name, (model, (width, height), outputs) in networks.items():
        file = f"{name}.onnx"
        (folder / file).write_bytes(model)
        text += f'[networks.{name}]\nkind = "camera"\nfile = "{file}"\ncameras = ["*"]\n'
        text += f'sha256 = "{hashlib.sha256(model).hexdigest()}"\n'
        text += f'[networks.{name}.input]\ntensor = "image"\nwidth = {width}\nheight = {height}\n'
        text += 'dtype = "uint8"\nlayout = "nchw"\ncolour = "rgb"\n'
        for output in outputs:
            text += f'[networks.{name}.outputs.{output}]\ntensor = "{output}"\nkind = "raw"\n'
    (folder / "bundle.toml").write_text(text, encoding="utf-8")
    return open_bundle(folder)
