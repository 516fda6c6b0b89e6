"""Frames to pixels: what is refused before it is decoded, and what is decoded how far."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from octobev.errors import ImageError, MissingDependency
from octobev.runtime.frames import Frame, PixelFormat
from octobev.runtime.images import bgr_of, image_size, load_opencv, pixels_of, reduction_for

SIZE = (80, 48)


def _picture(width: int = 80, height: int = 48) -> np.ndarray:
    """Smooth colour, so that JPEG changes little: blue grows to the right, green downwards, red is 200."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    picture[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, np.newaxis]
    picture[..., 2] = 200
    return picture


def _encoded(kind: str, picture: np.ndarray | None = None, *options: int) -> bytes:
    return cv2.imencode(f".{kind}", _picture() if picture is None else picture, options)[1].tobytes()


def _frame(data: bytes | np.ndarray, pixel_format: str) -> Frame:
    return Frame("front", 7, data, PixelFormat(pixel_format))


def _claiming(jpeg: bytes, width: int, height: int) -> bytes:
    start = jpeg.index(b"\xff\xc0")
    return jpeg[: start + 5] + struct.pack(">HH", height, width) + jpeg[start + 9 :]


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_size_is_read_from_the_header(kind):
    assert image_size(_encoded(kind)) == SIZE


