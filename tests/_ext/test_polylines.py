"""Thinning, tracing and simplification against plain references, and by hand."""

import numpy as np
import pytest
from octobev._ext import polylines

NEIGHBOURS = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]


def mask_of(*rows):
    return np.array([[cell == "#" for cell in row] for row in rows], dtype=np.uint8)


def thinned(mask):
    mask = mask.copy()
    polylines.thin(mask)
    return mask


def traced(skeleton):
    room = int(skeleton.sum())
    nodes = np.full(skeleton.shape, 77, np.int32)
    cells, chains = np.full((room, 2), -9, np.int32), np.full((room, 4), -9, np.int32)
    junctions, count = polylines.trace(skeleton, nodes, cells, chains)
    return junctions, nodes, [(cells[a:b].tolist(), (n, m)) for a, b, n, m in chains[:count].tolist()]


def components(mask, neighbours=NEIGHBOURS):
    """Number of connected parts, by flooding."""
    left = {tuple(cell) for cell in np.argwhere(mask).tolist()}
    count = 0
    while left:
        count += 1
        frontier = [left.pop()]
        while frontier:
            i, j = frontier.pop()
            near = {(i + di, j + dj) for di, dj in neighbours} & left
            left -= near
            frontier.extend(near)
    return count


def holes(mask):
    outside = np.pad(mask, 1) == 0
    return components(outside, NEIGHBOURS[::2]) - 1


def reference_thin(mask):
    """The same rule cell by cell: peel from four sides what is simple and ends no line."""
    there = {tuple(cell) for cell in np.argwhere(mask).tolist()}
    changed = True
    while changed:
        changed = False
        for di, dj in NEIGHBOURS[::2]:
            for i, j in sorted(cell for cell in there if (cell[0] + di, cell[1] + dj) not in there):
                ring = [(i + a, j + b) in there for a, b in NEIGHBOURS]
                number = sum(not ring[k] and (ring[k + 1] or ring[(k + 2) % 8]) for k in range(0, 8, 2))
                if number == 1 and sum(ring) >= 2:
                    there.remove((i, j))
                    changed = True
    out = np.zeros_like(mask)
    for cell in there:
        out[cell] = 1
    return out


def blobs(seed, shape=(40, 30), radius=2):
    noise = np.random.default_rng(seed).random(np.add(shape, 2 * radius))
    mean = sum(noise[a : a + shape[0], b : b + shape[1]] for a in range(2 * radius) for b in range(2 * radius))
    return (mean > np.median(mean)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(40, 30), (1, 25), (25, 1), (3, 3)])
def test_thinning_equals_reference(seed, shape):
    mask = blobs(seed, shape, 1 + seed % 3)
    np.testing.assert_array_equal(thinned(mask), reference_thin(mask))


@pytest.mark.parametrize("seed", range(6))
def test_thinning_keeps_what_is_connected_and_every_hole(seed):
    mask = blobs(seed)
    skeleton = thinned(mask)
    assert components(skeleton) == components(mask)
    assert holes(skeleton) == holes(mask)
    assert not (skeleton > mask).any()
    np.testing.assert_array_equal(thinned(skeleton), skeleton)


def test_a_thick_bar_becomes_its_middle_row():
    skeleton = thinned(mask_of("#########", "#########", "#########"))
    assert skeleton[[0, 2]].sum() == 0
    assert skeleton[1].sum() >= 6


def test_a_full_mask_leaves_a_single_part():
    skeleton = thinned(np.ones((128, 96), np.uint8))
    assert components(skeleton) == 1
    assert skeleton.sum() < 200


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_nothing_to_thin(shape):
    polylines.thin(np.zeros(shape, np.uint8))


def test_any_value_counts_as_set():
    mask = mask_of("#####") * np.uint8(7)
    polylines.thin(mask)
    assert mask.tolist() == [[1, 1, 1, 1, 1]]


def test_a_line_is_one_chain_in_order():
    junctions, nodes, chains = traced(mask_of("#....", ".#...", "..###"))
    assert junctions == 0
    assert not nodes.any()
    assert chains == [([[0, 0], [1, 1], [2, 2], [2, 3], [2, 4]], (0, 0))]


def test_a_t_is_three_chains_at_one_junction():
    junctions, nodes, chains = traced(mask_of("#######", "...#...", "...#...", "...#..."))
    assert junctions == 1
    assert set(np.unique(nodes)) == {0, 1}
    assert sorted(len(cells) for cells, _ in chains) == [2, 2, 2]
    assert all(sorted(ends) == [0, 1] for _, ends in chains)
    assert sum(len(cells) for cells, _ in chains) + (nodes > 0).sum() == 10


