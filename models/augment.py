"""What real cameras do to an image, applied at random: exposure, white balance, noise, blur, JPEG, and mirroring."""

from __future__ import annotations

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
    images, labels, depth_m = (np.empty_like(array) for array in (batch.images, batch.labels, batch.depth_m))
    for index in range(len(images)):
        step = -1 if random.random() < 0.5 else 1
        images[index] = augment_image(np.ascontiguousarray(batch.images[index][:, ::step]), random)
        labels[index] = batch.labels[index][:, ::step]
        depth_m[index] = batch.depth_m[index][:, ::step]
    return Batch(images, labels, depth_m)


def augment_image(image: Image, random: np.random.Generator) -> Image:
    """Return a changed copy of an image, uint8 [h, w, 3] RGB; geometry stays."""
    image = cv2.LUT(image, tone_curves(random))
    if random.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), float(random.uniform(0.3, 0.8)))
    if random.random() < 0.7:
        noise = np.empty(image.shape, np.int16)
        cv2.setRNGSeed(int(random.integers(2**31)))
        cv2.randn(noise, 0.0, float(random.uniform(0.5, LARGEST_NOISE)))
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    if random.random() < 0.2:
        quality = int(random.integers(50, 96))
        encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return np.asarray(image, dtype=np.uint8)


def tone_curves(random: np.random.Generator) -> Image:
    """Draw exposure, gamma, white balance and black level as a table, uint8 [1, 256, 3], level -> level per channel."""
    gain = np.exp(random.normal(0.0, EXPOSURE_SIGMA)) * np.exp(random.normal(0.0, WHITE_BALANCE_SIGMA, 3))
    curve = _LEVELS ** np.exp(random.normal(0.0, GAMMA_SIGMA))
    table = 255.0 * curve[:, None] * gain + random.normal(0.0, OFFSET_SIGMA)
    return np.clip(np.rint(table), 0, 255).astype(np.uint8)[None]
