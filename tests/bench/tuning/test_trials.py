from __future__ import annotations

import pytest
from octobev.bench.spread import Turns
from octobev.bench.tuning.trials import fastest, is_faster


def turns(**sides: list[float]) -> Turns:
    return Turns({name: tuple(samples) for name, samples in sides.items()})


@pytest.mark.parametrize(
    ("samples", "faster"),
    [
        ([90.0, 90.0, 90.0, 90.0], True),
        ([98.0, 98.0, 98.0, 98.0], False),  # by less than the margin
        ([50.0, 50.0, 130.0, 130.0], False),  # in two rounds of four only
        ([50.0, 90.0, 90.0, 130.0], False),
        ([50.0, 50.0, 50.0, 50.0, 130.0], True),
    ],
)
def test_faster_is_by_a_margin_and_in_most_rounds(samples, faster):
    assert is_faster(turns(a=samples, b=[100.0] * len(samples)), "a", "b") is faster


def test_rounds_in_which_the_machine_was_busy_count_by_their_ratio():
    busy = turns(a=[80.0, 800.0, 80.0, 800.0], b=[100.0, 1000.0, 100.0, 1000.0])
    assert is_faster(busy, "a", "b")


def test_the_fastest_of_those_that_may_be_taken_is_taken():
    found = turns(old=[100.0] * 4, good=[80.0] * 4, better=[70.0] * 4, wrong=[10.0] * 4)
    assert fastest(found, "old", ["old", "good", "better"]) == "better"
    assert fastest(found, "old", ["good"]) == "good"


def test_the_one_in_use_stays_where_nothing_is_faster():
    found = turns(old=[100.0] * 4, same=[99.0] * 4, slower=[120.0] * 4)
    assert fastest(found, "old", ["old", "same", "slower"]) == "old"
    assert fastest(found, "old", []) == "old"
