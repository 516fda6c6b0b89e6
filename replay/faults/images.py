"""Images made worse. A frame's own memory is never written to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from ...errors import ImageError
from ...runtime.frames import Frame, PixelFormat
from ...runtime.images import bgr_of, load_opencv

cv2: Any = load_opencv()

_QUALITY: Final = 90
_CHANGED_BYTES: Final = 16


def noisy_frame(frame: Frame, deviation: float, random: np.random.Generator) -> Frame:
    """Add Gaussian noise; an encoded image is decoded for it and encoded anew, and left alone if it cannot be.

    Parameters
    ----------
    deviation : standard deviation as a share of full scale
    """
    pixels: Any = frame.array
    if frame.pixel_format.encoded:
        pixels = cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:
            return frame
    noise = random.standard_normal(pixels.shape, dtype=np.float32) * np.float32(255 * deviation)
    noisy = np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)
    if not frame.pixel_format.encoded:
        return replace(frame, data=noisy)
    return replace(frame, data=_encoded(noisy, frame))


def corrupt_frame(frame: Frame, random: np.random.Generator) -> Frame:
    """Damage the encoded bytes of a frame: cut it short, or change some bytes of its second half.

    A cut image is always found out by its decoder. Changed bytes are, where they hit a marker; otherwise they are a
    wrong picture that nobody can tell from a right one, as JPEG has no checksum.
    """
    if frame.size is not None:
        pixels = np.ascontiguousarray(bgr_of(frame, frame.size))
        frame = replace(frame, data=_encoded(pixels, frame), pixel_format=PixelFormat.JPEG)
    data = bytearray(frame.data)
    if random.random() < 0.5:
        del data[max(1, round(len(data) * random.uniform(0.1, 0.9))) :]
    else:
        for place in random.integers(len(data) // 2, len(data), _CHANGED_BYTES):
            data[place] ^= int(random.integers(1, 256))
    return replace(frame, data=bytes(data))


def _encoded(pixels: Any, frame: Frame) -> bytes:
    png = frame.pixel_format is PixelFormat.PNG
    done, data = cv2.imencode(".png" if png else ".jpg", pixels, [] if png else [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise ImageError(f"camera {frame.camera} at {frame.timestamp_ns} ns: image cannot be encoded")
    return bytes(data)
