import numpy as np
import pytest
from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.FrameTransforms_pb2 import FrameTransforms
from foxglove_schemas_protobuf.Grid_pb2 import Grid
from google.protobuf.timestamp_pb2 import Timestamp
from octobev.errors import CalibrationError, DriveError, InvalidArgument
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera
from octobev.replay import foxglove
from octobev.runtime.frames import Frame, PixelFormat

JPEG = b"\xff\xd8\xff\xe0 any bytes"
PNG = b"\x89PNG\r\n\x1a\n any bytes"
K = [500.0, 0, 320, 0, 510, 240, 0, 0, 1]
TIME_NS = 1_533_201_470_404_874_123


def calibration(**changes):
    fields = {"frame_id": "CAM", "width": 640, "height": 480, "distortion_model": "plumb_bob", "D": [0.0] * 5, "K": K}
    return CameraCalibration(**(fields | changes)).SerializeToString()


def decode(rectified=False, **changes):
    return foxglove.decode_calibration(calibration(**changes), rectified=rectified)[1]


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/cam_front/image_rect_compressed", True),
        ("/cam/image_rect", True),
        ("/cam/image_rectified/compressed", True),
        ("/cam/image_raw/compressed", False),
        ("/direct/image", False),
        ("/rectory/image", False),
    ],
)
def test_topic_name_tells_rectified_images(topic, rectified):
    assert foxglove.is_rectified(topic) is rectified


def test_image_survives_a_round_trip_to_the_nanosecond():
    frame = Frame("front", TIME_NS, JPEG, PixelFormat.JPEG)
    image = foxglove.decode_image(foxglove.encode_image(frame, "front"))
    assert (image.timestamp_ns, image.frame_id, image.data) == (TIME_NS, "front", JPEG)
    assert image.pixel_format is PixelFormat.JPEG


def test_image_format_is_what_the_bytes_are_not_what_is_claimed():
    message = CompressedImage(timestamp=Timestamp(seconds=1), data=PNG, format="jpeg", frame_id="/cam")
    image = foxglove.decode_image(message.SerializeToString())
    assert image.pixel_format is PixelFormat.PNG
    assert image.frame_id == "cam"


def test_image_that_is_neither_jpeg_nor_png_is_refused():
    message = CompressedImage(timestamp=Timestamp(seconds=1), data=b"RIFF", format="webp")
    with pytest.raises(DriveError, match="compressed image must be JPEG or PNG, got 'webp'"):
        foxglove.decode_image(message.SerializeToString())


def test_image_without_a_capture_time_is_refused():
    with pytest.raises(DriveError, match="timestamp must be set"):
        foxglove.decode_image(CompressedImage(data=JPEG).SerializeToString())


def test_time_outside_64_bits_is_refused():
    message = CompressedImage(timestamp=Timestamp(seconds=2**62), data=JPEG)
    with pytest.raises(DriveError, match="timestamp must be 0 to 2\\^63 ns"):
        foxglove.decode_image(message.SerializeToString())


def test_bytes_of_something_else_are_refused():
    with pytest.raises(DriveError, match=r"message must be a foxglove\.CompressedImage, got 7 other bytes"):
        foxglove.decode_image(b"\xff" * 7)


def test_raw_frame_is_not_encoded_as_compressed_image():
    with pytest.raises(InvalidArgument, match="camera front: frame must be jpeg or png, got bgr8"):
        foxglove.encode_image(Frame("front", 1, np.zeros((2, 2, 3), np.uint8)), "front")


def test_zero_distortion_is_a_pinhole():
    assert decode() == Intrinsics(640, 480, 500, 510, 320, 240)


@pytest.mark.parametrize("name", ["", "none", "plumb_bob", "PINHOLE", "rational_polynomial"])
def test_camera_without_coefficients_is_a_pinhole(name):
    assert decode(distortion_model=name, D=[]).model is LensModel.PINHOLE


