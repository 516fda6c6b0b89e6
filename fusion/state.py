"""What is carried over time: the ego's motion in the plane, and a map window that travels with it.

Stitched log-odds live in a window whose cells are fixed to the ground. The window moves by whole cells, so carrying it
costs no resampling however long the drive; it is sampled once, into the ego's grid, when it is read. (Warping the map
from ego frame to ego frame at every step instead blurs it a little each time, which thin classes do not survive.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

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


def _planar_numbers(motion: Pose) -> tuple[float, float, float, float]:
    """Cosine, sine, x and y of :func:`planar_motion`, without making a pose and checking it."""
    (forward, _, _, x), (left, _, _, y) = motion.matrix[:2].tolist()
    length = math.hypot(forward, left)
    if length == 0:  # straight up: there is no heading
        return 1.0, 0.0, x, y
    return forward / length, left / length, x, y


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
    cos, sin, x, y = _planar_numbers(before_from_now)
    matrix = _affine_cells(cos, sin, x - origin[0], y - origin[1], origin, grid.resolution_m)
    warp.warp_planes(raster, matrix, out, num_threads=num_threads)


class GroundWindow:
    """Where a square of cells lies that are fixed to the ground, around an ego grid, and moves along by whole cells.

    All in plain numbers: a step asks for it several times, and a pose is made and checked in the time of all of them.

    Parameters
    ----------
    grid : the ego grid that the window must cover at any heading

    Attributes
    ----------
    side : cells along each axis
    """

    def __init__(self, grid: BevGrid) -> None:
        self.grid = grid
        self._middle = (grid.x_min_m + grid.x_max_m) / 2, (grid.y_min_m + grid.y_max_m) / 2
        radius = math.hypot(grid.x_max_m - grid.x_min_m, grid.y_max_m - grid.y_min_m) / 2
        self.side = 2 * (math.ceil(radius / grid.resolution_m) + _MARGIN_CELLS)
        self.reset()

    def reset(self) -> None:
        """Begin anew: the ground frame is that of the ego."""
        self._cos, self._sin, self._x, self._y = 1.0, 0.0, 0.0, 0.0  # ground_from_ego
        self._corner = self._wanted_corner()

    def move(self, before_from_now: Pose) -> tuple[int, int]:
        """Follow the ego; returns by how many cells the window moved along each axis, see :func:`_scrolled`."""
        cos, sin, x, y = _planar_numbers(before_from_now)
        before_cos, before_sin = self._cos, self._sin
        self._x += before_cos * x - before_sin * y
        self._y += before_sin * x + before_cos * y
        turned_cos, turned_sin = before_cos * cos - before_sin * sin, before_sin * cos + before_cos * sin
        length = math.hypot(turned_cos, turned_sin)
        self._cos, self._sin = turned_cos / length, turned_sin / length
        before, self._corner = self._corner, self._wanted_corner()
        return self._corner[0] - before[0], self._corner[1] - before[1]

    @property
    def ego_from_window(self) -> Pose:
        """Maps the window frame (origin at the window's lower corner) to the ego frame of the latest :meth:`move`."""
        cos, sin, x, y = self._ego_from_window()
        return Pose(np.array([[cos, -sin, 0, x], [sin, cos, 0, y], [0, 0, 1, 0], [0, 0, 0, 1]]))

    def window_cells(self) -> NDArray[np.float64]:
        """Affine map [2, 3] of cell indices of the ego grid to those of the window."""
        x, y = self._window_from_ego_m()
        origin = (self.grid.x_min_m, self.grid.y_min_m)
        return _affine_cells(self._cos, self._sin, x, y, origin, self.grid.resolution_m)

    def ego_cells(self) -> NDArray[np.float64]:
        """Affine map [2, 3] of cell indices of the window to those of the ego grid."""
        cos, sin, x, y = self._ego_from_window()
        grid = self.grid
        return _affine_cells(cos, sin, x - grid.x_min_m, y - grid.y_min_m, (0.0, 0.0), grid.resolution_m)

    def _window_from_ego_m(self) -> tuple[float, float]:
        resolution = self.grid.resolution_m
        return self._x - self._corner[0] * resolution, self._y - self._corner[1] * resolution

    def _ego_from_window(self) -> tuple[float, float, float, float]:
        x, y = self._window_from_ego_m()
        cos, sin = self._cos, self._sin
        return cos, -sin, -(cos * x + sin * y), sin * x - cos * y

    def _wanted_corner(self) -> tuple[int, int]:
        resolution, half = self.grid.resolution_m, self.side // 2
        x, y = self._middle
        i = round((self._cos * x - self._sin * y + self._x) / resolution)
        j = round((self._sin * x + self._cos * y + self._y) / resolution)
        return i - half, j - half


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
        self._window = GroundWindow(grid)
        self.side = self._window.side
        self.values = np.zeros((self.side**2, channels), dtype=np.float32)
        self.observed = np.zeros(self.side**2, dtype=np.uint8)
        centres = (np.arange(self.side) + 0.5) * grid.resolution_m
        x, y = np.meshgrid(centres, centres, indexing="ij")
        self.points = np.ascontiguousarray(np.stack((x, y, np.zeros_like(x)), axis=-1).reshape(-1, 3))
        self.reset()

    def reset(self) -> None:
        """Forget everything; the ground frame begins anew at the ego."""
        self.values[:] = 0
        self.observed[:] = 0
        self._nearest: NDArray[np.int64] | None = None
        self._window.reset()

    def move(self, before_from_now: Pose) -> None:
        """Follow the ego: `before_from_now` is `ego_before_from_ego_now`; only its planar part counts."""
        self._nearest = None
        shift = self._window.move(before_from_now)
        if any(shift):
            for array in (self.values, self.observed):
                cells = array.reshape(self.side, self.side, -1)
                cells[:] = _scrolled(cells, shift)

    @property
    def ego_from_window(self) -> Pose:
        """Maps the window frame (that of :attr:`points`) to the ego frame of the latest :meth:`move`."""
        return self._window.ego_from_window

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
        matrix = self._window.window_cells()
        planes = np.ascontiguousarray(self.values.T).reshape(self.channels, self.side, self.side)
        values = np.empty((self.channels, *self.grid.shape), dtype=np.float32)
        warp.warp_planes(planes, matrix, values, num_threads=num_threads)
        return values, self.observed[self.nearest_cells()].astype(np.bool_)

    def nearest_cells(self) -> NDArray[np.int64]:
        """For each cell of the ego grid the window row whose centre is nearest, int64 [nx, ny]."""
        if self._nearest is None:
            matrix = self._window.window_cells()
            matrix[:, 2] += 0.5  # rounding down is rounding to the nearest then
            nx, ny = self.grid.shape
            i, j = np.arange(nx)[:, np.newaxis], np.arange(ny)
            u = np.floor(matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2]).astype(np.int64)
            v = np.floor(matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2]).astype(np.int64)
            self._nearest = u * self.side + v
        return self._nearest


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One look at the ground: what it comes to, and what it does if it came to nothing after all.

    observed, before : bool [nx, ny], cells of the ego grid that are or were seen, that were seen before
    seen, kept : uint8 [side, side], the same of the window that travels with the ego, without what has left the grid
    """

    observed: NDArray[np.bool_]
    before: NDArray[np.bool_]
    seen: NDArray[np.uint8]
    kept: NDArray[np.uint8]


class ObservedGround:
    """Which ground was seen since the last reset and has not left the grid since, in cells fixed to the ground.

    What a recurrent network may remember: its state lies on the grid, so what leaves the grid is forgotten. The mask is
    never resampled over time, so it keeps to the ground at any speed.

    Parameters
    ----------
    grid : the ego grid
    """

    def __init__(self, grid: BevGrid) -> None:
        self._window = GroundWindow(grid)
        self._seen = np.zeros((self._window.side, self._window.side), np.uint8)

    def reset(self) -> None:
        """Forget everything."""
        self._window.reset()
        self._seen[:] = 0

    def move(self, before_from_now: Pose) -> None:
        """Follow the ego: `before_from_now` is `ego_before_from_ego_now`."""
        shift = self._window.move(before_from_now)
        if any(shift):
            self._seen = _scrolled(self._seen, shift)

    def look(self, seen: NDArray[np.bool_]) -> Look:
        """Work out what it means that these cells are seen now, bool [nx, ny]; changes nothing, see :meth:`take`."""
        before, now = np.empty(seen.shape, np.uint8), np.empty_like(self._seen)
        warp.warp_mask(self._seen, self._window.window_cells(), before)
        warp.warp_mask(seen.view(np.uint8) + _ON_GRID, self._window.ego_cells(), now)
        kept = self._seen * (now != 0)
        seen_before = before != 0
        return Look(seen_before | seen, seen_before, kept | (now == _SEEN), kept)

    def take(self, look: Look, *, seen: bool = True) -> NDArray[np.bool_]:
        """Take the latest look, or only forget what has left the grid; returns the cells that are or were seen.

        Parameters
        ----------
        look : the latest one, made after the latest :meth:`move`
        seen : False: it came to nothing after all, no cell is seen now

        Returns
        -------
        bool [nx, ny], the look's own.
        """
        self._seen = look.seen if seen else look.kept
        return look.observed if seen else look.before


def _scrolled(cells: NDArray[Any], shift: tuple[int, int]) -> NDArray[Any]:
    """What cells [side, side, ...] hold when the window has moved by so many cells; 0 in new ones. New memory."""
    (to_i, from_i), (to_j, from_j) = (_overlap(moved, len(cells)) for moved in shift)
    scrolled = np.zeros_like(cells)
    scrolled[to_i, to_j] = cells[from_i, from_j]
    return scrolled


def _overlap(shift: int, side: int) -> tuple[slice, slice]:
    """Target and source ranges of one axis when the window moves by `shift` cells."""
    if shift >= 0:
        return slice(0, max(side - shift, 0)), slice(min(shift, side), side)
    return slice(min(-shift, side), side), slice(0, max(side + shift, 0))
