"""Lines from hand-made rasters: where they run to a fraction of a cell, and what is one line."""

import numpy as np
import pytest
from octobev import BevGrid
from octobev.errors import InvalidArgument
from octobev.fusion.polylines import LineRules, trace_polylines

GRID = BevGrid(-24.0, 40.0, -24.0, 24.0, 0.5)
X, Y = np.moveaxis(GRID.centres(), -1, 0)
EVERYWHERE = np.ones(GRID.shape, np.bool_)


def lines_of(probability, observed=EVERYWHERE, grid=GRID, **rules):
    return trace_polylines(grid, np.asarray(probability, dtype=np.float32), observed, LineRules(**rules))


def band(distance, width_m=0.5):
    """Share of each cell that a band covers, by the distance of its centre from the middle: what a network may say."""
    cell_m = GRID.resolution_m
    return np.clip((width_m + cell_m) / 2 - np.abs(distance), 0, min(width_m, cell_m)) / cell_m


def errors(line, distance_of, margin_m=0.0):
    """Distance of the line, densely sampled, from where it should run."""
    points = line.points_xy
    arc = np.concatenate(([0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))))
    at = np.arange(margin_m, arc[-1] - margin_m, 0.1)
    return np.abs(distance_of(np.interp(at, arc, points[:, 0]), np.interp(at, arc, points[:, 1])))


@pytest.mark.parametrize("offset_m", [0.0, 0.07, 0.2, 0.25, 0.41])
@pytest.mark.parametrize("width_m", [0.5, 1.0, 1.6])
def test_a_straight_line_is_found_within_a_twentieth_of_a_cell(offset_m, width_m):
    (line,) = lines_of(band(Y - offset_m, width_m), threshold=0.2)
    assert errors(line, lambda _, y: y - offset_m).max() < 0.025
    assert len(line.points_xy) == 2
    assert line.length_m == pytest.approx(64, abs=0.5)
    assert line.points_xy[0, 0] < line.points_xy[1, 0]


@pytest.mark.parametrize("angle_deg", [10, 23, 45, 71, 100, 170])
def test_a_slanted_line_of_whole_cells_is_found_within_a_quarter_of_a_cell(angle_deg):
    normal = (-np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg)))

    def distance(x, y):
        return normal[0] * x + normal[1] * y - 0.37

    (line,) = lines_of(np.abs(distance(X, Y)) < 0.25)
    assert errors(line, distance).max() < 0.13
    assert errors(line, distance).mean() < 0.05


@pytest.mark.parametrize("radius_m", [6.0, 8.0, 15.0, 20.0])
def test_a_circle_is_one_closed_line_of_its_radius(radius_m):
    def distance(x, y):
        return np.hypot(x - 3.3, y + 1.2) - radius_m

    (line,) = lines_of(band(distance(X, Y)), threshold=0.3)
    assert line.closed
    assert errors(line, distance).max() < 0.17
    assert line.length_m == pytest.approx(2 * np.pi * radius_m, rel=0.02)


def test_a_circle_of_whole_cells_is_found_within_half_a_cell():
    def distance(x, y):
        return np.hypot(x - 3.3, y + 1.2) - 12.0

    (line,) = lines_of(np.abs(distance(X, Y)) < 0.5)
    assert line.closed
    assert errors(line, distance).max() < 0.25


def test_parallel_lines_a_lane_apart_stay_apart():
    lines = lines_of(band(Y - 1.1) + band(Y - 4.1) + band(Y + 1.9))
    assert [len(line.points_xy) for line in lines] == [2, 2, 2]
    found = sorted(float(line.points_xy[:, 1].mean()) for line in lines)
    assert found == pytest.approx([-1.9, 1.1, 4.1], abs=0.025)


