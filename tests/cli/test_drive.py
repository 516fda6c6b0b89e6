import itertools
import json
import subprocess
import sys

import pytest
from octobev.cli import EXIT_INTERRUPTED, EXIT_LOSS, EXIT_USAGE, build, source
from octobev.errors import DriveError, MissingFile, RecordingError, RigError
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig, write_rig
from octobev.replay import synthetic
from octobev.replay.open import open_drive
from octobev.replay.recorder import Recorder
from octobev.replay.rigs import find_rig, reference_rig
from octobev.runtime.frames import Frame, FrameSet, PixelFormat
from typer.testing import CliRunner

MS = 1_000_000
START_NS = 1_600_000_000_000_000_000
RIG = Rig(tuple(Camera(name, Intrinsics(64, 48, 50, 50, 32, 24), Pose.planar(1, 2, 0)) for name in ("a", "b")), "car")


@pytest.fixture
def octobev():
    app = build()

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "drive.mcap"
    with Recorder(path, RIG) as recorder:
        for number in range(20):
            stamp = START_NS + number * 100 * MS
            names = ("a",) if number == 3 else ("a", "b")
            frames = (
                Frame(name, stamp, b"\xff\xd8\xff" + bytes(20_000), PixelFormat.JPEG, Pose.planar(number, 0, 0))
                for name in names
            )
            recorder.write_frames(FrameSet(stamp, tuple(frames)))
    return path


def test_info_says_what_is_in_a_drive(octobev, recording):
    result = octobev("drive", "info", recording)
    assert result.exit_code == 0
    assert "drive: 20 sets over 1.90 s, 10.0 a second, 19 of them complete" in result.stdout
    assert "39 frames, 0.8 MB, 39 with a pose" in result.stdout
    assert "64x48" in result.stdout
    assert "1.00 2.00 0.00 m" in result.stdout


def test_info_as_json_is_one_object(octobev, recording):
    result = octobev("drive", "info", recording, "--json", "--cameras", "b")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    camera = summary["cameras"].pop("b")
    assert (camera["frames"], camera["width"], camera["lens"], camera["position_m"]) == (19, 64, "pinhole", [1, 2, 0])
    assert summary == {
        "name": "drive",
        "rig": "car",
        "cameras": {},
        "sets": 19,
        "complete_sets": 19,
        "frames": 19,
        "frames_with_pose": 19,
        "sets_with_truth": 0,
        "image_bytes": 19 * 20_003,
        "start_ns": START_NS,
        "seconds": 1.9,
        "corrupt": 0,
        "truncated": None,
        "loss_reasons": {},
    }


