import itertools
from typing import NamedTuple

import numpy as np
import pytest
from octobev.fusion.grid import BevGrid
from octobev.replay.matching import (
    IntersectionCounts,
    PolylineCounts,
    average_precision,
    chamfer_distance_m,
    find_patches,
    match_nearest,
    visible_stretches,
)

GRID = BevGrid(0.0, 20.0, -10.0, 10.0, 1.0)
VISIBLE = np.ones(GRID.shape, dtype=np.bool_)


def raster(*squares):
    """Squares of 3 x 3 cells at these lower corners."""
    cells = np.zeros(GRID.shape, dtype=np.uint8)
    for i, j in squares:
        cells[i : i + 3, j : j + 3] = 1
    return cells


def counted(predicted, truth, visible=VISIBLE):
    counts = IntersectionCounts()
    counts.add(predicted.astype(np.float32), truth, visible, GRID)
    return counts.found, counts.missed, counts.invented


def test_patches_have_their_centres_in_metres():
    patches = find_patches(raster((2, 3), (10, 12)) != 0, VISIBLE, GRID)
    assert patches.centres_xy.tolist() == [[3.5, -5.5], [11.5, 3.5]]
    assert patches.mostly_visible.tolist() == [True, True]


def test_specks_are_no_patches_and_corners_connect():
    cells = raster((2, 3), (5, 6))  # they touch at a corner
    cells[15, 15] = 1
    assert find_patches(cells != 0, VISIBLE, GRID).centres_xy.tolist() == [[5.0, -4.0]]


def test_nearest_pair_first_and_one_to_one():
    """Truth 0 is nearest to prediction 1, which leaves truth 1 to prediction 0; prediction 2 is too far."""
    predicted = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0]])
    truth = np.array([[1.2, 0.0], [-1.0, 0.0]])
    assert match_nearest(predicted, truth, 3.0) == [(1, 0), (0, 1)]
    assert match_nearest(predicted, truth, 0.5) == [(1, 0)]


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 2), (2, 0)])
def test_nothing_to_match(n, m):
    assert match_nearest(np.zeros((n, 2)), np.zeros((m, 2)), 3.0) == []


def test_intersections_within_three_metres():
    assert counted(raster((5, 7)), raster((5, 4))) == (1, 0, 0)  # 3 m aside
    assert counted(raster((5, 8)), raster((5, 4))) == (0, 1, 1)  # 4 m aside
    assert counted(raster((5, 4)), raster()) == (0, 0, 1)
    assert counted(raster(), raster()) == (0, 0, 0)


def test_hidden_intersections_neither_count_nor_harm():
    hidden = VISIBLE.copy()
    hidden[:, :10] = False
    assert counted(raster((5, 4)), raster(), hidden) == (0, 0, 0)  # predicted where nobody can say
    assert counted(raster(), raster((5, 4)), hidden) == (0, 0, 0)  # there, but nobody can see it
    assert counted(raster((5, 4)), raster((5, 4)), hidden) == (0, 0, 0)
    assert counted(raster((5, 12)), raster((5, 12)), hidden) == (1, 0, 0)


def test_precision_and_recall_are_pooled():
    counts = IntersectionCounts()
    counts.found, counts.missed, counts.invented = 3, 1, 2
    assert counts.report() == {"precision": 0.6, "recall": 0.75}
    assert IntersectionCounts().report() == {"precision": None, "recall": None}


class Predicted(NamedTuple):
    points_xy: np.ndarray
    confidence: float


LINE = np.array([[0.0, 0.0], [10.0, 0.0]])


def aside(distance_m):
    """Move the line to the left."""
    return LINE + np.array([0.0, distance_m])


def test_chamfer_distance_of_parallel_lines_is_their_distance():
    assert chamfer_distance_m(LINE, aside(0.7)) == pytest.approx(0.7)
    assert chamfer_distance_m(LINE, LINE[::-1]) == pytest.approx(0.0)


def test_chamfer_distance_counts_what_is_missing():
    """Half the line: its own points are all on the other; points of the whole are 0..5 m away in the second half."""
    half = np.array([[0.0, 0.0], [5.0, 0.0]])
    stations = np.linspace(0, 10, 21)
    assert chamfer_distance_m(LINE, half) == pytest.approx(np.maximum(stations - 5, 0).mean() / 2)