def test_at_a_t_the_straight_line_goes_on_and_the_other_ends_there():
    t = np.maximum(band(Y - 1.2, 1.0), np.where(Y > 1.2, band(X - 10.3, 1.0), 0))
    through, stem = lines_of(t)
    assert errors(through, lambda _, y: y - 1.2).max() < 0.15
    assert through.length_m == pytest.approx(64, abs=0.5)
    assert errors(stem, lambda x, _: x - 10.3).max() < 0.1
    ends = stem.points_xy[[0, -1], 1]
    assert ends.min() == pytest.approx(1.2, abs=0.3), "the stem reaches the line"
    assert ends.max() == pytest.approx(24, abs=0.5)


def test_at_a_crossing_both_lines_go_straight_on():
    along, across = lines_of(np.maximum(band(Y - 1.2, 1.0), band(X - 10.3, 1.0)))
    assert errors(along, lambda _, y: y - 1.2).max() < 0.15
    assert errors(across, lambda x, _: x - 10.3).max() < 0.15


def test_a_right_angle_is_one_line():
    corner = np.where(
        (X < 10) | (Y < 1), np.maximum(np.where(X < 10.3, band(Y - 1), 0), np.where(Y < 1.3, band(X - 10), 0)), 0
    )
    (line,) = lines_of(corner)
    assert np.linalg.norm(line.points_xy - (10, 1), axis=1).min() < 1.0


def test_a_short_side_branch_is_cut_off():
    branch = np.where((Y > 0) & (Y < 2), band(X - 10.3), 0)
    (line,) = lines_of(np.maximum(band(Y, 1.0), branch))
    assert errors(line, lambda _, y: y).max() < 0.3
    assert len(lines_of(np.maximum(band(Y, 1.0), branch), spur_m=0, min_length_m=0.5)) == 2


def dashes(dash_m=3.0, period_m=6.0):
    return np.where(X % period_m < dash_m, band(Y - 1.2), 0)


def test_dashes_are_joined_within_the_gap_that_is_allowed():
    (line,) = lines_of(dashes(), join_m=4.0)
    assert line.length_m > 60
    assert line.confidence == pytest.approx(0.6, abs=0.15), "gaps count as nothing"
    apart = lines_of(dashes(), join_m=2.0, min_length_m=2.0)
    assert len(apart) == 11
    assert all(line.length_m == pytest.approx(3.0, abs=0.5) for line in apart[:-1])
    assert lines_of(dashes(), join_m=0.0) == (), "each is too short to be a line"


def test_lines_that_do_not_point_at_each_other_are_not_joined():
    aside = np.where(X < 0, band(Y - 1), 0) + np.where(X > 2.5, band(Y - 3.5), 0)
    assert len(lines_of(aside)) == 2
    across = np.where(X < 0, band(Y - 1), 0) + np.where(Y > -5, band(X - 3), 0)
    assert len(lines_of(across)) == 2


def test_a_gap_that_nobody_observed_is_bridged_when_it_is_small():
    line = band(Y - 1.2)
    hole = EVERYWHERE.copy()
    hole[60:66] = False
    assert [round(found.length_m) for found in lines_of(line, hole)] == [64]
    hole[50:80] = False
    assert len(lines_of(line, hole)) == 2


def test_what_is_not_observed_says_nothing():
    assert lines_of(band(Y - 1.2), np.zeros_like(EVERYWHERE)) == ()


def test_the_border_of_what_is_observed_is_no_line():
    observed = (np.hypot(X, Y) < 15) & ~((X > 3) & (Y > 2))
    assert lines_of(np.full(GRID.shape, 0.9), observed) == ()


def test_a_line_along_the_border_of_what_is_observed_is_not_pushed_away():
    (line,) = lines_of(band(Y - 0.8, 1.0), Y < 1.9)
    assert errors(line, lambda _, y: y - 0.8).max() < 0.15


def test_an_area_is_no_line():
    assert lines_of(np.abs(Y) < 3) == ()
    assert lines_of(np.hypot(X, Y) < 6) == ()


@pytest.mark.parametrize("value", [0.0, 1.0, 0.49])
def test_empty_and_full_rasters_have_no_lines(value):
    assert lines_of(np.full(GRID.shape, value)) == ()


