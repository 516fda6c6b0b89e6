"""`octobev health`: how a live runtime is doing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from typing import Annotated

import msgspec
import typer

from ..errors import TopicTimeout
from ..runtime.live.health import CameraCondition, Health
from ..runtime.topics.message import Message
from ..runtime.topics.names import HEALTH
from ..runtime.topics.subscriber import Subscriber
from . import EXIT_LOSS
from .keys import KeyOption, ServerKeyOption, subscriber_keys
from .lines import emit
from .topic import Json, complaint

REFRESH_S = 0.25
SILENT_S = 2.0
"""After so long without a report the latest one is old, if its publisher is not slower than that."""

ONCE_S = 5.0


class Silence:
    """How long no report has come, and whether that is too long: two seconds and three periods of the publisher."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._before: Message | None = None
        self._periods_s: deque[float] = deque(maxlen=3)

    def broken_by(self, message: Message, now_s: float) -> None:
        """Take a report. The first one may have waited at the publisher: it is as old as it says."""
        before, self._before = self._before, message
        self._since_s = now_s
        if before is None:
            waited_ns = (message.received_ns or 0) - message.header.published_ns
            self._since_s -= max(0, waited_ns) / 1e9
        elif before.session == message.session and message.sequence > before.sequence:
            passed_ns = message.header.published_ns - before.header.published_ns
            self._periods_s.append(passed_ns / 1e9 / (message.sequence - before.sequence))

    def seconds(self, now_s: float) -> float:
        """Time since the latest report."""
        return now_s - self._since_s

    def dead(self, now_s: float) -> bool:
        """Whether the latest report says nothing about the present."""
        return self.seconds(now_s) > max(SILENT_S, 3 * min(self._periods_s, default=0.0))


def health(
    endpoint: Annotated[
        str | None, typer.Argument(metavar="ENDPOINT", help="ipc://PATH or tcp://HOST:PORT; the default one if none.")
    ] = None,
    json: Json = False,
    once: Annotated[bool, typer.Option("--once", help="One report, then exit.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="S", help="Stop after S seconds without a report; 0: never. [default: 5 with --once, else 0]"
        ),
    ] = None,
    key: KeyOption = None,
    server_key: ServerKeyOption = None,
) -> None:
    """Show how a live runtime is doing: cameras, stages, outputs, counters.

    In a terminal the picture stays and follows, Ctrl-C leaves it; elsewhere every report is printed. When nothing
    comes for two seconds it says so, and shows the last report as old.

    Exit code 1: no report came in time. 3: malformed messages were skipped, or, with `--once`, not all is well: the
    predictions are not valid, a camera is not ok, or a stage is stuck.
    """
    limit_s = (ONCE_S if once else 0.0) if timeout is None else timeout
    with Subscriber(endpoint, HEALTH, keys=subscriber_keys(key, server_key)) as subscriber:
        ill = False
        with contextlib.suppress(KeyboardInterrupt):
            if once:
                report = _fresh(subscriber, limit_s)
                _print(report, subscriber.endpoint, json=json)
                ill = not _well(report)
            elif sys.stdout.isatty() and not json:
                _follow(subscriber, limit_s)
            else:
                _stream(subscriber, limit_s, json=json)
        if subscriber.malformed:
            print(f"octobev: {subscriber.endpoint}{complaint(subscriber)}", file=sys.stderr)
        if subscriber.malformed or ill:
            raise typer.Exit(EXIT_LOSS)


def _fresh(subscriber: Subscriber, limit_s: float) -> Health:
    """The first report that is not old; a late joiner may get an old one first."""
    start_s = time.monotonic()
    silence = Silence(start_s)
    found = None
    while found is None or silence.dead(time.monotonic()):
        left_s = start_s + limit_s - time.monotonic() if limit_s else None
        try:
            found = subscriber.receive(None if left_s is None else max(0.0, left_s))
        except TopicTimeout as error:
            if found is None:
                raise TopicTimeout(
                    f"{subscriber.endpoint}: no report in {limit_s:g} s{complaint(subscriber)}"
                ) from error
            age_s = silence.seconds(time.monotonic())
            raise TopicTimeout(f"{subscriber.endpoint}: the latest report is {age_s:.0f} s old") from error
        silence.broken_by(found, time.monotonic())
    return found.health()


def _well(report: Health) -> bool:
    return (
        report.valid
        and not report.stalled
        and all(camera.condition is CameraCondition.OK for camera in report.cameras.values())
    )


def _stream(subscriber: Subscriber, limit_s: float, *, json: bool) -> None:
    """Print every report as it comes; silences are told on stderr, once each."""
    silence = Silence(time.monotonic())
    told = False
    while True:
        message = _next(subscriber, silence, limit_s)
        now_s = time.monotonic()
        if message is not None:
            told = False
            _print(message.health(), subscriber.endpoint, silence.seconds(now_s), json=json, dead=silence.dead(now_s))
        if silence.dead(now_s) and not told:
            told = True
            print(f"octobev: {subscriber.endpoint}: no report for {silence.seconds(now_s):.0f} s", file=sys.stderr)


def _follow(subscriber: Subscriber, limit_s: float) -> None:
    """Keep a picture of the latest report on the terminal."""
    from rich.console import Console
    from rich.live import Live

    from .health_view import view, waiting

    silence = Silence(time.monotonic())
    report: Health | None = None
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            message = _next(subscriber, silence, limit_s)
            report = report if message is None else message.health()
            now_s = time.monotonic()
            if report is None:
                picture = waiting(subscriber.endpoint, silence.seconds(now_s))
            else:
                picture = view(report, subscriber.endpoint, silence.seconds(now_s), dead=silence.dead(now_s))
            live.update(picture, refresh=True)


def _next(subscriber: Subscriber, silence: Silence, limit_s: float) -> Message | None:
    """The newest report there is, or None after a short while."""
    try:
        message = subscriber.latest(REFRESH_S)[HEALTH]
    except TopicTimeout:
        seconds = silence.seconds(time.monotonic())
        if limit_s and seconds >= limit_s:
            raise _no_report(subscriber, limit_s) from None
        return None
    silence.broken_by(message, time.monotonic())
    return message


def _no_report(subscriber: Subscriber, limit_s: float) -> TopicTimeout:
    return TopicTimeout(f"{subscriber.endpoint}: no report in {limit_s:g} s{complaint(subscriber)}")


def _print(report: Health, endpoint: str, silent_s: float = 0.0, *, json: bool, dead: bool = False) -> None:
    from rich.console import Console

    from .health_view import view

    if json:
        emit(msgspec.json.encode(report).decode())
        return
    console = Console()
    with console.capture() as captured:
        console.print(view(report, endpoint, silent_s, dead=dead))
    emit(captured.get())
