"""Knows an image again without keeping it."""

from __future__ import annotations

import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROWS: Final = 16
"""Rows of an image that are looked at, evenly spread from top to bottom."""


def fingerprint(data: NDArray[np.uint8] | bytes | memoryview) -> int:
    """CRC-32 of an image, the same for the same image: of 16 whole rows of an array, of all bytes that are encoded.

    Two images of a sensor differ in every row, by its noise, whatever it looks at. It takes some ten microseconds.

    Parameters
    ----------
    data : uint8 [H, W, ...] with any row stride, or encoded bytes, also as uint8 [n]

    Returns
    -------
    number : 0 .. 2**32 - 1
    """
    if isinstance(data, np.ndarray) and data.ndim == 1:
        data = data.data
    if not isinstance(data, np.ndarray):
        return zlib.crc32(data, len(data) & 0xFFFFFFFF)
    height = data.shape[0]
    step = max(1, -(-height // _ROWS))
    rows = np.ascontiguousarray(data[min(step // 2, height - 1) :: step])
    return zlib.crc32(rows.data, hash(data.shape) & 0xFFFFFFFF)
