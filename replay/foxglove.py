"""Messages of the Foxglove schemas, and the values of Octobev that they carry.

With :mod:`octobev.replay.scenes` and :mod:`octobev.replay.annotations` all that knows the protobuf messages. Decoders
take the serialised bytes of one message and raise :class:`DriveError` (or :class:`CalibrationError`) on whatever they
cannot make sense of; encoders give bytes that depend on nothing but their arguments.

Conventions of the schemas (https://docs.foxglove.dev/docs/sdk/schemas): a FrameTransform is `parent_from_child`,
quaternions are x, y, z, w; a Grid's `pose` is its corner, data is row-major in y, the columns run along x, which is the
transpose of a :class:`BevGrid` array.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
from foxglove_schemas_protobuf.FrameTransforms_pb2 import FrameTransforms
from foxglove_schemas_protobuf.Grid_pb2 import Grid
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.PackedElementField_pb2 import PackedElementField
from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from ..errors import CalibrationError, DriveError, InvalidArgument, expected
from ..fusion.grid import BevGrid
from ..fusion.lens import Intrinsics, LensModel
from ..fusion.pose import Pose
from ..fusion.rig import Camera
from ..runtime.frames import Frame, PixelFormat

IMAGE: Final = "foxglove.CompressedImage"
CALIBRATION: Final = "foxglove.CameraCalibration"
TRANSFORM: Final = "foxglove.FrameTransform"
TRANSFORMS: Final = "foxglove.FrameTransforms"
GRID: Final = "foxglove.Grid"
RAW_IMAGE: Final = "foxglove.RawImage"
SCENE: Final = "foxglove.SceneUpdate"
ANNOTATIONS: Final = "foxglove.ImageAnnotations"

MESSAGES: Final = MappingProxyType(
    {
        IMAGE: CompressedImage,
        CALIBRATION: CameraCalibration,
        TRANSFORM: FrameTransform,
        TRANSFORMS: FrameTransforms,
        GRID: Grid,
        RAW_IMAGE: RawImage,
        SCENE: SceneUpdate,
        ANNOTATIONS: ImageAnnotations,
    }
)
"""Schema name -> protobuf message class."""

_NUMBERS: Final[dict[int, np.dtype[Any]]] = {
    PackedElementField.UINT8: np.dtype(np.uint8),
    PackedElementField.FLOAT32: np.dtype("<f4"),
}
_RECTIFIED: Final = re.compile(r"(^|[/_])rect(ified)?([/_]|$)")
_POLYNOMIAL: Final = ("plumb_bob", "radtan", "rational_polynomial")
_FISHEYE: Final = ("fisheye", "kannala_brandt", "equidistant")
_UNDISTORTED: Final = ("", "none", "pinhole", "no_distortion")


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One CompressedImage: capture time, frame of the camera, and the bytes with what they are by their first bytes."""

    timestamp_ns: int
    frame_id: str
    data: bytes
    pixel_format: PixelFormat


@dataclass(frozen=True, slots=True)
class StampedTransform:
    """One FrameTransform."""

    timestamp_ns: int
    parent: str
    child: str
    parent_from_child: Pose


@dataclass(frozen=True, slots=True, eq=False)
class GridLayers:
    """One Grid: layers [nx, ny] (uint8 or float32) on a BevGrid of the frame `frame_id`."""

    timestamp_ns: int
    frame_id: str
    grid: BevGrid
    layers: Mapping[str, NDArray[Any]]


def is_rectified(topic: str) -> bool:
    """Whether an image topic carries rectified images by its name (`image_rect`, `image_rect_color`, ...)."""
    return _RECTIFIED.search(topic) is not None


