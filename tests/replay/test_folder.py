import json

import numpy as np
import pytest
from octobev.errors import CalibrationError, DriveError, MissingFile, RigError
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig, write_rig
from octobev.replay.folder import FolderDrive
from octobev.runtime.frames import PixelFormat

MS = 1_000_000
START_NS = 1_600_000_000_000_000_000
RIG = Rig(
    tuple(
        Camera(name, Intrinsics(64, 48, 50, 50, 32, 24), Pose.planar(x, 0, 0)) for name, x in (("b", 1.0), ("a", 2.0))
    ),
    "two",
)
HEADER = "timestamp_ns,x_m,y_m,z_m,qx,qy,qz,qw"


@pytest.fixture
def root(tmp_path):
    """Two cameras 20 ms apart, five times at 10 Hz, PNG from b, poses at 20 Hz in a CSV file."""
    root = tmp_path / "drive"
    for camera, offset, suffix, head in (("a", 0, ".jpg", b"\xff\xd8\xff"), ("b", 20, ".PNG", b"\x89PNG\r\n\x1a\n")):
        folder = root / "images" / camera
        folder.mkdir(parents=True)
        for number in range(5):
            stamp = START_NS + (number * 100 + offset) * MS
            (folder / f"{stamp}{suffix}").write_bytes(head + f"{camera}{number}".encode())
        (folder / "notes.txt").write_text("not an image")
    write_rig(RIG, root / "rig.toml")
    rows = [f"{START_NS + n * 50 * MS},{n * 0.5},0,0,0,0,0,1" for n in range(10)]
    (root / "poses.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return root


def content(drive, **limits):
    return [[frame.data[-2:].decode() for frame in step.frame_set.frames] for step in drive.steps(**limits)]


def test_images_become_sets_in_rig_order_with_poses_between_the_written_ones(root):
    drive = FolderDrive(root)
    assert (drive.name, drive.rig.names, drive.length_hint) == ("drive", ("b", "a"), 5)
    steps = list(drive.steps())
    assert content(drive) == [[f"b{n}", f"a{n}"] for n in range(5)]
    second = steps[1].frame_set
    assert second.timestamp_ns == START_NS + 120 * MS
    assert [frame.pixel_format for frame in second.frames] == [PixelFormat.PNG, PixelFormat.JPEG]
    assert [frame.world_from_ego.translation_m[0] for frame in second.frames] == pytest.approx([1.2, 1.0])
    assert second.world_from_ego.translation_m[0] == pytest.approx(1.2)
    assert not drive.losses


def test_poses_may_be_json_lines(root):
    (root / "poses.csv").unlink()
    rows = [
        {"timestamp_ns": START_NS + n * 100 * MS, "translation_m": [n, 0, 0], "quaternion_xyzw": [0, 0, 0, 1]}
        for n in range(5)
    ]
    (root / "poses.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = [step.frame_set.world_from_ego.translation_m[0] for step in FolderDrive(root).steps()]
    assert found == pytest.approx([0.2, 1.2, 2.2, 3.2, 4.2])


def test_csv_columns_may_stand_in_any_order(root):
    (root / "poses.csv").write_text(f"qw,qx,qy,qz,x_m,y_m,z_m,speed,timestamp_ns\n1,0,0,0,7,8,9,0,{START_NS}\n")
    step = next(FolderDrive(root).steps())
    np.testing.assert_array_equal(step.frame_set.world_from_ego.translation_m, (7, 8, 9))


def test_drive_without_poses_has_none(root):
    (root / "poses.csv").unlink()
    assert [step.frame_set.world_from_ego for step in FolderDrive(root).steps()] == [None] * 5


def test_start_and_duration_cut_the_same_sets(root):
    drive = FolderDrive(root)
    assert content(drive, start_s=0.2) == [["b2", "a2"], ["b3", "a3"], ["b4", "a4"]]
    assert content(drive, start_s=0.1, duration_s=0.2) == [["b1", "a1"], ["b2", "a2"]]
    (step,) = drive.steps(start_s=0.4)
    assert step.frame_set.world_from_ego.translation_m[0] == pytest.approx(4.2)


def test_missing_images_are_absences(root):
    (root / "images" / "a" / f"{START_NS + 100 * MS}.jpg").unlink()
    absences = [dict(step.frame_set.absences) for step in FolderDrive(root).steps()]
    assert absences == [{}, {"a": "no frame within 60 ms"}, {}, {}, {}]


def test_broken_images_are_counted(root):
    (root / "images" / "a" / f"{START_NS + 100 * MS}.jpg").write_bytes(b"GIF89a")
    drive = FolderDrive(root)
    assert content(drive)[1] == ["b1"]
    assert drive.losses.reasons == {"image is neither JPEG nor PNG": 1}


def test_image_that_vanishes_is_counted(root):
    drive = FolderDrive(root)
    (root / "images" / "a" / f"{START_NS + 100 * MS}.jpg").unlink()
    assert content(drive)[1] == ["b1"]
    assert drive.losses.reasons == {"image cannot be read: No such file or directory": 1}


def test_a_subset_of_cameras_is_read(root):
    assert content(FolderDrive(root, cameras=["a"]))[0] == ["a0"]


def test_a_given_rig_replaces_rig_toml(root):
    (root / "rig.toml").unlink()
    assert content(FolderDrive(root, rig=RIG.select(["a"])))[0] == ["a0"]
    with pytest.raises(MissingFile, match=r"rig\.toml: no such rig file"):
        FolderDrive(root)


def test_folder_of_a_camera_outside_the_rig_is_refused(root):
    (root / "images" / "roof").mkdir()
    with pytest.raises(RigError, match="images: folders must be among b, a, got roof"):
        FolderDrive(root)


@pytest.mark.parametrize("name", ["front_001.jpg", "-5.jpg", "1.5.jpg", f"{2**63}.jpg", "².jpg"])
def test_file_name_that_is_no_timestamp_is_refused(root, name):
    (root / "images" / "a" / name).write_bytes(b"")
    with pytest.raises(DriveError, match="must be named by its capture time in nanoseconds"):
        FolderDrive(root)


@pytest.mark.parametrize("name", ["poses.csv", "poses.jsonl"])
def test_poses_that_cannot_be_read_are_an_error_of_the_drive(root, name):
    (root / "poses.csv").unlink()
    (root / name).mkdir()
    with pytest.raises(DriveError, match=r"poses\.\w+: cannot be read: Is a directory"):
        content(FolderDrive(root))


def test_folder_without_any_image_is_refused(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    write_rig(RIG, tmp_path / "rig.toml")
    with pytest.raises(DriveError, match="must be folders of images named as the cameras, got no image"):
        FolderDrive(tmp_path)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("t,x\n1,2\n", DriveError, r"poses\.csv: columns must be timestamp_ns, .* got no timestamp_ns, x_m"),
        ("", DriveError, "columns must be"),
        (f"{HEADER}\n1,0,0,0,0,0,0,1\n1,0,0,0,0,0,0,1\n", DriveError, r"csv:3: timestamp_ns must be above 1, got 1"),
        (f"{HEADER}\n1,0,0\n", DriveError, r"poses\.csv:2 must be 8 numbers, got 1,0,0"),
        (f"{HEADER}\none,0,0,0,0,0,0,1\n", DriveError, r"poses\.csv:2 must be 8 numbers"),
        (f"{HEADER}\n1,0,0,0,0,0,0,2\n", CalibrationError, r"poses\.csv:2: quaternion must be of length 1"),
        (f"{HEADER}\n1,nan,0,0,0,0,0,1\n", CalibrationError, r"poses\.csv:2: transform must be finite"),
        (f"{HEADER}\n1,\xff,0,0,0,0,0,1\n", DriveError, r"poses\.csv: not a CSV file"),
    ],
)  # fmt: skip
def test_wrong_poses_are_named_by_file_and_line(root, text, error, message):
    (root / "poses.csv").write_text(text, encoding="latin-1")
    with pytest.raises(error, match=message):
        list(FolderDrive(root).steps())


@pytest.mark.parametrize(
    "line", ["nonsense", "{}", '{"timestamp_ns": 1, "translation_m": 5, "quaternion_xyzw": [0,0,0,1]}']
)
def test_wrong_json_poses_are_named_by_line(root, line):
    (root / "poses.csv").unlink()
    (root / "poses.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(DriveError, match=r"poses\.jsonl:2 must be an object with timestamp_ns, translation_m"):
        list(FolderDrive(root).steps())


def test_poses_in_two_files_are_refused(root):
    (root / "poses.jsonl").write_text("")
    with pytest.raises(DriveError, match=r"poses must be in one file, got poses\.csv and poses\.jsonl"):
        FolderDrive(root)
