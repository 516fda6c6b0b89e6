from __future__ import annotations

import threading

import pytest
from octobev.errors import InvalidArgument
from octobev.runtime.live.watchdog import Watchdog

S = 1_000_000_000


def elsewhere(call, *arguments) -> None:
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    thread.join()


def test_a_stage_that_does_not_return_is_stuck_after_its_limit() -> None:
    dog = Watchdog(1.0)
    dog.entered("network", 10 * S)
    assert dog.stalled(11 * S) == {}
    assert dog.stalled(12 * S) == {"network": 2.0}
    assert dog.left("network", 13 * S) == 3 * S
    assert dog.stalled(99 * S) == {}


def test_limits_of_single_stages() -> None:
    dog = Watchdog(1.0, {"network": 5.0})
    dog.entered("network", 0)
    dog.entered("publish", 0)
    assert dog.stalled(3 * S) == {"publish": 3.0}
    assert list(dog.stalled(6 * S).items()) == [("network", 6.0), ("publish", 6.0)]


def test_the_longest_of_several_threads_counts() -> None:
    dog = Watchdog(1.0)
    elsewhere(dog.entered, "decode", 0)
    dog.entered("decode", 2 * S)
    assert dog.stalled(4 * S) == {"decode": 4.0}
    assert dog.left("decode", 4 * S) == 2 * S  # this thread's, not the other's
    assert dog.stalled(5 * S) == {"decode": 5.0}


def test_a_stage_entered_twice_by_one_thread_is_as_old_as_the_first() -> None:
    dog = Watchdog(1.0)
    dog.entered("step", 0)
    dog.entered("step", 2 * S)
    assert dog.stalled(2 * S) == {"step": 2.0}
    assert dog.left("step", 3 * S) == S
    assert dog.stalled(3 * S) == {"step": 3.0}
    assert dog.left("step", 4 * S) == 4 * S
    assert dog._entered == {}


def test_leaving_what_was_not_entered_is_nothing() -> None:
    dog = Watchdog()
    elsewhere(dog.entered, "step", 0)
    assert dog.left("step", S) == 0
    assert dog.stalled(2 * S) == {"step": 2.0}


@pytest.mark.parametrize("limits", [(0.0, {}), (float("nan"), {}), (1.0, {"step": -1.0})])
def test_limits_are_positive(limits) -> None:
    with pytest.raises(InvalidArgument, match=r"limit.* must be positive, got"):
        Watchdog(*limits)
