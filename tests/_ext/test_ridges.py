"""Ridges against plain NumPy, and by hand."""

import numpy as np
import pytest
from octobev._ext import ridges
from octobev.fusion.ridges import LEAST_BEND, LEAST_HEIGHT, RidgeField, smooth


def second_differences(v):
    doubled = 2 * v[1:-1, 1:-1]
    xx, yy = v[2:, 1:-1] - doubled + v[:-2, 1:-1], v[1:-1, 2:] - doubled + v[1:-1, :-2]
    return xx, yy, (v[2:, 2:] - v[2:, :-2] - v[:-2, 2:] + v[:-2, :-2]) / 4


def lowest(xx, yy, xy):
    return (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)


def ways(smoothed):
    """Way to the crest from every cell of the grid, [nx, ny, 2]."""
    logarithm = np.log(smoothed.astype(np.float64) + 1e-3)
    gx = (logarithm[2:, 1:-1] - logarithm[:-2, 1:-1]) / 2
    gy = (logarithm[1:-1, 2:] - logarithm[1:-1, :-2]) / 2
    xx, yy, xy = second_differences(logarithm)
    angle = np.arctan2(2 * xy, xx - yy) / 2 + np.pi / 2
    normal = np.stack((np.cos(angle), np.sin(angle)), axis=-1)
    length = -(gx * normal[..., 0] + gy * normal[..., 1]) / np.minimum(lowest(xx, yy, xy), -1e-6)
    return np.clip(length, -1, 1)[..., None] * normal


def climbed(way, cells):
    at = cells.astype(np.int64)
    for _ in range(2):
        at = np.clip(at + np.rint(way[at[:, 0], at[:, 1]]).astype(int), 0, np.array(way.shape[:2]) - 1)
    return at


def reference(values, observed, smoothed, threshold):
    padded = np.pad(np.where(observed, values, np.float32(0)), 1)
    nx, ny = values.shape
    windows = [padded[a : a + nx, b : b + ny] for a in range(3) for b in range(3)]
    strength = np.where(observed, np.max(windows, axis=0), np.float32(0))
    inner = smoothed[1:-1, 1:-1]
    ridge = (strength >= threshold) & (inner >= LEAST_HEIGHT * strength)
    ridge &= lowest(*second_differences(smoothed)) < -LEAST_BEND * inner
    cells = np.argwhere(ridge)
    at = climbed(ways(smoothed), cells)
    off = ~ridge[at[:, 0], at[:, 1]] & (strength[at[:, 0], at[:, 1]] > 0)
    ridge[cells[off, 0], cells[off, 1]] = False
    return strength, ridge


def blurred_lines(seed, shape=(40, 31)):
    """A raster with lines of several directions and widths, and one wide area, partly not observed."""
    rng = np.random.default_rng(seed)
    x, y = np.indices(shape)
    raster = np.zeros(shape)
    for _ in range(5):
        angle, at = rng.uniform(0, np.pi), rng.uniform(0, 30)
        distance = np.abs(np.cos(angle) * (x - 15) + np.sin(angle) * (y - at))
        raster = np.maximum(raster, rng.uniform(0.2, 1) * np.exp(-((distance / rng.uniform(0.5, 2.5)) ** 2)))
    raster = np.maximum(raster, (np.hypot(x - 30, y - 20) < 7) * 0.8)
    return raster.astype(np.float32), rng.random(shape) < 0.95


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_ridges_equal_the_reference(seed, threshold):
    raster, observed = blurred_lines(seed)
    field = RidgeField.of(raster, observed, threshold)
    strength, ridge = reference(raster, observed, field.smoothed, threshold)
    assert ridge.any()
    np.testing.assert_array_equal(field.strength, strength)
    np.testing.assert_array_equal(field.ridge, ridge)


@pytest.mark.parametrize("seed", range(4))
def test_crest_equals_the_reference(seed):
    raster, observed = blurred_lines(seed)
    smoothed = smooth(raster, observed)
    cells = np.ascontiguousarray(np.argwhere(raster > 0.3), np.int32)
    points = np.empty(cells.shape)
    ridges.crest(smoothed, cells, points)
    way = ways(smoothed)
    at = climbed(way, cells)
    np.testing.assert_allclose(points, at + np.clip(way[at[:, 0], at[:, 1]], -0.5, 0.5), atol=1e-9)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (1, 1), (1, 9), (9, 1), (2, 2)])
def test_grids_of_any_shape(shape):
    field = RidgeField.of(np.ones(shape, np.float32), np.ones(shape, np.bool_), 0.5)
    assert field.strength.shape == field.ridge.shape == shape
    assert (field.strength == 1).all()


def test_what_is_not_finite_leads_nowhere():
    smoothed = np.full((7, 7), np.nan, np.float32)
    cells, points = np.array([(2, 2)], np.int32), np.empty((1, 2))
    ridges.crest(smoothed, cells, points)
    assert points.tolist() == [[2, 2]]


def test_a_crest_lies_between_two_equal_rows():
    raster = np.zeros((12, 20), np.float32)
    raster[5:7] = 1
    field = RidgeField.of(raster, np.ones(raster.shape, np.bool_), 0.5)
    points = field.crest(np.argwhere(field.ridge).astype(np.int32))
    np.testing.assert_allclose(points[(points[:, 1] > 4) & (points[:, 1] < 16), 0], 5.5, atol=1e-6)


def arguments(**changes):
    raster = np.zeros((4, 5), np.float32)
    given = {
        "values": raster,
        "observed": np.ones((4, 5), np.uint8),
        "smoothed": np.zeros((6, 7), np.float32),
        "threshold": 0.5,
        "least_height": 0.2,
        "least_bend": 0.15,
        "strength": np.empty((4, 5), np.float32),
        "ridge": np.empty((4, 5), np.uint8),
    }
    return given | changes


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"observed": np.ones((4, 4), np.uint8)}, r"observed must be of shape \(4, 5\), got \(4, 4\)"),
        ({"smoothed": np.zeros((4, 5), np.float32)}, r"smoothed must be of shape \(6, 7\), got \(4, 5\)"),
        ({"strength": np.empty((5, 5), np.float32)}, r"strength must be of shape \(4, 5\), got \(5, 5\)"),
        ({"ridge": np.empty((3, 5), np.uint8)}, r"ridge must be of shape \(4, 5\), got \(3, 5\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        ridges.find(**arguments(**changes))


@pytest.mark.parametrize(
    ("smoothed", "cells", "points", "match"),
    [
        ((1, 4), [(0, 0)], (1, 2), "smoothed must be of 2 x 2 cells or more"),
        ((6, 6), [(4, 0)], (1, 2), r"cells must be on the grid, got \(4, 0\)"),
        ((6, 6), [(0, -1)], (1, 2), r"cells must be on the grid, got \(0, -1\)"),
        ((6, 6), [(0, 0)], (2, 2), r"points must be of shape \(1, 2\), got \(2, 2\)"),
    ],
)
def test_cells_off_the_grid_are_refused(smoothed, cells, points, match):
    with pytest.raises(ValueError, match=match):
        ridges.crest(np.zeros(smoothed, np.float32), np.array(cells, np.int32), np.empty(points))
