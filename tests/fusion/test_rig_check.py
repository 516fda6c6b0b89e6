"""Every mistake that people make in a calibration is found, and a healthy rig has no findings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from octobev.errors import CalibrationError
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.fusion.rig_check import (
    Finding,
    Severity,
    check_rig,
    measure_coverage,
    sees_ground,
    unreadable,
    view_angles_deg,
)

BODY_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def mounting(x: float, y: float, z: float, yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Pose:
    """`ego_from_camera` of a camera that looks at yaw (left), pitch (up), rolled clockwise."""
    yaw, pitch, roll = np.radians((yaw_deg, pitch_deg, roll_deg))
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    tilt = np.array([[np.cos(pitch), 0, -np.sin(pitch)], [0, 1, 0], [np.sin(pitch), 0, np.cos(pitch)]])
    spin = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ tilt @ BODY_FROM_OPTICAL @ spin
    matrix[:3, 3] = (x, y, z)
    return Pose(matrix)


def pinhole(fov_deg: float) -> Intrinsics:
    focal = 640.0 / math.tan(math.radians(fov_deg) / 2)
    return Intrinsics(1280, 960, focal, focal, 639.5, 479.5)


def healthy() -> Rig:
    places = {
        "front_main": (1.7, 0.0, 1.4, 0, -2, 50),
        "front_wide": (1.7, 0.0, 1.4, 0, -4, 120),
        "front_narrow": (1.7, 0.03, 1.4, 0, -1, 35),
        "left_pillar": (1.1, 0.7, 1.3, 60, -4, 90),
        "right_pillar": (1.1, -0.7, 1.3, -60, -4, 90),
        "left_repeater": (2.4, 0.9, 0.95, 145, -3, 90),
        "right_repeater": (2.4, -0.9, 0.95, -145, -3, 90),
        "rear": (-0.9, 0.0, 1.0, 180, -8, 110),
    }
    return Rig(tuple(Camera(name, pinhole(p[5]), mounting(*p[:5])) for name, p in places.items()))


def surround_six() -> Rig:
    places = {"front_left": 55, "front": 0, "front_right": -55, "back_right": -110, "back": 180, "back_left": 110}
    cameras = []
    for name, yaw in places.items():
        x, y = 0.9 + 0.8 * math.cos(math.radians(yaw)), 0.5 * math.sin(math.radians(yaw))
        cameras.append(Camera(name, pinhole(95 if name == "back" else 65), mounting(x, y, 1.5, yaw)))
    return Rig(tuple(cameras))


def with_camera(rig: Rig, name: str, change: Callable[[Camera], Camera]) -> Rig:
    assert name in rig
    return Rig(tuple(change(camera) if camera.name == name else camera for camera in rig))


def with_pose(rig: Rig, name: str, pose: Pose) -> Rig:
    return with_camera(rig, name, lambda camera: replace(camera, ego_from_camera=pose))


def with_lens(rig: Rig, name: str, **changes: object) -> Rig:
    return with_camera(
        rig,
        name,
        lambda camera: replace(camera, intrinsics=replace(camera.intrinsics, **changes)),  # type: ignore[arg-type]
    )


def turned_by(pose: Pose, rotation: np.ndarray) -> Pose:
    matrix = pose.matrix.copy()
    matrix[:3, :3] = pose.rotation @ rotation
    return Pose(matrix)


def only(findings: tuple[Finding, ...], check: str, camera: str | None) -> Finding:
    assert [(finding.check, finding.camera) for finding in findings] == [(check, camera)], list(map(str, findings))
    return findings[0]


@pytest.mark.parametrize("rig", [healthy(), surround_six()], ids=["eight", "six"])
def test_a_healthy_rig_has_no_findings(rig: Rig) -> None:
    assert list(map(str, check_rig(rig))) == []


@pytest.mark.parametrize("rig", [healthy(), surround_six()], ids=["eight", "six"])
def test_an_inverted_transform_is_found_for_every_camera(rig: Rig) -> None:
    for camera in rig:
        finding = only(
            check_rig(with_pose(rig, camera.name, camera.ego_from_camera.inverse())), "inverted_transform", camera.name
        )
        assert finding.severity is Severity.ERROR
        assert "got one that fits only as camera_from_ego" in finding.message


@pytest.mark.parametrize("rig", [healthy(), surround_six()], ids=["eight", "six"])
def test_body_axes_used_as_optical_are_found_for_every_camera(rig: Rig) -> None:
    for camera in rig:
        wrong = turned_by(camera.ego_from_camera, BODY_FROM_OPTICAL.T)
        finding = only(check_rig(with_pose(rig, camera.name, wrong)), "axis_convention", camera.name)
        assert finding.severity is Severity.ERROR
        assert finding.value == pytest.approx(90, abs=9)


@pytest.mark.parametrize("rig", [healthy(), surround_six()], ids=["eight", "six"])
def test_axes_of_computer_graphics_are_found_for_every_camera(rig: Rig) -> None:
    for camera in rig:
        wrong = turned_by(camera.ego_from_camera, np.diag([1.0, -1.0, -1.0]))
        finding = only(check_rig(with_pose(rig, camera.name, wrong)), "upside_down", camera.name)
        assert finding.severity is Severity.ERROR
        assert "y up and z backward" in finding.message


@pytest.mark.parametrize(
    ("rig", "first", "second"),
    [
        (healthy(), "left_pillar", "right_pillar"),
        (healthy(), "left_repeater", "right_repeater"),
        (healthy(), "front_main", "rear"),
        (surround_six(), "front_left", "front_right"),
        (surround_six(), "back_left", "back_right"),
        (surround_six(), "front", "back"),
        (surround_six(), "front_left", "back_right"),
    ],
)
def test_swapped_names_are_found(rig: Rig, first: str, second: str) -> None:
    names = {first: second, second: first}
    swapped = Rig(tuple(replace(camera, name=names.get(camera.name, camera.name)) for camera in rig))
    findings = check_rig(swapped)
    assert {(finding.check, finding.camera) for finding in findings} == {("name", first), ("name", second)}
    assert all("are names swapped?" in finding.message for finding in findings)


def test_names_without_a_side_say_nothing() -> None:
    rig = surround_six()
    numbered = Rig(tuple(replace(camera, name=f"bright_{5 - i}") for i, camera in enumerate(rig)))
    assert check_rig(numbered) == ()


def test_a_camera_that_looks_at_the_sky_is_found() -> None:
    finding = only(
        check_rig(with_pose(healthy(), "front_narrow", mounting(1.7, 0, 1.4, 0, 30))), "no_ground", "front_narrow"
    )
    assert "looks at the sky (pitch 30.0 degrees)" in finding.message
    assert finding.value == pytest.approx(30.0)


def test_a_camera_that_sees_hardly_any_ground_is_found() -> None:
    findings = check_rig(with_pose(healthy(), "front_narrow", mounting(1.7, 0, 1.4, 0, 11.5)))
    finding = only(findings, "little_ground", "front_narrow")
    assert finding.severity is Severity.WARNING
    assert "ground must fill at least 5% of the image" in finding.message


def test_a_camera_below_the_ground_is_found() -> None:
    findings = check_rig(with_pose(healthy(), "rear", mounting(-0.9, 0, -1.0, 180, -8)))
    assert {finding.check for finding in findings} == {"height", "no_ground"}
    assert "got -1.00 m (below the ground)" in findings[0].message
    assert "looks underground" in findings[1].message


@pytest.mark.parametrize(("height_m", "words"), [(0.1, "on the ground"), (7.0, "very high")])
def test_an_unlikely_height_is_found(height_m: float, words: str) -> None:
    findings = check_rig(with_pose(healthy(), "rear", mounting(-0.9, 0, height_m, 180, -20)))
    finding = only(findings, "height", "rear")
    assert finding.severity is Severity.WARNING
    assert f"must be 0.2 to 5 m, got {height_m:.2f} m ({words})" in finding.message


def test_millimetres_are_found() -> None:
    finding = only(check_rig(with_pose(healthy(), "rear", mounting(-900, 0, 1000, 180, -8))), "units", "rear")
    assert "mounting must be in metres" in finding.message


def test_a_camera_far_from_the_car_is_found() -> None:
    finding = only(check_rig(with_pose(healthy(), "rear", mounting(-18, 0, 1.0, 180, -8))), "far_away", "rear")
    assert finding.severity is Severity.WARNING


@pytest.mark.parametrize(("roll_deg", "severity"), [(25.0, Severity.WARNING), (-90.0, Severity.ERROR)])
def test_a_rolled_camera_is_found(roll_deg: float, severity: Severity) -> None:
    findings = check_rig(with_pose(healthy(), "front_main", mounting(1.7, 0, 1.4, 0, -2, roll_deg)))
    finding = only(findings, "roll", "front_main")
    assert finding.severity is severity
    assert finding.value == pytest.approx(roll_deg, abs=1.0)


@pytest.mark.parametrize(
    ("changes", "check", "severity", "words"),
    [
        ({"fx": 12000.0, "fy": 12000.0}, "focal_length", Severity.ERROR, "field of view must be 8 to 220 degrees"),
        ({"fx": 100.0, "fy": 100.0}, "focal_length", Severity.WARNING, "is the distortion missing?"),
        ({"fx": 30.0, "fy": 30.0}, "focal_length", Severity.ERROR, "of a pinhole must be at most 150 degrees"),
        ({"fx": 700.0, "fy": 500.0}, "focal_ratio", Severity.WARNING, "fx / fy must be 0.9 to 1.1, got 1.400"),
        ({"cx": 860.0}, "principal_point", Severity.WARNING, "principal point must be within 15%"),
        ({"cx": 1279.0, "cy": 959.0}, "principal_point", Severity.ERROR, "those of another resolution?"),
    ],
)
def test_an_implausible_lens_is_found(changes: dict[str, float], check: str, severity: Severity, words: str) -> None:
    findings = [f for f in check_rig(with_lens(healthy(), "front_wide", **changes)) if f.check == check]
    assert findings
    assert {(finding.camera, finding.severity) for finding in findings} == {("front_wide", severity)}
    assert all(words in finding.message for finding in findings)


def test_a_wide_fisheye_is_fine() -> None:
    lens = Intrinsics(1280, 960, 380.0, 380.0, 639.5, 479.5, LensModel.KANNALA_BRANDT, (0.0,) * 4)
    rig = with_camera(healthy(), "rear", lambda camera: replace(camera, intrinsics=lens))
    assert lens.fov_deg[0] > 190
    assert check_rig(rig) == ()


def test_one_calibration_for_two_cameras_is_found() -> None:
    rig = surround_six()
    copied = with_pose(rig, "front_right", rig["front_left"].ego_from_camera)
    checks = {(finding.check, finding.camera) for finding in check_rig(copied)}
    assert ("duplicate", "front_right") in checks


def test_two_lenses_at_one_place_are_no_duplicates() -> None:
    rig = healthy()
    assert np.allclose(rig["front_main"].ego_from_camera.translation_m, rig["front_wide"].ego_from_camera.translation_m)
    assert check_rig(rig) == ()


def test_a_blind_sector_is_found() -> None:
    finding = only(check_rig(surround_six().select(["front", "front_left", "front_right"])), "blind_sector", None)
    assert finding.severity is Severity.WARNING
    assert finding.value == pytest.approx(190, abs=20)


def test_a_blind_sector_straight_ahead_is_one_sector() -> None:
    coverage = measure_coverage(surround_six().select(["back", "back_left", "back_right"]))
    assert len(coverage.blind_sectors_deg) == 1
    start, stop = coverage.blind_sectors_deg[0]
    assert -100 < start < -60
    assert 60 < stop < 100


def test_coverage_counts_cameras_where_they_look() -> None:
    grid = BevGrid(-20, 20, -20, 20, 1.0)
    rig = surround_six().select(["front", "back_left"])
    coverage = measure_coverage(rig, grid)
    ahead, _ = grid.cell_of(np.array([12.0, 0.0]))
    behind_left, _ = grid.cell_of(np.array([-3.0, 12.0]))
    right, _ = grid.cell_of(np.array([0.0, -12.0]))
    assert coverage.count[tuple(ahead)] == 1
    assert coverage.count[tuple(behind_left)] == 1
    assert coverage.count[tuple(right)] == 0
    assert 0 < coverage.near_seen < 0.5


def test_nothing_is_seen_from_below_the_ground() -> None:
    camera = Camera("front", pinhole(90), mounting(1.7, 0, -1.4, 0, 40))
    assert not sees_ground(camera, np.array([[10.0, 0.0], [4.0, 0.0]])).any()


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (55, -10, 5), (-110, 20, -60), (179, 3, 170)])
def test_view_angles_by_hand(yaw: float, pitch: float, roll: float) -> None:
    assert view_angles_deg(mounting(0, 0, 1, yaw, pitch, roll)) == pytest.approx((yaw, pitch, roll))


def test_positive_roll_is_clockwise_as_the_camera_sees_it() -> None:
    # a camera turned clockwise has its image right pointing down
    right = mounting(0, 0, 1, 0, 0, 30).rotation[:, 0]
    assert right[2] < 0


def test_a_rig_that_cannot_be_read_is_a_finding() -> None:
    with pytest.raises(CalibrationError) as caught:
        Pose(np.diag([1.0, 1.0, 1.1, 1.0]))
    finding = unreadable(caught.value)
    assert (finding.severity, finding.check, finding.camera) == (Severity.ERROR, "calibration", None)
    assert "rotation must be orthonormal" in finding.message


def test_errors_come_first() -> None:
    rig = with_lens(healthy(), "front_main", fx=700.0, fy=500.0)
    rig = with_pose(rig, "rear", rig["rear"].ego_from_camera.inverse())
    findings = check_rig(rig)
    assert [finding.severity for finding in findings] == [Severity.ERROR, Severity.WARNING]
    assert str(findings[1]).startswith("warning: front_main: fx / fy must be")
