"""When what is remembered may be carried into the next step, and along which motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..errors import InvalidArgument, expected
from ..fusion.pose import Pose
from .predictions import StateStatus

_FASTEST_M_PER_S: Final = 100.0
_POSE_NOISE_M: Final = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What happened since the step before.

    before_from_now : `ego_before_from_ego_now`
    elapsed_s : time between the two, positive
    """

    before_from_now: Pose
    elapsed_s: float


class Memory:
    """Follows time and pose from step to step and decides whether the state is carried.

    It is not carried over a gap longer than `max_gap_s`, over a step back in time, without a pose at both ends, and not
    over a motion that no car makes (a pose that jumped: a new map, a lost and found localisation).
    """

    def __init__(self, max_gap_s: float) -> None:
        if not max_gap_s > 0:
            raise InvalidArgument(expected("max_gap_s", "positive", max_gap_s))
        self._max_gap_s = max_gap_s
        self._timestamp_ns: int | None = None
        self._world_from_ego: Pose | None = None
        self._began_ns = 0
        self._forgotten: str | None = None

    def follow(self, timestamp_ns: int, world_from_ego: Pose | None) -> tuple[StateStatus, Motion | None]:
        """Take the next step.

        Returns
        -------
        status : what the predictions of the step say about the state
        motion : how the state is to be carried, None when it must begin anew
        """
        reason, motion = self._judge(timestamp_ns, world_from_ego)
        if reason is not None:
            self._began_ns = timestamp_ns
        self._timestamp_ns, self._world_from_ego, self._forgotten = timestamp_ns, world_from_ego, None
        return StateStatus(reason is None, reason, timestamp_ns - self._began_ns), motion

    def forget(self, reason: str) -> StateStatus:
        """Begin anew at the next step, for this reason; returns the status of a step whose state was lost."""
        self._forgotten = reason
        return StateStatus(False, reason, 0)

    def _judge(self, timestamp_ns: int, world_from_ego: Pose | None) -> tuple[str | None, Motion | None]:
        if self._timestamp_ns is None:
            return "first set", None
        if self._forgotten is not None:
            return self._forgotten, None
        elapsed_s = (timestamp_ns - self._timestamp_ns) / 1e9
        if elapsed_s == 0:
            return "time stood still", None
        if elapsed_s < 0:
            return f"time went back by {-elapsed_s:.3f} s", None
        if elapsed_s > self._max_gap_s:
            return f"gap of {elapsed_s:.3f} s", None
        if world_from_ego is None or self._world_from_ego is None:
            return "no ego pose", None
        before_from_now = self._world_from_ego.inverse() @ world_from_ego
        distance_m = float(np.linalg.norm(before_from_now.translation_m))
        if distance_m > _FASTEST_M_PER_S * elapsed_s + _POSE_NOISE_M:
            return f"ego pose jumped by {distance_m:.1f} m in {elapsed_s:.3f} s", None
        return None, Motion(before_from_now, elapsed_s)
