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


def free_rig(count: int, random: np.random.Generator) -> Rig:
    """Cameras that no vehicle has: any direction, some of :data:`FREE_LENSES`, 1 to 2.2 m high."""
    cameras = []
    for index in range(count):
        lens = FREE_LENSES[int(random.integers(len(FREE_LENSES)))]
        yaw, pitch = random.uniform(-np.pi, np.pi), np.radians(random.uniform(-3.0, 14.0))
        position = (random.uniform(-0.8, 3.8), random.uniform(-0.9, 0.9), random.uniform(1.0, 2.2))
        turn = Pose.planar(0.0, 0.0, yaw) @ rotation(np.array([0.0, pitch, 0.0]))
        placed = Pose.from_quaternion(position, (0.0, 0.0, 0.0, 1.0))
        cameras.append(Camera(f"free_{index}", lens, placed @ turn @ EGO_FROM_OPTICAL))
    return Rig(tuple(cameras), "free")


def _pinhole(fov_deg: float, centre_px: float) -> Intrinsics:
    focal = 640.0 / np.tan(np.radians(fov_deg) / 2.0)
    return Intrinsics(1280, 960, focal, focal, 639.5 + centre_px, 479.5 - 2.0 * centre_px)


FREE_LENSES = tuple(
    _pinhole(fov_deg, centre_px)
    for fov_deg, centre_px in ((40.0, 8.0), (55.0, -12.0), (65.0, 0.0), (70.0, 20.0), (90.0, -5.0), (100.0, 15.0))
)
"""Lenses of cameras that the reference rig does not have."""


def rotation(angles_rad: NDArray[np.float64]) -> Pose:
    """Turn about x, then y, then z by small or large angles, radians."""
    x, y, z = (float(angle) / 2.0 for angle in angles_rad)
    origin = (0.0, 0.0, 0.0)
    about_x = Pose.from_quaternion(origin, (np.sin(x), 0.0, 0.0, np.cos(x)))
    about_y = Pose.from_quaternion(origin, (0.0, np.sin(y), 0.0, np.cos(y)))
    about_z = Pose.from_quaternion(origin, (0.0, 0.0, np.sin(z), np.cos(z)))
    return about_z @ about_y @ about_x
