import dataclasses

import numpy as np
import pytest
from octobev.fusion.castout import (
    GroundStitcher,
    ImageEvidence,
    OccupancyCastOut,
    RoadLayoutCastOut,
    Stitching,
    above_centre,
    class_votes,
    default_prior,
    spread_in_cell,
)
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.view import FeatureCamera

GRID = BevGrid(0.0, 20.0, -8.0, 8.0, 0.5)
SHAPE = (60, 80)
CLASSES = ("other", "road", "line", "car")
STITCHING = Stitching(
    half_life_s=2.0, range_m=60, full_evidence_m=10, gain=1.0, independent_after_s=0.25, limit=6.0, min_mass=0.05,
    depth_sigma_m=0.5, depth_sigma_relative=0.05,
)  # fmt: skip
CENTRE = np.zeros((1, 3))
FORWARD = np.array([[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]], dtype=np.float64)
CAMERA = FeatureCamera(Intrinsics(80, 60, 60, 60, 39.5, 20.0), Pose(FORWARD))


def stitcher(classes, *, blocked_by=(), offsets_m=CENTRE, prior=0.3, stitching=STITCHING):
    groups = list(classes.values())
    return GroundStitcher(
        GRID, [CAMERA], SHAPE, 1, offsets_m=offsets_m, votes=class_votes(CLASSES, groups),
        blockers=class_votes(CLASSES, [blocked_by])[:, 0], prior=[prior] * len(groups), stitching=stitching,
    )  # fmt: skip


def ground_scene(*, wall_at_m=None):
    """Images of a plane: road left of the ego, a line to the right; optionally a wall across, cars as class."""
    v, u = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]].astype(np.float64)
    rays, _ = CAMERA.intrinsics.unproject(np.stack((u, v), axis=-1))
    forward, left, up = rays[..., 2], -rays[..., 0], -rays[..., 1]
    with np.errstate(divide="ignore"):
        distance = np.where(up < 0, 1.5 / np.maximum(-up, 1e-9), np.inf)
    names = np.where(up < 0, np.where(left * distance > 0, 1, 2), 0)
    depth = forward * distance
    if wall_at_m is not None:
        wall = (depth > wall_at_m) & (1.5 + up * wall_at_m / forward < 3.0)
        names, depth = np.where(wall, 3, names), np.where(wall, wall_at_m, depth)
    probability = np.eye(len(CLASSES), dtype=np.float32)[names].reshape(-1, len(CLASSES))
    return probability, depth.astype(np.float32).ravel()


def evidence(probability, depth=None, active=1, move=None):
    return ImageEvidence(probability, depth, np.array([active], dtype=np.uint8), [move or Pose.identity()])


def cell(x_m, y_m):
    i, j = GRID.cell_of(np.array([x_m, y_m]))[0]
    return int(i), int(j)


def test_road_on_the_left_is_on_the_left():
    layout = RoadLayoutCastOut(["road", "line"], stitcher({"road": ["road"], "line": ["line"]})).step(
        evidence(ground_scene()[0])
    )
    left, right = cell(10.0, 2.0), cell(10.0, -2.0)
    assert layout["road"][left] > 0.9
    assert layout["road"][right] < 0.1
    assert layout["line"][right] > 0.9
    assert layout.observed[left]
    assert layout.seen_by[left] == 1


def test_cells_that_no_camera_sees_are_not_observed_and_have_no_probability():
    layout = RoadLayoutCastOut(["road"], stitcher({"road": ["road"]})).step(evidence(ground_scene()[0]))
    beside = cell(2.0, 7.5)
    assert not layout.observed[beside]
    assert layout["road"][beside] == 0
    assert layout.seen_by[beside] == 0


def test_absent_camera_adds_nothing():
    castout = RoadLayoutCastOut(["road"], stitcher({"road": ["road"]}))
    layout = castout.step(evidence(np.full((4800, 4), np.nan, dtype=np.float32), active=0))
    assert not layout.observed.any()
    assert not layout.probability.any()


def test_blocked_pixels_are_no_evidence():
    probability, _ = ground_scene(wall_at_m=8.0)
    behind = cell(15.0, 2.0)
    careless = RoadLayoutCastOut(["road"], stitcher({"road": ["road"]})).step(evidence(probability))
    careful = RoadLayoutCastOut(["road"], stitcher({"road": ["road"]}, blocked_by=["car"])).step(evidence(probability))
    assert careless["road"][behind] < 0.1
    assert careless.observed[behind]
    assert not careful.observed[behind]


def test_depth_keeps_what_stands_in_front_from_speaking_for_what_is_behind():
    probability, depth = ground_scene(wall_at_m=8.0)
    layout = RoadLayoutCastOut(["road"], stitcher({"road": ["road"]})).step(evidence(probability, depth))
    assert layout["road"][cell(7.0, 2.0)] > 0.8
    assert not layout.observed[cell(15.0, 2.0)]


def test_wall_is_occupied_ground_before_it_is_free_and_behind_it_is_unknown():
    probability, depth = ground_scene(wall_at_m=8.0)
    castout = OccupancyCastOut(stitcher({"occupied": ["car"]}, offsets_m=above_centre([0.0, 0.5, 1.0]), prior=0.1))
    grid = castout.step(evidence(probability, depth))
    assert grid.probability[cell(9.5, 2.0)] > 0.5  # 8 m before the camera, which is 1.5 m ahead of the origin
    assert grid.probability[cell(6.0, 2.0)] < 0.1
    assert not grid.observed[cell(18.0, 2.0)]
    assert grid.half_life_s == 2.0


