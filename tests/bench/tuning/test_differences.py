from __future__ import annotations

import math

import numpy as np
import pytest
from octobev.bench.tuning.differences import difference, digest
from octobev.fusion.grid import BevGrid
from octobev.runtime.predictions import BevTensor, CameraOutput, Predictions, Provenance, RoadLayout, StateStatus

GRID = BevGrid(0.0, 4.0, -2.0, 2.0, 1.0)


def layout(*changes: float) -> RoadLayout:
    probability = np.zeros((1, 4, 4), np.float32)
    probability.flat[: len(changes)] = changes
    return RoadLayout(GRID, ("road",), probability, np.ones((4, 4), bool), np.zeros((4, 4), np.uint64))


def depth(*values: float) -> dict[str, CameraOutput]:
    return {"front": CameraOutput("front", "depth", np.array([values], np.float32), (), np.eye(3))}


def predictions(bev: dict | None = None, cameras: dict | None = None) -> Predictions:
    return Predictions(
        0, 0, ("front",), np.ones(1, bool), np.zeros(1, np.int64), {}, bev or {}, cameras or {}, {},
        StateStatus(True, None, 0), Provenance("b", "", "", (), (), 1),
    )  # fmt: skip


def test_equal_results_differ_by_nothing():
    same = [predictions({"road": layout(0.5)}, {"depth": depth(1, 2)})]
    found = difference(same, same)
    assert found is not None
    assert (found.largest, found.near) == (0.0, 1.0)


def test_largest_difference_and_share_of_near_values_are_over_all_steps():
    found = difference(
        [predictions({"road": layout(0.5)}), predictions({"road": layout(0.25, 0.05)})],
        [predictions({"road": layout(0.5)}), predictions({"road": layout(0.0, 0.0)})],
    )
    assert found is not None
    assert (found.largest, found.output) == (0.25, "road")
    assert found.near == pytest.approx(31 / 32)


def test_values_that_are_no_probabilities_count_as_a_share_of_the_largest():
    found = difference([predictions({}, {"depth": depth(45, 1)})], [predictions({}, {"depth": depth(50, 1)})])
    assert found is not None
    assert found.largest == pytest.approx(0.1)
    assert found.output == "depth"


def test_output_with_the_smallest_share_counts():
    ours = predictions({"road": layout(), "other": layout()})
    found = difference([predictions({"road": layout(0.9), "other": layout(0.5, 0.5)})], [ours])
    assert found is not None
    assert (found.output, found.near) == ("road", 14 / 16)


def test_what_only_one_of_them_gave_is_infinitely_far():
    for pair in [({"road": layout()}, {}), ({}, {"road": layout()})]:
        found = difference([predictions(pair[0])], [predictions(pair[1])])
        assert found is not None
        assert (found.largest, found.near) == (math.inf, 0.0)


def test_integers_are_not_compared():
    whole = [predictions({"raw": BevTensor(GRID, np.zeros((1, 2), np.int64))})]
    assert difference(whole, whole) is None


def test_digest_tells_bits_apart():
    some = [predictions({"road": layout(0.5)})]
    assert digest(some) == digest([predictions({"road": layout(0.5)})])
    assert digest(some) != digest([predictions({"road": layout(np.nextafter(np.float32(0.5), np.float32(1)))})])
