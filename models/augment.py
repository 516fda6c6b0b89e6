"""What real cameras do to an image, applied at random: exposure, white balance, noise, blur, JPEG, and mirroring."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .shards import Batch

Image = NDArray[np.uint8]

EXPOSURE_SIGMA = 0.25
GAMMA_SIGMA = 0.15
WHITE_BALANCE_SIGMA = 0.05
OFFSET_SIGMA = 6.0
LARGEST_NOISE = 7.0
_LEVELS = np.linspace(0.0, 1.0, 256)


def augment_batch(batch: Batch, random: np.random.Generator) -> Batch:
    """Return a changed copy: every image by itself, half of them mirrored together with their labels and depths."""
    images, labels, depth_m = batch.images.copy(), batch.labels.copy(), batch.depth_m.copy()
    for index in range(len(images)):
        step = -1 if random.random() < 0.5 else 1
        images[index] = augment_image(np.ascontiguousarray(batch.images[index][:, ::step]), random)
        labels[index] = batch.labels[index][:, ::step]
        depth_m[index] = batch.depth_m[index][:, ::step]
    return Batch(images, labels, depth_m)


def augment_image(image: Image, random: np.random.Generator) -> Image:
    """Return a changed copy of an image, uint8 [h, w, 3] RGB; geometry stays."""
    changed: Any = cv2.LUT(image, tone_curves(random))
    if random.random() < 0.3:
        changed = cv2.GaussianBlur(changed, (0, 0), float(random.uniform(0.3, 0.8)))
    if random.random() < 0.7:
        noise = random.normal(0.0, random.uniform(0.5, LARGEST_NOISE), _NOISE_SHAPE).astype(np.int16)
        changed = cv2.add(changed, _tiled(noise, image.shape), dtype=cv2.CV_8U)
    if random.random() < 0.2:
        quality = int(random.integers(50, 96))
        encoded = cv2.imencode(".jpg", changed, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
        changed = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return np.asarray(changed, dtype=np.uint8)


_NOISE_SHAPE = (96, 160, 3)


def _tiled(noise: NDArray[np.int16], shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Repeat a patch of noise over an image: numbers are dear, and no convolution sees so far."""
    repeats = (-(-shape[0] // noise.shape[0]), -(-shape[1] // noise.shape[1]), 1)
    return np.tile(noise, repeats)[: shape[0], : shape[1]]


def tone_curves(random: np.random.Generator) -> Image:
    """Draw exposure, gamma, white balance and black level as a table, uint8 [1, 256, 3], level -> level per channel."""
    gain = np.exp(random.normal(0.0, EXPOSURE_SIGMA)) * np.exp(random.normal(0.0, WHITE_BALANCE_SIGMA, 3))
    curve = _LEVELS ** np.exp(random.normal(0.0, GAMMA_SIGMA))
    levels = 255.0 * curve[:, None] * gain + random.normal(0.0, OFFSET_SIGMA)
    table: Image = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[np.newaxis]
    return table
