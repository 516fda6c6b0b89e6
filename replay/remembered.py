"""Which cells a memory could know: hidden now, and visible in an earlier set of the drive."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._ext import warp
from ..fusion.grid import BevGrid
from ..fusion.pose import Pose
from ..fusion.state import GroundWindow


class VisibleBefore:
    """Follows which ground was visible in earlier sets of a drive, in cells that are fixed to the ground.

    They reach a little farther than the grid at any heading; ground that the ego left behind is forgotten. Nothing
    is known before the first set, nor after a set without an ego pose.
    """

    def __init__(self, grid: BevGrid) -> None:
        self._window = GroundWindow(grid)
        self._seen = np.zeros((self._window.side, self._window.side), np.uint8)
        self._world_from_ego: Pose | None = None

    def follow(self, world_from_ego: Pose | None, visible: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Take the next set.

        Parameters
        ----------
        world_from_ego : the true pose of the set, None where it is not known
        visible : bool [nx, ny], cells that a camera sees in this set

        Returns
        -------
        bool [nx, ny], cells that are hidden in this set and were visible in an earlier one
        """
        if world_from_ego is None or self._world_from_ego is None:
            self._window.reset()
            self._seen[:] = 0
        else:
            i, j = self._window.move(self._world_from_ego.inverse() @ world_from_ego)
            self._seen = _nearest(self._seen, np.array([[1.0, 0.0, i], [0.0, 1.0, j]]), self._seen.shape)
        self._world_from_ego = world_from_ego
        before = _nearest(self._seen, self._window.window_cells(), visible.shape)
        self._seen |= _nearest(visible.view(np.uint8), self._window.ego_cells(), self._seen.shape)
        remembered: NDArray[np.bool_] = (before != 0) & ~visible
        return remembered


def _nearest(
    mask: NDArray[np.uint8], source_from_target: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """The nearest cell of a mask for each cell of the target, 0 beyond its edge."""
    out = np.empty(shape, np.uint8)
    warp.warp_mask(np.ascontiguousarray(mask), source_from_target, out)
    return out
