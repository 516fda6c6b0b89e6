from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from octobev.errors import InvalidArgument
from octobev.sources.back_off import BackOff, Retries

S = 1_000_000_000
chances = st.floats(0, 1, exclude_max=True)


def test_waiting_times_double_up_to_the_longest():
    assert [BackOff().delay_s(failures, 0.0) for failures in (1, 2, 3, 4, 5, 6, 7, 1000)] == [
        *(0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0)
    ]


@settings(deadline=None)
@given(st.integers(1, 10_000), chances, st.floats(0.01, 5), st.floats(1, 100))
def test_every_waiting_time_is_within_the_bounds(failures, chance, shortest_s, ratio):
    back_off = BackOff(shortest_s, shortest_s * ratio)
    assert shortest_s <= back_off.delay_s(failures, chance) <= back_off.longest_s


@settings(deadline=None)
@given(st.integers(1, 10_000), chances)
def test_more_failures_never_wait_less(failures, chance):
    assert BackOff().delay_s(failures + 1, chance) >= BackOff().delay_s(failures, chance)


@settings(deadline=None)
@given(st.integers(1, 100), st.integers(0, 2**32))
def test_a_seed_gives_the_same_times_again(failures, seed):
    def times():
        retries = Retries(BackOff(), Random(seed))
        return [retries.failed(index * S) for index in range(failures)]

    assert times() == times()


def test_cameras_do_not_come_back_in_step():
    def third(seed):
        retries = Retries(BackOff(), Random(seed))
        return [retries.failed(0) for _ in range(3)][-1]

    assert len({third(seed) for seed in range(8)}) == 8


def test_a_steady_connection_wipes_out_the_failures_a_short_one_does_not():
    retries = Retries(BackOff(steady_s=5.0), Random(1))
    for _ in range(4):
        retries.failed(0)
    retries.delivered(10 * S)
    retries.delivered(14 * S)
    retries.failed(14 * S)
    assert retries.failures == 5
    retries.delivered(20 * S)
    retries.delivered(25 * S)
    assert 25.25 * S <= retries.failed(25 * S) <= 25.5 * S
    assert retries.failures == 1
    retries.failed(60 * S)  # nothing was delivered in between
    assert retries.failures == 2


@pytest.mark.parametrize(("shortest", "longest"), [(0, 1), (2, 1), (float("nan"), 1)])
def test_bounds_are_checked(shortest, longest):
    with pytest.raises(InvalidArgument, match="waiting times must be positive and in order, got"):
        BackOff(shortest, longest)
