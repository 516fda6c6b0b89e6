from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import zmq
from octobev import Publisher
from octobev.cli import build
from octobev.cli.health import Silence
from octobev.cli.health_view import view, waiting
from octobev.errors import TopicTimeout
from octobev.runtime.live.health import Health
from octobev.runtime.topics.encode import Stamp, encode_health
from octobev.runtime.topics.message import Message
from octobev.runtime.topics.wire import decode
from rich.console import Console
from typer.testing import CliRunner, Result

Make = Callable[..., Health]


def shown(report: Health, *, width: int = 80, dead: bool = False, styles: bool = False) -> str:
    with Path(os.devnull).open("w") as nowhere:
        console = Console(width=width, record=True, force_terminal=True, color_system="standard", file=nowhere)
        console.print(view(report, "ipc:///run/octobev/topics", 12.0, dead=dead))
    return console.export_text(styles=styles)


@pytest.mark.parametrize("cameras", [1, 8, 16])
def test_the_picture_fits_80_columns_and_says_everything(make_health: Make, cameras: int) -> None:
    report = make_health(cameras)
    text = shown(report)
    assert max(map(len, text.splitlines())) <= 80
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    for name, camera in report.cameras.items():
        assert rows[name].split()[1] == camera.condition.value
        assert camera.reason is None or f"{name}: {camera.reason}"[:79] in text
    for name in (*report.stages, "latency"):
        assert name in rows
    assert rows["network"].startswith("network 11.0 18.7   44.0")
    for words in (
        "road_layout        valid",
        "NaN in 3 of 12288",
        "not wanted",
        "overrun 3",
        "callback 1",
        "memory 488 MiB",
    ):
        assert words in text


def test_cameras_that_share_a_reason_share_a_line(make_health: Make) -> None:
    report = make_health(16)
    gone = report.cameras["trailer_right"]
    lines = shown(replace(report, cameras=dict.fromkeys(report.cameras, gone))).splitlines()
    assert [line for line in lines if "no frame for" in line] == ["16 cameras: no frame for 73.2 s"]


def test_a_narrow_terminal_cuts_names_and_not_conditions(make_health: Make) -> None:
    text = shown(make_health(16), width=66)
    assert max(map(len, text.splitlines())) <= 66
    for condition in ("late", "stale", "corrupt", "missing"):
        assert f" {condition} " in text


def test_what_is_wrong_is_coloured(make_health: Make) -> None:
    styled = shown(make_health(16, valid=False, reason="no camera delivers", stalled={"network": 3.2}), styles=True)
    for words in ("\x1b[32mok", "\x1b[33mlate", "\x1b[35mstale", "\x1b[31mcorrupt", "\x1b[1;31mmissing"):
        assert words in styled
    assert "\x1b[1;31mNOT VALID: no camera delivers" in styled
    assert "\x1b[1;37;41m network is stuck for 3.2 s " in styled


def test_an_old_report_is_said_to_be_old(make_health: Make) -> None:
    styled = shown(make_health(), dead=True, styles=True)
    assert "\x1b[1;37;41m nothing has come for 12 s: what follows is old " in styled
    assert "\x1b[2;32mok" in styled
    assert "nothing has come" not in shown(make_health())


def test_a_runtime_that_has_just_started(make_health: Make) -> None:
    nothing = {name: {} for name in ("stages", "outputs", "resets", "queues", "errors")}
    text = shown(
        make_health(0, latency=None, rss_bytes=None, threads=None, descriptors=None, subscriptions=(), **nothing)
    )
    assert "listened to: nothing" in text
    assert "latency" in text
    with Path(os.devnull).open("w") as nowhere:
        console = Console(width=80, record=True, file=nowhere)
        console.print(waiting("ipc:///x", 3.0))
    assert console.export_text() == "waiting for a report on ipc:///x, 3 s\n"


def message_of(
    report: Health, sequence: int, published_s: float, received_s: float, session: str = "a" * 32
) -> Message:
    parts = encode_health(report, Stamp(session, sequence, round(published_s * 1e9)))
    return decode(parts, received_ns=round(received_s * 1e9))


def test_silence_is_two_seconds_or_three_periods(make_health: Make) -> None:
    silence, report = Silence(100.0), make_health(1)
    assert (silence.seconds(101.5), silence.dead(101.5), silence.dead(102.5)) == (1.5, False, True)
    silence.broken_by(message_of(report, 7, 1000.0, 1000.01), 103.0)
    assert (silence.dead(104.9), silence.dead(105.1)) == (False, True)
    silence.broken_by(message_of(report, 9, 1010.0, 1010.01), 113.0)  # one was lost: a period of 5 s
    assert (silence.dead(127.9), silence.dead(128.1)) == (False, True)
    silence.broken_by(message_of(report, 10, 1070.0, 1070.01), 173.0)  # a pause is no period
    assert (silence.dead(187.9), silence.dead(188.1)) == (False, True)
    silence.broken_by(message_of(report, 0, 2000.0, 2000.01, "b" * 32), 200.0)
    assert (silence.dead(214.9), silence.dead(215.1)) == (False, True)


