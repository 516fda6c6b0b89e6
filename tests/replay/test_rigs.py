from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from octobev.errors import MissingFile, RigError
from octobev.fusion.lens import LensModel
from octobev.fusion.rig import encode_rig, write_rig
from octobev.replay.rigs import RIGS, find_rig, fisheye_rig, optical_mounting, reference_rig, six_camera_rig


def test_the_reference_rig_has_eight_cameras_with_the_fields_of_view_of_a_car() -> None:
    rig = reference_rig()
    assert rig.names == (
        "front_main",
        "front_wide",
        "front_narrow",
        "left_pillar",
        "right_pillar",
        "left_repeater",
        "right_repeater",
        "rear",
    )
    fields = {camera.name: camera.intrinsics.fov_deg[0] for camera in rig}
    assert fields["front_main"] == pytest.approx(50)
    assert fields["front_wide"] == pytest.approx(120, abs=0.01)
    assert fields["front_narrow"] == pytest.approx(35)
    assert rig["front_wide"].intrinsics.model is LensModel.KANNALA_BRANDT
    assert {(camera.intrinsics.width, camera.intrinsics.height) for camera in rig} == {(1280, 960)}


@pytest.mark.parametrize(
    ("name", "ahead", "left"),
    [("front_main", 1, 0), ("left_pillar", 1, 1), ("right_pillar", 1, -1), ("left_repeater", -1, 1), ("rear", -1, 0)],
)
def test_cameras_look_where_their_names_say(name: str, ahead: int, left: int) -> None:
    axis = reference_rig()[name].ego_from_camera.rotation[:, 2]
    assert np.sign(axis[0]) == ahead
    assert np.sign(np.round(axis[1], 6)) == left
    assert axis[2] < 0  # a little downwards


def test_a_mounting_without_turns_is_the_optical_frame() -> None:
    pose = optical_mounting(1.0, 2.0, 3.0, 0.0, 0.0)
    assert pose.rotation @ [0, 0, 1] == pytest.approx([1, 0, 0])
    assert pose.rotation @ [1, 0, 0] == pytest.approx([0, -1, 0])
    assert pose.rotation @ [0, 1, 0] == pytest.approx([0, 0, -1])
    assert pose.translation_m == pytest.approx([1, 2, 3])


def test_the_six_cameras_are_undistorted_and_leave_no_gap_around_the_car() -> None:
    rig = six_camera_rig()
    assert {camera.intrinsics.model for camera in rig} == {LensModel.PINHOLE}
    assert {(camera.intrinsics.width, camera.intrinsics.height) for camera in rig} == {(1600, 900)}
    assert seen_bearings(rig).all()


def test_the_fisheyes_see_190_degrees_and_all_that_is_around_the_car() -> None:
    rig = fisheye_rig()
    assert rig.names == ("front", "left", "rear", "right")
    for camera in rig:
        assert camera.intrinsics.fov_deg[0] == pytest.approx(190)
        assert camera.intrinsics.limit == pytest.approx(np.pi)  # never folds
    assert seen_bearings(rig).all()


def seen_bearings(rig) -> np.ndarray:
    """Whether a post 12 m away is seen, for every whole degree."""
    bearings = np.radians(np.arange(360))
    posts = np.stack((1.4 + 12 * np.cos(bearings), 12 * np.sin(bearings), np.full(360, 0.5)), axis=1)
    seen = np.zeros(360, bool)
    for camera in rig:
        seen |= camera.intrinsics.project(camera.ego_from_camera.inverse().apply(posts))[1]
    return seen


@pytest.mark.parametrize("name", RIGS)
def test_a_rig_is_found_by_its_name_and_by_its_file(name: str, tmp_path: Path) -> None:
    rig = find_rig(name)
    assert rig.name == name
    write_rig(rig, tmp_path / "rig.toml")
    assert encode_rig(find_rig(tmp_path / "rig.toml")) == encode_rig(rig)


def test_a_name_that_no_rig_has_is_refused() -> None:
    with pytest.raises(RigError, match=r"rig must be reference, six, fisheye or a rig.toml, got 'seven'"):
        find_rig("seven")
    with pytest.raises(MissingFile, match=r"nowhere\.toml: no such rig file"):
        find_rig("nowhere.toml")
