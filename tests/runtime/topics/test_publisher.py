from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zmq
from octobev import CameraOutput, Predictions, Publisher, Rig, RoadLayout, Subscriber
from octobev.errors import EndpointError, InvalidArgument, TopicError
from octobev.runtime.topics.wire import decode

Make = Callable[..., Predictions]
WAIT_S = 20.0


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/t"


def plain_subscriber(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, prefix: bytes) -> zmq.Socket[bytes]:
    reader = context.socket(zmq.SUB)
    reader.linger = 0
    reader.rcvtimeo = int(WAIT_S * 1000)
    reader.setsockopt(zmq.SUBSCRIBE, prefix)
    reader.connect(endpoint)
    return reader


def test_messages_are_what_the_document_says(endpoint: str, make_predictions: Make) -> None:
    with (
        Publisher(endpoint) as publisher,
        zmq.Context() as context,
        plain_subscriber(context, endpoint, b"road_layout/") as reader,
    ):
        assert publisher.wait_for_subscription("road_layout", WAIT_S)
        assert publisher.publish(make_predictions()) == 1
        parts = reader.recv_multipart()
    assert parts[0] == b"road_layout/"
    assert len(parts) == 5
    message = decode(parts)
    assert (message.session, message.sequence, message.header.schema) == (publisher.session, 0, 1)


