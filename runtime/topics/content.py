"""Messages as the values that were published: the arrays and the header of a kind to its type.

What a message of the kind must have was checked when it was decoded, see :mod:`octobev.runtime.topics.checks`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError, expected
from ...fusion.grid import BevGrid
from ..predictions import BevTensor, CameraOutput, CorridorDirection, Detections, OccupancyGrid, RoadLayout
from . import kinds
from .message import Message


def road_layout(message: Message) -> RoadLayout:
    """Make a road layout."""
    arrays = message.arrays
    return RoadLayout(
        _grid(message), message.header.classes, probability(message), arrays["observed"], arrays["seen_by"]
    )


def occupancy(message: Message) -> OccupancyGrid:
    """Make an occupancy grid."""
    arrays, half_life_s = message.arrays, message.header.half_life_s
    return OccupancyGrid(
        _grid(message),
        arrays["log_odds"],
        arrays["observed"],
        arrays["seen_by"],
        math.inf if half_life_s is None else half_life_s,
    )


def direction(message: Message) -> CorridorDirection:
    """Make a corridor direction."""
    arrays = message.arrays
    confidence = probability(message, "confidence")
    return CorridorDirection(_grid(message), arrays["direction_rad"], confidence, arrays["observed"], arrays["seen_by"])


def bev_tensor(message: Message) -> BevTensor:
    """Make a raw top-down output."""
    return BevTensor(_grid(message), message.arrays["values"])


def camera_output(message: Message) -> CameraOutput:
    """Make a per-camera output that is an array."""
    camera, matrix = message.header.camera, message.header.pixels_from_image
    if camera is None or matrix is None:
        raise WireError(expected("header of a camera output", "one with camera and pixels_from_image", "none"))
    return CameraOutput(
        camera,
        message.kind,
        probability(message, "values") if message.kind == kinds.SEGMENTATION else message.arrays["values"],
        message.header.classes,
        np.array(matrix, dtype=np.float64).reshape(3, 3),
    )


def detections(message: Message) -> Detections:
    """Make the objects found in a camera's image.

    Raises
    ------
    WireError
        The header lacks the camera, or an array is missing.
    InvalidArgument
        Arrays that no detections can have.
    """
    arrays = message.arrays
    if message.header.camera is None:
        raise WireError(expected("header of detections", "one with camera", "none"))
    if missing := [name for name in ("boxes", "scores", "class_ids") if name not in arrays]:
        raise WireError(expected("arrays of detections", f"with {', '.join(missing)}", ", ".join(arrays) or "none"))
    return Detections(
        message.header.camera, message.header.classes, arrays["boxes"], arrays["scores"], arrays["class_ids"]
    )


def probability(message: Message, name: str = "probability") -> NDArray[np.float32]:
    """Make probabilities 0..1, read-only, of an array of 0..255."""
    values: NDArray[Any] = np.asarray(message.arrays[name] / np.float32(255), dtype=np.float32)
    values.flags.writeable = False
    return values


def _grid(message: Message) -> BevGrid:
    grid = message.grid
    if grid is None:
        raise WireError(expected(f"header of a {message.kind}", "one with a grid", "none"))
    return grid
