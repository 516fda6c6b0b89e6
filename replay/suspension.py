"""How the body of the ego moves on its springs: it dives, squats, leans and trembles."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fusion.pose import Pose
from .traffic import STEP_S

Array = NDArray[np.float64]

PITCH_DEG_PER_MPS2: Final = 0.13
"""How far the nose dips per m/s² of braking; an ordinary car dips about 1.3 degrees at 1 g."""

ROLL_DEG_PER_MPS2: Final = 0.36
"""How far the body leans outwards per m/s² of lateral acceleration."""

CENTRE_M: Final = (1.4, 0.0, 0.45)
"""Point of the ego frame about which the body turns."""

_SETTLING_S: Final = 0.25
_TREMBLE_DEG: Final = 0.05
_TREMBLE_HZ: Final = (1.2, 1.7, 2.6, 4.1)


class Suspension:
    """The tilt of the ego's body over time.

    Parameters
    ----------
    rng : decides how the road shakes the body
    speed_mps, yaw_rate_rps : float64 [n], of the ego, every :data:`octobev.replay.traffic.STEP_S`
    """

    def __init__(self, rng: np.random.Generator, speed_mps: Array, yaw_rate_rps: Array) -> None:
        forward, left = np.gradient(speed_mps, STEP_S), speed_mps * yaw_rate_rps
        self._pitch_deg = -PITCH_DEG_PER_MPS2 * _settled(forward)
        self._roll_deg = ROLL_DEG_PER_MPS2 * _settled(left)
        self._speed_mps = speed_mps
        self._phases = rng.uniform(0, 2 * np.pi, (2, len(_TREMBLE_HZ)))

    def tilt_rad(self, time_s: float) -> tuple[float, float]:
        """Roll (left side up) and pitch (nose down) at a time, radians."""
        at = time_s / STEP_S
        steps = np.arange(len(self._speed_mps))
        roll, pitch, speed = (
            float(np.interp(at, steps, q)) for q in (self._roll_deg, self._pitch_deg, self._speed_mps)
        )
        waves = np.sin(2 * np.pi * np.array(_TREMBLE_HZ) * time_s + self._phases)
        shake = _TREMBLE_DEG * min(speed / 8.0, 1.0) * waves.mean(axis=1) * np.sqrt(len(_TREMBLE_HZ) * 2)
        return float(np.radians(roll + shake[0])), float(np.radians(pitch + shake[1]))

    def ego_from_body(self, time_s: float, scale: float = 1.0) -> Pose:
        """Where the body is in the ego frame, which stays level; `scale` times as far as an ordinary car."""
        roll, pitch = (scale * angle for angle in self.tilt_rad(time_s))
        turn = np.eye(4)
        turn[:3, :3] = cv2.Rodrigues(np.array([roll, pitch, 0.0]))[0]
        centre = np.array(CENTRE_M)
        turn[:3, 3] = centre - turn[:3, :3] @ centre
        return Pose(turn)


def _settled(acceleration: Array) -> Array:
    """Accelerations [n] as springs and dampers pass them on: smoothed."""
    half = int(np.ceil(3 * _SETTLING_S / STEP_S))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) * STEP_S / _SETTLING_S) ** 2)
    return np.convolve(np.pad(acceleration, half, mode="edge"), kernel / kernel.sum(), "valid")
