import json

import numpy as np
import pytest
from octobev.errors import CalibrationError, DriveError, InvalidArgument, MissingFile, RigError
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.replay.nuscenes import NuScenesDrive, is_nuscenes
from octobev.replay.tables import read_rows
from octobev.runtime.frames import PixelFormat

START_US = 1_533_201_470_000_000
CHANNELS = {"CAM_FRONT": 12, "CAM_BACK": 37}  # milliseconds after the sweep begins
SENSORS = {**dict.fromkeys(CHANNELS, "camera"), "LIDAR_TOP": "lidar"}
MATRIX = [[1266.4, 0, 816.2], [0, 1266.4, 491.5], [0, 0, 1]]
HALF = 0.7071067811865476


def jpeg(scene, channel, number):
    return b"\xff\xd8\xff" + f"{scene} {channel} {number}".encode()


def build(root, *, scenes=("scene-0061",), sets=3, version="v1.0-mini"):
    """Write tables and images as nuScenes has them: quaternions w, x, y, z, stamps in microseconds, other sensors."""
    tables = {name: [] for name in ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose")}
    tables["sensor"] = [
        {"token": f"sensor {name}", "channel": name, "modality": modality} for name, modality in SENSORS.items()
    ]
    (root / "sweeps").mkdir(parents=True)
    for index, scene in enumerate(scenes):
        tables["scene"].append({"token": f"token {scene}", "name": scene})
        for name, modality in SENSORS.items():
            tables["calibrated_sensor"].append(
                {
                    "token": f"{scene} {name}",
                    "sensor_token": f"sensor {name}",
                    "translation": [1.5 if name == "CAM_FRONT" else -0.5, 0.0, 1.6],
                    "rotation": [0.5, -0.5, 0.5, -0.5] if name == "CAM_FRONT" else [0.5, -0.5, -0.5, 0.5],
                    "camera_intrinsic": MATRIX if modality == "camera" else [],
                }
            )
        for number in range(sets):
            sample = f"{scene} sample {number // 2}"
            if number % 2 == 0:
                tables["sample"].append({"token": sample, "scene_token": f"token {scene}"})
            for name in SENSORS:
                stamp = START_US + index * 60_000_000 + number * 83_000 + CHANNELS.get(name, 0) * 1000
                token = f"{scene} {name} {number}"
                file = f"sweeps/{scene}_{name}_{stamp}.jpg"
                tables["ego_pose"].append(
                    {"token": token, "translation": [number * 0.5, 7.0, 0.0], "rotation": [HALF, 0, 0, HALF]}
                )
                tables["sample_data"].append(
                    {
                        "token": token,
                        "sample_token": sample,
                        "ego_pose_token": token,
                        "calibrated_sensor_token": f"{scene} {name}",
                        "timestamp": stamp,
                        "filename": file,
                        "width": 1600,
                        "height": 900,
                        "is_key_frame": number % 2 == 0,
                    }
                )
                if name in CHANNELS:
                    (root / file).write_bytes(jpeg(scene, name, number))
    save(root / version, tables)
    return root


def save(folder, tables):
    folder.mkdir(exist_ok=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows[::-1], indent=0))


def edit(root, table, change):
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "nuscenes")


def images(drive):
    return [{frame.camera: frame.data for frame in step.frame_set.frames} for step in drive.steps()]


