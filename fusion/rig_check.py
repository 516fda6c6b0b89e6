"""Finding wrong calibrations: what in a rig no real vehicle can have.

A finding is about one camera or about the rig. The checks are geometric: they need a rig and no image. What only the
eye can judge is in the picture, see :mod:`octobev.replay.rig_picture`; images against a rig:
:mod:`octobev.replay.image_check`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from .grid import BevGrid
from .lens import LensModel
from .pose import Pose
from .rig import Camera, Rig

EGO_OUTLINE_M: Final = (-1.0, 3.8, -0.95, 0.95)
"""x_min, x_max, y_min, y_max of a mid-size car, metres in the ego frame, rear axle at 0."""

COVERAGE_GRID: Final = BevGrid(-30.0, 30.0, -30.0, 30.0, 0.25)
"""Cells in which cameras are counted."""

GROUND_RANGE_M: Final = 60.0
NEAR_RANGE_M: Final = 10.0
HEIGHT_M: Final = (0.2, 5.0)
REACH_M: Final = 15.0
FOV_DEG: Final = (8.0, 220.0)
WIDEST_PINHOLE_DEG: Final = 150.0
ABSURD_PINHOLE_DEG: Final = 170.0
ASPECT: Final = (0.9, 1.1)
CENTRE_OFFSET: Final = 0.15
ROLL_DEG: Final = 15.0
LEAST_GROUND: Final = 0.05
BLIND_SECTOR_DEG: Final = 10.0

_SECTOR_DEG: Final = 3

_BODY_FROM_OPTICAL: Final = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_GRAPHICS_FROM_OPTICAL: Final = np.diag([1.0, -1.0, -1.0])


class Severity(StrEnum):
    """How sure it is that something is wrong."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that looks wrong.

    check : name of the check, stable, for programs
    camera : the camera, None when it is about the rig
    message : for people: what was expected and what is there
    value : the measured value, in the unit that the message gives; None where there is none
    """

    severity: Severity
    check: str
    camera: str | None
    message: str
    value: float | None = None

    def __str__(self) -> str:
        return f"{self.severity}: {self.camera or 'rig'}: {self.message} [{self.check}]"


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """How many cameras see each cell of the ground.

    count : uint8 [nx, ny] on `grid`
    near_seen : share of the ground within :data:`NEAR_RANGE_M` of the ego origin, without the car itself, that at least
        one camera sees, 0..1
    blind_sectors_deg : directions in which nobody sees anything of the ground from 5 to 10 m, (from, to) counted to the
        left from straight ahead
    """

    grid: BevGrid
    count: NDArray[np.uint8]
    near_seen: float
    blind_sectors_deg: tuple[tuple[float, float], ...]


def check_rig(rig: Rig) -> tuple[Finding, ...]:
    """Look for everything that is wrong with a rig.

    Parameters
    ----------
    rig : at least one camera

    Returns
    -------
    findings : errors first, then in rig order; empty when nothing looks wrong
    """
    findings = check_cameras(rig)
    if not any(finding.severity is Severity.ERROR for finding in findings):
        findings += tuple(_check_blind_sectors(measure_coverage(rig)))
    return findings


def check_cameras(rig: Rig) -> tuple[Finding, ...]:
    """Look for what is wrong with single cameras: every error of :func:`check_rig`, and warnings about one camera."""
    findings: list[Finding] = []
    for camera in rig:
        findings += _check_lens(camera)
        mounting = list(_check_axes(camera))
        findings += mounting or [*_check_place(camera), *_check_view(camera), *_check_name(camera, rig)]
    findings += _check_twins(rig)
    return tuple(sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR))


def unreadable(error: CalibrationError) -> Finding:
    """Report a rig that cannot even be read, for example for a rotation that is not orthonormal."""
    return Finding(Severity.ERROR, "calibration", None, str(error))


def measure_coverage(rig: Rig, grid: BevGrid = COVERAGE_GRID) -> Coverage:
    """Count the cameras that see the ground in each cell; nothing is thought to stand in the way."""
    centres = grid.centres()
    count = np.zeros(grid.shape, dtype=np.uint8)
    for camera in rig:
        count += sees_ground(camera, centres)
    x, y = centres[..., 0], centres[..., 1]
    distance = np.hypot(x, y)
    x0, x1, y0, y1 = EGO_OUTLINE_M
    outside_car = (x < x0) | (x > x1) | (y < y0) | (y > y1)
    near = (distance <= NEAR_RANGE_M) & outside_car
    ring = near & (distance >= NEAR_RANGE_M / 2)
    sector = (np.degrees(np.arctan2(y, x)) % 360.0 / _SECTOR_DEG).astype(np.int64)
    seen = np.bincount(sector[ring], weights=count[ring] > 0, minlength=360 // _SECTOR_DEG) > 0
    near_seen = float((count[near] > 0).mean()) if near.any() else 0.0
    return Coverage(grid, count, near_seen, tuple(_sectors(~seen)))


def sees_ground(camera: Camera, ground_xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a camera has the ground points [..., 2] (metres, ego frame) in its image, bool [...]."""
    points = np.concatenate([ground_xy, np.zeros((*ground_xy.shape[:-1], 1))], axis=-1)
    if camera.ego_from_camera.translation_m[2] <= 0:
        return np.zeros(ground_xy.shape[:-1], dtype=np.bool_)
    return camera.intrinsics.project(camera.ego_from_camera.inverse().apply(points))[1]


