"""A received message, and what its content is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidArgument, WireError, expected
from ...fusion.geometry import LayoutGeometry
from ...fusion.grid import BevGrid
from ...fusion.lens import Intrinsics, LensModel
from ...fusion.pose import Pose
from ...fusion.rig import Camera, Rig
from ..live.health import Health
from ..predictions import BevTensor, CameraOutput, CorridorDirection, Detections, OccupancyGrid, RoadLayout
from . import geometry, health_header
from .header import Header

CAMERA_KINDS: Final = ("segmentation", "depth", "features", "raw")
"""Kinds of per-camera outputs that are a single array."""

BELIEF: Final = "belief"
"""Kind of what a network says of all cells, observed or not."""

OCCUPIED: Final = "occupied"
"""The class of an occupancy grid's belief."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message of a topic, checked.

    header : everything but the arrays
    arrays : name -> read-only array, as on the wire (probabilities are uint8, 0..255)
    size_bytes : of all parts together
    received_ns : wall clock when a subscriber took it, nanoseconds since the epoch; None when decoded otherwise
    """

    header: Header
    arrays: Mapping[str, NDArray[Any]]
    size_bytes: int
    received_ns: int | None = None

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self.header.topic

    @property
    def kind(self) -> str:
        """What the content is: road_layout, layout_geometry, occupancy, direction, segmentation, detections, ..."""
        return self.header.kind

    @property
    def valid(self) -> bool:
        """Whether there is content; if not, `reason` says why."""
        return self.header.valid

    @property
    def reason(self) -> str | None:
        """Why the output is not valid; None when it is."""
        return self.header.reason

    @property
    def timestamp_ns(self) -> int:
        """The instant that the content is about, nanoseconds since the epoch."""
        return self.header.timestamp_ns

    @property
    def sequence(self) -> int:
        """Number of the message on its topic and session, from 0."""
        return self.header.sequence

    @property
    def session(self) -> str:
        """Which run of the publisher this is from, 32 hexadecimal digits."""
        return self.header.session

    @property
    def grid(self) -> BevGrid | None:
        """The grid of BEV arrays, otherwise None."""
        return None if self.header.grid is None else BevGrid(**msgspec.structs.asdict(self.header.grid))

    def road_layout(self) -> RoadLayout:
        """The road layout; probability is float32, the uint8 of the wire divided by 255."""
        self._require("road_layout")
        return RoadLayout(
            self._grid(),
            self.header.classes,
            _probability(self.arrays["probability"]),
            self.arrays["observed"],
            self.arrays["seen_by"],
        )

    def layout_geometry(self) -> LayoutGeometry:
        """The geometry of a road layout; numbers as on the wire, float32."""
        self._require(geometry.KIND)
        return geometry.from_arrays(self.arrays)

    def occupancy(self) -> OccupancyGrid:
        """The occupancy grid, exactly as published."""
        self._require("occupancy")
        half_life_s = self.header.half_life_s
        return OccupancyGrid(
            self._grid(),
            self.arrays["log_odds"],
            self.arrays["observed"],
            self.arrays["seen_by"],
            float("inf") if half_life_s is None else half_life_s,
        )

    def belief(self) -> NDArray[np.float32]:
        """What the network says of every cell, float32 [classes, nx, ny], 0..1; the classes are those of the header."""
        self._require(BELIEF)
        return _probability(self.arrays["probability"])

    def direction(self) -> CorridorDirection:
        """The corridor direction; confidence is float32, the uint8 of the wire divided by 255."""
        self._require("direction")
        return CorridorDirection(
            self._grid(),
            self.arrays["direction_rad"],
            _probability(self.arrays["confidence"]),
            self.arrays["observed"],
            self.arrays["seen_by"],
        )

    def bev_tensor(self) -> BevTensor:
        """A raw top-down output."""
        self._require("bev_raw")
        return BevTensor(self._grid(), self.arrays["values"])

    def camera_output(self) -> CameraOutput:
        """A per-camera output; a segmentation's probabilities are float32, the uint8 of the wire divided by 255."""
        self._require(*CAMERA_KINDS)
        values = self.arrays["values"]
        camera, matrix = self.header.camera, self.header.pixels_from_image
        if camera is None or matrix is None:
            raise WireError(expected("header of a camera output", "one with camera and pixels_from_image", "none"))
        return CameraOutput(
            camera,
            self.kind,
            _probability(values) if self.kind == "segmentation" else values,
            self.header.classes,
            np.array(matrix, dtype=np.float64).reshape(3, 3),
        )

    def detections(self) -> Detections:
        """The objects found in a camera's image, exactly as published."""
        self._require(Detections.kind)
        if self.header.camera is None:
            raise WireError(expected("header of detections", "one with camera", "none"))
        missing = [name for name in ("boxes", "scores", "class_ids") if name not in self.arrays]
        if missing:
            wanted = f"with {', '.join(missing)}"
            raise WireError(expected("arrays of detections", wanted, ", ".join(self.arrays) or "none"))
        return Detections(
            self.header.camera,
            self.header.classes,
            self.arrays["boxes"],
            self.arrays["scores"],
            self.arrays["class_ids"],
        )

    def rig(self) -> Rig:
        """The calibration."""
        self._require("rig")
        if self.header.rig is None:
            raise WireError(expected("header of a rig", "one with rig", "none"))
        cameras = []
        for lens in self.header.rig.cameras:
            if lens.model not in list(LensModel):
                raise WireError(expected(f"lens model of {lens.name}", f"one of {', '.join(LensModel)}", lens.model))
            intrinsics = Intrinsics(
                lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy, LensModel(lens.model), lens.coefficients
            )
            with np.errstate(all="ignore"):
                mounting = Pose(np.array(lens.ego_from_camera, dtype=np.float64).reshape(4, 4))
            cameras.append(Camera(lens.name, intrinsics, mounting))
        return Rig(tuple(cameras), self.header.rig.name)

    def health(self) -> Health:
        """The state of a live runtime."""
        self._require(health_header.KIND)
        return health_header.from_header(self.header)

    def _require(self, *kinds: str) -> None:
        if self.kind not in kinds:
            raise InvalidArgument(expected(f"kind of {self.topic}", " or ".join(kinds), self.kind))
        if not self.valid:
            raise InvalidArgument(expected(f"message of {self.topic}", "valid", f"one that is not: {self.reason}"))

    def _grid(self) -> BevGrid:
        grid = self.grid
        if grid is None:
            raise WireError(expected(f"header of a {self.kind}", "one with a grid", "none"))
        return grid


