"""Tiny networks, bundles and rigs: small enough to compute by hand, complete enough to use every part."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.runtime.live.health import CameraCondition, CameraHealth, Health, OutputHealth, Spread
from octobev.runtime.profile import ENVIRONMENT, OFF
from onnx import TensorProto, helper, numpy_helper


def pytest_configure() -> None:
    """Let commands that tests start be interrupted, when the suite itself runs in the background of a shell."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ[ENVIRONMENT] = OFF  # what was measured on this machine is none of the tests' business


WIDTH, HEIGHT, STRIDE = 32, 16, 4
"""Size of the tiny HydraNet's image, and what it is divided by."""

NX, NY = 8, 6
"""Cells of the tiny bundle's grid."""

MANIFEST = """\
schema = 1
name = "tiny"
version = "1.0"
description = "A bundle for tests"
license = "MIT"

[grid]
x_min_m = 0.0
x_max_m = 8.0
y_min_m = -3.0
y_max_m = 3.0
resolution_m = 1.0

[networks.hydranet]
kind = "camera"
file = "hydra.onnx"
sha256 = "{sha256 of hydra.onnx}"
cameras = ["*"]

[networks.hydranet.input]
tensor = "image"
width = 32
height = 16
dtype = "float32"
layout = "nchw"
colour = "rgb"
scale = 0.00392156862745098

[networks.hydranet.outputs.features]
tensor = "features"
kind = "features"
stride = 4

[networks.hydranet.outputs.segmentation]
tensor = "logits"
kind = "segmentation"
stride = 4
classes = ["road", "line", "obstacle"]
activation = "softmax"

[networks.hydranet.outputs.depth]
tensor = "log_depth"
kind = "depth"
stride = 4
activation = "exp"

[networks.hydranet.outputs.bright]
tensor = "bright"
kind = "raw"

[networks.topdown]
kind = "topdown"
file = "topdown.onnx"
sha256 = "{sha256 of topdown.onnx}"
cameras = ["*"]

[[networks.topdown.lifts]]
tensor = "lifted"
source = "features"
heights_m = [0.0, 1.0]

[[networks.topdown.states]]
input = "state"
output = "state_out"

[networks.topdown.outputs.layout]
tensor = "layout"
kind = "road_layout"
classes = ["drivable", "edge"]
activation = "sigmoid"

[castouts.road_layout]
kind = "road_layout"
source = "segmentation"
classes = { drivable = ["road", "line"], divider = ["line"] }
blocked_by = ["obstacle"]
prior = { divider = 0.02 }

[castouts.occupancy]
kind = "occupancy"
source = "segmentation"
depth = "depth"
occupied_by = ["obstacle"]
"""


DETECTION_MANIFEST = """\
schema = 1
name = "tiny objects"
version = "1.0"
grid = { x_min_m = 0.0, x_max_m = 8.0, y_min_m = -3.0, y_max_m = 3.0, resolution_m = 1.0 }

[networks.hydranet]
kind = "camera"
file = "objects.onnx"
sha256 = "{sha256 of objects.onnx}"
cameras = ["*"]

[networks.hydranet.input]
tensor = "image"
width = 32
height = 16
dtype = "float32"
layout = "nchw"
colour = "rgb"
scale = 0.00392156862745098

[networks.hydranet.outputs.objects]
tensor = "heat"
kind = "detections"
boxes = "boxes"
layout = "nchw"
stride = 4
classes = ["vehicle", "pedestrian"]

[networks.hydranet.outputs.colours]
tensor = "colours"
kind = "segmentation"
stride = 4
classes = ["red", "green", "blue"]
"""


