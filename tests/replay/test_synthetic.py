from __future__ import annotations

import cv2
import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.replay.drive import TRUTH_LAYERS, DriveStep
from octobev.replay.synthetic import SyntheticDrive, reference_rig
from octobev.replay.world import START_NS
from octobev.runtime.frames import PixelFormat

SIZE = (160, 96)


@pytest.fixture(scope="module")
def drive() -> SyntheticDrive:
    return SyntheticDrive(5, 1.0, rate_hz=4.0, size=SIZE)


@pytest.fixture(scope="module")
def steps(drive: SyntheticDrive) -> list[DriveStep]:
    return list(drive.steps())


def test_every_step_has_all_cameras_and_all_layers(drive: SyntheticDrive, steps: list[DriveStep]) -> None:
    assert len(steps) == 4 == drive.length_hint
    for step in steps:
        assert tuple(frame.camera for frame in step.frame_set.frames) == drive.rig.names
        assert step.truth is not None
        assert set(step.truth.layers) == set(TRUTH_LAYERS)


def test_cameras_fire_one_after_another_each_at_its_own_pose(drive: SyntheticDrive, steps: list[DriveStep]) -> None:
    first = steps[0].frame_set
    times = sorted(frame.timestamp_ns for frame in first.frames)
    assert np.diff(times).tolist() == [4_000_000] * 7
    assert first.timestamp_ns == times[-1] == steps[0].truth.timestamp_ns
    assert first.frame("front_main").timestamp_ns == START_NS
    for frame in first.frames:
        assert np.array_equal(frame.world_from_ego.matrix, drive.world_from_ego(frame.timestamp_ns).matrix)
    first_pose, last_pose = (first.frame(name).world_from_ego for name in ("front_main", "rear"))
    driven_m = np.linalg.norm(last_pose.translation_m - first_pose.translation_m)
    assert driven_m == pytest.approx(0.028 * drive.world.traffic.ego_speed_mps(0.2), rel=0.3)


def test_time_goes_on_by_the_period(steps: list[DriveStep]) -> None:
    assert np.diff([step.frame_set.timestamp_ns for step in steps]).tolist() == [250_000_000] * 3


def test_equal_arguments_give_equal_bytes(steps: list[DriveStep]) -> None:
    again = next(iter(SyntheticDrive(5, 1.0, rate_hz=4.0, size=SIZE).steps()))
    for one, other in zip(steps[0].frame_set.frames, again.frame_set.frames, strict=True):
        assert one.data == other.data
    for name in TRUTH_LAYERS:
        assert np.array_equal(steps[0].truth.layers[name], again.truth.layers[name], equal_nan=name == "direction_rad")


def test_a_part_of_a_drive_is_the_same_as_in_the_whole(drive: SyntheticDrive, steps: list[DriveStep]) -> None:
    part = list(drive.steps(start_s=0.25, duration_s=0.5))
    assert [step.frame_set.timestamp_ns for step in part] == [step.frame_set.timestamp_ns for step in steps[1:3]]
    assert part[0].frame_set.frames[3].data == steps[1].frame_set.frames[3].data


def test_a_part_that_is_none_is_refused_at_once(drive: SyntheticDrive) -> None:
    for steps in (drive.steps, drive.labelled_steps):
        with pytest.raises(InvalidArgument, match="duration_s must be finite seconds from 0 on, got nan"):
            steps(duration_s=float("nan"))


def test_frames_are_jpeg_of_the_asked_size(steps: list[DriveStep]) -> None:
    frame = steps[0].frame_set.frames[0]
    assert frame.pixel_format is PixelFormat.JPEG
    assert cv2.imdecode(np.frombuffer(frame.data, np.uint8), cv2.IMREAD_COLOR).shape == (96, 160, 3)