@pytest.mark.parametrize(
    ("name", "coefficients", "expected"),
    [
        ("plumb_bob", [0.1, 0.2, 0.3, 0.4], (0.1, 0.2, 0.3, 0.4, 0.0)),
        ("plumb_bob", [0.1, 0.2, 0.3, 0.4, 0.5], (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("rational_polynomial", [0.1] * 8, (0.1,) * 8),
        ("rational_polynomial", [0.1] * 8 + [0.0] * 4, (0.1,) * 8),
    ],
)
def test_polynomial_models_are_brown_conrady(name, coefficients, expected):
    lens = decode(distortion_model=name, D=coefficients)
    assert (lens.model, lens.coefficients) == (LensModel.BROWN_CONRADY, expected)


@pytest.mark.parametrize("name", ["fisheye", "kannala_brandt", "equidistant"])
def test_fisheye_with_zero_coefficients_stays_a_fisheye(name):
    lens = decode(distortion_model=name, D=[0.0] * 4)
    assert (lens.model, lens.coefficients) == (LensModel.KANNALA_BRANDT, (0.0,) * 4)


def test_thin_prism_terms_are_not_dropped_silently():
    with pytest.raises(CalibrationError, match="brown_conrady coefficients must be 5 or 8 numbers, got 12"):
        decode(distortion_model="rational_polynomial", D=[0.1] * 12)


@pytest.mark.parametrize("name", ["fisheye62", "", "pinhole"])
def test_unknown_distortion_model_is_refused(name):
    with pytest.raises(CalibrationError, match=f"distortion model must be one of plumb_bob.*, got '{name}'"):
        decode(distortion_model=name, D=[0.1] * 5)


def test_rectified_images_take_the_projection_matrix_without_distortion():
    p = [400.0, 0, 300, -40, 0, 410, 200, 0, 0, 0, 1, 0]
    lens = decode(rectified=True, P=p, D=[0.1] * 5)
    assert lens == Intrinsics(640, 480, 400, 410, 300, 200)


def test_rectified_images_without_projection_matrix_take_the_camera_matrix():
    assert decode(rectified=True, P=[], D=[0.1] * 5, distortion_model="who_knows").fx == 500


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([0.0] * 9, "camera matrix must be fx 0 cx 0 fy cy 0 0 1"),
        ([0.0, 0, 320, 0, 510, 240, 0, 0, 1], "focal lengths must be positive, got fx 0"),
        ([500.0, 3, 320, 0, 510, 240, 0, 0, 1], "camera matrix must be fx 0 cx"),
        ([float("nan"), 0, 320, 0, 510, 240, 0, 0, 1], "must be finite|camera matrix must be"),
        ([500.0], "camera matrix must be nine numbers, got 1"),
    ],
)
def test_camera_matrix_of_no_camera_is_refused(matrix, message):
    with pytest.raises(CalibrationError, match=message):
        decode(K=matrix)


def test_calibration_without_an_image_size_is_refused():
    with pytest.raises(CalibrationError, match="image size must be positive, got 0x480"):
        decode(width=0)


