"""Boxes around the things that a camera sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bodies import KINDS, VEHICLE

OBJECT_CLASSES = KINDS[VEHICLE:]
"""Names of the kinds that are looked for in an image, in the order of their numbers."""


def visible_boxes(
    things: NDArray[np.int32], kinds: NDArray[np.uint8], *, least_side_px: float = 4.0, least_pixels: int = 12
) -> NDArray[np.float32]:
    """Boxes around the visible part of every vehicle and pedestrian, ordered by the number of the thing.

    Parameters
    ----------
    things : int32 [h, w], number of the thing in front of each pixel, 0 for none
    kinds : uint8, what each thing is by its number, see :data:`~octobev.replay.bodies.KINDS`
    least_side_px, least_pixels : what is smaller is left out

    Returns
    -------
    float32 [n, 5]: kind, then x_min, y_min, x_max, y_max, pixels, pixel centres being whole numbers
    """
    row, column = np.nonzero(kinds[things] >= VEHICLE)
    found, of, pixels = np.unique(things[row, column], return_inverse=True, return_counts=True)
    low = np.full((len(found), 2), np.inf)
    high = np.full((len(found), 2), -np.inf)
    for axis, places in enumerate((column, row)):
        np.minimum.at(low[:, axis], of, places - 0.5)
        np.maximum.at(high[:, axis], of, places + 0.5)
    kept = ((high - low).min(axis=1) >= least_side_px) & (pixels >= least_pixels)
    return np.asarray(np.column_stack((kinds[found], low, high))[kept], np.float32)
