"""Lens models against OpenCV, by round trips and at their limits."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from octobev.errors import CalibrationError
from octobev.fusion.lens import Intrinsics, LensModel

SIZE = (1280, 960)
FIVE = (-0.31, 0.12, 1.1e-3, -7e-4, -0.022)
RATIONAL = (0.8, 0.05, -4e-4, 6e-4, 0.002, 1.15, 0.21, 0.011)
FISHEYE = (-0.021, 0.0034, -0.0021, 0.0004)


def make(model: LensModel, coefficients: tuple[float, ...] = (), focal: float = 420.0, **changes: Any) -> Intrinsics:
    values: dict[str, Any] = {"fx": focal, "fy": focal * 1.01, "cx": 641.3, "cy": 471.8} | changes
    return Intrinsics(*SIZE, model=model, coefficients=coefficients, **values)


LENSES = {
    "pinhole": make(LensModel.PINHOLE, focal=700),
    "brown_conrady_5": make(LensModel.BROWN_CONRADY, FIVE, focal=900),
    "brown_conrady_8": make(LensModel.BROWN_CONRADY, RATIONAL, focal=500),
    "kannala_brandt": make(LensModel.KANNALA_BRANDT, FISHEYE, focal=520),
}


@pytest.fixture(params=LENSES, name="lens")
def _lens(request: pytest.FixtureRequest) -> Intrinsics:
    return LENSES[request.param]


def points_in_front(count: int = 4000, spread: float = 1.2) -> np.ndarray:
    rng = np.random.default_rng(5)
    depth = rng.uniform(0.5, 40.0, (count, 1))
    return np.concatenate([rng.uniform(-spread, spread, (count, 2)) * depth, depth], axis=1)


def project_with_opencv(lens: Intrinsics, points: np.ndarray) -> np.ndarray:
    none = np.zeros(3)
    if lens.model is LensModel.KANNALA_BRANDT:
        pixels, _ = cv2.fisheye.projectPoints(
            points.reshape(-1, 1, 3), none, none, lens.matrix, np.array(lens.coefficients)
        )
    else:
        pixels, _ = cv2.projectPoints(points, none, none, lens.matrix, np.array(lens.coefficients or (0.0,) * 4))
    return pixels.reshape(-1, 2)


def test_projection_equals_opencv(lens: Intrinsics) -> None:
    points = points_in_front(spread=2.0)
    pixels, valid = lens.project(points)
    assert 500 < valid.sum() < len(points)
    np.testing.assert_allclose(pixels[valid], project_with_opencv(lens, points)[valid], atol=1e-8)


def test_every_pixel_of_a_wide_lens_goes_to_its_ray_and_back(lens: Intrinsics) -> None:
    u, v = np.meshgrid(np.linspace(-0.4, SIZE[0] - 0.6, 41), np.linspace(-0.4, SIZE[1] - 0.6, 31))
    pixels = np.stack((u, v), axis=-1)
    rays, valid = lens.unproject(pixels)
    assert valid.mean() > 0.9
    np.testing.assert_allclose(np.linalg.norm(rays[valid], axis=-1), 1.0, atol=1e-12)
    back, inside = lens.project(rays * 7.5)
    assert inside[valid].all()
    np.testing.assert_allclose(back[valid], pixels[valid], atol=1e-6)


@pytest.mark.parametrize("name", ["brown_conrady_5", "brown_conrady_8", "kannala_brandt"])
def test_points_that_land_in_the_image_come_back(name: str) -> None:
    lens = LENSES[name]
    points = points_in_front(spread=8.0)
    pixels, valid = lens.project(points)
    rays, seen = lens.unproject(pixels[valid])
    assert seen.all()
    directions = points[valid] / np.linalg.norm(points[valid], axis=1, keepdims=True)
    np.testing.assert_allclose(rays, directions, atol=2e-6)


def test_a_strong_barrel_lens_is_unprojected_to_its_corner() -> None:
    lens = make(LensModel.BROWN_CONRADY, (-0.25, 0.06, 1e-4, 0.0, -0.005), focal=680)
    corner = np.array([0.0, 0.0])
    ray, valid = lens.unproject(corner)
    assert valid
    assert math.degrees(math.acos(ray[2])) > 60
    np.testing.assert_allclose(lens.project(ray)[0], corner, atol=1e-6)


def test_numbers_of_numpy_become_plain_ones() -> None:
    lens = Intrinsics(640, 480, np.float64(500.5), np.float32(250.25), 320, np.float64(239.5))
    assert [type(number) for number in (lens.fx, lens.fy, lens.cx, lens.cy)] == [float] * 4
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == (500.5, 250.25, 320.0, 239.5)


def test_pinhole_by_hand() -> None:
    lens = Intrinsics(100, 80, 50.0, 40.0, 49.5, 39.5)
    pixels, valid = lens.project(np.array([[0.0, 0.0, 2.0], [1.0, -0.5, 2.0], [3.0, 0.0, 2.0], [0.0, 0.0, -2.0]]))
    assert valid.tolist() == [True, True, False, False]
    np.testing.assert_allclose(pixels[:2], [[49.5, 39.5], [74.5, 29.5]])
    assert np.isnan(pixels[2:]).all()


def test_the_image_ends_half_a_pixel_beyond_its_outer_pixel_centres() -> None:
    lens = Intrinsics(100, 80, 50.0, 50.0, 49.5, 39.5)
    at_u = [(u - 49.5) / 50.0 for u in (-0.5, -0.51, 99.49, 99.5)]
    _, valid = lens.project(np.array([[x, 0.0, 1.0] for x in at_u]))
    assert valid.tolist() == [True, False, True, False]


def test_fold_of_a_barrel_lens_by_hand() -> None:
    # r (1 - r²/3) grows until r = 1
    lens = make(LensModel.BROWN_CONRADY, (-1 / 3, 0.0, 0.0, 0.0, 0.0), focal=400)
    assert lens.limit == pytest.approx(1.0, abs=1e-9)
    # tan(angle) = sqrt(3) comes back to the image centre: it must not be seen there
    pixels, valid = lens.project(np.array([[0.999, 0.0, 1.0], [1.001, 0.0, 1.0], [math.sqrt(3), 0.0, 1.0]]))
    assert valid.tolist() == [True, False, False]
    assert pixels[0, 0] == pytest.approx(641.3 + 400 * 2 / 3, abs=0.01)
    assert not lens.unproject(np.array([641.3 + 400 * 0.667, 471.8]))[1]


def test_fold_of_a_fisheye_by_hand() -> None:
    # θ (1 - θ²/12) grows until θ = 2
    lens = make(LensModel.KANNALA_BRANDT, (-1 / 12, 0.0, 0.0, 0.0), focal=200)
    assert lens.limit == pytest.approx(2.0, abs=1e-9)
    rays = np.array([[math.sin(a), 0.0, math.cos(a)] for a in (1.99, 2.01, 3.1)])
    assert lens.project(rays)[1].tolist() == [True, False, False]


def test_a_lens_with_a_pole_ends_there() -> None:
    # r / (1 - r²/4) has its pole at r = 2
    lens = make(LensModel.BROWN_CONRADY, (0.0, 0.0, 0.0, 0.0, 0.0, -0.25, 0.0, 0.0), focal=100)
    assert lens.limit == pytest.approx(2.0, abs=1e-9)
    assert lens.project(np.array([[1.0, 0.0, 1.0], [5.0, 0.0, 1.0]]))[1].tolist() == [True, False]


def test_nothing_folds_where_the_polynomial_only_grows() -> None:
    assert make(LensModel.PINHOLE).limit == math.inf
    assert make(LensModel.BROWN_CONRADY, (0.1, 0.0, 0.0, 0.0, 0.0)).limit == math.inf
    assert make(LensModel.KANNALA_BRANDT, (0.0,) * 4).limit == math.pi


@pytest.mark.parametrize("coefficients", [FIVE, (-0.4, 0.2, 0.0, 0.0, -0.05), (0.5, -0.3, 0.0, 0.0, 0.0), RATIONAL])
def test_the_limit_is_where_the_radius_stops_growing(coefficients: tuple[float, ...]) -> None:
    lens = make(LensModel.BROWN_CONRADY, coefficients, focal=100)
    radius = np.linspace(0.0, min(lens.limit, 20.0), 4001)
    k1, k2, _, _, k3, k4, k5, k6 = (*coefficients, 0.0, 0.0, 0.0)[:8]
    r2 = radius**2
    image_radius = radius * (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    assert (np.diff(image_radius) > 0).all()


def test_a_fisheye_sees_behind_itself() -> None:
    lens = make(LensModel.KANNALA_BRANDT, (0.0,) * 4, fx=200.0, fy=200.0, cx=639.5, cy=479.5)
    angle = math.radians(105.0)
    ray = np.array([-math.sin(angle), 0.0, math.cos(angle)])
    pixels, valid = lens.project(ray * 3.0)
    assert valid
    assert pixels[0] == pytest.approx(639.5 - 200.0 * angle)
    np.testing.assert_allclose(lens.unproject(pixels)[0], ray, atol=1e-9)
    assert not lens.project(np.array([0.0, 0.0, -1.0]))[1]


def test_the_optical_axis_lands_on_the_principal_point(lens: Intrinsics) -> None:
    pixels, valid = lens.project(np.array([0.0, 0.0, 3.0]))
    assert valid
    np.testing.assert_allclose(pixels, (lens.cx, lens.cy))
    np.testing.assert_allclose(lens.unproject(pixels)[0], (0.0, 0.0, 1.0), atol=1e-12)


def test_resizing_keeps_pixel_areas_together(lens: Intrinsics) -> None:
    small = lens.resized(320, 240)
    points = points_in_front()
    large_px, valid = lens.project(points)
    small_px, small_valid = small.project(points)
    np.testing.assert_array_equal(valid, small_valid)
    np.testing.assert_allclose(small_px[valid], (large_px[valid] + 0.5) / 4.0 - 0.5, atol=1e-9)


def test_cropping_moves_the_principal_point(lens: Intrinsics) -> None:
    crop = lens.cropped(100, 50, 640, 480)
    points = points_in_front()
    whole_px, _ = lens.project(points)
    crop_px, valid = crop.project(points)
    assert valid.any()
    np.testing.assert_allclose(crop_px[valid] + (100, 50), whole_px[valid], atol=1e-9)


def test_resizing_an_image_with_opencv_agrees_with_resized_intrinsics() -> None:
    lens = Intrinsics(64, 64, 64.0, 64.0, 31.5, 31.5)
    point = np.array([10.5 / 64, -16.5 / 64, 1.0])
    (u, v), _ = lens.project(point)
    image = np.zeros((64, 64), dtype=np.float32)
    image[round(v) - 1 : round(v) + 3, round(u) - 1 : round(u) + 3] = 1.0  # a block of 4x4 around (u + 0.5, v + 0.5)
    small = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA)
    ys, xs = np.mgrid[:16, :16]
    (u_small, v_small), _ = lens.resized(16, 16).project(point + np.array([0.5 / 64, 0.5 / 64, 0.0]))
    assert (small * xs).sum() / small.sum() == pytest.approx(u_small, abs=1e-6)
    assert (small * ys).sum() / small.sum() == pytest.approx(v_small, abs=1e-6)


def test_field_of_view_by_hand() -> None:
    square = Intrinsics(200, 100, 100.0, 50.0, 99.5, 49.5)
    assert square.fov_deg == pytest.approx((90.0, 90.0))
    fisheye = Intrinsics(400, 200, 100.0, 100.0, 199.5, 99.5, LensModel.KANNALA_BRANDT, (0.0, 0.0, 0.0, 0.0))
    assert fisheye.fov_deg == pytest.approx((math.degrees(4.0), math.degrees(2.0)))


def test_field_of_view_with_the_axis_outside_the_image() -> None:
    lens = Intrinsics(100, 100, 100.0, 100.0, -100.5, 49.5)
    assert lens.fov_deg[0] == pytest.approx(math.degrees(math.atan(2.0) - math.atan(1.0)))


def test_field_of_view_of_an_image_wider_than_the_lens() -> None:
    lens = make(LensModel.BROWN_CONRADY, (-1 / 3, 0.0, 0.0, 0.0, 0.0), focal=300)
    assert lens.fov_deg == pytest.approx((90.0, 90.0))


def test_undistorted_keeps_size_and_focal_length() -> None:
    lens = LENSES["brown_conrady_5"].undistorted()
    assert (lens.model, lens.coefficients, lens.fx) == (LensModel.PINHOLE, (), LENSES["brown_conrady_5"].fx)


def test_codes_number_the_models() -> None:
    assert [model.code for model in LensModel] == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "image size must be positive, got 0x960"),
        ({"fx": math.nan}, "intrinsics must be finite"),
        ({"cy": math.inf}, "intrinsics must be finite"),
        ({"fx": 0.0}, "focal lengths must be positive, got fx 0"),
        ({"fy": -3.0}, "focal lengths must be positive"),
        ({"coefficients": (0.1,)}, "pinhole coefficients must be 0 numbers, got 1"),
        (
            {"model": "brown_conrady", "coefficients": (0.1,)},
            "brown_conrady coefficients must be 5 or 8 numbers, got 1",
        ),
        ({"model": "kannala_brandt", "coefficients": (0.1,) * 5}, "kannala_brandt coefficients must be 4 numbers"),
        ({"model": "brown_conrady", "coefficients": (math.nan,) * 5}, "intrinsics must be finite"),
        ({"model": "mei"}, "lens model must be one of pinhole, brown_conrady, kannala_brandt, got 'mei'"),
    ],
)
def test_impossible_intrinsics_are_refused(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"width": 1280, "height": 960, "fx": 500.0, "fy": 500.0, "cx": 640.0, "cy": 480.0}
    with pytest.raises(CalibrationError, match=message):
        Intrinsics(**(values | changes))


def test_numbers_are_plain_floats_whatever_they_were():
    lens = Intrinsics(640, 480, np.float64(400), 400, np.float32(319.5), 239)
    assert {type(value) for value in (lens.fx, lens.fy, lens.cx, lens.cy)} == {float}
