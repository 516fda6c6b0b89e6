"""Value types of the road layout's geometry."""

import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.geometry import Arm, Corridor, Intersection, Polyline

SQUARE = np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 2.0), (0.0, 2.0)])


def test_lines_are_copied_and_read_only():
    points = np.array([(0.0, 0.0), (3.0, 4.0)])
    line = Polyline(points, 0.5)
    points[:] = 7
    assert line.points_xy.tolist() == [[0, 0], [3, 4]]
    assert line.length_m == 5
    assert not line.closed
    with pytest.raises(ValueError, match="read-only"):
        line.points_xy[0] = 1


def test_a_line_that_ends_where_it_begins_is_closed():
    assert Polyline(np.concatenate((SQUARE, SQUARE[:1])), 1.0).closed


def test_area_and_centre_of_an_intersection():
    place = Intersection(SQUARE + 10, (), True, 1.0)
    assert place.area_m2 == 8
    np.testing.assert_allclose(place.centre_xy, (12, 11))


def test_centre_of_an_outline_without_area_is_its_mean():
    np.testing.assert_allclose(Intersection([(0, 0), (2, 0), (4, 0)], (), True, 1.0).centre_xy, (2, 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Polyline(np.zeros((1, 2)), 1.0), r"points of a line must be 2 or more finite x, y, got \(1, 2\)"),
        (lambda: Polyline(np.zeros((2, 3)), 1.0), r"points of a line must be 2 or more finite x, y, got \(2, 3\)"),
        (lambda: Polyline(np.full((2, 2), np.nan), 1.0), "points of a line must be 2 or more finite"),
        (lambda: Polyline(SQUARE, 1.5), "confidence must be 0 to 1, got 1.5"),
        (lambda: Polyline(SQUARE, float("nan")), "confidence must be 0 to 1, got nan"),
        (lambda: Intersection(SQUARE[:2], (), True, 1.0), "outline of an intersection must be 3 or more finite"),
        (lambda: Intersection(SQUARE, (), True, -1.0), "confidence must be 0 to 1, got -1"),
        (lambda: Corridor(SQUARE, np.ones(3), np.zeros(4), 1.0), r"width_m must be 4 finite numbers, got \(3,\)"),
        (lambda: Corridor(SQUARE, np.zeros(4), np.zeros(4), 1.0), "width_m must be positive, got 0.0"),
        (lambda: Corridor(SQUARE, np.ones(4), np.full(4, np.inf), 1.0), "direction_rad must be 4 finite numbers"),
        (lambda: Corridor(SQUARE, np.ones(4), np.zeros(4), 2.0), "confidence must be 0 to 1, got 2"),
        (lambda: Arm(0.0, 0.0, 0.0, 0.0), "arm must be finite, its width positive, got"),
        (lambda: Arm(0.0, np.nan, 0.0, 1.0), "arm must be finite, its width positive, got"),
    ],
)
def test_values_that_no_layout_can_have(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()
