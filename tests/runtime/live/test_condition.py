from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from octobev.errors import InvalidArgument
from octobev.runtime.live.condition import MAX_REASONS, OTHER, CameraWatch
from octobev.runtime.live.health import CameraCondition
from octobev.runtime.sync import DropReason

OK, LATE, STALE, CORRUPT, MISSING = CameraCondition
MS = 1_000_000
PERIOD = 100 * MS


class Feed:
    """A camera that fires at a steady rate; its images differ unless told otherwise."""

    def __init__(self, period_ns: int = PERIOD, **settings: int | None) -> None:
        self.watch = CameraWatch(0, **settings)
        self.period_ns = period_ns
        self.now_ns = 0
        self.frame = 0

    def send(self, count: int = 1, *, image: int | None = None, fate: str = "used", timestamp_ns: int | None = None):
        for _ in range(count):
            self.now_ns += self.period_ns
            self.frame += 1
            shown = self.frame if image is None else image
            self.watch.arrived(self.now_ns, self.now_ns if timestamp_ns is None else timestamp_ns, shown)
            if fate == "used":
                self.watch.used(self.now_ns, -3 * MS)
            elif fate == "corrupt":
                self.watch.corrupt(self.now_ns, "no JPEG")
            elif fate:
                self.watch.dropped(self.now_ns, fate)
        return self

    def condition(self, after_ns: int = 0) -> CameraCondition:
        return self.watch.condition(self.now_ns + after_ns)


def test_a_camera_is_missing_until_its_first_good_frame() -> None:
    feed = Feed()
    health = feed.watch.health(70 * MS)
    assert (health.condition, health.since_ns, health.reason) == (MISSING, 70 * MS, "no frame yet")
    assert (health.age_ns, health.skew_ns, health.rate_hz, health.received) == (None, None, 0.0, 0)
    feed.send(fate="")
    assert feed.condition() is MISSING
    feed.send()
    health = feed.watch.health(feed.now_ns + 20 * MS, queued=2)
    assert (health.condition, health.since_ns, health.reason) == (OK, 20 * MS, None)
    assert (health.age_ns, health.skew_ns, health.received, health.used, health.queued) == (20 * MS, -3 * MS, 2, 1, 2)


def test_a_camera_that_stops_is_missing_within_three_periods_and_ok_after_three_good_frames() -> None:
    feed = Feed().send(20)
    assert feed.condition(after_ns=249 * MS) is OK
    assert feed.condition(after_ns=250 * MS) is MISSING
    feed.now_ns += 1000 * MS
    health = feed.watch.health(feed.now_ns)
    assert (health.since_ns, health.age_ns, health.reason) == (750 * MS, 1000 * MS, "no frame for 1.0 s")
    feed.send(2)
    health = feed.watch.health(feed.now_ns)
    assert (health.condition, health.reason) == (MISSING, "back, until 3 good frames have come in succession")
    assert feed.send().condition() is OK
    assert feed.watch.health(feed.now_ns).since_ns == 0


def test_before_the_period_is_known_a_second_is_waited() -> None:
    feed = Feed().send(4)
    assert feed.condition(after_ns=999 * MS) is OK
    assert feed.condition(after_ns=1000 * MS) is MISSING


def test_a_slow_camera_is_missing_until_its_period_is_known() -> None:
    feed = Feed(2000 * MS).send(4)
    assert feed.condition(after_ns=1000 * MS) is MISSING
    assert feed.send(4).condition(after_ns=4999 * MS) is OK
    assert feed.condition(after_ns=5000 * MS) is MISSING
    feed.now_ns += 60_000 * MS
    feed.send()
    assert feed.watch.missing_at_ns() == feed.now_ns + 5000 * MS  # its period was not forgotten


def test_an_outage_among_the_first_frames_does_not_make_a_camera_slow() -> None:
    feed = Feed().send(3)
    feed.now_ns += 60_000 * MS
    feed.send(6)
    assert feed.watch.missing_at_ns() == feed.now_ns + 250 * MS


def test_another_rate_is_learned_though_it_looks_like_an_outage_at_first() -> None:
    feed = Feed(33 * MS).send(20)
    feed.period_ns = 200 * MS
    feed.send(30)
    assert feed.condition(after_ns=300 * MS) is OK
    assert feed.watch.health(feed.now_ns).rate_hz == pytest.approx(5.0)


