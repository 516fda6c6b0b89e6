"""A process that takes what is published and does nothing with it: `python -m octobev.bench.drain PREFIX ENDPOINT`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import zmq


@contextmanager
def drained(endpoint: str, prefixes: list[str]) -> Iterator[None]:
    """Have another process subscribe to an endpoint while the block runs; prefixes of messages' first parts."""
    command = [sys.executable, "-m", __name__, endpoint, *prefixes]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603  (ourselves)
    try:
        yield
    finally:
        process.communicate()  # closes its standard input, which ends it


def _take(endpoint: str, prefixes: list[str]) -> None:
    context = zmq.Context()
    with context.socket(zmq.SUB) as socket:
        socket.linger = 0
        for prefix in prefixes:
            socket.setsockopt(zmq.SUBSCRIBE, prefix.encode())
        socket.connect(endpoint)
        while not _ended.is_set():
            if socket.poll(100):
                socket.recv_multipart(copy=False)
    context.term()


_ended = threading.Event()


def _wait_for_end() -> None:
    sys.stdin.buffer.read()
    _ended.set()


if __name__ == "__main__":
    threading.Thread(target=_wait_for_end, daemon=True).start()
    _take(sys.argv[1], sys.argv[2:])
