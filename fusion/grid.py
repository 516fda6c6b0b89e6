"""The bird's-eye-view grid: the only place where metres become cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidArgument, expected

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True, slots=True)
class BevGrid:
    """A rectangle of square cells on the ground, in the ego frame (x forward, y left, metres).

    Arrays over the grid are indexed `[x, y]`: the first index runs forward from `x_min_m`, the second to the left from
    `y_min_m`. The centre of cell (i, j) is `(x_min_m + (i + 0.5) * resolution_m, y_min_m + (j + 0.5) * resolution_m)`.
    """

    x_min_m: float
    x_max_m: float
    y_min_m: float
    y_max_m: float
    resolution_m: float

    def __post_init__(self) -> None:
        values = (self.x_min_m, self.x_max_m, self.y_min_m, self.y_max_m, self.resolution_m)
        if not all(np.isfinite(values)) or self.resolution_m <= 0:
            raise InvalidArgument(expected("grid", "finite with a positive resolution", values))
        for axis, low, high in (("x", self.x_min_m, self.x_max_m), ("y", self.y_min_m, self.y_max_m)):
            cells = (high - low) / self.resolution_m
            if cells < 0.5 or abs(cells - round(cells)) > 1e-6:
                raise InvalidArgument(
                    expected(f"grid extent in {axis}", "a whole number of cells, at least one", f"{cells:g} cells")
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Cells in x and in y."""
        return (
            round((self.x_max_m - self.x_min_m) / self.resolution_m),
            round((self.y_max_m - self.y_min_m) / self.resolution_m),
        )

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.shape[0] * self.shape[1]

    @property
    def reach_m(self) -> float:
        """Distance from the ego origin to the farthest corner, metres."""
        return float(np.hypot(max(abs(self.x_min_m), abs(self.x_max_m)), max(abs(self.y_min_m), abs(self.y_max_m))))

    def centres(self) -> NDArray[np.float64]:
        """Cell centres, float64 [nx, ny, 2], metres in the ego frame."""
        nx, ny = self.shape
        x = self.x_min_m + (np.arange(nx) + 0.5) * self.resolution_m
        y = self.y_min_m + (np.arange(ny) + 0.5) * self.resolution_m
        return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)

    def cell_of(self, points_xy: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Cells that hold the points.

        Parameters
        ----------
        points_xy : float64 [..., 2], metres in the ego frame

        Returns
        -------
        cells : int64 [..., 2], indices (i, j); out of range for points off the grid
        inside : bool [...], whether the point lies on the grid (lower edge included, upper edge excluded)
        """
        points = np.asarray(points_xy, dtype=np.float64)
        position = np.floor((points - (self.x_min_m, self.y_min_m)) / self.resolution_m)
        inside: NDArray[np.bool_] = np.asarray(((position >= 0) & (position < self.shape)).all(axis=-1))
        # NaN and far away become -1 and a number past the end: neither can be cast as it is
        cells = np.clip(np.nan_to_num(position, nan=-1.0), -1.0, float(max(self.shape))).astype(np.int64)
        return cells, inside

    def check(self, what: str, array: NDArray[Any], dtype: DTypeLike, *channels: int) -> None:
        """Refuse an array that is not of this type and of shape [*channels, nx, ny].

        Raises
        ------
        InvalidArgument
        """
        shape = (*channels, *self.shape)
        if array.dtype != dtype or array.shape != shape:
            raise InvalidArgument(expected(what, f"{np.dtype(dtype).name} {shape}", f"{array.dtype} {array.shape}"))

    def scaled(self, factor: int) -> BevGrid:
        """Return the same rectangle with cells `factor` times as large (2: half resolution)."""
        return BevGrid(self.x_min_m, self.x_max_m, self.y_min_m, self.y_max_m, self.resolution_m * factor)
