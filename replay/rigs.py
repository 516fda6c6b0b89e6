"""Rigs of synthetic cars: three that differ in the number, the places and the lenses of their cameras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from ..errors import RigError, expected
from ..fusion.lens import Intrinsics, LensModel
from ..fusion.pose import Pose
from ..fusion.rig import Camera, Rig, read_rig

_WIDE_DEG: Final = 100.0
_WIDE_LENS: Final = (0.032, -0.012, 0.003, -0.0006)
_SURROUND_LENS: Final = (-0.018, 0.0012, -0.0004, 0.00002)

_REFERENCE: Final = {
    # x, y, z in metres; yaw (left positive) and pitch (down positive) in degrees; horizontal field of view in degrees
    "front_main": (1.75, 0.03, 1.42, 0.0, 2.5, 50.0),
    "front_wide": (1.75, -0.03, 1.42, 0.0, 5.0, 120.0),
    "front_narrow": (1.75, 0.0, 1.44, 0.0, 0.8, 35.0),
    "left_pillar": (1.15, 0.72, 1.36, 58.0, 4.0, 85.0),
    "right_pillar": (1.15, -0.72, 1.36, -58.0, 4.0, 85.0),
    "left_repeater": (2.45, 0.93, 0.95, 142.0, 3.0, 80.0),
    "right_repeater": (2.45, -0.93, 0.95, -142.0, 3.0, 80.0),
    "rear": (-0.95, 0.0, 1.02, 180.0, 6.0, 110.0),
}

_SIX: Final = {
    "cam_front": (1.70, 0.02, 1.51, 0.0, 0.3, 64.6),
    "cam_front_right": (1.55, -0.49, 1.50, -56.0, 0.4, 64.6),
    "cam_back_right": (1.02, -0.48, 1.56, -110.5, 0.5, 64.6),
    "cam_back": (0.03, 0.0, 1.57, 180.0, 0.4, 89.5),
    "cam_back_left": (1.04, 0.48, 1.59, 108.5, 0.6, 64.6),
    "cam_front_left": (1.52, 0.49, 1.51, 55.5, 0.2, 64.6),
}

_FISHEYE: Final = {
    "front": (3.72, 0.0, 0.66, 0.0, 22.0, 190.0),
    "left": (1.95, 1.02, 1.05, 90.0, 40.0, 190.0),
    "rear": (-1.02, 0.0, 0.92, 180.0, 30.0, 190.0),
    "right": (1.95, -1.02, 1.05, -90.0, 40.0, 190.0),
}


def optical_mounting(
    x_m: float, y_m: float, z_m: float, yaw_deg: float, pitch_deg: float, roll_deg: float = 0.0
) -> Pose:
    """`ego_from_camera` of a camera at a place that looks along a yaw (left positive) and pitch (down positive)."""
    yaw, pitch, roll = np.radians((yaw_deg, pitch_deg, roll_deg))
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), -np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    matrix = np.eye(4)
    matrix[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
    matrix[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
    matrix[:3, 2] = forward
    matrix[:3, 3] = (x_m, y_m, z_m)
    return Pose(matrix)


def reference_rig() -> Rig:
    """The reference rig: eight cameras of 1280x960 pixels; the two widest with lens distortion."""
    cameras = []
    for name, (x, y, z, yaw, pitch, fov) in _REFERENCE.items():
        lens = _kannala_brandt(fov, _WIDE_LENS) if fov > _WIDE_DEG else _pinhole(fov)
        cameras.append(Camera(name, lens, optical_mounting(x, y, z, yaw, pitch)))
    return Rig(tuple(cameras), "reference")


def six_camera_rig() -> Rig:
    """Six undistorted cameras of 1600x900 pixels on the roof, as in nuScenes; the one to the rear is wider."""
    cameras = []
    for name, (x, y, z, yaw, pitch, fov) in _SIX.items():
        cameras.append(Camera(name, _pinhole(fov, 1600, 900, low_px=36.0), optical_mounting(x, y, z, yaw, pitch)))
    return Rig(tuple(cameras), "six")


def fisheye_rig() -> Rig:
    """Four fisheyes of 1280x960 pixels that see 190 degrees across, in the bumpers and mirrors (surround view)."""
    cameras = []
    for name, (x, y, z, yaw, pitch, fov) in _FISHEYE.items():
        cameras.append(Camera(name, _kannala_brandt(fov, _SURROUND_LENS), optical_mounting(x, y, z, yaw, pitch)))
    return Rig(tuple(cameras), "fisheye")


RIGS: Final[dict[str, Callable[[], Rig]]] = {
    "reference": reference_rig,
    "six": six_camera_rig,
    "fisheye": fisheye_rig,
}
"""Rigs that have a name."""


def find_rig(name_or_path: str | Path) -> Rig:
    """Give the rig of a name of :data:`RIGS`, or read a `rig.toml`.

    Raises
    ------
    MissingFile, RigError, CalibrationError
        See :func:`octobev.read_rig`.
    """
    if str(name_or_path) in RIGS:
        return RIGS[str(name_or_path)]()
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.is_file():
        raise RigError(expected("rig", f"{', '.join(RIGS)} or a rig.toml", repr(str(name_or_path))))
    return read_rig(path)


def displaced(rig: Rig, turn_deg: float, shift_m: float, random: np.random.Generator) -> Rig:
    """The rig with every camera turned about its three axes and shifted along them at random.

    Parameters
    ----------
    turn_deg, shift_m : standard deviations for each axis
    """
    cameras = []
    for camera in rig:
        # both are drawn in any case: shifts do not depend on whether there are turns
        turn, shift = np.radians(turn_deg) * random.standard_normal(3), shift_m * random.standard_normal(3)
        matrix = np.eye(4)
        matrix[:3, :3] = cv2.Rodrigues(turn)[0]
        matrix[:3, 3] = shift
        mounting = camera.ego_from_camera @ Pose(matrix) if turn_deg > 0 or shift_m > 0 else camera.ego_from_camera
        cameras.append(Camera(camera.name, camera.intrinsics, mounting))
    return Rig(tuple(cameras), rig.name)


def _pinhole(fov_deg: float, width: int = 1280, height: int = 960, low_px: float = 0.0) -> Intrinsics:
    """Pinhole lens; its optical axis meets the image `low_px` below the middle."""
    focal = width / 2 / np.tan(np.radians(fov_deg) / 2)
    return Intrinsics(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2 + low_px)


def _kannala_brandt(
    fov_deg: float, coefficients: tuple[float, float, float, float], width: int = 1280, height: int = 960
) -> Intrinsics:
    """Kannala-Brandt lens, nearly equidistant, whose horizontal field of view is `fov_deg`."""
    k1, k2, k3, k4 = coefficients
    half = np.radians(fov_deg) / 2
    radius = half * (1 + half**2 * (k1 + half**2 * (k2 + half**2 * (k3 + half**2 * k4))))
    focal = width / 2 / radius
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return Intrinsics(width, height, focal, focal, cx, cy, LensModel.KANNALA_BRANDT, coefficients)
