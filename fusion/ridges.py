"""Ridges of a raster: where lines run in it, to a fraction of a cell.

A line's probability is a ridge. The raster is smoothed with a Gaussian; a ridge is where the smoothed raster bends down
across the line, and its crest where the slope across the line vanishes (Steger 1998, "An unbiased detector of
curvilinear structures"): to second order at `-(g . n) / (n . H n)` from a cell's centre, along the eigenvector n of the
Hessian H with the lowest eigenvalue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .._ext import smooth as kernel

SIGMA_CELLS: Final = 1.0
"""Standard deviation of the smoothing."""

LEAST_BEND: Final = 0.15
"""Bend across the line, relative to the value, below which it is an area: bands of more than four cells."""

LEAST_HEIGHT: Final = 0.2
"""Value of the smoothed raster, relative to the largest nearby, below which it is the foot of a ridge."""

_TAPS: Final = np.exp(-0.5 * (np.arange(-3, 4) / SIGMA_CELLS) ** 2).astype(np.float32)
_STEPS: Final = 2
_FLAT: Final = 1e-6
_FLOOR: Final = 1e-3


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
        known = np.where(observed, raster, np.float32(0))
        smoothed = smooth(known, observed)
        strength = np.where(observed, _largest_nearby(known), np.float32(0))
        xx, yy, xy = _second_differences(smoothed)
        inner = smoothed[1:-1, 1:-1]
        ridge = (strength >= threshold) & (inner >= LEAST_HEIGHT * strength)
        ridge &= _lowest_eigenvalue(xx, yy, xy) < -LEAST_BEND * inner
        field = cls(smoothed, strength, ridge.astype(np.uint8))
        field._leave_out_shoulders()
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
        at = self._nearest_crest(cells)
        return np.asarray(at + np.clip(self._to_crest(at), -0.5, 0.5))

    def _leave_out_shoulders(self) -> None:
        """Take away what bends down at the rim of an area: there the way to the crest leads out of the ridge."""
        cells = np.argwhere(self.ridge).astype(np.int32)
        at = self._nearest_crest(cells)
        off = (self.ridge[at[:, 0], at[:, 1]] == 0) & (self.strength[at[:, 0], at[:, 1]] > 0)
        self.ridge[cells[off, 0], cells[off, 1]] = 0

    def _nearest_crest(self, cells: NDArray[np.int32]) -> NDArray[np.int64]:
        """Cells where the way up leads to, at most :data:`_STEPS` away."""
        last = np.array(self.strength.shape) - 1
        at = cells.astype(np.int64)
        for _ in range(_STEPS):
            at = np.clip(at + np.rint(self._to_crest(at)).astype(np.int64), 0, last)
        return at

    def _to_crest(self, at: NDArray[np.int64]) -> NDArray[np.float64]:
        """Way from cell centres to the crest, float64 [n, 2], at most one cell."""
        rows, columns = np.arange(3)[:, None, None], np.arange(3)[:, None]
        around = np.log(self.smoothed[at[:, 0] + rows, at[:, 1] + columns].astype(np.float64) + _FLOOR)
        gx, gy = (around[2, 1] - around[0, 1]) / 2, (around[1, 2] - around[1, 0]) / 2
        xx, yy, xy = (second[0, 0] for second in _second_differences(around))
        bend = np.minimum(_lowest_eigenvalue(xx, yy, xy), -_FLAT)
        angle = np.arctan2(2 * xy, xx - yy) / 2 + np.pi / 2
        normal = np.stack((np.cos(angle), np.sin(angle)), axis=-1)
        way = -(gx * normal[:, 0] + gy * normal[:, 1]) / bend
        return np.asarray(np.clip(way, -1.0, 1.0)[:, None] * normal)


def smooth(raster: NDArray[np.float32], observed: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Gaussian mean of the observed cells, float32 [nx + 2, ny + 2] with a border of one cell; 0 far from all of them.

    What lies outside of the grid is not observed.
    """
    nx, ny = raster.shape
    out = np.empty((nx + 2, ny + 2), np.float32)
    scratch = np.empty((2, nx + 1, ny + 2), np.float32)
    kernel.smooth(np.ascontiguousarray(raster), np.ascontiguousarray(observed).view(np.uint8), _TAPS, scratch, out)
    return out


def _largest_nearby(raster: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(raster, 1)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def _second_differences(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Along x, along y, and mixed, of all but the outermost rows and columns of [x, y, ...]."""
    doubled = 2 * values[1:-1, 1:-1]
    xx = values[2:, 1:-1] - doubled + values[:-2, 1:-1]
    yy = values[1:-1, 2:] - doubled + values[1:-1, :-2]
    xy = (values[2:, 2:] - values[2:, :-2] - values[:-2, 2:] + values[:-2, :-2]) / 4
    return xx, yy, xy


def _lowest_eigenvalue(xx: NDArray[Any], yy: NDArray[Any], xy: NDArray[Any]) -> NDArray[Any]:
    return np.asarray((xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2))
