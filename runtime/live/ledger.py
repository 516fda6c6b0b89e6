"""Counts and measures what a live runtime does, and says it as :class:`Health`."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from ..engine import Runtime
from ..frames import Frame
from ..predictions import Predictions
from ..stages import totals_ns
from ..sync import SyncStatus
from .condition import CameraWatch
from .health import Health, OutputHealth
from .intake import OVERRUN, Intake, PendingSet
from .resident import descriptor_count, resident_bytes, thread_count
from .settings import LiveSettings
from .spread import RollingSpread
from .watchdog import Watchdog

_NUMBER: Final = re.compile(r"-?\d[\d.]*")
"""What differs between two reasons of one kind: they are counted as one."""

_LONGEST_LATENCY_NS: Final = 60_000_000_000
"""A capture time farther in the past than this, or in the future, is on another clock than the wall's."""


class Ledger:
    """Keeps the books of one run of a live runtime.

    Safe to use from several threads: it has a lock of its own, and calls nothing while it holds it.

    Parameters
    ----------
    cameras : names in rig order
    clock_ns : the clock of all times here that do not say otherwise
    """

    def __init__(self, cameras: Sequence[str], settings: LiveSettings, clock_ns: Callable[[], int]) -> None:
        self._settings = settings
        self._clock_ns = clock_ns
        self._started_ns = now_ns = clock_ns()
        self._lock = threading.Lock()
        self._cameras = {name: CameraWatch(now_ns, frozen_after=settings.frozen_after) for name in cameras}
        self._lost: dict[str, Counter[str]] = {name: Counter() for name in cameras}
        self._watchdog = Watchdog(settings.stall_s)
        self._spreads: dict[str, RollingSpread] = {}
        self._latency: RollingSpread | None = None
        self._errors: Counter[str] = Counter()
        self._resets: Counter[str] = Counter()
        self._invalid: Counter[str] = Counter()
        self._sets = self._incomplete = self._misses = 0

    def arrived(self, frame: Frame, now_ns: int, seen: int) -> bool:
        """Take note of a frame that has arrived; returns whether its camera shows the same picture again and again.

        Parameters
        ----------
        seen : its image's :func:`~octobev.runtime.live.fingerprint.fingerprint`
        """
        with self._lock:
            watch = self._cameras[frame.camera]
            watch.arrived(now_ns, frame.timestamp_ns, seen)
            return watch.frozen

    def dropped(self, camera: str, reason: str, now_ns: int) -> None:
        """A frame will not be used."""
        with self._lock:
            self._cameras[camera].dropped(now_ns, reason)

    def overrun(self, camera: str) -> None:
        """A frame was in a set that a newer one overtook."""
        self.dropped(camera, OVERRUN, self._clock_ns())

    def follow(self, status: SyncStatus, now_ns: int) -> None:
        """Take over what the synchroniser has dropped since the call before."""
        with self._lock:
            for name, camera in status.cameras.items():
                known = self._lost[name]
                for reason, count in camera.dropped.items():
                    for _ in range(count - known[reason]):
                        self._cameras[name].dropped(now_ns, reason.value)
                    known[reason] = count

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage, and let the watchdog see it."""
        self._watchdog.entered(name, self._clock_ns())
        try:
            yield
        finally:
            duration_ns = self._watchdog.left(name, self._clock_ns())
            with self._lock:
                self._spread(name).add(duration_ns)

    def failed(self, where: str) -> None:
        """An exception was caught."""
        with self._lock:
            self._errors[where] += 1

    def stuck(self, now_ns: int) -> dict[str, float]:
        """Stages that have not returned for too long, and for how many seconds."""
        return self._watchdog.stalled(now_ns)

    def stepped(self, pending: PendingSet, predictions: Predictions, begin_ns: int, end_ns: int, wall_ns: int) -> None:
        """A set went through.

        Parameters
        ----------
        begin_ns, end_ns : when the step began, and when its predictions were published
        wall_ns : the latter on the clock of the frames, if that is the wall clock
        """
        frame_set = pending.frame_set
        with self._lock:
            self._sets += 1
            self._incomplete += not predictions.camera_mask.all()
            self._misses += end_ns - pending.last_arrival_ns > self._settings.frame_budget_ms * 1e6
            self._spread("wait").add(begin_ns - pending.first_arrival_ns)
            for stage, elapsed_ns in totals_ns(predictions.spans).items():
                self._spread(stage).add(elapsed_ns)
            latency_ns = wall_ns - frame_set.timestamp_ns
            if 0 <= latency_ns <= _LONGEST_LATENCY_NS:
                self._latency = self._latency or RollingSpread()
                self._latency.add(latency_ns)
            else:
                self._latency = None
            self._resets.update(_NUMBER.sub("…", reason) for reason in predictions.resets)
            self._invalid.update({key.partition("/")[0] for key in predictions.invalid})
            for frame in frame_set.frames:
                if (why := predictions.absences.get(frame.camera)) is not None:
                    self._cameras[frame.camera].corrupt(end_ns, why)
                else:
                    self._cameras[frame.camera].used(end_ns, frame.timestamp_ns - frame_set.timestamp_ns)

    def report(
        self,
        now_ns: int,
        intake: Intake,
        runtime: Runtime,
        latest: Predictions | None,
        subscriptions: Collection[str],
        possible: Sequence[str],
    ) -> Health:
        """Say how it is. Whoever calls holds the lock of the intake.

        Parameters
        ----------
        latest : the latest predictions
        subscriptions : what is listened to, prefixes
        possible : outputs that are computed when somebody wants them
        """
        queued = {name: camera.queued for name, camera in intake.status(now_ns).cameras.items()}
        with self._lock:
            reason = _why_not_valid(latest)
            return Health(
                timestamp_ns=time.time_ns(),
                uptime_ns=now_ns - self._started_ns,
                valid=reason is None,
                reason=reason,
                cameras={name: watch.health(now_ns, queued[name]) for name, watch in self._cameras.items()},
                stages={name: spread for name, r in self._spreads.items() if (spread := r.spread()) is not None},
                latency=None if self._latency is None else self._latency.spread(),
                outputs=_outputs(runtime, latest, possible, self._invalid),
                sets=self._sets,
                incomplete=self._incomplete,
                overrun=intake.overruns,
                deadline_misses=self._misses,
                resets=dict(self._resets),
                queues={"sets": int(intake.ready), "frames": sum(queued.values())},
                stalled=self._watchdog.stalled(now_ns),
                errors=dict(self._errors),
                rss_bytes=resident_bytes(),
                rig_sha256=runtime.provenance.rig_sha256,
                bundle_sha256=runtime.provenance.bundle_sha256,
                subscriptions=tuple(sorted(subscriptions)),
                threads=thread_count(),
                descriptors=descriptor_count(),
            )

    def _spread(self, name: str) -> RollingSpread:
        return self._spreads.setdefault(name, RollingSpread())


def _why_not_valid(latest: Predictions | None) -> str | None:
    if latest is None:
        return "no predictions yet"
    if not latest.camera_mask.any():
        return latest.state.reset_reason or "no camera"
    if latest.bev or latest.camera_outputs or not latest.invalid:
        return None
    return next(iter(latest.invalid.values()))


def _outputs(
    runtime: Runtime, latest: Predictions | None, possible: Sequence[str], invalid: Mapping[str, int]
) -> dict[str, OutputHealth]:
    computed = set(runtime.plan.outputs)
    given = set() if latest is None else {*latest.bev, *(name for name, by in latest.camera_outputs.items() if by)}
    reasons = {} if latest is None else {key.partition("/")[0]: why for key, why in latest.invalid.items()}
    return {
        name: OutputHealth(
            computed=name in computed,
            valid=name in given,
            reason=reasons.get(name, "no predictions yet") if name in computed and name not in given else None,
            invalid=invalid.get(name, 0),
        )
        for name in possible
    }
