"""Views of a synthetic world through any lens, with per-pixel labels.

The ground is sampled from its rasters, at the level whose pixels are as large as the view's; things are painted from
the farthest to the nearest, and the polygon in front of each pixel is kept for labels and visibility.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fusion.lens import Intrinsics
from ..fusion.pose import Pose
from ..fusion.rig import Camera
from .backdrop import Backdrop, Rays
from .bodies import CORNERS
from .painter import clip_all, paint, painting_order, project_outlines, unobstructed
from .scenery import Bodies
from .world import World

Float32 = NDArray[np.float32]

CLASSES: Final = ("other", "drivable", "lane_marking", "road_edge", "obstacle", "crosswalk")
"""Names of the image labels, by number."""

OBSTACLE: Final = CLASSES.index("obstacle")

_REACH_M: Final = 190.0
_SMALLEST_PX: Final = 1.3


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
class _Faces:
    """Polygons in a view, in painting order; the plane of each is `normals @ x = offsets` in the camera frame."""

    outlines: Float32
    bgr: Float32
    detail: NDArray[np.bool_]
    normals: Float32
    offsets: Float32
    farthest_m: Float32
    things: NDArray[np.int32]


class Renderer:
    """Draws a world. Rays are kept per lens, so one renderer serves all cameras of a rig.

    Parameters
    ----------
    world : what to draw
    effects : noise, exposure and vignetting of real cameras
    rays : rays by lens, of another renderer (its `rays`), to be shared with it; None to begin with none
    """

    def __init__(self, world: World, *, effects: bool = True, rays: dict[Intrinsics, Rays] | None = None) -> None:
        self.world = world
        self._backdrop = Backdrop(world.ground, world.light)
        self._exposure = Exposure(world.seed) if effects else None
        self.rays = rays if rays is not None else {}

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
        if lens not in self.rays:
            self.rays[lens] = Rays.of(lens)
        rays = self.rays[lens]
        pose = (world_from_ego @ camera.ego_from_camera).matrix
        image = np.empty((lens.height, lens.width, 3), np.uint8)
        directions, distance = self._backdrop.draw(image, rays, lens, pose)
        moving = self.world.moving_bodies(timestamp_ns)
        self._cast_shadows(image, lens, pose, moving)
        front = np.zeros((lens.height, lens.width), np.int32) if labels else None
        faces = self._faces(lens, pose, (self.world.standing, moving))
        paint(image, front, faces.outlines, faces.bgr, faces.detail)
        if rays.outside is not None:
            image[rays.outside] = 0
        if self._exposure is not None:
            image = self._exposure.apply(image, camera, timestamp_ns)
        return (
            View(image) if front is None else self._label(image, front, faces, rays, directions, distance, pose[:3, 3])
        )

    def _faces(self, lens: Intrinsics, pose: NDArray[np.float64], groups: tuple[Bodies, ...]) -> _Faces:
        """Polygons of all bodies in sight, projected, in painting order."""
        origin, rotation = pose[:3, 3].astype(np.float32), pose[:3, :3].astype(np.float32)
        polygons, normals, bgr, detail, extents, things, ranks = _gather(lens, pose, groups)
        relative = polygons[:, 0] - origin
        facing = np.einsum("ij,ij->i", relative, normals) < 0
        small = extents * lens.fx < np.where(detail, 3.0, 0.6) * np.hypot(relative[:, 0], relative[:, 1])
        keep = np.flatnonzero(facing & ~small)
        keep = keep[np.argsort(ranks[keep], kind="stable")]
        in_camera = (polygons[keep] - origin) @ rotation
        clipped, kept = clip_all(in_camera, CORNERS + 1)
        keep, clipped, in_camera = keep[kept], clipped[kept], in_camera[kept]
        outlines = project_outlines(clipped, lens)
        by_corner = np.ascontiguousarray(outlines.transpose(1, 2, 0))  # reductions over the first axis are fast
        (left, top), (right, bottom) = by_corner.min(axis=0), by_corner.max(axis=0)
        inside = (right > -1) & (bottom > -1) & (left < lens.width) & (top < lens.height)
        inside &= np.maximum(right - left, bottom - top) > np.where(detail[keep], 1.2, 0.4)
        keep, clipped, in_camera = keep[inside], clipped[inside], in_camera[inside]
        span = np.sqrt(np.ascontiguousarray((clipped * clipped).sum(axis=2).T))
        camera_normals = normals[keep] @ rotation
        return _Faces(
            outlines[inside],
            self._hazed(bgr[keep], span.mean(axis=0)),
            detail[keep],
            camera_normals,
            np.einsum("ij,ij->i", in_camera[:, 0], camera_normals),
            span.max(axis=0),
            things[keep],
        )

    def _hazed(self, bgr: Float32, distance: Float32) -> Float32:
        clear = np.exp(-distance / self.world.light.haze_m)[:, None]
        return np.asarray(bgr * clear + self.world.light.haze_bgr * (1 - clear), np.float32)

    def _cast_shadows(
        self, image: NDArray[np.uint8], lens: Intrinsics, pose: NDArray[np.float64], moving: Bodies
    ) -> None:
        """Dark ground beneath moving things; standing things have their shadows in the ground's raster."""
        near = np.flatnonzero(np.linalg.norm(moving.centres - pose[:2, 3], axis=1) < 70)
        if not len(near):
            return
        corners = moving.footprints[near]
        middle = corners.mean(axis=1, keepdims=True)
        tint = np.zeros(image.shape[:2], np.uint8)
        for grow, dark in ((0.3, 70), (0.0, 110), (-0.25, 140)):
            wide = corners + grow * np.sign(corners - middle)
            on_ground = np.concatenate((wide, np.zeros((*wide.shape[:2], 1), np.float32)), axis=2)
            relative = ((on_ground - pose[:3, 3]) @ pose[:3, :3]).astype(np.float32)
            clipped, kept = clip_all(relative, CORNERS + 1)
            outlines = np.round(project_outlines(clipped[kept], lens) * 16).astype(np.int32)
            for outline in outlines:
                cv2.fillPoly(tint, [outline], dark, cv2.LINE_AA, 4)
        rows = np.flatnonzero(tint.any(axis=1))
        if len(rows):
            part = np.s_[int(rows[0]) : int(rows[-1]) + 1]
            light = 255 - tint[part]
            image[part] = cv2.multiply(image[part], cv2.merge((light, light, light)), scale=1 / 255)

    def _label(
        self,
        image: NDArray[np.uint8],
        front: NDArray[np.int32],
        faces: _Faces,
        rays: Rays,
        directions: Float32,
        distance: Float32,
        origin: NDArray[np.float64],
    ) -> View:
        classes = self._backdrop.classes(directions, distance, origin.astype(np.float32))
        depth = distance * rays.pixels[..., 2]
        things = np.zeros(front.shape, np.int32)
        mask = front > 0
        face = front[mask] - 1
        ray = rays.pixels[mask]
        with np.errstate(divide="ignore", invalid="ignore"):
            along = faces.offsets[face] / np.einsum("ij,ij->i", ray, faces.normals[face])
        # border pixels may miss their polygon: no point of it is nearer than its plane or farther than its corners
        nearest, farthest = np.abs(faces.offsets[face]), faces.farthest_m[face]
        along = np.clip(np.where(np.isfinite(along), along, farthest), nearest, farthest)
        depth[mask] = along * ray[:, 2]
        things[mask] = faces.things[face]
        classes[mask] = OBSTACLE
        if rays.outside is not None:
            classes[rays.outside], depth[rays.outside] = 0, np.inf
        return View(image, classes, depth, things)


