"""Regions, outlines and middles against plain references, and by hand."""

import numpy as np
import pytest
from octobev._ext import regions

SIDES = [(1, 0), (0, 1), (-1, 0), (0, -1)]


def labelled(mask):
    mask = np.asarray(mask, np.uint8)
    labels = np.full(mask.shape, 77, np.int32)
    return regions.label(mask, labels, np.empty((mask.size, 2), np.int32)), labels


def outlined(values, labels, region=1, level=0.5, room=None):
    room = 4 * values.size if room is None else room
    points, outside = np.full((room, 2), np.nan), np.full((room, 2), -99, np.int32)
    count = regions.outline(values.astype(np.float32), labels, region, level, points, outside)
    return count, points[: max(count, 0)], outside[: max(count, 0)]


def middles(values, direction, observed=None, level=0.5, reach=40.0, near=2.0):
    values = np.asarray(values, np.float32)
    observed = np.ones(values.shape, np.uint8) if observed is None else observed.astype(np.uint8)
    direction = np.broadcast_to(np.float32(direction), values.shape).copy()
    offset, width = np.full(values.shape, 9, np.float32), np.full(values.shape, 9, np.float32)
    regions.centre(values, observed, direction, level, reach, near, offset, width)
    return offset, width


def area(points):
    x, y = points.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


@pytest.mark.parametrize("seed", range(5))
def test_labels_equal_flooding(seed):
    mask = np.random.default_rng(seed).random((23, 31)) < 0.55
    count, labels = labelled(mask)
    left = {tuple(cell) for cell in np.argwhere(mask).tolist()}
    number = 0
    for start in np.argwhere(mask).tolist():
        if tuple(start) not in left:
            continue
        number += 1
        frontier = [tuple(start)]
        left.discard(tuple(start))
        while frontier:
            i, j = frontier.pop()
            assert labels[i, j] == number
            near = {(i + di, j + dj) for di, dj in SIDES} & left
            left -= near
            frontier.extend(near)
    assert count == number
    assert not labels[~mask].any()


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 5), (5, 1)])
def test_labels_of_thin_masks(shape):
    count, labels = labelled(np.ones(shape))
    assert count == (1 if labels.size else 0)
    assert (labels == 1).all()


def test_cells_that_touch_at_a_corner_are_two_regions():
    assert labelled([[1, 0], [0, 1]])[0] == 2


def test_outline_of_one_cell_is_a_diamond_counter_clockwise():
    values = np.zeros((3, 3))
    values[1, 1] = 1
    count, points, outside = outlined(values, labelled(values)[1])
    assert count == 4
    assert points.tolist() == [[0.5, 1.0], [1.0, 0.5], [1.5, 1.0], [1.0, 1.5]]
    assert outside.tolist() == [[0, 1], [1, 0], [2, 1], [1, 2]]
    assert area(points) > 0


def test_outline_lies_where_the_values_cross_the_level():
    x = np.arange(12)[:, None] + np.zeros(9)
    values = np.clip((7.3 - x) * 0.5 + 0.5, 0, 1)
    _, points, outside = outlined(values, labelled(values >= 0.5)[1])
    rim = points[outside[:, 0] == 8]
    np.testing.assert_allclose(rim[:, 0], 7.3, atol=1e-6)


def test_outline_at_the_border_of_the_grid_lies_half_a_cell_out():
    values = np.ones((4, 6))
    count, points, _ = outlined(values, labelled(values)[1])
    assert count == 20
    assert points.min(axis=0).tolist() == [-0.5, -0.5]
    assert points.max(axis=0).tolist() == [3.5, 5.5]


@pytest.mark.parametrize("seed", range(5))
def test_outline_goes_once_around_the_outside_of_a_region(seed):
    mask = np.random.default_rng(seed).random((20, 25)) < 0.62
    count, labels = labelled(mask)
    for region in range(1, count + 1):
        inside = labels == region
        sides, points, outside = outlined(inside.astype(float), labels, region)
        outer = {tuple(cell) for cell in np.argwhere(np.pad(~inside, 1, constant_values=True)).tolist()}
        frontier, reached = [(0, 0)], {(0, 0)}
        while frontier:
            i, j = frontier.pop()
            near = ({(i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)} & outer) - reached
            reached |= near
            frontier.extend(near)
        expected = sorted(
            (i, j, i + di, j + dj)
            for i, j in np.argwhere(inside).tolist()
            for di, dj in SIDES
            if (i + di + 1, j + dj + 1) in reached
        )
        # the cell inside is that on the other side of the point, which lies half-way
        within = np.rint(2 * points - outside).astype(int)
        got = sorted(map(tuple, np.concatenate((within, outside), axis=1).tolist()))
        assert got == expected
        assert len(got) == sides
        assert area(points) >= 0


