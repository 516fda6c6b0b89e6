"""Ground and sky of a view: every pixel's ray meets one or the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fusion.lens import Intrinsics
from .daylight import PANORAMA_SHAPE, SINE_RANGE, Daylight
from .ground import HALF_EXTENT_M, LEVELS, LOOK_M, TRUTH_M, Ground, noise_tile

Float32 = NDArray[np.float32]

TAPS: Final = 3
"""Samples per row of pixels for ground beyond 9 m: its pixels cover much more along than across the view."""

_FAR_M: Final = 9.0
_GRAIN_M: Final = 0.012
_MIRROR: Final = 0.62
"""Share of the sky that a street under water mirrors at a flat angle; houses and cars take the rest."""


@dataclass(frozen=True, slots=True, eq=False)
class Rays:
    """Unit rays of a lens in the camera frame.

    pixels : float32 [h, w, 3]
    outside : bool [h, w] or None, pixels that no direction maps to
    """

    pixels: Float32
    outside: NDArray[np.bool_] | None

    @classmethod
    def of(cls, lens: Intrinsics) -> Rays:
        """Rays of every pixel of a lens; in large images those between every fourth are interpolated (0.01 px)."""
        step = 4 if lens.width * lens.height > 300_000 else 1
        rows, columns = (np.append(np.arange(0, n - 1, step), n - 1) for n in (lens.height, lens.width))
        v, u = np.meshgrid(rows.astype(np.float64), columns.astype(np.float64), indexing="ij")
        rays, _ = lens.unproject(np.stack((u, v), axis=-1))
        if step > 1:
            rays = _between(_between(rays, rows, lens.height).transpose(1, 0, 2), columns, lens.width).transpose(
                1, 0, 2
            )
        outside = np.isnan(rays[..., 0])
        pixels = np.where(outside[..., None], np.array([0.0, -1.0, 0.0]), rays).astype(np.float32)
        return cls(np.ascontiguousarray(pixels), outside if outside.any() else None)


def _between(values: NDArray[np.float64], places: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Values [k, ...] known at `places` along the first axis, interpolated at 0 .. count - 1."""
    wanted = np.arange(count)
    after = np.clip(np.searchsorted(places, wanted), 1, len(places) - 1)
    share = (wanted - places[after - 1]) / (places[after] - places[after - 1])
    share = share.reshape(-1, *(1,) * (values.ndim - 1))
    return np.asarray(values[after - 1] * (1 - share) + values[after] * share)


def _sub_rows(directions: Float32, count: int) -> Float32:
    """Rays of :data:`TAPS` sub-rows of each of the first `count` rows, float32 [count * TAPS, w, 3]."""
    above = directions[np.maximum(np.arange(count) - 1, 0)]
    here = directions[:count]
    below = directions[np.minimum(np.arange(count) + 1, len(directions) - 1)]
    third = np.float32(1 / TAPS)
    rows = (here + (above - here) * third, here, here + (below - here) * third)
    return np.stack(rows, axis=1).reshape(count * TAPS, *directions.shape[1:])


def _table(values: NDArray[Any]) -> Float32:
    """Look-up table of 256 entries for a quantity that depends on the atlas level."""
    return np.resize(values.astype(np.float32), 256)


