"""Views of a synthetic world through any lens, with per-pixel labels.

The ground is sampled from its rasters, at the level whose pixels are as large as the view's; things are painted from the
farthest to the nearest, in an order found from lines that separate their footprints (so that a long house beside a car
is no trouble), with the polygon in front of each pixel kept for labels and visibility.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fusion.lens import Intrinsics, LensModel
from ..fusion.pose import Pose
from ..fusion.rig import Camera
from .daylight import PANORAMA_SHAPE, SINE_RANGE
from .ground import HALF_EXTENT_M, LEVELS, LOOK_M, TRUTH_M
from .painter import painting_order, project_outlines
from .scenery import Bodies
from .world import World

Float32 = NDArray[np.float32]

CLASSES: Final = ("other", "drivable", "lane_marking", "road_edge", "obstacle")
"""Names of the image labels, by number."""

_FAR_M: Final = 9.0
"""Ground beyond this is sampled :data:`_TAPS` times per pixel row: pixels cover much more along than across the view."""

_TAPS: Final = 3
_REACH_M: Final = 190.0


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One picture and what is in it.

    image : uint8 [h, w, 3] BGR
    classes : uint8 [h, w], numbers of :data:`CLASSES`; None unless labels were asked for
    depth : float32 [h, w], metres along the optical axis, inf for the sky; None unless labels were asked for
    things : int32 [h, w], number of the thing in front, 0 for ground and sky; None unless labels were asked for
    """

    image: NDArray[np.uint8]
    classes: NDArray[np.uint8] | None = None
    depth: Float32 | None = None
    things: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Rays:
    """Unit rays of a lens in the camera frame, float32 [..., 3]: one per pixel, and several per row for far ground."""

    pixels: Float32
    taps: Float32
    outside: NDArray[np.bool_] | None
    """Pixels that no direction maps to."""


class Renderer:
    """Draws a world. Rays are kept per lens, so one renderer serves all cameras of a rig.

    Parameters
    ----------
    world : what to draw
    effects : noise, exposure and vignetting of real cameras
    """

    def __init__(self, world: World, *, effects: bool = True) -> None:
        self.world = world
        self.effects = effects
        self._rays: dict[Intrinsics, _Rays] = {}
        self._vignettes: dict[tuple[str, Intrinsics], NDArray[np.uint8]] = {}
        self._noise: NDArray[np.uint8] | None = None

    def render(self, camera: Camera, world_from_ego: Pose, timestamp_ns: int, labels: bool = False) -> View:
        """Draw what a camera sees.

        Parameters
        ----------
        camera : lens and mounting
        world_from_ego : where the ego is when the picture is taken
        timestamp_ns : when the picture is taken; moving things stand where they are then
        labels : also give classes, depth and things
        """
        lens = camera.intrinsics
        rays = self._rays_of(lens)
        world_from_camera = (world_from_ego @ camera.ego_from_camera).matrix
        placed = self.world.bodies_at(timestamp_ns)
        image = np.empty((lens.height, lens.width, 3), np.uint8)
        background = self._background(image, rays, world_from_camera, labels)
        self._cast_shadows(image, lens, world_from_camera, placed[1])
        front = np.zeros((lens.height, lens.width), np.int32) if labels else None
        faces = [self._paint_bodies(image, front, lens, world_from_camera, placed)]
        if rays.outside is not None:
            image[rays.outside] = 0
        if self.effects:
            image = self._expose(image, camera, timestamp_ns)
        if front is None or background is None:
            return View(image)
        return self._label(image, front, faces[0], rays, world_from_camera, background)