def test_a_ring_is_closed():
    ring = mask_of(".###.", "#...#", "#...#", ".###.")
    junctions, _, chains = traced(ring)
    assert junctions == 0
    assert [ends for _, ends in chains] == [(-1, -1)]
    cells = np.array(chains[0][0] + chains[0][0][:1])
    assert len(cells) == ring.sum() + 1
    assert np.abs(np.diff(cells, axis=0)).max() == 1


def test_a_chain_between_two_junctions_names_both():
    junctions, _, chains = traced(mask_of("#.....#", ".#...#.", "..###..", ".#...#.", "#.....#"))
    assert junctions == 2
    assert [sorted(ends) for cells, ends in chains if cells == [[2, 3]]] == [[1, 2]]


def test_a_single_cell_is_a_chain():
    assert traced(mask_of("...", ".#.", "..."))[2] == [([[1, 1]], (0, 0))]


def test_an_empty_skeleton():
    junctions, nodes, chains = traced(np.zeros((4, 5), np.uint8))
    assert (junctions, chains) == (0, [])
    assert not nodes.any()


@pytest.mark.parametrize("seed", range(8))
def test_every_cell_of_a_skeleton_is_in_one_chain_or_junction(seed):
    skeleton = thinned(blobs(seed, (60, 50), 1 + seed % 3))
    junctions, nodes, chains = traced(skeleton)
    cells = [tuple(cell) for chain, _ in chains for cell in chain]
    assert len(cells) == len(set(cells))
    covered = (nodes > 0).astype(np.uint8)
    for cell in cells:
        assert covered[cell] == 0
        covered[cell] = 1
    np.testing.assert_array_equal(covered, skeleton)
    assert nodes.max() == junctions
    for chain, (begin, end) in chains:
        steps = np.abs(np.diff(np.array(chain), axis=0))
        assert len(steps) == 0 or steps.max() == 1, "cells of a chain touch"
        for cell, junction in ((chain[0], begin), (chain[-1], end)):
            if junction > 0:
                assert np.abs(np.argwhere(nodes == junction) - cell).max(axis=1).min() == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"nodes": np.zeros((2, 2), np.int32)}, r"nodes must be of shape \(3, 4\), got \(2, 2\)"),
        ({"cells": np.zeros((9, 3), np.int32)}, "columns of cells must be 2, got 3"),
        ({"chains": np.zeros((9, 2), np.int32)}, "columns of chains must be 4, got 2"),
        ({"cells": np.zeros((3, 2), np.int32)}, "rows of cells must be at least 4, got 3"),
        ({"chains": np.zeros((3, 4), np.int32)}, "rows of chains must be at least 4, got 3"),
    ],
)
def test_trace_refuses(changed, message):
    arrays = {"skeleton": mask_of("....", "####", "....")} | {
        "nodes": np.zeros((3, 4), np.int32),
        "cells": np.zeros((9, 2), np.int32),
        "chains": np.zeros((9, 4), np.int32),
    }
    with pytest.raises(ValueError, match=message):
        polylines.trace(**(arrays | changed))


def kept(points, tolerance):
    points = np.array(points, dtype=np.float64).reshape(-1, 2)
    keep = np.full(len(points), 9, np.uint8)
    polylines.simplify(points, tolerance, keep, np.empty(2 * len(points), np.int32))
    return keep.tolist()


def reference_simplify(points, tolerance):
    if len(points) < 3:
        return list(points)
    first, last = points[0], points[-1]
    way = last - first
    square = way @ way
    t = np.clip((points - first) @ way / square, 0, 1) if square > 0 else np.zeros(len(points))
    distance = np.linalg.norm(points - first - t[:, None] * way, axis=1)
    if distance[1:-1].max() <= tolerance:
        return [first, last]
    middle = 1 + int(distance[1:-1].argmax())
    return reference_simplify(points[: middle + 1], tolerance)[:-1] + reference_simplify(points[middle:], tolerance)


def test_a_corner_is_kept_and_what_is_straight_is_not():
    assert kept([(0, 0), (1, 0), (2, 0), (2, 1), (2, 2)], 0.01) == [1, 0, 1, 0, 1]
    assert kept([(0, 0), (1, 0.09), (2, 0)], 0.1) == [1, 0, 1]
    assert kept([(0, 0), (1, 0.11), (2, 0)], 0.1) == [1, 1, 1]


def test_a_closed_line_is_simplified_from_its_farthest_point():
    assert kept([(0, 0), (1, 0), (2, 0), (1, 1), (0, 0)], 0.01) == [1, 0, 1, 1, 1]


