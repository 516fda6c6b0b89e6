"""Notices a stage that does not return."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

from ...errors import InvalidArgument, expected

LIMIT_S: Final = 1.0


class Watchdog:
    """Is told when a stage is entered and left, from any thread, and says which ones have been entered for too long.

    It starts no thread and reads no clock: whoever owns it asks :meth:`stalled` on a timer of its own, outside of the
    stages that it watches. Leave a stage in a `finally`.

    Parameters
    ----------
    limit_s : a stage that has not been left for longer is stuck, seconds
    limits_s : stage -> the same for this stage, where it is another
    """

    def __init__(self, limit_s: float = LIMIT_S, limits_s: Mapping[str, float] | None = None) -> None:
        self._limit_s = limit_s
        self._limits_s = dict(limits_s or {})
        for what, limit in {"limit_s": limit_s, **self._limits_s}.items():
            if not limit > 0:
                raise InvalidArgument(expected(f"limit of {what}" if what != "limit_s" else what, "positive", limit))
        self._lock = threading.Lock()
        self._entered: dict[tuple[str, int], list[int]] = {}

    def entered(self, stage: str, now_ns: int) -> None:
        """Take note that this thread has entered a stage; it may be in the same one several times."""
        with self._lock:
            self._entered.setdefault((stage, threading.get_ident()), []).append(now_ns)

    def left(self, stage: str, now_ns: int) -> int:
        """Take note that this thread has left a stage.

        Returns
        -------
        duration_ns : how long it was in there; 0 when it was not
        """
        key = (stage, threading.get_ident())
        with self._lock:
            times = self._entered.get(key)
            if times is None:
                return 0
            entered_ns = times.pop()
            if not times:
                del self._entered[key]
        return now_ns - entered_ns

    def stalled(self, now_ns: int) -> dict[str, float]:
        """Stages that are stuck -> seconds since they were entered, the longest where several threads are; sorted."""
        with self._lock:
            entered = [(stage, times[0]) for (stage, _), times in self._entered.items()]
        longest: dict[str, float] = {}
        for stage, entered_ns in sorted(entered):
            seconds = (now_ns - entered_ns) / 1e9
            if seconds > self._limits_s.get(stage, self._limit_s):
                longest[stage] = max(seconds, longest.get(stage, 0.0))
        return longest
