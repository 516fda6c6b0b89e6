"""What `octobev run` does while it runs: shows how it goes, and waits to be told to end."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from .live_status import status_lines

if TYPE_CHECKING:
    from ..runtime.live.runtime import LiveRuntime
    from ..sources.rig_sources import RigSources

LINE_S: Final = 5.0
PICTURE_S: Final = 0.5
_SLICE_S: Final = 0.1
"""How soon a signal is noticed: its handler only leaves a mark, since it may come while any lock is held."""


def until_told(
    live: LiveRuntime, sources: RigSources, duration_s: float | None, *, clock: Callable[[], float] = time.monotonic
) -> None:
    """Wait for SIGINT, SIGTERM, the end of all sources or of the time; show on stderr how it goes.

    A second signal is not caught.
    """
    end_s = None if duration_s is None else clock() + duration_s
    with _signals() as told, _display() as (show, period_s):
        before = live.health()
        due_s = clock() + period_s
        while not told and not sources.wait_ended(_slice_s(end_s, clock)):
            if end_s is not None and clock() >= end_s:
                return
            if clock() >= due_s:
                health = live.health()
                show(status_lines(health, before, sources.states(), time.monotonic_ns()))
                before, due_s = health, clock() + period_s


def _slice_s(end_s: float | None, clock: Callable[[], float]) -> float:
    return _SLICE_S if end_s is None else min(_SLICE_S, max(0.0, end_s - clock()))


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM; a second one does what it did before."""
    told: list[int] = []
    former: dict[int, Any] = {}

    def mark(number: int, frame: object) -> None:
        told.append(number)
        restore()

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        former[number] = signal.signal(number, mark)
    try:
        yield told
    finally:
        restore()


@contextmanager
def _display() -> Iterator[tuple[Callable[[tuple[str, ...]], None], float]]:
    """Something that shows lines, and how often to: in place in a terminal, one after the other elsewhere."""
    if not sys.stderr.isatty():
        yield lambda lines: print(" | ".join(lines), file=sys.stderr, flush=True), LINE_S
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as picture:
        yield lambda lines: picture.update(Text("\n".join(lines)), refresh=True), PICTURE_S


@contextmanager
def logging_shown() -> Iterator[None]:
    """Show what the package logs on stderr, from INFO on."""
    logger = logging.getLogger("octobev")
    handler = logging.StreamHandler(_Stderr())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Stderr:
    """Standard error as it is at the time of writing: a picture in the terminal takes its place while it is shown."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()