def test_what_is_less_likely_than_the_threshold_is_no_line():
    assert lines_of(0.45 * band(Y - 0.25)) == ()
    (line,) = lines_of(0.45 * band(Y - 0.25), threshold=0.3)
    assert line.confidence == pytest.approx(0.45)


def test_the_longest_line_comes_first():
    lines = lines_of(np.where(X < 0, band(Y - 6), 0) + band(Y) + np.where(X > 10, band(Y + 6), 0))
    assert [round(float(line.points_xy[0, 1])) for line in lines] == [0, -6, 6]


def test_a_mirrored_raster_has_the_mirrored_lines():
    raster = band(np.hypot(X - 20, Y - 20) - 18) + np.where(X < 5, band(Y + 8), 0)
    lines, mirrored = lines_of(raster), lines_of(raster[:, ::-1])
    for line, other in zip(lines, mirrored, strict=True):
        assert other.length_m == pytest.approx(line.length_m, abs=0.5)


def test_noise_ends_and_is_the_same_again():
    noise = np.random.default_rng(5).random(GRID.shape)
    lines, again = lines_of(noise), lines_of(noise)
    assert all(np.isfinite(line.points_xy).all() for line in lines)
    assert [line.points_xy.tobytes() for line in lines] == [line.points_xy.tobytes() for line in again]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (5, 3)])
def test_small_grids(shape):
    grid = BevGrid(0.0, shape[0] * 0.5, 0.0, shape[1] * 0.5, 0.5)
    lines_of(np.ones(shape), np.ones(shape, np.bool_), grid)
    lines_of(np.eye(*shape), np.ones(shape, np.bool_), grid)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"threshold": 0.0}, "threshold must be more than 0 and at most 1, got 0.0"),
        ({"threshold": 1.5}, "threshold must be more than 0 and at most 1, got 1.5"),
        ({"faint": 0.0}, "faint must be more than 0 and at most 1, got 0.0"),
        ({"join_m": -1.0}, "join_m must be finite and not negative, got -1.0"),
        ({"tolerance_m": float("nan")}, "tolerance_m must be finite and not negative, got nan"),
    ],
)
def test_rules_refuse(rules, message):
    with pytest.raises(InvalidArgument, match=message):
        LineRules(**rules)


def test_rasters_of_another_shape_are_refused():
    with pytest.raises(InvalidArgument, match=r"probability must be float32 \(128, 96\), got float32 \(3, 3\)"):
        lines_of(np.zeros((3, 3)))
    with pytest.raises(InvalidArgument, match=r"observed must be bool \(128, 96\), got bool \(3, 3\)"):
        lines_of(np.zeros(GRID.shape), np.zeros((3, 3), np.bool_))


def test_a_line_goes_on_where_it_is_faint():
    far = X > 10
    (line,) = lines_of(band(Y - 0.2, 1.0) * np.where(far, 0.4, 0.9))
    assert line.length_m == pytest.approx(64, abs=0.5)
    assert line.confidence == pytest.approx((0.9 * 34 + 0.4 * 30) / 64, abs=0.03)
    (near,) = lines_of(band(Y - 0.2, 1.0) * np.where(far, 0.2, 0.9))
    assert near.length_m == pytest.approx(34, abs=1.0)


def test_a_line_that_is_faint_everywhere_is_none():
    assert lines_of(band(Y - 0.2, 1.0) * 0.4) == ()
    assert len(lines_of(band(Y - 0.2, 1.0) * 0.4, threshold=0.35)) == 1


def test_a_fainter_line_than_the_threshold_asks_for_is_not_looked_for():
    assert lines_of(band(Y - 0.2, 1.0) * 0.15, threshold=0.2, faint=0.1) == ()
    assert len(lines_of(band(Y - 0.2, 1.0) * 0.25, threshold=0.2, faint=1.0)) == 1
