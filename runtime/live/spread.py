"""Percentiles of what took how long lately."""

from __future__ import annotations

from typing import Final

import numpy as np

from ...errors import InvalidArgument, expected
from .health import Spread

WINDOW: Final = 512


class RollingSpread:
    """Collects durations and tells their percentiles over the latest of them.

    Adding is cheap and takes no memory. One thread may add while others ask.

    Parameters
    ----------
    window : so many durations are kept
    """

    def __init__(self, window: int = WINDOW) -> None:
        if window < 1:
            raise InvalidArgument(expected("window", "at least 1", window))
        self._values_ns = np.zeros(window, np.float64)
        self._window = window
        self._count = 0

    @property
    def count(self) -> int:
        """Durations that were added since the start."""
        return self._count

    def add(self, duration_ns: int) -> None:
        """Take a duration, nanoseconds; below 0 where two clocks differ."""
        self._values_ns[self._count % self._window] = duration_ns
        self._count += 1

    def spread(self) -> Spread | None:
        """The percentiles now, by nearest rank: each is a duration that occurred. None before the first one."""
        count = self._count
        if count == 0:
            return None
        values_ms = np.sort(self._values_ns[: min(count, self._window)]) / 1e6
        p50, p99 = (values_ms[-(-len(values_ms) * percent // 100) - 1] for percent in (50, 99))
        return Spread(count, float(p50), float(p99), float(values_ms[-1]))
