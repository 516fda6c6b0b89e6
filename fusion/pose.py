"""Rigid transforms and trajectories.

Every transform is named `target_from_source` and maps points of the source frame to the target frame; chains read by
adjacent names: `world_from_camera = world_from_ego @ ego_from_camera`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import CalibrationError, InvalidArgument, expected

_LAST_ROW: Final = np.array([[0.0] * 4] * 3 + [[0.0, 0.0, 0.0, 1.0]])
_EXACT: Final = 1e-12
"""Largest entry of |R Rᵀ - I| of a rotation that is left as it is."""
_ZERO_TOLERANCE: Final = 1e-9
_ONE_TOLERANCE: Final = 1e-9 + 1e-5

ORTHONORMAL_TOLERANCE = 1e-3
"""Largest accepted entry of |R Rᵀ - I|; calibrations are often written with four decimals."""


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """A rigid transform `target_from_source`.

    Parameters
    ----------
    matrix : float64 [4, 4], copied and made read-only
        Homogeneous matrix, metres. A rotation within :data:`ORTHONORMAL_TOLERANCE` of orthonormal is replaced by the
        nearest rotation (SVD, Schönemann 1966).

    Raises
    ------
    CalibrationError
        Not finite, last row not 0 0 0 1, rotation not orthonormal or a mirror image (determinant -1).
    """

    matrix: NDArray[np.float64]

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4):
            raise CalibrationError(expected("transform", "a 4x4 matrix", f"shape {matrix.shape}"))
        numbers = matrix.ravel().tolist()  # a step makes dozens of poses: plain numbers are checked in half the time
        if not all(map(math.isfinite, numbers)):
            raise CalibrationError(expected("transform", "finite", matrix.tolist()))
        a, b, c, one = numbers[12:]
        if max(abs(a), abs(b), abs(c)) > _ZERO_TOLERANCE or abs(one - 1.0) > _ONE_TOLERANCE:
            raise CalibrationError(expected("last row of a transform", "0 0 0 1", numbers[12:]))
        x, y, z = numbers[0:3], numbers[4:7], numbers[8:11]
        error = _orthonormal_error(x, y, z)
        if error > ORTHONORMAL_TOLERANCE:
            raise CalibrationError(
                expected("rotation", f"orthonormal within {ORTHONORMAL_TOLERANCE:g}", f"an error of {error:.3g}")
            )
        if _determinant(x, y, z) < 0:
            raise CalibrationError(expected("rotation", "right-handed", "a mirror image (determinant -1)"))
        if error > _EXACT:
            u, _, vt = np.linalg.svd(matrix[:3, :3])
            matrix[:3, :3] = u @ vt
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def identity(cls) -> Pose:
        """Return the transform that changes nothing."""
        return cls(np.eye(4))

    @classmethod
    def from_quaternion(cls, translation_m: ArrayLike, quaternion_xyzw: ArrayLike) -> Pose:
        """Build from a translation [3] in metres and a quaternion in x, y, z, w order (normalised here)."""
        x, y, z, w = _unit_quaternion(quaternion_xyzw)
        matrix = np.eye(4)
        matrix[:3, :3] = (
            (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
            (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
            (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
        )
        translation = np.asarray(translation_m, dtype=np.float64)
        if translation.shape != (3,):
            raise CalibrationError(expected("translation", "three numbers x, y, z", f"shape {translation.shape}"))
        matrix[:3, 3] = translation
        return cls(matrix)

    @classmethod
    def planar(cls, x_m: float, y_m: float, yaw_rad: float) -> Pose:
        """Build a motion in the ground plane: translation x, y and a turn to the left by `yaw_rad`."""
        cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
        return cls(np.array([[cos, -sin, 0, x_m], [sin, cos, 0, y_m], [0, 0, 1, 0], [0, 0, 0, 1]]))

    @property
    def rotation(self) -> NDArray[np.float64]:
        """Rotation matrix, float64 [3, 3], read-only view."""
        return self.matrix[:3, :3]

    @property
    def translation_m(self) -> NDArray[np.float64]:
        """Origin of the source frame in the target frame, float64 [3], read-only view, metres."""
        return self.matrix[:3, 3]

    @property
    def yaw_rad(self) -> float:
        """Heading of the source x axis in the target's x-y plane, radians, to the left positive."""
        return float(np.arctan2(self.matrix[1, 0], self.matrix[0, 0]))

    @property
    def quaternion_xyzw(self) -> NDArray[np.float64]:
        """Unit quaternion x, y, z, w with w >= 0 (Shepperd 1978: the largest component is found first)."""
        r = self.rotation
        squares = np.array(
            [
                1 + r[0, 0] - r[1, 1] - r[2, 2],
                1 - r[0, 0] + r[1, 1] - r[2, 2],
                1 - r[0, 0] - r[1, 1] + r[2, 2],
                1 + r[0, 0] + r[1, 1] + r[2, 2],
            ]
        )
        products = np.array(
            [
                [squares[0], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
                [r[0, 1] + r[1, 0], squares[1], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
                [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], squares[2], r[1, 0] - r[0, 1]],
                [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], squares[3]],
            ]
        )
        quaternion: NDArray[np.float64] = products[int(np.argmax(squares))]
        quaternion = quaternion / np.linalg.norm(quaternion)
        return quaternion if quaternion[3] >= 0 else -quaternion

    def inverse(self) -> Pose:
        """`source_from_target`."""
        turned = self.matrix[:3, :3].T
        matrix = _LAST_ROW.copy()
        matrix[:3, :3] = turned
        matrix[:3, 3] = -turned @ self.matrix[:3, 3]
        return _rigid(matrix)

    def __matmul__(self, other: Pose) -> Pose:
        return _rigid(self.matrix @ other.matrix)

    def apply(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points [..., 3] of the source frame to the target frame."""
        return points @ self.rotation.T + self.translation_m


class Trajectory:
    """Where the ego was: `world_from_ego` over time, interpolated.

    Parameters
    ----------
    timestamps_ns : int64 [n], strictly increasing, nanoseconds since the epoch
    poses : n poses `world_from_ego`
    extrapolate_ns
        How far before the first and after the last pose a pose may still be had, at the velocity of the nearest two.
        With a single pose it is held for as long. Beyond this :meth:`at` returns None: no pose is invented.
    """

    def __init__(self, timestamps_ns: ArrayLike, poses: Sequence[Pose], *, extrapolate_ns: int = 100_000_000) -> None:
        times = np.array(timestamps_ns, dtype=np.int64)
        if times.ndim != 1 or len(times) != len(poses) or len(times) == 0:
            raise InvalidArgument(
                expected("trajectory", "one timestamp for each pose", f"{times.shape} and {len(poses)}")
            )
        if (np.diff(times) <= 0).any():
            raise InvalidArgument(expected("timestamps of a trajectory", "strictly increasing", "a step backwards"))
        times.flags.writeable = False
        self.timestamps_ns = times
        self.poses = tuple(poses)
        self.extrapolate_ns = extrapolate_ns

    def __len__(self) -> int:
        return len(self.poses)

    def at(self, timestamp_ns: int) -> Pose | None:
        """`world_from_ego` at a time, or None where the trajectory does not reach."""
        times = self.timestamps_ns
        outside_ns = max(int(times[0]) - timestamp_ns, timestamp_ns - int(times[-1]), 0)
        if outside_ns > self.extrapolate_ns:
            return None
        if len(times) == 1:
            return self.poses[0]
        after = int(np.clip(np.searchsorted(times, timestamp_ns), 1, len(times) - 1))
        span_ns = int(times[after]) - int(times[after - 1])
        fraction = (timestamp_ns - int(times[after - 1])) / span_ns
        return interpolate(self.poses[after - 1], self.poses[after], fraction)


def _rigid(matrix: NDArray[np.float64]) -> Pose:
    """A pose of a matrix made of poses alone, of which only what rounding did is looked at; a step makes dozens."""
    x, y, z, _ = matrix.tolist()
    if not (math.isfinite(x[3] + y[3] + z[3]) and _orthonormal_error(x, y, z) <= _EXACT):
        return Pose(matrix)
    pose = object.__new__(Pose)
    matrix.flags.writeable = False
    object.__setattr__(pose, "matrix", matrix)
    return pose


def _orthonormal_error(x: list[float], y: list[float], z: list[float]) -> float:
    """Largest entry of |R Rᵀ - I| of three rows, of which a fourth number is not looked at."""
    (a, b, c), (d, e, f), (g, h, i) = x[:3], y[:3], z[:3]
    return max(
        abs(a * a + b * b + c * c - 1),
        abs(d * d + e * e + f * f - 1),
        abs(g * g + h * h + i * i - 1),
        abs(a * d + b * e + c * f),
        abs(a * g + b * h + c * i),
        abs(d * g + e * h + f * i),
    )


def _determinant(x: list[float], y: list[float], z: list[float]) -> float:
    """Of three rows; LAPACK takes longer to begin than this to end."""
    return x[0] * (y[1] * z[2] - y[2] * z[1]) - x[1] * (y[0] * z[2] - y[2] * z[0]) + x[2] * (y[0] * z[1] - y[1] * z[0])


def interpolate(start: Pose, stop: Pose, fraction: float) -> Pose:
    """Pose between two: translation linear, rotation slerp (Shoemake 1985).

    A `fraction` outside 0..1 extrapolates at constant velocity.
    """
    a, b = start.quaternion_xyzw, stop.quaternion_xyzw
    cosine = float(np.clip(a @ b, -1.0, 1.0))
    if cosine < 0:
        b, cosine = -b, -cosine
    angle = float(np.arccos(cosine))
    if angle < 1e-9:
        quaternion = a + fraction * (b - a)
    else:
        quaternion = (np.sin((1 - fraction) * angle) * a + np.sin(fraction * angle) * b) / np.sin(angle)
    translation = start.translation_m + fraction * (stop.translation_m - start.translation_m)
    return Pose.from_quaternion(translation, quaternion)


def _unit_quaternion(quaternion_xyzw: ArrayLike) -> NDArray[np.float64]:
    quaternion = np.asarray(quaternion_xyzw, dtype=np.float64)
    if quaternion.shape != (4,):
        raise CalibrationError(expected("quaternion", "four numbers x, y, z, w", f"shape {quaternion.shape}"))
    norm = float(np.linalg.norm(quaternion))
    if not np.isfinite(norm) or abs(norm - 1.0) > 1e-2:
        raise CalibrationError(expected("quaternion", "of length 1 within 0.01", f"length {norm:.6g}"))
    return quaternion / norm
