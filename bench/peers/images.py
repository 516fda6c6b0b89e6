"""Decoded frames to network inputs with OpenCV, and the exact sampling that all are checked against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def usual_input(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """The usual way: resize, cvtColor, float, transpose.

    Parameters
    ----------
    frame : uint8 [H, W, 3] BGR
    size : width and height of the network's image

    Returns
    -------
    float32 [3, height, width] RGB, 0..1
    """
    small = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    rgb = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.float32)
    rgb *= np.float32(1.0 / 255.0)
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))


def blob_inputs(frames: Sequence[NDArray[np.uint8]], size: tuple[int, int]) -> NDArray[np.float32]:
    """All frames by one call of OpenCV, float32 [frames, 3, height, width] RGB, 0..1."""
    blob: Any = cv2.dnn.blobFromImages(list(frames), 1.0 / 255.0, size, swapRB=True)
    return np.asarray(blob, np.float32)


def exact_bilinear(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear sampling in float64, pixel centres mapped to pixel centres; float64 [3, height, width] RGB, 0..1."""
    width, height = size
    v = np.clip((np.arange(height) + 0.5) * frame.shape[0] / height - 0.5, 0, frame.shape[0] - 1)
    u = np.clip((np.arange(width) + 0.5) * frame.shape[1] / width - 0.5, 0, frame.shape[1] - 1)
    top, left = np.floor(v).astype(int), np.floor(u).astype(int)
    bottom, right = np.minimum(top + 1, frame.shape[0] - 1), np.minimum(left + 1, frame.shape[1] - 1)
    down, across = (v - top)[:, None, None], (u - left)[None, :, None]
    upper = frame[top][:, left] * (1 - across) + frame[top][:, right] * across
    lower = frame[bottom][:, left] * (1 - across) + frame[bottom][:, right] * across
    exact: NDArray[np.float64] = (upper * (1 - down) + lower * down)[..., ::-1].transpose(2, 0, 1) / 255.0
    return exact
