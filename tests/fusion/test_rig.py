"""Rigs and rig.toml."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from octobev.errors import CalibrationError, MissingFile, RigError
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.pose import Pose
from octobev.fusion.rig import MAX_CAMERAS, Camera, Rig, read_rig, read_rig_sources, rig_sha256, write_rig

LENS = Intrinsics(640, 480, 500.0, 500.0, 319.5, 239.5)
CAMERA = """
[[cameras]]
name = "front"
width = 640
height = 480
focal_px = [500.0, 501]
principal_px = [319.5, 239.5]
translation_m = [1.7, 0.0, 1.5]
quaternion_xyzw = [-0.5, 0.5, -0.5, 0.5]
"""


def camera(name: str) -> Camera:
    return Camera(name, LENS, Pose.identity())


def random_rig() -> Rig:
    rng = np.random.default_rng(7)
    lenses = [
        Intrinsics(1920, 1208, 1 / 3, 2e3 / 7, 961.1, 0.1 + 0.2),
        Intrinsics(1280, 960, 400.1, 400.2, 640.0, 480.0, LensModel.BROWN_CONRADY, tuple(rng.normal(size=5) / 10)),
        Intrinsics(1280, 960, 400.1, 400.2, 640.0, 480.0, LensModel.BROWN_CONRADY, tuple(rng.normal(size=8) / 10)),
        Intrinsics(1280, 960, 300.0, 301.0, 640.0, 480.0, LensModel.KANNALA_BRANDT, tuple(rng.normal(size=4) / 99)),
    ]
    poses = []
    for _ in lenses:
        quaternion = rng.normal(size=4)
        poses.append(Pose.from_quaternion(rng.normal(size=3), quaternion / np.linalg.norm(quaternion)))
    cameras = [Camera(f"cam.{i}-x_y", lens, pose) for i, (lens, pose) in enumerate(zip(lenses, poses, strict=True))]
    return Rig(tuple(cameras), 'a "car"\nwith \\ and \x7f and é')


def test_rig_file_keeps_every_bit(tmp_path: Path) -> None:
    rig = random_rig()
    write_rig(rig, tmp_path / "rig.toml")
    again = read_rig(tmp_path / "rig.toml")
    assert again.name == rig.name
    assert again.names == rig.names
    for before, after in zip(rig, again, strict=True):
        assert after.intrinsics == before.intrinsics
        np.testing.assert_array_equal(after.ego_from_camera.matrix, before.ego_from_camera.matrix)


def test_quaternions_are_read_as_xyzw(tmp_path: Path) -> None:
    rig = _read(tmp_path, 'name = "car"' + CAMERA)
    front = rig["front"]
    assert (rig.name, front.intrinsics.fy) == ("car", 501.0)
    # the optical axis points forward, image right is the ego's right, image down is down
    np.testing.assert_allclose(front.ego_from_camera.rotation, [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-12)


def test_order_selection_and_lookup() -> None:
    rig = Rig((camera("b"), camera("a"), camera("c")))
    assert rig.names == ("b", "a", "c")
    assert rig.select(["c", "b"]).names == ("b", "c")
    assert rig["a"].name == "a"
    assert "a" in rig
    assert "d" not in rig
    assert len(rig) == 3
    assert [c.name for c in rig] == ["b", "a", "c"]


def test_lookup_of_an_unknown_camera_lists_the_known() -> None:
    rig = Rig((camera("b"), camera("a")))
    with pytest.raises(RigError, match="camera must be one of b, a, got d"):
        rig["d"]
    with pytest.raises(RigError, match="camera must be one of b, a, got d, e"):
        rig.select(["e", "a", "d"])


def test_impossible_rigs_are_refused() -> None:
    with pytest.raises(RigError, match="cameras of a rig must be 1 to 64, got 0"):
        Rig(())
    with pytest.raises(RigError, match="cameras of a rig must be 1 to 64, got 65"):
        Rig(tuple(camera(f"c{i}") for i in range(MAX_CAMERAS + 1)))
    with pytest.raises(RigError, match="camera names must be unique, got a more than once"):
        Rig((camera("a"), camera("b"), camera("a")))


@pytest.mark.parametrize("name", ["", "front left", "a/b", "x\n"])
def test_names_that_cannot_be_topics_are_refused(name: str) -> None:
    with pytest.raises(RigError, match="camera name must be made of letters, digits"):
        camera(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width = 640", "width = 640.0", r"cameras\[0\].width must be of type int, got 640.0"),
        ("width = 640", "width = true", r"cameras\[0\].width must be of type int, got True"),
        ("width = 640", "", r"cameras\[0\].width must be of type int, got None"),
        ("width = 640", "width = 0", r"\(front\): image size must be positive"),
        ('name = "front"', "name = 4", r"cameras\[0\].name must be of type str, got 4"),
        ('name = "front"', 'name = "a b"', r"\(a b\): camera name must be made of letters"),
        ("[500.0, 501]", "[500.0]", r"cameras\[0\].focal_px must be 2 numbers, got \[500.0\]"),
        ("[500.0, 501]", '[500.0, "x"]', r"cameras\[0\].focal_px must be 2 numbers"),
        ("[500.0, 501]", f"[500.0, 1{'0' * 400}]", r"cameras\[0\].focal_px must be 2 numbers"),
        ("[500.0, 501]", "[500.0, nan]", r"\(front\): intrinsics must be finite"),
        ("[500.0, 501]", "[500.0, 0]", r"\(front\): focal lengths must be positive"),
        ("[1.7, 0.0, 1.5]", "[1.7, 0.0]", r"cameras\[0\].translation_m must be 3 numbers"),
        ("[1.7, 0.0, 1.5]", "[1.7, 0.0, inf]", r"\(front\): transform must be finite"),
        ("[-0.5, 0.5, -0.5, 0.5]", "[0, 0, 0, 2]", r"\(front\): quaternion must be of length 1"),
        ("[-0.5, 0.5, -0.5, 0.5]", "[0, 0, 1]", r"cameras\[0\].quaternion_xyzw must be 4 numbers"),
        ("quaternion_xyzw = [-0.5, 0.5, -0.5, 0.5]", "", "given one of rotation and quaternion_xyzw, got neither"),
        ("width = 640", "width = 640\nrotation = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]", "quaternion_xyzw, got both"),
        ("quaternion_xyzw = [-0.5, 0.5, -0.5, 0.5]", "rotation = [[1, 0, 0]]", "rotation must be 3 rows of 3 numbers"),
        (
            "quaternion_xyzw = [-0.5, 0.5, -0.5, 0.5]",
            "rotation = [[1, 0, 0], [0, 1, 0], [0, 0, -1]]",
            r"\(front\): rotation must be right-handed",
        ),
        ("width = 640", "width = 640\nfoo = 1", r"cameras\[0\].foo: unknown key; known: name, width"),
        ("width = 640", 'width = 640\nmodel = "mei"', r"cameras\[0\].model must be one of pinhole"),
        ("width = 640", "width = 640\nmodel = 3", r"cameras\[0\].model must be one of pinhole"),
        ("width = 640", "width = 640\ndistortion = 3", r"cameras\[0\].distortion must be a list of numbers"),
        ("width = 640", "width = 640\ndistortion = [0.1]", r"\(front\): pinhole coefficients must be 0 numbers"),
        ("[[cameras]]", "[[cameras]]\n[other]", "keys must be name and cameras, got other"),
        ("[[cameras]]", "name = 3\n[[cameras]]", "name must be a string, got 3"),
        ("[[cameras]]", "[cameras]", "cameras must be one or more"),
    ],
)
def test_bad_rig_files_say_where(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in CAMERA
    with pytest.raises((RigError, CalibrationError), match=message) as caught:
        _read(tmp_path, CAMERA.replace(old, new))
    assert str(caught.value).startswith(str(tmp_path / "rig.toml"))


def test_files_that_are_no_rig_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="no such rig file"):
        read_rig(tmp_path / "missing.toml")
    with pytest.raises(RigError, match="not a TOML file"):
        _read(tmp_path, "cameras = [")
    with pytest.raises(RigError, match=r"cameras\[0\] must be a table, got 3"):
        _read(tmp_path, "cameras = [3]")
    with pytest.raises(RigError, match="cameras must be one or more"):
        _read(tmp_path, "")
    with pytest.raises(RigError, match="camera names must be unique"):
        _read(tmp_path, CAMERA * 2)
    (tmp_path / "rig.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(RigError, match="not a TOML file"):
        read_rig(tmp_path / "rig.toml")
    with pytest.raises(RigError, match="directory"):
        read_rig(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (".".join(["a"] * 100_000) + " = 1", "dots in a line must be at most 64, got 99999"),
        ("x = " + "[" * 50_000, "not a TOML file: maximum recursion depth exceeded"),
        ("#" * (1 << 20) + "\n", "size must be at most 1048576 bytes, got 1048577"),
    ],
)
def test_files_made_to_exhaust_are_refused(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(RigError, match=match):
        _read(tmp_path, text)


def _read(folder: Path, text: str) -> Rig:
    (folder / "rig.toml").write_text(text, encoding="utf-8")
    return read_rig(folder / "rig.toml")


SOURCE = CAMERA + 'source = "v4l2:/dev/video0"\n'


def test_a_source_is_no_part_of_the_calibration(tmp_path: Path) -> None:
    other = SOURCE.replace('"front"', '"rear"').replace("v4l2:/dev/video0", "ring:rear")
    text = SOURCE + other + CAMERA.replace('"front"', '"left"')
    with_sources = _read(tmp_path, text)
    assert read_rig_sources(tmp_path / "rig.toml") == {"front": "v4l2:/dev/video0", "rear": "ring:rear"}
    without = _read(tmp_path, "\n".join(line for line in text.splitlines() if not line.startswith("source")))
    assert read_rig_sources(tmp_path / "rig.toml") == {}
    assert rig_sha256(with_sources) == rig_sha256(without)


def test_a_source_is_a_string(tmp_path: Path) -> None:
    with pytest.raises(RigError, match=r"rig\.toml: cameras\[0\]\.source must be a string, got 0"):
        _read(tmp_path, SOURCE.replace('"v4l2:/dev/video0"', "0"))
    with pytest.raises(MissingFile, match=r"none\.toml: no such rig file"):
        read_rig_sources(tmp_path / "none.toml")
