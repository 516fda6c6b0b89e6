"""Rows about publishing: how many sets a second come out, how soon, and what a message costs beside bare ZeroMQ."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import Any, Final

import numpy as np
import zmq

from ..runtime.engine import Runtime
from ..runtime.frames import FrameSet
from ..runtime.live.intake import LATELY
from ..runtime.predictions import Predictions
from ..runtime.topics.publisher import Publisher
from ..runtime.topics.subscriber import Subscriber
from .material import Material
from .row import Figures
from .spread import Spread, Turns, take_turns, wall_ms
from .whole import publishing

RATE_HZ: Final = 36.0
"""Of the cameras."""

_TOGETHER: Final = 4
"""Sets whose rate is taken as one."""

_EVERYTHING: Final = ("",)
_OURS: Final = "octobev"
_BARE: Final = "pyzmq"
_WAIT_S: Final = 20.0


def sets_per_second(material: Material) -> Figures:
    """Decoded frames in, predictions published, as a stream; then at the cameras' rate, for the latency."""
    count = material.rounds(160)
    with material.runtime() as runtime:
        with publishing(material, "sets") as publisher:
            rates = _rates(material, runtime, publisher, count)
            latencies, dropped = _paced(material, runtime, publisher, count)
        with publishing(material, "sets_everything", _EVERYTHING) as publisher:
            everything = _rates(material, runtime, publisher, max(12, count // 4))
    p99, limit = float(np.percentile(latencies, 99)), 2e3 / RATE_HZ
    missed = () if p99 <= limit else (f"p99 latency must be at most {limit:.1f} ms, got {p99:.1f}",)
    sides = {
        "with geometry and beliefs, 1/s": Spread.of(everything),
        f"latency at {RATE_HZ:g} Hz, ms": Spread.of(latencies),
        f"p99 latency at {RATE_HZ:g} Hz, ms": Spread.of([p99]),
        f"sets left out at {RATE_HZ:g} Hz, of {count}": Spread.of([dropped]),
    }
    note = "subscriber in another process; latency from a set's arrival to its publication, newest set first"
    return Figures(Spread.of(rates), sides, (f"{runtime.bundle.variant}; {note}",), missed)


def publish_overhead(material: Material) -> Figures:
    """From publish to receive, against the same bytes by bare pyzmq."""
    with material.runtime() as runtime:
        predictions = [runtime.step(material.frame_set(number)) for number in range(3)][-1]
    rounds = material.rounds(400)
    one, note = _publish_turns(material, predictions, "road_layout", rounds)
    many, _ = _publish_turns(material, predictions, "*", max(10, rounds // 8))
    sides = {f"{side}, road_layout, ms": one[side] for side in one.samples}
    sides |= {f"{side}, every topic of a set, ms": many[side] for side in many.samples}
    sides["every topic of a set, x"] = many.ratio(_OURS, _BARE)
    notes = ("ipc, within a process, a context for each end; encoding and checks are octobev's", note)
    return Figures(one.ratio(_OURS, _BARE), sides, notes)


def _rates(material: Material, runtime: Runtime, publisher: Publisher, count: int) -> list[float]:
    """Sets a second of a stream of sets, each over :data:`_TOGETHER` of them: the next one begins before one ends."""
    sets = [material.frame_set(number) for number in range(3 + count)]
    runtime.reset()
    published = []
    for predictions in runtime.stream(sets):
        publisher.publish(predictions)
        published.append(time.perf_counter())
    ends = published[2::_TOGETHER]  # without the first ones
    return [_TOGETHER / (end - begin) for begin, end in pairwise(ends)]


def _paced(material: Material, runtime: Runtime, publisher: Publisher, count: int) -> tuple[list[float], int]:
    """Sets arrive at the cameras' rate, and are taken as a live runtime takes them.

    Returns
    -------
    Latencies in milliseconds, and how many sets gave way to newer ones.
    """
    latencies: list[float] = []
    sets = [material.frame_set(number) for number in range(count)]
    runtime.reset()
    begin, taken, dropped = time.perf_counter() + 0.1, -1, 0

    def newest(within_periods: float = math.inf) -> FrameSet | None:
        nonlocal taken, dropped
        periods = (time.perf_counter() - begin) * RATE_HZ
        number = min(count - 1, math.floor(periods))
        if number <= taken or periods - number > within_periods:
            return None
        dropped, taken = dropped + number - taken - 1, number
        return sets[number]

    while taken < count - 1:
        time.sleep(max(0.0, begin + (taken + 1) / RATE_HZ - time.perf_counter()))
        frame_set = newest()
        while frame_set is not None:
            number = taken
            publisher.publish(runtime.step(frame_set, following=lambda: newest(LATELY)))
            latencies.append((time.perf_counter() - begin - number / RATE_HZ) * 1e3)
            frame_set = sets[taken] if taken > number else None
    return latencies, dropped


def _publish_turns(material: Material, predictions: Predictions, topic: str, rounds: int) -> tuple[Turns, str]:
    """All sides, and how many bytes; `*` is every topic."""
    name = "all" if topic == "*" else topic
    with (
        Publisher(f"ipc://{material.folder}/publish_{name}") as publisher,
        Subscriber(publisher.endpoint, topic) as subscriber,
    ):
        publisher.wait_for_change(frozenset(), _WAIT_S)
        count = publisher.publish(predictions)
        for _ in range(count):
            subscriber.receive(_WAIT_S)
        messages = _recorded(publisher, predictions, topic, count)

        def ours() -> None:
            for _ in range(publisher.publish(predictions)):
                subscriber.receive(_WAIT_S)

        endpoint = f"ipc://{material.folder}/bare_{name}"
        with _BarePair(endpoint, contexts=2) as pair, _BarePair(f"{endpoint}_1", contexts=1) as close_pair:
            sides = {
                _OURS: wall_ms(ours),
                _BARE: wall_ms(lambda: pair.carry(messages)),
                "pyzmq, one context": wall_ms(lambda: close_pair.carry(messages)),
            }
            turns = take_turns(sides, rounds, settle_s=0.0, warm_up=10, steady_s=0.0)
    megabytes = sum(len(part) for message in messages for part in message) / 1e6
    return turns, f"{name}: {megabytes:.3f} MB"


def _recorded(publisher: Publisher, predictions: Predictions, topic: str, count: int) -> list[list[bytes]]:
    """The bytes of the messages that the publisher sends."""
    context = zmq.Context()
    with context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"" if topic == "*" else f"{topic}/".encode())
        socket.connect(publisher.endpoint)
        messages: list[list[bytes]] = []
        while len(messages) < count:  # the subscription may come a moment later
            publisher.publish(predictions)
            while len(messages) < count and socket.poll(100):
                messages.append(socket.recv_multipart())
    context.term()
    return messages


class _BarePair:
    """A PUB and a SUB socket of pyzmq, as one would use them for arrays.

    contexts : 2: each end has one with an I/O thread, as publisher and subscriber in two processes have and as
        octobev's do; 1: both ends share it, and one thread writes what it reads itself
    """

    def __init__(self, endpoint: str, contexts: int) -> None:
        self._contexts = [zmq.Context() for _ in range(contexts)]
        self._sender: Any = self._contexts[0].socket(zmq.XPUB)
        self._receiver: Any = self._contexts[-1].socket(zmq.SUB)
        for socket in (self._sender, self._receiver):
            socket.linger = 0
        self._sender.bind(endpoint)
        self._receiver.setsockopt(zmq.SUBSCRIBE, b"")
        self._receiver.connect(endpoint)
        self._sender.recv()  # the subscription

    def carry(self, messages: list[list[bytes]]) -> None:
        """Send all messages, then receive them."""
        for message in messages:
            self._sender.send_multipart(message, copy=False)
        for _ in messages:
            self._receiver.recv_multipart(copy=False)

    def __enter__(self) -> _BarePair:
        return self

    def __exit__(self, *exception: object) -> None:
        for context in self._contexts:
            context.destroy(linger=0)