def image_format(data: bytes) -> PixelFormat | None:
    """JPEG or PNG by the first bytes, None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return PixelFormat.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PixelFormat.PNG
    return None


def decode_image(data: bytes) -> EncodedImage:
    """Decode a CompressedImage. What `format` claims is not trusted: the first bytes decide."""
    message = _parse(CompressedImage, data)
    pixel_format = image_format(message.data)
    if pixel_format is None:
        raise DriveError(expected("compressed image", "JPEG or PNG", f"{message.format!r}, {len(message.data)} bytes"))
    return EncodedImage(_time(message), _frame(message.frame_id), message.data, pixel_format)


def decode_calibration(data: bytes, *, rectified: bool) -> tuple[str, Intrinsics]:
    """Decode a CameraCalibration to the camera's frame and intrinsics.

    Parameters
    ----------
    rectified : the images are rectified: P (or K where P is empty) without distortion. The frame of the calibration
        is then taken to be that of the rectified image; R is not applied.
    """
    message = _parse(CameraCalibration, data)
    frame = _frame(message.frame_id)
    width, height, k, p = message.width, message.height, list(message.K), list(message.P)
    if rectified:
        matrix = [p[0], p[1], p[2], p[4], p[5], p[6], p[8], p[9], p[10]] if len(p) == 12 and p[0] else k
        return frame, _intrinsics(width, height, matrix, LensModel.PINHOLE, ())
    model, coefficients = _lens(message.distortion_model.strip().lower(), tuple(message.D))
    return frame, _intrinsics(width, height, k, model, coefficients)


def frame_of_calibration(data: bytes) -> str:
    """Decode only the camera frame that a CameraCalibration is about."""
    return _frame(_parse(CameraCalibration, data).frame_id)


def decode_transforms(schema: str, data: bytes) -> list[StampedTransform]:
    """Decode a FrameTransform or FrameTransforms message."""
    messages = [_parse(FrameTransform, data)] if schema == TRANSFORM else _parse(FrameTransforms, data).transforms
    return [_transform(message) for message in messages]


def decode_grid(data: bytes) -> GridLayers:
    """Decode a Grid with square cells, parallel to the axes of its frame.

    Fields other than uint8 and float32 are left out.
    """
    message = _parse(Grid, data)
    q = message.pose.orientation
    if max(abs(q.x), abs(q.y), abs(q.z)) > 1e-9:
        raise DriveError(expected("orientation of a grid", "parallel to its frame", f"{q.x:g} {q.y:g} {q.z:g} {q.w:g}"))
    size, columns, stride = message.cell_size.x, message.column_count, message.row_stride
    if size != message.cell_size.y or columns < 1 or message.cell_stride < 1:
        raise DriveError(expected("grid", "made of square cells", f"{size:g} x {message.cell_size.y:g} m"))
    if stride < columns * message.cell_stride or len(message.data) < stride or len(message.data) % stride:
        raise DriveError(expected("grid data", f"whole rows of {stride} bytes", f"{len(message.data)} bytes"))
    rows = len(message.data) // stride
    cells = np.frombuffer(message.data, np.uint8).reshape(rows, stride)[:, : columns * message.cell_stride]
    cells = np.ascontiguousarray(cells).reshape(rows, columns, message.cell_stride)
    layers = {}
    for item in message.fields:
        kind = _NUMBERS.get(item.type)
        if kind is None:
            continue
        if item.offset + kind.itemsize > message.cell_stride:
            raise DriveError(expected(f"field {item.name} of a grid", "inside its cell", f"offset {item.offset}"))
        values = np.ascontiguousarray(cells[:, :, item.offset : item.offset + kind.itemsize]).view(kind)[:, :, 0]
        layers[item.name] = np.ascontiguousarray(values.T)
    x, y = message.pose.position.x, message.pose.position.y
    try:
        grid = BevGrid(x, round(x + columns * size, 9), y, round(y + rows * size, 9), size)
    except InvalidArgument as error:
        raise DriveError(str(error)) from error
    if grid.shape != (columns, rows):
        raise DriveError(expected("cells of a grid", "of a size that can be told apart", f"{size:g} m"))
    return GridLayers(_time(message), _frame(message.frame_id), grid, MappingProxyType(layers))


def encode_image(frame: Frame, frame_id: str) -> bytes:
    """Encode a frame that holds JPEG or PNG bytes as CompressedImage."""
    if not frame.pixel_format.encoded:
        raise InvalidArgument(expected(f"camera {frame.camera}: frame", "jpeg or png", frame.pixel_format))
    return _bytes(
        CompressedImage(
            timestamp=_stamp(frame.timestamp_ns),
            frame_id=frame_id,
            data=bytes(frame.data),
            format=frame.pixel_format.value,
        )
    )


def encode_calibration(camera: Camera, timestamp_ns: int) -> bytes:
    """Encode a camera's intrinsics as CameraCalibration; its frame is named as the camera."""
    lens = camera.intrinsics
    fx, fy, cx, cy = lens.fx, lens.fy, lens.cx, lens.cy
    if lens.model is LensModel.KANNALA_BRANDT:
        model, coefficients = "kannala_brandt", lens.coefficients
    elif len(lens.coefficients) == 8:
        model, coefficients = "rational_polynomial", lens.coefficients
    else:
        model, coefficients = "plumb_bob", lens.coefficients or (0.0,) * 5
    return _bytes(
        CameraCalibration(
            timestamp=_stamp(timestamp_ns),
            frame_id=camera.name,
            width=lens.width,
            height=lens.height,
            distortion_model=model,
            D=coefficients,
            K=[fx, 0, cx, 0, fy, cy, 0, 0, 1],
            R=[1, 0, 0, 0, 1, 0, 0, 0, 1],
            P=[fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0],
        )
    )


def encode_transform(timestamp_ns: int, parent: str, child: str, parent_from_child: Pose) -> bytes:
    """Encode a pose as FrameTransform."""
    message = FrameTransform(timestamp=_stamp(timestamp_ns), parent_frame_id=parent, child_frame_id=child)
    message.translation.x, message.translation.y, message.translation.z = map(float, parent_from_child.translation_m)
    x, y, z, w = map(float, parent_from_child.quaternion_xyzw)
    message.rotation.x, message.rotation.y, message.rotation.z, message.rotation.w = x, y, z, w
    return _bytes(message)


