"""What a camera's own processing does to the levels of an image, drawn at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EXPOSURE_SIGMA = 0.25
GAMMA_SIGMA = 0.15
WHITE_BALANCE_SIGMA = 0.05
OFFSET_SIGMA = 6.0
_LEVELS = np.linspace(0.0, 1.0, 256)


def tone_curves(random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw exposure, gamma, white balance and black level as a table, uint8 [1, 256, 3], level -> level per channel."""
    gain = np.exp(random.normal(0.0, EXPOSURE_SIGMA)) * np.exp(random.normal(0.0, WHITE_BALANCE_SIGMA, 3))
    curve = _LEVELS ** np.exp(random.normal(0.0, GAMMA_SIGMA))
    levels = 255.0 * curve[:, None] * gain + random.normal(0.0, OFFSET_SIGMA)
    table: NDArray[np.uint8] = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[np.newaxis]
    return table