def test_info_exits_with_3_when_something_was_lost(octobev, recording):
    content = recording.read_bytes()
    recording.write_bytes(content[: len(content) // 2])
    result = octobev("drive", "info", recording)
    assert result.exit_code == EXIT_LOSS
    assert f"truncated: drive.mcap ends at byte {len(content) // 2}" in result.stdout


def test_info_of_nothing_is_an_error(octobev, tmp_path):
    assert isinstance(octobev("drive", "info", tmp_path / "none.mcap").exception, MissingFile)
    (tmp_path / "empty.mcap").touch()
    assert isinstance(octobev("drive", "info", tmp_path / "empty.mcap").exception, DriveError)


def test_info_of_the_demo_and_of_some_cameras(octobev, monkeypatch):
    monkeypatch.setattr(source, "DEMO_SECONDS", 0.2)
    monkeypatch.setattr(source, "DEMO_SIZE", (64, 48))
    result = octobev("drive", "info", "demo", "--cameras", "rear, front_main", "--json")
    assert list(json.loads(result.stdout)["cameras"]) == ["front_main", "rear"]


@pytest.mark.parametrize("closed", ["1", "2"])
def test_info_ends_well_where_nobody_listens(recording, closed):
    command = [sys.executable, "-m", "octobev", "drive", "info", str(recording)]
    shell = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *command]
    result = subprocess.run(shell, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert ("20 sets" in result.stdout) == (closed == "2")


def test_synth_writes_a_drive_with_ground_truth(octobev, tmp_path):
    path = tmp_path / "town.mcap"
    result = octobev("drive", "synth", path, "--seed", 3, "--seconds", 0.3, "--rate", 10, "--size", "64x48", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["sets"], summary["seed"], summary["interrupted"]) == (3, 3, False)
    assert summary["bytes"] == path.stat().st_size
    steps = list(open_drive(path).steps())
    assert [len(step.frame_set.frames) for step in steps] == [8, 8, 8]
    assert all(step.truth is not None for step in steps)


@pytest.mark.parametrize(("rig", "size", "count"), [("six", (96, 54), 6), ("fisheye", (64, 48), 4)])
def test_synth_drives_a_car_with_the_cameras_of_a_rig(octobev, tmp_path, rig, size, count):
    path = tmp_path / "town.mcap"
    width_height = f"{size[0]}x{size[1]}"
    result = octobev(
        "drive", "synth", path, "--seed", 3, "--seconds", 0.1, "--rate", 10, "--rig", rig, "--size", width_height
    )
    assert result.exit_code == 0, result.output
    cameras = open_drive(path).rig.cameras
    expected = find_rig(rig)
    assert len(cameras) == count
    for camera, wanted in zip(cameras, expected, strict=True):
        assert camera.intrinsics == wanted.intrinsics.resized(*size)


def test_synth_takes_the_rig_of_a_file_at_its_own_size(octobev, tmp_path):
    small = Camera("only", Intrinsics(48, 32, 30.0, 30.0, 23.5, 15.5), reference_rig().cameras[0].ego_from_camera)
    write_rig(Rig((small,), "mine"), tmp_path / "mine.toml")
    path = tmp_path / "town.mcap"
    result = octobev(
        "drive", "synth", path, "--seed", 3, "--seconds", 0.1, "--rate", 10, "--rig", tmp_path / "mine.toml", "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rig"] == "mine"
    assert [camera.intrinsics for camera in open_drive(path).rig] == [small.intrinsics]


def test_synth_refuses_a_rig_that_nobody_knows(octobev, tmp_path):
    result = octobev("drive", "synth", tmp_path / "o.mcap", "--seed", 1, "--seconds", 1, "--rig", "seven")
    assert isinstance(result.exception, RigError)
    assert "rig must be reference, six, fisheye or a rig.toml" in str(result.exception)
    assert not (tmp_path / "o.mcap").exists()


def test_synth_does_not_overwrite_unless_forced(octobev, tmp_path):
    path = tmp_path / "town.mcap"
    path.write_bytes(b"precious")
    result = octobev("drive", "synth", path, "--seed", 1, "--seconds", 1)
    assert isinstance(result.exception, RecordingError)
    assert "town.mcap: exists already; --force overwrites it" in str(result.exception)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--size", "big", "must be WxH in pixels"),
        ("--size", "0x5", "must be WxH in pixels"),
        ("--size", "100000x5", "must be WxH in pixels"),
        ("--rate", "0", "must be above 0"),
        ("--seconds", "-1", "must be above 0"),
        ("--seconds", "inf", "must be above 0"),
        ("--seconds", "0.01", "must be at least 0.0833333 for one set"),
    ],
)
def test_synth_refuses_arguments_that_cannot_be(octobev, tmp_path, option, value, message):
    arguments = {"--seed": "1", "--seconds": "1"} | {option: value}
    result = octobev("drive", "synth", tmp_path / "o.mcap", *(word for pair in arguments.items() for word in pair))
    assert result.exit_code == EXIT_USAGE
    assert message in result.stderr
    assert not (tmp_path / "o.mcap").exists()


def test_interrupted_synth_leaves_a_valid_file(octobev, recording, tmp_path, monkeypatch):
    class Interrupted:
        """Stands in for the synthetic drive: what was recorded before, and Ctrl-C after two sets."""

        def __init__(self, seed, seconds, *, rate_hz, size, rig):
            self.drive = open_drive(recording)
            self.rig, self.length_hint = self.drive.rig, round(seconds * rate_hz)

        def steps(self):
            yield from itertools.islice(self.drive.steps(), 2)
            raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "SyntheticDrive", Interrupted)
    path = tmp_path / "town.mcap"
    result = octobev("drive", "synth", path, "--seed", 3, "--seconds", 1, "--json")
    assert result.exit_code == EXIT_INTERRUPTED
    assert json.loads(result.stdout)["sets"] == 2
    drive = open_drive(path)
    assert len(list(drive.steps())) == 2
    assert not drive.losses
