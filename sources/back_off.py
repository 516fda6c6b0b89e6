"""When to try a source again that failed. Pure: the caller says what time it is and brings the randomness."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from ..errors import InvalidArgument, expected


@dataclass(frozen=True, slots=True)
class BackOff:
    """Waiting times that double with each failure in a row, spread so that cameras do not come back in step.

    Parameters
    ----------
    shortest_s, longest_s : bounds of every waiting time, seconds
    steady_s : a connection that delivered for so long wipes out the failures before it
    """

    shortest_s: float = 0.25
    longest_s: float = 10.0
    steady_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.shortest_s <= self.longest_s:
            raise InvalidArgument(
                expected("waiting times", "positive and in order", f"{self.shortest_s} and {self.longest_s}")
            )

    def delay_s(self, failures: int, chance: float) -> float:
        """Return how long to wait after so many failures in a row.

        Parameters
        ----------
        failures : from 1 on
        chance : from 0 to 1: where in the upper half of what is allowed
        """
        doublings = min(failures, 64)  # 2.0 ** 1100 is no float
        ceiling_s = min(self.longest_s, self.shortest_s * 2.0**doublings)
        return max(self.shortest_s, ceiling_s * (1 + chance) / 2)


class Retries:
    """Counts the failures of one source.

    Parameters
    ----------
    random : gives the spread
    """

    def __init__(self, back_off: BackOff, random: Random) -> None:
        self._back_off: Final = back_off
        self._random: Final = random
        self._delivering_since_ns: int | None = None
        self.failures = 0

    def delivered(self, now_ns: int) -> None:
        """A frame came."""
        if self._delivering_since_ns is None:
            self._delivering_since_ns = now_ns

    def failed(self, now_ns: int) -> int:
        """The connection failed or ended; return when to try again, on the same clock."""
        since_ns, self._delivering_since_ns = self._delivering_since_ns, None
        if since_ns is not None and now_ns - since_ns >= self._back_off.steady_s * 1e9:
            self.failures = 0
        self.failures += 1
        return now_ns + round(self._back_off.delay_s(self.failures, self._random.random()) * 1e9)
