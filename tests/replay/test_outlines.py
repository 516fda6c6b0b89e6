from __future__ import annotations

import cv2
import numpy as np
import pytest
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.replay.outlines import NEAR_M, clip, is_wide, project_outlines, reach_rad, visible_parts
from octobev.replay.rigs import fisheye_rig, reference_rig

FISHEYE = fisheye_rig().cameras[0].intrinsics.resized(640, 480)


def test_a_triangle_through_a_plane_loses_its_tip() -> None:
    triangle = np.array([[[0.0, 0.0, -0.9], [1.0, 0.0, 1.1], [-1.0, 0.0, 1.1]]], np.float32)
    parts, index = clip(triangle, (0, 0, 1), 0.1)
    assert index.tolist() == [0]
    assert parts.shape == (1, 4, 3)
    assert parts[0, :, 2].min() == pytest.approx(0.1)
    assert sorted(parts[0, np.isclose(parts[0, :, 2], 0.1), 0]) == pytest.approx([-0.5, 0.5])


def test_polygons_behind_the_plane_are_dropped_and_others_stay_as_they_are() -> None:
    ahead = np.array([[0, 0, 2], [1, 0, 2], [0, 1, 2]], np.float32)
    parts, index = clip(np.stack((ahead * [1, 1, -1], ahead)).astype(np.float32), (0, 0, 1), 0.1)
    assert index.tolist() == [1]
    assert parts.tolist() == [[*ahead.tolist(), [0, 1, 2]]]


def test_a_corner_that_is_cut_off_becomes_two() -> None:
    square = np.array([[[0, 0, 1], [2, 0, 1], [2, 2, 1], [0, 2, 1]]], np.float32)
    parts, _ = clip(square, (-1, -1, 0), -3.0)
    assert sorted(map(tuple, parts[0].tolist())) == [(0, 0, 1), (0, 2, 1), (1, 2, 1), (2, 0, 1), (2, 1, 1)]


def test_narrow_lenses_cut_before_the_camera_and_wide_ones_beside_it() -> None:
    rig = reference_rig()
    assert not any(is_wide(camera.intrinsics) for camera in rig)
    assert is_wide(FISHEYE)
    assert np.degrees(reach_rad(FISHEYE)) > 95
    across = np.array([[[-5, 1, 3], [5, 1, 3], [5, 1, -3], [-5, 1, -3]]], np.float32)
    parts, _ = visible_parts(across, rig.cameras[0].intrinsics)
    assert parts[..., 2].min() == pytest.approx(NEAR_M)
    parts, index = visible_parts(across, FISHEYE)
    assert (index == 0).all()
    assert parts[..., 2].min() < -1


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        (LensModel.PINHOLE, ()),
        (LensModel.BROWN_CONRADY, (-0.2, 0.05, 0.001, -0.002, 0.0)),
        (LensModel.KANNALA_BRANDT, (0.03, -0.01, 0.003, -0.0005)),
    ],
)
def test_corners_fall_where_the_lens_puts_them(model: LensModel, coefficients: tuple[float, ...]) -> None:
    lens = Intrinsics(640, 480, 330.0, 320.0, 318.0, 243.0, model, coefficients)
    corners = np.array([[[-1.0, -0.5, 3.0], [1.2, -0.4, 3.5], [1.0, 0.9, 4.0], [-0.8, 0.7, 2.5]]])
    outline = project_outlines(corners.astype(np.float32), lens)[0]
    pixels, valid = lens.project(corners[0])
    assert valid.all()
    assert outline[:: len(outline) // 4] == pytest.approx(pixels, abs=2e-3)


@pytest.mark.parametrize(
    "polygon",
    [
        [(-1.2, 1.5, 2.0), (3.0, 1.5, 2.0), (3.0, 1.5, -2.5), (-1.2, 1.5, -2.5)],  # the ground beneath and behind
        [(2.0, -1.0, 3.0), (2.0, 1.0, 3.0), (2.0, 1.0, -3.0), (2.0, -1.0, -3.0)],  # a wall beside
        [(-3.0, -1.0, -0.5), (-1.0, 1.0, -0.5), (-2.0, 2.0, 0.5)],  # slanted, through the camera's plane
    ],
)
def test_a_fisheye_sees_a_polygon_where_its_rays_meet_it(polygon: list[tuple[float, float, float]]) -> None:
    corners = np.array([polygon], np.float32)
    parts, _ = visible_parts(corners, FISHEYE)
    drawn = np.zeros((480, 640), np.uint8)
    for outline in project_outlines(parts, FISHEYE):
        cv2.fillPoly(drawn, [np.round(outline * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    v, u = np.mgrid[0:480, 0:640].astype(np.float64)
    rays, _ = FISHEYE.unproject(np.stack((u, v), axis=-1))
    flat = corners[0].astype(np.float64)
    normal = np.cross(flat[1] - flat[0], flat[2] - flat[0])
    along = (normal @ flat[0]) / (rays @ normal)
    points = rays * along[..., None]
    met = along > 0
    for here, there in zip(flat, np.roll(flat, -1, axis=0), strict=True):
        met &= np.cross(there - here, points - here) @ normal >= 0
    apart = cv2.morphologyEx(drawn ^ met.astype(np.uint8), cv2.MORPH_OPEN, np.ones((4, 4), np.uint8))
    assert met.sum() > 2000
    assert not apart.any()  # but for the pixels on the border
