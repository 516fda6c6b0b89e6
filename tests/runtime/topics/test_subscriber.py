from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from octobev import Predictions, Publisher, Subscriber
from octobev.errors import InvalidArgument, TopicError, TopicTimeout
from octobev.runtime.topics.encode import Stamp, encode_output
from octobev.runtime.topics.wire import Buffer

Make = Callable[..., Predictions]
WAIT_S = 20.0


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/t"


class Forger:
    """Sends any parts as a publisher would."""

    def __init__(self, endpoint: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.XPUB)
        self.socket.linger = 0
        self.socket.rcvtimeo = int(WAIT_S * 1000)
        self.socket.bind(endpoint)

    def wait(self) -> None:
        """Until somebody subscribes."""
        while self.socket.recv()[:1] != b"\x01":
            pass

    def send(self, *parts: Buffer) -> None:
        self.socket.send_multipart(parts)

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def forger(endpoint: str) -> Iterator[Forger]:
    forger = Forger(endpoint)
    yield forger
    forger.close()


@pytest.fixture
def heat(make_predictions: Make) -> Callable[..., list[Buffer]]:
    predictions = make_predictions()

    def make(sequence: int, session: str = "a" * 32, topic: str = "heat") -> list[Buffer]:
        return encode_output(topic, predictions.bev["heat"], predictions, Stamp(session, sequence, 1), kind="bev_raw")

    return make


def test_receive_times_out_with_what_was_wanted(endpoint: str) -> None:
    with Subscriber(endpoint, ["road_layout", "camera/*"]) as subscriber:
        assert subscriber.receive_nowait() is None
        with pytest.raises(TopicTimeout, match=r"/t: no message of road_layout, camera/\* in 0.01 s$"):
            subscriber.receive(0.01)
        with pytest.raises(TimeoutError):
            subscriber.latest(0.0)


@pytest.mark.parametrize("for_ever", [None, 1e300, float("inf")])
def test_receive_waits_however_long_it_is_told(
    endpoint: str, forger: Forger, heat: Callable[..., list[Buffer]], for_ever: float | None
) -> None:
    with Subscriber(endpoint) as subscriber:
        forger.wait()
        forger.send(*heat(7))
        assert subscriber.receive(for_ever).sequence == 7
        forger.send(*heat(8))
        assert asyncio.run(subscriber.receive_async(for_ever)).sequence == 8


def test_losses_repeats_and_restarts_are_noticed(
    endpoint: str, forger: Forger, heat: Callable[..., list[Buffer]]
) -> None:
    with Subscriber(endpoint, hwm=64) as subscriber:
        forger.wait()
        for sequence in (7, 8, 8, 8, 11, 12):
            forger.send(*heat(sequence))
        forger.send(*heat(3, topic="other"))
        forger.send(*heat(40, session="b" * 32))
        forger.send(*heat(5, session="b" * 32, topic="other"))
        forger.send(*heat(42, session="b" * 32))
        received = [subscriber.receive(WAIT_S) for _ in range(8)]
        assert [(m.topic, m.sequence) for m in received] == [
            ("heat", 7),
            ("heat", 8),
            ("heat", 11),
            ("heat", 12),
            ("other", 3),
            ("heat", 40),
            ("other", 5),
            ("heat", 42),
        ]
        assert subscriber.lost == {"heat": 3}
        assert subscriber.restarts == 1


def test_malformed_messages_are_counted_and_skipped(
    endpoint: str, forger: Forger, heat: Callable[..., list[Buffer]], caplog: pytest.LogCaptureFixture
) -> None:
    with Subscriber(endpoint, hwm=64) as subscriber:
        forger.wait()
        whole = heat(0)
        forger.send(b"nonsense")
        forger.send(whole[0], whole[1], bytes(whole[2])[:-1])
        forger.send(b"other/", *whole[1:])
        forger.send(*whole)
        assert subscriber.receive(WAIT_S).sequence == 0
        assert subscriber.malformed == 3
        assert "crc32 must be" in str(subscriber.last_error)
        assert len([r for r in caplog.records if r.name == "octobev.topics"]) == 1
        with pytest.raises(TopicTimeout, match="3 malformed messages skipped, last: message: crc32"):
            subscriber.receive(0.0)