def test_repeated_evidence_grows_to_the_limit_and_fades_by_half():
    stitch = stitcher({"road": ["road"]}, prior=0.5)
    castout = RoadLayoutCastOut(["road"], stitch)
    probability, _ = ground_scene()
    for _ in range(5):
        castout.step(evidence(probability))
    assert stitch.map.values.max() == pytest.approx(6.0)
    stitch.move(Pose.identity(), 2.0)
    assert stitch.map.values.max() == pytest.approx(3.0)


def test_rate_of_the_cameras_makes_no_difference():
    """A second of evidence is a second of evidence, in 4 sets or in 40 (nothing fades here)."""
    reached = {}
    lasting = dataclasses.replace(STITCHING, half_life_s=1e9, limit=100.0)
    probability = np.zeros((4800, 4), dtype=np.float32)
    probability[:, 1], probability[:, 0] = 0.6, 0.4
    for rate in (4, 40):
        stitch = stitcher({"road": ["road"]}, prior=0.5, stitching=lasting)
        castout = RoadLayoutCastOut(["road"], stitch)
        for _ in range(rate):
            stitch.move(Pose.identity(), 1 / rate)
            castout.step(evidence(probability))
        reached[rate] = stitch.map.values.max()
    assert reached[40] == pytest.approx(reached[4], rel=1e-4)
    assert reached[4] == pytest.approx(4 * np.log(0.6 / 0.4), rel=1e-4)


def test_prior_alone_says_nothing():
    """Evidence equal to the prior leaves the log-odds at zero and the probability at the prior."""
    stitch = stitcher({"road": ["road"]}, prior=0.3)
    probability = np.zeros((4800, 4), dtype=np.float32)
    probability[:, 1], probability[:, 0] = 0.3, 0.7
    layout = RoadLayoutCastOut(["road"], stitch).step(evidence(probability))
    assert np.abs(stitch.map.values).max() < 1e-5
    assert layout["road"][layout.observed] == pytest.approx(0.3, abs=1e-5)


def test_each_camera_is_cast_from_where_it_fired():
    """The car drove 2 m between the exposure and the set's instant: the road's end is 2 m nearer now."""
    probability, _ = ground_scene(wall_at_m=10.0)
    still = RoadLayoutCastOut(["road"], stitcher({"road": ["road"]}, blocked_by=["car"])).step(evidence(probability))
    moved = RoadLayoutCastOut(["road"], stitcher({"road": ["road"]}, blocked_by=["car"])).step(
        evidence(probability, move=Pose.planar(2.0, 0.0, 0.0))
    )
    _, j = cell(0.0, 2.0)
    ends = [np.flatnonzero(layout.observed[:, j]).max() for layout in (still, moved)]
    assert ends[0] - ends[1] == 4


def test_evidence_far_away_counts_less():
    stitch = stitcher({"road": ["road"]}, prior=0.5, stitching=STITCHING)
    probability = np.zeros((4800, 4), dtype=np.float32)
    probability[:, 1], probability[:, 0] = 0.6, 0.4
    RoadLayoutCastOut(["road"], stitch).step(evidence(probability))
    values, _ = stitch.map.read()
    near, far = values[0][cell(8.0, 0.25)], values[0][cell(19.5, 0.25)]
    assert far / near == pytest.approx(10 / 19.75, rel=0.05)


def test_default_prior_fills_what_the_manifest_leaves_out():
    assert default_prior({"road": 0.4}, ["road", "line"]) == [0.4, 0.1]


def test_class_thinner_than_a_cell_is_there_when_any_part_of_the_cell_has_it():
    """A stripe 0.1 m wide beside the middle of a row of cells: the middle misses it, one point of four has it."""
    v, u = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]].astype(np.float64)
    rays, _ = CAMERA.intrinsics.unproject(np.stack((u, v), axis=-1))
    left = -rays[..., 0] * np.where(rays[..., 1] > 0, 1.5 / np.maximum(rays[..., 1], 1e-9), np.nan)
    names = np.where(np.abs(left - 0.375) < 0.05, 2, 1)
    probability = np.eye(len(CLASSES), dtype=np.float32)[names].reshape(-1, len(CLASSES))
    near = cell(4.0, 0.25)
    classes = {"road": ["road"], "line": ["line"]}
    found = {}
    for name, offsets, thin in (
        ("middle", CENTRE, ["line"]),
        ("thin", spread_in_cell(2, 0.5), ["line"]),
        ("mean", spread_in_cell(2, 0.5), []),
    ):
        castout = RoadLayoutCastOut(list(classes), stitcher(classes, offsets_m=offsets), thin)
        layout = castout.step(evidence(probability))
        found[name] = layout["line"][near]
    assert found["middle"] < 0.1
    assert found["thin"] > found["mean"] > found["middle"]
    assert found["thin"] > 0.5


def test_points_spread_in_a_cell_share_it_evenly():
    assert spread_in_cell(2, 1.0).tolist() == [[-0.25, -0.25, 0], [-0.25, 0.25, 0], [0.25, -0.25, 0], [0.25, 0.25, 0]]
    assert spread_in_cell(1, 0.5).tolist() == [[0, 0, 0]]
