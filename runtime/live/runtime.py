"""The runtime inside somebody else's process: frames in from any thread, predictions and health out."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidArgument, expected
from ...fusion.pose import Pose
from ...fusion.rig import Rig, rig_sha256
from ..bundle import Bundle
from ..engine import Runtime
from ..frames import Frame, FrameSet, PixelFormat
from ..hooks import Tamper
from ..predictions import Predictions
from ..sync import Synchroniser
from ..topics.publisher import Publisher
from .affinity import on_cpus
from .fingerprint import fingerprint
from .health import Health
from .intake import STALE, Intake, PendingSet
from .ledger import Ledger
from .settings import LiveSettings
from .wants import listened_to
from .withheld import withheld_predictions, without_outputs

_LOG: Final = logging.getLogger("octobev.live")
_JOIN_S: Final = 1.0
_TICK_S: Final = 0.02
_RETRY_S: Final = 0.25


class LiveRuntime:
    """Steps on the frames of a rig as they arrive, and publishes.

    A good guest: it handles no signals, prints nothing, logs under `octobev.live`, keeps no global state; no exception
    leaves its threads. Two threads, `octobev-live` (steps, publishes, calls back) and `octobev-watch` (a timer: waiting
    sets, health, stuck stages), and the workers of the :class:`octobev.Runtime` inside; a third, `octobev-wants`, where
    the publisher's subscriptions decide what is computed (`settings.minimum_outputs`). Started by the constructor,
    ended by :meth:`close`; :meth:`start` begins again, with nothing carried over.

    Every method may be called from any thread. :meth:`submit` never waits for a step.

    Parameters
    ----------
    bundle, rig, outputs : as in :class:`octobev.Runtime`
    settings : everything else
    publisher : where predictions and health go; it stays the caller's to close
    on_predictions : called with each step's predictions on the thread `octobev-live`; the next step waits for it. What
        it raises is logged and counted in `health().errors`.

    clock_ns : a clock that does not jump, nanoseconds: what waiting, silence and being stuck are measured on

    Raises
    ------
    InvalidArgument, RigError, BundleError
        As the runtime's; the synchroniser's policy names a camera that the rig lacks.
    """

    def __init__(
        self,
        bundle: Bundle,
        rig: Rig,
        outputs: Iterable[str] | None = None,
        *,
        settings: LiveSettings | None = None,
        publisher: Publisher | None = None,
        on_predictions: Callable[[Predictions], None] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.settings = settings = LiveSettings() if settings is None else settings
        self._bundle, self._rig = bundle, rig
        self._outputs = tuple(bundle.default_outputs if outputs is None else outputs)
        self._publisher = publisher
        self._on_predictions = on_predictions
        self._clock_ns = clock_ns
        self._changed = threading.Condition()  # guards everything below that two threads touch
        self._process = os.getpid()
        self._recalibrating = threading.Lock()
        self._running = False
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self.start()

    def start(self) -> None:
        """Begin again after :meth:`close`, with nothing carried over; does nothing while it runs."""
        self._same_process()
        if self._running:
            return
        if any(thread.is_alive() for thread in self._threads):
            raise InvalidArgument(expected("live runtime", "closed with all its threads", "one that is still stuck"))
        settings = self.settings
        with on_cpus(settings.cpus):  # threads inherit it, those of ONNX Runtime too
            self._runtime = Runtime(
                self._bundle,
                self._rig,
                self._outputs if settings.minimum_outputs is None else settings.minimum_outputs,
                settings.threads,
                max_gap_s=settings.max_gap_s,
                variant=settings.variant,
                profile=settings.profile,
                level=settings.level,
            )
        self._ledger = Ledger(self._rig.names, settings, self._clock_ns)
        self._intake = Intake(Synchroniser(self._rig.names, settings.policy), self._ledger.overrun)
        self._latest: Predictions | None = None
        self._count = 0
        self._stepping = False
        self._silence_told_ns = 0
        self._closing = threading.Event()
        self._running = True
        work = {"live": self._step_on_sets, "watch": self._watch}
        if self._publisher is not None and settings.minimum_outputs is not None:
            work["wants"] = self._follow_subscriptions
        self._threads = [
            threading.Thread(target=self._guard, args=(do,), name=f"{settings.thread_name}-{name}", daemon=True)
            for name, do in work.items()
        ]
        if self._publisher is not None:
            self._publisher.set_rig(self._rig, rig_sha256(self._rig))
        atexit.register(self.close)  # daemon threads inside of native code at the very end abort the process
        with on_cpus(settings.cpus):
            for thread in self._threads:
                thread.start()

    def submit(
        self,
        camera: str,
        image: NDArray[np.uint8] | bytes | memoryview,
        timestamp_ns: int,
        *,
        pixel_format: PixelFormat | str = PixelFormat.BGR8,
        copy: bool = True,
    ) -> None:
        """Take an image that a camera has delivered.

        Parameters
        ----------
        camera : name in the rig
        image : what :class:`octobev.Frame` takes as `data`
        timestamp_ns : capture time (mid-exposure), nanoseconds since the epoch
        copy : take a copy, so that the caller may write to the image again at once. False borrows it: it must not
            change until it was used or dropped; the runtime holds a reference, so it cannot go away.

        Raises
        ------
        InvalidArgument
            A camera that the rig lacks; the runtime is closed.
        ImageError
            The image is not what the format says. An encoded one that cannot be decoded is counted, not raised.
        """
        known = PixelFormat(pixel_format)
        if copy:
            image = bytes(image) if known.encoded else np.array(image)
        self.submit_frame(Frame(camera, timestamp_ns, image, known))

    def submit_frame(self, frame: Frame) -> None:
        """Take a frame; its memory is borrowed until it was used or dropped. Raises as :meth:`submit`."""
        if frame.camera not in self._rig:
            raise InvalidArgument(expected("camera", f"one of {', '.join(self._rig.names)}", frame.camera))
        seen = fingerprint(frame.data)  # looks at the pixels: outside of the lock
        with self._entered():
            self._require_running()
            now_ns = self._clock_ns()
            if self._ledger.arrived(frame, now_ns, seen):
                self._ledger.dropped(frame.camera, STALE, now_ns)
                self._intake.refuse(frame.camera, STALE)
            else:
                self._intake.submit(frame, now_ns)
            if self._intake.ready:
                self._changed.notify_all()

    def submit_pose(self, timestamp_ns: int, world_from_ego: Pose) -> None:
        """Take a pose of the ego, on the clock of the frames. Without poses nothing is carried over time."""
        with self._entered():
            self._require_running()
            self._intake.submit_pose(timestamp_ns, world_from_ego)

    def latest(self) -> Predictions | None:
        """Return the latest predictions, None before the first."""
        with self._entered():
            return self._latest

    def __iter__(self) -> Iterator[Predictions]:
        """Give each new predictions value, the newest when the reader was slow; ends when the runtime is closed."""
        seen: Predictions | None = None
        while True:
            with self._entered():
                self._changed.wait_for(lambda seen=seen: not self._running or self._latest is not seen)  # type: ignore[misc]
                if not self._running:
                    return
                seen = self._latest
            if seen is not None:
                yield seen

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything submitted so far was stepped on or dropped; False when it was not in time."""
        with self._entered():
            return self._changed.wait_for(
                lambda: not self._running or (self._intake.idle and not self._stepping), timeout_s
            )

    def tamper(self, network_id: str, tamper: Tamper | None) -> None:
        """Have something done to what a network gives, see :meth:`octobev.Runtime.tamper`; until :meth:`close`."""
        self._require_running()
        self._runtime.tamper(network_id, tamper)

    def recalibrate(self, rig: Rig, *, check: bool = True) -> None:
        """Use another calibration from the next set on; predictions name it in `provenance.rig_sha256`.

        The calling thread does the work while steps go on, and what is carried over time goes on too.

        Raises
        ------
        RigError
            Not these cameras, or what no vehicle can have (unless `check` is False); the one in use stays.
        """
        self._require_running()
        with self._recalibrating:
            self._runtime.recalibrate(rig, check=check)
            self._rig = rig
            if self._publisher is not None:
                self._publisher.set_rig(rig, rig_sha256(rig))

    def health(self) -> Health:
        """Return how it is doing now."""
        self._same_process()  # before any lock
        # asked outside of the lock: the publisher may be sending, and cameras shall not wait for that
        heard: Collection[str] = () if self._publisher is None else self._publisher.subscriptions
        with self._entered():
            now_ns = self._clock_ns()
            return self._ledger.report(now_ns, self._intake, self._runtime, self._latest, heard, self._outputs)

    def close(self) -> None:
        """Stop; sets that wait are dropped. Joins the threads, waiting a second for a step; may be called again."""
        if os.getpid() != self._process:
            return  # after a fork, the threads are the parent's
        with self._changed:
            running, self._running = self._running, False
            self._closing.set()
            self._changed.notify_all()
        if not running:
            return
        atexit.unregister(self.close)
        give_up_s = time.monotonic() + _JOIN_S
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, give_up_s - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            stuck = ", ".join(self._ledger.stuck(self._clock_ns())) or "a step"
            _LOG.error("closed while %s had not returned; its thread ends when it does", stuck)
            return  # the runtime is still in use there
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _guard(self, work: Callable[[], None]) -> None:
        """Run a thread; nothing leaves it, and a fault of ours is told."""
        while True:
            try:
                work()
                return
            except Exception:
                _LOG.exception("%s failed; it goes on", threading.current_thread().name)
                self._ledger.failed(threading.current_thread().name)
                self._closing.wait(_RETRY_S)

    def _step_on_sets(self) -> None:
        ahead: PendingSet | None = None
        while True:
            pending, ahead = ahead, None  # frames are borrowed: let go of them before the next ones come
            with self._changed:
                if pending is None:
                    self._stepping = False
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: not self._running or self._intake.ready or self._is_silent())
                    pending = self._intake.take() if self._running and self._intake.ready else None
                if not self._running:
                    return
                self._stepping = True
            if pending is None:
                self._tell_silence()
            else:
                ahead = self._step(pending)

    def _step(self, pending: PendingSet) -> PendingSet | None:
        """Step and deliver; returns the next set, if one had come whose cameras have begun therefore."""
        ledger, ahead = self._ledger, None

        def following() -> FrameSet | None:
            nonlocal ahead
            with self._changed:
                ahead = self._intake.take_lately(self._clock_ns())
            return None if ahead is None else ahead.frame_set

        begin_ns = self._clock_ns()
        try:
            with ledger.stage("step"):
                predictions = self._runtime.step(pending.frame_set, following=following)
        except Exception:
            _LOG.exception("the step at %d ns failed", pending.frame_set.timestamp_ns)
            ledger.failed("step")
            self._runtime.reset("a step failed")
            predictions = self._withheld(pending.frame_set.timestamp_ns, "the step failed")
        if not predictions.camera_mask.any() and predictions.bev:
            predictions = without_outputs(predictions, self._runtime, "no camera gave an image that can be used")
        predictions = self._deliver(predictions)
        ledger.stepped(pending, predictions, begin_ns, self._clock_ns(), time.time_ns())
        return ahead

    def _deliver(self, predictions: Predictions) -> Predictions:
        """Publish, store, call back; returns the predictions with their number in this runtime."""
        with self._changed:
            predictions = replace(predictions, sequence=self._count)
            self._count += 1
        if self._publisher is not None:
            with self._ledger.stage("publish"), self._counting("publish"):
                self._publisher.publish(predictions)
        with self._changed:
            self._latest = predictions
            self._changed.notify_all()
        if self._on_predictions is not None:
            with self._ledger.stage("callback"), self._counting("callback"):
                self._on_predictions(predictions)
        return predictions

    def _withheld(self, timestamp_ns: int, reason: str) -> Predictions:
        return withheld_predictions(self._runtime, timestamp_ns, reason, {})

    @contextlib.contextmanager
    def _counting(self, where: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            _LOG.exception("%s failed", where)
            self._ledger.failed(where)

    def _watch(self) -> None:
        """A timer: sets whose waiting is over, silence, health."""
        settings, ledger = self.settings, self._ledger
        period_ns = int(settings.health_period_s * 1e9)
        report_at_ns = self._clock_ns() + period_ns
        while True:
            with self._changed:
                if not self._running:
                    return
                now_ns = self._clock_ns()
                self._intake.pull(now_ns)
                ledger.follow(self._intake.status(now_ns), now_ns)
                self._changed.notify_all()
                deadline_ns = self._intake.deadline_ns or report_at_ns
            if now_ns >= report_at_ns:
                report_at_ns = max(now_ns, report_at_ns + period_ns)
                self._report(now_ns)
            self._closing.wait(min(max(deadline_ns - now_ns, 0) / 1e9, _TICK_S) + 1e-3)

    def _report(self, now_ns: int) -> None:
        """Say how it is; and when a step is stuck, that there is nothing to say."""
        stuck = self._ledger.stuck(now_ns)
        if self._publisher is not None:
            if stuck and self._latest is not None:
                what = ", ".join(f"{stage} has not returned for {seconds:.1f} s" for stage, seconds in stuck.items())
                with self._counting("publish"):  # the thread that calls back is the one that is stuck
                    self._publisher.publish(self._withheld(self._intake.capture_time_ns(now_ns), what))
            with self._counting("publish"):
                self._publisher.publish_health(self.health())

    def _follow_subscriptions(self) -> None:
        """Have computed what somebody listens to, and what always is."""
        assert self._publisher is not None, "the thread is started with a publisher only"  # noqa: S101
        minimum = frozenset(self.settings.minimum_outputs or ())
        wanted, heard = minimum, frozenset[str]()
        while not self._closing.is_set():
            heard = self._publisher.wait_for_change(heard, timeout_s=_JOIN_S / 4)
            now_wanted = minimum | listened_to(self._bundle, self._rig, self._outputs, heard)
            if now_wanted != wanted:
                self._runtime.want(now_wanted)
                wanted = now_wanted

    def _is_silent(self) -> bool:
        """Whether it is time to say, again, that no set comes. The lock is held."""
        now_ns = self._clock_ns()
        if now_ns - self._silence_told_ns < self.settings.health_period_s * 1e9:
            return False
        return self._intake.silent_since_ns(now_ns, int(self.settings.silence_s * 1e9)) is not None

    def _tell_silence(self) -> None:
        with self._changed:
            now_ns = self._silence_told_ns = self._clock_ns()
            reason = self._intake.reason_of_silence(now_ns)
            timestamp_ns = self._intake.capture_time_ns(now_ns)
        self._deliver(self._withheld(timestamp_ns, reason))

    def _entered(self) -> threading.Condition:
        """The lock, for who comes from outside: after a fork it may be held by a thread that is not there."""
        self._same_process()
        return self._changed

    def _require_running(self) -> None:
        self._same_process()
        if not self._running:
            raise InvalidArgument(expected("live runtime", "running", "a closed one"))

    def _same_process(self) -> None:
        if os.getpid() != self._process:
            raise InvalidArgument(expected("live runtime", "used in the process that made it", "used after a fork"))