def _in_sight(bodies: Bodies, lens: Intrinsics, pose: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bodies that may be in the image, are large enough to be seen there and not behind a house."""
    apart = bodies.centres - pose[:2, 3].astype(np.float32)
    distance = np.linalg.norm(apart, axis=1)
    axis = pose[:2, 2].astype(np.float32)
    bearing = np.arctan2(axis[0] * apart[:, 1] - axis[1] * apart[:, 0], apart @ axis)
    half_fov = np.radians(_half_fov_deg(lens)) + 0.03
    margin = np.arcsin(np.minimum(bodies.radii / np.maximum(distance, 1e-3), 1.0))
    seen = (np.abs(bearing) < half_fov + margin) | (distance < bodies.radii + 0.5)
    seen &= (distance < _REACH_M) & (np.maximum(bodies.radii, 0.6) * lens.fx > _SMALLEST_PX * distance)
    index = np.flatnonzero(seen)
    corners = bodies.footprints[index] - pose[:2, 3].astype(np.float32)
    turned = np.arctan2(axis[0] * corners[..., 1] - axis[1] * corners[..., 0], corners @ axis)
    ends = np.stack((turned.min(axis=1), turned.max(axis=1)), axis=1)
    wraps = np.ptp(ends, axis=1) > np.pi  # stands behind the camera: neither hides nor is hidden
    reach = np.stack((bearing[index] - margin[index], bearing[index] + margin[index]), axis=1)
    wide = bodies.screens_m[index] > 0
    bearings = np.where(wide[:, None], ends, reach)
    bearings[wraps] = (-9.0, 9.0)
    screens = np.where(wraps, 0, bodies.screens_m[index])
    nearest = np.maximum(distance[index] - bodies.radii[index], 0)
    kept = unobstructed(corners, nearest, bearings, bodies.tops_m[index], screens, float(pose[2, 3]))
    return index[kept]


_FOV: dict[Intrinsics, float] = {}


def _half_fov_deg(lens: Intrinsics) -> float:
    if lens not in _FOV:
        _FOV[lens] = 0.5 * max(lens.fov_deg) * 1.08
    return _FOV[lens]


def _gather(lens: Intrinsics, pose: NDArray[np.float64], groups: tuple[Bodies, ...]) -> tuple[NDArray[Any], ...]:
    """Polygons, normals, colours, details, extents, things and ranks in painting order, of all bodies in sight."""
    chosen = [(bodies, _in_sight(bodies, lens, pose)) for bodies in groups]
    footprints = np.concatenate([bodies.footprints[seen] for bodies, seen in chosen])
    order = painting_order(footprints, pose[:2, 3].astype(np.float32))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    columns: list[tuple[NDArray[Any], ...]] = []
    first = 0
    for bodies, seen in chosen:
        index, member = _polygons_of(bodies, seen)
        columns.append(
            (
                bodies.polygons[index],
                bodies.normals[index],
                bodies.bgr[index],
                bodies.detail[index],
                bodies.extents_m[index],
                bodies.things[seen][member],
                rank[first + member],
            )
        )
        first += len(seen)
    return tuple(np.concatenate(column) for column in zip(*columns, strict=True))


def _polygons_of(bodies: Bodies, seen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Polygons of chosen bodies, and for each which of the chosen bodies it belongs to."""
    counts = bodies.first[seen + 1] - bodies.first[seen]
    member = np.repeat(np.arange(len(seen)), counts)
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) - before[member] + bodies.first[seen][member], member


