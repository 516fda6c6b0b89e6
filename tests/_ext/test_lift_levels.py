"""Sparse products of levels against whole numbers in NumPy, with special instructions and without."""

import numpy as np
import pytest
from octobev._ext import lift_levels

SCALE, ZERO, OUT_SCALE, OUT_ZERO = 0.03, 40, 0.01, 7


def matrix(rows, pixels, seed=0, most=9):
    """A matrix with empty rows, rows of every length up to `most` and columns that repeat."""
    rng = np.random.default_rng(seed)
    indptr = np.append(0, np.cumsum(rng.integers(0, most + 1, rows))).astype(np.int32)
    indices = rng.integers(0, pixels, indptr[-1]).astype(np.int32)
    return indptr, indices, fixed(rng.random(indptr[-1], dtype=np.float32) / most)


def fixed(weights):
    out = np.empty(len(weights), np.int16)
    lift_levels.fixed_weights(np.asarray(weights, np.float32), out)
    return out


def features_of(pixels, channels, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (pixels, channels), dtype=np.uint8)


def lifted(indptr, indices, weights, features):
    """The reference: one row after the other, in whole numbers up to the last step."""
    sums = np.zeros((len(indptr) - 1, features.shape[1]), np.int64)
    for row in range(len(sums)):
        entries = slice(indptr[row], indptr[row + 1])
        sums[row] = weights[entries].astype(np.int64) @ (features[indices[entries]].astype(np.int64) - ZERO)
    steps = sums.astype(np.float32) * np.float32(SCALE / (32767 * OUT_SCALE))
    return (np.clip(np.rint(steps), -OUT_ZERO, 255 - OUT_ZERO) + OUT_ZERO).astype(np.uint8)


def lift(given, features, num_threads=1, plain=False):
    out = np.full((len(given[0]) - 1, features.shape[1]), 99, np.uint8)
    lift_levels.lift_levels(*given, features, SCALE, ZERO, out, OUT_SCALE, OUT_ZERO, num_threads, plain)
    return out


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 32, 33, 48, 50, 64, 65, 130])
def test_levels_equal_the_reference(channels, plain):
    given, features = matrix(150, 40), features_of(40, channels)
    levels = lift(given, features, plain=plain)
    np.testing.assert_array_equal(levels, lifted(*given, features))
    assert len(np.unique(levels)) > 20 or channels == 1


@pytest.mark.parametrize("num_threads", [2, 4])
def test_threads_change_no_level(num_threads):
    given, features = matrix(3000, 200), features_of(200, 48)
    np.testing.assert_array_equal(lift(given, features, num_threads), lift(given, features))


@pytest.mark.parametrize("plain", [False, True])
def test_hand_computed_levels(plain):
    indptr, indices = np.array([0, 2, 2, 3, 4], np.int32), np.array([0, 2, 1, 3], np.int32)
    features = np.array([[10, 40], [20, 4], [30, 0], [255, 0]], np.uint8)
    out = np.empty((4, 2), np.uint8)
    weights = fixed([0.5, 0.5, 1, 1])
    lift_levels.lift_levels(indptr, indices, weights, features, 0.5, 10, out, 1.0, 100, plain=plain)
    # (0 + 20) / 4, (30 - 10) / 4; none; 10 / 2, -6 / 2; 245 / 2 -> to even, -10 / 2
    np.testing.assert_array_equal(out, [[105, 105], [100, 100], [105, 97], [222, 95]])


@pytest.mark.parametrize("plain", [False, True])
def test_what_is_beyond_the_levels_is_the_first_or_the_last(plain):
    given = np.array([0, 1, 2], np.int32), np.array([0, 1], np.int32), fixed([1, 1])
    features, out = np.array([[0] * 20, [255] * 20], np.uint8), np.empty((2, 20), np.uint8)
    lift_levels.lift_levels(*given, features, 100.0, 100, out, 1.0, 50, plain=plain)
    assert (out[0] == 0).all()
    assert (out[1] == 255).all()


def test_weights_are_rounded_to_the_nearest_whole_number():
    weights = np.random.default_rng(0).random(1000, dtype=np.float32)
    np.testing.assert_allclose(fixed(weights) / 32767, weights, atol=0.5 / 32767 + 1e-7)
    assert fixed([0, 1, 0.5]).tolist() == [0, 32767, 16384]


@pytest.mark.parametrize("weight", [-0.01, 1.01, np.nan, np.inf])
def test_other_weights_are_refused(weight):
    with pytest.raises(ValueError, match=r"weights must be 0\.\.1, got 1 others"):
        fixed([0.5, weight])
    with pytest.raises(ValueError, match="out must be at least 2 long, got 1"):
        lift_levels.fixed_weights(np.zeros(2, np.float32), np.zeros(1, np.int16))


def test_a_matrix_without_entries_gives_the_level_of_nothing():
    empty = np.zeros(4, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int16)
    assert (lift(empty, features_of(5, 3)) == OUT_ZERO).all()
    assert lift((np.zeros(1, np.int32), *empty[1:]), features_of(5, 3)).shape == (0, 3)
    fixed([])


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"indptr": [1, 3]}, "indptr must be starting at 0, got 1"),
        ({"indptr": [0, 3, 2]}, "indptr must be non-decreasing, got a step back after row 1"),
        ({"indptr": [0, 9]}, "indices must be at least 9 long, got 4"),
        ({"indices": [0, 1, 5, 2]}, "indices must be columns below 5, got 5 at 2"),
        ({"indices": [0, -1, 1, 2]}, "indices must be columns below 5, got -1 at 1"),
        ({"weights": [1]}, "weights must be at least 4 long, got 1"),
        ({"zero_point": 256}, r"zero_point must be 0\.\.255, got 256"),
        ({"out_zero_point": -1}, r"out_zero_point must be 0\.\.255, got -1"),
        ({"scale": 0.0}, r"scale and out_scale must be positive, .* got \(0\.0, 1\.0\)"),
        ({"scale": np.nan}, "scale and out_scale must be positive"),
        ({"out_scale": 1e-300}, "their ratio finite in float32"),
        ({"out": np.zeros((7, 20), np.uint8)}, r"out must be of shape \(1, 20\), got \(7, 20\)"),
        ({"features": np.zeros((0, 20), np.uint8)}, "features must be one a column, got none"),
        ({"num_threads": 0}, "num_threads must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(change, match, plain):
    given = {"indptr": [0, 4], "indices": [0, 1, 2, 3], "weights": [1, 1, 1, 1], "features": features_of(5, 20)}
    given |= {"scale": 1.0, "zero_point": 0, "out_scale": 1.0, "out_zero_point": 0} | change
    dtypes = {"indptr": np.int32, "indices": np.int32, "weights": np.int16}
    given |= {key: np.array(given[key], dtype) for key, dtype in dtypes.items()}
    given.setdefault("out", np.zeros((len(given["indptr"]) - 1, 20), np.uint8))
    with pytest.raises(ValueError, match=match):
        lift_levels.lift_levels(**given, plain=plain)


def test_output_that_is_the_features_is_refused():
    features = features_of(5, 3)
    given = np.arange(6, dtype=np.int32), np.arange(5, dtype=np.int32), fixed([1] * 5)
    with pytest.raises(ValueError, match="out must be memory of its own"):
        lift_levels.lift_levels(*given, features, 1.0, 0, features, 1.0, 0)
