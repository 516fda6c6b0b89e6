"""What is handed on of a network's numbers, against NumPy."""

import math

import numpy as np
import pytest
from octobev._ext import outputs

SHAPES = [(0, 3), (1, 1), (1, 7), (5, 3), (16, 4), (17, 5), (300, 7), (1000, 1), (777, 13), (40, 0)]


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_become_planes(shape):
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    planes = np.full(shape[::-1], np.nan, np.float32)
    measured = outputs.rows_to_planes(rows, planes)
    np.testing.assert_array_equal(planes, rows.T)
    assert measured == (float(np.abs(rows).max(initial=0)), bool((rows < 0).any()))


@pytest.mark.parametrize("place", [0, 1, 16 * 7 - 1, 256 * 7, 300 * 7 - 1])
def test_one_number_of_another_kind_is_found_wherever_it_is(place):
    rows, planes = np.full((300, 7), 0.5, np.float32), np.empty((7, 300), np.float32)
    for number, negative in ((2.0, False), (-2.0, True), (math.inf, False), (-math.inf, True)):
        rows.flat[place] = number
        assert outputs.rows_to_planes(rows, planes) == (abs(number), negative)
        np.testing.assert_array_equal(planes, rows.T)
    rows.flat[place] = math.nan
    assert math.isnan(outputs.rows_to_planes(rows, planes)[0])
    rows.flat[place] = -0.0
    assert outputs.rows_to_planes(rows, planes) == (0.5, True)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (1, 1, 1), (3, 5, 7), (5, 16, 24)])
def test_what_was_not_observed_is_cleared(shape):
    rng = np.random.default_rng(1)
    values, observed = rng.normal(size=shape).astype(np.float32), rng.random(shape[1:]) < 0.5
    values[..., :1] = np.nan  # no product with a mask
    expected = np.where(observed, values, np.float32(0))
    outputs.clear_unobserved(values, observed.view(np.uint8))
    np.testing.assert_array_equal(values, expected)
    assert not np.signbit(values[:, ~observed]).any()


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (9, 7), (40, 33)])
def test_lengths_are_those_of_numpy(shape):
    rng = np.random.default_rng(2)
    vectors = (rng.normal(size=(2, *shape)) * 10.0 ** rng.integers(-30, 3, shape)).astype(np.float32)
    observed, lengths = rng.random(shape) < 0.7, np.full(shape, np.nan, np.float32)
    outputs.lengths(vectors, observed.view(np.uint8), lengths)
    expected = np.where(observed, np.minimum(np.hypot(*vectors), np.float32(1)), np.float32(0))
    np.testing.assert_array_max_ulp(lengths, expected, 1)
    np.testing.assert_array_equal(lengths[~observed], 0)


def test_lengths_by_hand():
    vectors = np.array([[[0.3, -3.0, 3e38, 0.0, 1e-30]], [[-0.4, 4.0, 3e38, 0.0, 0.0]]], np.float32)
    lengths = np.empty((1, 5), np.float32)
    outputs.lengths(vectors, np.ones((1, 5), np.uint8), lengths)
    np.testing.assert_array_equal(lengths, np.array([[0.5, 1, 1, 0, 1e-30]], np.float32))


@pytest.mark.parametrize("shape", [(0, 2, 2), (1, 1, 1), (1, 9, 7), (3, 16, 5)])
def test_odds_are_those_of_numpy(shape):
    odds = np.random.default_rng(3).normal(0.5, 0.5, shape).astype(np.float32)
    clipped = np.clip(odds, 1e-6, 1 - 1e-6)
    outputs.to_odds(odds, 1e-6, 1 - 1e-6)
    np.testing.assert_array_equal(odds, clipped / (1 - clipped))


def test_odds_by_hand():
    odds = np.array([[[0.5, 0.75, 0.0, -3.0, 0.9375, 1.0, 7.0]]], np.float32)
    outputs.to_odds(odds, 0.2, 0.875)
    np.testing.assert_allclose(odds, [[[1, 3, 0.25, 0.25, 7, 7, 7]]], rtol=1e-6)


def test_refuses_shapes_that_do_not_match_and_memory_in_common():
    plane, mask, square = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8), np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match=r"planes must be of shape \(3, 2\), got \(2, 3\)"):
        outputs.rows_to_planes(plane, plane.copy())
    with pytest.raises(ValueError, match="planes must be memory of its own"):
        outputs.rows_to_planes(square, square)
    with pytest.raises(ValueError, match="observed must be of 2 x 3 cells, got 2 x 2"):
        outputs.clear_unobserved(plane[np.newaxis], mask[:, :2].copy())
    with pytest.raises(ValueError, match="vectors must be of two numbers, got 1"):
        outputs.lengths(plane[np.newaxis], mask, plane.copy())
    with pytest.raises(ValueError, match="vectors must be of 4 x 4 cells, got 2 x 3"):
        outputs.lengths(np.stack((plane, plane)), mask, square)
    with pytest.raises(ValueError, match="observed must be of 4 x 4 cells, got 2 x 3"):
        outputs.lengths(np.stack((square, square)), mask, square)
    with pytest.raises(ValueError, match="out must be memory of its own"):
        outputs.lengths(pair := np.stack((square, square)), np.zeros((4, 4), np.uint8), pair[1])
    with pytest.raises(ValueError, match="least and most must be 0 <= least <= most < 1"):
        outputs.to_odds(plane[np.newaxis], 0.1, 1.0)