def test_what_nobody_listens_to_is_not_encoded(
    endpoint: str, make_predictions: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Publisher(endpoint) as publisher:
        with monkeypatch.context() as patch:
            patch.setattr("octobev.runtime.topics.publisher.encode_output", None)
            assert publisher.publish(make_predictions()) == 0
        with Subscriber(endpoint, ["occupancy", "camera/front/depth"]) as subscriber:
            assert publisher.wait_for_subscription("occupancy", WAIT_S)
            assert publisher.wait_for_subscription("camera/front/depth", WAIT_S)
            assert publisher.publish(make_predictions(1)) == 2
            received = [subscriber.receive(WAIT_S) for _ in range(2)]
    assert {(m.topic, m.sequence) for m in received} == {("occupancy", 1), ("camera/front/depth", 1)}


def test_subscriptions_come_and_go(endpoint: str) -> None:
    with Publisher(endpoint) as publisher:
        assert publisher.subscriptions == frozenset()
        with Subscriber(endpoint, ["camera/front/*", "rig"]):
            assert publisher.wait_for_subscription("rig", WAIT_S)
            assert publisher.wait_for_subscription("camera/front/depth", WAIT_S)
            assert publisher.subscriptions == {"camera/front/", "rig/"}
            assert publisher.wants("camera/front/x")
            assert not publisher.wants("camera/front_left/x")
            assert not publisher.wants("camera")
        with publisher._changed:
            assert publisher._changed.wait_for(lambda: not publisher._prefixes, WAIT_S)
        assert not publisher.wait_for_subscription("rig", 0.0)


def test_a_late_joiner_gets_the_rig_though_nothing_is_published(endpoint: str, rig: Rig) -> None:
    with Publisher(endpoint) as publisher:
        publisher.set_rig(rig, "cd" * 32)
        with Subscriber(endpoint, "rig") as first:
            assert first.receive(WAIT_S).rig().names == ("front", "rear")
            for topics in ("rig", None):  # "rig" is listened to already
                with Subscriber(endpoint, topics) as late:
                    message = late.receive(WAIT_S)
                    assert (message.kind, message.header.rig_sha256) == ("rig", "cd" * 32)
            assert first.receive_nowait() is None  # it came again, but is the same


def test_a_new_rig_reaches_everybody(endpoint: str, rig: Rig) -> None:
    with Publisher(endpoint) as publisher, Subscriber(endpoint, "rig") as subscriber:
        publisher.set_rig(rig, "aa")
        assert subscriber.receive(WAIT_S).header.rig_sha256 == "aa"
        publisher.set_rig(rig.select(["rear"]), "bb")
        message = subscriber.receive(WAIT_S)
        assert (message.header.rig_sha256, message.sequence, message.rig().names) == ("bb", 1, ("rear",))


def test_topics_are_matched_exactly_on_the_wire(endpoint: str, make_predictions: Make) -> None:
    predictions = make_predictions()
    twins = {"road": predictions.bev["heat"], "road_layout": predictions.bev["road_layout"]}
    with (
        Publisher(endpoint) as publisher,
        zmq.Context() as context,
        plain_subscriber(context, endpoint, b"road/") as reader,
    ):
        assert publisher.wait_for_subscription("road", WAIT_S)
        for sequence in range(2):
            assert publisher.publish(make_predictions(sequence, bev=twins)) == 1
        assert [reader.recv_multipart()[0] for _ in range(2)] == [b"road/", b"road/"]


def test_an_invalid_output_keeps_the_kind_it_had(endpoint: str, make_predictions: Make) -> None:
    with Publisher(endpoint) as publisher, Subscriber(endpoint, "road_layout") as subscriber:
        assert publisher.wait_for_subscription("road_layout", WAIT_S)
        publisher.publish(make_predictions())
        publisher.publish(make_predictions(1, bev={}, invalid={"road_layout": "NaN"}))
        assert subscriber.receive(WAIT_S).valid
        message = subscriber.receive(WAIT_S)
        assert (message.valid, message.kind, message.reason) == (False, "road_layout", "NaN")


def test_a_burst_of_many_topics_fits_the_high_water_mark(endpoint: str, make_predictions: Make) -> None:
    values = np.zeros((500, 500), np.float32)
    names = [f"c{i}" for i in range(40)]
    outputs = {"x": {name: CameraOutput(name, "raw", values, (), np.eye(3)) for name in names}}
    changes = {
        "cameras": tuple(names),
        "camera_mask": np.ones(40, np.bool_),
        "camera_age_ns": np.zeros(40, np.int64),
        "camera_outputs": outputs,
    }
    with Publisher(endpoint, hwm=1) as publisher, Subscriber(endpoint, "camera/*/x") as subscriber:
        assert publisher.wait_for_subscription("camera/c0/x", WAIT_S)
        publisher.publish(make_predictions(0, **changes))
        assert [subscriber.receive(WAIT_S).topic for _ in range(40)] == [f"camera/{name}/x" for name in names]
        with Subscriber(endpoint, ["camera/*/x", "late"]) as late:  # connected after the mark was set
            assert publisher.wait_for_subscription("late", WAIT_S)
            publisher.publish(make_predictions(1, **changes))
            assert [late.receive(WAIT_S).topic for _ in range(40)] == [f"camera/{name}/x" for name in names]


STALLED = """
import sys, zmq
context = zmq.Context()
socket = context.socket(zmq.SUB)
socket.rcvhwm = 1
socket.linger = 0
socket.setsockopt(zmq.SUBSCRIBE, b"camera/")
socket.connect(sys.argv[1])
sys.stdin.read()
"""


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc")
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_stalled_subscriber_costs_nobody_anything(transport: str, endpoint: str, make_predictions: Make) -> None:
    values = np.ones((512, 512), np.float32)  # 1 MiB
    outputs = {"x": {"front": CameraOutput("front", "raw", values, (), np.eye(3))}}
    sets = [make_predictions(i, camera_outputs=outputs, bev={}, invalid={}) for i in range(8)]
    address = endpoint if transport == "ipc" else "tcp://127.0.0.1:*"
    with (
        Publisher(address) as publisher,
        subprocess.Popen([sys.executable, "-c", STALLED, publisher.endpoint], stdin=subprocess.PIPE) as process,
    ):
        try:
            assert publisher.wait_for_subscription("camera/front/x", WAIT_S)
            for i in range(20):
                publisher.publish(sets[i % 8])
            before = resident_bytes()
            for i in range(300):
                assert publisher.publish(sets[i % 8]) == 1
            assert resident_bytes() - before < 30 * 2**20
            with Subscriber(publisher.endpoint, "camera/front/x") as reader:  # others are served
                while (message := reader.receive_nowait()) is None:
                    publisher.publish(sets[0])
                assert message.sequence >= 320
        finally:
            process.kill()


def test_arrays_belong_to_the_caller_after_publishing(endpoint: str, make_predictions: Make) -> None:
    values = np.ones((512, 512), np.float32)
    outputs = {"x": {"front": CameraOutput("front", "raw", values, (), np.eye(3))}}
    with Publisher(endpoint) as publisher, Subscriber(endpoint, "camera/front/x") as subscriber:
        assert publisher.wait_for_subscription("camera/front/x", WAIT_S)
        publisher.publish(make_predictions(0, camera_outputs=outputs))
        values[:] = 2
        assert (subscriber.receive(WAIT_S).arrays["values"] == 1).all()


@pytest.mark.parametrize("name", ["rig", "health", "camera"])
def test_reserved_output_names(endpoint: str, make_predictions: Make, name: str) -> None:
    predictions = make_predictions(bev={name: make_predictions().bev["heat"]})
    with (
        Publisher(endpoint) as publisher,
        pytest.raises(TopicError, match="output name must be none of camera, health"),
    ):
        publisher.publish(predictions)


def test_an_array_that_is_too_large(endpoint: str, make_predictions: Make) -> None:
    with Publisher(endpoint, max_part_bytes=47) as publisher, Subscriber(endpoint, "road_layout"):
        assert publisher.wait_for_subscription("road_layout", WAIT_S)
        with pytest.raises(InvalidArgument, match="array of a message must be at most 47 bytes, got 48 bytes"):
            publisher.publish(make_predictions())


def test_an_endpoint_in_use(endpoint: str) -> None:
    with Publisher(endpoint), pytest.raises(EndpointError, match="address in use: another publisher is bound"):
        Publisher(endpoint)
    with (
        Publisher("tcp://127.0.0.1:*") as first,
        pytest.raises(EndpointError, match="cannot publish there: address in use"),
    ):
        Publisher(first.endpoint)
    path = endpoint.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(path)
    assert Path(path).exists()
    Publisher(endpoint).close()
    assert not Path(path).exists()


def test_a_file_is_not_a_socket(endpoint: str) -> None:
    path = Path(endpoint.removeprefix("ipc://"))
    path.write_text("precious")
    with pytest.raises(EndpointError, match="must be free or a socket"):
        Publisher(endpoint)
    assert path.read_text() == "precious"


def test_an_endpoint_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="cannot publish there: No such file or directory"):
        Publisher(f"ipc://{tmp_path}/missing/t")
    with pytest.raises(InvalidArgument, match="need CURVE keys on both sides"):
        Publisher("tcp://*:5555")
    with pytest.raises(InvalidArgument, match="hwm must be at least 1, got 0"):
        Publisher(f"ipc://{tmp_path}/t", hwm=0)


