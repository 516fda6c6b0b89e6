from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from octobev import BevGrid, Camera, Intrinsics, OccupancyGrid, Pose, Predictions, Publisher, Rig
from octobev.cli import build
from octobev.errors import TopicError, TopicTimeout
from octobev.runtime.predictions import Provenance, StateStatus
from octobev.runtime.topics.keys import create_keys
from typer.testing import CliRunner, Result

GRID = BevGrid(0, 4, -2, 2, 0.5)
RIG = Rig((Camera("front", Intrinsics(640, 480, 500, 500, 320, 240), Pose.identity()),))


def predictions(sequence: int) -> Predictions:
    occupancy = OccupancyGrid(
        GRID, np.ones(GRID.shape, np.float32), np.ones(GRID.shape, np.bool_), np.ones(GRID.shape, np.uint64), 2.0
    )
    return Predictions(
        timestamp_ns=1_500_000_000_000_000_000 + sequence,
        sequence=sequence,
        cameras=RIG.names,
        camera_mask=np.array([True]),
        camera_age_ns=np.array([0]),
        absences={},
        bev={"occupancy": occupancy},
        camera_outputs={},
        invalid={"road_layout": "NaN"},
        state=StateStatus(True, None, 0),
        provenance=Provenance("b", "ab" * 32, "cd" * 32, (), (), 1),
    )


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """Something is published there all the time: rig, occupancy, and a road layout that is never valid."""
    stop = threading.Event()
    with Publisher(f"ipc://{tmp_path}/t") as publisher:
        publisher.set_rig(RIG, "cd" * 32)

        def publish() -> None:
            sequence = 0
            while not stop.wait(0.005):
                publisher.publish(predictions(sequence))
                sequence += 1

        thread = threading.Thread(target=publish)
        thread.start()
        yield publisher.endpoint
        stop.set()
        thread.join()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(build(), ["topic", *arguments], catch_exceptions=True)


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_list_names_what_is_there(endpoint: str) -> None:
    found = {entry["topic"]: entry for entry in lines(run("list", endpoint, "--json", "--timeout", "0.3"))}
    assert set(found) == {"rig", "occupancy", "road_layout"}
    assert found["rig"]["messages"] == 1
    assert found["occupancy"]["kind"] == "occupancy"
    assert found["occupancy"]["hz"] > 1
    assert found["road_layout"]["invalid"] == found["road_layout"]["messages"]
    text = run("list", endpoint, "--timeout", "0.3").stdout
    assert "rig " in text
    assert "static" in text
    assert "not valid" in text


def test_echo_prints_messages(endpoint: str) -> None:
    entries = lines(run("echo", endpoint, "occupancy", "--json", "--count", "3"))
    assert [entry["sequence"] - entries[0]["sequence"] for entry in entries] == [0, 1, 2]
    assert entries[0]["arrays"]["log_odds"] == {"dtype": "float32", "shape": [8, 8], "min": 1.0, "max": 1.0}
    assert entries[0]["grid"]["resolution_m"] == 0.5
    assert entries[0]["arrays"]["seen_by"]["max"] == 1
    text = run("echo", endpoint, "occupancy", "--count", "1").stdout
    assert "log_odds: float32 [8 x 8] 1.0 to 1.0" in text
    assert "front" in text
    assert "front: 640x480 pinhole" in run("echo", endpoint, "rig", "--count", "1").stdout
    assert "not valid: NaN" in run("echo", endpoint, "road_layout", "--count", "1").stdout


@pytest.mark.parametrize("command", ["hz", "bw", "delay"])
def test_measurements(endpoint: str, command: str) -> None:
    (entry,) = lines(run(command, endpoint, "occupancy", "--json", "--count", "5"))
    assert (entry["topic"], entry["messages"], entry["final"]) == ("occupancy", 5, True)
    assert entry["hz"] > 0
    assert entry["bytes_per_s"] == pytest.approx(entry["hz"] * entry["mean_bytes"], rel=0.1)
    assert 0 <= entry["transport"]["min_ms"] <= entry["transport"]["p50_ms"] <= entry["transport"]["max_ms"]
    assert entry["capture"]["min_ms"] > 1e9  # the drive was recorded long ago
    text = run(command, endpoint, "occupancy", "--count", "5").stdout
    assert {"hz": " Hz ", "bw": " MB/s ", "delay": "(a recorded drive)"}[command] in text


