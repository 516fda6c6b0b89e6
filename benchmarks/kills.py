"""Publishers and ring writers killed while they send: nothing partial is accepted, readers go on with the next one.

    python benchmarks/kills.py --kills 100 --seed 1

A process publishes messages of 4 MB (or writes frames of 3.7 MB to a ring) as fast as it can and is killed (SIGKILL) at
a random moment; then the next one starts under the same name. Every element of message number n says n, so that a
message or frame that is not whole cannot pass for one. Before every second kill the subscriber stops reading, so that
the publisher is stuck in the middle of a message. "Cut" counts the kills that hit in the middle of a message, as
a plain ZMTP connection beside the subscriber finds it, or in the middle of a frame, as the lock of its slot says.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from octobev.errors import FrameOverwritten, TopicTimeout
from octobev.fusion.grid import BevGrid
from octobev.runtime.frames import Frame
from octobev.runtime.predictions import BevTensor, Predictions, Provenance, StateStatus
from octobev.runtime.ring.file import SHARED_FOLDER
from octobev.runtime.ring.reader import FrameRingReader, RingFrame
from octobev.runtime.ring.writer import FrameRingWriter
from octobev.runtime.topics.publisher import Publisher
from octobev.runtime.topics.subscriber import Subscriber

SIDE = 2048
SHAPE = (960, 1280, 3)
SLOTS = 4
SILENCE_S = 0.25
LONGEST_LIFE_S = 0.1
PATIENCE_S = 60.0

PROCESSES = multiprocessing.get_context("forkserver")


@dataclass
class KillResult:
    """What came of the kills."""

    what: str
    kills: int = 0
    cut: int = 0
    whole: int = 0
    refused: int = 0
    partial: int = 0
    malformed: int = 0
    left_behind: int = 0
    flagged_ms: list[float] = field(default_factory=list)
    recovered_ms: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Times as median and worst."""
        figures = asdict(self)
        for name in ("flagged_ms", "recovered_ms"):
            times = figures.pop(name)
            figures |= {f"{name}_p50": round(float(np.median(times)), 2), f"{name}_max": round(max(times), 2)}
        return figures

    @property
    def good(self) -> bool:
        """Whether nothing partial was taken and nothing left behind."""
        return not (self.partial or self.malformed or self.left_behind)


class Child:
    """A process that has said it is ready, and ends by a kill."""

    def __init__(self, run: Callable[[str, Connection], None], place: str) -> None:
        here, there = PROCESSES.Pipe()
        self._process = PROCESSES.Process(target=run, args=(place, there), daemon=True)
        self._process.start()
        if not here.poll(PATIENCE_S):
            raise SystemExit("the process did not start")
        here.recv()
        self.ready_s = time.perf_counter()

    def kill(self) -> float:
        """Kill it and return when it was dead."""
        self._process.kill()
        self._process.join()
        assert self._process.exitcode == -signal.SIGKILL
        return time.perf_counter()


