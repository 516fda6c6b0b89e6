"""Wall time per stage of a step."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
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

    def measure(self, stage: str, cameras: Iterable[str] = ()) -> _Measurement:
        """Add the time that a `with` block takes."""
        return _Measurement(self._spans, stage, tuple(cameras))

    def spans(self) -> tuple[StageSpan, ...]:
        """What was measured so far, in the order in which it ended."""
        return tuple(self._spans)


class _Measurement:
    """A stage while it runs. A class, which costs half of what a generator does: a step measures hundreds."""

    __slots__ = ("_cameras", "_spans", "_stage", "_start_ns")

    def __init__(self, spans: list[StageSpan], stage: str, cameras: tuple[str, ...]) -> None:
        self._spans = spans
        self._stage = stage
        self._cameras = cameras

    def __enter__(self) -> None:
        self._start_ns = time.perf_counter_ns()

    def __exit__(self, *exception: object) -> None:
        duration_ns = time.perf_counter_ns() - self._start_ns
        thread = threading.current_thread().name
        self._spans.append(StageSpan(self._stage, self._cameras, thread, self._start_ns, duration_ns))


def totals_ns(spans: Iterable[StageSpan]) -> dict[str, int]:
    """Nanoseconds per stage, in order of first appearance; those of several threads add up."""
    totals: dict[str, int] = {}
    for span in spans:
        totals[span.stage] = totals.get(span.stage, 0) + span.duration_ns
    return totals


def totals_ms(spans: Iterable[StageSpan]) -> dict[str, float]:
    """The same in milliseconds."""
    return {stage: duration_ns / 1e6 for stage, duration_ns in totals_ns(spans).items()}
