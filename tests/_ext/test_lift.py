"""Sparse products against plain NumPy, and every shape that vector code treats apart."""

import itertools

import numpy as np
import pytest
from octobev._ext import lift


def matrix(rows, pixels, seed=0, most=9):
    """A matrix with empty rows, rows of every length up to `most` and columns that repeat."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, most + 1, rows) if pixels else np.zeros(rows, int)
    indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    indices = rng.integers(0, max(pixels, 1), indptr[-1]).astype(np.int32)
    return indptr, indices, rng.random(indptr[-1]).astype(np.float32)


def lifted(indptr, indices, weights, features):
    """The reference: one row after the other, in float64."""
    out = np.zeros((len(indptr) - 1, features.shape[1]))
    for row in range(len(out)):
        entries = slice(indptr[row], indptr[row + 1])
        out[row] = weights[entries].astype(np.float64) @ features[indices[entries]].astype(np.float64)
    return out


def features_of(pixels, channels, seed=1):
    return np.random.default_rng(seed).normal(size=(pixels, channels)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 16, 20, 33, 64, 65, 100, 131])
def test_rows_equal_reference(channels):
    given, features = matrix(150, 40), features_of(40, channels)
    out = np.full((150, channels), np.nan, np.float32)
    lift.lift_rows(*given, features, out)
    np.testing.assert_allclose(out, lifted(*given, features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 5, 16, 64, 70, 129])
@pytest.mark.parametrize(("cells", "heights"), [(1, 1), (16, 1), (37, 3), (1, 4), (50, 2)])
def test_planes_are_rows_transposed(cells, heights, channels):
    given, features = matrix(cells * heights, 40), features_of(40, channels)
    rows = np.full((cells * heights, channels), np.nan, np.float32)
    planes = np.full((heights * channels, cells), np.nan, np.float32)
    lift.lift_rows(*given, features, rows)
    lift.lift_planes(*given, features, heights, planes)
    np.testing.assert_array_equal(planes, rows.reshape(cells, heights * channels).T)


def test_hand_computed_rows():
    features = np.array([[1, 10], [2, 20], [4, 40]], np.float32)
    out = np.empty((3, 2), np.float32)
    indptr = np.array([0, 2, 2, 3], np.int32)
    lift.lift_rows(indptr, np.array([0, 2, 1], np.int32), np.array([0.5, 0.25, 2], np.float32), features, out)
    np.testing.assert_array_equal(out, [[1.5, 15], [0, 0], [4, 40]])


@pytest.mark.parametrize("num_threads", [2, 4])
def test_threads_change_no_bit(num_threads):
    given, features = matrix(1001, 300), features_of(300, 67)
    depths = np.random.default_rng(2).uniform(1, 50, len(given[1])).astype(np.float32)
    seen = np.random.default_rng(3).uniform(1, 50, 300).astype(np.float32)
    results = []
    for threads in (1, num_threads):
        rows, planes = np.empty((1001, 67), np.float32), np.empty((7 * 67, 143), np.float32)
        weights, mass, total = np.empty_like(given[2]), np.empty(1001, np.float32), np.empty(1001, np.float32)
        turned = np.empty((67, 300), np.float32)
        lift.lift_rows(*given, features, rows, threads)
        lift.lift_planes(*given, features, 7, planes, threads)
        lift.depth_weights(*given, depths, seen, 0.5, 0.1, weights, mass, threads)
        lift.row_mass(given[0], given[2], total, threads)
        lift.planes_to_rows(features, turned, threads)
        results.append((rows, planes, weights, mass, total, turned))
    for one, many in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)


def test_rows_without_entries_are_zero():
    for rows, channels in ((0, 3), (4, 0), (4, 3)):
        out = np.full((rows, channels), np.nan, np.float32)
        lift.lift_rows(np.zeros(rows + 1, np.int32), *matrix(0, 0)[1:], np.zeros((0, channels), np.float32), out)
        assert not out.any()
        planes = np.full((channels, rows), np.nan, np.float32)
        lift.lift_planes(
            np.zeros(rows + 1, np.int32), *matrix(0, 0)[1:], np.zeros((0, channels), np.float32), 1, planes
        )
        assert not planes.any()


def test_features_that_are_not_numbers_stay_in_their_rows():
    indptr, indices, weights = matrix(200, 40)
    features = features_of(40, 20)
    features[7] = np.nan
    out = np.empty((200, 20), np.float32)
    lift.lift_rows(indptr, indices, weights, features, out)
    touched = np.array([7 in indices[indptr[row] : indptr[row + 1]] for row in range(200)])
    np.testing.assert_array_equal(np.isnan(out).all(axis=1), touched)
    np.testing.assert_array_equal(np.isnan(out).any(axis=1), touched)


def test_row_mass():
    indptr, _, weights = matrix(300, 40)
    mass = np.full(300, np.nan, np.float32)
    lift.row_mass(indptr, weights, mass)
    np.testing.assert_allclose(mass, [weights[a:b].sum() for a, b in itertools.pairwise(indptr)], rtol=1e-5)
    lift.row_mass(np.zeros(4, np.int32), weights[:0], mass[:3])
    assert not mass[:3].any()


def test_depth_weights_equal_reference():
    indptr, indices, weights = matrix(500, 60)
    rng = np.random.default_rng(4)
    depths = rng.uniform(0.5, 60, len(indices)).astype(np.float32)
    depths[::17] = -1.0
    seen = rng.uniform(0.5, 60, 60).astype(np.float32)
    seen[:5] = np.nan, np.inf, -np.inf, 0.0, -3.0
    out, mass = np.full_like(weights, np.nan), np.full(500, np.nan, np.float32)
    lift.depth_weights(indptr, indices, weights, depths, seen, 0.4, 0.2, out, mass)
    far = seen[indices].astype(np.float64)
    counts = np.isfinite(far) & (far > 0) & (depths > 0)
    deviation = np.where(counts, far - depths, 0) / (0.4 + 0.2 * depths)
    wanted = np.where(counts, weights * np.exp(-0.5 * deviation**2), 0.0)
    np.testing.assert_allclose(out, wanted, rtol=2e-5, atol=1e-30)
    assert (out[~counts] == 0).all()
    np.testing.assert_allclose(mass, [wanted[a:b].sum() for a, b in itertools.pairwise(indptr)], rtol=1e-5, atol=1e-30)


def test_depth_far_off_gives_no_weight():
    out, mass = np.empty(1, np.float32), np.empty(1, np.float32)
    one = np.ones(1, np.float32)
    lift.depth_weights(np.array([0, 1], np.int32), np.zeros(1, np.int32), one, one, 1e6 * one, 0.1, 0.0, out, mass)
    assert (out[0], mass[0]) == (0.0, 0.0)


def test_depth_weights_without_entries():
    empty, mass = np.zeros(0, np.float32), np.full(3, np.nan, np.float32)
    lift.depth_weights(np.zeros(4, np.int32), np.zeros(0, np.int32), empty, empty, empty, 1.0, 0.0, empty, mass)
    assert not mass.any()


def levels_of(sums, scale, zero_point):
    """The reference: what QuantizeLinear does."""
    return np.clip(np.rint(sums / np.float32(scale)) + zero_point, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4, 16, 33, 48, 64, 100, 1023, 1025])
@pytest.mark.parametrize(("scale", "zero_point"), [(0.03, 44), (1.7, 0), (0.002, 255)])
def test_row_levels_are_rows_rounded(channels, scale, zero_point):
    given, features = matrix(150, 40), features_of(40, channels)
    sums, levels = np.full((150, channels), np.nan, np.float32), np.full((150, channels), 7, np.uint8)
    lift.lift_rows(*given, features, sums)
    lift.lift_row_levels(*given, features, levels, scale, zero_point)
    np.testing.assert_array_equal(levels, levels_of(sums, scale, zero_point))


@pytest.mark.parametrize("channels", [1, 5, 16, 64, 70, 129])
@pytest.mark.parametrize(("cells", "heights"), [(1, 1), (16, 1), (37, 3), (50, 2)])
def test_plane_levels_are_row_levels_transposed(cells, heights, channels):
    given, features = matrix(cells * heights, 40), features_of(40, channels)
    rows = np.full((cells * heights, channels), 7, np.uint8)
    planes = np.full((heights * channels, cells), 7, np.uint8)
    lift.lift_row_levels(*given, features, rows, 0.02, 100)
    lift.lift_plane_levels(*given, features, heights, planes, 0.02, 100)
    np.testing.assert_array_equal(planes, rows.reshape(cells, heights * channels).T)


@pytest.mark.parametrize("width", [1, 16, 64])
def test_levels_round_halves_to_even_and_end_at_0_and_255(width):
    values = np.array([-0.25, 0.25, 0.5, 0.75, 1.25, -0.75, 77.5, 77.75, -50, -50.25, 1e30, -np.inf, np.inf, np.nan])
    wanted = np.array([100, 100, 101, 102, 102, 98, 255, 255, 0, 0, 255, 0, 255, 0], np.uint8)
    features = np.repeat(values.astype(np.float32)[:, np.newaxis], width, axis=1)
    out = np.empty(features.shape, np.uint8)
    each = np.arange(len(values), dtype=np.int32)
    one = np.ones(len(values), np.float32)
    lift.lift_row_levels(np.arange(len(values) + 1, dtype=np.int32), each, one, features, out, 0.5, 100)
    np.testing.assert_array_equal(out, np.repeat(wanted[:, np.newaxis], width, axis=1))


def test_levels_without_entries_are_those_of_zero():
    features = features_of(3, 20)
    empty = (np.zeros(5, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    rows, planes = np.zeros((4, 20), np.uint8), np.zeros((40, 2), np.uint8)
    lift.lift_row_levels(*empty, features, rows, 0.1, 44)
    lift.lift_plane_levels(*empty, features, 2, planes, 0.1, 44)
    assert (rows == 44).all()
    assert (planes == 44).all()
    some = (np.array([0, 0, 1], np.int32), np.zeros(1, np.int32), np.ones(1, np.float32))
    lift.lift_row_levels(*some, features, rows[:2], 0.1, 44)
    assert (rows[0] == 44).all()
    assert (rows[1] != 44).any()


@pytest.mark.parametrize("num_threads", [2, 4])
def test_threads_change_no_level(num_threads):
    given, features = matrix(3000, 200), features_of(200, 48)
    for kernel, more, shape in (("lift_row_levels", (), (3000, 48)), ("lift_plane_levels", (3,), (144, 1000))):
        alone, together = np.zeros(shape, np.uint8), np.ones(shape, np.uint8)
        getattr(lift, kernel)(*given, features, *more, alone, 0.02, 128)
        getattr(lift, kernel)(*given, features, *more, together, 0.02, 128, num_threads=num_threads)
        np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize(("channels", "pixels"), [(0, 3), (3, 0), (1, 1), (5, 17), (64, 100), (67, 131), (4, 64)])
def test_planes_to_rows(channels, pixels):
    planes = features_of(channels, pixels)
    rows = np.full((pixels, channels), np.nan, np.float32)
    lift.planes_to_rows(planes, rows)
    np.testing.assert_array_equal(rows, planes.T)


INDPTR, INDICES, WEIGHTS = np.array([0, 2, 3], np.int32), np.array([0, 1, 2], np.int32), np.ones(3, np.float32)
ROWS = {
    "indptr": INDPTR,
    "indices": INDICES,
    "weights": WEIGHTS,
    "features": np.ones((3, 4), np.float32),
    "out": np.ones((2, 4), np.float32),
}
PLANES = ROWS | {"heights": 2, "out": np.ones((8, 1), np.float32)}
LEVELS = ROWS | {"out": np.ones((2, 4), np.uint8), "scale": 0.1, "zero_point": 44}
PLANE_LEVELS = LEVELS | {"heights": 2, "out": np.ones((8, 1), np.uint8)}
DEPTHS = {
    "indptr": INDPTR,
    "indices": INDICES,
    "weights": WEIGHTS,
    "depths": WEIGHTS,
    "depth_map": WEIGHTS,
    "sigma_m": 1.0,
    "sigma_relative": 0.0,
    "out_weights": np.ones(3, np.float32),
    "mass": np.ones(2, np.float32),
}


@pytest.mark.parametrize(
    ("kernel", "given", "changes", "match"),
    [
        ("lift_rows", ROWS, {"indptr": np.zeros(0, np.int32)}, r"indptr must be of length rows \+ 1, got 0"),
        ("lift_rows", ROWS, {"indptr": np.array([1, 2, 3], np.int32)}, "indptr must be starting at 0, got 1"),
        ("lift_rows", ROWS, {"indptr": np.array([0, 3, 2], np.int32)}, "non-decreasing, got a step back after row 1"),
        ("lift_rows", ROWS, {"indptr": np.array([0, -1, 2], np.int32)}, "non-decreasing, got a step back after row 0"),
        ("lift_rows", ROWS, {"indptr": np.array([0, 2, 4], np.int32)}, "indices must be at least 4 long, got 3"),
        ("lift_rows", ROWS, {"weights": np.ones(2, np.float32)}, "weights must be at least 3 long, got 2"),
        ("lift_rows", ROWS, {"indices": np.array([0, 1, 3], np.int32)}, "columns below 3, got 3 at 2"),
        ("lift_rows", ROWS, {"indices": np.array([0, -1, 2], np.int32)}, "columns below 3, got -1 at 1"),
        ("lift_rows", ROWS, {"out": np.ones((3, 4), np.float32)}, r"out must be of shape \(2, 4\), got \(3, 4\)"),
        ("lift_rows", ROWS, {"out": np.ones((2, 4))}, "Buffer dtype mismatch"),
        ("lift_rows", ROWS, {"out": ROWS["features"][:2]}, "out must be memory of its own"),
        ("lift_rows", ROWS, {"features": np.ones((4, 3), np.float32).T}, "not C-contiguous"),
        ("lift_rows", ROWS, {"num_threads": 0}, "num_threads must be at least 1, got 0"),
        ("lift_planes", PLANES, {"heights": 3}, "heights must be a divisor of 2 rows, got 3"),
        ("lift_planes", PLANES, {"heights": 0}, "heights must be a divisor of 2 rows, got 0"),
        ("lift_planes", PLANES, {"heights": 1}, r"out must be of shape \(4, 2\), got \(8, 1\)"),
        ("lift_planes", PLANES, {"indices": np.array([9, 1, 2], np.int32)}, "columns below 3, got 9 at 0"),
        ("lift_planes", PLANES, {"num_threads": -1}, "num_threads must be at least 1"),
        ("lift_row_levels", LEVELS, {"scale": 0.0}, "scale must be positive and finite in float32, got 0.0"),
        ("lift_row_levels", LEVELS, {"scale": np.nan}, "scale must be positive and finite in float32, got nan"),
        ("lift_row_levels", LEVELS, {"scale": 1e-60}, "scale must be positive and finite in float32, got 1e-60"),
        ("lift_row_levels", LEVELS, {"zero_point": 256}, r"zero_point must be 0\.\.255, got 256"),
        ("lift_row_levels", LEVELS, {"zero_point": -1}, r"zero_point must be 0\.\.255, got -1"),
        ("lift_row_levels", LEVELS, {"out": np.ones((2, 4), np.float32)}, "Buffer dtype mismatch"),
        ("lift_row_levels", LEVELS, {"out": np.ones((2, 3), np.uint8)}, r"out must be of shape \(2, 4\), got \(2, 3\)"),
        ("lift_row_levels", LEVELS, {"indices": np.array([0, 1, 3], np.int32)}, "columns below 3, got 3 at 2"),
        ("lift_row_levels", LEVELS, {"num_threads": 0}, "num_threads must be at least 1, got 0"),
        ("lift_plane_levels", PLANE_LEVELS, {"heights": 3}, "heights must be a divisor of 2 rows, got 3"),
        ("lift_plane_levels", PLANE_LEVELS, {"heights": 1}, r"out must be of shape \(4, 2\), got \(8, 1\)"),
        ("lift_plane_levels", PLANE_LEVELS, {"indices": np.array([9, 1, 2], np.int32)}, "columns below 3, got 9 at 0"),
        ("lift_plane_levels", PLANE_LEVELS, {"scale": -1.0}, "scale must be positive and finite in float32, got -1.0"),
        ("depth_weights", DEPTHS, {"depths": np.ones(2, np.float32)}, "depths must be at least 3 long, got 2"),
        ("depth_weights", DEPTHS, {"out_weights": np.ones(2, np.float32)}, "out_weights must be at least 3 long"),
        ("depth_weights", DEPTHS, {"mass": np.ones(3, np.float32)}, "mass must be of length 2, got 3"),
        ("depth_weights", DEPTHS, {"depth_map": np.ones(2, np.float32)}, "columns below 2, got 2 at 2"),
        ("depth_weights", DEPTHS, {"sigma_m": 0.0}, "sigma_m and sigma_relative must be not negative and not both 0"),
        ("depth_weights", DEPTHS, {"sigma_relative": -1.0}, "sigma_m and sigma_relative must be not negative"),
        ("depth_weights", DEPTHS, {"sigma_m": np.nan}, "sigma_m must be finite, got nan"),
        ("depth_weights", DEPTHS, {"num_threads": 0}, "num_threads must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(kernel, given, changes, match):
    with pytest.raises(ValueError, match=match):
        getattr(lift, kernel)(**(given | changes))


def test_wrong_arguments_of_small_kernels_are_refused():
    with pytest.raises(ValueError, match="mass must be of length 2, got 3"):
        lift.row_mass(INDPTR, WEIGHTS, np.ones(3, np.float32))
    with pytest.raises(ValueError, match="weights must be at least 3 long, got 2"):
        lift.row_mass(INDPTR, WEIGHTS[:2], np.ones(2, np.float32))
    with pytest.raises(ValueError, match=r"rows must be of shape \(4, 3\), got \(3, 4\)"):
        lift.planes_to_rows(np.ones((3, 4), np.float32), np.ones((3, 4), np.float32))
    square = np.ones((4, 4), np.float32)
    with pytest.raises(ValueError, match="rows must be memory of its own"):
        lift.planes_to_rows(square, square)


@pytest.mark.parametrize("name", ["indptr", "indices", "weights", "features", "out"])
def test_none_is_refused(name):
    with pytest.raises(TypeError, match=name):
        lift.lift_rows(**(ROWS | {name: None}))


def test_read_only_output_is_refused():
    out = np.ones((2, 4), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        lift.lift_rows(**(ROWS | {"out": out}))
