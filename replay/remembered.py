"""Which cells a memory could know: hidden now, and visible in an earlier set of the drive."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..fusion.grid import BevGrid
from ..fusion.pose import Pose
from ..fusion.state import RollingMap


class VisibleBefore:
    """Follows which ground was visible in earlier sets of a drive, in a map that is fixed to the ground.

    The map reaches a little farther than the grid at any heading; ground that the ego left behind is forgotten. Nothing
    is known before the first set, nor after a set without an ego pose.
    """

    def __init__(self, grid: BevGrid) -> None:
        self._map = RollingMap(grid, 1)
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
            self._map.reset()
        else:
            self._map.move(self._world_from_ego.inverse() @ world_from_ego)
        self._world_from_ego = world_from_ego
        before = self._map.observed[self._map.nearest_cells()] != 0
        cells, inside = self._map.grid.cell_of(self._map.points_ego())
        i, j = cells[inside].T
        self._map.observed[inside] |= visible[i, j]
        remembered: NDArray[np.bool_] = before & ~visible
        return remembered