def test_frames_that_come_in_bursts_are_no_outages() -> None:
    """Two at once, every 80 ms: the period is 40 ms, though the intervals are 1 and 79."""
    watch = CameraWatch(0)
    for pair in range(20):
        for place in range(2):
            now_ns = pair * 80 * MS + place * MS
            assert pair < 4 or watch.condition(now_ns) is OK
            watch.arrived(now_ns, (2 * pair + place) * 40 * MS)
            watch.used(now_ns, 0)
    assert watch.missing_at_ns() == now_ns + 100 * MS


def test_a_corrupt_image_shows_at_once_and_three_good_ones_heal() -> None:
    feed = Feed().send(5).send(fate="corrupt")
    health = feed.watch.health(feed.now_ns)
    assert (health.condition, health.reason, health.corrupt, health.used) == (CORRUPT, "no JPEG", 1, 5)
    assert feed.send(2).condition() is CORRUPT
    assert feed.send().condition() is OK


@pytest.mark.parametrize("reason", ["late", "out_of_order", "clock_jump", "skew"])
def test_two_late_frames_of_three_make_a_camera_late(reason: str) -> None:
    feed = Feed().send(5).send(fate=reason)
    assert feed.condition() is OK
    feed.send().send(fate=reason)
    health = feed.watch.health(feed.now_ns)
    assert (health.condition, health.reason, health.dropped) == (LATE, reason, {reason: 2})
    assert feed.send(2).condition() is LATE
    assert feed.send().condition() is OK


@pytest.mark.parametrize("reason", [DropReason.SURPLUS, DropReason.OVERFLOW, "overrun"])
def test_what_is_dropped_for_no_fault_of_the_camera_is_good(reason: str) -> None:
    feed = Feed().send(5, fate="corrupt").send(3, fate=reason)
    assert feed.condition() is OK
    assert feed.watch.health(feed.now_ns).dropped == {reason: 3}


def test_frames_that_came_before_say_nothing_about_the_camera() -> None:
    feed = Feed().send(5, fate="corrupt").send(3, fate="duplicate")
    assert feed.condition() is CORRUPT


def test_a_camera_that_comes_and_goes_is_not_taken_for_a_slow_one() -> None:
    feed = Feed().send(20)
    for _ in range(6):
        feed.now_ns += 10_000 * MS
        feed.send(3)
    assert feed.watch.missing_at_ns() == feed.now_ns + 1000 * MS
    feed.send(6)
    assert feed.watch.missing_at_ns() == feed.now_ns + 250 * MS


def test_the_same_image_again_and_again_is_stale() -> None:
    feed = Feed().send(5).send(4, image=7)
    assert feed.condition() is OK
    feed.send(image=7)
    health = feed.watch.health(feed.now_ns)
    assert (health.condition, health.reason) == (STALE, "the same image 5 times in succession")
    feed.send(30, image=7)
    assert feed.condition() is STALE
    assert feed.send(2).condition() is STALE
    assert feed.send().condition() is OK


def test_a_freeze_is_not_over_with_the_verdicts_from_before_it() -> None:
    feed = Feed().send(5).send(8, image=7, fate="")
    assert feed.send(fate="").condition() is STALE


def test_frozen_after_is_settable_and_can_be_off() -> None:
    assert Feed(frozen_after=2).send(3).send(2, image=7).condition() is STALE
    assert Feed(frozen_after=None).send(3).send(50, image=7).condition() is OK
    with pytest.raises(InvalidArgument, match="frozen_after must be at least 2, got 1"):
        CameraWatch(0, frozen_after=1)


def test_the_same_frame_sent_again_and_again_is_stale_and_sent_twice_is_not() -> None:
    feed = Feed(frozen_after=None).send(5)
    feed.send(5, timestamp_ns=1, fate="duplicate")
    health = feed.watch.health(feed.now_ns)
    assert (health.condition, health.reason) == (STALE, "the same timestamp 5 times in succession")
    twice = Feed()
    for _ in range(10):
        twice.send().now_ns -= twice.period_ns
        twice.send(fate="duplicate", timestamp_ns=twice.now_ns + twice.period_ns)
    assert twice.condition(after_ns=249 * MS) is OK  # repeats do not halve the period


def test_the_worst_that_holds_is_told() -> None:
    feed = Feed().send(5).send(6, image=7, fate="corrupt")
    assert feed.condition() is CORRUPT
    assert feed.send(6, image=7).condition() is STALE
    assert feed.send(3, fate="late").condition() is LATE
    assert feed.condition(after_ns=PERIOD * 3) is MISSING


def test_verdicts_on_frames_from_before_an_outage_do_not_end_it() -> None:
    feed = Feed().send(10, fate="")
    assert feed.condition(after_ns=PERIOD * 3) is MISSING
    for _ in range(5):
        feed.watch.used(feed.now_ns + PERIOD * 3, 0)
    assert feed.condition(after_ns=PERIOD * 3) is MISSING
    assert feed.watch.health(feed.now_ns + PERIOD * 3).used == 5


