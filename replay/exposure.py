"""What a real camera adds to a picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fusion.lens import Intrinsics
from ..fusion.rig import Camera


class Exposure:
    """What a real camera adds to a picture: gain, colour cast, vignetting and noise, different for each camera."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._tables: dict[tuple[str, Intrinsics], tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}

    def apply(self, image: NDArray[np.uint8], camera: Camera, timestamp_ns: int) -> NDArray[np.uint8]:
        """The picture as this camera would have given it at this time."""
        key = (camera.name, camera.intrinsics)
        if key not in self._tables:
            self._tables[key] = self._make(camera)
        vignette, noise = self._tables[key]
        bright = cv2.multiply(image, vignette, scale=1 / 160)
        shift = (timestamp_ns // 1000) * 2654435761 % (1 << 32)
        row, column = int(shift % 61), int(shift // 61 % 67)
        height, width = image.shape[:2]
        grain = noise[row : row + height, column : column + width]
        return np.asarray(cv2.addWeighted(bright, 1.0, grain, 1.0, -128.0), np.uint8)

    def _make(self, camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        lens = camera.intrinsics
        rng = np.random.default_rng([self._seed, *camera.name.encode()])
        v, u = np.mgrid[0 : lens.height, 0 : lens.width]
        radius = np.hypot((u - lens.cx) / lens.width, (v - lens.cy) / lens.height)
        fall = 1 - rng.uniform(0.15, 0.5) * radius**2
        gains = rng.uniform(0.86, 1.1) * rng.uniform(0.97, 1.03, 3)
        vignette = np.clip(160 * fall[..., None] * gains, 0, 255).astype(np.uint8)
        sigma = rng.uniform(1.2, 3.5)
        noise = rng.normal(128, sigma, (lens.height + 61, lens.width + 67, 3)).round().astype(np.uint8)
        return vignette, noise
