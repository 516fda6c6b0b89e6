"""Light of a synthetic day: the sun, the sky as a panorama, and haze."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

PANORAMA_SHAPE = (384, 2048)
"""Rows and columns of the sky: sines of elevation as in :data:`SINE_RANGE`, high to low; azimuths from -pi to pi."""

SINE_RANGE = (-0.06, 0.94)
"""Lowest and highest sine of the elevation that the panorama shows, in equal steps; beyond it the row is repeated."""


@dataclass(frozen=True, slots=True, eq=False)
class Daylight:
    """Colours are float64 [3] BGR, 1 = as painted.

    sun : unit vector towards the sun, world frame
    sun_bgr, ambient_bgr : light on a surface that faces the sun, and on every surface
    haze_bgr : uint8-range colour that distance fades to; haze_m : distance of 63 % fade
    shadow : how much light a cast shadow takes, 0..1
    panorama : uint8 [rows, columns, 3] BGR sky with clouds and hills
    wet : how much the streets shine from rain, 0..1
    shutter_s : how long cameras expose; noise : how much noise they have, 1 in good light
    """

    kind: str
    sun: NDArray[np.float64]
    sun_bgr: NDArray[np.float64]
    ambient_bgr: NDArray[np.float64]
    haze_bgr: NDArray[np.float64]
    haze_m: float
    shadow: float
    panorama: NDArray[np.uint8]
    wet: float = 0.0
    shutter_s: float = 0.003
    noise: float = 1.0

    @property
    def ground_bgr(self) -> NDArray[np.float64]:
        """Light on level ground."""
        return np.asarray(self.ambient_bgr + self.sun_bgr * self.sun[2])

    def shade(self, normals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Light on surfaces with these unit normals [..., 3]: float64 [..., 3] BGR factors."""
        lambert = np.clip(normals @ self.sun, 0.0, None)[..., None]
        sky = 0.75 + 0.25 * normals[..., 2:3]
        return np.asarray(self.ambient_bgr * sky + self.sun_bgr * lambert)


_KINDS = {
    # elevation of the sun (degrees), sun BGR, ambient BGR, zenith BGR, horizon BGR, haze (m), shadow
    "clear": ((35, 65), (0.48, 0.56, 0.60), (0.66, 0.60, 0.56), (190, 120, 60), (225, 205, 180), (300, 700), 0.45),
    "hazy": ((25, 55), (0.32, 0.38, 0.42), (0.70, 0.66, 0.64), (205, 170, 140), (222, 215, 208), (160, 300), 0.30),
    "overcast": ((40, 70), (0.12, 0.12, 0.12), (0.78, 0.76, 0.75), (185, 178, 172), (210, 207, 205), (150, 350), 0.10),
    "low sun": ((12, 22), (0.40, 0.60, 0.78), (0.64, 0.58, 0.56), (175, 130, 95), (165, 195, 225), (200, 450), 0.50),
    "dusk": ((4, 9), (0.12, 0.18, 0.26), (0.50, 0.43, 0.41), (105, 70, 50), (120, 125, 160), (180, 350), 0.15),
}


_SHUTTERS = {
    # seconds of exposure, noise, share of towns that are wet
    "clear": (0.002, 0.8, 0.0),
    "hazy": (0.003, 0.9, 0.15),
    "overcast": (0.004, 1.1, 0.4),
    "low sun": (0.003, 1.0, 0.15),
    "dusk": (0.011, 2.2, 0.3),
}


