"""What a real camera adds to a picture: its shutter, lens and dirt, exposure, white balance, tone and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fusion.rig import Camera
from .daylight import Daylight

Image = NDArray[np.uint8]

_UNIT: Final = 160
"""Value of a vignette that leaves a pixel as it is."""

_MIDDLE_GREY: Final = 112.0
_DIRTY_SHARE: Final = 0.3
_BLUR_AT_M: Final = 8.0
"""Distance of what passes by a camera, for the blur of its motion."""

_PERIODS_S: Final = np.array([3.1, 7.7])


@dataclass(frozen=True, slots=True, eq=False)
class Optics:
    """A camera as it was built and soiled, for one image size.

    vignette : uint8 [h, w, 3], :data:`_UNIT` lets all light pass
    dirt : uint8 [h, w, 3], light that dirt on the lens scatters; None for a clean lens
    noise : uint8 [h + 61, w + 67, 3], 128 is none
    gains : float64 [3] BGR; gamma : of the tone curve
    phases : float64 [2, 4], of how gains and their balance wander
    shutter : how much longer than others it exposes
    """

    vignette: Image
    dirt: Image | None
    noise: Image
    gains: NDArray[np.float64]
    gamma: float
    phases: NDArray[np.float64]
    shutter: float


class Exposure:
    """The cameras of a drive: each has its own glass, gains and noise, and its exposure follows what it sees.

    Parameters
    ----------
    seed : equal seeds give equal cameras
    light : how long they expose, and how noisy that is
    """

    def __init__(self, seed: int, light: Daylight) -> None:
        self._seed = seed
        self._light = light
        self._optics: dict[tuple[str, int, int], Optics] = {}

    def apply(
        self, image: Image, camera: Camera, timestamp_ns: int, speed_mps: float = 0.0, yaw_rate_rps: float = 0.0
    ) -> Image:
        """The picture uint8 [h, w, 3] BGR as this camera gives it at this time, at this motion of the car."""
        lens = camera.intrinsics
        key = (camera.name, lens.width, lens.height)
        if key not in self._optics:
            self._optics[key] = make_optics(self._seed, camera, self._light)
        optics = self._optics[key]
        blur_px = _blur_px(camera, optics.shutter * self._light.shutter_s, speed_mps, yaw_rate_rps)
        if blur_px > 1.0:
            image = _smeared(image, blur_px)
        image = cv2.multiply(image, optics.vignette, scale=1 / _UNIT)  # type: ignore[assignment]
        if optics.dirt is not None:
            image = cv2.add(image, optics.dirt)  # type: ignore[assignment]
        image = cv2.LUT(image, _tone(image, optics, timestamp_ns))  # type: ignore[assignment]
        shift = (timestamp_ns // 1000) * 2654435761 % (1 << 32)
        row, column = int(shift % 61), int(shift // 61 % 67)
        grain = optics.noise[row : row + lens.height, column : column + lens.width]
        return np.asarray(cv2.addWeighted(image, 1.0, grain, 1.0, -128.0), np.uint8)


def make_optics(seed: int, camera: Camera, light: Daylight) -> Optics:
    """Build a camera: equal seeds and names give equal ones."""
    lens = camera.intrinsics
    rng = np.random.default_rng([seed, *camera.name.encode()])
    v, u = np.mgrid[0 : lens.height, 0 : lens.width]
    radius = np.hypot((u - lens.cx) / lens.width, (v - lens.cy) / lens.height)
    passing = (1 - rng.uniform(0.15, 0.5) * radius**2)[..., None]
    gains = rng.uniform(0.9, 1.1) * rng.uniform(0.96, 1.04, 3)
    gamma, shutter = rng.uniform(0.85, 1.15), rng.uniform(0.6, 1.4)
    phases = rng.uniform(0, 2 * np.pi, (len(_PERIODS_S), 4))
    sigma = rng.uniform(1.0, 2.6) * light.noise
    scattered: Image | None = None
    if rng.random() < _DIRTY_SHARE:
        cover = _dirt(rng, lens.width, lens.height)[..., None]
        mud = np.array([70, 84, 96]) * rng.uniform(0.6, 1.3) * light.ground_bgr
        scattered = np.clip(cover * mud, 0, 255).astype(np.uint8)
        passing = passing * (1 - cover)
    noise = rng.normal(128, sigma, (lens.height + 61, lens.width + 67, 3)).round().astype(np.uint8)
    vignette = np.repeat(np.clip(_UNIT * passing, 0, 255), 3, axis=2).astype(np.uint8)
    return Optics(vignette, scattered, noise, gains, gamma, phases, shutter)


def _dirt(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """How much of the light soft blobs of dirt take, float32 [h, w], 0..1."""
    clear = np.ones((height, width), np.float32)
    v, u = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(width)
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.uniform(0, 1), rng.uniform(0, height / width)
        size, oval, lean = rng.uniform(0.012, 0.07), rng.uniform(0.6, 1.6), rng.uniform(0, np.pi)
        along = np.cos(lean) * (u - x) + np.sin(lean) * (v - y)
        across = np.cos(lean) * (v - y) - np.sin(lean) * (u - x)
        squared = (along * along / oval + across * across * oval) / np.float32(size * size)
        clear *= 1 - np.float32(rng.uniform(0.15, 0.6)) * np.exp(-squared * squared)
    return 1 - clear


def _tone(image: Image, optics: Optics, timestamp_ns: int) -> Image:
    """Look-up table uint8 [1, 256, 3]: exposure for what is seen, gains that wander, and the tone curve."""
    waves = np.sin(2 * np.pi * (timestamp_ns * 1e-9 % 1e6) / _PERIODS_S[:, None] + optics.phases).mean(axis=0)
    middle = float(np.mean(cv2.mean(image[::4, ::4])[:3]))
    metered = np.clip((_MIDDLE_GREY / max(middle, 1.0)) ** 0.4, 0.8, 1.5)
    gains = optics.gains * metered * (1 + 0.08 * waves[3]) * (1 + 0.02 * waves[:3])
    light = np.minimum(np.arange(256)[:, None] / 255 * gains, 1.0)
    return np.asarray(np.round(255 * light**optics.gamma), np.uint8)[None]


def _blur_px(camera: Camera, shutter_s: float, speed_mps: float, yaw_rate_rps: float) -> float:
    """How far the picture moves sideways while the shutter is open, pixels."""
    sideways = abs(float(camera.ego_from_camera.rotation[0, 0]))  # share of the car's motion along the image's rows
    angle_rps = abs(yaw_rate_rps) + speed_mps * sideways / _BLUR_AT_M
    return shutter_s * angle_rps * camera.intrinsics.fx


def _smeared(image: Image, length_px: float) -> Image:
    """The picture averaged along its rows over a length."""
    half = int(np.ceil((length_px - 1) / 2))
    kernel = np.ones((1, 2 * half + 1), np.float32)
    kernel[0, [0, -1]] = (length_px - 1) / 2 - (half - 1)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE), np.uint8)
