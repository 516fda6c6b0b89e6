"""Probabilities as bytes, against NumPy."""

import numpy as np
import pytest
from octobev._ext.octets import to_octets


def by_numpy(probability):
    return np.clip(np.rint(probability * np.float32(255)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("count", [0, 1, 7, 64, 1000])
def test_probabilities_are_rounded_as_numpy_does(count):
    probability = np.random.default_rng(count).random(count, dtype=np.float32)
    octets = np.full(count, 99, np.uint8)
    assert to_octets(probability, octets)
    np.testing.assert_array_equal(octets, by_numpy(probability))


def test_halves_go_to_the_even_neighbour():
    halves = (np.arange(255, dtype=np.float32) + np.float32(0.5)) / np.float32(255)
    octets = np.empty(255, np.uint8)
    assert to_octets(halves, octets)
    np.testing.assert_array_equal(octets, by_numpy(halves))
    assert {by_numpy(halves)[0], by_numpy(halves)[2]} == {0, 2}


def test_a_little_outside_is_cut():
    octets = np.empty(4, np.uint8)
    assert to_octets(np.array([-0.0018, -0.0, 1.0, 1.0018], np.float32), octets)
    assert octets.tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("astray", [np.nan, -np.nan, np.inf, -np.inf, -0.002, 1.002, 100.0, -1e5, 1e30, -3e38])
@pytest.mark.parametrize("place", [0, 31, 64, 99])
def test_what_is_no_probability_is_told(astray, place):
    probability = np.full(100, 0.5, np.float32)
    probability[place] = astray
    assert not to_octets(probability, np.empty(100, np.uint8))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"octets must be of length 3, got 2"):
        to_octets(np.zeros(3, np.float32), np.zeros(2, np.uint8))
