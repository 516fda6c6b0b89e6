"""Smoothing against plain NumPy, and by hand."""

import numpy as np
import pytest
from octobev._ext import smooth

TAPS = np.array([0.25, 0.5, 1.0, 0.5, 0.25], np.float32)


def smoothed(values, observed, taps=TAPS):
    nx, ny = values.shape
    out = np.full((nx + 2, ny + 2), np.nan, np.float32)
    scratch = np.full((2, nx + 1, ny + 2), np.nan, np.float32)
    smooth.smooth(values.astype(np.float32), observed.astype(np.uint8), taps, scratch, out)
    return out


def reference(values, observed, taps=TAPS):
    reach, (nx, ny) = len(taps) // 2, values.shape
    value, weight = np.zeros((nx + 2, ny + 2)), np.zeros((nx + 2, ny + 2))
    for i in range(-1, nx + 1):
        for j in range(-1, ny + 1):
            for a in range(max(i - reach, 0), min(i + reach + 1, nx)):
                for b in range(max(j - reach, 0), min(j + reach + 1, ny)):
                    tap = float(taps[a - i + reach]) * float(taps[b - j + reach]) * bool(observed[a, b])
                    value[i + 1, j + 1] += tap * values[a, b] if tap else 0
                    weight[i + 1, j + 1] += tap
    return np.divide(value, weight, out=np.zeros_like(value), where=weight > 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (17, 23)])
@pytest.mark.parametrize("taps", [TAPS, np.ones(1, np.float32), np.array([1, 2, 4], np.float32)])
def test_equals_reference(shape, taps):
    rng = np.random.default_rng(3)
    values, observed = rng.random(shape), rng.random(shape) < 0.6
    np.testing.assert_allclose(smoothed(values, observed, taps), reference(values, observed, taps), atol=1e-6)


def test_a_constant_stays_what_it_is_beside_what_is_not_observed():
    observed = np.random.default_rng(1).random((20, 30)) < 0.3
    values = np.where(observed, 0.7, np.nan)
    out = smoothed(values, observed)
    np.testing.assert_allclose(out[out > 0], 0.7, rtol=1e-6)
    assert (out[1:-1, 1:-1][observed] > 0).all()


def test_nothing_observed_is_nothing():
    assert not smoothed(np.full((4, 5), np.nan), np.zeros((4, 5), bool)).any()


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_empty_rasters(shape):
    assert not smoothed(np.zeros(shape), np.zeros(shape, bool)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observed": np.zeros((3, 3), np.uint8)}, r"observed must be of shape \(3, 4\), got \(3, 3\)"),
        ({"scratch": np.zeros((2, 3, 6), np.float32)}, r"scratch must be of shape \(2, 4, 6\), got \(2, 3, 6\)"),
        ({"out": np.zeros((3, 4), np.float32)}, r"out must be of shape \(5, 6\), got \(3, 4\)"),
        ({"taps": np.ones(2, np.float32)}, "number of taps must be odd, got 2"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes, message):
    arrays = {
        "values": np.zeros((3, 4), np.float32),
        "observed": np.zeros((3, 4), np.uint8),
        "taps": TAPS,
        "scratch": np.zeros((2, 4, 6), np.float32),
        "out": np.zeros((5, 6), np.float32),
    }
    with pytest.raises(ValueError, match=message):
        smooth.smooth(**(arrays | changes))


def test_memory_that_is_shared_is_refused():
    out, scratch = np.zeros((5, 6), np.float32), np.zeros((2, 4, 6), np.float32)
    values = out.reshape(-1)[:12].reshape(3, 4)
    with pytest.raises(ValueError, match="out must be memory of its own"):
        smooth.smooth(values, np.zeros((3, 4), np.uint8), TAPS, scratch, out)
