"""Views of a synthetic world through any lens, with per-pixel labels.

The ground is sampled from its rasters, at the level whose pixels are as large as the view's; things are painted from
the farthest to the nearest, and the polygon in front of each pixel is kept for labels and visibility.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fusion.lens import Intrinsics
from ..fusion.pose import Pose
from ..fusion.rig import Camera
from .backdrop import Backdrop, Rays
from .bodies import KINDS, VEHICLE
from .exposure import Exposure
from .faces import Faces, faces_in_sight
from .outlines import project_outlines, visible_parts
from .painter import paint
from .scenery import Bodies, shadow_outlines
from .sight import Sight
from .world import World

Float32 = NDArray[np.float32]

CLASSES: Final = ("other", "drivable", "lane_marking", "road_edge", "obstacle", "crosswalk", "vehicle")
"""Names of the image labels, by number. An obstacle is any thing that is no vehicle."""

_CLASS_OF_KIND: Final = np.full(len(KINDS), CLASSES.index("obstacle"), np.uint8)
_CLASS_OF_KIND[VEHICLE] = CLASSES.index("vehicle")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One picture and what is in it.

    image : uint8 [h, w, 3] BGR
    sight : what stands before each pixel; None unless asked for
    classes : uint8 [h, w], numbers of :data:`CLASSES`; None unless labels were asked for
    depth : float32 [h, w], metres along the optical axis, inf for the sky, negative behind the plane of a camera that
        sees there; None unless labels were asked for
    things : int32 [h, w], number of the thing in front, 0 for ground and sky; None unless labels were asked for
    """

    image: NDArray[np.uint8]
    sight: Sight | None = None
    classes: NDArray[np.uint8] | None = None
    depth: Float32 | None = None
    things: NDArray[np.int32] | None = None


class Renderer:
    """Draws a world. Rays are kept per lens, so one renderer serves all cameras of a rig.

    Parameters
    ----------
    world : what to draw
    effects : what real cameras add, see :class:`Exposure`
    rays : rays by lens, of another renderer (its `rays`), to be shared with it; None to begin with none
    """

    def __init__(self, world: World, *, effects: bool = True, rays: dict[Intrinsics, Rays] | None = None) -> None:
        self.world = world
        self._backdrop = Backdrop(world.ground, world.light)
        self._exposure = Exposure(world.seed, world.light) if effects else None
        self.rays = rays if rays is not None else {}

    def render(
        self, camera: Camera, world_from_ego: Pose, timestamp_ns: int, labels: bool = False, sight: bool = False
    ) -> View:
        """Draw what a camera sees.

        Parameters
        ----------
        camera : lens and mounting
        world_from_ego : where the ego is when the picture is taken
        timestamp_ns : when the picture is taken; moving things stand where they are then
        labels : also give classes, depth, things and sight
        sight : also give the sight, which costs less than labels
        """
        lens = camera.intrinsics
        if lens not in self.rays:
            self.rays[lens] = Rays.of(lens)
        rays = self.rays[lens]
        pose = (world_from_ego @ camera.ego_from_camera).matrix
        image = np.empty((lens.height, lens.width, 3), np.uint8)
        directions, distance = self._backdrop.draw(image, rays, lens, pose)
        moving = self.world.moving_bodies(timestamp_ns)
        self._cast_shadows(image, lens, pose, moving)
        front = np.zeros((lens.height, lens.width), np.int32) if labels or sight else None
        faces = faces_in_sight(lens, pose, (self.world.standing, moving))
        paint(image, front, faces.outlines, self._hazed(faces), faces.detail)
        if rays.outside is not None:
            image[rays.outside] = 0
        if self._exposure is not None:
            image = self._exposure.apply(image, camera, timestamp_ns, *self.world.ego_motion(timestamp_ns))
        if front is None:
            return View(image)
        seen = Sight(front, faces, rays.pixels, distance)
        return self._label(image, seen, rays, directions, pose[:3, 3]) if labels else View(image, seen)

    def _hazed(self, faces: Faces) -> Float32:
        clear = np.exp(-faces.distances_m / self.world.light.haze_m)[:, None]
        return np.asarray(faces.bgr * clear + self.world.light.haze_bgr * (1 - clear), np.float32)

    def _cast_shadows(
        self, image: NDArray[np.uint8], lens: Intrinsics, pose: NDArray[np.float64], moving: Bodies
    ) -> None:
        """Dark ground beneath moving things; standing things have their shadows in the ground's raster."""
        distance = np.linalg.norm(moving.centres - pose[:2, 3], axis=1)
        near = np.flatnonzero(distance < 70)
        if not len(near):
            return
        tint = np.zeros(image.shape[:2], np.uint8)
        outlines: list[NDArray[Any]] = []
        if self.world.light.shadow > 0.2:
            outlines += shadow_outlines(moving, self.world.light, np.flatnonzero(distance < 45))
        darkness = [round(255 * self.world.light.shadow)] * len(outlines)
        corners = moving.footprints[near]
        middle = corners.mean(axis=1, keepdims=True)
        for scale, dark in ((1.12, 70), (1.0, 110), (0.88, 140)):
            outlines += list(middle + scale * (corners - middle))
            darkness += [dark] * len(near)
        self._tint(tint, outlines, darkness, lens, pose)
        rows = np.flatnonzero(tint.any(axis=1))
        if len(rows):
            part = np.s_[int(rows[0]) : int(rows[-1]) + 1]
            light = 255 - tint[part]
            image[part] = cv2.multiply(image[part], cv2.merge((light, light, light)), scale=1 / 255)

    def _tint(
        self,
        tint: NDArray[np.uint8],
        outlines: Sequence[NDArray[Any]],
        darkness: Sequence[int],
        lens: Intrinsics,
        pose: NDArray[np.float64],
    ) -> None:
        """Draw outlines [k, 2] on the ground into a mask, each with its darkness."""
        longest = max(len(outline) for outline in outlines)
        ground = np.zeros((len(outlines), longest, 3))
        for index, outline in enumerate(outlines):
            ground[index, : len(outline), :2] = outline
            ground[index, len(outline) :, :2] = outline[-1]
        parts, index_of = visible_parts(((ground - pose[:3, 3]) @ pose[:3, :3]).astype(np.float32), lens)
        points = np.round(project_outlines(parts, lens) * 16).astype(np.int32)
        for outline, index in zip(points, index_of, strict=True):
            cv2.fillPoly(tint, [outline], darkness[index], cv2.LINE_AA, 4)

    def _label(
        self, image: NDArray[np.uint8], sight: Sight, rays: Rays, directions: Float32, origin: NDArray[np.float64]
    ) -> View:
        classes = self._backdrop.classes(directions, sight.ground_m, origin.astype(np.float32))
        things, range_m = sight.everywhere()
        classes[things > 0] = _CLASS_OF_KIND[self.world.kinds[things[things > 0]]]
        with np.errstate(invalid="ignore"):
            depth = np.where(np.isfinite(range_m), range_m * rays.pixels[..., 2], np.float32(np.inf))
        if rays.outside is not None:
            classes[rays.outside], depth[rays.outside] = 0, np.inf
        return View(image, sight, classes, depth, things)
