"""The largest magnitude against NumPy, whatever stands where in an array."""

import math

import numpy as np
import pytest
from octobev._ext.magnitude import magnitude

TYPES = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000, 70_000])
def test_equals_numpy(dtype, count):
    rng = np.random.default_rng(count)
    values = (rng.standard_normal(count) * 10.0 ** rng.integers(-6, 4, count)).astype(dtype)
    assert magnitude(values) == (float(np.abs(values).max()), bool(np.signbit(values).any()))
    assert magnitude(np.abs(values)) == (float(np.abs(values).max()), False)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("place", range(0, 67, 6))
def test_one_number_that_is_not_finite_is_found_anywhere(dtype, place):
    values = np.full(67, 0.5, dtype)
    for number in (np.inf, -np.inf):
        values[place] = number
        assert magnitude(values) == (math.inf, number < 0)
    values[place - 1] = np.inf
    values[place] = np.nan
    assert math.isnan(magnitude(values)[0])


@pytest.mark.parametrize("dtype", TYPES)
def test_extremes_of_the_type_are_exact(dtype):
    info = np.finfo(dtype)
    for number in (info.max, info.tiny, info.smallest_subnormal, 1.0):
        assert magnitude(np.array([0, number], dtype)) == (float(number), False)
        assert magnitude(np.array([0, -number], dtype)) == (float(number), True)
    assert magnitude(np.array([0.0, -0.0], dtype)) == (0.0, True)


def test_no_numbers_and_any_shape():
    assert magnitude(np.zeros((0, 3), np.float32)) == (0.0, False)
    assert magnitude(np.array(-2.0)) == (2.0, True)
    assert magnitude(np.arange(24, dtype=np.float32).reshape(2, 3, 4)) == (23.0, False)


def test_refuses_what_it_would_read_wrongly():
    with pytest.raises(ValueError, match=r"values must be floating-point numbers, got i$"):
        magnitude(np.zeros(3, np.int32))
    with pytest.raises(ValueError, match=r"values must be floating-point numbers, got >f$"):
        magnitude(np.zeros(3, ">f4"))
    with pytest.raises(ValueError, match="not C-contiguous"):
        magnitude(np.zeros((4, 4))[:, ::2])
    with pytest.raises(TypeError):
        magnitude(None)
