"""Polygons of the bodies in a camera's sight, projected and in painting order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..fusion.lens import Intrinsics
from .outlines import is_wide, project_outlines, visible_parts
from .painter import painting_order, unobstructed
from .scenery import Bodies

Float32 = NDArray[np.float32]

_REACH_M: Final = 190.0
_SMALLEST_PX: Final = 1.3


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Parts of polygons in a view, in painting order; the plane of each is `normals @ x = offsets` in the camera frame.

    outlines : float32 [n, k, 2], pixels; bgr : float32 [n, 3], lit; detail : bool [n], lies on the one before it
    normals : float32 [n, 3]; offsets : float32 [n], metres
    distances_m, farthest_m : float32 [n], of the middle and of the farthest corner
    things : int32 [n], number of the thing that the polygon is of
    """

    outlines: Float32
    bgr: Float32
    detail: NDArray[np.bool_]
    normals: Float32
    offsets: Float32
    distances_m: Float32
    farthest_m: Float32
    things: NDArray[np.int32]


def faces_in_sight(lens: Intrinsics, pose: NDArray[np.float64], groups: tuple[Bodies, ...]) -> Faces:
    """Polygons of all bodies that a camera at `pose` (world_from_camera) sees."""
    origin, rotation = pose[:3, 3].astype(np.float32), pose[:3, :3].astype(np.float32)
    polygons, normals, bgr, detail, extents, things, ranks = _gather(lens, pose, groups)
    relative = polygons[:, 0] - origin
    facing = np.einsum("ij,ij->i", relative, normals) < 0
    small = extents * lens.fx < np.where(detail, 3.0, 0.6) * np.hypot(relative[:, 0], relative[:, 1])
    keep = np.flatnonzero(facing & ~small)
    keep = keep[np.argsort(ranks[keep], kind="stable")]
    in_camera = (polygons[keep] - origin) @ rotation
    parts, index = visible_parts(in_camera, lens)
    keep, in_camera = keep[index], in_camera[index]
    outlines = project_outlines(parts, lens)
    by_corner = np.ascontiguousarray(outlines.transpose(1, 2, 0))  # reductions over the first axis are fast
    (left, top), (right, bottom) = by_corner.min(axis=0), by_corner.max(axis=0)
    inside = (right > -1) & (bottom > -1) & (left < lens.width) & (top < lens.height)
    inside &= np.maximum(right - left, bottom - top) > np.where(detail[keep], 1.5, 0.7)
    keep, parts, in_camera = keep[inside], parts[inside], in_camera[inside]
    span = np.sqrt(np.ascontiguousarray((parts * parts).sum(axis=2).T))
    camera_normals = normals[keep] @ rotation
    return Faces(
        outlines[inside],
        bgr[keep],
        detail[keep],
        camera_normals,
        np.einsum("ij,ij->i", in_camera[:, 0], camera_normals),
        span.mean(axis=0),
        span.max(axis=0),
        things[keep],
    )


def _in_sight(bodies: Bodies, lens: Intrinsics, pose: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bodies that may be in the image, are large enough to be seen there and not behind a house."""
    apart = bodies.centres - pose[:2, 3].astype(np.float32)
    distance = np.linalg.norm(apart, axis=1)
    axis = pose[:2, 2].astype(np.float32)
    bearing = np.arctan2(axis[0] * apart[:, 1] - axis[1] * apart[:, 0], apart @ axis)
    margin = np.arcsin(np.minimum(bodies.radii / np.maximum(distance, 1e-3), 1.0))
    seen = (np.abs(bearing) < _half_field_rad(lens) + margin) | (distance < bodies.radii + 0.5)
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


@lru_cache(maxsize=256)
def _half_field_rad(lens: Intrinsics) -> float:
    """How far to the side of the optical axis a body may stand that is seen; pi for a lens that sees that much."""
    return np.pi if is_wide(lens) else float(np.radians(0.54 * max(lens.fov_deg)) + 0.03)


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
