"""Who is let in, and who is not, where topics are encrypted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq
from octobev import Predictions, Publisher, PublisherKeys, Subscriber, SubscriberKeys
from octobev.errors import InvalidArgument, KeyFileError, MissingFile, TopicTimeout
from octobev.runtime.topics.gate import Gate
from octobev.runtime.topics.keys import allow_key, create_keys, make_directory, read_secret_key
from zmq.utils import z85

Make = Callable[..., Predictions]
WAIT_S = 20.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Keys of a car, of a desk, which may subscribe, and of a stranger."""
    home = tmp_path / "keys"
    for name in ("car", "desk", "stranger"):
        create_keys(home, name)
    allow_key(home / "allowed", home / "desk.key")
    return home


@pytest.fixture
def car(home: Path) -> PublisherKeys:
    return PublisherKeys(home / "car.key_secret", home / "allowed")


@pytest.fixture
def desk(home: Path) -> SubscriberKeys:
    return SubscriberKeys(str(home / "desk.key_secret"), str(home / "car.key"))


@pytest.fixture
def stranger(home: Path) -> SubscriberKeys:
    return SubscriberKeys(home / "stranger.key_secret", home / "car.key")


@pytest.fixture(params=["ipc", "loopback tcp", "any tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"ipc": f"ipc://{tmp_path}/t", "loopback tcp": "tcp://127.0.0.1:*", "any tcp": "tcp://0.0.0.0:*"}[
        request.param
    ]


def wait_for_refusal(subscriber: Subscriber) -> str:
    """Why the subscriber is not let in. The test's time limit is the time limit."""
    while subscriber.refusal is None:
        assert subscriber.receive_nowait() is None
    return subscriber.refusal


def test_who_has_a_key_is_let_in(
    address: str, car: PublisherKeys, desk: SubscriberKeys, make_predictions: Make
) -> None:
    with Publisher(address, keys=car) as publisher, Subscriber(publisher.endpoint, "heat", keys=desk) as subscriber:
        assert publisher.wait_for_subscription("heat", WAIT_S)
        publisher.publish(make_predictions())
        assert subscriber.receive(WAIT_S).topic == "heat"
        assert subscriber.refusal is None


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("none", "only one of publisher and subscriber uses keys|the handshake failed"),
        ("stranger", "the publisher does not allow this subscriber's key"),
        ("other server", "the handshake failed: no publisher, or one with other keys"),
    ],
)
def test_who_has_no_key_or_a_wrong_one_gets_nothing(
    home: Path, car: PublisherKeys, desk: SubscriberKeys, make_predictions: Make, tmp_path: Path, who: str, reason: str
) -> None:
    wrong = {
        "none": None,
        "stranger": replace(desk, secret=home / "stranger.key_secret"),
        "other server": replace(desk, server=home / "stranger.key"),
    }[who]
    with (
        Publisher(f"ipc://{tmp_path}/t", keys=car) as publisher,
        Subscriber(publisher.endpoint, "heat", keys=wrong) as outside,
        Subscriber(publisher.endpoint, "heat", keys=desk) as inside,
    ):
        assert publisher.wait_for_subscription("heat", WAIT_S)
        wait_for_refusal(outside)
        for sequence in range(50):
            publisher.publish(make_predictions(sequence))
            assert inside.receive(WAIT_S).sequence == sequence
            assert outside.receive_nowait() is None
        with pytest.raises(TopicTimeout, match=f"no message of heat in 0 s; ({reason})"):
            outside.receive(0.0)
        assert outside.malformed == 0


def test_a_publisher_without_keys_is_not_believed(desk: SubscriberKeys, make_predictions: Make, tmp_path: Path) -> None:
    with (
        Publisher(f"ipc://{tmp_path}/t") as publisher,
        Subscriber(publisher.endpoint, keys=desk) as subscriber,
    ):
        wait_for_refusal(subscriber)
        publisher.publish(make_predictions())
        assert subscriber.receive_nowait() is None
        assert publisher.subscriptions == frozenset()


def test_a_key_that_is_added_is_let_in_without_a_restart(
    home: Path, car: PublisherKeys, stranger: SubscriberKeys, make_predictions: Make, tmp_path: Path
) -> None:
    with (
        Publisher(f"ipc://{tmp_path}/t", keys=car) as publisher,
        Subscriber(publisher.endpoint, "heat", keys=stranger) as subscriber,
    ):
        wait_for_refusal(subscriber)
        allow_key(home / "allowed", home / "stranger.key")
        while subscriber.refusal is not None:
            assert subscriber.receive_nowait() is None
        assert publisher.wait_for_subscription("heat", WAIT_S)
        publisher.publish(make_predictions())
        assert subscriber.receive(WAIT_S).topic == "heat"


def test_a_key_that_is_removed_is_shown_the_door_and_others_come_back(
    address: str, home: Path, car: PublisherKeys, desk: SubscriberKeys, stranger: SubscriberKeys, make_predictions: Make
) -> None:
    guest = allow_key(home / "allowed", home / "stranger.key")
    with (
        Publisher(address, keys=car) as publisher,
        Subscriber(publisher.endpoint, "heat", keys=desk) as inside,
        Subscriber(publisher.endpoint, "occupancy", keys=stranger) as outside,
    ):
        assert publisher.wait_for_subscription("heat", WAIT_S)
        assert publisher.wait_for_subscription("occupancy", WAIT_S)
        publisher.publish(make_predictions())
        assert (inside.receive(WAIT_S).sequence, outside.receive(WAIT_S).sequence) == (0, 0)
        guest.unlink()
        assert wait_for_refusal(outside) == "the publisher does not allow this subscriber's key"
        message = None
        while message is None:  # the other connects again
            publisher.publish(make_predictions())
            message = inside.receive_nowait()
            assert outside.receive_nowait() is None
        assert message.session == publisher.session
        assert publisher.subscriptions == {"heat/"}


