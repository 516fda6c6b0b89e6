"""Wall time per stage of a step."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageSpan:
    """One stage, once: when and where it ran.

    stage : its name
    cameras : those that it worked for; empty for a stage of the whole set
    thread : name of the thread
    start_ns, duration_ns : on the clock of `time.perf_counter_ns`
    """

    stage: str
    cameras: tuple[str, ...]
    thread: str
    start_ns: int
    duration_ns: int


class StageTimes:
    """Collects the spans of named stages, of several threads. Appending is atomic, so no lock is held."""

    def __init__(self) -> None:
        self._spans: list[StageSpan] = []

    @contextmanager
    def measure(self, stage: str, cameras: Iterable[str] = ()) -> Iterator[None]:
        """Add the time that the block takes."""
        start_ns = time.perf_counter_ns()
        try:
            yield
        finally:
            duration_ns = time.perf_counter_ns() - start_ns
            thread = threading.current_thread().name
            self._spans.append(StageSpan(stage, tuple(cameras), thread, start_ns, duration_ns))

    def spans(self) -> tuple[StageSpan, ...]:
        """What was measured so far, in the order in which it ended."""
        return tuple(self._spans)


def totals_ms(spans: Iterable[StageSpan]) -> dict[str, float]:
    """Milliseconds per stage, in order of first appearance; those of several threads add up."""
    totals: dict[str, float] = {}
    for span in spans:
        totals[span.stage] = totals.get(span.stage, 0.0) + span.duration_ns / 1e6
    return totals
