"""A bundle of networks so small that their results are known: image classes are the colours of the image."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.runtime.bundle import open_bundle
from onnx import TensorProto, helper

WIDTH, HEIGHT = 64, 48
POISON = 77  # a pixel of this value makes the network give NaN

MANIFEST = """
schema = 1
name = "colours"
version = "1"
[grid]
x_min_m = -8.0
x_max_m = 16.0
y_min_m = -8.0
y_max_m = 8.0
resolution_m = 0.5
[networks.colours]
kind = "camera"
file = "colours.onnx"
sha256 = "{colours}"
cameras = ["*"]
[networks.colours.input]
tensor = "image"
width = 64
height = 48
dtype = "uint8"
layout = "nchw"
colour = "rgb"
[networks.colours.outputs.segmentation]
tensor = "segmentation"
kind = "segmentation"
stride = 1
classes = ["red", "green", "blue"]
[networks.colours.outputs.embedding]
tensor = "embedding"
kind = "features"
stride = 1
[networks.colours.outputs.brightness]
tensor = "brightness"
kind = "raw"
[networks.memory]
kind = "topdown"
file = "memory.onnx"
sha256 = "{memory}"
cameras = {topdown_cameras}
[[networks.memory.lifts]]
tensor = "lifted"
source = "embedding"
[[networks.memory.states]]
input = "state_in"
output = "state_out"
[networks.memory.outputs.remembered]
tensor = "layout"
kind = "road_layout"
classes = ["red"]
[castouts.road_layout]
kind = "road_layout"
source = "segmentation"
classes.road = ["red"]
classes.line = ["green"]
blocked_by = ["blue"]
[castouts.occupancy]
kind = "occupancy"
source = "segmentation"
occupied_by = ["blue"]
"""


def colours_model():
    """Classes = channels / 255, NaN where a pixel is poisoned; embedding = red; brightness = mean of the image."""
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Equal", ["real", "poison"], ["poisoned"]),
        helper.make_node("Mul", ["real", "scale"], ["scaled"]),
        helper.make_node("Where", ["poisoned", "nan", "scaled"], ["segmentation"]),
        helper.make_node("Slice", ["segmentation", "zero", "one", "axis"], ["embedding"]),
        helper.make_node("ReduceMean", ["real"], ["brightness"], axes=[1, 2, 3], keepdims=0),
    ]
    constants = {
        "poison": np.float32(POISON), "scale": np.float32(1 / 255), "nan": np.float32(np.nan),
        "zero": np.array([0]), "one": np.array([1]), "axis": np.array([1]),
    }  # fmt: skip
    shape = [1, 3, HEIGHT, WIDTH]
    outputs = {"segmentation": shape, "embedding": [1, 1, HEIGHT, WIDTH], "brightness": [1]}
    return save(nodes, constants, {"image": (TensorProto.UINT8, shape)}, outputs)


def memory_model():
    """state' = max(state, lifted); the layout is the state."""
    shape = [1, 1, 48, 32]
    nodes = [
        helper.make_node("Max", ["state_in", "lifted"], ["state_out"]),
        helper.make_node("Identity", ["state_out"], ["layout"]),
    ]
    inputs = dict.fromkeys(("lifted", "state_in"), (TensorProto.FLOAT, shape))
    return save(nodes, {}, inputs, {"layout": shape, "state_out": shape})


def save(nodes, constants, inputs, outputs):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_bundle(folder, models, topdown_cameras='["*"]'):
    for name, content in models.items():
        (folder / f"{name}.onnx").write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in models.items()}
    (folder / "bundle.toml").write_text(MANIFEST.format(**hashes, topdown_cameras=topdown_cameras))
    return open_bundle(folder)


def looking(yaw_rad):
    """A camera 1.5 m above the ground, looking level."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return Pose(np.array([[sin, 0, cos, cos], [-cos, 0, sin, sin], [0, -1, 0, 1.5], [0, 0, 0, 1]]))


def two_cameras():
    lens = Intrinsics(WIDTH, HEIGHT, 40, 40, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    return Rig((Camera("front", lens, looking(0.0)), Camera("rear", lens, looking(np.pi))), "two")