def test_size_of_a_progressive_jpeg_with_thumbnail_and_fill_bytes():
    jpeg = _encoded("jpg", None, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    thumbnail = _encoded("jpg", _picture(16, 8))
    exif = b"\xff\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert image_size(jpeg[:2] + exif + jpeg[2:]) == SIZE


@pytest.mark.parametrize(
    ("pixel_format", "size", "needed", "reduction"),
    [
        ("jpeg", (1600, 900), (352, 352), 2),
        ("jpeg", (1280, 960), (320, 240), 4),
        ("jpeg", (1280, 960), (321, 240), 2),
        ("jpeg", (1280, 960), (160, 120), 8),
        ("jpeg", (1280, 960), (10, 10), 8),
        ("jpeg", (1280, 960), (640, 481), 1),
        ("jpeg", (100, 100), (200, 200), 1),
        ("png", (1280, 960), (160, 120), 1),
        ("bgr8", (1280, 960), (160, 120), 1),
    ],
)
def test_reduction_leaves_at_least_what_is_needed(pixel_format, size, needed, reduction):
    assert reduction_for(PixelFormat(pixel_format), size, needed) == reduction


@pytest.mark.parametrize(
    ("reduction", "shape"), [(1, (48, 81, 3)), (2, (24, 41, 3)), (4, (12, 21, 3)), (8, (6, 11, 3))]
)
def test_jpeg_is_decoded_at_the_asked_scale_rounded_up(reduction, shape):
    pixels = pixels_of(_frame(_encoded("jpg", _picture(81)), "jpeg"), (81, 48), reduction)
    assert pixels.shape == shape
    block = _picture(81)[:reduction, :reduction].mean(axis=(0, 1))
    np.testing.assert_allclose(pixels[0, 0], block, atol=12)


def test_decoded_png_is_bgr_and_exact():
    np.testing.assert_array_equal(pixels_of(_frame(_encoded("png"), "png"), SIZE), _picture())


def test_raw_pixels_are_the_frames_own_memory():
    wide = np.zeros((48, 100, 3), np.uint8)
    view = wide[:, 10:90]
    assert pixels_of(_frame(view, "rgb8"), SIZE) is view


@pytest.mark.parametrize("pixel_format", ["bgr8", "rgb8", "mono8", "nv12", "yuyv", "jpeg", "png"])
def test_every_format_becomes_bgr(pixel_format, yuv_of):
    picture = _picture()
    data = {
        "bgr8": picture,
        "rgb8": np.ascontiguousarray(picture[..., ::-1]),
        "mono8": picture[..., 1],
        "jpeg": _encoded("jpg", None, cv2.IMWRITE_JPEG_QUALITY, 100),
        "png": _encoded("png"),
    }.get(pixel_format)
    data = yuv_of(picture, pixel_format) if data is None else data
    wanted = np.repeat(picture[..., 1:2], 3, axis=2) if pixel_format == "mono8" else picture
    found = bgr_of(_frame(data, pixel_format), SIZE)
    exact = pixel_format in ("bgr8", "rgb8", "mono8", "png")
    np.testing.assert_allclose(found, wanted, atol=0 if exact else 5)
    assert (found is data) == (pixel_format == "bgr8")


@pytest.mark.parametrize("pixel_format", ["nv12", "yuyv"])
def test_yuv_pixels_are_the_frames_own_memory(pixel_format, yuv_of):
    data = yuv_of(_picture(), pixel_format)
    assert pixels_of(_frame(data, pixel_format), SIZE) is data
    with pytest.raises(ImageError, match="image size must be 80x72 as calibrated, got 80x48"):
        pixels_of(_frame(data, pixel_format), (80, 72))


@pytest.mark.parametrize("pixel_format", ["nv12", "yuyv"])
def test_grey_of_yuv_is_its_luma_in_full_range(pixel_format, yuv_of):
    grey = pixels_of(_frame(yuv_of(_picture(), pixel_format), pixel_format), SIZE, grey=True)
    np.testing.assert_allclose(grey, _picture() @ np.array((0.114, 0.587, 0.299)), atol=1.6)
    range_ = np.zeros((2, 256, 2), np.uint8)
    range_[..., 0] = np.arange(256)
    grey = pixels_of(_frame(range_, "yuyv"), (256, 2), grey=True)[0]
    assert grey[[0, 16, 126, 235, 255]].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_encoded_bytes_are_read_where_they_are(kind):
    data, pixel_format = _encoded(kind), {"jpg": "jpeg"}.get(kind, kind)
    wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    for view in (memoryview(data), np.frombuffer(data, np.uint8), memoryview(bytearray(b"--" + data))[2:]):
        np.testing.assert_array_equal(pixels_of(_frame(view, pixel_format), SIZE), wanted)
        assert image_size(view) == SIZE


@pytest.mark.parametrize("behind", [0, 1, 4093, 4094, 4095, 4096, 4097, 20000])
def test_end_of_a_jpeg_is_found_before_what_a_driver_leaves_behind_it(behind):
    jpeg = _encoded("jpg")
    assert image_size(jpeg + bytes(behind)) == SIZE
    with pytest.raises(ImageError, match="without an end"):
        image_size(jpeg[:-2] + bytes(behind))


@pytest.mark.parametrize(
    ("pixel_format", "weights"), [("bgr8", (0.114, 0.587, 0.299)), ("rgb8", (0.299, 0.587, 0.114))]
)
def test_grey_weighs_colours_by_their_order(pixel_format, weights):
    grey = pixels_of(_frame(_picture(), pixel_format), SIZE, grey=True)
    np.testing.assert_allclose(grey, _picture() @ np.array(weights), atol=0.6)


def test_grey_of_encoded_and_of_mono_images():
    assert pixels_of(_frame(_encoded("jpg"), "jpeg"), SIZE, 2, grey=True).shape == (24, 40)
    mono = np.zeros((48, 80), np.uint8)
    assert pixels_of(_frame(mono, "mono8"), SIZE, grey=True) is mono


def test_orientation_tag_is_not_applied():
    tag = b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHIHHI", 0x0112, 3, 1, 6, 0, 0)
    exif = b"\xff\xe1" + struct.pack(">H", len(tag) + 8) + b"Exif\x00\x00" + tag
    jpeg = _encoded("jpg")
    assert cv2.imdecode(np.frombuffer(jpeg[:2] + exif + jpeg[2:], np.uint8), cv2.IMREAD_COLOR_BGR).shape[:2] == (80, 48)
    assert pixels_of(_frame(jpeg[:2] + exif + jpeg[2:], "jpeg"), SIZE).shape[:2] == (48, 80)


def test_header_of_gigapixels_is_refused_before_anything_is_allocated():
    frame = _frame(_claiming(_encoded("jpg"), 65500, 65500), "jpeg")
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="front at 7 ns: image size must be 80x48 as calibrated, got 65500x65500"):
            pixels_of(frame, SIZE)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["jpg", "png", "raw"])