def view_angles_deg(pose: Pose) -> tuple[float, float, float]:
    """Return yaw (left positive) and pitch (up positive) of the optical axis and roll about it, degrees.

    Roll is 0 when image "up" points up, 180 when the image is upside down; clockwise positive as seen by the camera.
    """
    right, down, axis = pose.rotation.T
    yaw, pitch = math.atan2(axis[1], axis[0]), math.asin(float(np.clip(axis[2], -1.0, 1.0)))
    return math.degrees(yaw), math.degrees(pitch), math.degrees(math.atan2(-right[2], -down[2]))


def _check_lens(camera: Camera) -> Iterator[Finding]:
    lens = camera.intrinsics
    for axis, fov in zip(("horizontal", "vertical"), lens.fov_deg, strict=True):
        if not FOV_DEG[0] <= fov <= FOV_DEG[1]:
            yield Finding(
                Severity.ERROR,
                "focal_length",
                camera.name,
                f"{axis} field of view must be {FOV_DEG[0]:g} to {FOV_DEG[1]:g} degrees, got {fov:.1f} "
                f"(fx {lens.fx:g}, fy {lens.fy:g}, image {lens.width}x{lens.height})",
                fov,
            )
        elif lens.model is LensModel.PINHOLE and fov > WIDEST_PINHOLE_DEG:
            yield Finding(
                Severity.ERROR if fov > ABSURD_PINHOLE_DEG else Severity.WARNING,
                "focal_length",
                camera.name,
                f"{axis} field of view of a pinhole must be at most {WIDEST_PINHOLE_DEG:g} degrees, got {fov:.1f}; "
                "is the distortion missing?",
                fov,
            )
    ratio = lens.fx / lens.fy
    if not ASPECT[0] <= ratio <= ASPECT[1]:
        message = f"fx / fy must be {ASPECT[0]:g} to {ASPECT[1]:g}, got {ratio:.3f}"
        yield Finding(Severity.WARNING, "focal_ratio", camera.name, message, ratio)
    yield from _check_centre(camera)


def _check_centre(camera: Camera) -> Iterator[Finding]:
    lens = camera.intrinsics
    offset = max(abs((lens.cx + 0.5) / lens.width - 0.5), abs((lens.cy + 0.5) / lens.height - 0.5))
    if offset > CENTRE_OFFSET:
        outside = offset > 0.35
        yield Finding(
            Severity.ERROR if outside else Severity.WARNING,
            "principal_point",
            camera.name,
            f"principal point must be within {CENTRE_OFFSET:.0%} of the image size of its centre, got "
            f"({lens.cx:.1f}, {lens.cy:.1f}) in {lens.width}x{lens.height}"
            + ("; are the intrinsics those of another resolution?" if outside else ""),
            offset,
        )