def test_strangers_are_named_once(
    home: Path, car: PublisherKeys, stranger: SubscriberKeys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = read_secret_key(Path(stranger.secret)).public.decode()
    with Publisher(f"ipc://{tmp_path}/t", keys=car) as publisher:
        for _ in range(3):
            with Subscriber(publisher.endpoint, keys=stranger) as subscriber:
                wait_for_refusal(subscriber)
    said = [r.getMessage() for r in caplog.records if "its key" in r.getMessage()]
    assert said == [f"a subscriber was refused: its key {key} is not in {home / 'allowed'}"]


def test_curve_without_a_directory_of_keys_is_refused(home: Path, car: PublisherKeys, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/t"
    with pytest.raises(MissingFile, match="nowhere: no such directory of keys"):
        Publisher(endpoint, keys=replace(car, allowed=home / "nowhere"))
    with pytest.raises(KeyFileError, match="keys must be a directory"):
        Publisher(endpoint, keys=replace(car, allowed=home / "desk.key"))
    Path(car.secret).chmod(0o644)
    with pytest.raises(KeyFileError, match="secret key file must be mode 0600, got 0644"):
        Publisher(endpoint, keys=car)
    assert not (tmp_path / "t").exists()


def test_an_empty_directory_lets_nobody_in(
    car: PublisherKeys, desk: SubscriberKeys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_directory(tmp_path / "empty")
    with (
        Publisher(f"ipc://{tmp_path}/t", keys=replace(car, allowed=tmp_path / "empty")) as publisher,
        Subscriber(publisher.endpoint, keys=desk) as subscriber,
    ):
        assert "no keys yet: nobody can subscribe" in caplog.text
        wait_for_refusal(subscriber)


def test_both_sides_need_keys_beyond_this_machine(car: PublisherKeys, desk: SubscriberKeys) -> None:
    for side in (Publisher, Subscriber):
        with pytest.raises(InvalidArgument, match=r"need CURVE keys .* `octobev keys new` .* or use ipc"):
            side("tcp://192.0.2.1:5555")
    Subscriber("tcp://192.0.2.1:5555", keys=desk).close()
    with Publisher("tcp://0.0.0.0:*", keys=car) as publisher:
        assert publisher.endpoint.startswith("tcp://0.0.0.0:")


class Knocker:
    """Asks a gate as libzmq would. Keys are 40 characters of Z85."""

    def __init__(self, gate: Gate, context: zmq.Context[Any]) -> None:
        self.gate = gate
        self.socket = context.socket(zmq.REQ)
        self.socket.connect("inproc://zeromq.zap.01")

    def ask(self, *parts: bytes) -> tuple[bytes, bytes]:
        """Status and text of the answer."""
        self.socket.send_multipart(parts)
        self.gate.attend(0.0)
        version, request, status, text, *_ = self.socket.recv_multipart()
        assert (version, request) == (b"1.0", b"7")
        return status, text

    def knock(self, key: bytes, mechanism: bytes = b"CURVE", domain: bytes = b"octobev") -> bytes:
        return self.ask(b"1.0", b"7", domain, b"127.0.0.1", b"", mechanism, z85.decode(key))[0]


def test_the_gate_fails_closed(
    home: Path, car: PublisherKeys, desk: SubscriberKeys, caplog: pytest.LogCaptureFixture
) -> None:
    key = read_secret_key(Path(desk.secret)).public
    with zmq.Context() as context:
        gate = Gate(context, car)
        knocker = Knocker(gate, context)
        assert knocker.knock(key) == b"200"
        assert knocker.knock(key, mechanism=b"NULL") == b"400"
        assert knocker.knock(key, domain=b"other") == b"400"
        assert knocker.ask(b"1.0", b"7", b"octobev", b"", b"", b"CURVE") == (b"400", b"not a CURVE request")
        assert not gate.attend(10.0)
        (home / "allowed").chmod(0o777)
        assert knocker.knock(key) == b"400"
        assert knocker.knock(key) == b"400"
        assert gate.attend(20.0)
        assert not gate.attend(30.0)
        (home / "allowed").chmod(0o700)
        assert knocker.knock(key) == b"200"
        complaints = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert len(complaints) == 1
        assert "nobody is let in" in complaints[0].getMessage()
        context.destroy(linger=0)


def test_the_directory_is_looked_at_once_a_second(home: Path, car: PublisherKeys, desk: SubscriberKeys) -> None:
    with zmq.Context() as context:
        gate = Gate(context, car)
        assert not gate.attend(100.0)
        knocker = Knocker(gate, context)
        assert knocker.knock(read_secret_key(Path(desk.secret)).public) == b"200"
        (home / "allowed" / "desk.key").unlink()
        assert not gate.attend(100.9)
        assert gate.attend(101.0)
        context.destroy(linger=0)
