"""The pace of what was recorded: when its frames are due, and what time they show."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from .capture_clock import Instant

LEAD_NS: Final = 250_000_000
"""Time for the others to open their files before the first frames are due."""


class Pace:
    """Real time from a common start, the first time that anybody asks: what is played with one pace stays in step.

    Parameters
    ----------
    now : both clocks of this machine
    """

    def __init__(self, now: Callable[[], Instant] = Instant.now) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._start: Instant | None = None

    def wait(self, elapsed_ns: int, stop: threading.Event) -> bool:
        """Wait until this much of the recording has passed; False when `stop` was set before."""
        due_ns = self._started().monotonic_ns + LEAD_NS + elapsed_ns
        left_ns = due_ns - self._now().monotonic_ns
        return not (stop.wait(left_ns / 1e9) if left_ns > 0 else stop.is_set())

    def wall_ns(self, elapsed_ns: int) -> int:
        """Return the wall-clock time at which this much of the recording has passed."""
        return self._started().wall_ns + LEAD_NS + elapsed_ns

    def _started(self) -> Instant:
        with self._lock:
            if self._start is None:
                self._start = self._now()
            return self._start
