"""Frames and frame sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from octobev.errors import ImageError, InvalidArgument
from octobev.runtime.frames import Frame, FrameSet, PixelFormat

COLOUR = np.zeros((4, 6, 3), dtype=np.uint8)
NV12 = np.zeros((6, 6), dtype=np.uint8)
YUYV = np.zeros((4, 6, 2), dtype=np.uint8)


def test_a_frame_borrows_its_pixels() -> None:
    image = np.zeros((8, 6, 3), dtype=np.uint8)
    frame = Frame("front", 5, image[::2])
    assert frame.data is not image
    assert np.shares_memory(frame.data, image)
    assert frame.pixel_format is PixelFormat.BGR8


@pytest.mark.parametrize(
    ("data", "pixel_format"),
    [
        (COLOUR, "bgr8"),
        (COLOUR[:, ::-1], "rgb8"),
        (COLOUR[..., 0], "mono8"),
        (NV12, "nv12"),
        (np.zeros((12, 10), np.uint8)[::2, 2:8], "nv12"),
        (YUYV, "yuyv"),
        (np.zeros((8, 10, 2), np.uint8)[::-2, 2:8], "yuyv"),
    ],
)
def test_accepted_pixels(data: Any, pixel_format: str) -> None:
    frame = Frame("front", 5, data, PixelFormat(pixel_format))
    assert frame.pixel_format == pixel_format
    assert not frame.pixel_format.encoded
    assert frame.pixel_format.yuv == (pixel_format in ("nv12", "yuyv"))
    assert frame.size == (6, 4)
    assert frame.pixel_format.array_shape(6, 4) == data.shape
    assert frame.array is data


@pytest.mark.parametrize("pixel_format", ["jpeg", "png"])
@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff",
        memoryview(b"\xff\xd8\xff"),
        memoryview(bytearray(b".\xff\xd8\xff"))[1:],
        np.frombuffer(b"\xff\xd8\xff", np.uint8),
    ],
)
def test_accepted_encoded_bytes(data: Any, pixel_format: str) -> None:
    frame = Frame("front", 5, data, PixelFormat(pixel_format))
    assert frame.pixel_format.encoded
    assert frame.size is None
    assert frame.array.tobytes() == b"\xff\xd8\xff"
    assert np.shares_memory(frame.array, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("pixel_format", [name for name in PixelFormat if not name.encoded])
def test_sizes_and_shapes_belong_together(pixel_format: PixelFormat) -> None:
    for width in range(1, 5):
        for height in range(1, 5):
            fits = width % 2 == 0 and (height % 2 == 0 or pixel_format == "yuyv") if pixel_format.yuv else True
            found = pixel_format.size_of(pixel_format.array_shape(width, height))
            assert (found == (width, height)) == fits


@pytest.mark.parametrize(
    ("data", "pixel_format", "message"),
    [
        (COLOUR.astype(np.float32), "bgr8", r"data must be a uint8 array, got float32 \(4, 6, 3\)"),
        (COLOUR.tolist(), "bgr8", "data must be a uint8 array, got list"),
        (b"\xff\xd8", "bgr8", "data must be a uint8 array, got bytes"),
        (COLOUR[..., 0], "bgr8", r"image shape must be \(height, width, 3\), got \(4, 6\)"),
        (np.zeros((4, 6, 4), np.uint8), "rgb8", r"image shape must be \(height, width, 3\), got \(4, 6, 4\)"),
        (COLOUR, "mono8", r"image shape must be \(height, width\), got \(4, 6, 3\)"),
        (COLOUR[:0], "bgr8", r"image shape must be \(height, width, 3\), got \(0, 6, 3\)"),
        (COLOUR, "jpeg", r"data must be the encoded bytes, contiguous, got uint8 \(4, 6, 3\)"),
        (COLOUR[0, :, 0], "jpeg", r"data must be the encoded bytes, contiguous, got uint8 \(6,\)"),
        (np.zeros(6), "jpeg", r"data must be the encoded bytes, contiguous, got float64 \(6,\)"),
        (memoryview(b"abcd")[::2], "jpeg", "data must be the encoded bytes, contiguous, got memoryview"),
        ("text", "jpeg", "data must be the encoded bytes, contiguous, got str"),
        (b"", "png", "data must be the encoded bytes, got none"),
        (NV12[:5], "nv12", r"image shape must be \(height \* 3 / 2, width\), height and width even, got \(5, 6\)"),
        (NV12[:, :5], "nv12", r"image shape must be .*, got \(6, 5\)"),
        (NV12[:0], "nv12", r"image shape must be .*, got \(0, 6\)"),
        (COLOUR, "nv12", r"image shape must be .*, got \(4, 6, 3\)"),
        (YUYV[:, :5], "yuyv", r"image shape must be \(height, width, 2\), width even, got \(4, 5, 2\)"),
        (NV12, "yuyv", r"image shape must be \(height, width, 2\), width even, got \(6, 6\)"),
        (YUYV[:, ::-1], "yuyv", "image must be with the bytes of a row side by side, got strides"),
        (np.zeros((6, 8), np.uint8)[:, ::2], "nv12", "image must be with the bytes of a row side by side, got strides"),
    ],
)
def test_bad_images_name_camera_and_time(data: Any, pixel_format: str, message: str) -> None:
    with pytest.raises(ImageError, match=f"camera front at 5 ns: {message}"):
        Frame("front", 5, data, PixelFormat(pixel_format))


def test_frames_are_found_by_camera() -> None:
    left, right = Frame("left", 1, COLOUR), Frame("right", 2, COLOUR)
    frames = FrameSet(2, (left, right), absences={"rear": "no image within 50 ms"})
    assert frames.frame("right") is right
    assert frames.frame("rear") is None
    assert frames.absences == {"rear": "no image within 50 ms"}


def test_absences_are_copied_and_read_only() -> None:
    reasons = {"rear": "dropped"}
    frames = FrameSet(2, (), absences=reasons)
    reasons["front"] = "later"
    assert dict(frames.absences) == {"rear": "dropped"}
    with pytest.raises(TypeError, match="does not support item assignment"):
        frames.absences["rear"] = "x"  # type: ignore[index]


def test_two_frames_of_one_camera_are_refused() -> None:
    frame = Frame("left", 1, COLOUR)
    with pytest.raises(
        InvalidArgument, match="frame set at 7 ns: frames must be at most one per camera, got several of"
    ):
        FrameSet(7, (frame, frame))


def test_a_camera_is_not_there_and_absent_at_once() -> None:
    with pytest.raises(InvalidArgument, match="absent cameras must be without a frame, got left"):
        FrameSet(7, (Frame("left", 1, COLOUR),), absences={"left": "dropped"})
