"""The subscribers in other languages, written from docs/topics.md, print what was published."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import zmq
from octobev import BevGrid, OccupancyGrid, Predictions, Publisher, RoadLayout
from octobev.runtime.predictions import BevTensor, Provenance, StateStatus
from octobev.runtime.topics.encode import Stamp, encode_output

EXAMPLES = Path(__file__).parents[2] / "examples"
TOPICS = (EXAMPLES.parent / "docs" / "topics.md").read_text(encoding="utf-8")
COMPILER = shutil.which("g++") or shutil.which("c++")
NODE = shutil.which("node")
LONG_S = 60.0
GRID = BevGrid(-2.0, 8.0, -2.0, 2.0, 0.5)  # 20 x 8 cells
DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
)


def in_cpp(folder: Path) -> list[str]:
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    program = folder / "subscriber"
    warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
    subprocess.run([COMPILER, "-std=c++17", "-O1", *warnings, "-o", program, EXAMPLES / "subscriber.cpp"], check=True)
    return [str(program)]


def in_javascript(folder: Path) -> list[str]:
    if NODE is None:
        pytest.skip("no Node.js")
    return [NODE, str(EXAMPLES / "subscriber.mjs")]


@pytest.fixture(scope="module", params=[in_cpp, in_javascript], ids=["c++", "javascript"])
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return request.param(tmp_path_factory.mktemp("subscriber"))


@pytest.fixture
def start(command: list[str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the subscriber; whatever is left of it is killed at the end."""
    running = []

    def begin(endpoint: str, *arguments: object) -> subprocess.Popen[str]:
        words = [*command, endpoint, *map(str, arguments)]
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"ipc://{tmp_path_factory.mktemp('t')}/topics"


def some(dtype: str, count: int = 6) -> np.ndarray:
    values = np.arange(count) * 3 - 5
    if dtype == "bool":
        return values > 0
    return (
        np.abs(values).astype(dtype)
        if dtype.startswith("u")
        else (values / 4 if "f" in dtype else values).astype(dtype)
    )


def predictions(sequence: int = 0) -> Predictions:
    """A road that ends 4.5 m ahead, a tensor of every type, and an output that is not valid."""
    drivable = np.zeros(GRID.shape, np.float32)
    drivable[:13] = np.linspace(0.6, 1.0, 8, dtype=np.float32)
    observed = np.ones(GRID.shape, np.bool_)
    seen_by = np.full(GRID.shape, 2**63 + 1, np.uint64)
    layout = RoadLayout(GRID, ("edge", "drivable"), np.stack([1 - drivable, drivable]), observed, seen_by)
    log_odds = np.linspace(-3, 3, observed.size, dtype=np.float32).reshape(GRID.shape)
    return Predictions(
        timestamp_ns=1_700_000_000_123_456_789 + sequence,
        sequence=sequence,
        cameras=("front", "rear"),
        camera_mask=np.array([True, False]),
        camera_age_ns=np.zeros(2, np.int64),
        absences={"rear": 'says "no"\n'},
        bev={
            "road_layout": layout,
            "occupancy": OccupancyGrid(GRID, log_odds, observed, seen_by, 2.5),
            "nothing": BevTensor(GRID, np.zeros((0, 3), np.float32)),
            **{f"raw_{dtype}": BevTensor(GRID, some(dtype).reshape(2, 3)) for dtype in DTYPES},
        },
        camera_outputs={},
        invalid={"corridor": 'NaN, "here"\n'},
        state=StateStatus(False, "first set", 0),
        provenance=Provenance("tiny", "ab" * 32, "cd" * 32, (("numpy", "2"),), (("net", ("CPU",)),), 1),
    )


def parts_of(topic: str, sequence: int = 0, value: Any = None) -> list[bytes]:
    stamp = Stamp("5e" * 16, sequence, 1)
    parts = encode_output(
        topic, BevTensor(GRID, np.arange(3)) if value is None else value, predictions(), stamp, kind="bev_raw"
    )
    return [bytes(part) for part in parts]


def lines(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    output, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, errors) == (0, "")
    return [json.loads(line) for line in output.splitlines()]


