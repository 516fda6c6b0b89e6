"""Frames to pixels: headers checked first, then decoded at the smallest scale that is enough."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, MissingDependency, expected
from .frames import Frame, PixelFormat

REDUCTIONS: Final = (8, 4, 2, 1)
"""Divisors of the image size at which a JPEG can be decoded, the largest first."""

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_IHDR_LENGTH: Final = 13
_SOF_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKERS_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_SOS: Final = 0xDA
_END_OF_IMAGE: Final = b"\xff\xd9"


def load_opencv(load: Callable[[str], ModuleType] = importlib.import_module) -> Any:
    """Import OpenCV.

    Raises
    ------
    MissingDependency
        It is not there, or the system lacks a library that it needs; says the remedy.
    """
    try:
        return load("cv2")
    except ImportError as error:
        remedy = "apt install libgl1 libglib2.0-0, or pip install opencv-python-headless in place of opencv-python"
        if isinstance(error, ModuleNotFoundError):
            remedy = "pip install opencv-python"
        raise MissingDependency(f"OpenCV cannot be loaded ({error}); remedy: {remedy}") from error


cv2: Any = load_opencv()

_COLOUR_FLAGS: Final = {
    1: cv2.IMREAD_COLOR_BGR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_GREY_FLAGS: Final = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


_TO_BGR: Final = {
    PixelFormat.RGB8: cv2.COLOR_RGB2BGR,
    PixelFormat.MONO8: cv2.COLOR_GRAY2BGR,
    PixelFormat.NV12: cv2.COLOR_YUV2BGR_NV12,
    PixelFormat.YUYV: cv2.COLOR_YUV2BGR_YUY2,
}
_FULL_RANGE: Final = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
"""Brightness 0..255 for each luma of limited range."""


def image_size(data: NDArray[np.uint8] | bytes | memoryview) -> tuple[int, int]:
    """Read width and height from the header of a JPEG or PNG, without decoding and without a copy.

    Parameters
    ----------
    data : contiguous bytes

    Raises
    ------
    ImageError
        Neither a JPEG nor a PNG, or cut off before or inside the pixels.
    """
    view = (data.data if isinstance(data, np.ndarray) else memoryview(data)).cast("B")
    start = bytes(view[: len(_PNG_SIGNATURE)])
    if start == _PNG_SIGNATURE:
        return _png_size(view)
    if start.startswith(b"\xff\xd8"):
        return _jpeg_size(view)
    raise ImageError(expected("encoded image", "a JPEG or PNG", f"{len(view)} bytes starting with {start[:4]!r}"))


def reduction_for(pixel_format: PixelFormat, size: tuple[float, float], needed: tuple[float, float]) -> int:
    """Find the largest divisor at which a decoded image still has as many pixels as needed.

    Only JPEG decoders gain from it (they skip most of the inverse DCT); the others give 1.

    Parameters
    ----------
    size : width and height of the part of the image that is used, pixels
    needed : width and height that it will be resized to
    """
    if pixel_format is not PixelFormat.JPEG:
        return 1
    return next((r for r in REDUCTIONS if size[0] / r >= needed[0] and size[1] / r >= needed[1]), 1)


def pixels_of(frame: Frame, size: tuple[int, int], reduction: int = 1, *, grey: bool = False) -> NDArray[np.uint8]:
    """Give the pixels of a frame, decoding them where they are encoded.

    Parameters
    ----------
    frame : the frame
    size : width and height that the calibration says; checked against the header before anything is allocated
    reduction : 1, 2, 4 or 8 (only JPEG): decoded at size / reduction, rounded up. A decoded pixel then covers
        `reduction` x `reduction` pixels of the image, the last row and column less where the size is not divisible.
    grey : one channel

    Returns
    -------
    uint8 [H, W, 3] BGR where it was decoded; pixels that were not encoded are the frame's own memory, of its pixel
    format. With `grey` uint8 [H, W], 0..255: of NV12 and YUYV the luma, its limited range spread. EXIF orientation is
    not applied: a calibration is about the pixels as stored.

    Raises
    ------
    ImageError
        With camera and timestamp: another size, corrupt, cut off.
    """
    where = f"camera {frame.camera} at {frame.timestamp_ns} ns: "
    try:
        if frame.pixel_format.encoded:
            _check_size(image_size(frame.array), size)
            return _decode(frame.array, size, reduction, grey=grey)
        _check_size(frame.size, size)
        return _grey(frame) if grey else frame.array
    except ImageError as error:
        raise ImageError(where + str(error)) from error


def bgr_of(frame: Frame, size: tuple[int, int], reduction: int = 1) -> NDArray[np.uint8]:
    """Give the pixels of a frame as uint8 [H, W, 3] BGR, whatever it is; its own memory where it is BGR already.

    Arguments and errors are those of :func:`pixels_of`.
    """
    pixels = pixels_of(frame, size, reduction)
    code = _TO_BGR.get(frame.pixel_format)
    return pixels if code is None else np.asarray(cv2.cvtColor(pixels, code))


def _decode(data: NDArray[np.uint8], size: tuple[int, int], reduction: int, *, grey: bool) -> NDArray[np.uint8]:
    flags = (_GREY_FLAGS if grey else _COLOUR_FLAGS)[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(data, flags)
    except cv2.error as error:
        reason = str(error).strip().splitlines()[-1]
        raise ImageError(expected("encoded image", "one that can be decoded", reason)) from error
    if pixels is None:
        raise ImageError(expected("encoded image", "one that can be decoded", f"{len(data)} corrupt bytes"))
    _check_size((pixels.shape[1], pixels.shape[0]), (-(-size[0] // reduction), -(-size[1] // reduction)))
    decoded: NDArray[np.uint8] = pixels
    return decoded


def _grey(frame: Frame) -> NDArray[np.uint8]:
    pixels = frame.array
    grey: NDArray[np.uint8]
    match frame.pixel_format:
        case PixelFormat.NV12:
            grey = cv2.LUT(pixels[: len(pixels) // 3 * 2], _FULL_RANGE)
        case PixelFormat.YUYV:
            grey = cv2.LUT(pixels[..., 0], _FULL_RANGE)
        case PixelFormat.BGR8:
            grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        case PixelFormat.RGB8:
            grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        case _:
            grey = pixels
    return grey


def _check_size(actual: tuple[int, int] | None, calibrated: tuple[int, int]) -> None:
    if actual != calibrated:
        wanted, got = ("unknown" if size is None else f"{size[0]}x{size[1]}" for size in (calibrated, actual))
        raise ImageError(expected("image size", f"{wanted} as calibrated", got))


def _png_size(data: memoryview) -> tuple[int, int]:
    """PNG (ISO/IEC 15948): signature, then chunks of length, type, content and CRC: IHDR first, IEND last.

    Lengths are checked because OpenCV's decoder believes them: 2 kB that claim a chunk of gigabytes cost it seconds.
    """
    position, kind = len(_PNG_SIGNATURE), b""
    size: tuple[int, int] | None = None
    while position + 12 <= len(data) and kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, position)
        kind = bytes(data[position + 4 : position + 8])
        if (kind == b"IHDR") != (size is None) or position + 12 + length > len(data):
            break
        if size is None:
            if length != _IHDR_LENGTH:
                break
            width, height = struct.unpack_from(">II", data, position + 8)
            size = (width, height)
        position += 12 + length
    else:
        if size is not None and kind == b"IEND":
            return size
    raise ImageError(expected("PNG", "whole", f"{len(data)} bytes, damaged or cut at byte {position}"))


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    """JPEG (ITU-T T.81, annex B): marker segments up to the frame header, then to the scan, then the end marker."""
    size: tuple[int, int] | None = None
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in _MARKERS_WITHOUT_LENGTH:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in _SOF_MARKERS and length >= 8 and position + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = (width, height)
        position += 2 + length
        if marker == _SOS:
            break
    if size is None:
        raise ImageError(expected("JPEG", "whole", "a cut or damaged header"))
    if not _has_end(data, position):
        raise ImageError(expected("JPEG", "whole", f"{len(data)} bytes without an end"))
    return size


def _has_end(data: memoryview, start: int) -> bool:
    """Whether the end marker of a JPEG comes at or after `start`; drivers leave what they like behind it."""
    step = 4096
    for position in range(len(data) - 1, start - 1, -step):  # from the end, where it is as a rule
        if _END_OF_IMAGE in bytes(data[max(position - step, start) : position + 1]):
            return True
    return False