def test_the_first_report_is_as_old_as_it_says_and_the_second_is_new(make_health: Make) -> None:
    silence, report = Silence(100.0), make_health(1)
    silence.broken_by(message_of(report, 7, 1000.0, 1060.0), 100.0)
    assert silence.seconds(100.0) == pytest.approx(60.0)
    assert silence.dead(100.0)
    silence.broken_by(message_of(report, 8, 1000.5, 1060.5), 100.5)  # the clocks differ
    assert silence.seconds(101.0) == 0.5
    assert not silence.dead(101.0)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(build(), ["health", *arguments], catch_exceptions=True)


@contextmanager
def publishing(endpoint: str, report: Health) -> Iterator[threading.Event]:
    """A report every 10 ms, until the event is set."""
    stop = threading.Event()
    with Publisher(endpoint) as publisher:

        def publish() -> None:
            while not stop.wait(0.01):
                publisher.publish_health(report)

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/t"


def test_once_says_whether_all_is_well(make_health: Make, endpoint: str) -> None:
    well = make_health(4)
    with publishing(endpoint, well):
        result = run(endpoint, "--once", "--json", "--timeout", "20")
        assert result.exit_code == 0, result.exception
        assert msgspec.json.decode(result.stdout, type=Health) == well
        text = run(endpoint, "--once").stdout
        assert "front_main " in text
        assert "\x1b" not in text  # no terminal, no colours


@pytest.mark.parametrize(
    "wrong", [{"count": 5}, {"valid": False, "reason": "no camera delivers"}, {"stalled": {"network": 2.0}}]
)
def test_once_says_that_not_all_is_well(make_health: Make, endpoint: str, wrong: dict[str, Any]) -> None:
    with publishing(endpoint, make_health(**{"count": 4, **wrong})):
        assert run(endpoint, "--once", "--json", "--timeout", "20").exit_code == 3


def test_no_report(make_health: Make, endpoint: str) -> None:
    for arguments in ((), ("--once",), ("--json",)):
        result = run(endpoint, "--timeout", "0.05", *arguments)
        assert isinstance(result.exception, TopicTimeout)
        assert f"{endpoint}: no report in 0.05 s" in str(result.exception)


def test_once_does_not_take_an_old_report_for_the_present(
    make_health: Make, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octobev.runtime.topics.publisher.time", SimpleNamespace(time_ns=lambda: 1_700_000_000 * 10**9))
    with Publisher(endpoint) as publisher:
        publisher.publish_health(make_health(4))
        result = run(endpoint, "--once", "--timeout", "1")
        assert isinstance(result.exception, TopicTimeout)
        assert "the latest report is" in str(result.exception)
        assert result.stdout == ""


def test_a_stream_says_when_nothing_comes(make_health: Make, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octobev.cli.health.SILENT_S", 0.05)
    monkeypatch.setattr("octobev.cli.health.REFRESH_S", 0.02)
    with Publisher(endpoint) as publisher:
        publisher.publish_health(make_health(4))
        result = run(endpoint, "--json", "--timeout", "0.5")
    assert json.loads(result.stdout)["sets"] == 30_412
    assert result.stderr == f"octobev: {endpoint}: no report for 0 s\n"
    assert isinstance(result.exception, TopicTimeout)


def test_malformed_reports_give_exit_code_3(make_health: Make, endpoint: str) -> None:
    whole = encode_health(make_health(4), Stamp("a" * 32, 0, time.time_ns()))
    with zmq.Context() as context, context.socket(zmq.XPUB) as forger:
        forger.linger = 0
        forger.rcvtimeo = 20_000
        forger.bind(endpoint)
        results: list[Result] = []
        thread = threading.Thread(target=lambda: results.append(run(endpoint, "--json", "--once", "--timeout", "20")))
        thread.start()
        assert forger.recv() == b"\x01health/"
        forger.send_multipart([b"health/", b"nonsense"])
        forger.send_multipart(whole)
        thread.join()
    (result,) = results
    assert result.exit_code == 3
    assert "1 malformed messages skipped, last: message: crc32 must be" in result.stderr


def test_ctrl_c_ends_a_stream_quietly(make_health: Make, endpoint: str) -> None:
    command = [sys.executable, "-m", "octobev", "health", endpoint, "--json"]
    with (
        publishing(endpoint, make_health()),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert {line["cameras"]["roof"]["condition"] for line in lines} == {"corrupt"}
    assert (process.returncode, errors) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_in_a_terminal_the_picture_follows_and_ctrl_c_leaves_it(make_health: Make, endpoint: str) -> None:
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "octobev", "health", endpoint]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "50"}
    seen = b""

    def read_until(words: bytes) -> None:
        nonlocal seen
        while words not in seen:
            seen += os.read(leader, 65536)

    with subprocess.Popen(command, stdout=follower, stderr=subprocess.PIPE, env=environment) as process:
        os.close(follower)
        read_until(b"waiting")
        with publishing(endpoint, replace(make_health(), stalled={"network": 3.2})) as stop:
            read_until(b"network is stuck for 3.2 s")
            stop.set()
            read_until(b"nothing has come for")
        process.send_signal(signal.SIGINT)
        read_until(b"\x1b[?25h")  # the cursor is there again
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    os.close(leader)


def test_echo_names_the_conditions(make_health: Make, endpoint: str) -> None:
    with publishing(endpoint, make_health()):
        result = CliRunner().invoke(build(), ["topic", "echo", endpoint, "health", "--count", "1"])
    assert "conditions: front_main ok, front_narrow ok" in result.stdout
    assert "roof corrupt" in result.stdout
