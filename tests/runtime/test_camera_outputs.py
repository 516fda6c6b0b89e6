"""Dense outputs that a network gives as rows: what is checked, put right and handed on as planes."""

import re

import numpy as np
import pytest
from octobev.runtime.camera_outputs import DenseOutput
from octobev.runtime.manifest import ImageOutput
from octobev.runtime.session import TensorSpec

SHAPE, CLASSES = (3, 5), ("a", "b", "c", "d", "e")


@pytest.fixture(params=[np.float32, np.float16], ids=["float32", "float16"])
def segmentation(request):
    """One of two cameras, and the memory that the network writes its rows to."""
    spec = ImageOutput(tensor="rows", kind="segmentation", layout="rows", stride=2, classes=CLASSES)
    tensor = TensorSpec("rows", np.dtype(request.param), (15, 5))
    return DenseOutput("here", spec, tensor, shape=SHAPE, cameras=2, batch=1, cast_down=False)


def _write(output, camera):
    rows = output.bound(camera)["rows"]
    rows[:] = np.random.default_rng(camera).random(rows.shape)
    return rows


def _planes(rows):
    return rows.astype(np.float32).T.reshape(5, *SHAPE)


def test_rows_are_handed_on_as_planes_in_memory_of_their_own(segmentation):
    rows = _write(segmentation, 1)
    wanted = _planes(rows)
    assert segmentation.finish(1, {}) is None
    values = segmentation.values(1)
    again = segmentation.values(1)
    rows[:] = 0.25
    assert segmentation.finish(1, {}) is None
    np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(again, wanted)
    np.testing.assert_array_equal(segmentation.values(1), _planes(rows))
    assert values.flags.c_contiguous
    assert not np.may_share_memory(values, again)


@pytest.mark.parametrize(("place", "number", "wanted"), [(0, -0.0005, 0), (74, 1.00098, 1), (37, -0.0, 0)])
def test_what_rounding_took_out_of_0_to_1_is_put_right(segmentation, place, number, wanted):
    rows = _write(segmentation, 0)
    rows.flat[place] = number
    assert segmentation.finish(0, {}) is None
    expected = np.clip(_planes(rows), 0, 1)
    np.testing.assert_array_equal(segmentation.values(0), expected)
    assert expected.reshape(5, -1).T.flat[place] == wanted


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (np.nan, "network gave NaN or Inf in 1 of 75 numbers"),
        (-np.inf, "network gave NaN or Inf in 1 of 75 numbers"),
        (1.25, r"probabilities must be 0..1, got 0.2..1.25 \(is an activation to be declared\?\)"),
        (-0.25, r"probabilities must be 0..1, got -0.25..0.[0-9]+ "),
    ],
)
def test_what_is_no_probability_is_withheld_and_nothing_of_the_set_before_stays(segmentation, number, reason):
    rows = _write(segmentation, 0)
    assert segmentation.finish(0, {}) is None
    rows[:] = 0.2
    rows[7, 3] = number
    assert re.match(reason, segmentation.finish(0, {}))
    assert (segmentation.values(0) == 0).all()


def test_nothing_stays_of_a_camera_that_is_cleared(segmentation):
    _write(segmentation, 0)
    assert segmentation.finish(0, {}) is None
    segmentation.clear(0)
    assert (segmentation.values(0) == 0).all()
