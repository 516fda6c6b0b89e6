"""Detections as a value: what they hold, and what they refuse to hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from octobev import Detections
from octobev.errors import InvalidArgument

BOXES = np.array([[1, 2, 30, 40], [-0.5, 0, 3, 7]], np.float32)
SCORES = np.array([0.9, 0.5], np.float32)
CLASS_IDS = np.array([1, 0], np.uint16)


def detections(**changes: Any) -> Detections:
    fields = {"boxes": BOXES, "scores": SCORES, "class_ids": CLASS_IDS} | changes
    return Detections("front", ("vehicle", "pedestrian"), **fields)


def test_arrays_are_copied_and_read_only() -> None:
    boxes = BOXES.copy()
    found = detections(boxes=boxes)
    boxes[0] = 0
    np.testing.assert_array_equal(found.boxes, BOXES)
    with pytest.raises(ValueError, match="read-only"):
        found.scores[0] = 1


def test_names_and_length() -> None:
    assert (len(detections()), detections().names, detections().kind) == (2, ("pedestrian", "vehicle"), "detections")
    assert list(detections().arrays()) == ["boxes", "scores", "class_ids"]


def test_nothing_found_is_a_value() -> None:
    found = detections(boxes=BOXES[:0], scores=SCORES[:0], class_ids=CLASS_IDS[:0])
    assert (len(found), found.names, found.boxes.shape) == (0, (), (0, 4))


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("boxes", BOXES.astype(np.float64), r"boxes must be float32 \[2, 4\], got float64 \[2, 4\]"),
        ("boxes", BOXES[:1], r"boxes must be float32 \[2, 4\], got float32 \[1, 4\]"),
        ("scores", SCORES[:1], r"boxes must be float32 \[1, 4\], got float32 \[2, 4\]"),
        ("scores", SCORES.astype(np.float16), r"scores must be float32 \[2\], got float16 \[2\]"),
        ("class_ids", CLASS_IDS.astype(np.int64), r"class_ids must be uint16 \[2\], got int64 \[2\]"),
        ("boxes", BOXES + np.float32(np.nan), "boxes must be finite, got NaN or infinity"),
        ("boxes", BOXES[:, ::-1].copy(), "boxes must be x_min <= x_max and y_min <= y_max, got a box that is not"),
        ("scores", SCORES * 2, "scores must be 0..1, got "),
        ("scores", SCORES + np.float32(np.nan), "scores must be 0..1, got "),
        ("class_ids", CLASS_IDS + np.uint16(1), "class_ids must be below 2, got 2"),
    ],
)
def test_what_no_detections_can_be_is_refused(field: str, value: np.ndarray, match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        detections(**{field: value})