def test_a_part_beyond_the_limit_is_never_taken(
    endpoint: str, forger: Forger, heat: Callable[..., list[Buffer]]
) -> None:
    with Subscriber(endpoint, max_part_bytes=10_000) as subscriber:
        forger.wait()
        forger.send(b"heat/", bytes(20_000))
        assert forger.socket.recv() == b"\x00"  # the connection was dropped
        while subscriber.malformed == 0:
            assert subscriber.receive_nowait() is None  # and is made again
        assert "part must be at most 10000 bytes" in str(subscriber.last_error)
        forger.wait()
        forger.send(*heat(0))
        assert subscriber.receive(WAIT_S).sequence == 0
        assert subscriber.malformed == 1


def test_only_what_the_pattern_says_is_delivered(endpoint: str, make_predictions: Make) -> None:
    with Publisher(endpoint) as publisher, Subscriber(endpoint, ["camera/*/depth", "heat"]) as subscriber:
        assert publisher.wait_for_subscription("camera/rear/x", WAIT_S)
        assert publisher.wait_for_subscription("heat", WAIT_S)
        publisher.publish(make_predictions())
        received = {subscriber.receive(WAIT_S).topic for _ in range(3)}
        assert received == {"camera/front/depth", "camera/front_left/depth", "heat"}
        assert subscriber.receive_nowait() is None


def test_latest_keeps_the_newest_of_each_topic(endpoint: str, make_predictions: Make) -> None:
    with Publisher(endpoint, hwm=64) as publisher, Subscriber(endpoint, ["heat", "occupancy"], hwm=64) as subscriber:
        assert publisher.wait_for_subscription("heat", WAIT_S)
        assert publisher.wait_for_subscription("occupancy", WAIT_S)
        for i in range(5):
            publisher.publish(make_predictions(i))
        sequences: dict[str, int] = {}
        while sequences != {"heat": 4, "occupancy": 4}:
            sequences |= {topic: message.sequence for topic, message in subscriber.latest(WAIT_S).items()}
        assert subscriber.lost == {}


def test_iteration(endpoint: str, make_predictions: Make) -> None:
    with Publisher(endpoint) as publisher, Subscriber(endpoint, "heat") as subscriber:
        assert publisher.wait_for_subscription("heat", WAIT_S)
        for i in range(3):
            publisher.publish(make_predictions(i))
        sequences = []
        for message in subscriber:
            sequences.append(message.sequence)
            if len(sequences) == 3:
                subscriber.close()
        assert sequences == [0, 1, 2]


def test_arrays_outlive_message_and_subscriber(endpoint: str, make_predictions: Make) -> None:
    predictions = make_predictions(bev={"heat": make_predictions().bev["heat"]})
    with Publisher(endpoint) as publisher, Subscriber(endpoint, "heat") as subscriber:
        assert publisher.wait_for_subscription("heat", WAIT_S)
        publisher.publish(predictions)
        values = subscriber.receive(WAIT_S).arrays["values"]
    np.testing.assert_array_equal(values, predictions.bev["heat"].arrays()["values"])
    assert not values.flags.writeable


def test_asyncio(endpoint: str, make_predictions: Make) -> None:
    async def listen(publisher: Publisher) -> list[int]:
        with Subscriber(endpoint, "heat") as subscriber:
            with pytest.raises(TopicTimeout, match=r"no message of heat in 0\.01 s"):
                await subscriber.receive_async(0.01)
            waiting = asyncio.create_task(subscriber.receive_async(WAIT_S))
            await asyncio.sleep(0)
            assert publisher.wait_for_subscription("heat", WAIT_S)
            waiting.cancel()  # loses nothing
            with pytest.raises(asyncio.CancelledError):
                await waiting
            publisher.publish(make_predictions(0))
            sequences = [(await subscriber.receive_async(WAIT_S)).sequence]
            publisher.publish(make_predictions(1))
            sequences.append(subscriber.receive(WAIT_S).sequence)  # both ways on one socket
            publisher.publish(make_predictions(2))
            async for message in subscriber:
                sequences.append(message.sequence)
                if len(sequences) == 4:
                    break
                publisher.publish(make_predictions(3))
            return sequences

    with Publisher(endpoint) as publisher:
        assert asyncio.run(listen(publisher)) == [0, 1, 2, 3]


