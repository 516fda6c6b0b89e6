"""Whether header and arrays of a message are what its kind says. Everything here comes from outside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from ...errors import WireError, expected
from . import kinds
from .header import DTYPES
from .message import Message

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ON_THE_GRID: Final = {
    kinds.ROAD_LAYOUT: {"observed": "bool", "seen_by": "uint64"},
    kinds.BELIEF: {"observed": "bool"},
    kinds.OCCUPANCY: {"probability": "uint8", "observed": "bool", "seen_by": "uint64", "log_odds": "float32"},
    kinds.DIRECTION: {"direction_rad": "float32", "confidence": "uint8", "observed": "bool", "seen_by": "uint64"},
}
"""Kind -> arrays of one number a cell -> their type."""


def check_content(message: Message) -> None:
    """Raise an error unless header and arrays are what the kind says.

    Of kinds that a later version may bring only the grid is checked, so that a reader can still list and measure them.
    """
    header, kind = message.header, message.kind
    grid = message.grid
    if not message.valid:
        return
    if header.half_life_s is not None and not header.half_life_s > 0:
        raise WireError(expected("half_life_s", "positive", header.half_life_s))
    if kind in kinds.BEV:
        if grid is None:
            raise WireError(expected(f"header of a {kind}", "one with a grid", "none"))
        _check_bev(message, grid.shape)
    elif kind in kinds.CAMERA_ARRAY:
        _check_camera_output(message)
    elif kind == kinds.DETECTIONS:
        message.detections()
    elif kind == kinds.RIG:
        message.rig()
    elif kind == kinds.HEALTH:
        message.health()


def _check_bev(message: Message, shape: tuple[int, int]) -> None:
    if message.kind == kinds.LAYOUT_GEOMETRY:
        message.layout_geometry()
        return
    if message.kind == kinds.BEV_RAW:
        _check_array(message, "values", None)
        return
    if message.kind in (kinds.ROAD_LAYOUT, kinds.BELIEF):
        _check_array(message, "probability", "uint8", (len(message.header.classes), *shape))
    for name, dtype in _ON_THE_GRID[message.kind].items():
        _check_array(message, name, dtype, shape)


def _check_camera_output(message: Message) -> None:
    header, kind = message.header, message.kind
    matrix = header.pixels_from_image
    if header.camera is None or matrix is None or not all(map(math.isfinite, matrix)):
        raise WireError(expected("header of a camera output", "one with camera and pixels_from_image", "without"))
    if kind == kinds.SEGMENTATION:
        values = _check_array(message, "values", "uint8")
        fits = values.ndim == 3 and len(values) == len(header.classes)
    elif kind == kinds.DEPTH:
        fits = (values := _check_array(message, "values", "float32")).ndim == 2
    else:
        values, fits = _check_array(message, "values", None), True
    if not fits:
        raise WireError(expected("shape of values", f"that of a {kind}", values.shape))


def _check_array(message: Message, name: str, dtype: str | None, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    array = message.arrays.get(name)
    if array is None:
        raise WireError(expected(f"arrays of a {message.kind}", f"with {name}", ", ".join(message.arrays) or "none"))
    if (dtype is not None and array.dtype != DTYPES[dtype]) or (shape is not None and array.shape != shape):
        wanted = f"{dtype or 'any type'} {shape if shape is not None else ''}".strip()
        raise WireError(expected(f"array {name}", wanted, f"{array.dtype.name} {array.shape}"))
    return array
