import gc
import random
import re
import weakref
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from octobev.errors import InvalidArgument
from octobev.runtime.frames import Frame, FrameSet, PixelFormat
from octobev.runtime.sync import ApproximateTime, CameraState, DropReason, ExactTime, Latest, Synchroniser
from octobev.runtime.sync.window import tightest_window

MS = 1_000_000
SECOND = 1000 * MS
EPOCH = 1_700_000_000 * SECOND
"""Where the capture clock stands when that of the arrivals is at 0."""


@dataclass
class Left:
    """A set, and when it left."""

    at: int
    one: object

    @property
    def times(self):
        return {camera: (sample.timestamp_ns - EPOCH) / MS for camera, sample in self.one.samples.items()}

    @property
    def skew(self):
        times = [sample.timestamp_ns for sample in self.one.samples.values()]
        return max(times) - min(times)


def run(sync, arrivals):
    """Push (arrival, camera, capture time) in the order of arrival and pull when it is time to, as a host does."""
    sets = []

    def until(now):
        while (deadline := sync.deadline_ns) is not None and (now is None or deadline < now):
            sets.extend(Left(deadline, one) for one in sync.pull(deadline))
            assert sync.deadline_ns is None or sync.deadline_ns > deadline

    for now, camera, timestamp in sorted(arrivals):
        until(now)
        sets.extend(Left(now, one) for one in sync.push(camera, timestamp, (camera, timestamp), now))
    until(None)
    return sets


def at(*events, delay=0):
    """Arrivals from (camera, ms) or (camera, ms, arrival in ms)."""
    return [
        (
            (round(event[2] * MS) if len(event) > 2 else round((event[1] + delay) * MS)),
            event[0],
            EPOCH + round(event[1] * MS),
        )
        for event in events
    ]


def members(sets):
    return [left.times for left in sets]


def approximate(cameras="ab", skew=60, wait=80, reference=None, **options):
    return Synchroniser(cameras, ApproximateTime(skew * MS, wait * MS, reference), **options)