def encode_grid(timestamp_ns: int, frame_id: str, grid: BevGrid, layers: Mapping[str, NDArray[Any]]) -> bytes:
    """Encode layers [nx, ny] (uint8, bool as 0 or 1, float32) as one Grid."""
    arrays = {name: layer.view(np.uint8) if layer.dtype == np.bool_ else layer for name, layer in layers.items()}
    for name, layer in arrays.items():
        if layer.dtype not in (np.uint8, np.float32) or layer.shape != grid.shape:
            raise InvalidArgument(
                expected(f"layer {name}", f"uint8, bool or float32 {grid.shape}", f"{layer.dtype} {layer.shape}")
            )
    cell = np.dtype([(name, layer.dtype.newbyteorder("<")) for name, layer in arrays.items()])
    cells = np.empty(grid.shape[::-1], cell)
    for name, layer in arrays.items():
        cells[name] = layer.T
    message = Grid(
        timestamp=_stamp(timestamp_ns),
        frame_id=frame_id,
        column_count=grid.shape[0],
        cell_stride=cell.itemsize,
        row_stride=grid.shape[0] * cell.itemsize,
        data=cells.tobytes(),
    )
    message.pose.position.x, message.pose.position.y, message.pose.orientation.w = grid.x_min_m, grid.y_min_m, 1.0
    message.cell_size.x = message.cell_size.y = grid.resolution_m
    for name, layer in arrays.items():
        kind = PackedElementField.UINT8 if layer.dtype == np.uint8 else PackedElementField.FLOAT32
        message.fields.add(name=name, offset=cell.fields[name][1], type=kind)  # type: ignore[index]
    return _bytes(message)


def encode_labels(timestamp_ns: int, frame_id: str, labels: NDArray[np.uint8]) -> bytes:
    """Encode a map of class numbers, uint8 [h, w], as a mono8 RawImage."""
    height, width = labels.shape
    return _bytes(
        RawImage(
            timestamp=_stamp(timestamp_ns),
            frame_id=frame_id,
            width=width,
            height=height,
            encoding="mono8",
            step=width,
            data=labels.tobytes(),
        )
    )


def _parse(kind: Any, data: bytes) -> Any:
    message = kind()
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError, ValueError) as error:
        raise DriveError(expected("message", f"a {kind.DESCRIPTOR.full_name}", f"{len(data)} other bytes")) from error
    return message


def _time(message: Any) -> int:
    if not message.HasField("timestamp"):
        raise DriveError(expected(f"{message.DESCRIPTOR.name}.timestamp", "set", "none"))
    timestamp_ns = int(message.timestamp.seconds) * 1_000_000_000 + int(message.timestamp.nanos)
    if not 0 <= timestamp_ns < 2**63:
        raise DriveError(expected(f"{message.DESCRIPTOR.name}.timestamp", "0 to 2^63 ns", timestamp_ns))
    return timestamp_ns


def _stamp(timestamp_ns: int) -> Timestamp:
    return Timestamp(seconds=timestamp_ns // 1_000_000_000, nanos=timestamp_ns % 1_000_000_000)


def _frame(name: str) -> str:
    return name.lstrip("/")


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _transform(message: Any) -> StampedTransform:
    t, q = message.translation, message.rotation
    parent, child = _frame(message.parent_frame_id), _frame(message.child_frame_id)
    try:
        pose = Pose.from_quaternion((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
    except CalibrationError as error:
        raise CalibrationError(f"transform {parent} -> {child}: {error}") from error
    # transforms that never change are often written without a time
    timestamp_ns = _time(message) if message.HasField("timestamp") else 0
    return StampedTransform(timestamp_ns, parent, child, pose)


def _lens(name: str, coefficients: tuple[float, ...]) -> tuple[LensModel, tuple[float, ...]]:
    """Find the lens model by its name in the file, with as many coefficients as it takes."""
    if name in _FISHEYE:
        return LensModel.KANNALA_BRANDT, coefficients
    if name not in _POLYNOMIAL + _UNDISTORTED or (name in _UNDISTORTED and any(coefficients)):
        known = ", ".join(_POLYNOMIAL + _FISHEYE)
        raise CalibrationError(expected("distortion model", f"one of {known}", repr(name)))
    if not any(coefficients):
        return LensModel.PINHOLE, ()
    if len(coefficients) == 4:
        return LensModel.BROWN_CONRADY, (*coefficients, 0.0)
    if len(coefficients) > 8 and not any(coefficients[8:]):
        coefficients = coefficients[:8]
    return LensModel.BROWN_CONRADY, coefficients


def _intrinsics(
    width: int, height: int, matrix: list[float], model: LensModel, coefficients: tuple[float, ...]
) -> Intrinsics:
    if len(matrix) != 9:
        raise CalibrationError(expected("camera matrix", "nine numbers", len(matrix)))
    fx, skew, cx, below, fy, cy, *last = matrix
    # a scaled matrix is the same camera, but nobody writes one: more likely the numbers mean something else
    if last != [0.0, 0.0, 1.0] or below != 0.0 or abs(skew) > 1e-6 * abs(fx):
        raise CalibrationError(expected("camera matrix", "fx 0 cx 0 fy cy 0 0 1", matrix))
    return Intrinsics(width, height, fx, fy, cx, cy, model, coefficients)
