"""Peaks and suppression against plain NumPy; by hand in tests/runtime/test_detection_output.py."""

import numpy as np
import pytest
from octobev._ext import objects


def peaks(heat, threshold):
    classes, h, w = heat.shape
    room = classes * ((h + 1) // 2) * ((w + 1) // 2)
    places, scores = np.full((3, room), -1, np.int64), np.full(room, np.nan, np.float32)
    found = objects.find_peaks(heat, threshold, places, scores)
    return places[:, :found], scores[:found]


def reference_peaks(heat, threshold):
    classes, h, w = heat.shape
    framed = np.full((classes, h + 2, w + 2), -1, np.float32)
    framed[:, 1:-1, 1:-1] = heat
    flat, row = framed.ravel(), w + 2
    places = np.flatnonzero(flat > np.float32(threshold))
    for before in (-row - 1, -row, -row + 1, -1):
        kept = (flat[places] > flat[places + before]) & (flat[places] >= flat[places - before])
        places = places[kept]
    c, v, u = np.unravel_index(places, framed.shape)
    return np.stack((c, v - 1, u - 1)), flat[places]


def reference_stays(boxes, class_ids, max_overlap):
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    rivals = (shared > max_overlap * (areas[:, None] + areas - shared)) & (class_ids[:, None] == class_ids)
    stays = np.ones(len(boxes), np.bool_)
    for index in range(1, len(boxes)):
        stays[index] = not (rivals[index, :index] & stays[:index]).any()
    return stays


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (2, 9, 1), (3, 2, 2), (2, 17, 23), (0, 4, 4)])
@pytest.mark.parametrize("levels", [3, 1000])
def test_peaks_equal_reference(shape, levels):
    """Few levels: many neighbours are equal."""
    heat = np.random.default_rng(levels).integers(0, levels, shape).astype(np.float32) / levels
    for layout in (heat, np.ascontiguousarray(heat.transpose(1, 2, 0)).transpose(2, 0, 1)):
        places, scores = peaks(layout, 0.3)
        wanted_places, wanted_scores = reference_peaks(heat, 0.3)
        np.testing.assert_array_equal(places, wanted_places)
        np.testing.assert_array_equal(scores, wanted_scores)


def test_peaks_may_stand_as_close_as_they_can():
    heat = np.zeros((1, 5, 7), np.float32)
    heat[:, ::2, ::2] = 1
    assert len(peaks(heat, 0.5)[1]) == 12


@pytest.mark.parametrize("count", [0, 1, 2, 60])
@pytest.mark.parametrize("max_overlap", [0.0, 0.3, 1.0])
def test_suppression_equals_reference(count, max_overlap):
    rng = np.random.default_rng(count)
    low = rng.integers(0, 12, (count, 2)).astype(np.float64)
    boxes = np.concatenate((low, low + rng.integers(0, 9, (count, 2))), axis=1)
    class_ids = rng.integers(0, 2, count)
    stays = np.full(count, 7, np.uint8)
    objects.suppress(boxes, class_ids, max_overlap, stays)
    np.testing.assert_array_equal(stays, reference_stays(boxes, class_ids, max_overlap))


def test_refuses_too_little_room_and_arrays_that_do_not_match():
    heat = np.zeros((2, 4, 4), np.float32)
    with pytest.raises(ValueError, match=r"places must be of shape \(3, 8 or more\)"):
        objects.find_peaks(heat, 0.5, np.zeros((3, 7), np.int64), np.zeros(8, np.float32))
    with pytest.raises(ValueError, match="length of scores must be at least 8, got 7"):
        objects.find_peaks(heat, 0.5, np.zeros((3, 8), np.int64), np.zeros(7, np.float32))
    with pytest.raises(ValueError, match="boxes must be of four numbers"):
        objects.suppress(np.zeros((2, 5)), np.zeros(2, np.int64), 0.5, np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="class_ids and stays must be of length 2"):
        objects.suppress(np.zeros((2, 4)), np.zeros(2, np.int64), 0.5, np.zeros(3, np.uint8))
