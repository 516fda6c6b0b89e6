"""Frames and frame sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from octobev.errors import ImageError, InvalidArgument
from octobev.runtime.frames import Frame, FrameSet, PixelFormat

COLOUR = np.zeros((4, 6, 3), dtype=np.uint8)


def test_a_frame_borrows_its_pixels() -> None:
    image = np.zeros((8, 6, 3), dtype=np.uint8)
    frame = Frame("front", 5, image[::2])
    assert frame.data is not image
    assert np.shares_memory(frame.data, image)
    assert frame.pixel_format is PixelFormat.BGR8


@pytest.mark.parametrize(
    ("data", "pixel_format"),
    [(COLOUR, "bgr8"), (COLOUR[:, ::-1], "rgb8"), (COLOUR[..., 0], "mono8"), (b"\xff\xd8", "jpeg"), (b"\x89P", "png")],
)
def test_accepted_formats(data: Any, pixel_format: str) -> None:
    frame = Frame("front", 5, data, PixelFormat(pixel_format))
    assert frame.pixel_format == pixel_format
    assert frame.pixel_format.encoded == isinstance(data, bytes)


@pytest.mark.parametrize(
    ("data", "pixel_format", "message"),
    [
        (COLOUR.astype(np.float32), "bgr8", "data must be a uint8 array, got float32"),
        (COLOUR.tolist(), "bgr8", "data must be a uint8 array, got list"),
        (b"\xff\xd8", "bgr8", "data must be a uint8 array, got bytes"),
        (COLOUR[..., 0], "bgr8", r"image shape must be \(height, width, 3\), got \(4, 6\)"),
        (np.zeros((4, 6, 4), np.uint8), "rgb8", r"image shape must be \(height, width, 3\), got \(4, 6, 4\)"),
        (COLOUR, "mono8", r"image shape must be \(height, width\), got \(4, 6, 3\)"),
        (COLOUR[:0], "bgr8", r"image shape must be \(height, width, 3\), got \(0, 6, 3\)"),
        (COLOUR, "jpeg", "data must be the encoded bytes, got ndarray"),
        (b"", "png", "data must be the encoded bytes, got bytes"),
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
