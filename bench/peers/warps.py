"""A raster of many planes carried under ego-motion with OpenCV, which takes planes one by one."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def warp_affine_planes(planes: NDArray[np.float32], source_from_target: NDArray[np.float64]) -> NDArray[np.float32]:
    """Warp every plane by cv2.warpAffine.

    Parameters
    ----------
    planes : float32 [C, nx, ny]
    source_from_target : float64 [2, 3], target cell to source cell, (i, j)
    """
    swapped = np.ascontiguousarray(source_from_target[::-1][:, [1, 0, 2]])  # OpenCV counts columns first
    size = planes.shape[:0:-1]
    out = np.empty_like(planes)
    for plane, target in zip(planes, out, strict=True):
        cv2.warpAffine(plane, swapped, size, dst=target, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return out


def remap_planes(planes: NDArray[np.float32], source_from_target: NDArray[np.float64]) -> NDArray[np.float32]:
    """The same by cv2.remap, with one pair of maps for all planes."""
    i, j = np.indices(planes.shape[1:], dtype=np.float32)
    (a, b, c), (d, e, f) = source_from_target.astype(np.float32)
    rows, columns = a * i + b * j + c, d * i + e * j + f
    first, second = cv2.convertMaps(columns, rows, cv2.CV_16SC2)
    out = np.empty_like(planes)
    for plane, target in zip(planes, out, strict=True):
        cv2.remap(plane, first, second, cv2.INTER_LINEAR, dst=target)
    return out
