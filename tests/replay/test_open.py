import shutil

import pytest
from mcap.writer import Writer
from octobev.errors import DriveError, InvalidArgument, MissingFile, RigError
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig, write_rig
from octobev.replay.folder import FolderDrive
from octobev.replay.mcap import McapDrive
from octobev.replay.open import open_drive
from octobev.replay.recorder import Recorder
from octobev.runtime.frames import Frame, FrameSet, PixelFormat

MS = 1_000_000
START_NS = 1_600_000_000_000_000_000
RIG = Rig(tuple(Camera(name, Intrinsics(64, 48, 50, 50, 32, 24), Pose.identity()) for name in ("a", "b")))


@pytest.fixture
def recording(tmp_path):
    """Two cameras 20 ms apart, three times."""
    path = tmp_path / "recording"
    with Recorder(path, RIG) as recorder:
        for number in range(3):
            stamp = START_NS + number * 100 * MS
            frames = [
                Frame(name, stamp + offset * MS, b"\xff\xd8\xff", PixelFormat.JPEG)
                for name, offset in (("a", 0), ("b", 20))
            ]
            recorder.write_frames(FrameSet(stamp, tuple(frames)))
    return path


def sizes(drive):
    return [len(step.frame_set.frames) for step in drive.steps()]


def test_reader_is_chosen_by_content_not_by_name(recording, tmp_path):
    assert isinstance(open_drive(recording), McapDrive)
    shutil.copy(recording, tmp_path / "drive.zip")
    assert isinstance(open_drive(str(tmp_path / "drive.zip")), McapDrive)
    tables = tmp_path / "tables" / "v1.0-mini"
    tables.mkdir(parents=True)
    for name in ("scene", "sample_data"):
        (tables / f"{name}.json").write_text("[]")
    with pytest.raises(DriveError, match=r"v1\.0-mini: scene must be one of"):
        open_drive(tables.parent)
    folder = tmp_path / "folder.mcap"
    (folder / "images" / "a").mkdir(parents=True)
    (folder / "images" / "a" / "5.jpg").write_bytes(b"\xff\xd8\xff")
    write_rig(RIG, folder / "rig.toml")
    assert isinstance(open_drive(folder), FolderDrive)


def test_start_that_is_none_is_refused_at_once(recording, tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "5.jpg").write_bytes(b"\xff\xd8\xff")
    write_rig(RIG, tmp_path / "rig.toml")
    for drive in (open_drive(recording), open_drive(tmp_path)):
        with pytest.raises(InvalidArgument, match="start_s must be finite seconds from 0 on, got inf"):
            drive.steps(start_s=float("inf"))


def test_file_name_may_hold_a_number_sign(recording, tmp_path):
    path = tmp_path / "run#7.mcap"
    shutil.copy(recording, path)
    assert sizes(open_drive(path)) == [2, 2, 2]


def test_skew_bound_cameras_and_rig_are_passed_on(recording):
    assert sizes(open_drive(recording)) == [2, 2, 2]
    assert sizes(open_drive(recording, max_skew_s=0.019)) == [1] * 6
    assert open_drive(recording, cameras=["b"]).rig.names == ("b",)
    other = Rig((Camera("b", Intrinsics(32, 24, 9, 9, 16, 12), Pose.identity()),))
    assert open_drive(recording, rig=other).rig is other


@pytest.mark.parametrize("skew", [-0.1, float("nan"), float("inf")])
def test_skew_bound_that_is_none_is_refused(recording, skew):
    with pytest.raises(DriveError, match="max_skew_s must be seconds from 0 on"):
        open_drive(recording, max_skew_s=skew)


def test_missing_path_is_named(tmp_path):
    for name in ("nothing.mcap", "nothing#scene-1"):
        with pytest.raises(MissingFile, match=f"{name}: no such drive"):
            open_drive(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        open_drive(tmp_path / "nothing")


def test_other_folders_and_files_are_refused(tmp_path):
    with pytest.raises(DriveError, match=r"must be a folder with v1\.0-\* tables, or with images/ and rig\.toml"):
        open_drive(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(DriveError, match=r"notes\.txt must be an MCAP file, got one that begins with b'nothing "):
        open_drive(tmp_path / "notes.txt")


def test_mcap_file_of_other_things_is_refused(tmp_path):
    path = tmp_path / "lidar.mcap"
    with open(path, "wb") as file:
        writer = Writer(file)
        writer.start()
        writer.finish()
    with pytest.raises(DriveError, match=r"lidar\.mcap: drive must be a file with foxglove\.CompressedImage topics"):
        open_drive(path)


def test_unknown_camera_is_refused(recording):
    with pytest.raises(RigError, match="camera must be one of a, b, got c"):
        open_drive(recording, cameras=["c"])
