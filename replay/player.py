"""Plays a drive through a runtime, in lock-step, and says what came of it."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from ..errors import InvalidArgument, expected
from ..runtime.engine import Runtime
from ..runtime.frames import FrameSet
from ..runtime.predictions import Detections, Predictions
from ..runtime.stages import StageSpan, StageTimes, totals_ms
from .drive import Drive, DriveStep
from .trace import TraceWriter

Sink = Callable[[DriveStep, Predictions], object]
"""Takes every step with what the runtime made of it: a publisher, a recorder, a writer of pictures, a progress bar."""


@dataclass(slots=True)
class ReplaySummary:
    """What a replay did.

    sets, frames : frame sets stepped through, and the images used in them
    dropped : images that were read but could not be used
    corrupt : frames that were in the drive but failed a check before they were images
    truncated : where the drive ends too early, or None
    seconds : wall time; drive_seconds : time between the first and the last set
    outputs : names of everything that was predicted at least once
    detections : output -> class -> number of objects found, over all cameras and sets
    invalid : output -> number of sets in which a network's result had to be withheld
    levelled : camera -> pitch and roll by which it was corrected at the end, degrees, see
        :class:`octobev.runtime.predictions.Predictions`
    resets : reason -> number of times that state was lost, or set back to the last good one
    digest : SHA-256 over all prediction arrays in order; independent of threads, rate and wall clock
    recording : why the recording ended early, None while it did not
    unrecorded : sets that are not, or not whole, in the recording
    stages_ms : stage -> p50 and p99 of its wall time per set, milliseconds, summed over threads
    """

    drive: str
    cameras: tuple[str, ...]
    sets: int = 0
    frames: int = 0
    dropped: int = 0
    corrupt: int = 0
    truncated: str | None = None
    interrupted: bool = False
    seconds: float = 0.0
    drive_seconds: float = 0.0
    outputs: tuple[str, ...] = ()
    detections: dict[str, dict[str, int]] = field(default_factory=dict)
    invalid: dict[str, int] = field(default_factory=dict)
    resets: dict[str, int] = field(default_factory=dict)
    levelled: dict[str, tuple[float, float]] = field(default_factory=dict)
    loss_reasons: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    recording: str | None = None
    unrecorded: int = 0
    stages_ms: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def lost(self) -> bool:
        """Whether anything of the drive did not make it into the predictions, or of them into the recording."""
        return bool(self.corrupt or self.dropped or self.truncated or self.invalid or self.recording)

    @property
    def fps(self) -> float:
        """Images used per second of wall time."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    @property
    def sets_per_second(self) -> float:
        """Frame sets per second of wall time."""
        return self.sets / self.seconds if self.seconds > 0 else 0.0


def play(
    drive: Drive,
    runtime: Runtime,
    *,
    sinks: Mapping[str, Sink] | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
    rate: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    trace: TraceWriter | None = None,
    ahead: bool = True,
) -> ReplaySummary:
    """Step a runtime through a drive.

    Parameters
    ----------
    sinks : name of a stage -> what is to be done with every step after it was predicted, in this order
    start_s, duration_s : part of the drive, seconds after its first set, half-open
    rate : speed relative to the recording (1: as recorded); None: as fast as possible, nothing is ever skipped
    clock, sleep : time source in seconds and waiting, for tests
    trace : gets what ran when, reading and sinks too
    ahead : as fast as possible, begin with the next set's cameras beside the rest of a set, see
        :meth:`~octobev.runtime.engine.Runtime.stream`. False: one step after another, where what is read changes what
        the runtime does. Predictions are the same

    A KeyboardInterrupt ends the replay after the step that is under way; the summary then says `interrupted`. What a
    sink was doing with that step may be undone; the sinks after it still get it.
    """
    if rate is not None and not rate > 0:
        raise InvalidArgument(expected("rate", "positive", rate))
    tally = _Tally(drive, runtime)
    under_way: deque[tuple[DriveStep, StageTimes]] = deque()

    def frame_sets() -> Iterator[FrameSet]:
        steps = iter(drive.steps(start_s=start_s, duration_s=duration_s))
        while True:
            times = StageTimes()
            with times.measure("read"):
                step = next(steps, None)
            if step is None:
                return
            if rate is not None:
                tally.wait(step, rate, clock, sleep)
            under_way.append((step, times))
            yield step.frame_set

    start = clock()
    try:
        predict = runtime.stream if ahead and rate is None else partial(map, runtime.step)
        for predictions in predict(frame_sets()):
            step, times = under_way.popleft()
            tally.add(step, predictions)
            broken_off = _give(sinks or {}, step, predictions, times)
            tally.stages(times.spans(), predictions.spans)
            if trace is not None:
                trace.add((*times.spans(), *predictions.spans), predictions)
            if broken_off is not None:
                raise broken_off
    except KeyboardInterrupt:
        tally.summary.interrupted = True
    return tally.finish(clock() - start)


