"""`octobev topic`: look at what is published on an endpoint."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
import typer

from ..errors import TopicError, TopicTimeout
from ..runtime.topics.keys import SubscriberKeys
from ..runtime.topics.message import Message
from ..runtime.topics.meter import DelaySummary, TopicMeter, TopicSummary
from ..runtime.topics.subscriber import Subscriber
from . import EXIT_LOSS
from .keys import KeyOption, ServerKeyOption, subscriber_keys
from .lines import emit

app = typer.Typer(no_args_is_help=True, help="Look at what is published on an endpoint.")

REPORT_S = 1.0
LISTEN_S = 1.0

Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="ipc://PATH or tcp://HOST:PORT.")]
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="A name or a pattern such as camera/*/depth.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Count = Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after N messages.")]
Timeout = Annotated[
    float, typer.Option(min=0, metavar="S", help="Stop after S seconds without a message; 0 waits for ever.")
]


@app.command("list")
def list_topics(
    endpoint: Endpoint,
    json: Json = False,
    timeout: Annotated[float, typer.Option(min=0.01, metavar="S", help="How long to listen.")] = LISTEN_S,
    count: Count = None,
    key: KeyOption = None,
    server_key: ServerKeyOption = None,
) -> None:
    """List what is published while listening for a second, and the static `rig`."""
    keys = subscriber_keys(key, server_key)
    with Subscriber(endpoint, hwm=64, keys=keys) as subscriber:
        meters, ended = _listen(subscriber, time.monotonic() + timeout, count)
        if not meters and not ended:
            raise TopicTimeout(f"{endpoint}: nothing is published there in {timeout:g} s{complaint(subscriber)}")
        _report(subscriber, meters, _list_line, json, final=True)


@app.command()
def echo(
    endpoint: Endpoint,
    topic: Topic = "*",
    json: Json = False,
    timeout: Timeout = 5.0,
    count: Count = None,
    key: KeyOption = None,
    server_key: ServerKeyOption = None,
) -> None:
    """Print each message: what it is, its arrays and their ranges."""
    keys = subscriber_keys(key, server_key)
    meters: dict[str, TopicMeter] = {}
    with Subscriber(endpoint, topic, keys=keys) as subscriber:
        with contextlib.suppress(KeyboardInterrupt):
            for message in _messages(subscriber, meters, timeout, count, keys):
                emit(_as_json(message) if json else _as_text(message))
        if not json:
            _report(subscriber, meters, _list_line, json, final=True, stream=sys.stderr)
        _finish(subscriber)


@app.command()
def hz(
    endpoint: Endpoint,
    topic: Topic = "*",
    json: Json = False,
    timeout: Timeout = 5.0,
    count: Count = None,
    key: KeyOption = None,
    server_key: ServerKeyOption = None,
) -> None:
    """Measure how often messages come."""
    _measure(endpoint, topic, _hz_line, json, timeout, count, subscriber_keys(key, server_key))


@app.command()
def bw(
    endpoint: Endpoint,
    topic: Topic = "*",
    json: Json = False,
    timeout: Timeout = 5.0,
    count: Count = None,
    key: KeyOption = None,
    server_key: ServerKeyOption = None,
) -> None:
    """Measure how many bytes messages take."""
    _measure(endpoint, topic, _bandwidth_line, json, timeout, count, subscriber_keys(key, server_key))


@app.command()
def delay(
    endpoint: Endpoint,
    topic: Topic = "*",
    json: Json = False,
    timeout: Timeout = 5.0,
    count: Count = None,
    key: KeyOption = None,
    server_key: ServerKeyOption = None,
) -> None:
    """Measure how old messages are: since they were published, and since their images were taken."""
    _measure(endpoint, topic, _delay_line, json, timeout, count, subscriber_keys(key, server_key))


def _measure(
    endpoint: str,
    topic: str,
    line: Callable[[TopicSummary], str],
    json: bool,
    timeout: float,
    count: int | None,
    keys: SubscriberKeys | None,
) -> None:
    meters: dict[str, TopicMeter] = {}
    with Subscriber(endpoint, topic, keys=keys) as subscriber:
        due = time.monotonic() + REPORT_S
        with contextlib.suppress(KeyboardInterrupt):
            for _ in _messages(subscriber, meters, timeout, count, keys):
                if time.monotonic() >= due:
                    _report(subscriber, meters, line, json, final=False)
                    due = time.monotonic() + REPORT_S
        _report(subscriber, meters, line, json, final=True)
        _finish(subscriber)


def _messages(
    subscriber: Subscriber,
    meters: dict[str, TopicMeter],
    timeout_s: float,
    count: int | None,
    keys: SubscriberKeys | None,
) -> Iterator[Message]:
    """Messages until silence or `count` of them; silence from the start is an error that names what is there."""
    received = 0
    try:
        while count is None or received < count:
            message = subscriber.receive(timeout_s or None)
            meters.setdefault(message.topic, TopicMeter(message.topic)).add(message)
            received += 1
            yield message
    except TopicTimeout as silence:
        if received == 0:
            raise _unknown_topic(subscriber, silence, keys) from None


def _unknown_topic(
    subscriber: Subscriber, silence: TopicTimeout, keys: SubscriberKeys | None
) -> TopicError | TopicTimeout:
    with Subscriber(subscriber.endpoint, hwm=64, keys=keys) as everything:
        meters, _ = _listen(everything, time.monotonic() + LISTEN_S, None)
    if not meters:
        return silence
    wanted = ", ".join(pattern.text for pattern in subscriber.patterns)
    return TopicError(f"{subscriber.endpoint}: topic must be one of {', '.join(sorted(meters))}, got {wanted}")


def _listen(subscriber: Subscriber, until: float, count: int | None) -> tuple[dict[str, TopicMeter], bool]:
    """Topics heard until a time on the monotonic clock, and whether Ctrl-C or `count` ended it before."""
    meters: dict[str, TopicMeter] = {}
    received = 0
    try:
        while (remaining_s := until - time.monotonic()) > 0:
            message = subscriber.receive(remaining_s)
            meters.setdefault(message.topic, TopicMeter(message.topic)).add(message)
            received += 1
            if received == count:
                return meters, True
    except TopicTimeout:
        return meters, False
    except KeyboardInterrupt:
        return meters, True
    return meters, False


def _report(
    subscriber: Subscriber,
    meters: dict[str, TopicMeter],
    line: Callable[[TopicSummary], str],
    json: bool,
    *,
    final: bool,
    stream: Any = None,
) -> None:
    for topic in sorted(meters):
        summary = meters[topic].summary(subscriber.lost.get(topic, 0))
        if json:
            emit(msgspec.json.encode({**msgspec.to_builtins(summary), "final": final}).decode(), stream)
        else:
            emit(f"{topic:<32} {line(summary)}{_losses(summary)}", stream)


def _finish(subscriber: Subscriber) -> None:
    if subscriber.malformed:
        print(f"octobev: {subscriber.endpoint}{complaint(subscriber)}", file=sys.stderr)
        raise typer.Exit(EXIT_LOSS)


def complaint(subscriber: Subscriber) -> str:
    """What to say about malformed messages and about a publisher that lets nobody in."""
    refusal = f": {subscriber.refusal}" if subscriber.refusal is not None else ""
    if not subscriber.malformed:
        return refusal
    return f"{refusal}: {subscriber.malformed} malformed messages skipped, last: {subscriber.last_error}"


def _list_line(summary: TopicSummary) -> str:
    rate = "static" if summary.kind == "rig" else "-" if summary.hz is None else f"{summary.hz:.1f} Hz"
    return f"{summary.kind:<15} {rate:>9} {summary.mean_bytes:>12,.0f} B {summary.messages:>6} messages"


def _hz_line(summary: TopicSummary) -> str:
    rate = "-" if summary.hz is None else f"{summary.hz:.2f}"
    return f"{rate:>9} Hz {summary.messages:>6} messages"


def _bandwidth_line(summary: TopicSummary) -> str:
    rate = "-" if summary.bytes_per_s is None else f"{summary.bytes_per_s / 1e6:.3f}"
    return f"{rate:>9} MB/s {summary.mean_bytes:>12,.0f} B each {summary.messages:>6} messages"


def _delay_line(summary: TopicSummary) -> str:
    return f"published {_delay_text(summary.transport)}   captured {_delay_text(summary.capture)}"


def _delay_text(delays: DelaySummary | None) -> str:
    if delays is None:
        return "-"
    if delays.min_ms > 3_600_000:
        return f"{delays.min_ms / 86_400_000:.1f} days ago (a recorded drive)"
    return f"p50 {delays.p50_ms:.2f} p99 {delays.p99_ms:.2f} max {delays.max_ms:.2f} ms ago"


def _losses(summary: TopicSummary) -> str:
    lost = f"   {summary.lost} lost" if summary.lost else ""
    return lost + (f"   {summary.invalid} not valid" if summary.invalid else "")


def _ranges(message: Message) -> dict[str, dict[str, Any]]:
    """Smallest and largest element of each array; None of an empty one."""
    return {
        name: {
            "dtype": array.dtype.name,
            "shape": array.shape,
            "min": array.min().item() if array.size else None,
            "max": array.max().item() if array.size else None,
        }
        for name, array in message.arrays.items()
    }


def _as_json(message: Message) -> str:
    header = {**msgspec.to_builtins(message.header), "arrays": None}
    extra = {"arrays": _ranges(message), "size_bytes": message.size_bytes, "received_ns": message.received_ns}
    return msgspec.json.encode(header | extra).decode()


def _as_text(message: Message) -> str:
    header = message.header
    lines = [f"{message.topic} #{message.sequence} at {message.timestamp_ns} ns, {message.kind}"]
    if not message.valid:
        lines[0] += f", not valid: {message.reason}"
    if header.cameras:
        lines.append("  cameras: " + ", ".join(f"{c.name}{'' if c.used else f' ({c.reason})'}" for c in header.cameras))
    if header.classes:
        lines.append("  classes: " + ", ".join(header.classes))
    if header.rig is not None:
        lines += [f"  {lens.name}: {lens.width}x{lens.height} {lens.model}" for lens in header.rig.cameras]
    if header.health is not None:
        lines.append("  conditions: " + ", ".join(f"{c.name} {c.condition}" for c in header.health.cameras))
    for name, entry in _ranges(message).items():
        shape = " x ".join(map(str, entry["shape"]))
        lines.append(f"  {name}: {entry['dtype']} [{shape}] {entry['min']} to {entry['max']}")
    return "\n".join(lines)
