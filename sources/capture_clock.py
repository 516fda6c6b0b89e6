"""When an image was taken, on this machine's clock, from what its source says about time.

Pure but for :meth:`Instant.now`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

_PLAUSIBLE_NS: Final = 10_000_000_000
_SENDER_NS: Final = 1_000_000_000
"""A camera's clock that differs more than this from ours is not set: it says nothing about our time."""


class StreamClock:
    """Maps the presentation times of a stream to this machine's monotonic clock.

    A frame takes some time to arrive, never less than the quickest: the least of `arrival - presentation` so far says
    when the stream's clock began, and a frame that was held up on its way is stamped as early as it was taken. The
    least may rise by `drift`, so that the clocks need not run at quite the same speed. When the presentation time
    jumps, it begins anew.

    Parameters
    ----------
    drift : most difference in speed of the two clocks, seconds per second
    jump_ns : a step of the presentation time that much off that of the arrival, or that far back, is a jump
    """

    def __init__(self, *, drift: float = 200e-6, jump_ns: int = 1_000_000_000) -> None:
        self._drift: Final = drift
        self._jump_ns: Final = jump_ns
        self._offset_ns = 0
        self._before: tuple[int, int] | None = None

    def capture_ns(self, presented_ns: int | None, arrived_ns: int) -> int:
        """Return the time of a frame on the clock of its arrival, never later than that; without a time, just that."""
        if presented_ns is None:
            return arrived_ns
        offset_ns = arrived_ns - presented_ns
        if self._before is None or self._jumped(presented_ns, arrived_ns):
            self._offset_ns = offset_ns
        else:
            risen_ns = self._offset_ns + round(self._drift * max(0, arrived_ns - self._before[1]))
            self._offset_ns = min(risen_ns, offset_ns)
        self._before = presented_ns, arrived_ns
        return presented_ns + self._offset_ns

    def _jumped(self, presented_ns: int, arrived_ns: int) -> bool:
        if self._before is None:
            return False
        step_ns = presented_ns - self._before[0]
        return step_ns < -self._jump_ns or step_ns - (arrived_ns - self._before[1]) > self._jump_ns


class Rising:
    """Keeps times in order: one that does not rise becomes the one before plus a nanosecond."""

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def __call__(self, timestamp_ns: int) -> int:
        """Return the time, or the least that is later than the last."""
        if self._last_ns is not None and timestamp_ns <= self._last_ns:
            timestamp_ns = self._last_ns + 1
        self._last_ns = timestamp_ns
        return timestamp_ns


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks of this machine.

    monotonic_ns : does not jump, began anywhere
    wall_ns : since the epoch
    """

    monotonic_ns: int
    wall_ns: int

    @classmethod
    def now(cls) -> Instant:
        """Read both clocks."""
        return cls(time.monotonic_ns(), time.time_ns())

    def wall_of(self, monotonic_ns: int) -> int:
        """Return the wall-clock time of a moment on the monotonic clock."""
        return self.wall_ns + monotonic_ns - self.monotonic_ns

    def wall_of_kernel(self, stamp_ns: int | None) -> int:
        """Return the wall-clock time of a driver's timestamp, of either clock; if it is of neither, of this moment."""
        if stamp_ns is not None:
            if -_PLAUSIBLE_NS <= stamp_ns - self.monotonic_ns <= _SENDER_NS:
                return min(self.wall_of(stamp_ns), self.wall_ns)
            if -_PLAUSIBLE_NS <= stamp_ns - self.wall_ns <= _SENDER_NS:
                return min(stamp_ns, self.wall_ns)
        return self.wall_ns

    def trusts(self, sender_ns: int | None) -> bool:
        """Whether a camera's own wall-clock time is near enough to ours to be meant as the same."""
        return sender_ns is not None and abs(sender_ns - self.wall_ns) <= _SENDER_NS
