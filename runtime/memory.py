"""When what is remembered may be carried into the next step, and along which motion."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

    def forget(self, reason: str) -> None:
        """Begin anew at the next step, for this reason."""
        self._forgotten = reason

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


class Continuity:
    """Since when one network or cast-out has the state that it has, and which set it last took into it.

    It begins anew with everything else (see :class:`Memory`), and alone when it takes part for the first time, or when
    it could take in nothing for longer than `max_gap_s`.

    Parameters
    ----------
    what : names it in reasons
    max_gap_s : positive
    """

    def __init__(self, what: str, max_gap_s: float) -> None:
        self._what = what
        self._max_gap_s = max_gap_s
        self._now_ns = 0
        self._began_ns: int | None = None
        self._taken_ns = 0

    def follow(self, timestamp_ns: int, whole: StateStatus) -> StateStatus:
        """Take the next step.

        Parameters
        ----------
        whole : what :class:`Memory` says about everything that is carried

        Returns
        -------
        The status of this one; not `carried` when it must begin anew.
        """
        self._now_ns = timestamp_ns
        reason = whole.reset_reason if not whole.carried else self._own_reason()
        if reason is not None or self._began_ns is None:
            self._began_ns = self._taken_ns = timestamp_ns
            return StateStatus(False, reason, 0)
        return replace(whole, age_ns=timestamp_ns - self._began_ns)

    def take_in(self) -> None:
        """Say that the set of the latest :meth:`follow` went into the state."""
        self._taken_ns = self._now_ns

    def take_over(self, before: Continuity) -> None:
        """Go on where another one was."""
        self._now_ns, self._began_ns, self._taken_ns = before._now_ns, before._began_ns, before._taken_ns

    def _own_reason(self) -> str | None:
        if self._began_ns is None:
            return f"{self._what}: not wanted before"
        untaken_s = (self._now_ns - self._taken_ns) / 1e9
        if untaken_s > self._max_gap_s:
            return f"{self._what}: nothing usable for {untaken_s:.3f} s"
        return None
