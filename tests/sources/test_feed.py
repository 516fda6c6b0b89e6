import logging
import threading

import numpy as np
import pytest
from octobev.errors import ImageError, SourceError
from octobev.runtime.frames import Frame
from octobev.sources.back_off import BackOff
from octobev.sources.feed import Feed
from octobev.sources.state import SourceCondition, SourceState

S = 1_000_000_000
PIXELS = np.zeros((2, 2, 3), np.uint8)


class Scripted:
    """A source whose connections are written down: numbers are frames, an exception is raised, the end is the end.

    Waiting is not done but noted: the feed's clock moves on by it.
    """

    back_off = BackOff()

    def __init__(self, *connections, finite=False):
        self.cameras = ("front",)
        self.finite = finite
        self.connections = list(connections)
        self.closed = 0

    def __str__(self):
        return "script:front"

    def frames(self, stop):
        try:
            if not self.connections:
                stop.set()
                return
            for item in self.connections.pop(0):
                if isinstance(item, Exception):
                    raise item
                yield Frame("front", item, PIXELS)
        finally:
            self.closed += 1


class Clock:
    def __init__(self):
        self.now_ns = 100 * S
        self.waited_s = []

    def __call__(self):
        return self.now_ns

    def wait(self, seconds):
        self.waited_s.append(seconds)
        self.now_ns += round(seconds * S)


def run(source, submit=lambda frame: None):
    """Run a feed on this thread; its states, the waits between connections, and itself."""
    clock, states = Clock(), []
    feed = Feed(source, submit, changed=lambda: states.append(feed.state), seed=1, clock_ns=clock)

    class Stop(threading.Event):
        def wait(self, timeout=None):
            clock.wait(timeout)
            return self.is_set()

    feed._stop = Stop()
    feed.run()
    return feed, states, clock


def test_frames_are_handed_on_and_a_finite_source_ends():
    frames = []
    feed, states, _ = run(Scripted([1, 2, 3], finite=True), frames.append)
    assert [frame.timestamp_ns for frame in frames] == [1, 2, 3]
    assert [state.condition for state in states] == ["connecting", "streaming", "ended"]
    assert (feed.state.frames, feed.state.reason, feed.state.connections) == (3, None, 1)


def test_a_finite_source_that_fails_ends_with_the_reason():
    feed, _, _ = run(Scripted([1, SourceError("damaged")], [2], finite=True))
    assert (feed.state.condition, feed.state.reason, feed.state.frames) == ("ended", "damaged", 1)


def test_a_live_source_comes_back_after_failures_silence_and_its_end():
    source = Scripted([SourceError("refused")], [SourceError("refused")], [1], [2, SourceError("no data in time")], [3])
    frames = []
    _, states, clock = run(source, frames.append)
    assert [frame.timestamp_ns for frame in frames] == [1, 2, 3]
    waits = [state for state in states if state.condition is SourceCondition.WAITING]
    assert [state.reason for state in waits] == [
        *("refused", "refused", "the stream ended", "no data in time", "the stream ended")
    ]
    assert clock.waited_s == sorted(clock.waited_s)
    assert 0.25 <= clock.waited_s[0] <= 0.5
    assert [state.retry_ns for state in waits] == [
        100 * S + round(sum(clock.waited_s[: n + 1]) * S) for n in range(len(waits))
    ]
    assert source.closed == 6


def test_an_unexpected_error_does_not_end_it(caplog):
    feed, states, _ = run(Scripted([1, ZeroDivisionError("rtsp://u:hunter2@h/a")], [2]))
    assert feed.state.frames == 2
    reasons = [state.reason for state in states if state.condition is SourceCondition.WAITING]
    assert reasons[0] == "ZeroDivisionError: rtsp://***@h/a"
    assert "unexpected error" in caplog.text


def test_refused_frames_are_counted_and_do_not_break_the_connection():
    def refuse_odd(frame):
        if frame.timestamp_ns % 2:
            raise ImageError("image must be small, got a big one")

    feed, states, _ = run(Scripted([1, 2, 3], finite=True), refuse_odd)
    assert (feed.state.frames, feed.state.refused) == (1, 2)
    assert [state.condition for state in states] == ["connecting", "streaming", "ended"]


def test_each_change_is_logged_once(caplog):
    caplog.set_level(logging.INFO, "octobev.sources")

    def refuse(frame):
        raise ImageError("too big")

    run(Scripted([SourceError("refused")], [SourceError("refused")], [SourceError("refused")], [1, 2, 3]), refuse)
    assert [record.getMessage() for record in caplog.records] == [
        "front (script:front): refused; trying again",
        "front (script:front): streaming",
        "front (script:front): frame refused: too big",
        "front (script:front): the stream ended; trying again",
        "front (script:front): ended",
    ]


def test_the_thread_ends_when_told_while_it_waits():
    waiting = threading.Event()
    feed = Feed(
        Scripted(*[[SourceError("refused")]] * 1000),
        lambda frame: None,
        changed=lambda: waiting.set() if feed.state.condition is SourceCondition.WAITING else None,
    )
    feed.start()
    assert feed.thread_name == "octobev-source-front"
    assert waiting.wait(60)
    feed.stop()
    assert feed.join(60)
    assert feed.state.condition is SourceCondition.ENDED


def test_nothing_is_handed_on_once_it_was_told_to_stop():
    frames = []

    def submit(frame):
        frames.append(frame)
        feed.stop()

    feed = Feed(Scripted([1, 2, 3]), submit)
    feed.run()
    assert len(frames) == 1


def test_a_state_says_itself():
    state = SourceState(SourceCondition.WAITING, 0, "connection refused", 3 * S)
    assert state.describe(S) == "waiting 2.0 s (connection refused)"
    assert SourceState(SourceCondition.ENDED, 0, "damaged").describe(0) == "ended (damaged)"
    assert SourceState(SourceCondition.STREAMING, 0).describe(0) == "streaming"
    with pytest.raises(AttributeError):
        state.frames = 1