def _model(nodes: list[onnx.NodeProto], inputs: list, outputs: list, constants: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes, "tiny", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _hydra_model(batch: int | str = 1, *, with_nan: bool = False, channels_last: bool = False) -> bytes:
    """Average of 4 x 4 pixels, and heads on it: each is one 1x1 convolution, so node counts tell which of them ran.

    features [B, 2, 4, 8]: red, green; logits [B, 3, 4, 8]: 10 * colour; log_depth [B, 1, 4, 8]: mean of the colours;
    bright int64 [4, n]: where a colour is above 0.5 (not fixed in size). `with_nan`: the logarithm of log_depth - 0.5
    in place of log_depth. `channels_last`: features and logits as [B * 32, C] and [B, 4, 8, C].
    """
    h, w = HEIGHT // STRIDE, WIDTH // STRIDE
    weights = {
        "w_features": np.eye(3, dtype=np.float32)[:2],
        "w_logits": 10 * np.eye(3, dtype=np.float32),
        "w_depth": np.full((1, 3), 1 / 3, dtype=np.float32),
        "w_bright": np.eye(3, dtype=np.float32),
    }
    constants = {name: value[..., np.newaxis, np.newaxis] for name, value in weights.items()}
    constants["half"] = np.array(0.5, dtype=np.float32)
    features, logits = ("f", "l") if channels_last else ("features", "logits")
    nodes = [
        helper.make_node("AveragePool", ["image"], ["trunk"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["trunk", "w_features"], [features]),
        helper.make_node("Conv", ["trunk", "w_logits"], [logits]),
        helper.make_node("Conv", ["trunk", "w_depth"], ["d" if with_nan else "log_depth"]),
        helper.make_node("Conv", ["trunk", "w_bright"], ["b"]),
        helper.make_node("Greater", ["b", "half"], ["above"]),
        helper.make_node("NonZero", ["above"], ["bright"]),
    ]
    shapes: dict[str, list[int | str]] = {
        "features": [batch, 2, h, w],
        "logits": [batch, 3, h, w],
        "log_depth": [batch, 1, h, w],
    }
    if with_nan:
        nodes += [helper.make_node("Sub", ["d", "half"], ["m"]), helper.make_node("Log", ["m"], ["log_depth"])]
    if channels_last:
        constants["rows"] = np.array([-1, 2])
        nodes += [
            helper.make_node("Transpose", ["f"], ["ft"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", ["ft", "rows"], ["features"]),
            helper.make_node("Transpose", ["l"], ["logits"], perm=[0, 2, 3, 1]),
        ]
        shapes["features"] = [batch * h * w if isinstance(batch, int) else "pixels", 2]
        shapes["logits"] = [batch, h, w, 3]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    outputs.append(helper.make_tensor_value_info("bright", TensorProto.INT64, [4, "n"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, HEIGHT, WIDTH])
    return _model(nodes, [image], outputs, constants)


def _detection_model(batch: int = 1, *, layout: str = "nchw", sides: tuple[float, ...] = (4, 2, 6, 8)) -> bytes:
    """Objects where a block of 4 x 4 pixels has a colour: red is a vehicle, green a pedestrian.

    colours [B, 3, 4, 8]: the mean of the pixels; heat (two channels): red, green; boxes (four channels): `sides`
    everywhere. Heat and boxes in the given layout.
    """
    h, w = HEIGHT // STRIDE, WIDTH // STRIDE
    constants = {
        "w_heat": np.eye(3, dtype=np.float32)[:2, :, np.newaxis, np.newaxis],
        "w_boxes": np.zeros((4, 3, 1, 1), dtype=np.float32),
        "b_boxes": np.array(sides, dtype=np.float32),
    }
    suffix = "" if layout == "nchw" else "_planes"
    nodes = [
        helper.make_node("AveragePool", ["image"], ["colours"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["colours", "w_heat"], [f"heat{suffix}"]),
        helper.make_node("Conv", ["colours", "w_boxes", "b_boxes"], [f"boxes{suffix}"]),
    ]
    shapes = {"colours": [batch, 3, h, w]}
    for name, channels in (("heat", 2), ("boxes", 4)):
        shapes[name] = [batch, channels, h, w]
        if layout != "nchw":
            shapes[name] = [batch, h, w, channels] if layout == "nhwc" else [batch * h * w, channels]
            constants[f"shape_{name}"] = np.array(shapes[name])
            nodes += [
                helper.make_node("Transpose", [f"{name}_planes"], [f"{name}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_last", f"shape_{name}"], [name]),
            ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, HEIGHT, WIDTH])
    return _model(nodes, [image], outputs, constants)


def _topdown_model() -> bytes:
    """Recurrent: state_out = state + mean of the lifted planes; layout = (state_out, -state_out)."""
    nodes = [
        helper.make_node("ReduceMean", ["lifted"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Add", ["state", "mean"], ["state_out"]),
        helper.make_node("Neg", ["state_out"], ["negative"]),
        helper.make_node("Concat", ["state_out", "negative"], ["layout"], axis=1),
    ]
    return _model(
        nodes,
        [
            helper.make_tensor_value_info("lifted", TensorProto.FLOAT, [1, 4, NX, NY]),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 1, NX, NY]),
        ],
        [
            helper.make_tensor_value_info("layout", TensorProto.FLOAT, [1, 2, NX, NY]),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, [1, 1, NX, NY]),
        ],
        {},
    )


@pytest.fixture
def yuv_of() -> Callable[[np.ndarray, str], np.ndarray]:
    """Turn a BGR picture into nv12 or yuyv, as a camera delivers it."""

    def convert(picture: np.ndarray, pixel_format: str) -> np.ndarray:
        if pixel_format == "yuyv":
            return cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_YUY2)
        height, width = picture.shape[:2]
        planes = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
        u, v = planes[height:].reshape(2, height // 2, width // 2)
        return np.concatenate((planes[:height], np.stack((u, v), axis=-1).reshape(height // 2, width)))

    return convert


@pytest.fixture
def hydra_model() -> Callable[..., bytes]:
    """Make the tiny HydraNet."""
    return _hydra_model


@pytest.fixture
def detection_model() -> Callable[..., bytes]:
    """Make the tiny network that finds objects."""
    return _detection_model


@pytest.fixture
def detection_manifest() -> str:
    """Give the manifest of a bundle of that network, `objects.onnx`."""
    return DETECTION_MANIFEST


@pytest.fixture
def topdown_model() -> Callable[[], bytes]:
    """Make the tiny top-down network."""
    return _topdown_model


@pytest.fixture
def manifest_text() -> str:
    """Give the manifest of the tiny bundle; `{sha256 of FILE}` stands for the hash of a file."""
    return MANIFEST


@pytest.fixture
def write_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a bundle directory: a manifest (the tiny one) and models by file name (the tiny ones)."""

    def write(manifest: str = MANIFEST, models: dict[str, bytes] | None = None, name: str = "bundle") -> Path:
        files = {"hydra.onnx": _hydra_model(), "topdown.onnx": _topdown_model(), "objects.onnx": _detection_model()}
        files |= models or {}
        directory = tmp_path / name
        directory.mkdir()
        for file, content in files.items():
            (directory / file).write_bytes(content)

        def digest(match: re.Match[str]) -> str:
            return hashlib.sha256(files[match[1]]).hexdigest()

        (directory / "bundle.toml").write_text(re.sub(r"\{sha256 of ([^}]+)\}", digest, manifest), encoding="utf-8")
        return directory

    return write


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have profiles in a directory of the test, which is not there yet."""
    directory = tmp_path / "profiles"
    monkeypatch.setenv(ENVIRONMENT, str(directory))
    return directory


@pytest.fixture
def make_rig() -> Callable[..., Rig]:
    """Make a rig of level cameras 1.5 m above the ground that look ahead, all in one place."""

    def make(*names: str, width: int = WIDTH, height: int = HEIGHT) -> Rig:
        lens = Intrinsics(width, height, width / 2, width / 2, (width - 1) / 2, (height - 1) / 2)
        mounting = Pose(np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]]))
        return Rig(tuple(Camera(name, lens, mounting) for name in names or ("front",)), "made")

    return make


CAMERAS = (
    *("front_main", "front_narrow", "front_left", "front_right", "rear_left", "rear_right", "rear", "roof"),
    *("fisheye_front", "fisheye_rear", "fisheye_left", "fisheye_right"),
    *("trailer_left", "trailer_right", "trailer_rear", "cabin"),
)


def _camera_health(place: int) -> CameraHealth:
    """Every third camera is not ok, each in a way of its own."""
    faults = {
        4: (CameraCondition.LATE, "late"),
        7: (CameraCondition.CORRUPT, "roof at 1700000000000000000 ns: image must be a JPEG, got 12 bytes"),
        10: (CameraCondition.STALE, "the same image 41 times in succession"),
        13: (CameraCondition.MISSING, "no frame for 73.2 s"),
    }
    condition, reason = faults.get(place, (CameraCondition.OK, None))
    missing = condition is CameraCondition.MISSING
    return CameraHealth(
        condition=condition,
        since_ns=73_000_000_000 * (place + 1),
        rate_hz=0.0 if missing else 29.97,
        age_ns=73_200_000_000 if missing else 12_000_000 + place * 1_000_000,
        skew_ns=-12_500_000 + 1_000_000 * place,
        received=109_000 + place,
        used=108_000 + place,
        dropped={"surplus": 990, "late": 8} if place % 2 else {},
        corrupt=place,
        queued=place % 3,
        reason=reason,
    )


@pytest.fixture
def make_health() -> Callable[..., Health]:
    """Make the state of a live runtime with so many cameras; keyword arguments replace fields."""

    def make(count: int = 8, **changes: Any) -> Health:
        medians_ms = {"wait": 21.5, "decode": 3.25, "network": 11.0, "step": 31.75, "publish": 0.5}
        fields: dict[str, Any] = {
            "timestamp_ns": 1_700_000_000_000_000_000,
            "uptime_ns": 3_723_000_000_000,
            "valid": True,
            "reason": None,
            "cameras": {name: _camera_health(place) for place, name in enumerate(CAMERAS[:count])},
            "stages": {name: Spread(30_412, p50, 1.7 * p50, 4 * p50) for name, p50 in medians_ms.items()},
            "latency": Spread(30_412, 46.5, 71.25, 120.0),
            "outputs": {
                "road_layout": OutputHealth(True, True, None, 0),
                "occupancy": OutputHealth(True, False, "NaN in 3 of 12288 values", 2),
                "corridor_direction": OutputHealth(False, False, None, 0),
            },
            "sets": 30_412,
            "incomplete": 12,
            "overrun": 3,
            "deadline_misses": 4,
            "resets": {"first set": 1, "gap": 1},
            "queues": {"sets": 1, "results": 0},
            "stalled": {},
            "errors": {"callback": 1},
            "rss_bytes": 512_000_000,
            "rig_sha256": "cd" * 32,
            "bundle_sha256": "ab" * 32,
            "subscriptions": ("occupancy/", "road_layout/"),
            "threads": 14,
            "descriptors": 41,
        }
        return Health(**(fields | changes))

    return make