def make_daylight(rng: np.random.Generator) -> Daylight:
    """Draw a time of day and a weather."""
    kind = str(rng.choice(list(_KINDS), p=[0.36, 0.18, 0.22, 0.14, 0.10]))
    elevations, sun_bgr, ambient_bgr, zenith, horizon, haze_range, shadow = _KINDS[kind]
    elevation, azimuth = np.radians(rng.uniform(*elevations)), rng.uniform(-np.pi, np.pi)
    sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    zenith_bgr = np.array(zenith) * rng.uniform(0.9, 1.1, 3)
    horizon_bgr = np.clip(np.array(horizon) * rng.uniform(0.95, 1.05, 3), 0, 245)
    panorama = _panorama(rng, kind, azimuth, elevation, zenith_bgr, horizon_bgr)
    gain = rng.uniform(0.92, 1.06)
    shutter_s, noise, rainy = _SHUTTERS[kind]
    wet = float(rng.uniform(0.5, 1.0)) if rng.random() < rainy else 0.0
    return Daylight(
        kind,
        sun,
        np.array(sun_bgr) * gain,
        np.array(ambient_bgr) * gain,
        horizon_bgr * 0.97,
        rng.uniform(*haze_range),
        shadow,
        panorama,
        wet,
        shutter_s,
        noise,
    )


def _panorama(
    rng: np.random.Generator,
    kind: str,
    azimuth: float,
    elevation: float,
    zenith: NDArray[np.float64],
    horizon: NDArray[np.float64],
) -> NDArray[np.uint8]:
    rows, columns = PANORAMA_SHAPE
    heights = np.arcsin(np.linspace(SINE_RANGE[1], SINE_RANGE[0], rows))
    bearings = (np.arange(columns) + 0.5) / columns * 2 * np.pi - np.pi
    climb = np.clip(np.sin(heights), 0, 1)[:, None, None] ** 0.55
    sky = horizon * (1 - climb) + zenith * climb + np.zeros((rows, columns, 1))
    apart = (bearings - azimuth + np.pi) % (2 * np.pi) - np.pi
    glow = np.exp(-((apart[None, :] / 0.5) ** 2 + ((heights - elevation)[:, None] / 0.35) ** 2))
    strength = {"clear": 60, "hazy": 45, "overcast": 12, "low sun": 90, "dusk": 60}[kind]
    sky += (glow * strength)[:, :, None] * np.array([0.55, 0.85, 1.0])
    cover = {"clear": 0.25, "hazy": 0.3, "overcast": 1.0, "low sun": 0.5, "dusk": 0.6}[kind]
    sky += _clouds(rng, rows, columns)[:, :, None] * cover * np.array([38.0, 36.0, 34.0])
    for layer in range(2):  # two ranges of hills or roofs, the far one paler
        ridge = 0.008 + (0.03 - 0.012 * layer) * _ridge(rng, columns)
        colour = horizon * (0.86 - 0.16 * layer) * np.array([1.0, 0.97, 0.93]) * 0.95
        sky = np.where((heights[:, None] < ridge[None, :])[:, :, None], colour, sky)
    return np.asarray(cv2.GaussianBlur(np.clip(sky, 0, 255).astype(np.uint8), (3, 3), 0), np.uint8)


def _clouds(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """Streaky noise, about -1..1, that joins at both ends."""
    total = np.zeros((rows, columns))
    for cells, weight in ((6, 1.0), (14, 0.6), (34, 0.35)):
        noise = rng.standard_normal((max(cells // 2, 3), cells))
        wrapped = np.concatenate((noise[:, -2:], noise, noise[:, :2]), axis=1)
        wide = cv2.resize(wrapped, (columns * (cells + 4) // cells, rows), interpolation=cv2.INTER_CUBIC)
        total += weight * wide[:, columns * 2 // cells : columns * 2 // cells + columns]
    return np.clip(total * 0.7, -1, 1)


def _ridge(rng: np.random.Generator, columns: int) -> NDArray[np.float64]:
    bearings = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    waves = [rng.uniform(0.3, 1.0) / k**0.7 * np.sin(k * bearings + rng.uniform(0, 6.3)) for k in (2, 3, 5, 9, 17, 31)]
    height = np.sum(waves, axis=0)
    return np.asarray((height - height.min()) / np.ptp(height))
