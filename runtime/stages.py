"""Wall time per stage of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimes:
    """Sums the wall time of named stages; stages of several threads add up. Appending is atomic, so no lock is held."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, int]] = []

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes."""
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            self._spans.append((stage, time.perf_counter_ns() - start))

    def totals_ms(self) -> dict[str, float]:
        """Milliseconds per stage, in order of first appearance."""
        totals: dict[str, float] = {}
        for stage, elapsed_ns in self._spans:
            totals[stage] = totals.get(stage, 0.0) + elapsed_ns / 1e6
        return totals