def next_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@pytest.mark.parametrize("where", ["ipc", "tcp"])
def test_everything_that_was_published_is_printed(start: Any, endpoint: str, where: str) -> None:
    published = predictions()
    count = len(published.bev) + 1
    with Publisher(endpoint if where == "ipc" else "tcp://127.0.0.1:*") as publisher:
        wanted = [f"{topic}/" for topic in (*published.bev, "corridor")]
        process = start(publisher.endpoint, *wanted, "--count", count)
        for topic in wanted:
            assert publisher.wait_for_subscription(topic[:-1], LONG_S)
        publisher.publish(published)
        printed = {line["topic"]: line for line in lines(process)}
    assert len(printed) == count
    for topic, output in published.bev.items():
        line = printed[topic]
        assert (line["sequence"], line["lost"], line["reason"]) == (0, 0, None)
        assert line["timestamp_ns"] == "1700000000123456789"
        for array in line["arrays"]:
            expected = np.asarray(output.arrays()[array["name"]]) if topic.startswith(("raw", "nothing")) else None
            if expected is not None:
                assert (array["dtype"], tuple(array["shape"])) == (expected.dtype.name, expected.shape)
                assert int(array["crc32"], 16) == zlib.crc32(expected.tobytes())
                wanted_mean = pytest.approx(float(expected.astype(np.float64).mean())) if expected.size else None
                assert array["mean"] == wanted_mean
    (probability, observed, seen_by) = printed["road_layout"]["arrays"]
    assert [a["name"] for a in printed["road_layout"]["arrays"]] == ["probability", "observed", "seen_by"]
    assert (probability["dtype"], probability["shape"]) == ("uint8", [2, 20, 8])
    assert observed["mean"] == 1
    assert seen_by["mean"] == pytest.approx(2.0**63)
    assert printed["road_layout"]["road_ahead_m"] == 4.5
    assert printed["corridor"]["reason"] == 'NaN, "here"\n'
    assert printed["corridor"]["arrays"] == []


def test_only_what_was_subscribed_to_comes_and_losses_are_counted(start: Any, endpoint: str) -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind(endpoint)
        process = start(endpoint, "heat/", "--count", 3)
        assert publisher.poll(int(LONG_S * 1000))
        assert publisher.recv() == b"\x01heat/"
        for topic, sequence in (("heat", 4), ("heater", 5), ("heat", 4), ("heat", 7), ("heat", 8)):
            publisher.send_multipart(parts_of(topic, sequence))
        assert [(line["sequence"], line["lost"]) for line in lines(process)] == [(4, 0), (7, 2), (8, 0)]


def test_damaged_and_forged_messages_are_skipped_and_said(start: Any, endpoint: str) -> None:
    whole = parts_of("heat")
    vector = TOPICS.split("A test vector")[1].split("\n\n")[1].split()
    changed = [part[:5] + bytes([part[5] ^ 1]) + part[6:] if part is whole[1] else part for part in whole]
    bad_bool = parts_of("heat", value=BevTensor(GRID, np.array([0, 1, 7], np.uint8).view(np.bool_)))
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind(endpoint)
        process = start(endpoint, "--count", 2)
        assert publisher.recv() == b"\x01"
        for parts in (
            changed,
            [b"x/", b"short"],
            [b"lonely/"],
            whole[:2],
            [whole[0], whole[1] + b"\0", whole[2]],
            bad_bool,
        ):
            publisher.send_multipart(parts)
        publisher.send_multipart([bytes.fromhex(part) for part in vector])
        publisher.send_multipart(whole)
        output, errors = process.communicate(timeout=LONG_S)
    vector_line, line = map(json.loads, output.splitlines())
    assert (vector_line["topic"], vector_line["arrays"][0]["mean"]) == ("x", 2)
    assert line["topic"] == "heat"
    assert errors.count("a message is skipped") == 6
    assert errors.count("a wrong checksum") == 3
    assert "a bool of neither 0 nor 1" in errors


def test_a_publisher_may_come_later_and_again(start: Any, endpoint: str) -> None:
    process = start(endpoint, "raw_int8/", "--count", 2)
    assert process.stderr is not None
    assert endpoint in process.stderr.readline()
    for _ in range(2):
        with Publisher(endpoint) as publisher:
            assert publisher.wait_for_subscription("raw_int8", LONG_S)
            publisher.publish(predictions())
            assert next_line(process)["sequence"] == 0
    assert process.wait(LONG_S) == 0