def test_labelled_steps_come_with_a_view_of_every_camera(drive: SyntheticDrive) -> None:
    step, views = next(iter(drive.labelled_steps()))
    assert tuple(views) == drive.rig.names
    assert views["rear"].classes.shape == views["rear"].depth.shape == (96, 160)
    decoded = cv2.imdecode(np.frombuffer(step.frame_set.frame("rear").data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - views["rear"].image).mean() < 6


@pytest.mark.parametrize("name", ["front_main", "front_wide", "left_pillar", "right_repeater", "rear"])
def test_truth_and_views_agree_where_streets_end(drive: SyntheticDrive, name: str) -> None:
    step, views = next(iter(drive.labelled_steps(start_s=0.75)))
    frame, camera, layers = step.frame_set.frame(name), drive.rig[name], step.truth.layers
    centres = step.truth.grid.centres()
    world = step.frame_set.world_from_ego.apply(np.concatenate((centres, np.zeros((*centres.shape[:2], 1))), axis=2))
    in_camera = (frame.world_from_ego @ camera.ego_from_camera).inverse().apply(world)
    pixels, valid = camera.intrinsics.project(in_camera)
    near = np.linalg.norm(centres, axis=2) < 14
    cells = valid & near & (layers["road_edge"] == 0) & (layers["occupancy"] == 0) & (layers["visible"] == 1)
    column, row = np.floor(pixels[cells] + 0.5).astype(int).T
    paved = np.isin(views[name].classes[row, column], (1, 2, 5))
    assert cells.sum() > 80
    assert (paved == (layers["drivable"][cells] == 1)).mean() > 0.98


def test_mounting_errors_are_in_the_pictures_but_not_in_the_rig() -> None:
    drive = SyntheticDrive(5, 0.25, size=SIZE, mount_jitter_deg=0.5)
    for nominal, given, true in zip(reference_rig(), drive.rig, drive.true_cameras, strict=True):
        assert np.array_equal(given.ego_from_camera.matrix, nominal.ego_from_camera.matrix)
        turned = np.trace(given.ego_from_camera.rotation.T @ true.ego_from_camera.rotation)
        assert 0.0 < np.degrees(np.arccos(np.clip((turned - 1) / 2, -1, 1))) < 4.0
        assert np.array_equal(true.ego_from_camera.translation_m, nominal.ego_from_camera.translation_m)


def test_known_mountings_differ_from_car_to_car_and_the_rig_says_how() -> None:
    rig = reference_rig()
    one, other = (SyntheticDrive(seed, 0.25, mounting_spread_deg=1.0, mounting_spread_m=0.05) for seed in (5, 6))
    for nominal, first, second, true in zip(rig, one.rig, other.rig, one.true_cameras, strict=True):
        assert np.array_equal(first.ego_from_camera.matrix, true.ego_from_camera.matrix)
        shift = first.ego_from_camera.translation_m - nominal.ego_from_camera.translation_m
        assert 0.0 < np.linalg.norm(shift) < 0.3
        assert not np.allclose(first.ego_from_camera.matrix, second.ego_from_camera.matrix)
    turns = [
        np.degrees(
            np.arccos(np.clip((np.trace(a.ego_from_camera.rotation.T @ b.ego_from_camera.rotation) - 1) / 2, -1, 1))
        )
        for a, b in zip(rig, one.rig, strict=True)
    ]
    assert 0.5 < np.mean(turns) < 4.0


def agreement(drive: SyntheticDrive, start_s: float, name: str) -> float:
    """Share of near ground cells whose pixel has the class that the truth says, by the poses that the step gives."""
    step, views = next(iter(drive.labelled_steps(start_s=start_s)))
    frame, camera, layers = step.frame_set.frame(name), drive.rig[name], step.truth.layers
    centres = step.truth.grid.centres()
    world = step.frame_set.world_from_ego.apply(np.concatenate((centres, np.zeros((*centres.shape[:2], 1))), axis=2))
    pixels, valid = camera.intrinsics.project((frame.world_from_ego @ camera.ego_from_camera).inverse().apply(world))
    near = np.linalg.norm(centres, axis=2) < 16
    cells = valid & near & (layers["road_edge"] == 0) & (layers["occupancy"] == 0) & (layers["visible"] == 1)
    column, row = np.floor(pixels[cells] + 0.5).astype(int).T
    assert cells.sum() > 60
    return float((np.isin(views[name].classes[row, column], (1, 2, 5)) == (layers["drivable"][cells] == 1)).mean())


def test_views_of_displaced_cameras_agree_with_the_truth_by_their_calibration() -> None:
    known = SyntheticDrive(5, 1.0, rate_hz=4.0, size=SIZE, mounting_spread_deg=2.5, mounting_spread_m=0.1)
    unknown = SyntheticDrive(5, 1.0, rate_hz=4.0, size=SIZE, mount_jitter_deg=2.5)
    names = ("front_wide", "left_pillar", "rear")
    assert min(agreement(known, 0.75, name) for name in names) > 0.97
    assert min(agreement(unknown, 0.75, name) for name in names) < 0.97


def test_frames_carry_the_tilt_of_the_body_and_the_truth_stays_level() -> None:
    # ten times an ordinary car's tilt, so that it shows
    drive = SyntheticDrive(5, 1.0, rate_hz=4.0, size=SIZE, body_tilt=10.0)
    step = next(iter(drive.steps(start_s=0.75)))
    assert step.frame_set.world_from_ego.rotation[2, :2].tolist() == [0.0, 0.0]
    tilts = [np.degrees(np.arccos(frame.world_from_ego.rotation[2, 2])) for frame in step.frame_set.frames]
    assert min(tilts) > 0.5
    assert min(agreement(drive, 0.75, name) for name in ("front_wide", "left_pillar", "rear")) > 0.97
    level = next(iter(SyntheticDrive(5, 1.0, rate_hz=4.0, size=SIZE).steps(start_s=0.75)))
    for layer in ("drivable", "lane_divider", "occupancy"):
        assert np.array_equal(step.truth.layers[layer], level.truth.layers[layer])


def test_some_cells_are_visible_and_some_hidden(steps: list[DriveStep]) -> None:
    for step in steps:
        assert 0.3 < step.truth.layers["visible"].mean() < 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be not negative, got -1"),
        ({"seconds": 0}, "seconds must be more than 0 and at most 3600, got 0"),
        ({"rate_hz": 0}, "rate_hz must be more than 0 and at most 200, got 0"),
        ({"size": (8, 8)}, "size must be from 16 to 8192 pixels"),
        ({"encode": "png"}, "encode must be 'jpeg' or None, got png"),
        ({"jpeg_quality": 0}, "jpeg_quality must be from 1 to 100, got 0"),
        ({"mount_jitter_deg": -1}, "mount_jitter_deg must be not negative, got -1"),
        ({"mounting_spread_deg": -1}, "mounting_spread_deg must be not negative, got -1"),
        ({"mounting_spread_m": float("nan")}, "mounting_spread_m must be not negative, got nan"),
        ({"body_tilt": float("inf")}, "body_tilt must be not negative, got inf"),
        ({"stagger_ns": -1}, "stagger_ns must be not negative, got -1"),
    ],
)
def test_arguments_that_make_no_drive_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        SyntheticDrive(**{"seed": 1, "seconds": 1.0, **arguments})
