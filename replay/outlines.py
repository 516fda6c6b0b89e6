"""Polygons in the camera frame to outlines in the image: clipping, and projection through any lens.

For most lenses polygons are clipped at a plane before the camera. Wide ones see beside and behind the camera: there
polygons are cut at the camera's plane, and what lies behind it into four sectors around the axis, so that no part goes
around the direction straight back, where a lens has no image.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..fusion.lens import Intrinsics, LensModel

Float32 = NDArray[np.float32]

NEAR_M: Final = 0.1
"""Nothing nearer to the camera plane than this is drawn, unless the lens sees along that plane."""

_FLAT_RAD: Final = np.radians(80.0)
_MARGIN_RAD: Final = np.radians(3.0)
_SUBDIVISIONS: Final = 4
_WIDE_SUBDIVISIONS: Final = 8
_GUARD_PX: Final = 20000.0


@lru_cache(maxsize=256)
def reach_rad(lens: Intrinsics) -> float:
    """Largest angle between the optical axis and what the image shows, radians."""
    u, v = (np.linspace(-0.5, size - 0.5, 9) for size in (lens.width, lens.height))
    border = np.concatenate([np.stack(np.broadcast_arrays(u, y), -1) for y in v[[0, -1]]])
    border = np.concatenate([border, *(np.stack(np.broadcast_arrays(x, v), -1) for x in u[[0, -1]])])
    rays, valid = lens.unproject(border)
    if valid.all():
        return float(np.arccos(np.clip(rays[:, 2], -1, 1)).max())
    return lens.limit if lens.model is LensModel.KANNALA_BRANDT else float(np.arctan(lens.limit))


def is_wide(lens: Intrinsics) -> bool:
    """Whether a lens sees so far to the side that polygons must not be cut before the camera."""
    return lens.model is LensModel.KANNALA_BRANDT and reach_rad(lens) > _FLAT_RAD


def clip(polygons: Float32, normal: tuple[float, float, float], offset: float) -> tuple[Float32, NDArray[np.int64]]:
    """Parts of convex polygons on the positive side of a plane (Sutherland, Hodgman 1974).

    Parameters
    ----------
    polygons : float32 [n, k, 3]; shorter polygons repeat a corner
    normal, offset : kept is `normal @ x >= offset`

    Returns
    -------
    parts : float32 [m, k + 1, 3], padded with the last corner
    index : int64 [m], the polygon of each part
    """
    height = polygons @ np.array(normal, np.float32) - np.float32(offset)
    index = np.flatnonzero((height > 0).any(axis=1))
    polygons, height = polygons[index], height[index]
    padded = np.concatenate((polygons, polygons[:, -1:]), axis=1)
    cut = np.flatnonzero((height < 0).any(axis=1))
    if len(cut):
        padded[cut] = _cut(polygons[cut], height[cut])
    return padded, index


def _cut(polygons: Float32, height: Float32) -> Float32:
    """Clip polygons [n, k, 3] whose corners lie at these heights [n, k] above a plane; [n, k + 1, 3]."""
    count, corners = height.shape
    ahead = np.roll(height, -1, axis=1)
    inside = height >= 0
    crosses = inside != (ahead >= 0)
    share = np.where(crosses, height, 0) / np.where(crosses, height - ahead, 1)
    crossing = polygons + (np.roll(polygons, -1, axis=1) - polygons) * share[..., None]
    candidates = np.stack((polygons, crossing), axis=2).reshape(count, 2 * corners, 3)
    kept = np.stack((inside, crosses), axis=2).reshape(count, 2 * corners)
    order = np.argsort(~kept, axis=1, kind="stable")[:, : corners + 1]
    last = np.minimum(np.arange(corners + 1), kept.sum(axis=1)[:, None] - 1)
    chosen = np.take_along_axis(order, last, axis=1)
    return np.asarray(np.take_along_axis(candidates, chosen[..., None], axis=1), np.float32)


def visible_parts(polygons: Float32, lens: Intrinsics) -> tuple[Float32, NDArray[np.int64]]:
    """Parts of convex polygons [n, k, 3], camera frame, that a lens may see.

    Returns
    -------
    parts : float32 [m, k', 3], convex, none of them around the direction straight back
    index : int64 [m], the polygon of each part, ascending
    """
    if not is_wide(lens):
        return clip(polygons, (0, 0, 1), NEAR_M)
    groups = [clip(polygons, (0, 0, 1), 0.0)]
    beyond = reach_rad(lens) + _MARGIN_RAD - np.pi / 2
    if beyond > 0:
        behind, source = clip(polygons, (0, 0, -1), 0.0)
        # in a sector, such as x >= |y|, the distance from the axis is at most sqrt(2) x
        slope = float(np.sqrt(2) * np.tan(min(beyond, np.radians(80.0))))
        for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1)):
            part, index = behind, source
            for normal in ((x - y, x + y, 0), (x + y, y - x, 0), (x * slope, y * slope, 1)):
                part, kept = clip(part, normal, 0.0)
                index = index[kept]
            groups.append((part, index))
    longest = max(part.shape[1] for part, _ in groups)
    parts = np.concatenate([_padded(part, longest) for part, _ in groups])
    indices = np.concatenate([index for _, index in groups])
    order = np.argsort(indices, kind="stable")
    return parts[order], indices[order]


def _padded(polygons: Float32, corners: int) -> Float32:
    return np.concatenate((polygons, np.repeat(polygons[:, -1:], corners - polygons.shape[1], axis=1)), axis=1)


def project_outlines(polygons: Float32, lens: Intrinsics) -> Float32:
    """Outlines in the image, float32 [n, k', 2], of parts [n, k, 3] as :func:`visible_parts` gives them.

    Edges that a lens bends are cut into short ones. Corners far outside the image are moved nearer to it.
    """
    if is_wide(lens):
        polygons = _turned_along(polygons)
    elif lens.model is not LensModel.PINHOLE:
        polygons = _subdivided(polygons)
    x: NDArray[Any]
    y: NDArray[Any]
    x, y, z = polygons[..., 0], polygons[..., 1], polygons[..., 2]
    if lens.model is LensModel.KANNALA_BRANDT:
        lateral = np.hypot(x, y)
        angle = np.minimum(np.arctan2(lateral, z), lens.limit)
        a2 = angle * angle
        k1, k2, k3, k4 = lens.coefficients
        scale = angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4)))) / np.maximum(lateral, 1e-9)
        x, y = x * scale, y * scale
    else:
        x, y = x / z, y / z
        if lens.model is LensModel.BROWN_CONRADY:
            limit = min(lens.limit, 20.0)
            shrink = np.minimum(1, limit / np.maximum(np.hypot(x, y), 1e-9))
            x, y = _brown(lens.coefficients, x * shrink, y * shrink)
    outlines = np.stack((lens.fx * x + lens.cx, lens.fy * y + lens.cy), axis=-1)
    return np.asarray(np.clip(outlines, -_GUARD_PX, _GUARD_PX), np.float32)


def _subdivided(polygons: Float32) -> Float32:
    """Polygons [n, k, 3] with every edge cut into equal parts."""
    steps = (np.arange(_SUBDIVISIONS, dtype=np.float32) / np.float32(_SUBDIVISIONS))[:, None]
    following = np.roll(polygons, -1, axis=1)
    parts = polygons[:, :, None] * (1 - steps) + following[:, :, None] * steps
    return parts.reshape(len(polygons), _SUBDIVISIONS * polygons.shape[1], 3)


def _turned_along(polygons: Float32) -> Float32:
    """Polygons [n, k, 3] with every edge cut into parts that the camera sees under equal angles."""
    following = np.roll(polygons, -1, axis=1)
    near, far = (np.maximum(np.linalg.norm(p, axis=2), 1e-6) for p in (polygons, following))
    angle = np.arctan2(np.linalg.norm(np.cross(polygons, following), axis=2), (polygons * following).sum(axis=2))
    angle = np.minimum(angle, np.float32(3.1))[..., None]
    fraction = np.arange(_WIDE_SUBDIVISIONS, dtype=np.float32) / np.float32(_WIDE_SUBDIVISIONS)
    before, after = near[..., None] * np.sin(fraction * angle), far[..., None] * np.sin((1 - fraction) * angle)
    share = np.where(angle > 1e-4, before / np.maximum(before + after, 1e-12), fraction)[..., None]
    parts = polygons[:, :, None] * (1 - share) + following[:, :, None] * share
    return np.asarray(parts.reshape(len(polygons), _WIDE_SUBDIVISIONS * polygons.shape[1], 3), np.float32)


def _brown(coefficients: tuple[float, ...], x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    k1, k2, p1, p2, k3, k4, k5, k6 = coefficients + (0.0,) * (8 - len(coefficients))
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )
