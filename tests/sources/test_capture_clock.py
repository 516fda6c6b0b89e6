from hypothesis import given, settings
from hypothesis import strategies as st
from octobev.sources.capture_clock import Instant, Rising, StreamClock

MS = 1_000_000
S = 1000 * MS


def test_a_late_frame_is_stamped_as_early_as_it_was_taken():
    clock = StreamClock(drift=0)
    assert clock.capture_ns(0, 1000 * S) == 1000 * S
    assert clock.capture_ns(100 * MS, 1000 * S + 180 * MS) == 1000 * S + 100 * MS
    assert clock.capture_ns(200 * MS, 1000 * S + 200 * MS) == 1000 * S + 200 * MS


def test_a_quicker_frame_corrects_the_start():
    clock = StreamClock(drift=0)
    clock.capture_ns(0, 500 * MS)  # the first frame was held up
    assert clock.capture_ns(100 * MS, 110 * MS + 20 * MS) == 130 * MS
    assert clock.capture_ns(200 * MS, 240 * MS) == 230 * MS


def test_frames_held_up_for_seconds_keep_their_times():
    clock = StreamClock(drift=0)
    clock.capture_ns(0, 0)
    times = [clock.capture_ns(index * 100 * MS, 5 * S + index * MS) for index in range(1, 6)]
    assert times == [index * 100 * MS for index in range(1, 6)]


def test_a_stream_that_begins_anew_is_followed():
    clock = StreamClock()
    clock.capture_ns(3600 * S, 10 * S)
    assert clock.capture_ns(0, 11 * S) == 11 * S
    assert clock.capture_ns(100 * MS, 11 * S + 100 * MS) == 11 * S + 100 * MS
    assert clock.capture_ns(7200 * S, 12 * S) == 12 * S


def test_without_times_arrival_counts():
    assert StreamClock().capture_ns(None, 7) == 7


@settings(deadline=None, max_examples=20)
@given(st.floats(-150e-6, 150e-6), st.integers(0, 100))
def test_a_clock_that_runs_at_another_speed_is_followed(drift, seed):
    clock = StreamClock()
    error = 0
    for index in range(5_000):  # eight minutes
        taken_ns = index * 90 * MS
        delay_ns = 5 * MS + (index * 7919 + seed) % 13 * MS
        capture_ns = clock.capture_ns(round(taken_ns * (1 + drift)), taken_ns + delay_ns)
        error = max(error, abs(capture_ns - taken_ns))
    assert error < 20 * MS


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-5 * S, 50 * S), st.integers(0, 3 * S)), min_size=1))
def test_no_frame_is_from_the_future(frames):
    clock, arrived_ns = StreamClock(), 0
    for presented_ns, later_ns in frames:
        arrived_ns += later_ns
        assert clock.capture_ns(presented_ns, arrived_ns) <= arrived_ns


@settings(deadline=None)
@given(st.lists(st.integers(0, 100)))
def test_times_rise(times):
    rising = Rising()
    out = [rising(time) for time in times]
    assert out == sorted(set(out))
    assert all(a >= b for a, b in zip(out, times, strict=True))


def test_a_drivers_time_of_either_clock():
    now = Instant(monotonic_ns=500 * S, wall_ns=1_700_000_000 * S)
    assert now.wall_of_kernel(500 * S - 30 * MS) == now.wall_ns - 30 * MS
    assert now.wall_of_kernel(now.wall_ns - 30 * MS) == now.wall_ns - 30 * MS
    assert now.wall_of_kernel(500 * S + MS) == now.wall_ns  # not from the future
    assert now.wall_of_kernel(0) == now.wall_of_kernel(None) == now.wall_ns


def test_a_camera_whose_clock_is_not_set_is_not_believed():
    now = Instant(0, 1_700_000_000 * S)
    assert now.trusts(now.wall_ns - 80 * MS)
    assert not now.trusts(0)
    assert not now.trusts(None)
