"""What is carried over time: the ego's motion in the plane, and a map window that travels with it.

Stitched log-odds live in a window whose cells are fixed to the ground. The window moves by whole cells, so carrying it
costs no resampling however long the drive; it is sampled once, into the ego's grid, when it is read. (Warping the map
from ego frame to ego frame at every step instead blurs it a little each time, which thin classes do not survive.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .._ext import warp
from ..errors import InvalidArgument, expected
from .grid import BevGrid
from .pose import Pose

_MARGIN_CELLS: Final = 2
_ON_GRID: Final = np.uint8(1)
_SEEN: Final = np.uint8(2)


def planar_motion(before_from_now: Pose) -> Pose:
    """The part of an ego-motion that moves the ground plane within itself: x, y and yaw.

    What a car does in height, roll and pitch between two sets bends the road under it, not the map.
    """
    x, y, _ = before_from_now.translation_m
    return Pose.planar(float(x), float(y), before_from_now.yaw_rad)


def source_from_target_cells(
    source_origin: tuple[float, float], target_origin: tuple[float, float], resolution_m: float, motion: Pose
) -> NDArray[np.float64]:
    """Affine map of cell indices under a planar motion.

    Parameters
    ----------
    source_origin, target_origin : lower corner (x, y) of each grid in its own frame, metres
    resolution_m : cell size of both
    motion : `source_from_target`, planar

    Returns
    -------
    float64 [2, 3], maps homogeneous indices of target cells (centre of cell i at index i) to source cell indices
    """
    (cos, _, _, x), (sin, _, _, y) = motion.matrix[:2].tolist()
    return _affine_cells(cos, sin, x - source_origin[0], y - source_origin[1], target_origin, resolution_m)


def _affine_cells(
    cos: float, sin: float, x_m: float, y_m: float, target_origin: tuple[float, float], resolution_m: float
) -> NDArray[np.float64]:
    """`source_from_target_cells` of a turn and a shift, in plain numbers, which take a fifth of small arrays' time."""
    half = 0.5 * resolution_m
    i, j = target_origin[0] + half, target_origin[1] + half
    return np.array(
        (
            (cos, -sin, (cos * i - sin * j + x_m - half) / resolution_m),
            (sin, cos, (sin * i + cos * j + y_m - half) / resolution_m),
        )
    )


def carry_raster(
    raster: NDArray[np.float32], grid: BevGrid, before_from_now: Pose, out: NDArray[np.float32], num_threads: int = 1
) -> None:
    """Bring a raster of the ego frame before into the ego frame now (bilinear; what comes in over the edge is 0).

    Parameters
    ----------
    raster, out : float32 [C, nx, ny] on `grid`
    before_from_now : ego-motion; only its planar part is used
    """
    origin = (grid.x_min_m, grid.y_min_m)
    # what planar_motion takes, without making a pose and checking it
    (forward, _, _, x), (left, _, _, y) = before_from_now.matrix[:2].tolist()
    length = math.hypot(forward, left)
    matrix = _affine_cells(forward / length, left / length, x - origin[0], y - origin[1], origin, grid.resolution_m)
    warp.warp_planes(raster, matrix, out, num_threads=num_threads)


