"""Warps against plain NumPy; pure shifts and turns by hand."""

import numpy as np
import pytest
from octobev._ext import warp

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def turn(angle_rad, x=0.0, y=0.0):
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def positions(matrix, shape):
    i, j = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    return tuple(matrix[k, 0] * i + matrix[k, 1] * j + matrix[k, 2] for k in range(2))


def warped(source, matrix, shape, fill=0.0):
    """The reference, in float64: a cell outside counts as fill, a cell without weight does not count."""
    _, nx, ny = source.shape
    x, y = positions(matrix, shape)
    x0, y0 = np.floor(x), np.floor(y)
    out = np.zeros((len(source), *shape))
    for dx in (0, 1):
        for dy in (0, 1):
            weight = np.abs(1 - dx - (x - x0)) * np.abs(1 - dy - (y - y0))
            i, j = x0 + dx, y0 + dy
            inside = (i >= 0) & (i < nx) & (j >= 0) & (j < ny)
            at = source[:, np.where(inside, i, 0).astype(int), np.where(inside, j, 0).astype(int)]
            value = np.where(inside, at.astype(np.float64), fill)
            out += np.where(weight > 0, weight * np.where(weight > 0, value, 0), 0)
    return out


def planes(count=5, nx=23, ny=70, seed=0):
    return np.random.default_rng(seed).normal(size=(count, nx, ny)).astype(np.float32)


@pytest.mark.parametrize("fill", [0.0, -2.5])
@pytest.mark.parametrize(
    "matrix", [IDENTITY, turn(0.1, 1.3, -0.7), turn(2.0, 15.0, 3.0), turn(0, -0.25, 69.5), turn(0, 1e12, -1e12)]
)
@pytest.mark.parametrize("shape", [(23, 70), (11, 131), (1, 1), (40, 3)])
def test_planes_equal_reference(shape, matrix, fill):
    source = planes()
    out = np.full((5, *shape), np.nan, np.float32)
    warp.warp_planes(source, matrix, out, fill)
    np.testing.assert_allclose(out, warped(source, matrix, shape, fill), atol=2e-6)


@pytest.mark.parametrize("source_shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_thin_sources(source_shape):
    source, matrix = planes(2, *source_shape), turn(0.2, -0.4, 0.3)
    out = np.full((2, 6, 7), np.nan, np.float32)
    warp.warp_planes(source, matrix, out, 1.5)
    np.testing.assert_allclose(out, warped(source, matrix, (6, 7), 1.5), atol=2e-6)


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("angle_rad", [*np.linspace(-np.pi, np.pi, 9), 1e-4, -0.01, 0.05, -0.12, 0.3, 1.55])
def test_every_rotation_and_number_of_planes_equals_reference(angle_rad, count):
    """Larger than one part of the work; turned around the middle, and shifted by parts of cells."""
    source, middle = planes(count, 61, 47), np.array([30.3, 23.4])
    matrix = turn(angle_rad)
    matrix[:, 2] = middle - matrix[:, :2] @ middle
    out = np.full((count, 64, 53), np.nan, np.float32)
    warp.warp_planes(source, matrix, out, 0.5)
    np.testing.assert_allclose(out, warped(source, matrix, (64, 53), 0.5), atol=3e-6)


@pytest.mark.parametrize(
    "matrix", [[[2.0, 0, 1.5], [0, 1, 0.25]], [[0.5, 0.25, 0], [-0.1, 3, 4]], [[0, 1, 0], [1, 0, 0.5]]]
)
def test_scales_and_exchanged_axes(matrix):
    source, matrix = planes(6, 33, 40), np.array(matrix)
    out = np.full((6, 41, 32), np.nan, np.float32)
    warp.warp_planes(source, matrix, out)
    np.testing.assert_allclose(out, warped(source, matrix, (41, 32)), atol=3e-6)


@pytest.mark.parametrize("shape", [(12, 9), (30, 64), (70, 31)])
@pytest.mark.parametrize(
    "matrix",
    [IDENTITY, turn(0, 3.0, -5.0), turn(0, 0.5, 8.0), turn(0, -2.0, 0.25), turn(0.05, 1.3, -0.7), turn(0.8, 4, -6)],
)
def test_cells_without_weight_do_not_count_whatever_they_hold(matrix, shape):
    """What no target cell has weight for, inside of the source and around it in memory, is not a number."""
    memory = np.full((7, 40, 50), np.nan, np.float32)
    source = memory[1:-1]
    source[:] = planes(5, 40, 50)
    x, y = positions(matrix, shape)
    wanted = warped(source, matrix, shape, -1.5)
    used = np.zeros(source.shape[1:], np.bool_)
    for i in range(40):
        for j in range(50):
            used[i, j] = ((np.abs(x - i) < 1) & (np.abs(y - j) < 1)).any()
    assert not used.all()
    source[:, ~used] = np.nan
    out = np.full((5, *shape), np.nan, np.float32)
    warp.warp_planes(source, matrix, out, -1.5)
    np.testing.assert_allclose(out, wanted, atol=3e-6)


@pytest.mark.parametrize("angle_rad", [0.0, 0.05, 0.8])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 1), (5, 11), (47, 61)])
def test_nothing_is_written_around_the_target(shape, angle_rad):
    memory = np.full((8, *shape), 77, np.float32)
    source, matrix = planes(6, 20, 30), turn(angle_rad, 0.5, 1.25)
    warp.warp_planes(source, matrix, memory[1:-1])
    np.testing.assert_allclose(memory[1:-1], warped(source, matrix, shape), atol=3e-6)
    assert (memory[[0, -1]] == 77).all()