def test_outline_without_room_says_so():
    values = np.ones((4, 6))
    assert outlined(values, labelled(values)[1], room=19)[0] == -1
    assert outlined(values, labelled(values)[1], room=20)[0] == 20


def test_outline_of_no_region_is_empty():
    assert outlined(np.ones((4, 6)), np.zeros((4, 6), np.int32))[0] == 0


def strip(low, high, shape=(20, 40)):
    """A roof that crosses the level 0.5 at y = low and y = high."""
    y = np.arange(shape[1]) + np.zeros(shape)
    return np.minimum(y - low, high - y) / 20 + 0.5


def test_the_middle_of_a_strip():
    offset, width = middles(strip(10.2, 21.6), 0.0, near=2.0)
    np.testing.assert_allclose(width[10, 14:18], 11.4, atol=1e-5)
    np.testing.assert_allclose(offset[10, 14:18], 15.9 - np.arange(14, 18), atol=1e-5)
    assert np.isnan(offset[10, :14]).all()
    assert np.isnan(width[10, 18:]).all()


def test_left_of_the_opposite_direction_is_the_other_side():
    offset, width = middles(strip(10.2, 21.6), np.pi)
    np.testing.assert_allclose(offset[10, 14:18], np.arange(14, 18) - 15.9, atol=1e-4)
    np.testing.assert_allclose(width[10, 14:18], 11.4, atol=1e-4)


def test_width_is_measured_across_the_direction():
    offset, width = middles(strip(10.0, 22.0, (60, 40)), np.radians(30), near=1.0)
    np.testing.assert_allclose(width[30, 16], 12 / np.cos(np.radians(30)), rtol=0.01)
    assert offset[30, 16] == pytest.approx(0, abs=0.1)


def test_what_is_not_observed_has_no_middle():
    observed = np.ones((20, 40), bool)
    observed[10, 20] = False
    offset, _ = middles(strip(10.2, 21.6), 0.0, observed)
    assert np.isnan(offset[10]).all()
    assert np.isfinite(offset[9, 15])


def test_a_side_off_the_grid_or_out_of_reach_is_none():
    assert np.isnan(middles(np.ones((9, 9)), 0.3)[0]).all()
    assert np.isnan(middles(strip(10.2, 21.6), 0.0, reach=5)[0]).all()
    assert np.isfinite(middles(strip(10.2, 21.6), 0.0, reach=7)[0]).any()


def test_no_direction_no_middle():
    assert np.isnan(middles(strip(10.2, 21.6), np.nan)[1]).all()


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 8), (8, 1)])
def test_middles_of_thin_rasters(shape):
    assert np.isnan(middles(np.ones(shape), 0.5)[0]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: regions.label(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.int32), np.zeros((6, 2), np.int32)),
            r"labels must be of shape \(2, 3\), got \(3, 2\)",
        ),
        (
            lambda: regions.label(np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.int32), np.zeros((5, 2), np.int32)),
            "rows of stack must be at least 6, got 5",
        ),
        (
            lambda: regions.label(np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.int32), np.zeros((6, 3), np.int32)),
            "columns of stack must be 2, got 3",
        ),
        (lambda: outlined(np.zeros((2, 3)), np.zeros((3, 3), np.int32)), r"labels must be of shape \(2, 3\)"),
        (
            lambda: regions.outline(
                np.zeros((2, 2), np.float32),
                np.zeros((2, 2), np.int32),
                1,
                0.5,
                np.zeros((4, 2)),
                np.zeros((3, 2), np.int32),
            ),
            "rows of outside must be 4, got 3",
        ),
        (
            lambda: regions.centre(
                np.zeros((2, 2), np.float32),
                np.zeros((2, 2), np.uint8),
                np.zeros((2, 2), np.float32),
                0.5,
                9,
                2,
                np.zeros((2, 2), np.float32),
                np.zeros((2, 1), np.float32),
            ),
            r"width must be of shape \(2, 2\), got \(2, 1\)",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
