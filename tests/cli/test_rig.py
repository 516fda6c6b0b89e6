"""`octobev rig`."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from octobev.cli.rig import app
from octobev.errors import DriveError, MissingFile, RecordingError, RigError
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig, read_rig, write_rig
from octobev.replay.recorder import Recorder
from octobev.runtime.frames import Frame, FrameSet, PixelFormat
from typer.testing import CliRunner

LENS = Intrinsics(640, 480, 300.0, 300.0, 319.5, 239.5)
OPTICAL = Pose(np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]))


@pytest.fixture(name="rig_file")
def _rig_file(tmp_path: Path) -> Path:
    cameras = [Camera(f"camera_{i}", LENS, Pose.planar(0, 0, i * np.pi / 2) @ OPTICAL) for i in range(4)]
    write_rig(Rig(tuple(cameras), "car"), tmp_path / "rig.toml")
    return tmp_path / "rig.toml"


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_a_healthy_rig_passes(rig_file: Path) -> None:
    output = run("check", rig_file)
    assert "no findings" in output
    assert "camera_3" in output


def test_the_report_as_json(rig_file: Path) -> None:
    report = json.loads(run("check", rig_file, "--json"))
    assert (report["errors"], report["warnings"], report["findings"]) == (0, 0, [])
    assert [camera["name"] for camera in report["cameras"]] == [f"camera_{i}" for i in range(4)]
    assert report["cameras"][1]["yaw_deg"] == pytest.approx(90.0)
    assert report["near_seen"] > 0.5


def test_images_beyond_the_end_of_a_drive_are_refused(drive: Path, tmp_path: Path) -> None:
    with pytest.raises(DriveError, match="town: frame sets from 9 s on must be at least one, got none"):
        run("check", drive, "--start", 9, "--picture", tmp_path / "rig.png")
    assert not (tmp_path / "rig.png").exists()


def test_a_wrong_rig_fails_with_its_finding(rig_file: Path) -> None:
    rig = read_rig(rig_file)
    wrong = Rig((Camera("camera_0", LENS, rig["camera_0"].ego_from_camera.inverse()), *list(rig)[1:]))
    write_rig(wrong, rig_file)
    assert "inverted_transform" in run("check", rig_file, code=1)
    report = json.loads(run("check", rig_file, "--json", code=1))
    assert report["errors"] == 1
    assert report["findings"][0]["check"] == "inverted_transform"
    assert report["findings"][0]["camera"] == "camera_0"


def test_a_rotation_that_is_none_is_a_finding_and_no_crash(rig_file: Path) -> None:
    text = rig_file.read_text()
    first = text.index("rotation = ")
    broken = text[:first] + "rotation = [[0, 0, 1.2], [-1, 0, 0], [0, -1, 0]]" + text[text.index("\n", first) :]
    rig_file.write_text(broken)
    report = json.loads(run("check", rig_file, "--json", "--picture", rig_file.with_suffix(".png"), code=1))
    assert report["findings"][0]["check"] == "calibration"
    assert "(camera_0): rotation must be orthonormal" in report["findings"][0]["message"]
    assert report["picture"] is None


def test_a_picture_is_written(rig_file: Path) -> None:
    out = rig_file.with_name("rig.png")
    assert "rig.png" in run("check", rig_file, "--picture", out)
    picture = cv2.imread(str(out))
    assert picture.shape[1] > 1600


def test_a_picture_that_cannot_be_written_is_an_error(rig_file: Path) -> None:
    with pytest.raises(RecordingError, match="missing must be a folder, got nothing of that name"):
        run("check", rig_file, "--picture", rig_file.parent / "missing" / "rig.png")


def make_drive(folder: Path, rig_file: Path, size: tuple[int, int] = (640, 480)) -> Path:
    for camera in read_rig(rig_file):
        images = folder / "images" / camera.name
        images.mkdir(parents=True)
        for timestamp_ns in (1_000_000_000, 1_100_000_000):
            cv2.imwrite(str(images / f"{timestamp_ns}.jpg"), np.full((size[1], size[0], 3), 77, np.uint8))
    rig_file.rename(folder / "rig.toml")
    return folder


def test_a_drive_is_checked_with_its_images(rig_file: Path, tmp_path: Path) -> None:
    drive = make_drive(tmp_path / "drive", rig_file)
    out = tmp_path / "rig.png"
    assert "no findings" in run("check", drive, "--picture", out, "--start", "0.1")
    assert (np.abs(cv2.imread(str(out)).astype(int) - 77).max(axis=-1) <= 2).mean() > 0.3
    exported = tmp_path / "exported.toml"
    run("export", drive, exported)
    assert exported.read_text() == (drive / "rig.toml").read_text()


def test_images_of_another_size_are_findings(rig_file: Path, tmp_path: Path) -> None:
    drive = make_drive(tmp_path / "drive", rig_file, size=(320, 240))
    report = json.loads(run("check", drive, "--json", "--picture", tmp_path / "rig.png", code=1))
    assert {finding["check"] for finding in report["findings"]} == {"image"}
    assert report["errors"] == 4


def test_a_drive_is_not_overwritten_by_its_picture_or_its_rig(rig_file: Path, tmp_path: Path) -> None:
    drive = tmp_path / "drive.png"
    with Recorder(drive, read_rig(rig_file)) as recorder:
        recorder.write_frames(FrameSet(5, (Frame("camera_0", 5, b"\xff\xd8\xff", PixelFormat.JPEG),)))
    content = drive.read_bytes()
    for arguments in (("check", drive, "--picture", drive), ("export", drive, drive, "--force")):
        with pytest.raises(RecordingError, match="must be another file than those that are read"):
            run(*arguments)
    assert drive.read_bytes() == content
    run("check", rig_file, "--picture", tmp_path / "rig.jpg", code=2)


def test_show_prints_where_cameras_sit(rig_file: Path) -> None:
    assert "94° x 77°" in run("show", rig_file)
    shown = json.loads(run("show", rig_file, "--json"))
    assert shown["name"] == "car"
    assert shown["cameras"][0]["position_m"] == [0.0, 0.0, 1.5]


def test_export_that_fails_leaves_no_file(rig_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str, **how: object) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    out = rig_file.parent / "copy.toml"
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RecordingError, match=r"copy\.toml: cannot be written: No space left on device"):
        run("export", rig_file, out)
    assert [path.name for path in rig_file.parent.iterdir()] == ["rig.toml"]


def test_export_writes_the_same_rig_once(rig_file: Path) -> None:
    out = rig_file.with_name("copy.toml")
    assert "4 cameras" in run("export", rig_file, out)
    assert out.read_text() == rig_file.read_text()
    with pytest.raises(RecordingError, match="exists already; --force overwrites it"):
        run("export", rig_file, out)
    run("export", rig_file, out, "--force")
    with pytest.raises(RecordingError, match="missing must be a folder, got nothing of that name"):
        run("export", rig_file, rig_file.parent / "missing" / "rig.toml")


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="no such rig file"):
        run("check", tmp_path / "missing.toml")
    with pytest.raises(MissingFile, match="no such drive"):
        run("check", tmp_path / "missing.mcap")
    (tmp_path / "bad.toml").write_text("cameras = 3")
    with pytest.raises(RigError, match="cameras must be one or more"):
        run("check", tmp_path / "bad.toml")