@dataclass(frozen=True)
class Rig:
    """Cameras of one rate that fire within a third of a period, jitter, and deliver after different times."""

    period: int
    phases: dict
    delays: dict
    jitter: int
    seed: int

    cameras = property(lambda self: tuple(self.phases))
    skew = property(lambda self: max(self.phases.values()) - min(self.phases.values()) + 2 * self.jitter + 1)
    wait = property(lambda self: self.skew + max(self.delays.values()) + 12 * MS)

    def arrivals(self, seconds=4, keep=lambda camera, time: True, shift=lambda camera, time: 0):
        """What arrives; `keep` and `shift` are given the time in nanoseconds since the start."""
        chance = random.Random(self.seed)
        arrivals = []
        for camera, phase in self.phases.items():
            for count in range(seconds * SECOND // self.period):
                time = count * self.period + phase + chance.randint(-self.jitter, self.jitter)
                arrival = time + self.delays[camera] + chance.randint(0, 5 * MS)
                if keep(camera, time):
                    arrivals.append((arrival + SECOND, camera, EPOCH + time + shift(camera, time)))
        return arrivals

    def synchroniser(self, **options):
        return Synchroniser(self.cameras, ApproximateTime(self.skew, self.wait), **options)


@st.composite
def rigs(draw, fewest=2, jitters=True):
    period = draw(st.sampled_from([28, 50, 83, 100])) * MS
    cameras = [f"c{i}" for i in range(draw(st.integers(fewest, 5)))]
    phases = {camera: draw(st.integers(0, period // 3)) for camera in cameras}
    delays = {camera: draw(st.integers(0, 30 * MS)) for camera in cameras}
    return Rig(period, phases, delays, draw(st.integers(0, period // 20)) if jitters else 0, draw(st.integers(0, 999)))


several = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Payload:
    """Something that can be watched."""


@dataclass
class Ledger:
    """What came out of a synchroniser, and whether it may be so."""

    sync: Synchroniser
    skew: int
    capacity: int
    pushed: dict = field(default_factory=dict)
    used: set = field(default_factory=set)
    key: tuple = (-1, 0)
    newest: dict = field(default_factory=dict)

    def take(self, sets):
        for one in sets:
            assert one.samples
            assert [*one.samples] == [camera for camera in self.sync.cameras if camera in one.samples]
            assert {*one.samples} | {*one.absences} == {*self.sync.cameras}
            assert not {*one.samples} & {*one.absences}
            assert all(one.absences.values())
            times = [sample.timestamp_ns for sample in one.samples.values()]
            assert max(times) - min(times) <= self.skew
            assert one.timestamp_ns == max(times)
            assert (one.epoch, one.timestamp_ns) > self.key
            self.key = one.epoch, one.timestamp_ns
            for camera, sample in one.samples.items():
                assert sample.payload[0] not in self.used
                self.used.add(sample.payload[0])
                assert (one.epoch, sample.timestamp_ns) > self.newest.get(camera, (-1, 0))
                self.newest[camera] = one.epoch, sample.timestamp_ns

    def balance(self, now):
        status = self.sync.status(now)
        for camera, part in status.cameras.items():
            assert 0 <= part.queued <= self.capacity
            assert part.queued + part.matched + sum(part.dropped.values()) == self.pushed.get(camera, 0)
        assert sum(part.matched for part in status.cameras.values()) == len(self.used)


class Adversary(RuleBasedStateMachine):
    """Pushes anything at any time."""

    @initialize(
        policy=st.sampled_from(
            [ExactTime(40 * MS), ApproximateTime(30 * MS, 40 * MS), ApproximateTime(0, MS, "c"), Latest(30 * MS, "b")]
        ),
        queue_frames=st.integers(1, 3),
        tolerance=st.sampled_from([40, 500]),
    )
    def start(self, policy, queue_frames, tolerance):
        sync = Synchroniser("abc", policy, queue_frames=queue_frames, clock_tolerance_ns=tolerance * MS)
        capacity = 1 if isinstance(policy, Latest) else queue_frames
        self.ledger = Ledger(sync, getattr(policy, "max_skew_ns", 0), capacity)
        self.sync, self.now, self.shift, self.last, self.alive = sync, 0, EPOCH, {}, []

    def push(self, camera, timestamp):
        payload = len(self.alive), Payload()
        self.alive.append(weakref.ref(payload[1]))
        self.ledger.pushed[camera] = self.ledger.pushed.get(camera, 0) + 1
        self.last[camera] = timestamp
        self.ledger.take(self.sync.push(camera, timestamp, payload, self.now))

    @rule(camera=st.sampled_from("abc"), ms=st.sampled_from([-90, -20, -10, 0, 10, 20, 90]))
    def frame(self, camera, ms):
        self.push(camera, self.now + self.shift + ms * MS)

    @rule(
        ms=st.integers(1, 110),
        frames=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=6),
    )
    def instant(self, ms, frames):
        self.now += ms * MS
        for camera, late in frames:
            self.push(camera, self.now + self.shift - late * 7 * MS)

    @rule(camera=st.sampled_from("abc"))
    def again(self, camera):
        if camera in self.last:
            self.push(camera, self.last[camera])

    @rule(camera=st.sampled_from("abc"), ms=st.sampled_from([-5000, -400, -60, 60, 400, 5000]))
    def one_clock_jumps(self, camera, ms):
        self.push(camera, self.now + self.shift + ms * MS)

    @rule(ms=st.sampled_from([-9000, -300, 300, 9000]))
    def all_clocks_jump(self, ms):
        self.shift += ms * MS

    @rule(ms=st.sampled_from([-5, 1, 30, 90, 400, 3000]))
    def time_passes(self, ms):
        self.now += ms * MS
        self.ledger.take(self.sync.pull(self.now))

    @rule()
    def wait_for_the_deadline(self):
        deadline = self.sync.deadline_ns
        if deadline is not None:
            self.now = max(self.now, deadline)
            assert self.sync.pull(deadline - 1) == ()
            self.ledger.take(self.sync.pull(deadline))
            assert self.sync.deadline_ns is None or self.sync.deadline_ns > deadline

    @invariant()
    def all_is_in_order(self):
        if hasattr(self, "ledger"):
            self.ledger.balance(self.now)

    def teardown(self):
        if hasattr(self, "ledger"):
            gc.collect()
            kept = sum(reference() is not None for reference in self.alive)
            assert kept <= len(self.sync.cameras) * self.ledger.capacity


TestAdversary = Adversary.TestCase
TestAdversary.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@several
@given(rigs(), st.data())
def test_a_complete_set_leaves_with_its_last_frame(rig, data):
    reference = data.draw(st.sampled_from(rig.cameras))
    sets = run(Synchroniser(rig.cameras, ApproximateTime(rig.skew, rig.wait, reference)), rig.arrivals())
    warm = [left for left in sets if left.at > 2 * SECOND][:-1]
    assert len(warm) > 20
    for left in warm:
        assert not left.one.absences
        assert left.at == max(sample.arrived_ns for sample in left.one.samples.values())


@several
@given(rigs(), st.data())
def test_nobody_waits_longer_than_allowed(rig, data):
    lost = random.Random(data.draw(st.integers(0, 999)))
    share = data.draw(st.sampled_from([0.05, 0.2, 0.5]))
    for left in run(rig.synchroniser(), rig.arrivals(keep=lambda camera, time: lost.random() >= share)):
        assert all(left.at - sample.arrived_ns <= rig.wait for sample in left.one.samples.values())
        assert left.skew <= rig.skew


@several
@given(rigs(), st.data())
def test_a_missing_camera_delays_few_sets_and_rejoins_within_a_second(rig, data):
    lost = data.draw(st.sampled_from(rig.cameras))
    begin, end = 2 * SECOND, data.draw(st.sampled_from([2300 * MS, 3 * SECOND, 5 * SECOND]))
    arrivals = rig.arrivals(7, keep=lambda camera, time: camera != lost or not begin <= time < end)
    sync = rig.synchroniser()
    sets = run(sync, arrivals)
    gone = max(now for now, camera, time in arrivals if camera == lost and time - EPOCH < begin)
    back = min(now for now, camera, time in arrivals if camera == lost and time - EPOCH >= end)
    missing = [left for left in sets if gone + 3.5 * rig.period + 50 * MS < left.at < back - rig.period]
    for left in missing:
        assert {*left.one.absences} == {lost}
        assert left.one.absences[lost] in ("missing", f"not there within {rig.wait / 1e6:g} ms")
        assert left.at == max(sample.arrived_ns for sample in left.one.samples.values())
    if end > 3 * SECOND:
        assert len(missing) >= (end - begin) // rig.period - 8
    again = [left for left in sets if back + SECOND < left.at][:-1]
    assert again
    assert all(not left.one.absences for left in again)
    assert any(lost in left.one.samples for left in sets if back <= left.at <= back + SECOND)


@several
@given(rigs(), st.sampled_from([-100_000, -3000, -400, -100, 100, 400, 3000, 100_000]))
def test_sets_are_whole_again_a_second_after_all_clocks_jumped(rig, ms):
    sync = rig.synchroniser()
    sets = run(sync, rig.arrivals(6, shift=lambda camera, time: ms * MS if time > 3 * SECOND else 0))
    after = [left for left in sets if left.at > 5 * SECOND + 100 * MS][:-1]
    assert len(after) >= 5
    assert all(not left.one.absences for left in after)
    assert sync.status(0).epoch == (abs(ms) > 500)


@several
@given(rigs(fewest=3), st.sampled_from([-3000, 3000]), st.data())
def test_a_camera_whose_clock_jumps_is_left_out_until_it_jumps_back(rig, ms, data):
    wrong = data.draw(st.sampled_from(rig.cameras))
    shift = lambda camera, time: ms * MS if camera == wrong and 2 * SECOND < time < 4 * SECOND else 0  # noqa: E731
    sync = rig.synchroniser()
    sets = run(sync, rig.arrivals(7, shift=shift))
    for left in sets:
        if 3200 * MS + rig.period < left.at < 4800 * MS:
            assert dict(left.one.absences) == {wrong: "clock differs from the other cameras"}
            assert left.at == max(sample.arrived_ns for sample in left.one.samples.values())
    assert all(not left.one.absences for left in sets[:-1] if left.at > 6200 * MS)
    status = sync.status(0)
    assert status.epoch == 0
    assert {name for name, part in status.cameras.items() if DropReason.CLOCK_JUMP in part.dropped} == {wrong}


@several
@given(rigs(jitters=False), st.data())
def test_exact_time_joins_equal_times_only(rig, data):
    lost = random.Random(data.draw(st.integers(0, 999)))
    together = Rig(rig.period, dict.fromkeys(rig.phases, 0), rig.delays, 0, rig.seed)
    arrivals = together.arrivals(keep=lambda camera, time: lost.random() > 0.05)
    sync = Synchroniser(rig.cameras, ExactTime(40 * MS))
    sets = run(sync, arrivals)
    whole, not_waited_for = {time for _, _, time in arrivals}, []
    assert [left.one.timestamp_ns for left in sets] == sorted(whole)
    for left in sets:
        assert left.skew == 0
        due = {camera for _, camera, time in arrivals if time == left.one.timestamp_ns}
        assert {*left.one.samples} <= due
        absent = {camera for camera, reason in left.one.absences.items() if reason != "missing"}
        not_waited_for += sorted(due & absent)
        if not left.one.absences:
            assert left.at == max(sample.arrived_ns for sample in left.one.samples.values())
    assert len(not_waited_for) <= 4  # one that by chance lost every other frame looks slower, for a moment


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(-9, 9), max_size=4).map(sorted), max_size=4),
    st.integers(0, 6),
)
def test_the_tightest_window_is_that_of_a_search_through_all(candidates, skew):
    candidates = {"pace": [0], **candidates}
    window = tightest_window(0, candidates, skew)
    best = (0, 0)
    for start in range(-9, 1):
        for end in range(9 + 1):
            if end - start <= skew:
                held = sum(any(start <= time <= end for time in times) for times in candidates.values())
                best = max(best, (held, start - end))
    assert (len(window.times), -window.spread_ns) == best
    assert window.times["pace"] == 0
    assert all(time in candidates[camera] for camera, time in window.times.items())
    assert max(window.times.values()) - min(window.times.values()) == window.spread_ns


def test_frames_arriving_out_of_order_find_their_set():
    order = at(
        ("a", 0, 20),
        ("b", 5, 21),
        ("a", 100, 130),
        ("b", 105, 135),
        ("a", 300, 321),
        ("b", 205, 322),
        ("a", 200, 323),
        ("b", 305, 324),
    )
    sets = run(approximate(skew=20, wait=200), order)
    assert members(sets) == [{"a": 100 * n, "b": 100 * n + 5} for n in range(4)]


def test_a_frame_older_than_the_sets_is_counted():
    sync = approximate(skew=20)
    run(sync, at(("a", 0), ("b", 1), ("a", 100), ("b", 101), ("a", 200), ("b", 201)))
    sync.push("b", EPOCH + 50 * MS, None, 210 * MS)
    sync.push("b", EPOCH + 101 * MS, None, 210 * MS)
    dropped = sync.status(210 * MS).cameras["b"].dropped
    assert dropped == {DropReason.OUT_OF_ORDER: 1, DropReason.DUPLICATE: 1}


def test_a_camera_that_is_always_too_late_delays_nobody():
    events = [
        (c, 100 * n + p, 100 * n + p + d) for n in range(30) for c, p, d in (("a", 0, 10), ("b", 5, 10), ("c", 10, 150))
    ]
    sync = approximate("abc", wait=50)
    sets = run(sync, at(*events))
    late = [left for left in sets if left.at > SECOND]
    assert all({*left.times} == {"a", "b"} for left in late)
    assert all(left.at == max(s.arrived_ns for s in left.one.samples.values()) for left in late)
    assert all(left.one.absences["c"] == "not there within 50 ms" for left in late)
    assert sync.status(3 * SECOND).cameras["c"].dropped[DropReason.LATE] > 20


def test_one_lost_frame_does_not_shift_the_sets_after_it():
    # b fires 25 ms after a, a 58 ms after b: both fit into the bound
    events = [
        (c, 83 * n + p) for n in range(12) for c, p in (("a", 0), ("b", 25)) if (c, n) not in (("a", 6), ("b", 9))
    ]
    sets = run(approximate(wait=100), at(*events))
    assert members(sets)[6] == {"b": 6 * 83 + 25}
    assert members(sets)[9] == {"a": 9 * 83}
    assert [left.times for n, left in enumerate(sets) if n not in (6, 9)] == [
        {"a": 83 * n, "b": 83 * n + 25} for n in range(12) if n not in (6, 9)
    ]


def test_sets_that_began_with_neighbours_of_two_instants_become_tight():
    # the first frame of b that comes is 58 ms after a; the one it belongs to was before the start
    events = [(c, 83 * n + p) for n in range(8) for c, p in (("a", 0), ("b", 58))]
    sets = run(approximate(), at(*events))
    assert all(left.skew == 25 * MS for left in sets[2:-1])


def test_a_lost_frame_of_the_reference_loses_no_set():
    events = [(c, 100 * n + p) for n in range(10) for c, p in (("a", 0), ("b", 5), ("c", 9)) if (c, n) != ("a", 5)]
    sets = run(approximate("abc", wait=50), at(*events))
    assert members(sets)[5] == {"b": 505, "c": 509}
    assert sets[5].one.absences == {"a": "not there within 50 ms"}
    assert sets[5].at == 555 * MS
    assert len(sets) == 10


def test_an_incomplete_set_does_not_hold_up_a_complete_one():
    events = [(c, 100 * n + p) for n in range(10) for c, p in (("a", 0), ("b", 5)) if (c, n) != ("b", 5)]
    sets = run(approximate(wait=300), at(*events))
    assert [left.at for left in sets[5:7]] == [605 * MS, 605 * MS]
    assert [*sets[5].times] == ["a"]
    assert [*sets[6].times] == ["a", "b"]


def test_a_faster_camera_gives_its_nearest_frame():
    events = [("a", 90 * n + 10) for n in range(10)] + [("b", 30 * n) for n in range(30)]
    sync = approximate(skew=20)
    sets = run(sync, at(*events))
    assert members(sets)[:10] == [{"a": 90 * n + 10, "b": 90 * n} for n in range(10)]
    assert sync.status(SECOND).cameras["b"].dropped[DropReason.SURPLUS] >= 18


def test_a_slower_camera_is_not_waited_for_in_between():
    events = [("a", 30 * n) for n in range(60)] + [("b", 90 * n + 3) for n in range(20)]
    for policy in (ApproximateTime(15 * MS, 80 * MS), ExactTime(80 * MS)):
        exact = isinstance(policy, ExactTime)
        sets = run(Synchroniser("ab", policy), at(*((c, ms - 3 if exact and c == "b" else ms) for c, ms in events)))
        warm = sets[20:-1]
        assert [len(left.times) for left in warm[:6]] in ([2, 1, 1, 2, 1, 1], [1, 1, 2, 1, 1, 2], [1, 2, 1, 1, 2, 1])
        assert all(left.at == max(s.arrived_ns for s in left.one.samples.values()) for left in warm)


def test_triggers_at_irregular_times_give_whole_sets():
    chance, times = random.Random(5), [0]
    while len(times) < 60:
        times.append(times[-1] + chance.randint(50, 150))
    events = [(c, ms + p, ms + p + d) for ms in times for c, p, d in (("a", 0, 20), ("b", 0.5, 27), ("c", 1, 24))]
    sets = run(approximate("abc", skew=3, wait=40), at(*events))
    assert [len(left.times) for left in sets] == [3] * 60
    together = [(c, ms, ms + d) for ms in times for c, d in (("a", 20), ("b", 27), ("c", 24))]
    assert [len(left.times) for left in run(Synchroniser("abc", ExactTime(40 * MS)), at(*together))] == [3] * 60


def test_a_camera_that_fires_outside_of_the_bound_is_not_waited_for():
    events = [(c, 100 * n + p) for n in range(20) for c, p in (("a", 0), ("b", 5), ("c", 50))]
    sync = approximate("abc", skew=20)
    sets = run(sync, at(*events))
    warm = sets[4:-1]
    assert all(left.one.absences == {"c": "no frame within 20 ms"} for left in warm)
    assert all(left.at == max(s.arrived_ns for s in left.one.samples.values()) for left in warm)
    assert sync.status(2 * SECOND).cameras["c"].dropped[DropReason.SKEW] >= 17


def test_a_clock_that_is_ahead_does_not_tear_the_sets_of_the_others():
    events = [
        (c, 100 * n + p + (300 if c == "a" else 0), 100 * n + p + 10)
        for n in range(40)
        for c, p in zip("abc", (0, 5, 9), strict=True)
    ]
    sets = run(approximate("abc", wait=50), at(*events))
    assert all({"b", "c"} <= {*left.times} for left in sets if 2 * SECOND < left.at < 3900 * MS)


def test_cameras_that_never_come_are_waited_for_during_the_first_second_only():
    sync = approximate("abc")
    sets = run(sync, at(*((c, 100 * n + p) for n in range(20) for c, p in (("b", 0), ("c", 5)))))
    assert sets[0].at == 80 * MS
    assert all(left.at == max(s.arrived_ns for s in left.one.samples.values()) for left in sets if left.at > 1100 * MS)
    assert sets[-1].one.absences == {"a": "never seen"}
    assert sync.status(2 * SECOND).cameras["a"].state is CameraState.NEVER_SEEN
    assert sync.status(2 * SECOND).pace == "b"


def test_latest_gives_each_frame_of_the_reference_at_once():
    events = [("a", 100 * n + 50) for n in range(4)] + [("b", 30 * n - 1) for n in range(13)] + [("c", 0)]
    sync = Synchroniser("abc", Latest(100 * MS))
    sets = run(sync, at(*events))
    assert [left.at for left in sets][-4:] == [50 * MS, 150 * MS, 250 * MS, 350 * MS]
    assert members(sets)[-3:] == [{"a": 150, "b": 149}, {"a": 250, "b": 239}, {"a": 350, "b": 329}]
    assert sync.status(0).cameras["b"].dropped[DropReason.SURPLUS] > 3


def test_a_full_queue_loses_its_oldest():
    sync = approximate(queue_frames=2, wait=500)
    for ms in (0, 100, 200):
        assert sync.push("b", EPOCH + ms * MS, ms, ms * MS) == ()
    part = sync.status(200 * MS).cameras["b"]
    assert (part.queued, dict(part.dropped)) == (2, {DropReason.OVERFLOW: 1})


def test_a_set_becomes_a_frame_set():
    sync = approximate()
    payload = Frame("b", EPOCH, b"\xff\xd8\xff", PixelFormat.JPEG)
    sync.push("b", EPOCH, payload, 0)
    (one,) = sync.pull(sync.deadline_ns)
    frames = tuple(sample.payload for sample in one.samples.values())
    frame_set = FrameSet(one.timestamp_ns, frames, absences=one.absences)
    assert frame_set.frame("b") is payload
    assert frame_set.absences == {"a": "never seen"}


def test_the_state_of_a_camera_follows_what_it_does():
    sync = approximate()
    run(sync, at(*((c, 100 * n) for n in range(10) for c in "ab")))
    states = [sync.status(ms * MS).cameras["b"].state for ms in (900, 1149, 1150)]
    assert states == [CameraState.ACTIVE, CameraState.ACTIVE, CameraState.MISSING]
    status = sync.status(900 * MS)
    assert status.cameras["b"].period_ns == 100 * MS
    assert (status.complete, status.incomplete, status.pace) == (10, 0, "a")


def test_time_that_steps_back_stands_still():
    sync = approximate()
    sync.push("a", EPOCH, 0, SECOND)
    (one,) = sync.push("b", EPOCH, 1, SECOND - 50 * MS)
    assert one.samples["b"].arrived_ns == SECOND


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None])
def test_waits_must_be_whole_positive_nanoseconds(value):
    with pytest.raises(InvalidArgument, match="max_wait_ns must be an integer of nanoseconds from 1 on, got"):
        ExactTime(value)
    with pytest.raises(InvalidArgument, match="max_wait_ns must be an integer"):
        ApproximateTime(10, value)


@pytest.mark.parametrize("policy", [lambda skew: ApproximateTime(skew, 1), Latest])
def test_skews_must_be_whole_nanoseconds(policy):
    assert policy(0).max_skew_ns == 0
    with pytest.raises(InvalidArgument, match="max_skew_ns must be an integer of nanoseconds from 0 on, got -1"):
        policy(-1)


def test_policies_are_values():
    assert Latest(5) == Latest(5, None)
    with pytest.raises(FrozenInstanceError):
        Latest(5).max_skew_ns = 6


@pytest.mark.parametrize(
    ("cameras", "policy", "options", "message"),
    [
        ("", ExactTime(1), {}, "cameras must be one or more different names, got none"),
        ("aba", ExactTime(1), {}, "cameras must be one or more different names, got a, b, a"),
        ("ab", Latest(1, "c"), {}, "reference must be one of a, b, got c"),
        ("ab", ExactTime(1), {"queue_frames": 0}, "queue_frames must be 1 or more, got 0"),
        ("ab", ExactTime(9), {"clock_tolerance_ns": 8}, "clock_tolerance_ns must be at least 9"),
    ],
)
def test_a_synchroniser_refuses_what_it_cannot_do(cameras, policy, options, message):
    with pytest.raises(InvalidArgument, match=message):
        Synchroniser(cameras, policy, **options)


def test_the_documentation_says_what_is():
    page = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
    text = page.partition("## Synchronising cameras\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    clock = SimpleNamespace(monotonic_ns=lambda: 0)
    names = {"rig": SimpleNamespace(names=("front", "rear")), "timestamp_ns": EPOCH, "payload": b"", "time": clock}
    exec(compile(example, "live.md", "exec"), names)
    assert names["sync"].status(0).cameras["front"].queued == 1
    assert re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE) == [reason.value for reason in DropReason]
    assert all(f"`{state}`" in " ".join(text.split()) for state in CameraState)


def test_a_camera_that_is_not_known_is_refused():
    with pytest.raises(InvalidArgument, match="camera must be one of a, b, got x"):
        approximate().push("x", EPOCH, 0, 0)


rubbish = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.integers(0, 4),
        st.sampled_from([0, 0, 0, 40, -40, 450, -450, 5000, -5000]),
        st.integers(1, 5),
    ),
    max_size=60,
)


@several
@given(rigs(), rubbish)
def test_whatever_came_before_healthy_cameras_are_together_soon(rig, garbage):
    now, noise = 0, []
    for after_ms, camera, off_ms, times in garbage:
        now += after_ms * MS
        for count in range(times):
            noise.append((now, rig.cameras[camera % len(rig.cameras)], EPOCH + now + off_ms * MS + count))
    healthy = [(arrival + now, camera, time + now) for arrival, camera, time in rig.arrivals(5)]
    sets = run(rig.synchroniser(), noise + healthy)
    settled = [left for left in sets if left.at > now + 3 * SECOND][:-1]
    assert len(settled) > 20
    assert all(not left.one.absences for left in settled)
