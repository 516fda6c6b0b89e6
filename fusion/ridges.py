"""Ridges of a raster: where lines run in it, to a fraction of a cell.

A line's probability is a ridge. The raster is smoothed with a Gaussian; a ridge is where the smoothed raster bends down
across the line, and its crest where the slope across the line vanishes (Steger 1998, "An unbiased detector of
curvilinear structures"): to second order at `-(g . n) / (n . H n)` from a cell's centre, along the eigenvector n of the
Hessian H with the lowest eigenvalue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .._ext import ridges as kernel
from .._ext import smooth as smoothing

SIGMA_CELLS: Final = 1.0
"""Standard deviation of the smoothing."""

LEAST_BEND: Final = 0.15
"""Bend across the line, relative to the value, below which it is an area: bands of more than four cells."""

LEAST_HEIGHT: Final = 0.2
"""Value of the smoothed raster, relative to the largest nearby, below which it is the foot of a ridge."""

_TAPS: Final = np.exp(-0.5 * (np.arange(-3, 4) / SIGMA_CELLS) ** 2).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class RidgeField:
    """A raster prepared for following its ridges.

    smoothed : float32 [nx + 2, ny + 2], with a border of one cell around it
    strength : float32 [nx, ny], the largest value of the raster within one cell; 0 where not observed
    ridge : uint8 [nx, ny], 1 where the raster bends down like a line, 0 elsewhere and where not observed
    """

    smoothed: NDArray[np.float32]
    strength: NDArray[np.float32]
    ridge: NDArray[np.uint8]

    @classmethod
    def of(cls, raster: NDArray[np.float32], observed: NDArray[np.bool_], threshold: float) -> RidgeField:
        """Find the ridges of a raster, float32 [nx, ny], that come within a cell of `threshold` or more."""
        nx, ny = raster.shape
        field = cls(smooth(raster, observed), np.empty((nx, ny), np.float32), np.empty((nx, ny), np.uint8))
        kernel.find(
            np.ascontiguousarray(raster),
            np.ascontiguousarray(observed).view(np.uint8),
            field.smoothed,
            threshold,
            LEAST_HEIGHT,
            LEAST_BEND,
            field.strength,
            field.ridge,
        )
        return field

    def crest(self, cells: NDArray[np.int32]) -> NDArray[np.float64]:
        """Points of the crest near cells.

        Parameters
        ----------
        cells : int32 [n, 2], (i, j) on a ridge

        Returns
        -------
        float64 [n, 2], whole numbers being cell centres; at most 2.5 cells from the given ones along each axis
        """
        points = np.empty(cells.shape, np.float64)
        kernel.crest(self.smoothed, np.ascontiguousarray(cells), points)
        return points


def smooth(raster: NDArray[np.float32], observed: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Gaussian mean of the observed cells, float32 [nx + 2, ny + 2] with a border of one cell; 0 far from all of them.

    What lies outside of the grid is not observed.
    """
    nx, ny = raster.shape
    out = np.empty((nx + 2, ny + 2), np.float32)
    scratch = np.empty((2, nx + 1, ny + 2), np.float32)
    smoothing.smooth(np.ascontiguousarray(raster), np.ascontiguousarray(observed).view(np.uint8), _TAPS, scratch, out)
    return out