def test_close_leaves_nothing_behind(endpoint: str, make_predictions: Make) -> None:
    before = threading.active_count()
    publisher = Publisher(endpoint)
    assert [t.name for t in threading.enumerate() if t.name == "octobev-publisher"] == ["octobev-publisher"]
    publisher.close()
    publisher.close()
    assert threading.active_count() == before
    assert not Path(endpoint.removeprefix("ipc://")).exists()
    with pytest.raises(InvalidArgument, match="publisher must be open, got a closed one"):
        publisher.publish(make_predictions())


def test_what_is_not_a_subscription_is_ignored(endpoint: str, rig: Rig) -> None:
    with Publisher(endpoint) as publisher, zmq.Context() as context, context.socket(zmq.XSUB) as peer:
        peer.linger = 0
        peer.rcvtimeo = int(WAIT_S * 1000)
        peer.connect(endpoint)
        peer.send(b"\x07nonsense")
        peer.send(b"")
        peer.send_multipart([b"\x01heat/", b"more"])
        peer.send(b"\x01rig/")
        assert publisher.wait_for_subscription("rig", WAIT_S)
        publisher.set_rig(rig, "aa")
        assert peer.recv_multipart()[0] == b"rig/"


def test_publishing_from_several_threads(endpoint: str, make_predictions: Make) -> None:
    with Publisher(endpoint, hwm=64) as publisher, Subscriber(endpoint, "heat", hwm=64) as subscriber:
        assert publisher.wait_for_subscription("heat", WAIT_S)
        sets = [make_predictions(i) for i in range(20)]

        def publish(part: list[Predictions]) -> None:
            for predictions in part:
                publisher.publish(predictions)

        threads = [threading.Thread(target=publish, args=(sets[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [subscriber.receive(WAIT_S).sequence for _ in range(20)] == list(range(20))


def test_geometry_is_computed_only_for_who_listens_to_it(
    endpoint: str, make_predictions: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    geometry = RoadLayout.geometry
    monkeypatch.setattr(RoadLayout, "geometry", lambda layout, direction: asked.append(layout) or geometry(layout))
    with Publisher(endpoint) as publisher, Subscriber(endpoint, "road_layout") as plain:
        assert publisher.wait_for_subscription("road_layout", WAIT_S)
        publisher.publish(make_predictions(0))
        assert plain.receive(WAIT_S).kind == "road_layout"
        assert asked == []
        with Subscriber(endpoint, "road_layout_geometry") as subscriber:
            assert publisher.wait_for_subscription("road_layout_geometry", WAIT_S)
            publisher.publish(make_predictions(1))
            assert subscriber.receive(WAIT_S).kind == "layout_geometry"
            assert len(asked) == 1
            withheld = make_predictions(2)
            publisher.publish(make_predictions(2, bev={"heat": withheld.bev["heat"]}, invalid={"road_layout": "NaN"}))
            message = subscriber.receive(WAIT_S)
            assert (message.valid, message.reason, message.kind) == (False, "NaN", "layout_geometry")
