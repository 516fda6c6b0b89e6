"""What the synchroniser knows of one camera: the frames that wait, how often it fires, what became of its frames."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from operator import attrgetter
from statistics import median_low
from typing import Final, Generic, TypeVar

P = TypeVar("P")
"""What is synchronised: an image, encoded bytes, a slot of a ring."""

RECENT_FRAMES: Final = 16
"""So many timestamps per camera are remembered, to know its period and to recognise a frame that comes twice."""

GRACE_NS: Final = 1_000_000_000
"""So long a camera of uncertain period is waited for, and so long an arrival counts in the vote about the time."""

_LATEST_FRAMES: Final = 4
_PERIODS_AHEAD: Final = 3
_MISSING_AFTER_PERIODS: Final = 2.5
_STEADY_AFTER: Final = 4
_SLOWER: Final = 1.3
_RESTS: Final = 0.75
_time_of = attrgetter("timestamp_ns")


class DropReason(StrEnum):
    """Why a frame was in no set."""

    DUPLICATE = "duplicate"
    """A frame of this camera with this timestamp came before."""
    LATE = "late"
    """The sets had gone past it when it came."""
    OUT_OF_ORDER = "out_of_order"
    """The same, and a newer frame of its camera had come before it."""
    OVERFLOW = "overflow"
    """The queue of its camera was full; the oldest went."""
    CLOCK_JUMP = "clock_jump"
    """Its camera's clock was not that of most cameras, or it waited when theirs jumped."""
    SKEW = "skew"
    """No set was near enough in time."""
    SURPLUS = "surplus"
    """Another frame of its camera was the better one for the set: the camera is faster than the reference."""


class CameraState(StrEnum):
    """Whether sets wait for a camera."""

    NEVER_SEEN = "never seen"
    ACTIVE = "active"
    MISSING = "missing"
    WRONG_CLOCK = "clock differs from the other cameras"


@dataclass(frozen=True, slots=True, eq=False)
class Sample(Generic[P]):
    """One frame of one camera.

    timestamp_ns : capture time; arrived_ns : when it was pushed, on the clock of the caller; payload : the frame itself
    """

    timestamp_ns: int
    arrived_ns: int
    payload: P