class Exposure:
    """What a real camera adds to a picture: gain, colour cast, vignetting and noise, different for each camera."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._tables: dict[tuple[str, Intrinsics], tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}

    def apply(self, image: NDArray[np.uint8], camera: Camera, timestamp_ns: int) -> NDArray[np.uint8]:
        """The picture as this camera would have given it at this time."""
        key = (camera.name, camera.intrinsics)
        if key not in self._tables:
            self._tables[key] = self._make(camera)
        vignette, noise = self._tables[key]
        bright = cv2.multiply(image, vignette, scale=1 / 160)
        shift = (timestamp_ns // 1000) * 2654435761 % (1 << 32)
        row, column = int(shift % 61), int(shift // 61 % 67)
        height, width = image.shape[:2]
        grain = noise[row : row + height, column : column + width]
        return np.asarray(cv2.addWeighted(bright, 1.0, grain, 1.0, -128.0), np.uint8)

    def _make(self, camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        lens = camera.intrinsics
        rng = np.random.default_rng([self._seed, *camera.name.encode()])
        v, u = np.mgrid[0 : lens.height, 0 : lens.width]
        radius = np.hypot((u - lens.cx) / lens.width, (v - lens.cy) / lens.height)
        fall = 1 - rng.uniform(0.15, 0.5) * radius**2
        gains = rng.uniform(0.86, 1.1) * rng.uniform(0.97, 1.03, 3)
        vignette = np.clip(160 * fall[..., None] * gains, 0, 255).astype(np.uint8)
        sigma = rng.uniform(1.2, 3.5)
        noise = rng.normal(128, sigma, (lens.height + 61, lens.width + 67, 3)).round().astype(np.uint8)
        return vignette, noise