class Backdrop:
    """Draws ground and sky."""

    def __init__(self, ground: Ground, light: Daylight) -> None:
        self._ground = ground
        self._light = light
        grain = noise_tile(np.random.default_rng(0), 512, ((0, 4.0), (0.8, 4.0), (3.0, 1.5)))
        self._grain = np.clip(128 * (1 + grain / 100), 0, 255).astype(np.uint8)
        level = np.arange(LEVELS)
        size = ground.atlas.shape[0] >> level
        self._scale = _table(1 / (LOOK_M * 2.0**level))
        self._limit = _table(size - 1)
        self._corner = (_table(ground.corners[:, 0]), _table(ground.corners[:, 1]))

    def draw(
        self, image: NDArray[np.uint8], rays: Rays, lens: Intrinsics, world_from_camera: NDArray[np.float64]
    ) -> tuple[Float32, Float32]:
        """Fill an image [h, w, 3]; returns rays in the world frame [h, w, 3] and how far the ground is, inf: sky."""
        rotation = world_from_camera[:3, :3].astype(np.float32)
        origin = world_from_camera[:3, 3].astype(np.float32)
        directions = np.asarray(cv2.transform(rays.pixels, rotation), np.float32)  # five times as fast as a product
        down = directions[..., 2]
        sky = down > -1e-3
        with np.errstate(divide="ignore"):
            distance = np.where(sky, np.float32(np.inf), -origin[2] / down)
        rows_with_sky = np.flatnonzero(sky.any(axis=1))
        rows_with_ground = np.flatnonzero(~sky.all(axis=1))
        last_sky = int(rows_with_sky[-1]) + 1 if len(rows_with_sky) else 0
        first_ground = int(rows_with_ground[0]) if len(rows_with_ground) else len(image)
        if last_sky:
            self._draw_sky(image[:last_sky], directions[:last_sky])
        if first_ground < len(image):
            below = np.s_[first_ground:]
            ground = self._draw_ground(directions[below], distance[below], lens, origin)
            if last_sky > first_ground:
                mixed = np.s_[: last_sky - first_ground]
                np.copyto(ground[mixed], image[first_ground:last_sky], where=sky[first_ground:last_sky, :, None])
            image[below] = ground
        return directions, distance

    def _draw_sky(self, image: NDArray[np.uint8], directions: Float32) -> None:
        rows, columns = PANORAMA_SHAPE
        bearing = np.arctan2(directions[..., 1], directions[..., 0])
        map_x = (bearing + np.float32(np.pi)) * np.float32(columns / (2 * np.pi)) - np.float32(0.5)
        map_y = (np.float32(SINE_RANGE[1]) - directions[..., 2]) * np.float32(
            (rows - 1) / (SINE_RANGE[1] - SINE_RANGE[0])
        )
        np.clip(map_y, 0, rows - 1.001, out=map_y)
        cv2.remap(self._light.panorama, map_x, map_y, cv2.INTER_LINEAR, image, cv2.BORDER_WRAP)

    def _draw_ground(
        self, directions: Float32, distance: Float32, lens: Intrinsics, origin: Float32
    ) -> NDArray[np.uint8]:
        rows, columns = distance.shape
        far = np.flatnonzero(distance.max(axis=1) > _FAR_M)
        near_row = int(far[-1]) + 1 if len(far) else 0
        ground = np.empty((rows, columns, self._ground.atlas.shape[2]), np.uint8)
        if near_row:
            fine = self._sample(_sub_rows(directions, near_row), lens, origin, TAPS)
            ground[:near_row] = cv2.resize(fine, (columns, near_row), interpolation=cv2.INTER_AREA)
        if near_row < rows:
            ground[near_row:] = self._sample(directions[near_row:], lens, origin, 1)
        if ground.shape[2] == 4:
            ground = self._mirror_sky(ground, directions)
        self._roughen(ground, directions, distance, lens, origin)
        clear = np.exp(distance * np.float32(-1 / self._light.haze_m))
        hazy = np.empty_like(ground)
        hazy[:] = self._light.haze_bgr.astype(np.uint8)
        return np.asarray(cv2.blendLinear(ground, hazy, clear, 1 - clear), np.uint8)

    def _mirror_sky(self, ground: NDArray[np.uint8], directions: Float32) -> NDArray[np.uint8]:
        """Wet ground with the sky in it, uint8 [h, w, 3]; the flatter one looks at it, the more (Schlick 1994)."""
        sky = np.empty((*ground.shape[:2], 3), np.uint8)
        self._draw_sky(sky, directions * np.array([1, 1, -1], np.float32))
        grazing = 1 - np.clip(-directions[..., 2], 0, 1)
        mirrored = (np.float32(0.03) + np.float32(_MIRROR) * grazing**5) * (ground[..., 3] * np.float32(1 / 255))
        street = np.ascontiguousarray(ground[..., :3])
        return np.asarray(cv2.blendLinear(street, sky, 1 - mirrored, mirrored), np.uint8)

    def _sample(self, directions: Float32, lens: Intrinsics, origin: Float32, taps: int) -> NDArray[np.uint8]:
        """Look of the ground along rays, from the atlas level that fits the size of a sample on the ground."""
        distance = -origin[2] / np.minimum(directions[..., 2], np.float32(-1e-3))
        pixel_m = LOOK_M * 2.0 ** (np.arange(1, LEVELS) - 0.5)
        # a sample is distance / fx wide and distance^2 / (height * fy * taps) long; its half length may blur
        across = lens.fx * pixel_m
        along = np.sqrt(2 * pixel_m * float(origin[2]) * lens.fy * taps)
        thresholds = np.minimum(across, along)
        coarsest = int((thresholds < distance.max()).sum())
        level = np.full(distance.shape, (thresholds < distance.min()).sum(), np.uint8)
        for threshold in thresholds[int(level.flat[0]) : coarsest]:
            level += distance > np.float32(threshold)
        scale, limit = cv2.LUT(level, self._scale), cv2.LUT(level, self._limit)
        maps = []
        for axis in (0, 1):
            position = distance * directions[..., axis]
            position += origin[axis] + np.float32(HALF_EXTENT_M)
            position *= scale
            position -= np.float32(0.5)
            np.maximum(position, 0, out=position)
            np.minimum(position, limit, out=position)
            position += cv2.LUT(level, self._corner[axis])
            maps.append(position)
        return np.asarray(cv2.remap(self._ground.atlas, maps[0], maps[1], cv2.INTER_LINEAR), np.uint8)

    def _roughen(
        self, ground: NDArray[np.uint8], directions: Float32, distance: Float32, lens: Intrinsics, origin: Float32
    ) -> None:
        """Grain of the surface where the view resolves more than the rasters hold."""
        reach = min(_GRAIN_M * 1.5 * lens.fx, 14.0)
        rows = np.flatnonzero(distance.min(axis=1) < reach)
        if not len(rows):
            return
        part = np.s_[int(rows[0]) :]
        scale = np.float32(1 / _GRAIN_M)
        maps = [(origin[axis] + distance[part] * directions[part][..., axis]) * scale for axis in (0, 1)]
        for coordinates in maps:
            np.clip(coordinates, -30000, 30000, out=coordinates)
        grain = cv2.remap(self._grain, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        fade = np.clip(2 - distance[part] * np.float32(2 / reach), 0, 1)  # whole up to half the reach
        flat = np.full_like(grain, 128)
        grain = cv2.blendLinear(grain, flat, fade, 1 - fade)
        ground[part] = cv2.multiply(ground[part], cv2.merge((grain, grain, grain)), scale=1 / 128)

    def classes(self, directions: Float32, distance: Float32, origin: Float32) -> NDArray[np.uint8]:
        """Image label of the ground along each ray, uint8; 0 for the sky."""
        raster = self._ground.classes
        reach = np.where(np.isfinite(distance), distance, np.float32(1e6))
        cells = []
        for axis in (0, 1):
            position = (origin[axis] + reach * directions[..., axis] + np.float32(HALF_EXTENT_M)) * np.float32(
                1 / TRUTH_M
            )
            cells.append(np.clip(position, 0, raster.shape[0] - 1).astype(np.int32))
        return np.asarray(raster[cells[1], cells[0]])