class RollingMap:
    """A square window of ground-fixed cells around an ego grid.

    Parameters
    ----------
    grid : the ego grid that the map must cover at any heading
    channels : values per cell

    Attributes
    ----------
    values : float32 [cells, channels], row i * side + j for window cell (i, j); written to by whoever stitches
    observed : uint8 [cells], 1 where something was stitched in since the last reset
    points : float64 [cells, 3], cell centres on the ground in the window frame (origin at the window's lower corner)
    """

    def __init__(self, grid: BevGrid, channels: int) -> None:
        if channels < 1:
            raise InvalidArgument(expected("channels", "at least 1", channels))
        self.grid = grid
        self.channels = channels
        resolution = grid.resolution_m
        self._middle = np.array([(grid.x_min_m + grid.x_max_m) / 2, (grid.y_min_m + grid.y_max_m) / 2])
        radius = math.hypot(grid.x_max_m - grid.x_min_m, grid.y_max_m - grid.y_min_m) / 2
        self.side = 2 * (math.ceil(radius / resolution) + _MARGIN_CELLS)
        self.values = np.zeros((self.side**2, channels), dtype=np.float32)
        self.observed = np.zeros(self.side**2, dtype=np.uint8)
        centres = (np.arange(self.side) + 0.5) * resolution
        x, y = np.meshgrid(centres, centres, indexing="ij")
        self.points = np.ascontiguousarray(np.stack((x, y, np.zeros_like(x)), axis=-1).reshape(-1, 3))
        self.reset()

    def reset(self) -> None:
        """Forget everything; the ground frame begins anew at the ego."""
        self.values[:] = 0
        self.observed[:] = 0
        self._ground_from_ego = Pose.identity()
        self._nearest: NDArray[np.int64] | None = None
        self._corner = self._wanted_corner()

    def move(self, before_from_now: Pose) -> None:
        """Follow the ego: `before_from_now` is `ego_before_from_ego_now`; only its planar part counts."""
        self._ground_from_ego = self._ground_from_ego @ planar_motion(before_from_now)
        self._nearest = None
        corner = self._wanted_corner()
        shift = corner - self._corner
        if shift.any():
            self._scroll(int(shift[0]), int(shift[1]))
            self._corner = corner

    @property
    def ego_from_window(self) -> Pose:
        """Maps the window frame (that of :attr:`points`) to the ego frame of the latest :meth:`move`."""
        x, y = self._corner * self.grid.resolution_m
        return self._ground_from_ego.inverse() @ Pose.planar(float(x), float(y), 0.0)

    def points_ego(self) -> NDArray[np.float64]:
        """Cell centres in the ego frame, float64 [cells, 2], metres."""
        pose = self.ego_from_window
        return self.points[:, :2] @ pose.rotation[:2, :2].T + pose.translation_m[:2]

    def read(self, num_threads: int = 1) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Sample the window into the ego grid.

        Returns
        -------
        values : float32 [channels, nx, ny], bilinear, new memory
        observed : bool [nx, ny], nearest cell
        """
        matrix = self._cells_matrix()
        planes = np.ascontiguousarray(self.values.T).reshape(self.channels, self.side, self.side)
        values = np.empty((self.channels, *self.grid.shape), dtype=np.float32)
        warp.warp_planes(planes, matrix, values, num_threads=num_threads)
        return values, self.observed[self.nearest_cells()].astype(np.bool_)

    def nearest_cells(self) -> NDArray[np.int64]:
        """For each cell of the ego grid the window row whose centre is nearest, int64 [nx, ny]."""
        if self._nearest is None:
            matrix = self.nearest_matrix()
            nx, ny = self.grid.shape
            i, j = np.arange(nx)[:, np.newaxis], np.arange(ny)
            u = np.floor(matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2]).astype(np.int64)
            v = np.floor(matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2]).astype(np.int64)
            self._nearest = u * self.side + v
        return self._nearest

    def nearest_matrix(self) -> NDArray[np.float64]:
        """Affine map [2, 3] of cell indices of the ego grid to those of the window, to be rounded down."""
        matrix = self._cells_matrix()
        matrix[:, 2] += 0.5
        return matrix

    def _cells_matrix(self) -> NDArray[np.float64]:
        origin = (self.grid.x_min_m, self.grid.y_min_m)
        window_from_ego = self.ego_from_window.inverse()
        return source_from_target_cells((0.0, 0.0), origin, self.grid.resolution_m, window_from_ego)

    def _wanted_corner(self) -> NDArray[np.int64]:
        middle = self._ground_from_ego.rotation[:2, :2] @ self._middle + self._ground_from_ego.translation_m[:2]
        corner: NDArray[np.int64] = np.round(middle / self.grid.resolution_m).astype(np.int64) - self.side // 2
        return corner

    def _scroll(self, di: int, dj: int) -> None:
        side = self.side
        keep_i, from_i = _overlap(di, side)
        keep_j, from_j = _overlap(dj, side)
        for array in (self.values, self.observed):
            old = array.reshape(side, side, -1)
            new = np.zeros_like(old)
            new[keep_i, keep_j] = old[from_i, from_j]
            old[:] = new


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One look at the ground.

    now, before : bool [nx, ny], cells of the ego grid that are seen now, that were seen before
    window : uint8 [cells] of the window that travels with the ego: 0 off the grid, 1 on it, 2 seen now
    """

    now: NDArray[np.bool_]
    before: NDArray[np.bool_]
    window: NDArray[np.uint8]


class ObservedGround:
    """Which ground was seen since the last reset and has not left the grid since, in cells fixed to the ground.

    What a recurrent network may remember: its state lies on the grid, so what leaves the grid is forgotten. The mask is
    never resampled over time, so it keeps to the ground at any speed.

    Parameters
    ----------
    grid : the ego grid
    """

    def __init__(self, grid: BevGrid) -> None:
        self._map = RollingMap(grid, 1)

    def reset(self) -> None:
        """Forget everything."""
        self._map.reset()

    def move(self, before_from_now: Pose) -> None:
        """Follow the ego: `before_from_now` is `ego_before_from_ego_now`."""
        self._map.move(before_from_now)

    def look(self, seen: NDArray[np.bool_]) -> Look:
        """Work out what it means that these cells are seen now, bool [nx, ny]; changes nothing, see :meth:`take`."""
        window, grid, side = self._map, self._map.grid, self._map.side
        before = np.empty(grid.shape, np.uint8)
        warp.warp_mask(window.observed.reshape(side, side), window.nearest_matrix(), before, half=0.0)
        origin = (grid.x_min_m, grid.y_min_m)
        matrix = source_from_target_cells(origin, (0.0, 0.0), grid.resolution_m, window.ego_from_window)
        now = np.empty((side, side), np.uint8)
        warp.warp_mask(seen.astype(np.uint8) + _ON_GRID, matrix, now)
        return Look(seen, before != 0, now.ravel())

    def take(self, look: Look, *, seen: bool = True) -> NDArray[np.bool_]:
        """Take the latest look, or only forget what has left the grid; returns the cells that are or were seen.

        Parameters
        ----------
        look : the latest one, made after the latest :meth:`move`
        seen : False: it came to nothing after all, no cell is seen now

        Returns
        -------
        bool [nx, ny], in new memory.
        """
        window = self._map
        window.observed *= look.window != 0
        if not seen:
            return look.before.copy()
        window.observed |= look.window == _SEEN
        observed: NDArray[np.bool_] = look.before | look.now
        return observed


def _overlap(shift: int, side: int) -> tuple[slice, slice]:
    """Target and source ranges of one axis when the window moves by `shift` cells."""
    if shift >= 0:
        return slice(0, max(side - shift, 0)), slice(min(shift, side), side)
    return slice(min(-shift, side), side), slice(0, max(side + shift, 0))