def test_rig_has_the_cameras_only_with_quaternions_turned_round(root):
    drive = NuScenesDrive(root)
    assert drive.name == drive.rig.name == "scene-0061"
    assert drive.rig.names == ("cam_front", "cam_back")
    front = drive.rig["cam_front"]
    assert front.intrinsics == Intrinsics(1600, 900, 1266.4, 1266.4, 816.2, 491.5)
    np.testing.assert_allclose(front.ego_from_camera.translation_m, (1.5, 0, 1.6))
    # the optical axis of the front camera points forward, its x axis to the right
    np.testing.assert_allclose(front.ego_from_camera.rotation @ (0, 0, 1), (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(front.ego_from_camera.rotation @ (1, 0, 0), (0, -1, 0), atol=1e-12)
    np.testing.assert_allclose(drive.rig["cam_back"].ego_from_camera.rotation @ (0, 0, 1), (-1, 0, 0), atol=1e-12)


def test_sweeps_and_samples_become_sets_with_each_image_at_its_own_pose(root):
    drive = NuScenesDrive(root)
    steps = list(drive.steps())
    assert images(drive) == [
        {name.lower(): jpeg("scene-0061", name, number) for name in CHANNELS} for number in range(3)
    ]
    assert [step.frame_set.timestamp_ns for step in steps] == [
        (START_US + number * 83_000 + 37_000) * 1000 for number in range(3)
    ]
    front, back = steps[1].frame_set.frames
    assert (front.timestamp_ns, back.timestamp_ns) == ((START_US + 95_000) * 1000, (START_US + 120_000) * 1000)
    assert front.pixel_format is PixelFormat.JPEG
    expected = Pose.planar(0.5, 7.0, np.pi / 2)
    np.testing.assert_allclose(front.world_from_ego.matrix, expected.matrix, atol=1e-12)
    np.testing.assert_allclose(steps[1].frame_set.world_from_ego.matrix, expected.matrix, atol=1e-12)
    assert not drive.losses
    assert drive.length_hint == 3


def test_tables_folder_itself_may_be_given(root):
    assert is_nuscenes(root)
    assert is_nuscenes(root / "v1.0-mini")
    assert not is_nuscenes(root / "sweeps")
    assert len(images(NuScenesDrive(root / "v1.0-mini"))) == 3


def test_one_of_several_scenes_is_named_behind_the_path(tmp_path):
    root = build(tmp_path / "n", scenes=("scene-0001", "scene-0002"))
    with pytest.raises(DriveError, match=r"scene must be one of scene-0002, scene-0001, got none; write .*#scene-0002"):
        NuScenesDrive(root)
    with pytest.raises(DriveError, match=r"scene must be one of .*, got 'scene-7'"):
        NuScenesDrive(f"{root}#scene-7")
    drive = NuScenesDrive(f"{root}#scene-0001")
    assert drive.name == "scene-0001"
    assert images(drive)[0]["cam_front"] == jpeg("scene-0001", "CAM_FRONT", 0)
    assert len(images(drive)) == 3


def test_a_subset_of_cameras_is_read(root):
    assert [list(found) for found in images(NuScenesDrive(root, cameras=["cam_back"]))] == [["cam_back"]] * 3


def test_an_unknown_camera_is_refused(root):
    with pytest.raises(RigError, match="camera must be one of cam_front, cam_back, got roof"):
        NuScenesDrive(root, cameras=["roof"])


def test_start_and_duration_cut_the_drive(root):
    drive = NuScenesDrive(root)
    assert len(list(drive.steps(start_s=0.083))) == 2
    assert len(list(drive.steps(duration_s=0.083))) == 1


def test_start_that_is_none_is_refused_at_once(root):
    with pytest.raises(InvalidArgument, match="start_s must be finite seconds from 0 on, got -1"):
        NuScenesDrive(root).steps(start_s=-1)


def test_missing_and_broken_images_are_counted(tmp_path):
    root = build(tmp_path / "n", sets=5)
    files = sorted((root / "sweeps").glob("*FRONT*"))
    files[1].unlink()
    files[2].write_bytes(b"<html>")
    drive = NuScenesDrive(root)
    both, back = ["cam_front", "cam_back"], ["cam_back"]
    assert [list(found) for found in images(drive)] == [both, back, back, both, both]
    assert drive.losses.reasons == {"image cannot be read": 1, "image is neither JPEG nor PNG": 1}


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "sweeps/\0.jpg"])
def test_image_names_that_lead_elsewhere_are_not_followed(root, name):
    (root.parent / "secret.jpg").write_bytes(b"\xff\xd8\xff secret")
    edit(root, "sample_data", lambda rows: [row.update(filename=name) for row in rows])
    drive = NuScenesDrive(root)
    assert images(drive) == []
    assert drive.losses.reasons == {"image cannot be read": 6}


