"""Sides take turns, and what is said of their samples."""

import pytest
from octobev.bench.spread import Spread, Turns, take_turns, wall_ms
from octobev.errors import InvalidArgument


def test_sides_run_in_turns_until_they_are_steady_and_what_is_before_does_not_count():
    order, pauses = [], []
    figures = {"a": iter([9.0, 9.0, 8.0, 1.0, 8.0, 2.0]), "b": iter([9.0, 9.0, 9.0, 8.0, 8.0, 3.0, 8.0, 8.0, 4.0])}
    now = [0.0]
    seconds = {"a": 0.5, "b": 0.3}

    def side(name):
        def sample():
            order.append(name)
            now[0] += seconds[name]
            return next(figures[name])

        return sample

    turns = take_turns(
        {"a": side("a"), "b": side("b")},
        2,
        steady_s=0.5,
        warm_up=1,
        settle_s=0.5,
        sleep=pauses.append,
        clock=lambda: now[0],
    )
    assert order == ["a", "a", "b", "b", "b"] * 3
    assert pauses == [0.5] * 6
    assert turns.samples == {"a": (1.0, 2.0), "b": (3.0, 4.0)}


def test_ratio_is_of_neighbouring_rounds():
    turns = Turns({"slow": (4.0, 30.0, 6.0), "fast": (2.0, 10.0, 2.0)})
    assert turns.ratio("slow", "fast").median == 3.0
    assert turns.ratio("slow", "fast").samples == 3
    assert turns.fastest() == "fast"
    assert list(turns.spreads("us")) == ["slow, us", "fast, us"]


def test_spread_has_median_and_quartiles():
    spread = Spread.of([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (spread.median, spread.low, spread.high, spread.samples) == (3.0, 2.0, 4.0, 5)
    assert Spread.of([1 / 3]).as_dict() == {"median": 0.3333, "quartiles": [0.3333, 0.3333], "samples": 1}


def test_spread_of_nothing_is_refused():
    with pytest.raises(InvalidArgument, match="samples must be at least one, got none"):
        Spread.of([])


def test_wall_time_is_that_of_the_injected_clock():
    now = [10.0]

    def work():
        now[0] += 0.25

    assert wall_ms(work, lambda: now[0])() == 250.0
