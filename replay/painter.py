"""Polygons into images: which come first, where they fall in the image, and painting them."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fusion.lens import Intrinsics, LensModel

Float32 = NDArray[np.float32]

NEAR_M: Final = 0.1
"""Nothing nearer to the camera plane than this is drawn."""

_SUBDIVISIONS: Final = 4
_EXACT_M: Final = 55.0
_GUARD_PX: Final = 20000.0


def painting_order(footprints: Float32, origin: Float32) -> NDArray[np.int64]:
    """Order in which bodies may be painted, the farthest first.

    Two bodies whose footprints lie on different sides of a line along an edge of one of them are ordered by the side on
    which the camera stands. Far bodies, and those that no line separates, are ordered by their nearest corner.

    Parameters
    ----------
    footprints : float32 [n, 4, 2], convex, counter-clockwise, world frame, metres
    origin : float32 [2], the camera
    """
    edges = np.roll(footprints, -1, axis=1) - footprints
    offsets = origin - footprints
    share = np.clip((edges * offsets).sum(-1) / np.maximum((edges * edges).sum(-1), 1e-9), 0, 1)
    nearest = np.linalg.norm(offsets - share[..., None] * edges, axis=-1).min(axis=1)
    order = np.argsort(-nearest, kind="stable")
    exact_from = int(np.searchsorted(-nearest[order], -_EXACT_M))
    close = order[exact_from:]
    if len(close) > 1:
        order = np.concatenate((order[:exact_from], close[_sorted_by_lines(footprints[close], edges[close], origin)]))
    return order


def _sorted_by_lines(footprints: Float32, edges: Float32, origin: Float32) -> NDArray[np.int64]:
    count = len(footprints)
    outward = np.stack((edges[..., 1], -edges[..., 0]), axis=-1)
    outward /= np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-9)
    level = (outward * footprints).sum(-1)
    heights = (outward.reshape(-1, 2) @ footprints.reshape(-1, 2).T).reshape(count, 4, count, 4)
    clear = heights.min(axis=3) >= level[:, :, None] - 1e-3  # [body, edge, other]: the other is beyond the edge
    camera_beyond = outward @ origin > level
    before = (clear & camera_beyond[:, :, None]).any(axis=1)  # the body is behind the other: paint it before
    after = (clear & ~camera_beyond[:, :, None]).any(axis=1)
    before = before | after.T
    np.fill_diagonal(before, False)
    before &= ~before.T
    waiting = before.sum(axis=0)
    order, placed = [], np.zeros(count, np.bool_)
    for _ in range(count):
        ready = np.flatnonzero((waiting == 0) & ~placed)
        # a ring of bodies each behind the next has no right order: take the farthest of those left
        chosen = int(ready[0]) if len(ready) else int(np.flatnonzero(~placed)[0])
        placed[chosen] = True
        order.append(chosen)
        waiting -= before[chosen]
    return np.array(order, np.int64)


def unobstructed(
    footprints: Float32, nearest_m: Float32, bearings: Float32, tops_m: Float32, screens_m: Float32, height_m: float
) -> NDArray[np.bool_]:
    """Which bodies are not wholly behind a single house.

    Parameters
    ----------
    footprints : float32 [n, 4, 2], relative to the camera
    nearest_m : float32 [n], distance of the nearest part of each body
    bearings : float32 [n, 2], of the right and left end of each body, radians from the optical axis
    tops_m, screens_m : float32 [n], height, and height up to which a body is a wall without a gap
    height_m : of the camera
    """
    walls = np.flatnonzero(screens_m > height_m + 0.5)
    farthest = np.linalg.norm(footprints[walls], axis=2).max(axis=1)
    behind = (bearings[:, None, 0] >= bearings[walls, 0]) & (bearings[:, None, 1] <= bearings[walls, 1])
    behind &= nearest_m[:, None] > farthest
    behind &= (tops_m - height_m)[:, None] * farthest <= (screens_m[walls] - height_m) * nearest_m[:, None]
    return np.asarray(~behind.any(axis=1))


def clip_near(polygon: NDArray[Any]) -> NDArray[Any]:
    """Part of a convex polygon [k, 3], camera frame, with z of at least :data:`NEAR_M` (Sutherland, Hodgman 1974)."""
    kept = []
    for here, there in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if here[2] >= NEAR_M:
            kept.append(here)
        if (here[2] >= NEAR_M) != (there[2] >= NEAR_M):
            kept.append(here + (there - here) * ((NEAR_M - here[2]) / (there[2] - here[2])))
    return np.array(kept, polygon.dtype).reshape(-1, 3)


def clip_all(polygons: Float32, corners: int) -> tuple[Float32, NDArray[np.bool_]]:
    """Clip polygons [n, k, 3] at the near plane, padded to `corners`; and which of them remain."""
    depth = np.ascontiguousarray(polygons[..., 2].T)
    kept = np.asarray((depth > NEAR_M).any(axis=0), np.bool_)
    padded = np.concatenate((polygons, np.repeat(polygons[:, -1:], corners - polygons.shape[1], axis=1)), axis=1)
    for index in np.flatnonzero(kept & (depth < NEAR_M).any(axis=0)):
        clipped = clip_near(polygons[index])
        if len(clipped) < 3:
            kept[index] = False
            continue
        padded[index, : len(clipped)] = clipped
        padded[index, len(clipped) :] = clipped[-1]
    return padded, kept


def project_outlines(polygons: Float32, lens: Intrinsics) -> Float32:
    """Outlines in the image, float32 [n, k', 2], of polygons [n, k, 3] in the camera frame in front of it.

    Edges that a lens bends are cut into short ones. Corners far outside the image are moved nearer to it.
    """
    if lens.model is not LensModel.PINHOLE:
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
    steps = (np.arange(_SUBDIVISIONS, dtype=np.float32) / np.float32(_SUBDIVISIONS))[:, None]
    following = np.roll(polygons, -1, axis=1)
    parts = polygons[:, :, None] * (1 - steps) + following[:, :, None] * steps
    return parts.reshape(len(polygons), _SUBDIVISIONS * polygons.shape[1], 3)


def _brown(coefficients: tuple[float, ...], x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    k1, k2, p1, p2, k3, k4, k5, k6 = coefficients + (0.0,) * (8 - len(coefficients))
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


def paint(
    image: NDArray[np.uint8],
    front: NDArray[np.int32] | None,
    outlines: Float32,
    bgr: Float32,
    detail: NDArray[np.bool_],
) -> None:
    """Paint outlines in order; details of one colour that follow each other are painted at once.

    `front` (INOUT) takes the number of the outline, from 1, that is in front; details leave it as it is.
    """
    points = np.round(outlines * 16).astype(np.int32)
    breaks = np.ones(len(points) + 1, np.bool_)
    breaks[1:-1] = ~(detail[1:] & detail[:-1] & (bgr[1:] == bgr[:-1]).all(axis=1))
    starts = np.flatnonzero(breaks)
    colours, shapes = bgr.tolist(), list(points)
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        cv2.fillPoly(image, shapes[start:stop], colours[start], cv2.LINE_AA, 4)
        if front is not None and not detail[start]:
            cv2.fillPoly(front, shapes[start : start + 1], start + 1, cv2.LINE_8, 4)