def _give(
    sinks: Mapping[str, Sink], step: DriveStep, predictions: Predictions, times: StageTimes
) -> KeyboardInterrupt | None:
    """Give a step to all sinks, also when one of them is interrupted; returns the interrupt."""
    interrupt = None
    for name, sink in sinks.items():
        try:
            with times.measure(name):
                sink(step, predictions)
        except KeyboardInterrupt as error:
            interrupt = error
    return interrupt


class _Tally:
    """Counts while a drive is played."""

    def __init__(self, drive: Drive, runtime: Runtime) -> None:
        self._drive = drive
        self._sha256 = hashlib.sha256()
        self._outputs: dict[str, None] = {}
        self._stages: dict[str, list[float]] = {}
        self._first_ns: int | None = None
        self._last_ns = 0
        self._paced_from: tuple[float, int] | None = None
        self.summary = ReplaySummary(drive.name, runtime.rig.names)

    def stages(self, around: Iterable[StageSpan], within: Iterable[StageSpan]) -> None:
        for stage, elapsed_ms in totals_ms(sorted((*around, *within), key=attrgetter("start_ns"))).items():
            self._stages.setdefault(stage, []).append(elapsed_ms)

    def wait(self, step: DriveStep, rate: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        """Sleep until the recording, played at `rate`, has reached the step."""
        timestamp_ns = step.frame_set.timestamp_ns
        if self._paced_from is None:
            self._paced_from = clock(), timestamp_ns
        begin, first_ns = self._paced_from
        left = begin + (timestamp_ns - first_ns) / 1e9 / rate - clock()
        if left > 0:
            sleep(left)

    def add(self, step: DriveStep, predictions: Predictions) -> None:
        summary = self.summary
        summary.sets += 1
        used = int(predictions.camera_mask.sum())
        summary.frames += used
        in_rig = sum(frame.camera in predictions.cameras for frame in step.frame_set.frames)
        summary.dropped += in_rig - used
        for name in predictions.invalid:
            summary.invalid[name] = summary.invalid.get(name, 0) + 1
        for reason in predictions.resets:
            summary.resets[reason] = summary.resets.get(reason, 0) + 1
        self._outputs |= dict.fromkeys([*predictions.bev, *predictions.camera_outputs])
        for name, by_camera in predictions.camera_outputs.items():
            for output in by_camera.values():
                if isinstance(output, Detections):
                    counts = summary.detections.setdefault(name, dict.fromkeys(output.classes, 0))
                    for found in output.names:
                        counts[found] += 1
        predictions.digest_into(self._sha256)
        if self._first_ns is None:
            self._first_ns = predictions.timestamp_ns
        self._last_ns = predictions.timestamp_ns
        summary.levelled = dict(predictions.levelled)

    def finish(self, seconds: float) -> ReplaySummary:
        summary = self.summary
        summary.seconds = seconds
        summary.drive_seconds = (self._last_ns - self._first_ns) / 1e9 if self._first_ns is not None else 0.0
        summary.corrupt = self._drive.losses.corrupt
        summary.truncated = self._drive.losses.truncated
        summary.loss_reasons = dict(self._drive.losses.reasons)
        summary.outputs = tuple(self._outputs)
        summary.digest = self._sha256.hexdigest()
        summary.stages_ms = {name: _percentiles(values) for name, values in self._stages.items()}
        return summary


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.asarray(values), (50, 99))
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def summary_json(summary: ReplaySummary) -> dict[str, Any]:
    """The summary as one JSON object; the keys are part of the command's interface."""
    return {
        "drive": summary.drive,
        "frames": summary.frames,
        "sets": summary.sets,
        "cameras": list(summary.cameras),
        "seconds": round(summary.seconds, 3),
        "drive_seconds": round(summary.drive_seconds, 3),
        "fps": round(summary.fps, 2),
        "sets_per_second": round(summary.sets_per_second, 2),
        "dropped": summary.dropped,
        "corrupt": summary.corrupt,
        "loss_reasons": summary.loss_reasons,
        "truncated": summary.truncated,
        "interrupted": summary.interrupted,
        "invalid": summary.invalid,
        "resets": summary.resets,
        "levelled": summary.levelled,
        "outputs": list(summary.outputs),
        "detections": summary.detections,
        "digest": summary.digest,
        "recording": summary.recording,
        "unrecorded": summary.unrecorded,
        "stages_ms": summary.stages_ms,
    }