def test_chamfer_distance_is_that_of_dense_points():
    rng = np.random.default_rng(4)
    for _ in range(5):
        a, b = (np.cumsum(rng.normal(0, 2, (6, 2)), axis=0) for _ in range(2))
        dense = [_dense(line) for line in (a, b)]
        gaps = np.linalg.norm(dense[0][:, None] - dense[1][None], axis=-1)
        wanted = (gaps.min(axis=1).mean() + gaps.min(axis=0).mean()) / 2
        assert chamfer_distance_m(a, b) == pytest.approx(wanted, rel=0.05)


def _dense(line, spacing_m=0.02):
    """Points along a polyline, plainly."""
    points = []
    for start, stop in itertools.pairwise(line):
        count = int(np.linalg.norm(stop - start) / spacing_m)
        points += [start + (stop - start) * k / count for k in range(count)]
    return np.array(points)


def test_a_point_is_a_polyline_too():
    assert chamfer_distance_m(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]])) == pytest.approx(5.0)


def ap(predicted, truth):
    counts = PolylineCounts()
    counts.add(predicted, truth)
    return counts.report()["chamfer_ap"]


def test_average_precision_by_threshold():
    """0.7 m off: wrong at 0.5, right at 1.0 and 1.5."""
    assert ap([Predicted(aside(0.7), 0.9)], [LINE]) == {
        "0.5": 0.0,
        "1.0": 1.0,
        "1.5": 1.0,
        "mean": pytest.approx(2 / 3, abs=1e-4),
    }


def test_the_second_on_the_same_line_is_wrong():
    """The surer one takes the line, the other finds nothing: one of two lines is found, at full precision."""
    near, exact = Predicted(aside(0.3), 0.9), Predicted(LINE, 0.6)
    assert ap([exact, near], [LINE, aside(20)])["0.5"] == 0.5
    assert ap([exact, near], [LINE])["0.5"] == 1.0


def test_wrong_before_right_costs_precision():
    assert ap([Predicted(aside(9), 0.9), Predicted(LINE, 0.5)], [LINE])["1.0"] == 0.5


def test_no_true_polyline_has_no_figure():
    assert ap([Predicted(LINE, 0.5)], []) == {"0.5": None, "1.0": None, "1.5": None, "mean": None}
    assert ap([], [LINE])["1.0"] == 0.0


def test_average_precision_is_that_of_plain_code():
    """Against the sum over recall steps of the best precision at that recall or beyond."""
    rng = np.random.default_rng(7)
    scores = rng.permutation(200)[:60]
    right = rng.random(60) < 0.6
    hits = np.zeros((2, 200), dtype=np.int64)
    hits[right.astype(int), scores] = 1
    order = np.argsort(-scores)
    points = [(right[order[: k + 1]].sum() / 50, right[order[: k + 1]].mean()) for k in range(60)]
    area = sum(max(p for r, p in points if r >= step / 50) / 50 for step in range(1, right.sum() + 1))
    assert average_precision(hits, 50) == pytest.approx(area)


VIEW = BevGrid(0.0, 40.0, -8.0, 8.0, 0.5)
ALONG = np.array([(0.25, 0.25), (39.75, 0.25)])


def seen_between(*ranges):
    x = VIEW.centres()[..., 0]
    return np.logical_or.reduce([(first < x) & (x < last) for first, last in ranges])


def test_a_line_in_sight_stays_as_it_is():
    (part,) = visible_stretches(ALONG, np.ones(VIEW.shape, np.bool_), VIEW)
    assert part[[0, -1]].tolist() == ALONG.tolist()


@pytest.mark.parametrize(("gap_m", "count"), [(2.0, 1), (8.0, 2)])
def test_a_line_is_cut_where_it_is_hidden_for_long(gap_m, count):
    parts = visible_stretches(ALONG, seen_between((5, 15), (15 + gap_m, 40)), VIEW)
    assert len(parts) == count
    assert parts[0][0, 0] == pytest.approx(5, abs=1.0)  # a cell beside a visible one is not hidden
    assert parts[-1][-1, 0] == pytest.approx(39.75)


def test_short_stretches_and_hidden_lines_are_left_out():
    assert visible_stretches(ALONG, seen_between((5, 6.5)), VIEW) == []
    assert visible_stretches(ALONG, np.zeros(VIEW.shape, np.bool_), VIEW) == []


def test_points_off_the_grid_are_hidden():
    (part,) = visible_stretches(ALONG + np.array((20.0, 0.0)), np.ones(VIEW.shape, np.bool_), VIEW)
    assert part[-1, 0] < 40.0