def _check_axes(camera: Camera) -> Iterator[Finding]:
    """Look for mistakes that explain the whole mounting: nothing else is said about it then."""
    pose = camera.ego_from_camera
    farthest = float(np.abs(pose.translation_m).max())
    if farthest > 2 * REACH_M:
        message = f"mounting must be in metres, within {2 * REACH_M:g} of the ego origin, got {farthest:.6g}"
        yield Finding(Severity.ERROR, "units", camera.name, message, farthest)
        return
    if _plausible(pose):
        return
    _, pitch, roll = view_angles_deg(pose)
    if abs(roll) > 135 and abs(pitch) < 60 and _plausible(_turned(pose, _GRAPHICS_FROM_OPTICAL)):
        message = (
            f"image must be upright, got roll {roll:.0f} degrees: it is upside down, or the camera axes have y up and "
            "z backward instead of y down and z forward"
        )
        yield Finding(Severity.ERROR, "upside_down", camera.name, message, roll)
    elif _plausible(pose.inverse()):
        x, y, z = pose.translation_m
        message = (
            "mounting must be ego_from_camera, got one that fits only as camera_from_ego: as it stands the camera is "
            f"at ({x:.2f}, {y:.2f}, {z:.2f}) m with roll {roll:.0f} degrees; its inverse is upright above the ground"
        )
        yield Finding(Severity.ERROR, "inverted_transform", camera.name, message, float(z))
    elif _plausible(_turned(pose, _BODY_FROM_OPTICAL)):
        message = (
            "camera axes must be optical (x right, y down, z forward), got axes that fit x forward, y left, z up: "
            f"as they stand the optical axis has pitch {pitch:.0f} and roll {roll:.0f} degrees"
        )
        yield Finding(Severity.ERROR, "axis_convention", camera.name, message, pitch)


def _turned(pose: Pose, given_from_optical: NDArray[np.float64]) -> Pose:
    matrix = pose.matrix.copy()
    matrix[:3, :3] = pose.rotation @ given_from_optical
    return Pose(matrix)


def _plausible(pose: Pose) -> bool:
    """Upright, above the ground, near the car, and not looking far from level."""
    x, y, z = pose.translation_m
    _, pitch, roll = view_angles_deg(pose)
    return 0.0 < z <= HEIGHT_M[1] and max(abs(x), abs(y)) <= REACH_M and abs(roll) < 45 and -70 < pitch < 35


def _check_place(camera: Camera) -> Iterator[Finding]:
    x, y, z = (float(value) for value in camera.ego_from_camera.translation_m)
    if not HEIGHT_M[0] <= z <= HEIGHT_M[1]:
        where = "below the ground" if z < 0 else "on the ground" if z < HEIGHT_M[0] else "very high"
        yield Finding(
            Severity.ERROR if z <= 0 else Severity.WARNING,
            "height",
            camera.name,
            f"height above the ground must be {HEIGHT_M[0]:g} to {HEIGHT_M[1]:g} m, got {z:.2f} m ({where})",
            z,
        )
    if max(abs(x), abs(y)) > REACH_M:
        message = f"mounting must be within {REACH_M:g} m of the ego origin, got ({x:.2f}, {y:.2f}) m"
        yield Finding(Severity.WARNING, "far_away", camera.name, message, max(abs(x), abs(y)))


def _check_view(camera: Camera) -> Iterator[Finding]:
    _, pitch, roll = view_angles_deg(camera.ego_from_camera)
    if abs(roll) > ROLL_DEG and abs(pitch) < 60:
        severity = Severity.ERROR if abs(roll) > 45 else Severity.WARNING
        message = f"roll must be within {ROLL_DEG:g} degrees, got {roll:.0f}"
        yield Finding(severity, "roll", camera.name, message, roll)
    share = _ground_share(camera)
    if share == 0.0:
        looks = (
            "at the sky" if pitch > 0 else "underground" if camera.ego_from_camera.translation_m[2] <= 0 else "past it"
        )
        yield Finding(
            Severity.ERROR,
            "no_ground",
            camera.name,
            f"some ground within {GROUND_RANGE_M:g} m must be in view, got none: the camera looks {looks} "
            f"(pitch {pitch:.1f} degrees)",
            pitch,
        )
    elif share < LEAST_GROUND:
        message = (
            f"ground must fill at least {LEAST_GROUND:.0%} of the image, got {share:.1%} (pitch {pitch:.1f} degrees)"
        )
        yield Finding(Severity.WARNING, "little_ground", camera.name, message, share)