def test_calibration_that_changes_is_counted(root):
    def add(rows):
        (front,) = [row for row in rows if row["sensor_token"] == "sensor CAM_FRONT"]
        rows.append({**front, "token": "new"})

    edit(root, "calibrated_sensor", add)

    def use(rows):
        for row in rows:
            if row["token"].endswith(("CAM_FRONT 1", "CAM_FRONT 2")):
                row["calibrated_sensor_token"] = "new"

    edit(root, "sample_data", use)
    drive = NuScenesDrive(root)
    assert len(images(drive)) == 3
    assert drive.losses.reasons == {"calibration changed": 1}


@pytest.mark.parametrize(
    ("table", "change", "error", "message"),
    [
        ("sample_data", lambda r: r.clear(), DriveError, "scene-0061 must be a scene with camera images"),
        ("sample_data", lambda r: [x.update(timestamp="") for x in r], DriveError, "must be of type int"),
        ("sample_data", lambda r: [x.update(timestamp=-1) for x in r], DriveError, "must be microsec"),
        ("sample_data", lambda r: [x.pop("filename") for x in r], DriveError, "filename of .* must be of type str"),
        ("calibrated_sensor", lambda r: [x.update(rotation=[1, 0]) for x in r], CalibrationError, "sensor.json: s"),
        ("calibrated_sensor", lambda r: [x.update(rotation=[9, 0, 0, 0]) for x in r], CalibrationError, "of length 1"),
        ("calibrated_sensor", lambda r: [x.pop("camera_intrinsic") for x in r], CalibrationError, "camera_int"),
        (
            "calibrated_sensor",
            lambda r: [x.update(camera_intrinsic=[[0, 0, 0]] * 2 + [[0, 0, 1]]) for x in r],
            CalibrationError,
            "focal lengths must be positive",
        ),
        ("ego_pose", lambda r: [x.update(translation=None) for x in r], CalibrationError, "ego_pose.json: scene-0061"),
        ("scene", lambda r: r.clear(), DriveError, "scene must be one of , got none"),
        ("scene", lambda r: r.append(3), DriveError, r"scene\.json: row must be an object, got 3"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_are_refused_by_file_and_row(root, table, change, error, message):
    edit(root, table, change)
    with pytest.raises(error, match=message):
        list(NuScenesDrive(root).steps())


def test_ego_pose_that_is_missing_leaves_the_frame_without(root):
    edit(root, "ego_pose", lambda rows: rows.clear())
    assert [step.frame_set.world_from_ego for step in NuScenesDrive(root).steps()] == [None] * 3


def test_table_that_cannot_be_read_is_named(root):
    (root / "v1.0-mini" / "scene.json").unlink()
    (root / "v1.0-mini" / "scene.json").mkdir()
    with pytest.raises(DriveError, match=r"scene\.json: cannot be read: Is a directory"):
        NuScenesDrive(root)


def test_missing_table_is_named(root):
    (root / "v1.0-mini" / "sensor.json").unlink()
    with pytest.raises(MissingFile, match=r"sensor\.json: no such table"):
        NuScenesDrive(root)


def test_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(MissingFile, match=r"no v1\.0-\* directory with sample_data\.json"):
        NuScenesDrive(tmp_path)


def test_two_versions_beside_each_other_are_refused(root):
    (root / "v1.0-test").mkdir()
    (root / "v1.0-test" / "sample_data.json").write_text("[]")
    with pytest.raises(DriveError, match=r"must be one version of tables, got v1\.0-mini, v1\.0-test"):
        NuScenesDrive(root)
    assert NuScenesDrive(root / "v1.0-mini").name == "scene-0061"


@pytest.mark.parametrize(
    "text", ["", "[", '[{"a": 1}', '[{"a": 1', "nonsense", '[{"a":' * 2000, '[{"a": 1}, {"b"]', "\xff"]
)
def test_table_that_is_no_table_is_refused(tmp_path, text):
    path = tmp_path / "table.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DriveError, match=r"table\.json"):
        list(read_rows(path))


def test_rows_are_read_across_blocks(tmp_path):
    path = tmp_path / "table.json"
    rows = [{"token": str(number), "text": "x" * 1000} for number in range(3000)]
    path.write_text(json.dumps(rows))
    assert list(read_rows(path)) == rows