@pytest.mark.parametrize("points", [[], [(1, 2)], [(1, 2), (1, 2)]])
def test_short_lines_are_kept(points):
    assert kept(points, 0.1) == [1] * len(points)


@pytest.mark.parametrize("seed", range(5))
def test_simplification_equals_reference(seed):
    points = np.random.default_rng(seed).normal(size=(200, 2)).cumsum(axis=0)
    keep = np.array(kept(points, 1.5), dtype=bool)
    np.testing.assert_array_equal(points[keep], reference_simplify(points, 1.5))
    assert 2 < keep.sum() < 200


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"points": np.zeros((4, 3))}, "columns of points must be 2, got 3"),
        ({"keep": np.zeros(3, np.uint8)}, "length of keep must be 4, got 3"),
        ({"stack": np.zeros(7, np.int32)}, "length of stack must be at least 8, got 7"),
        ({"tolerance": -0.1}, "tolerance must be 0 or more, got -0.1"),
        ({"tolerance": float("nan")}, "tolerance must be 0 or more, got nan"),
    ],
)
def test_simplify_refuses(changed, message):
    arguments = {
        "points": np.zeros((4, 2)),
        "tolerance": 0.1,
        "keep": np.zeros(4, np.uint8),
        "stack": np.zeros(8, np.int32),
    }
    with pytest.raises(ValueError, match=message):
        polylines.simplify(**(arguments | changed))


BENT = np.array([(0.0, 0.0), (3.0, 4.0), (3.0, 4.0), (3.0, 10.0), (11.0, 10.0)])


def wandering(seed, n=30):
    return np.random.default_rng(seed).normal(size=(n, 2)).cumsum(axis=0)


def evened(points, count):
    out = np.empty((count, 2))
    polylines.even(points, out)
    return out


def test_length_by_hand():
    assert polylines.length(BENT) == 5 + 6 + 8
    assert polylines.length(BENT[::-1]) == 19
    assert polylines.length(BENT[:1]) == polylines.length(BENT[:0]) == 0


def test_first_point_beyond_a_distance_by_hand():
    found = [polylines.first_beyond(BENT, distance) for distance in (0.0, 0.1, 5.0, 5.1, 14.0, 15.0)]
    assert found == [0, 1, 1, 3, 4, -1]
    assert polylines.first_beyond(BENT[::-1], 8.0) == 1


@pytest.mark.parametrize("count", [2, 3, 20, 77])
def test_even_points_equal_interpolation(count):
    for points in (BENT, wandering(1), wandering(2)[::-1]):
        arc = np.concatenate(([0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))))
        at = np.linspace(0, arc[-1], count)
        expected = np.stack([np.interp(at, arc, points[:, k]) for k in (0, 1)], axis=-1)
        np.testing.assert_allclose(evened(points, count), expected, atol=1e-12)


def test_even_points_of_a_line_without_length_are_all_the_same():
    assert evened(np.array([(1.0, 2.0), (1.0, 2.0)]), 3).tolist() == [[1, 2]] * 3


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("n", [3, 4, 5, 30])
def test_smoothing_equals_convolution(n, closed):
    points = wandering(n, n)
    if closed:
        points[-1] = points[0]
        padded = np.concatenate((points[-3:-1], points, points[1:3]))
    else:
        head, tail = 2 * points[0] - points[2:0:-1], 2 * points[-1] - points[-2:-4:-1]
        padded = np.concatenate((head, points, tail))
    weights = np.array([1, 4, 6, 4, 1]) / 16
    expected = np.stack([np.convolve(padded[:, k], weights, mode="valid") for k in (0, 1)], axis=-1)
    out = np.empty_like(points)
    polylines.smooth(points, closed, out)
    np.testing.assert_allclose(out, expected, atol=1e-12)
    if closed:
        np.testing.assert_allclose(out[0], out[-1], atol=1e-12)
    else:
        np.testing.assert_allclose(out[[0, -1]], points[[0, -1]], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: polylines.length(np.zeros((4, 3))), "columns of points must be 2, got 3"),
        (lambda: polylines.first_beyond(np.zeros((4, 1)), 1.0), "columns of points must be 2, got 1"),
        (lambda: evened(np.zeros((1, 2)), 4), "points must be 2 or more, got 1"),
        (lambda: evened(np.zeros((4, 2)), 1), "rows of out must be 2 or more, got 1"),
        (lambda: polylines.smooth(np.zeros((2, 2)), False, np.empty((2, 2))), "points must be 3 or more, got 2"),
        (lambda: polylines.smooth(np.zeros((4, 2)), False, np.empty((3, 2))), r"out must be of shape \(4, 2\)"),
    ],
)
def test_lines_that_do_not_fit_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