class Witness:
    """A bare ZMTP 3.0 connection that subscribes to everything and does not read before the publisher is dead."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        ready = b"\x05READY\x0bSocket-Type" + (3).to_bytes(4, "big") + b"SUB"
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
        self._socket.sendall(greeting + bytes((4, len(ready))) + ready)
        self._stream = self._socket.makefile("rb", 1 << 16)
        self._stream.read(64)
        self._stream.read(self._stream.read(2)[1])  # the publisher's READY
        self._socket.sendall(b"\x00\x01\x01")

    def was_cut(self) -> bool:
        """Whether the stream of bytes ends in the middle of a message."""
        more = False
        with self._socket, self._stream as stream:
            while flags := stream.read(1):
                size = int.from_bytes(stream.read(8 if flags[0] & 2 else 1), "big")
                if len(stream.read(size)) < size:
                    return True
                more = more if flags[0] & 4 else bool(flags[0] & 1)
        return more


def kill_publishers(kills: int, chance: random.Random) -> KillResult:
    """Kill publishers under a subscriber."""
    result = KillResult("publisher")
    with tempfile.TemporaryDirectory() as folder, Subscriber(f"ipc://{folder}/t", "x") as subscriber:
        sessions: set[str] = set()

        def take(timeout_s: float) -> bool:
            """Take a message; whether it is the first of its session."""
            message = subscriber.receive(timeout_s)
            values = message.arrays["values"]
            whole = values.shape == (SIDE, SIDE) and (values == message.sequence % 251).all()
            result.whole += int(whole)
            result.partial += int(not whole)
            new = message.session not in sessions
            sessions.add(message.session)
            return new

        for number in range(kills):
            child = Child(publish, f"ipc://{folder}/t")
            witness = Witness(f"{folder}/t")
            while not take(PATIENCE_S):
                pass
            result.recovered_ms.append((time.perf_counter() - child.ready_s) * 1e3)
            until = time.perf_counter() + chance.uniform(0, LONGEST_LIFE_S)
            while time.perf_counter() < until:
                if number % 2 == 0:
                    take(PATIENCE_S)
            dead = child.kill()
            try:
                while True:
                    take(SILENCE_S)
            except TopicTimeout:
                result.flagged_ms.append((time.perf_counter() - dead) * 1e3)
            result.cut += witness.was_cut()
            result.kills += 1
        result.malformed = subscriber.malformed
    return result


def kill_writers(kills: int, chance: random.Random) -> KillResult:
    """Kill ring writers under a reader."""
    result = KillResult("ring writer")
    name = f"kills-{os.getpid()}"
    with FrameRingReader(name) as reader:
        for _ in range(kills):
            child = Child(write, name)
            epoch = reader.epoch
            while epoch == reader.epoch:
                _look(reader.newest_frame(PATIENCE_S), result)
            result.recovered_ms.append((time.perf_counter() - child.ready_s) * 1e3)
            until = time.perf_counter() + chance.uniform(0, LONGEST_LIFE_S)
            while time.perf_counter() < until:
                _look(reader.newest_frame(PATIENCE_S), result)
            dead = child.kill()
            while reader.writer_alive():
                pass
            result.flagged_ms.append((time.perf_counter() - dead) * 1e3)
            while (frame := reader.next_frame()) is not None:
                _look(frame, result)
            ring = reader._mapped()
            locks = [int(ring.words[ring.header.slot_offset(slot) // 8]) for slot in range(SLOTS)]
            result.cut += any(lock % 2 for lock in locks)
            result.left_behind += max(0, len(_files(name)) - 1)  # one, which the next writer removes
            result.kills += 1
    result.left_behind += len(_files(name))
    return result


def _look(frame: RingFrame | None, result: KillResult) -> None:
    if frame is None:
        raise SystemExit("no frame came")
    try:
        own = frame.copy().data
    except FrameOverwritten:
        result.refused += 1
        return
    whole = (own == frame.timestamp_ns % 251).all() and frame.timestamp_ns == frame.sequence
    result.whole += int(whole)
    result.partial += int(not whole)


def _files(name: str) -> list[Path]:
    return [file for file in SHARED_FOLDER.iterdir() if name in file.name]


def publish(endpoint: str, parent: Connection) -> None:
    """Publish for ever, as fast as it goes."""
    grid = BevGrid(0, 4, -2, 2, 0.5)
    with Publisher(endpoint) as publisher:
        parent.send("ready")
        publisher.wait_for_subscription("x", PATIENCE_S)
        sequence = 0
        while True:
            values = np.full((SIDE, SIDE), sequence % 251, np.uint8)
            publisher.publish(
                Predictions(
                    sequence, sequence, ("front",), np.array([True]), np.array([0]), {}, {"x": BevTensor(grid, values)},
                    {}, {}, StateStatus(True, None, 0), Provenance("b", "ab" * 32, "cd" * 32, (), (), 1),
                )
            )  # fmt: skip
            sequence += 1


def write(name: str, parent: Connection) -> None:
    """Write frames for ever, as fast as it goes."""
    with FrameRingWriter(name, "front", payload_bytes=int(np.prod(SHAPE)), slots=SLOTS) as writer:
        parent.send("ready")
        sequence = 0
        while True:
            writer.write(Frame("front", sequence, np.full(SHAPE, sequence % 251, np.uint8)))
            sequence += 1


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    PROCESSES.set_forkserver_preload(["__main__"])  # or every process would import NumPy again
    results = [kill(arguments.kills, random.Random(arguments.seed)) for kill in (kill_publishers, kill_writers)]
    if arguments.json:
        print(json.dumps([result.summary() | {"good": result.good} for result in results]))
    else:
        summaries = [result.summary() for result in results]
        for name in summaries[0]:
            print(f"{name:20}" + "".join(f"{summary[name]!s:>14}" for summary in summaries))
    sys.exit(0 if all(result.good for result in results) else 1)


if __name__ == "__main__":
    main()
