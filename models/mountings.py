"""Rigs to train on: the reference rig mounted a little differently every time, and cameras that no vehicle has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..fusion.lens import Intrinsics
from ..fusion.pose import Pose
from ..fusion.rig import Camera, Rig

MOUNTING_SIGMA_DEG = 0.7
POSITION_SIGMA_M = 0.06

EGO_FROM_OPTICAL = Pose(np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]))
"""A camera that looks along the ego's x axis."""


def network_intrinsics(lens: Intrinsics, width: int, height: int) -> Intrinsics:
    """Lens of the image that is left when the middle of an image is cut to width:height and resized to that size."""
    scale = max(width / lens.width, height / lens.height)
    cx = (lens.cx + 0.5 - 0.5 * lens.width) * scale + 0.5 * width - 0.5
    cy = (lens.cy + 0.5 - 0.5 * lens.height) * scale + 0.5 * height - 0.5
    return Intrinsics(width, height, lens.fx * scale, lens.fy * scale, cx, cy, lens.model, lens.coefficients)


def jittered_rig(rig: Rig, random: np.random.Generator) -> Rig:
    """Mount every camera a little differently."""
    cameras = []
    for camera in rig:
        turn = rotation(np.radians(random.normal(0.0, MOUNTING_SIGMA_DEG, 3)))
        shift = Pose.from_quaternion(random.normal(0.0, POSITION_SIGMA_M, 3), (0.0, 0.0, 0.0, 1.0))
        cameras.append(Camera(camera.name, camera.intrinsics, shift @ camera.ego_from_camera @ turn))
    return Rig(tuple(cameras), rig.name)


def training_rig(seed: int, random: np.random.Generator) -> Rig:
    """Rig of a town: of ten towns seven have the reference rig, two a rig of no car that is, one has fisheyes."""
    from ..replay.rigs import fisheye_rig, reference_rig

    if seed % 10 in (3, 7):
        return surround_rig(random)
    return fisheye_rig() if seed % 10 == 9 else reference_rig()


def surround_rig(random: np.random.Generator) -> Rig:
    """Five to eight cameras around a body of random size, neighbours overlapping a little, lenses of :data:`LENSES`."""
    count = int(random.integers(5, 9))
    height_m = random.uniform(1.0, 2.0)
    middle_m, half_length_m, half_width_m = random.uniform(0.6, 1.6), random.uniform(0.6, 2.0), random.uniform(0.4, 0.9)
    wide_enough = [index for index, degrees in enumerate(LENSES_DEG) if degrees >= 330.0 / count]
    cameras = []
    for index in range(count):
        yaw = 2.0 * np.pi * index / count + random.normal(0.0, 0.12) * (index > 0)
        place = (middle_m + half_length_m * np.cos(yaw), half_width_m * np.sin(yaw), height_m + random.normal(0.0, 0.1))
        lens = LENSES[wide_enough[min(int(random.integers(4)), len(wide_enough) - 1)]]
        turn = Pose.planar(0.0, 0.0, yaw) @ rotation(np.array([0.0, np.radians(random.uniform(-1.0, 8.0)), 0.0]))
        placed = Pose.from_quaternion(place, (0.0, 0.0, 0.0, 1.0))
        cameras.append(Camera(f"camera_{index}", lens, placed @ turn @ EGO_FROM_OPTICAL))
    return Rig(tuple(cameras), "surround")


def _pinhole(fov_deg: float, centre_px: float) -> Intrinsics:
    focal = 640.0 / np.tan(np.radians(fov_deg) / 2.0)
    return Intrinsics(1280, 960, focal, focal, 639.5 + centre_px, 479.5 - 2.0 * centre_px)


LENSES_DEG = (50.0, 58.0, 66.0, 74.0, 82.0, 92.0, 104.0, 116.0)
LENSES = tuple(
    _pinhole(fov_deg, centre_px)
    for fov_deg, centre_px in zip(LENSES_DEG, (8.0, -12.0, 0.0, 20.0, -5.0, 15.0, -9.0, 4.0), strict=True)
)
"""Lenses of cameras that the reference rig does not have: few, because the rays of every one are kept."""


def rotation(angles_rad: NDArray[np.float64]) -> Pose:
    """Turn about x, then y, then z by small or large angles, radians."""
    x, y, z = (float(angle) / 2.0 for angle in angles_rad)
    origin = (0.0, 0.0, 0.0)
    about_x = Pose.from_quaternion(origin, (np.sin(x), 0.0, 0.0, np.cos(x)))
    about_y = Pose.from_quaternion(origin, (0.0, np.sin(y), 0.0, np.cos(y)))
    about_z = Pose.from_quaternion(origin, (0.0, 0.0, np.sin(z), np.cos(z)))
    return about_z @ about_y @ about_x
