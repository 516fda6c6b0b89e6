"""The ground of the synthetic town as rasters: its look at several resolutions, and what every spot of it is.

Rasters are indexed `[y, x]` from the south-west corner, so that row and column grow with the world's y and x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .daylight import Daylight
from .markings import Markings
from .roads import RoadNetwork

Array = NDArray[np.float64]

HALF_EXTENT_M: Final = 160.0
"""The ground is a square of twice this length around the origin; beyond it there is nothing but grass."""

LOOK_M: Final = 0.0625
"""Size of a pixel of the look at its finest level."""

TRUTH_M: Final = 0.125
"""Size of a pixel of the labels and of the ground truth."""

LEVELS: Final = 8

DRIVABLE, DIVIDER, EDGE, CROSSWALK, INTERSECTION = (1 << bit for bit in range(5))
"""Bits of the ground truth raster."""

EDGE_HALF_M: Final = 0.5
"""The road edge of the ground truth reaches this far to both sides of the boundary of drivable space."""

EDGE_LABEL_M: Final = (-0.4, 0.15)
"""The road edge of the image labels: from 0.4 m outside the boundary to 0.15 m inside."""

_CURB_M, _SIDEWALK_M = 0.25, 2.2


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """Rasters of the ground.

    atlas : uint8 [S, 1.5 S, 3] BGR, in wet towns [S, 1.5 S, 4] with how much the ground mirrors the sky; level k, with
        pixels of `LOOK_M * 2**k`, begins at column and row `corners[k]`
    corners : int64 [levels, 2]
    classes : uint8, image labels: 0 other, 1 drivable, 2 lane marking (lines between lanes and directions, the gaps of
        dashed ones filled; no other paint), 3 road edge, 5 crosswalk
    layers : uint8, bits of ground truth
    direction_rad : float32, direction of the road in the world, without sign, NaN off the roads
    blocked : uint8, 1 where a road, its sidewalk or a parking lot lies
    """

    atlas: NDArray[np.uint8]
    corners: NDArray[np.int64]
    classes: NDArray[np.uint8]
    layers: NDArray[np.uint8]
    direction_rad: NDArray[np.float32]
    blocked: NDArray[np.uint8]


def to_pixels(points: Array, resolution_m: float) -> Array:
    """World points [..., 2] to raster coordinates x, y; (0, 0) is the centre of the first pixel."""
    return np.asarray((points + HALF_EXTENT_M) / resolution_m - 0.5)


def fill(
    raster: NDArray[Any], outlines: Sequence[Array], value: Any, resolution_m: float, smooth: bool = False
) -> None:
    """Fill outlines in the world frame; `smooth` blends the pixels on their border."""
    line = cv2.LINE_AA if smooth else cv2.LINE_8
    for outline in outlines:
        if len(outline):
            points = np.round(to_pixels(outline, resolution_m) * 16).astype(np.int32)
            cv2.fillPoly(raster, [points], value, line, 4)


def draw_layout(network: RoadNetwork, markings: Markings) -> tuple[NDArray[np.uint8], NDArray[np.float32], Array]:
    """Ground truth bits, corridor directions, and the distance to the boundary of drivable space, positive inside."""
    size = round(2 * HALF_EXTENT_M / TRUTH_M)
    drivable = np.zeros((size, size), np.uint8)
    direction = np.full((size, size), np.nan, np.float32)
    for road in network.roads:
        begin, end = road.span_m
        width = road.profile.half_width_m
        fill(drivable, [road.strip(begin, end, -width, width)], 1, TRUTH_M)
        right, left = road.line(begin, end, -width), road.line(begin, end, width)
        along = np.diff((right + left) / 2, axis=0)
        angles = (np.arctan2(along[:, 1], along[:, 0]) + np.pi / 2) % np.pi - np.pi / 2
        for i, angle in enumerate(angles):
            fill(direction, [np.array([right[i], right[i + 1], left[i + 1], left[i]])], angle, TRUTH_M)
    for lot in network.lots:
        road = network.roads[lot.road]
        fill(drivable, [road.strip(*lot.span_m, -lot.half_width_m, lot.half_width_m)], 1, TRUTH_M)
    fill(drivable, [place.outline for place in network.intersections], 1, TRUTH_M)
    fill(direction, [place.outline for place in network.intersections], float("nan"), TRUTH_M)
    fill(drivable, [place.island for place in network.intersections], 0, TRUTH_M)
    inside = cv2.distanceTransform(drivable, cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - drivable, cv2.DIST_L2, 5)
    boundary_m: NDArray[Any] = np.where(drivable > 0, inside - 0.5, 0.5 - outside) * np.float32(TRUTH_M)
    boundary_m = cv2.GaussianBlur(boundary_m, (0, 0), 2.4)  # curbs without the steps of the raster
    layers = drivable * np.uint8(DRIVABLE)
    layers |= (np.abs(boundary_m) < EDGE_HALF_M).astype(np.uint8) * np.uint8(EDGE)
    for bit, outlines in (
        (DIVIDER, markings.dividers),
        (CROSSWALK, markings.crosswalks),
        (INTERSECTION, [place.outline for place in network.intersections]),
    ):
        plane = np.zeros_like(drivable)
        fill(plane, outlines, 1, TRUTH_M)
        layers |= plane * np.uint8(bit)
    direction[drivable == 0] = np.nan
    return np.asarray(layers, np.uint8), direction, np.asarray(boundary_m, np.float64)


def make_ground(
    rng: np.random.Generator,
    network: RoadNetwork,
    markings: Markings,
    layout: tuple[NDArray[np.uint8], NDArray[np.float32], Array],
    shadows: Sequence[Array],
    light: Daylight,
) -> Ground:
    """Paint the town: surfaces, wear, markings, shadows (outlines on the ground), light."""
    layers, direction, boundary_m = layout
    boundary = np.clip(np.round(128 + boundary_m * 32), 0, 255).astype(np.uint8)
    look = _surfaces(rng, boundary)
    _patch(rng, look, network)
    _cracks_and_covers(rng, look, network)
    paint = _paint_masks(markings, look.shape[0])
    _apply_paint(rng, look, *paint)
    _apply_light(rng, look, _shade(rng, network, shadows, light), light)
    if light.wet > 0:
        look = _wetted(rng, look, boundary, light.wet)
    atlas, corners = _atlas(look)
    classes = (layers & DRIVABLE).astype(np.uint8)
    paved = classes > 0
    classes[paved & (layers & DIVIDER > 0)] = 2
    classes[paved & (layers & CROSSWALK > 0)] = 5
    classes[(boundary_m > EDGE_LABEL_M[0]) & (boundary_m < EDGE_LABEL_M[1])] = 3
    blocked = (boundary_m > -(_CURB_M + _SIDEWALK_M)).astype(np.uint8)
    return Ground(atlas, corners, classes, layers, direction, blocked)


def noise_tile(rng: np.random.Generator, size: int, octaves: Sequence[tuple[float, float]]) -> NDArray[np.float32]:
    """Noise that repeats: float32 [size, size], a sum of (blur in pixels, standard deviation)."""
    total = np.zeros((size, size), np.float32)
    for blur, deviation in octaves:
        shrink = 8 if blur >= 16 else 1  # what is that smooth needs no more
        cells = size // shrink
        noise: NDArray[Any] = rng.standard_normal((cells, cells), dtype=np.float32)
        if blur > 0:
            wide = cv2.GaussianBlur(np.tile(noise, (2, 2)), (0, 0), blur / shrink)
            noise = wide[cells // 2 : -cells // 2, cells // 2 : -cells // 2]
        if shrink > 1:
            wide = cv2.copyMakeBorder(noise, 2, 2, 2, 2, cv2.BORDER_WRAP)
            wide = cv2.resize(wide, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_CUBIC)
            noise = wide[2 * shrink : -2 * shrink, 2 * shrink : -2 * shrink]
        total += noise * (deviation / max(float(noise.std()), 1e-6))
    return total


def _tile(
    rng: np.random.Generator, bgr: Sequence[float] | Array, octaves: Sequence[tuple[float, float]]
) -> NDArray[np.uint8]:
    noise = noise_tile(rng, 512, octaves)[:, :, None]
    return np.clip(np.array(bgr, np.float32) * (1 + noise / 100), 0, 255).astype(np.uint8)


def _surfaces(rng: np.random.Generator, boundary: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grass, sidewalk, curb, gutter and asphalt, chosen by the distance to the boundary of drivable space."""
    grey = rng.uniform(82, 122)
    grass = np.array([62, 120, 104]) + rng.uniform(-16, 16, 3)
    stone = rng.uniform(140, 178) * np.array([0.96, 0.99, 1.0])
    slabs = _tile(rng, stone, ((0, 2.5), (2, 2), (30, 3)))
    slabs[:: 512 // 16, :] = slabs[:, :: 512 // 16] = (stone * 0.74).astype(np.uint8)
    surfaces = [
        (0, _tile(rng, grass, ((0, 8), (1.5, 7), (6, 6), (40, 7)))),
        (_level(-_CURB_M - _SIDEWALK_M), slabs),
        (_level(-_CURB_M), _tile(rng, stone * 1.12, ((0, 2), (4, 3)))),
        (_level(-0.03), _tile(rng, stone * 0.55, ((0, 3),))),
        (_level(0.06), _tile(rng, [grey * 1.25, grey * 1.26, grey * 1.27], ((0, 3), (4, 3)))),
        (_level(rng.choice([0.06, 0.38])), _tile(rng, [grey, grey * 0.99, grey * 0.97], ((0, 4), (1.2, 2.5), (10, 2)))),
    ]
    wide = boundary.shape[1] * 2
    look = np.empty((boundary.shape[0] * 2, wide, 3), np.uint8)
    tiled = [(level, np.tile(tile, (1, wide // 512, 1))) for level, tile in surfaces]
    fine = cv2.resize(boundary, (wide, look.shape[0]), interpolation=cv2.INTER_LINEAR)
    for top in range(0, look.shape[0], 512):
        band = look[top : top + 512]
        band[:] = tiled[0][1]
        for level, texture in tiled[1:]:
            mask = (fine[top : top + 512] >= level).astype(np.uint8)
            cv2.copyTo(texture, mask, band)
    return look


def _level(boundary_m: float) -> int:
    return round(128 + boundary_m * 32)


def _patch(rng: np.random.Generator, look: NDArray[np.uint8], network: RoadNetwork) -> None:
    """Repairs in the asphalt: newer and darker or older and paler, their seams closed with tar."""
    for road in network.roads:
        begin, end = road.span_m
        width = road.profile.half_width_m - 0.3
        for _ in range(rng.poisson(max(end - begin, 0) / 28)):
            start, low = rng.uniform(begin, end), rng.uniform(-width, width - 0.6)
            trench = rng.random() < 0.4  # across the street, for a pipe
            length, breadth = (rng.uniform(0.5, 1.0), 2 * width) if trench else rng.uniform((1.0, 0.8), (9.0, 3.0))
            if trench:
                low = -width
            outline = road.strip(start, min(start + length, end), low, min(low + breadth, width))
            points = np.round(to_pixels(outline, LOOK_M) * 16).astype(np.int32)
            corner = np.maximum(points.min(axis=0) // 16 - 2, 0)
            window = look[corner[1] : points[:, 1].max() // 16 + 3, corner[0] : points[:, 0].max() // 16 + 3]
            if len(points) < 4 or not window.size:
                continue
            repaired = np.clip(window * rng.uniform(0.66, 1.16), 0, 255).astype(np.uint8)
            mask = np.zeros(window.shape[:2], np.uint8)
            cv2.fillPoly(mask, [points - corner * 16], 1, cv2.LINE_8, 4)
            cv2.copyTo(repaired, mask, window)
            if rng.random() < 0.7:
                tone = rng.uniform(34, 56)
                cv2.polylines(window, [points - corner * 16], True, (tone, tone, tone), 1, cv2.LINE_AA, 4)


def _cracks_and_covers(rng: np.random.Generator, look: NDArray[np.uint8], network: RoadNetwork) -> None:
    """Dark cracks, seams between lanes, and manhole covers."""
    for road in network.roads:
        begin, end = road.span_m
        length, width = end - begin, road.profile.half_width_m
        for _ in range(rng.poisson(max(length, 0) / 14)):
            arcs = rng.uniform(begin, end) + np.cumsum(rng.uniform(-0.2, 0.5, 12) * rng.choice([-1, 1]))
            offsets = rng.uniform(-width, width) * 0.9 + np.cumsum(rng.uniform(-0.25, 0.25, 12))
            keep = (np.abs(offsets) < width - 0.4) & (arcs > begin) & (arcs < end)
            points = np.round(to_pixels(road.at(arcs[keep], offsets[keep]), LOOK_M) * 16).astype(np.int32)
            tone = int(rng.uniform(38, 62))
            if len(points) > 1:
                cv2.polylines(look, [points], False, (tone, tone, tone), 1, cv2.LINE_AA, 4)
        for _ in range(rng.poisson(max(length, 0) / 30)):
            at = to_pixels(road.at(rng.uniform(begin, end), rng.uniform(-0.7, 0.7) * width), LOOK_M)
            centre = tuple(int(c) for c in np.round(at * 16))
            cv2.circle(look, centre, round(0.36 / LOOK_M * 16), (58, 60, 62), -1, cv2.LINE_AA, 4)
            cv2.circle(look, centre, round(0.30 / LOOK_M * 16), (76, 78, 80), 1, cv2.LINE_AA, 4)


def _paint_masks(markings: Markings, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    white, yellow = (np.zeros((size, size), np.uint8) for _ in range(2))
    fill(white, markings.white, 255, LOOK_M, smooth=True)
    fill(yellow, markings.yellow, 255, LOOK_M, smooth=True)
    return white, yellow


def _apply_paint(
    rng: np.random.Generator, look: NDArray[np.uint8], white: NDArray[np.uint8], yellow: NDArray[np.uint8]
) -> None:
    """Blend the paint over the asphalt, worn through in places."""
    wear = rng.uniform(0.04, 0.22)
    kept = np.clip(1.02 - wear * (1.2 + noise_tile(rng, 512, ((0.7, 0.6), (3, 0.7), (25, 0.6)))), 0.12, 1) / 255
    tone = rng.uniform(205, 245)
    for mask, bgr in ((white, (tone * 0.97, tone, tone)), (yellow, (tone * 0.22, tone * 0.70, tone * 0.92))):
        colour = np.array(bgr, np.float32)
        coarse = cv2.resize(mask, (mask.shape[1] // 64, mask.shape[0] // 64), interpolation=cv2.INTER_AREA)
        for row, column in np.argwhere(cv2.dilate(coarse, np.ones((3, 3), np.uint8)) > 0) * 64:
            window = np.s_[row : row + 64, column : column + 64]
            alpha = (mask[window] * kept[row % 512 : row % 512 + 64, column % 512 : column % 512 + 64])[:, :, None]
            look[window] = look[window] + (colour - look[window]) * alpha


def _shade(
    rng: np.random.Generator, network: RoadNetwork, shadows: Sequence[Array], light: Daylight
) -> NDArray[np.uint8]:
    """Brightness of the ground, uint8 [y, x, 3] BGR at :data:`TRUTH_M`, 128 = as painted."""
    size = round(2 * HALF_EXTENT_M / TRUTH_M)
    worn: NDArray[Any] = np.full((size, size), 128, np.uint8)
    for road in network.roads:
        begin, end = road.span_m
        profile = road.profile
        fill(
            worn, [road.strip(begin, end, -profile.half_width_m, profile.half_width_m)], rng.uniform(120, 136), TRUTH_M
        )
        for _ in range(rng.poisson(max(end - begin, 0) / 22)):
            start, low = rng.uniform(begin, end), rng.uniform(-profile.half_width_m, profile.half_width_m - 1)
            stop = min(start + rng.uniform(1, 14), end)
            high = min(low + rng.uniform(0.8, 3.0), profile.half_width_m)
            fill(worn, [road.strip(start, stop, low, high)], rng.uniform(106, 146), TRUTH_M)
        for lane in range(profile.lanes):
            for side in (-1, 1):
                middle = side * (lane + 0.5) * profile.lane_m
                for offset, width, tone in ((-0.8, 0.25, 122), (0.8, 0.25, 122), (0.0, 0.3, 117)):
                    at = middle + offset
                    fill(worn, [road.strip(begin, end, at - width, at + width)], tone, TRUTH_M)
    worn = cv2.GaussianBlur(worn, (0, 0), 1.4)
    uneven: Any = sum(
        cv2.resize(rng.standard_normal((n, n), dtype=np.float32), (size // 8, size // 8), interpolation=cv2.INTER_CUBIC)
        * weight
        for n, weight in ((20, 5.0), (60, 4.0), (200, 2.5))
    )
    uneven = cv2.resize(np.clip(128 + uneven, 90, 166).astype(np.uint8), (size, size), interpolation=cv2.INTER_LINEAR)
    worn = cv2.multiply(worn, uneven, scale=1 / 128)
    shadow: NDArray[Any] = np.zeros((size, size), np.uint8)
    fill(shadow, shadows, 255, TRUTH_M)
    blur = 0.8 if light.kind in ("clear", "low sun") else 5.0
    shadow = cv2.GaussianBlur(shadow, (0, 0), blur)
    planes = [
        cv2.LUT(shadow, 255 - (np.arange(256) * s).astype(np.uint8)) for s in np.array([0.9, 1, 1.05]) * light.shadow
    ]
    return np.asarray(cv2.merge([cv2.multiply(worn, plane, scale=1 / 255) for plane in planes]), np.uint8)


def _apply_light(rng: np.random.Generator, look: NDArray[np.uint8], shade: NDArray[np.uint8], light: Daylight) -> None:
    gains = tuple(float(g) for g in light.ground_bgr / 128)
    for top in range(0, look.shape[0], 512):
        part = shade[top // 2 : top // 2 + 256]
        wide = cv2.resize(part, (look.shape[1], 512), interpolation=cv2.INTER_LINEAR)
        band = look[top : top + 512]
        np.copyto(band, cv2.multiply(band, wide, scale=1 / 128))
    for channel, gain in enumerate(gains):
        table = np.clip(np.arange(256) * gain * 128, 0, 255).astype(np.uint8)
        look[:, :, channel] = cv2.LUT(look[:, :, channel], table)
    edge = 96
    mean = tuple(int(c) for c in look[:edge].reshape(-1, 3).mean(axis=0))
    cv2.rectangle(look, (0, 0), (look.shape[1] - 1, look.shape[0] - 1), mean, 40)


def _wetted(
    rng: np.random.Generator, look: NDArray[np.uint8], boundary: NDArray[np.uint8], wet: float
) -> NDArray[np.uint8]:
    """Pavement darkened by rain; the fourth channel is how much it mirrors, most of all in puddles."""
    film = noise_tile(rng, 512, ((6, 0.5), (40, 1.0), (90, 1.0)))
    film = np.clip(0.45 + 0.3 * film, 0.1, 1.0) * np.float32(255 * wet)
    paved = (boundary >= _level(-_CURB_M - _SIDEWALK_M)).astype(np.uint8)
    gloss: NDArray[Any] = np.tile(film.astype(np.uint8), (boundary.shape[0] // 512, boundary.shape[1] // 512)) * paved
    gloss = cv2.resize(gloss, (look.shape[1], look.shape[0]), interpolation=cv2.INTER_LINEAR)
    darker = (np.float32(1) - np.float32(0.42 / 255) * np.arange(256, dtype=np.float32)) * 255
    shade = cv2.LUT(gloss, np.clip(darker, 0, 255).astype(np.uint8))
    channels = [cv2.multiply(channel, shade, scale=1 / 255) for channel in cv2.split(look)]
    return np.asarray(cv2.merge([*channels, gloss]), np.uint8)


def _atlas(look: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All levels of the look in one image, so that one remap serves every pixel of a view."""
    size = look.shape[0]
    atlas = np.empty((size, size + size // 2, look.shape[2]), np.uint8)
    atlas[:, :size] = look
    corners: list[tuple[int, int]] = [(0, 0)]
    level: NDArray[Any] = look
    for _ in range(LEVELS - 1):
        column, row = (size, 0) if len(corners) == 1 else (size, corners[-1][1] + level.shape[0])
        level = cv2.resize(level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA)
        atlas[row : row + level.shape[0], column : column + level.shape[1]] = level
        corners.append((column, row))
    return atlas, np.array(corners, np.int64)
