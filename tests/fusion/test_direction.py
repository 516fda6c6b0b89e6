import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.direction import CorridorDirection, doubled_angle
from octobev.fusion.grid import BevGrid

GRID = BevGrid(0.0, 2.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize("degrees", [-80.0, -45.0, 0.0, 30.0, 90.0])
def test_angle_is_half_of_the_vectors(degrees):
    double = 2 * np.radians(degrees)
    vectors = 0.3 * np.array([[np.cos(double), np.cos(double + 2 * np.pi)], [np.sin(double), np.sin(double)]])
    np.testing.assert_allclose(np.degrees(doubled_angle(vectors.astype(np.float32), axis=0)), degrees, atol=1e-4)


def test_opposite_directions_are_one():
    angles = np.array([0.4, 0.4 - np.pi])
    vectors = np.stack((np.cos(2 * angles), np.sin(2 * angles)), axis=1).astype(np.float32)
    np.testing.assert_allclose(doubled_angle(vectors, axis=1), 0.4, atol=1e-6)


def test_arrays_of_another_shape_are_refused():
    plane, mask, bits = np.zeros((2, 1), np.float32), np.zeros((2, 1), np.bool_), np.zeros((2, 1), np.uint64)
    assert list(CorridorDirection(GRID, plane, plane, mask, bits).arrays()) == [
        "direction_rad",
        "confidence",
        "observed",
        "seen_by",
    ]
    with pytest.raises(InvalidArgument, match=r"direction_rad must be float32 \(2, 1\), got float32 \(1, 2\)"):
        CorridorDirection(GRID, plane.T, plane, mask, bits)
    with pytest.raises(InvalidArgument, match=r"confidence must be float32 \(2, 1\), got float64"):
        CorridorDirection(GRID, plane, plane.astype(float), mask, bits)