def check_content(message: Message) -> None:
    """Raise an error unless header and arrays are what the kind says.

    Of kinds that a later version may bring only the grid is checked, so that a reader can still list and measure them.
    """
    header = message.header
    grid = message.grid
    if not message.valid:
        return
    if header.half_life_s is not None and not header.half_life_s > 0:
        raise WireError(expected("half_life_s", "positive", header.half_life_s))
    classes = len(header.classes)
    if message.kind in ("road_layout", geometry.KIND, "occupancy", "direction", "bev_raw", BELIEF):
        if grid is None:
            raise WireError(expected(f"header of a {message.kind}", "one with a grid", "none"))
        _check_bev(message, grid.shape, classes)
    elif message.kind in CAMERA_KINDS:
        if header.camera is None or header.pixels_from_image is None or not np.isfinite(header.pixels_from_image).all():
            raise WireError(expected("header of a camera output", "one with camera and pixels_from_image", "without"))
        axes = {"segmentation": 3, "depth": 2}.get(message.kind)
        values = _check_array(message, "values", {"segmentation": "uint8", "depth": "float32"}.get(message.kind))
        if (axes is not None and values.ndim != axes) or (message.kind == "segmentation" and len(values) != classes):
            raise WireError(expected("shape of values", f"that of a {message.kind}", values.shape))
    elif message.kind == Detections.kind:
        message.detections()
    elif message.kind == "rig":
        message.rig()
    elif message.kind == health_header.KIND:
        message.health()


def _check_bev(message: Message, shape: tuple[int, int], classes: int) -> None:
    if message.kind == "bev_raw":
        _check_array(message, "values", None)
        return
    if message.kind == geometry.KIND:
        message.layout_geometry()
        return
    if message.kind == BELIEF:
        _check_array(message, "probability", "uint8", (classes, *shape))
        _check_array(message, "observed", "bool", shape)
        return
    if message.kind == "direction":
        _check_array(message, "direction_rad", "float32", shape)
        _check_array(message, "confidence", "uint8", shape)
    else:
        _check_array(message, "probability", "uint8", (classes, *shape) if message.kind == "road_layout" else shape)
    _check_array(message, "observed", "bool", shape)
    _check_array(message, "seen_by", "uint64", shape)
    if message.kind == "occupancy":
        _check_array(message, "log_odds", "float32", shape)


def _check_array(message: Message, name: str, dtype: str | None, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    array = message.arrays.get(name)
    if array is None:
        raise WireError(expected(f"arrays of a {message.kind}", f"with {name}", ", ".join(message.arrays) or "none"))
    if (dtype is not None and array.dtype.name != dtype) or (shape is not None and array.shape != shape):
        wanted = f"{dtype or 'any type'} {shape if shape is not None else ''}".strip()
        raise WireError(expected(f"array {name}", wanted, f"{array.dtype.name} {array.shape}"))
    return array


def _probability(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    probability = np.asarray(values / np.float32(255), dtype=np.float32)
    probability.flags.writeable = False
    return probability