def test_size_that_disagrees_with_the_calibration_is_refused(kind):
    small = _picture(40, 24)
    frame = _frame(small, "bgr8") if kind == "raw" else _frame(_encoded(kind, small), {"jpg": "jpeg"}.get(kind, kind))
    with pytest.raises(ImageError, match="camera front at 7 ns: image size must be 80x48 as calibrated, got 40x24"):
        pixels_of(frame, SIZE)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
@pytest.mark.parametrize(("kind", "pixel_format"), [("jpg", "jpeg"), ("png", "png")])
def test_cut_image_is_refused(kind, pixel_format, share):
    data = _encoded(kind)
    with pytest.raises(ImageError, match="camera front at 7 ns: "):
        pixels_of(_frame(data[: int(len(data) * share)], pixel_format), SIZE)


def test_end_marker_of_a_thumbnail_does_not_make_a_cut_jpeg_whole():
    jpeg, thumbnail = _encoded("jpg"), _encoded("jpg", _picture(16, 8))
    exif = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with pytest.raises(ImageError, match=r"JPEG must be whole, got .* bytes without an end"):
        pixels_of(_frame((jpeg[:2] + exif + jpeg[2:])[:-40], "jpeg"), SIZE)


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd8\xff\xd9",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR" + bytes(4),
    ],
)
def test_bytes_that_are_no_image_are_refused(data):
    with pytest.raises(ImageError, match=r"camera front at 7 ns: (encoded image|JPEG|PNG) must be"):
        pixels_of(_frame(data, "jpeg"), SIZE)


def test_png_with_a_flipped_bit_is_refused():
    png = bytearray(_encoded("png"))
    png[len(png) // 2] ^= 1
    with pytest.raises(ImageError, match="encoded image must be one that can be decoded"):
        pixels_of(_frame(bytes(png), "png"), SIZE)


def test_png_whose_header_lies_is_refused():
    png = _encoded("png")
    header = b"IHDR" + struct.pack(">II", 80, 47) + png[24:29]
    data = png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
    with pytest.raises(ImageError, match="image size must be 80x48 as calibrated, got 80x47"):
        pixels_of(_frame(data, "png"), SIZE)


def test_png_chunk_that_claims_gigabytes_is_refused_at_once():
    png = _encoded("png")
    assert png[37:41] == b"IDAT"
    with pytest.raises(ImageError, match=r"PNG must be whole, got .* damaged or cut at byte 33"):
        pixels_of(_frame(png[:33] + b"\xa1" + png[34:], "png"), SIZE)


def test_any_mutation_gives_pixels_or_an_image_error():
    random = np.random.default_rng(0)
    for kind, pixel_format in (("jpg", "jpeg"), ("png", "png")):
        data = _encoded(kind)
        for _ in range(200):
            mutated = bytearray(data)
            for position in random.integers(0, min(len(data), 700), 2):
                mutated[position] = random.integers(0, 256)
            with contextlib.suppress(ImageError):
                assert pixels_of(_frame(bytes(mutated), pixel_format), SIZE).shape == (48, 80, 3)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ImportError("libGL.so.1: cannot open shared object file"), "apt install libgl1 .* opencv-python-headless"),
        (ModuleNotFoundError("No module named 'cv2'"), "remedy: pip install opencv-python$"),
    ],
)
def test_opencv_that_cannot_be_loaded_names_the_remedy(error, remedy):
    def load(name: str):
        assert name == "cv2"
        raise error

    with pytest.raises(MissingDependency, match=remedy):
        load_opencv(load)
