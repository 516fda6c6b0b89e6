"""Objects of heat maps against plain NumPy; by hand in tests/runtime/test_detection_output.py."""

import numpy as np
import pytest
from octobev._ext import objects


def find(heat, sides, stride=1.0, threshold=0.3, max_overlap=1.0, most=None):
    """Boxes, scores and classes; None: room for all peaks."""
    classes, h, w = heat.shape
    most = classes * ((h + 1) // 2) * ((w + 1) // 2) if most is None else most
    found = np.full((most, 4), np.nan), np.full(most, np.nan, np.float32), np.full(most, 99, np.uint16)
    count = objects.find_objects(heat, sides, stride, threshold, max_overlap, *found)
    return tuple(array[:count] for array in found)


def reference(heat, sides, stride, threshold, max_overlap, most):
    """The same, step by step."""
    (class_ids, rows, columns), scores = reference_peaks(heat, threshold)
    best = np.argsort(-scores, kind="stable")[:most]
    class_ids, rows, columns, scores = class_ids[best], rows[best], columns[best], scores[best]
    centres = (np.stack((columns, rows), axis=-1) + 0.5) * stride - 0.5
    distances = np.maximum(sides[:, rows, columns].T.astype(np.float64), 0)
    boxes = np.concatenate((centres - distances[:, :2], centres + distances[:, 2:]), axis=1)
    stays = reference_stays(boxes, class_ids, max_overlap)
    return boxes[stays], scores[stays], class_ids[stays]


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


def assert_same(found, wanted):
    for array, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 9), (2, 9, 1), (3, 2, 2), (2, 17, 23), (0, 4, 4), (2, 0, 3), (2, 3, 0)]
)
@pytest.mark.parametrize("levels", [3, 1000])
@pytest.mark.parametrize("most", [1, 5, 1000])
def test_equals_reference(shape, levels, most):
    """Few levels: many neighbours and peaks are equal."""
    rng = np.random.default_rng(levels)
    heat = rng.integers(0, levels, shape).astype(np.float32) / levels
    sides = rng.normal(4, 4, (4, *shape[1:])).astype(np.float32)
    for max_overlap in (0.0, 0.3, 1.0):
        wanted = reference(heat, sides, 4.0, 0.3, max_overlap, most)
        for layout in (heat, np.ascontiguousarray(heat.transpose(1, 2, 0)).transpose(2, 0, 1)):
            assert_same(find(layout, sides, 4.0, 0.3, max_overlap, most), wanted)


@pytest.mark.parametrize("layout", ["planes", "pixels", "neither"])
def test_a_peak_is_found_wherever_it_is(layout):
    heat, sides = np.zeros((2, 6, 40), np.float32), np.zeros((4, 6, 40), np.float32)
    for c, v, u in ((0, 0, 0), (1, 0, 0), (0, 5, 39), (1, 5, 39), (1, 3, 17)):
        heat[:] = 0
        heat[c, v, u] = 0.7
        given = {
            "planes": heat,
            "pixels": np.ascontiguousarray(heat.transpose(1, 2, 0)).transpose(2, 0, 1),
            "neither": np.ascontiguousarray(heat.transpose(2, 1, 0)).transpose(2, 1, 0),
        }[layout]
        assert_same(find(given, sides), ([[u, v, u, v]], [np.float32(0.7)], [c]))


def test_peaks_may_stand_as_close_as_they_can():
    heat = np.zeros((1, 5, 7), np.float32)
    heat[:, ::2, ::2] = 1
    assert len(find(heat, np.zeros((4, 5, 7), np.float32))[1]) == 12


def test_refuses_arrays_that_do_not_match():
    heat, sides = np.zeros((2, 4, 4), np.float32), np.zeros((4, 4, 4), np.float32)
    found = np.zeros((8, 4)), np.zeros(8, np.float32), np.zeros(8, np.uint16)
    with pytest.raises(ValueError, match=r"sides must be of shape \(4, 4, 4\), got \(3, 4, 4\)"):
        objects.find_objects(heat, sides[:3], 1, 0.5, 1, *found)
    with pytest.raises(ValueError, match="boxes must be of four numbers, got 5"):
        objects.find_objects(heat, sides, 1, 0.5, 1, np.zeros((8, 5)), *found[1:])
    with pytest.raises(ValueError, match=r"scores and class_ids must be of length 8, got \(7, 8\)"):
        objects.find_objects(heat, sides, 1, 0.5, 1, found[0], found[1][:7], found[2])
    with pytest.raises(ValueError, match=r"scores and class_ids must be of length 8, got \(8, 7\)"):
        objects.find_objects(heat, sides, 1, 0.5, 1, *found[:2], found[2][:7])
