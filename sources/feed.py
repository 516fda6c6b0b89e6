"""One source on one thread: reads, hands on, and comes back after failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from random import Random
from typing import Final, Protocol

from ..errors import OctobevError
from ..runtime.frames import Frame
from .address import redact
from .back_off import BackOff, Retries
from .state import SourceCondition, SourceState

_LOG: Final = logging.getLogger("octobev.sources")


class CameraSource(Protocol):
    """Where frames come from, one connection after another.

    cameras : whose frames it gives
    finite : whether its end is for good: a file or a drive is not tried again
    back_off : when it is tried again
    `str(source)` names it for people, without passwords.
    """

    @property
    def cameras(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def finite(self) -> bool: ...  # noqa: D102

    @property
    def back_off(self) -> BackOff: ...  # noqa: D102

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        """Connect and give frames, whose pixels stay what they are, until the source ends or `stop` is set.

        Closing the generator closes the connection.

        Raises
        ------
        SourceError
            No connection, a broken one, or silence. Other Octobev errors count as the same.
        """
        ...


class Feed:
    """Reads a source on a daemon thread `octobev-source-<camera>` and hands its frames on.

    Nothing comes out of the thread but frames, log lines under `octobev.sources` (one per change), and the state.

    Parameters
    ----------
    source : where frames come from
    submit : takes each frame; may refuse it with an Octobev error
    changed : called on the thread after each change of the state's condition
    seed : of the spread of waiting times; None: another each time
    clock_ns : monotonic clock
    """

    def __init__(
        self,
        source: CameraSource,
        submit: Callable[[Frame], object],
        *,
        changed: Callable[[], object] = lambda: None,
        seed: int | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.source: Final = source
        self._submit = submit
        self._changed = changed
        self._clock_ns = clock_ns
        self._retries = Retries(source.back_off, Random(seed))  # noqa: S311 (spreads waiting times, keeps no secret)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._state = SourceState(SourceCondition.CONNECTING, clock_ns())
        self._told: str | None = None
        name = source.cameras[0] if len(source.cameras) == 1 else "drive"
        self._thread = threading.Thread(target=self.run, name=f"octobev-source-{name}", daemon=True)

    @property
    def thread_name(self) -> str:
        """Name of the thread."""
        return self._thread.name

    @property
    def state(self) -> SourceState:
        """How it is doing now."""
        with self._lock:
            return self._state

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; nothing is handed on that is read from now on."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread's end; False when it has not ended, held up in a library's or driver's call."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def run(self) -> None:
        """Do what the thread does, on this one."""
        while not self._stop.is_set():
            self._enter(SourceCondition.CONNECTING, None)
            reason = self._stream()
            if self._stop.is_set() or self.source.finite:
                self._enter(SourceCondition.ENDED, None if self._stop.is_set() else reason)
                return
            now_ns = self._clock_ns()
            retry_ns = self._retries.failed(now_ns)
            self._enter(SourceCondition.WAITING, reason or "the stream ended", retry_ns)
            self._stop.wait((retry_ns - now_ns) / 1e9)
        self._enter(SourceCondition.ENDED, None)

    def _stream(self) -> str | None:
        """Hand on the frames of one connection; why it failed, None when it came to its end."""
        try:
            with closing(self.source.frames(self._stop)) as frames:
                for frame in frames:
                    if self._stop.is_set():
                        return None
                    self._take(frame)
        except OctobevError as error:
            return str(error)
        except Exception as error:  # whatever it is, the camera comes back and the host lives on
            _LOG.exception("%s: unexpected error", self._name)
            return redact(f"{type(error).__name__}: {error}")
        return None

    def _take(self, frame: Frame) -> None:
        now_ns = self._clock_ns()
        self._retries.delivered(now_ns)
        if self.state.condition is not SourceCondition.STREAMING:
            self._enter(SourceCondition.STREAMING, None)
        try:
            self._submit(frame)
        except OctobevError as error:
            with self._lock:
                self._state = replace(self._state, refused=self._state.refused + 1, reason=str(error))
            self._tell(logging.WARNING, f"frame refused: {error}", key=f"refused {type(error).__name__}")
            return
        with self._lock:
            self._state = replace(self._state, frames=self._state.frames + 1, reason=None)

    def _enter(self, condition: SourceCondition, reason: str | None, retry_ns: int | None = None) -> None:
        with self._lock:
            began = condition is SourceCondition.STREAMING
            self._state = replace(
                self._state,
                condition=condition,
                since_ns=self._clock_ns(),
                reason=reason,
                retry_ns=retry_ns,
                connections=self._state.connections + began,
            )
        if condition is SourceCondition.WAITING:
            self._tell(logging.WARNING, f"{reason}; trying again")
        elif condition is not SourceCondition.CONNECTING:
            level = logging.INFO if reason is None else logging.WARNING
            self._tell(level, condition.value if reason is None else f"{condition.value}: {reason}")
        self._changed()

    def _tell(self, level: int, text: str, *, key: str | None = None) -> None:
        """Log what has changed; the same thing again is not said again."""
        if self._told != (key or text):
            self._told = key or text
            _LOG.log(level, "%s: %s", self._name, text)

    @property
    def _name(self) -> str:
        cameras = self.source.cameras
        return f"{cameras[0] if len(cameras) == 1 else f'{len(cameras)} cameras'} ({self.source})"
