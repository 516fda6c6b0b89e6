"""What stands before each pixel of a view, and which cells of a grid a camera sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..fusion.pose import Pose
from ..fusion.rig import Camera
from .faces import Faces

Float32 = NDArray[np.float32]

SURFACE_M: Final = 2.5
"""Cells of a long thing count as visible up to this far behind the surface that is seen."""


class Lookout(Protocol):
    """Whatever can say what is before a pixel."""

    def look(self, column: NDArray[np.int64], row: NDArray[np.int64]) -> tuple[NDArray[np.int32], Float32]:
        """What is before pixels [n]: the number of the thing, 0 for ground and sky, and its distance along the ray."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What stands before each pixel of a view.

    front : int32 [h, w], number of the face in front, from 1; 0 for ground and sky
    faces : of the view
    rays : float32 [h, w, 3], unit rays of the pixels, camera frame
    ground_m : float32 [h, w], distance of the ground along the ray, inf for the sky
    """

    front: NDArray[np.int32]
    faces: Faces
    rays: Float32
    ground_m: Float32

    def look(self, column: NDArray[np.int64], row: NDArray[np.int64]) -> tuple[NDArray[np.int32], Float32]:
        """What is before pixels [n]: the number of the thing, 0 for ground and sky, and its distance along the ray."""
        front = self.front[row, column]
        things, range_m = np.zeros(front.shape, np.int32), self.ground_m[row, column]
        hit = front > 0
        things[hit], range_m[hit] = self._met(front[hit] - 1, self.rays[row[hit], column[hit]])
        return things, range_m

    def everywhere(self) -> tuple[NDArray[np.int32], Float32]:
        """The same of every pixel, [h, w]."""
        things, range_m = np.zeros(self.front.shape, np.int32), self.ground_m.copy()
        hit = self.front > 0
        things[hit], range_m[hit] = self._met(self.front[hit] - 1, self.rays[hit])
        return things, range_m

    def _met(self, face: NDArray[Any], rays: Float32) -> tuple[NDArray[np.int32], Float32]:
        """Things of faces [n], and where rays [n, 3] meet them."""
        faces = self.faces
        with np.errstate(divide="ignore", invalid="ignore"):
            along = faces.offsets[face] / np.einsum("ij,ij->i", rays, faces.normals[face])
        # border pixels may miss their polygon: no point of it is nearer than its plane or farther than its corners
        nearest, farthest = np.abs(faces.offsets[face]), faces.farthest_m[face]
        return faces.things[face], np.clip(np.where(np.isfinite(along), along, farthest), nearest, farthest)


def visible_from(
    camera: Camera, world_from_ego: Pose, sight: Lookout, points: NDArray[np.float64], things: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Which cells a camera sees: the ground in them, or the thing that stands in them.

    Parameters
    ----------
    sight : of the camera from there
    points : float64 [..., 3], cell centres, world frame: on the ground, or at a height where the thing surely is
    things : int32 [...], number of the thing in each cell, 0 for none
    """
    camera_from_world = (world_from_ego @ camera.ego_from_camera).inverse()
    in_camera = camera_from_world.apply(points)
    pixels, valid = camera.intrinsics.project(in_camera)
    visible = np.zeros(things.shape, np.bool_)
    column, row = np.floor(pixels[valid] + 0.5).astype(np.int64).T
    seen, range_m = sight.look(column, row)
    behind_m = np.linalg.norm(in_camera[valid], axis=1) - range_m
    visible[valid] = (seen == things[valid]) & ((seen == 0) | (behind_m < SURFACE_M))
    return visible