class Track(Generic[P]):
    """Follows one camera.

    Parameters
    ----------
    name : of the camera
    capacity : so many frames wait at most
    displaced : what a frame is counted as that goes because too many wait
    """

    def __init__(self, name: str, capacity: int, displaced: DropReason = DropReason.OVERFLOW) -> None:
        self.name = name
        self.queue: list[Sample[P]] = []
        self.dropped: Counter[DropReason] = Counter()
        self.matched = 0
        self.period_ns: int | None = None
        self.offset_ns: int | None = None
        self.offset_at_ns = 0
        self.heard_ns: int | None = None
        self.wrong_clock = False
        self.floor_ns: int | None = None
        self.phase_ns: int | None = None
        self._capacity = capacity
        self._displaced = displaced
        self._recent: list[tuple[int, int]] = []
        self._known: list[int] = []
        self._expected: list[int] = []
        self._steady = False

    @property
    def newest_ns(self) -> int | None:
        """Timestamp of the newest of the recent frames."""
        return self._known[-1] if self._known else None

    @property
    def predictable(self) -> bool:
        """Whether it is known when its next frame will come."""
        return bool(self._expected)

    def seen(self, timestamp_ns: int) -> bool:
        """Whether a frame with this timestamp came lately."""
        return timestamp_ns in self._known or any(sample.timestamp_ns == timestamp_ns for sample in self.queue)

    def note(self, timestamp_ns: int, now_ns: int) -> None:
        """Learn from the time of a frame, whether it can be used or not."""
        self.heard_ns, self.wrong_clock = now_ns, False
        self._recent.append((timestamp_ns, now_ns))
        del self._recent[:-RECENT_FRAMES]
        self._known = sorted(known_ns for known_ns, _ in self._recent)
        apart = [after - before for before, after in pairwise(self._known) if after - before <= GRACE_NS]
        if apart:
            self.period_ns = median_low(apart)
            self._steady = self._steady or len(apart) >= _STEADY_AFTER
        self._expected = self._expect()

    def add(self, sample: Sample[P]) -> None:
        """Queue a frame in the order of capture; when the queue is full the oldest goes."""
        insort(self.queue, sample, key=_time_of)
        if len(self.queue) > self._capacity:
            del self.queue[0]
            self.drop(self._displaced)

    def drop(self, reason: DropReason) -> None:
        """Count a frame that goes unused."""
        self.dropped[reason] += 1

    def pass_by(self, floor_ns: int, used: Sample[P] | None) -> None:
        """Let a set go past this camera: what is not after `floor_ns` or `used`, which is in the set, is over."""
        floor_ns = floor_ns if used is None else max(floor_ns, used.timestamp_ns)
        self.floor_ns = floor_ns if self.floor_ns is None else max(self.floor_ns, floor_ns)
        over = bisect_right(self.queue, self.floor_ns, key=_time_of)
        for sample in self.queue[:over]:
            if sample is used:
                self.matched += 1
            elif used is not None:
                self.drop(DropReason.SURPLUS)
            else:
                self._misfit()
        del self.queue[:over]

    def expire(self, arrived_ns: int) -> None:
        """Drop the frames that arrived up to then: they have waited and no set wants them."""
        late = [sample for sample in self.queue if sample.arrived_ns <= arrived_ns]
        for sample in late:
            self.queue.remove(sample)
            self._misfit()

    def _misfit(self) -> None:
        """Count a frame that fits into no set: the camera's place in the sets is not what it was."""
        self.drop(DropReason.SKEW)
        self.phase_ns = None

    def forget(self) -> None:
        """Drop everything that belongs to a time that is no more; the period stays."""
        for _ in self.queue:
            self.drop(DropReason.CLOCK_JUMP)
        self.queue.clear()
        self._recent, self._known, self._expected = [], [], []
        self.floor_ns = self.phase_ns = None

    def missing_at_ns(self, started_ns: int) -> int:
        """When the camera counts as missing, if nothing comes from it until then."""
        since_ns = started_ns if self.heard_ns is None else self.heard_ns
        if self.heard_ns is None or self.period_ns is None or not self._steady:
            return since_ns + GRACE_NS
        return since_ns + round(_MISSING_AFTER_PERIODS * self.period_ns)

    def state(self, now_ns: int, started_ns: int) -> CameraState:
        """What the camera is at an instant."""
        if self.wrong_clock and now_ns <= self.offset_at_ns + GRACE_NS:
            return CameraState.WRONG_CLOCK
        if self.heard_ns is None:
            return CameraState.NEVER_SEEN
        return CameraState.ACTIVE if now_ns < self.missing_at_ns(started_ns) else CameraState.MISSING

    def expected_ns(self, after_ns: int, until_ns: int) -> list[int]:
        """When the camera should have fired or will fire, by its period, where no frame of it is known.

        At most three in a row: a longer gap is no lost frame but an outage.

        Parameters
        ----------
        after_ns, until_ns : capture times, exclusive and inclusive
        """
        return [time_ns for time_ns in self._expected if after_ns < time_ns <= until_ns]

    def slower_than(self, other: Track[P]) -> bool:
        """Whether it certainly fires less often than another camera, on the average of the recent frames."""
        mine, theirs = self._known, other._known
        if not (self._steady and other._steady and len(mine) > 1 and len(theirs) > 1):
            return False
        mine_ns, theirs_ns = mine[-1] - mine[0], theirs[-1] - theirs[0]
        return mine_ns * (len(theirs) - 1) > _SLOWER * theirs_ns * (len(mine) - 1)

    def in_step(self, pace: Track[P]) -> int | None:
        """How long after the pace camera it fires; None: not known, or it is slower and does so now and then only."""
        return None if self.slower_than(pace) else self.phase_ns

    def to_come(self, timestamp_ns: int) -> bool:
        """Whether a frame of about this time, by half a period, may still come: none is there and no later one."""
        half_ns = (self.period_ns or 0) // 2
        if self.newest_ns is not None and self.newest_ns > timestamp_ns + half_ns:
            return False
        return all(abs(sample.timestamp_ns - timestamp_ns) > half_ns for sample in self.queue)

    def rested(self, timestamp_ns: int) -> bool:
        """Whether it may fire again at a time, by the time since the frame before."""
        before_ns = max((known_ns for known_ns in self._known if known_ns < timestamp_ns), default=None)
        return before_ns is None or self.period_ns is None or timestamp_ns - before_ns >= _RESTS * self.period_ns

    @property
    def least_delayed_ns(self) -> int | None:
        """Capture time minus time of arrival, of that of the latest frames that was here fastest; None: no frame."""
        latest = self._recent[-_LATEST_FRAMES:]
        return max((captured_ns - arrived_ns for captured_ns, arrived_ns in latest), default=None)

    def _expect(self) -> list[int]:
        period_ns = self.period_ns
        if period_ns is None:
            return []
        times = []
        for before, after in zip(self._known, [*self._known[1:], None], strict=True):
            for count in range(1, _PERIODS_AHEAD + 1):
                time_ns = before + count * period_ns
                if after is not None and 2 * (after - time_ns) <= period_ns:
                    break
                times.append(time_ns)
        return times
