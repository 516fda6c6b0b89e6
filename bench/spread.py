"""Samples of several sides, taken in turns, and what is said of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..errors import InvalidArgument, expected

Clock = Callable[[], float]
"""Seconds, of any beginning."""

Sample = Callable[[], float]
"""Does one run and gives its figure."""

SETTLE_S = 0.05
"""Pause after each turn, in which the threads of that side stop to spin: those of ONNX Runtime do for 40 ms."""

STEADY_S = 0.03
"""For so long a side runs before the run that counts."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of some samples."""

    median: float
    low: float
    high: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """Describe the samples.

        Raises
        ------
        InvalidArgument
            There is none.
        """
        if not len(samples):
            raise InvalidArgument(expected("samples", "at least one", "none"))
        low, median, high = np.percentile(np.asarray(samples, dtype=np.float64), (25, 50, 75))
        return cls(float(median), float(low), float(high), len(samples))

    def as_dict(self) -> dict[str, Any]:
        """Give the numbers by name, rounded to four digits that count."""
        return {
            "median": rounded(self.median),
            "quartiles": [rounded(self.low), rounded(self.high)],
            "samples": self.samples,
        }


@dataclass(frozen=True, slots=True)
class Turns:
    """What each side gave in each round."""

    samples: Mapping[str, tuple[float, ...]]

    def __getitem__(self, side: str) -> Spread:
        return Spread.of(self.samples[side])

    def spreads(self, unit: str = "ms") -> dict[str, Spread]:
        """Every side, its unit behind its name."""
        return {f"{side}, {unit}": self[side] for side in self.samples}

    def ratio(self, over: str, under: str) -> Spread:
        """The ratios of two sides, round by round: a machine that is busy for a while slows both down."""
        pairs = zip(self.samples[over], self.samples[under], strict=True)
        return Spread.of([a / b for a, b in pairs])

    def fastest(self) -> str:
        """Name of the side with the least median."""
        return min(self.samples, key=lambda side: self[side].median)


def take_turns(
    sides: Mapping[str, Sample],
    rounds: int,
    *,
    steady_s: float = STEADY_S,
    warm_up: int = 2,
    settle_s: float = SETTLE_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Clock = time.perf_counter,
) -> Turns:
    """Run all sides in turns: A B A B.

    Parameters
    ----------
    sides : name -> one run of it
    rounds : how many samples of each
    steady_s : for so long, seconds, a side runs in its turn before the run that counts, at least once: after a pause
        the first runs wait for CPUs to wake up and for code and data from memory, which in steady work are there. 0:
        the first run counts
    warm_up : rounds before them that do not count
    settle_s, sleep : pause after each turn, seconds
    clock : seconds
    """
    samples: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(-warm_up, rounds):
        for side, sample in sides.items():
            begin = clock()
            while clock() - begin < steady_s:
                sample()
            figure = sample()
            if settle_s > 0:
                sleep(settle_s)
            if number >= 0:
                samples[side].append(figure)
    return Turns({side: tuple(figures) for side, figures in samples.items()})


def wall_ms(run: Callable[[], object], clock: Clock = time.perf_counter) -> Sample:
    """Make a sample of a run: its wall time, milliseconds."""

    def sample() -> float:
        begin = clock()
        run()
        return (clock() - begin) * 1e3

    return sample


def rounded(value: float) -> float:
    """To four digits that count."""
    return float(f"{value:.4g}")
