"""`octobev run` as a user runs it, on a short drive and the bundle that is shipped."""

import errno
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter

import pytest
from mcap.opcode import Opcode
from mcap.reader import make_reader
from octobev.cli import build
from octobev.cli.live_status import status_lines
from octobev.errors import RigError
from octobev.fusion.rig import rig_sha256, write_rig
from octobev.replay import recorder
from octobev.replay.open import open_drive
from octobev.runtime.live.health import CameraCondition, CameraHealth, Health, Spread
from octobev.sources.state import SourceCondition, SourceState
from typer.testing import CliRunner

S = 1_000_000_000


def run(*arguments):
    return CliRunner().invoke(build(), ["run", *map(str, arguments)])


def test_a_drive_in_real_time_ends_by_itself(drive):
    result = run("--source", f"drive:{drive}", "--outputs", "occupancy", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    rig = open_drive(drive).rig
    assert set(report["sources"]) == set(report["health"]["cameras"]) == set(rig.names)
    assert {source["condition"] for source in report["sources"].values()} == {"ended"}
    assert report["sources"][rig.names[0]]["frames"] == 4 * 8
    assert report["health"]["sets"] >= 1
    assert report["health"]["rig_sha256"] == rig_sha256(rig)
    assert list(report["health"]["outputs"]) == ["occupancy"]


def test_a_recording_has_predictions_and_poses(drive, tmp_path):
    options = ("--source", f"drive:{drive}", "--outputs", "occupancy", "--record", tmp_path / "out.mcap", "--json")
    result = run(*options)
    assert result.exit_code == 0, result.output
    with open(tmp_path / "out.mcap", "rb") as file:
        counts = Counter(channel.topic for _, channel, _ in make_reader(file).iter_messages())
    assert counts["/occupancy"] == json.loads(result.stdout)["health"]["sets"]
    assert counts["/tf"] == counts["/occupancy"]
    assert "exists already" in str(run(*options).exception)


def test_a_recording_without_its_index_is_a_loss(drive, tmp_path, monkeypatch):
    write = recorder._Output.write

    def full(output, data):
        if data[:1] == bytes([Opcode.DATA_END]):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(output, data)

    monkeypatch.setattr(recorder._Output, "write", full)
    result = run("--source", f"drive:{drive}", "--outputs", "occupancy", "--record", tmp_path / "out.mcap")
    assert result.exit_code == 3
    assert "No space left on device; the file is valid up to there; 0 sets are not in it" in result.stderr


def test_the_summary_for_people(drive):
    result = run("--source", f"drive:{drive}", "--outputs", "occupancy")
    assert result.exit_code == 0, result.output
    first, *cameras = result.stdout.splitlines()
    assert " sets (" in first
    assert len(cameras) == 8
    assert all("source ended" in line and "frames used" in line for line in cameras)
    assert "INFO 8 cameras (drive:" in result.stderr


@pytest.fixture
def rig_file(drive, tmp_path):
    """The rig of the drive, in a file whose front camera names a drive and whose others name nothing."""
    rig = open_drive(drive).rig
    write_rig(rig, tmp_path / "rig.toml")
    name = f'name = "{rig.names[0]}"'
    text = (tmp_path / "rig.toml").read_text().replace(name, f'{name}\nsource = "drive:{drive}"')
    (tmp_path / "rig.toml").write_text(text)
    return tmp_path / "rig.toml"


def test_each_camera_takes_the_source_of_the_rig_file_or_of_the_option(rig_file, drive, tmp_path):
    front, second, *_ = open_drive(drive).rig.names
    options = ("--rig", rig_file, "--outputs", "occupancy", "--json")
    alone = run(*options)
    assert alone.exit_code == 0, alone.output
    assert {name: s["frames"] for name, s in json.loads(alone.stdout)["sources"].items()} == {front: 4}
    both = run(*options, "--source", f"{second}=ring:{tmp_path}/none", "--duration", "1.5")
    assert both.exit_code == 0, both.output
    sources = json.loads(both.stdout)["sources"]
    assert {name: s["condition"] for name, s in sources.items()} == {front: "ended", second: "connecting"}


def test_a_file_that_cannot_be_played_gives_exit_code_3(rig_file, drive, tmp_path):
    second = open_drive(drive).rig.names[1]
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    result = run("--rig", rig_file, "--source", f"{second}=file:{tmp_path}/a.mp4", "--outputs", "occupancy")
    assert result.exit_code == 3
    assert f"octobev: {second}: invalid data found when processing input" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs --rig rig.toml, or a drive"),
        (("--source", "front=ring:front"), "needs --rig rig.toml, or a drive"),
        (("--source", "front.mp4"), "source must be v4l2"),
        (("--source", "ring:front"), "source without a camera must be one drive:PATH, got ring:front"),
        (("--source", "drive:a", "--source", "drive:b"), "source without a camera must be one drive:PATH, got drive:b"),
        (("--source", "front=rtsp://u:hunter2@h:x"), "got 'rtsp://***@h:x'"),
        (("--source", "drive:a", "--always", "occupancy"), "needs --publish"),
        (("--source", "drive:a", "--variant", "int4"), "int4"),
    ],
)
def test_wrong_usage(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_errors_are_those_of_the_rig_and_the_drive(drive, rig_file):
    assert isinstance(run("--rig", rig_file, "--source", "nobody=ring:a").exception, RigError)
    assert "no such drive" in str(run("--source", "drive:/nowhere.mcap").exception)


def test_a_drive_that_is_played_is_never_overwritten(drive, rig_file, tmp_path):
    copy = tmp_path / "copy.mcap"
    copy.write_bytes(drive.read_bytes())
    for sources in (("--source", f"drive:{copy}"), ("--rig", rig_file, "--source", f"rear=file:{copy}")):
        result = run(*sources, "--record", copy, "--force")
        assert "must be another file than those that are read" in str(result.exception)
    assert copy.read_bytes() == drive.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_the_summary(drive, number, tmp_path):
    command = [sys.executable, "-m", "octobev", "run", "--source", f"drive:{drive}?loop=true", "--json"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command += ["--metrics", str(port)]
    command += ["--publish", f"ipc://{tmp_path}/t", "--always", "occupancy", "--outputs", "occupancy,road_layout"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("streaming" in line for line in process.stderr)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            assert b"octobev_up 1.0" in answer.read()
        process.send_signal(number)
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    report = json.loads(output)
    assert {source["condition"] for source in report["sources"].values()} == {"streaming"}
    assert not report["health"]["outputs"]["road_layout"]["computed"]


def camera(condition="ok", reason=None):
    return CameraHealth(CameraCondition(condition), S, 10.0, S // 10, 0, 20, 18, {}, 0, 0, reason)


def health(sets=20, seconds=2, cameras=(), **changes):
    values = {
        "timestamp_ns": 0,
        "uptime_ns": seconds * S,
        "valid": True,
        "reason": None,
        "cameras": dict(cameras),
        "stages": {},
        "latency": Spread(20, 48.2, 80.0, 90.0),
        "outputs": {},
        "sets": sets,
        "incomplete": 0,
        "overrun": 0,
        "deadline_misses": 0,
        "resets": {},
        "queues": {},
        "stalled": {},
        "errors": {},
        "rss_bytes": None,
        "rig_sha256": "",
        "bundle_sha256": "",
    }
    return Health(**(values | changes))


def test_lines_tell_the_whole_and_every_camera_that_is_not_well():
    cameras = {"front": camera(), "left": camera("missing", "no frame for 2.0 s"), "rear": camera("late", "late")}
    states = {
        "front": SourceState(SourceCondition.STREAMING, 0),
        "left": SourceState(SourceCondition.WAITING, 0, "connection refused", 3 * S),
    }
    before = health(10, 1)
    lines = status_lines(health(25, 2, cameras.items(), overrun=3, errors={"callback": 2}), before, states, S)
    assert lines == (
        "2 s  25 sets (15.0/s)  cameras 1 of 3 ok  latency 48 ms (p99 80)  3 overrun  2 errors",
        "left: missing (no frame for 2.0 s), 10.0 Hz; source waiting 2.0 s (connection refused)",
        "no source: rear",
    )


def test_lines_say_when_nothing_is_valid():
    (line,) = status_lines(health(0, 0, valid=False, reason="no camera delivers", latency=None), None, {}, 0)
    assert line == "0 s  0 sets  cameras 0 of 0 ok  NOT VALID: no camera delivers"