def test_an_unknown_topic_is_told_what_there_is(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octobev.cli.topic.LISTEN_S", 0.3)
    result = run("echo", endpoint, "road", "--timeout", "0.1")
    assert isinstance(result.exception, TopicError)
    assert "topic must be one of occupancy, rig, road_layout, got road" in str(result.exception)
    assert isinstance(run("hz", endpoint, "no topic").exception, TopicError)


def test_nothing_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octobev.cli.topic.LISTEN_S", 0.05)
    result = run("echo", f"ipc://{tmp_path}/t", "--timeout", "0.05")
    assert isinstance(result.exception, TopicTimeout)
    assert "no message of * in 0.05 s" in str(result.exception)
    result = run("list", f"ipc://{tmp_path}/t", "--timeout", "0.05")
    assert isinstance(result.exception, TopicTimeout)
    assert "nothing is published there in 0.05 s" in str(result.exception)


def test_endpoints_beyond_this_machine_need_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "need CURVE keys" in str(run("hz", "tcp://192.0.2.1:5555").exception)
    assert run("hz", "tcp://192.0.2.1:5555", "--insecure").exit_code == 2
    assert run("hz", "tcp://192.0.2.1:5555", "--key", "desk").exit_code == 2
    monkeypatch.setattr("octobev.cli.topic.LISTEN_S", 0.05)
    _, secret = create_keys(tmp_path, "desk")
    public, _ = create_keys(tmp_path, "car")
    keys = ["--key", str(secret), "--server-key", str(public)]
    result = run("hz", "tcp://192.0.2.1:5555", *keys, "--timeout", "0.05")
    assert isinstance(result.exception, TopicTimeout)


def test_malformed_messages_give_exit_code_3(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/t"
    stop = threading.Event()
    with zmq.Context() as context, context.socket(zmq.PUB) as forger:
        forger.linger = 0
        forger.bind(address)

        def forge() -> None:
            with Publisher(f"ipc://{tmp_path}/u") as source, context.socket(zmq.SUB) as copy:
                copy.linger = 0
                copy.subscribe(b"")
                copy.connect(source.endpoint)
                source.wait_for_subscription("occupancy", 20)
                source.publish(predictions(0))
                whole = copy.recv_multipart()
                while not stop.wait(0.005):
                    forger.send_multipart([b"occupancy/", b"nonsense"])
                    forger.send_multipart(whole)

        thread = threading.Thread(target=forge)
        thread.start()
        result = run("echo", address, "--timeout", "0.3")
        stop.set()
        thread.join()
    assert result.exit_code == 3
    assert "malformed messages skipped, last: message: crc32 must be" in result.stderr


def test_ctrl_c_ends_with_the_summary(endpoint: str) -> None:
    command = [sys.executable, "-m", "octobev", "topic", "hz", endpoint, "occupancy", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert not first["final"]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate()
        last = json.loads(rest.splitlines()[-1])
        assert last["final"]
        assert last["messages"] >= first["messages"]
        assert (process.returncode, errors) == (0, "")


def test_a_reader_that_leaves_ends_echo_quietly(endpoint: str) -> None:
    command = [sys.executable, "-m", "octobev", "topic", "echo", endpoint, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


def test_the_example_runs(endpoint: str) -> None:
    example = Path(__file__).parents[2] / "examples" / "subscriber.py"
    command = [sys.executable, str(example), endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = {process.stdout.readline().partition(" ")[2] for _ in range(8)}
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        assert lines == {"occupancy: 64 cells occupied\n", "road_layout: not valid: NaN\n"}
        assert (process.returncode, errors) == (0, "")