class Peer:
    """The publisher's side of ZMTP 3.1, byte by byte."""

    def __init__(self, listener: socket.socket) -> None:
        self.socket = listener.accept()[0]
        self.socket.settimeout(LONG_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def read(self, count: int) -> bytes:
        return self.socket.recv(count, socket.MSG_WAITALL)

    def command(self) -> bytes:
        flags, size = self.read(2)
        assert flags == 4
        return self.read(size)

    def send(self, *frames: tuple[int, bytes]) -> None:
        for flags, body in frames:
            size = len(body).to_bytes(8 if flags & 2 else 1, "big")
            for byte in bytes([flags]) + size + body[:1]:  # as a slow line would
                self.socket.sendall(bytes([byte]))
            self.socket.sendall(body[1:])


@pytest.fixture
def listener(endpoint: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(LONG_S)
        listener.bind(endpoint.removeprefix("ipc://"))
        listener.listen()
        yield listener


GREETING = b"\xff" + bytes(8) + b"\x7f\3\1" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\5READY\x0bSocket-Type\0\0\0\4XPUB\x08Identity\0\0\0\0"


def test_the_transport_is_spoken_as_documented(start: Any, endpoint: str, listener: socket.socket) -> None:
    process = start(endpoint, "heat/", "y" * 250, "--count", 1)
    with Peer(listener) as peer:
        assert peer.read(64) == GREETING
        peer.socket.sendall(GREETING)
        assert peer.command() == b"\5READY\x0bSocket-Type\0\0\0\3SUB"
        peer.send((4, READY))
        assert peer.command() == b"\x09SUBSCRIBEheat/"
        assert peer.read(9) == b"\6" + (260).to_bytes(8, "big")
        assert peer.read(260) == b"\x09SUBSCRIBE" + b"y" * 250
        topic, header, values = parts_of("heat")
        ping = (4, b"\4PING\0\x1ehello")
        peer.send((1, topic), ping, (3, header), (0, values))
        assert peer.command() == b"\4PONGhello"
        assert lines(process)[0]["arrays"][0]["mean"] == 1


@pytest.mark.parametrize(
    ("greeting", "frames", "why"),
    [
        (GREETING.replace(b"NULL\0", b"CURVE"), (), "the peer demands"),
        (GREETING.replace(b"\x7f\3\1", b"\x7f\3\0"), (), "an older ZMTP than 3.1"),
        (b"HTTP".ljust(64), (), "not ZMTP"),
        (GREETING, [(4, b"\5ERROR\2no")], "the peer refused"),
        (GREETING, [(4, READY), (1, b"a"), *[(1, b"")] * 18], "a message of too many parts"),
        (GREETING, [(4, READY), (9, b"")], "unknown flags"),
    ],
    ids=["curve", "3.0", "http", "error", "parts", "flags"],
)
def test_a_peer_that_is_no_publisher_is_left_and_tried_again(
    start: Any, endpoint: str, listener: socket.socket, greeting: bytes, frames: Any, why: str
) -> None:
    process = start(endpoint, "--count", 1)
    with Peer(listener) as peer:
        peer.socket.sendall(greeting)
        with contextlib.suppress(ConnectionError):  # it may leave before it has heard all
            peer.send(*frames)
        assert process.stderr is not None
        assert why in process.stderr.readline()
    with Peer(listener):  # it comes again
        assert process.poll() is None


def test_a_part_that_is_too_large_is_refused_before_memory_is_taken(
    start: Any, endpoint: str, listener: socket.socket
) -> None:
    process = start(endpoint, "--count", 1)
    with Peer(listener) as peer:
        peer.socket.sendall(GREETING)
        peer.send((4, READY))
        peer.socket.sendall(b"\3" + (2**63 - 1).to_bytes(8, "big"))
        assert process.stderr is not None
        assert "a part of too many bytes" in process.stderr.readline()


def test_the_subscriber_in_python_prints_what_it_hears(endpoint: str) -> None:
    words = [sys.executable, str(EXAMPLES / "subscriber.py"), endpoint]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        with Publisher(endpoint) as publisher:
            assert publisher.wait_for_subscription("road_layout", LONG_S)
            assert publisher.wait_for_subscription("occupancy", LONG_S)
            publisher.publish(predictions())
            assert process.stdout is not None
            printed = {process.stdout.readline().strip() for _ in range(2)}
    finally:
        process.kill()
        process.communicate()
    assert printed == {
        "1700000000123456789 road_layout: edge 35.0%, drivable 65.0%",
        "1700000000123456789 occupancy: 80 cells occupied",
    }