def test_others_run_though_messages_are_always_there(endpoint: str, make_predictions: Make) -> None:
    async def run(publisher: Publisher) -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        with Subscriber(endpoint, "heat") as subscriber:
            other = asyncio.create_task(count())
            assert publisher.wait_for_subscription("heat", WAIT_S)
            for i in range(3):
                publisher.publish(make_predictions(i))
                assert subscriber._socket.poll(int(WAIT_S * 1000))
                before = turns
                assert (await subscriber.receive_async(WAIT_S)).sequence == i
                assert turns > before
            other.cancel()

    with Publisher(endpoint) as publisher:
        asyncio.run(run(publisher))


def test_arguments(endpoint: str) -> None:
    with pytest.raises(TopicError, match="topic must be components"):
        Subscriber(endpoint, "no topic")
    with pytest.raises(InvalidArgument, match="hwm must be at least 1, got 0"):
        Subscriber(endpoint, hwm=0)
    with pytest.raises(InvalidArgument, match="need CURVE keys on both sides"):
        Subscriber("tcp://10.0.0.1:5555")
    subscriber = Subscriber(endpoint)
    subscriber.close()
    subscriber.close()
    with pytest.raises(InvalidArgument, match="subscriber must be open, got a closed one"):
        subscriber.receive(1.0)


PUBLISHING = """
import sys
import numpy as np
from octobev import BevGrid, Camera, Intrinsics, OccupancyGrid, Pose, Predictions, Publisher, Rig
from octobev.runtime.predictions import Provenance, StateStatus

grid = BevGrid(0, 4, -2, 2, 0.5)
rig = Rig((Camera("front", Intrinsics(640, 480, 500, 500, 320, 240), Pose.identity()),))
with Publisher(sys.argv[1]) as publisher:
    publisher.set_rig(rig, "cd" * 32)
    print(publisher.endpoint, flush=True)
    if not publisher.wait_for_subscription("occupancy", 20):
        sys.exit("nobody came")
    for i in range(3):
        occupancy = OccupancyGrid(
            grid, np.full((8, 8), i, np.float32), np.ones((8, 8), bool), np.ones((8, 8), np.uint64), 1.0
        )
        publisher.publish(Predictions(
            i, i, rig.names, np.array([True]), np.array([0]), {}, {"occupancy": occupancy}, {}, {},
            StateStatus(True, None, i), Provenance("b", "ab" * 32, "cd" * 32, (), (), 1),
        ))
    sys.stdin.read()
"""


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_two_processes(transport: str, endpoint: str) -> None:
    address = endpoint if transport == "ipc" else "tcp://127.0.0.1:*"
    command = [sys.executable, "-c", PUBLISHING, address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with Subscriber(process.stdout.readline().strip(), ["rig", "occupancy"]) as subscriber:
                rig = subscriber.receive(WAIT_S)
                assert rig.rig().names == ("front",)
                for i in range(3):
                    message = subscriber.receive(WAIT_S)
                    assert (message.topic, message.timestamp_ns, message.sequence) == ("occupancy", i, i)
                    np.testing.assert_array_equal(message.occupancy().log_odds, np.full((8, 8), i, np.float32))
            _, _ = process.communicate()
            assert process.returncode == 0
        finally:
            process.kill()


def test_a_subscriber_started_first_finds_its_publisher(endpoint: str, make_predictions: Make) -> None:
    with Subscriber(endpoint, "heat") as subscriber:
        assert subscriber.receive_nowait() is None
        for restarts in range(2):
            with Publisher(endpoint) as publisher:
                message = None  # of this run: something of the run before may still be there
                while message is None or message.session != publisher.session:
                    publisher.publish(make_predictions())
                    message = subscriber.receive_nowait()  # receiving makes it subscribe again
            assert subscriber.restarts == restarts
        assert subscriber.malformed == 0


def test_a_subscriber_needs_numpy_pyzmq_and_msgspec_only() -> None:
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import octobev\n"
        "heavy = {'numpy', 'zmq', 'msgspec', 'onnxruntime', 'cv2', 'mcap', 'onnx', 'typer', 'rich', 'google'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "octobev.Subscriber\n"
        "octobev.Publisher\n"
        "import importlib.metadata, sysconfig\n"
        "site = {m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "site = {m for m in site if getattr(getattr(sys.modules.get(m), '__spec__', None), 'origin', None)}\n"
        "print(*sorted(m for m in site - {'typing_extensions'} if not m.startswith('_')))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["msgspec", "numpy", "octobev", "zmq"]
