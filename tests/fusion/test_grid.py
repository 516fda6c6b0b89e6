"""Metres and cells."""

from __future__ import annotations

import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.grid import BevGrid

GRID = BevGrid(-2.0, 4.0, -3.0, 3.0, 0.5)


def test_shape_and_centres_by_hand() -> None:
    assert GRID.shape == (12, 12)
    assert GRID.cells == 144
    centres = GRID.centres()
    assert centres.shape == (12, 12, 2)
    np.testing.assert_allclose(centres[0, 0], (-1.75, -2.75))
    np.testing.assert_allclose(centres[11, 0], (3.75, -2.75))
    np.testing.assert_allclose(centres[0, 11], (-1.75, 2.75))


def test_every_centre_lies_in_its_own_cell() -> None:
    grid = BevGrid(-24.0, 40.0, -24.0, 24.0, 0.1)
    cells, inside = grid.cell_of(grid.centres())
    assert inside.all()
    np.testing.assert_array_equal(cells, np.stack(np.indices(grid.shape), axis=-1))


def test_lower_edges_belong_to_the_grid_and_upper_edges_do_not() -> None:
    cells, inside = GRID.cell_of(np.array([[-2.0, -3.0], [4.0, 0.0], [0.0, 3.0], [-2.001, 0.0], [3.999, 2.999]]))
    assert inside.tolist() == [True, False, False, False, True]
    assert cells[0].tolist() == [0, 0]
    assert cells[1].tolist() == [12, 6]
    assert cells[3].tolist() == [-1, 6]
    assert cells[4].tolist() == [11, 11]


def test_points_without_a_place_are_outside() -> None:
    _, inside = GRID.cell_of(np.array([[np.nan, 0.0], [np.inf, 0.0], [0.0, -np.inf], [1e30, 0.0]]))
    assert not inside.any()


def test_reach_is_the_farthest_corner() -> None:
    assert BevGrid(-3.0, 1.0, -4.0, 2.0, 1.0).reach_m == pytest.approx(5.0)


def test_scaled_keeps_the_rectangle() -> None:
    half = GRID.scaled(2)
    assert half.shape == (6, 6)
    np.testing.assert_allclose(half.centres()[0, 0], GRID.centres()[:2, :2].mean(axis=(0, 1)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 1, 0, 1, 0), "grid must be finite with a positive resolution"),
        ((0, 1, 0, 1, -1), "grid must be finite with a positive resolution"),
        ((0, np.nan, 0, 1, 1), "grid must be finite"),
        ((0, np.inf, 0, 1, 1), "grid must be finite"),
        ((0, 1.05, 0, 1, 0.1), "grid extent in x must be a whole number of cells, at least one, got 10.5 cells"),
        ((0, 1, 1, 0, 0.1), "grid extent in y must be a whole number of cells, at least one, got -10 cells"),
        ((0, 0, 0, 1, 0.1), "grid extent in x must be a whole number of cells"),
    ],
)
def test_bad_grids_are_refused(values: tuple[float, ...], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        BevGrid(*values)


def test_an_odd_grid_has_no_half() -> None:
    with pytest.raises(InvalidArgument, match="a whole number of cells"):
        BevGrid(0, 3, 0, 4, 1).scaled(2)