def test_identity_changes_no_bit():
    source = planes()
    out = np.empty_like(source)
    warp.warp_planes(source, IDENTITY, out)
    np.testing.assert_array_equal(out, source)


def test_whole_shift_moves_cells():
    source = planes(1, 4, 4)
    out = np.empty_like(source)
    warp.warp_planes(source, np.array([[1.0, 0, 1], [0, 1, -2]]), out, 9.0)  # out[i, j] = source[i + 1, j - 2]
    np.testing.assert_array_equal(out[0, :3, 2:], source[0, 1:, :2])
    assert (out[0, 3] == 9).all()
    assert (out[0, :, :2] == 9).all()


def test_half_a_cell_is_the_mean_and_the_edge_takes_half_of_the_fill():
    source = np.array([[[2.0, 4.0]]], np.float32)
    out = np.empty((1, 1, 2), np.float32)
    warp.warp_planes(source, np.array([[1.0, 0, 0], [0, 1, 0.5]]), out, 10.0)
    np.testing.assert_array_equal(out, [[[3.0, 7.0]]])


def test_values_that_are_not_numbers_stay_where_they_are():
    source = planes(1, 6, 6)
    source[0, 2, 3] = np.nan
    source[0, 5, 5] = np.inf
    out = np.empty_like(source)
    warp.warp_planes(source, IDENTITY, out)
    np.testing.assert_array_equal(out, source)
    warp.warp_planes(source, turn(0, 0.0, 3.0), out)
    np.testing.assert_array_equal(np.isfinite(out).sum(), 34)


@pytest.mark.parametrize("num_threads", [2, 4])
def test_threads_change_no_bit(num_threads):
    source, matrix = planes(9, 320, 365), turn(0.07, 2.2, -1.1)  # enough for four threads
    one, many = np.empty_like(source), np.empty_like(source)
    warp.warp_planes(source, matrix, one)
    warp.warp_planes(source, matrix, many, num_threads=num_threads)
    np.testing.assert_array_equal(one, many)
    mask = (source[0] > 0).astype(np.uint8)
    one, many = np.empty_like(mask), np.empty_like(mask)
    warp.warp_mask(mask, matrix, one)
    warp.warp_mask(mask, matrix, many, num_threads)
    np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("matrix", [IDENTITY, turn(0.1, 1.3, -0.7), turn(2.0, 15.0, 3.0), turn(0, 1e12, 0)])
def test_mask_takes_the_nearest_cell(matrix):
    mask = (planes()[0] > 0).astype(np.uint8) * 7
    out = np.full((30, 31), 99, np.uint8)
    warp.warp_mask(mask, matrix, out)
    x, y = (np.floor(p + 0.5) for p in positions(matrix, out.shape))
    inside = (x >= 0) & (x < mask.shape[0]) & (y >= 0) & (y < mask.shape[1])
    wanted = mask[np.where(inside, x, 0).astype(int), np.where(inside, y, 0).astype(int)] * inside
    np.testing.assert_array_equal(out, wanted)


def test_empty_rasters():
    out = np.full((2, 3, 4), np.nan, np.float32)
    warp.warp_planes(np.zeros((2, 0, 5), np.float32), IDENTITY, out, 3.0)
    assert (out == 3).all()
    warp.warp_planes(planes(2), IDENTITY, np.zeros((2, 0, 4), np.float32))
    warp.warp_planes(planes(0), IDENTITY, np.zeros((0, 3, 4), np.float32))
    mask = np.full((3, 4), 5, np.uint8)
    warp.warp_mask(np.zeros((5, 0), np.uint8), IDENTITY, mask)
    assert not mask.any()
    warp.warp_mask(mask, IDENTITY, np.zeros((0, 4), np.uint8))


def test_any_strides_of_the_matrix_are_accepted():
    source, matrix = planes(), turn(0.1, 1.3, -0.7)
    one, other = np.empty_like(source), np.empty_like(source)
    warp.warp_planes(source, matrix, one)
    warp.warp_planes(source, np.asfortranarray(matrix)[::-1][::-1], other)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"source_from_target": np.eye(3)}, r"source_from_target must be of shape \(2, 3\), got \(3, 3\)"),
        ({"source_from_target": IDENTITY * np.nan}, "source_from_target must be finite"),
        ({"out": np.zeros((4, 23, 70), np.float32)}, "planes of out must be 5, got 4"),
        ({"fill": np.inf}, "fill must be finite, got inf"),
        ({"num_threads": 0}, "num_threads must be at least 1, got 0"),
        ({"source": planes()[:, ::2]}, "not C-contiguous"),
    ],
)
def test_wrong_arguments_are_refused(changes, match):
    given = {"source": planes(), "source_from_target": IDENTITY, "out": np.empty((5, 23, 70), np.float32)}
    with pytest.raises(ValueError, match=match):
        warp.warp_planes(**(given | changes))


def test_work_in_place_is_refused():
    source, mask = planes(), np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="out must be memory of its own"):
        warp.warp_planes(source, IDENTITY, source)
    with pytest.raises(ValueError, match="out must be memory of its own"):
        warp.warp_mask(mask, IDENTITY, mask)


def test_wrong_masks_are_refused():
    mask = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="source_from_target must be of shape"):
        warp.warp_mask(mask, np.zeros((3, 2)), mask.copy())
    with pytest.raises(ValueError, match="source_from_target must be finite"):
        warp.warp_mask(mask, IDENTITY + np.inf, mask.copy())
    with pytest.raises(ValueError, match="num_threads must be at least 1"):
        warp.warp_mask(mask, IDENTITY, mask.copy(), 0)
    with pytest.raises(TypeError, match="source"):
        warp.warp_mask(None, IDENTITY, mask)
