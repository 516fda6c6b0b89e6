"""Polygons into images: which come first, and painting them."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_EXACT_M: Final = 55.0


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
