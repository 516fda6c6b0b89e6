"""Faults put on purpose between a drive and a runtime: cameras that fail, mountings and odometry that are wrong.

The drive's truth stays as it is. What a runtime makes of a disturbed drive says how much the fault costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InvalidArgument, expected
from ..fusion.pose import Pose
from ..fusion.rig import Camera, Rig
from ..runtime.frames import FrameSet
from ..runtime.images import load_opencv

cv2: Any = load_opencv()

LEFT_OUT: Final = "left out of the evaluation"


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What is wrong, and by how much. Equal values disturb a drive equally.

    without_cameras : their frames are taken away; the runtime knows the cameras and finds them absent
    pitch_deg : every camera is taken to look this much farther down than it does
    mounting_deg : standard deviation of a random turn of each camera's mounting about each of its axes, fixed over the
        drive
    odometry_percent : standard deviation of the error of each step's length, percent of it
    odometry_deg : standard deviation of the error of each step's turn, degrees
    seed : of the random errors
    """

    without_cameras: tuple[str, ...] = ()
    pitch_deg: float = 0.0
    mounting_deg: float = 0.0
    odometry_percent: float = 0.0
    odometry_deg: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not np.isfinite(self.pitch_deg):
            raise InvalidArgument(expected("pitch_deg", "finite", self.pitch_deg))
        for name in ("mounting_deg", "odometry_percent", "odometry_deg"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise InvalidArgument(expected(name, "finite and not negative", value))

    def values(self) -> dict[str, Any]:
        """The values by name, for a report."""
        return {**asdict(self), "without_cameras": list(self.without_cameras)}

    def rig(self, rig: Rig) -> Rig:
        """The calibration as the runtime is to believe it.

        Raises
        ------
        RigError
            A camera that is to be left out is not in the rig.
        """
        for name in self.without_cameras:
            rig[name]
        if not self.pitch_deg and not self.mounting_deg:
            return rig
        rng = np.random.default_rng([self.seed, 1])
        turns = rng.normal(0.0, self.mounting_deg, (len(rig), 3)) - (self.pitch_deg, 0.0, 0.0)
        cameras = (turned_camera(camera, turn) for camera, turn in zip(rig, turns, strict=True))
        return Rig(tuple(cameras), rig.name)

    def frames(self) -> Callable[[FrameSet], FrameSet]:
        """Make what disturbs the sets of one drive, in their order."""
        return _DisturbedSets(self)


class _DisturbedSets:
    """Takes frames away, and lets the odometry drift."""

    def __init__(self, disturbance: Disturbance) -> None:
        self._disturbance = disturbance
        self._noisy = disturbance.odometry_percent > 0 or disturbance.odometry_deg > 0
        self._rng = np.random.default_rng([disturbance.seed, 2])
        self._true: Pose | None = None
        self._believed = Pose.identity()

    def __call__(self, frame_set: FrameSet) -> FrameSet:
        gone = self._disturbance.without_cameras
        if gone:
            frames = tuple(frame for frame in frame_set.frames if frame.camera not in gone)
            absences = {**frame_set.absences, **dict.fromkeys(gone, LEFT_OUT)}
            frame_set = replace(frame_set, frames=frames, absences=absences)
        return self._drifted(frame_set) if self._noisy else frame_set

    def _drifted(self, frame_set: FrameSet) -> FrameSet:
        """Give the set the pose that an odometry with errors believes in; motion within the set stays right."""
        true = frame_set.world_from_ego
        if true is None:
            self._true = None
            return frame_set
        motion = true if self._true is None else self._wrong(self._true.inverse() @ true)
        self._believed = motion if self._true is None else self._believed @ motion
        self._true = true
        believed_from_true = self._believed @ true.inverse()
        frames = tuple(
            frame if frame.world_from_ego is None
            else replace(frame, world_from_ego=believed_from_true @ frame.world_from_ego)
            for frame in frame_set.frames
        )  # fmt: skip
        return replace(frame_set, frames=frames, world_from_ego=self._believed)

    def _wrong(self, motion: Pose) -> Pose:
        stretch = 1 + self._rng.normal(0.0, self._disturbance.odometry_percent / 100)
        turn = Pose.planar(0.0, 0.0, np.radians(self._rng.normal(0.0, self._disturbance.odometry_deg)))
        matrix = motion.matrix.copy()
        matrix[:3, 3] *= stretch
        return Pose(matrix) @ turn


def turned_camera(camera: Camera, turn_deg: ArrayLike) -> Camera:
    """Turn a camera about its own axes by a rotation vector [3] in degrees; about x, up is positive."""
    matrix = np.eye(4)
    matrix[:3, :3], _ = cv2.Rodrigues(np.radians(np.asarray(turn_deg, dtype=np.float64)))
    return Camera(camera.name, camera.intrinsics, camera.ego_from_camera @ Pose(matrix))