def test_rate_falls_to_zero_when_nothing_comes() -> None:
    feed = Feed().send(60)
    assert feed.watch.health(feed.now_ns).rate_hz == pytest.approx(10.0)
    assert feed.watch.health(feed.now_ns + 1500 * MS).rate_hz == pytest.approx(14 / 2.9)
    assert feed.watch.health(feed.now_ns + 3000 * MS).rate_hz == 0.0


def test_time_that_goes_back_is_no_later() -> None:
    feed = Feed().send(10)
    feed.watch.arrived(0, 1, 1)
    health = feed.watch.health(0)
    assert (health.condition, health.age_ns, health.since_ns) == (OK, 0, 900 * MS)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["arrived", "used", "late", "surplus", "duplicate", "corrupt", "asked"]),
        st.integers(0, 400) | st.integers(0, 5000),
        st.integers(0, 2),
    ),
    max_size=60,
)


def play(events: list[tuple[str, int, int]]) -> tuple[CameraWatch, int]:
    watch, now_ns = CameraWatch(0), 0
    for kind, wait_ms, value in events:
        now_ns += wait_ms * MS
        if kind == "arrived":
            watch.arrived(now_ns, now_ns - value, value)
        elif kind == "used":
            watch.used(now_ns, value)
        elif kind == "corrupt":
            watch.corrupt(now_ns, "broken")
        elif kind == "asked":
            watch.health(now_ns)
        else:
            watch.dropped(now_ns, kind)
    return watch, now_ns


@given(EVENTS)
def test_whatever_happens_the_account_is_right(events: list[tuple[str, int, int]]) -> None:
    watch, now_ns = play(events)
    health = watch.health(now_ns)
    kinds = [kind for kind, _, _ in events]
    assert (health.received, health.used, health.corrupt) == tuple(map(kinds.count, ("arrived", "used", "corrupt")))
    assert dict(health.dropped) == {
        kind: kinds.count(kind) for kind in ("late", "surplus", "duplicate") if kind in kinds
    }
    assert 0 <= health.since_ns <= now_ns
    assert (health.reason is None) is (health.condition is OK)
    assert (health.age_ns is None) is ("arrived" not in kinds)
    assert 0 <= health.rate_hz < float("inf")


@given(EVENTS, st.lists(st.integers(0, 60), max_size=10))
def test_asking_changes_nothing(events: list[tuple[str, int, int]], places: list[int]) -> None:
    asking = list(events)
    for place in places:
        asking.insert(place, ("asked", 0, 0))
    (asked, now_ns), (silent, _) = play(asking), play(events)
    assert asked.health(now_ns) == silent.health(now_ns)


@given(EVENTS, st.integers(5, 2000), st.floats(0.0, 0.25), st.randoms(use_true_random=False))
def test_from_any_state_a_steady_camera_is_ok_and_its_loss_is_flagged_within_three_periods(
    events, period_ms, jitter, random
) -> None:
    watch, now_ns = play(events)
    intervals = [round(period_ms * MS * (1 + random.uniform(-jitter, jitter))) for _ in range(24)]
    for index, arrival_ns in enumerate(accumulate(intervals, initial=now_ns)):
        if index > 16:
            assert watch.condition(arrival_ns) is OK
        watch.arrived(arrival_ns, arrival_ns, 1000 + index)
        watch.used(arrival_ns, 0)
    assert watch.condition(arrival_ns + 2 * period_ms * MS) is OK
    assert (
        watch.condition(arrival_ns + round(3.125 * period_ms * MS) + 10 * MS) is MISSING
    )  # of the longest possible period


@given(st.lists(st.text(max_size=3), max_size=100))
def test_reasons_do_not_fill_the_memory(reasons: list[str]) -> None:
    watch = CameraWatch(0)
    for reason in reasons:
        watch.dropped(0, reason)
    dropped = watch.health(0).dropped
    assert sum(dropped.values()) == len(reasons)
    assert len(dropped) <= MAX_REASONS + 1
    assert len(dropped) <= MAX_REASONS or OTHER in dropped


def test_memory_is_bounded_at_any_rate() -> None:
    feed = Feed(1000).send(5000, fate="late")
    assert all(len(kept) <= 256 for kept in (feed.watch._arrivals, feed.watch._paces, feed.watch._verdicts))
    assert feed.watch.health(feed.now_ns).rate_hz == pytest.approx(1e6)