@pytest.mark.parametrize(
    "lens",
    [
        Intrinsics(640, 480, 500.25, 510, 320, 240),
        Intrinsics(640, 480, 500, 510, 320, 240, LensModel.BROWN_CONRADY, (0.1, -0.2, 0.003, 0.004, 0.05)),
        Intrinsics(640, 480, 500, 510, 320, 240, LensModel.BROWN_CONRADY, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
        Intrinsics(640, 480, 500, 510, 320, 240, LensModel.KANNALA_BRANDT, (0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_calibration_survives_a_round_trip(lens):
    camera = Camera("front", lens, Pose.identity())
    frame, decoded = foxglove.decode_calibration(foxglove.encode_calibration(camera, TIME_NS), rectified=False)
    assert (frame, decoded) == ("front", lens)


def test_transform_maps_the_child_frame_to_the_parent_frame():
    pose = Pose.planar(3.0, -2.0, 0.5)
    (item,) = foxglove.decode_transforms(
        foxglove.TRANSFORM, foxglove.encode_transform(TIME_NS, "map", "base_link", pose)
    )
    assert (item.timestamp_ns, item.parent, item.child) == (TIME_NS, "map", "base_link")
    np.testing.assert_allclose(item.parent_from_child.matrix, pose.matrix, atol=1e-15)


def test_several_transforms_in_one_message_are_read_in_order():
    message = FrameTransforms()
    for child in ("/a", "b"):
        transform = message.transforms.add(parent_frame_id="/map", child_frame_id=child)
        transform.rotation.w = 1.0
    items = foxglove.decode_transforms(foxglove.TRANSFORMS, message.SerializeToString())
    assert [(item.parent, item.child, item.timestamp_ns) for item in items] == [("map", "a", 0), ("map", "b", 0)]


def test_transform_without_rotation_is_refused_by_its_frames():
    message = FrameTransforms()
    message.transforms.add(parent_frame_id="map", child_frame_id="ego")
    with pytest.raises(CalibrationError, match="transform map -> ego: quaternion must be of length 1"):
        foxglove.decode_transforms(foxglove.TRANSFORMS, message.SerializeToString())


def test_grid_is_row_major_in_y_with_its_corner_as_pose():
    grid = BevGrid(-1, 2, 10, 12, 1.0)  # three cells forward, two to the left
    layer = np.array([[1, 2], [3, 4], [5, 6]], np.uint8)
    message = Grid()
    message.ParseFromString(foxglove.encode_grid(TIME_NS, "base_link", grid, {"a": layer}))
    assert list(message.data) == [1, 3, 5, 2, 4, 6]
    assert (message.column_count, message.row_stride, message.cell_stride) == (3, 3, 1)
    assert (message.pose.position.x, message.pose.position.y, message.pose.orientation.w) == (-1, 10, 1)
    assert (message.cell_size.x, message.cell_size.y) == (1, 1)


def test_grid_layers_survive_a_round_trip():
    rng = np.random.default_rng(0)
    grid = BevGrid(-24, 40, -24.1, 23.9, 0.1)
    layers = {
        "drivable": rng.integers(0, 2, grid.shape, dtype=np.uint8),
        "direction_rad": np.where(rng.random(grid.shape) < 0.5, np.nan, 0.25).astype(np.float32),
        "visible": rng.random(grid.shape) < 0.5,
    }
    item = foxglove.decode_grid(foxglove.encode_grid(TIME_NS, "base_link", grid, layers))
    assert (item.timestamp_ns, item.frame_id, item.grid) == (TIME_NS, "base_link", grid)
    for name, layer in layers.items():
        np.testing.assert_array_equal(item.layers[name], layer)
    assert {name: layer.dtype.name for name, layer in item.layers.items()} == {
        "drivable": "uint8", "direction_rad": "float32", "visible": "uint8",
    }  # fmt: skip


def test_grid_rows_may_be_padded():
    message = Grid(timestamp=Timestamp(seconds=1), column_count=2, cell_stride=1, row_stride=3, data=b"\1\2\0\3\4\0")
    message.cell_size.x = message.cell_size.y = 0.5
    message.pose.orientation.w = 1
    message.fields.add(name="a", offset=0, type=1)
    np.testing.assert_array_equal(foxglove.decode_grid(message.SerializeToString()).layers["a"], [[1, 3], [2, 4]])


def test_grid_fields_of_other_number_types_are_left_out():
    message = Grid(timestamp=Timestamp(seconds=1), column_count=1, cell_stride=9, row_stride=9, data=bytes(9))
    message.cell_size.x = message.cell_size.y = 0.5
    message.fields.add(name="a", offset=0, type=8)  # float64
    message.fields.add(name="b", offset=8, type=1)
    assert list(foxglove.decode_grid(message.SerializeToString()).layers) == ["b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda grid: setattr(grid, "data", b"\0" * 5), "grid data must be whole rows of 2 bytes, got 5"),
        (lambda grid: setattr(grid, "row_stride", 1), "grid data must be whole rows of 1 bytes"),
        (lambda grid: setattr(grid.cell_size, "y", 0.25), "grid must be made of square cells"),
        (lambda grid: setattr(grid.cell_size, "x", float("nan")), "grid must be made of square cells"),
        (lambda grid: setattr(grid.pose.orientation, "z", 0.1), "orientation of a grid must be parallel"),
        (lambda grid: setattr(grid.pose.position, "x", float("inf")), "grid must be finite"),
        (lambda grid: setattr(grid.fields[0], "offset", 1), "field a of a grid must be inside its cell, got offset 1"),
    ],
)
def test_grid_that_is_not_one_is_refused(change, message):
    grid = Grid(timestamp=Timestamp(seconds=1), column_count=2, cell_stride=1, row_stride=2, data=b"\0" * 4)
    grid.cell_size.x = grid.cell_size.y = 0.5
    grid.pose.orientation.w = 1
    grid.fields.add(name="a", offset=0, type=1)
    foxglove.decode_grid(grid.SerializeToString())
    change(grid)
    with pytest.raises(DriveError, match=message):
        foxglove.decode_grid(grid.SerializeToString())


def test_layer_of_another_shape_is_not_encoded():
    with pytest.raises(InvalidArgument, match=r"layer a must be uint8, bool or float32 \(2, 2\), got uint8 \(2, 3\)"):
        foxglove.encode_grid(1, "base_link", BevGrid(0, 2, 0, 2, 1), {"a": np.zeros((2, 3), np.uint8)})