def _ground_share(camera: Camera) -> float:
    """Share of the image whose rays meet the ground within :data:`GROUND_RANGE_M`."""
    lens = camera.intrinsics
    u, v = np.meshgrid((np.arange(48) + 0.5) / 48 * lens.width - 0.5, (np.arange(48) + 0.5) / 48 * lens.height - 0.5)
    rays, valid = lens.unproject(np.stack((u, v), axis=-1))
    origin = camera.ego_from_camera.translation_m
    down = -(rays @ camera.ego_from_camera.rotation.T)[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = valid & (down > 0) & (origin[2] / down <= GROUND_RANGE_M) & (origin[2] > 0)
    return float(hits.mean())


_SIDES: Final = (
    ("left", re.compile("left"), 1, 1.0),
    ("right", re.compile("(?<!b)right"), 1, -1.0),
    ("front", re.compile("front|forward"), 0, 1.0),
    ("rear", re.compile("rear|back(?!up)"), 0, -1.0),
)
"""Side, its names, axis of the ego frame and sign on that axis."""

_CLEARLY_M: Final = (0.1, 0.05)
"""How far off the middle a camera sits when it sits clearly on a side, in x and in y."""


def _check_name(camera: Camera, rig: Rig) -> Iterator[Finding]:
    """Compare the side that a name says with where the camera looks and where it sits."""
    mounting = camera.ego_from_camera
    x_of_all = [float(other.ego_from_camera.translation_m[0]) for other in rig]
    middle = ((min(x_of_all) + max(x_of_all)) / 2, 0.0)
    for name, pattern, index, sign in _SIDES:
        if not pattern.search(camera.name.lower()):
            continue
        looks = sign * float(mounting.rotation[index, 2])
        sits = sign * float(mounting.translation_m[index] - middle[index])
        if looks < -0.17 and sits < _CLEARLY_M[index] and not (sits > 0 and looks > -0.5):
            yaw, (x, y, _) = view_angles_deg(mounting)[0], mounting.translation_m
            message = (
                f"a camera named {name} must look or sit to the {name}, got yaw {yaw:.0f} degrees "
                f"at x {x:.2f}, y {y:.2f} m; are names swapped?"
            )
            yield Finding(Severity.ERROR, "name", camera.name, message, yaw)


def _check_twins(rig: Rig) -> Iterator[Finding]:
    """Two cameras of one lens at one pose: a calibration copied to the wrong name."""
    cameras = list(rig)
    for i, first in enumerate(cameras):
        for second in cameras[i + 1 :]:
            between = first.ego_from_camera.inverse() @ second.ego_from_camera
            apart_m = float(np.linalg.norm(between.translation_m))
            angle = math.degrees(2 * math.acos(min(1.0, float(between.quaternion_xyzw[3]))))
            same_lens = abs(first.intrinsics.fx / second.intrinsics.fx - 1) < 0.05
            if apart_m < 0.01 and angle < 1.0 and same_lens:
                apart = f"{apart_m * 1e3:.0f} mm and {angle:.2f} degrees apart"
                message = f"must be mounted elsewhere than {first.name}, got {apart}"
                yield Finding(Severity.ERROR, "duplicate", second.name, message, apart_m)


def _check_blind_sectors(coverage: Coverage) -> Iterator[Finding]:
    for start, stop in coverage.blind_sectors_deg:
        if stop - start >= BLIND_SECTOR_DEG:
            message = (
                f"the ground from {NEAR_RANGE_M / 2:g} to {NEAR_RANGE_M:g} m must be seen all around, got nobody who "
                f"sees {start:.0f} to {stop:.0f} degrees (to the left from straight ahead)"
            )
            yield Finding(Severity.WARNING, "blind_sector", None, message, stop - start)


def _sectors(blind: NDArray[np.bool_]) -> Iterator[tuple[float, float]]:
    """Join blind sectors to runs, degrees; a run across straight ahead starts below zero."""
    if blind.all():
        yield 0.0, 360.0
        return
    first_seen = int(np.argmin(blind))
    turned = np.concatenate([[False], np.roll(blind, -first_seen), [False]])
    for start, stop in np.flatnonzero(np.diff(turned.astype(np.int8))).reshape(-1, 2).tolist():
        start_deg = (start + first_seen) * _SECTOR_DEG % 360
        stop_deg = start_deg + (stop - start) * _SECTOR_DEG
        turn = 360 if stop_deg > 360 else 0
        yield float(start_deg - turn), float(stop_deg - turn)
