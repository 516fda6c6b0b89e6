"""The capture clock that most cameras share, and the cameras whose clock is another one.

A camera's clock is known by its offset only: capture time minus time of arrival, which is wrong by the delay of the
delivery. That is enough to see a clock jump.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto
from statistics import median_low
from typing import Generic

from .track import GRACE_NS, P, Track


class Verdict(Enum):
    """What the timestamp of a frame says about the clock of its camera."""

    SHARED = auto()
    """It is that of most cameras."""
    OTHER = auto()
    """It is not."""
    JUMPED = auto()
    """It is that of most cameras, and not what theirs was before."""


class SharedClock(Generic[P]):
    """Follows the offset of most cameras.

    Parameters
    ----------
    tracks : all cameras
    tolerance_ns : clocks that differ by more are different clocks
    """

    def __init__(self, tracks: Collection[Track[P]], tolerance_ns: int) -> None:
        self._tracks = tracks
        self._tolerance_ns = tolerance_ns
        self._offset_ns: int | None = None

    def judge(self, track: Track[P], timestamp_ns: int, now_ns: int) -> Verdict:
        """Judge by the timestamp of a frame that has just arrived.

        The shared clock has jumped when more than half of the cameras heard within the last second say so.
        """
        track.offset_ns, track.offset_at_ns = timestamp_ns - now_ns, now_ns
        if self._offset_ns is None or self._alike(track, self._offset_ns):
            return Verdict.SHARED
        voters = [t for t in self._tracks if t.offset_ns is not None and now_ns - t.offset_at_ns <= GRACE_NS]
        if 2 * sum(self._alike(other, track.offset_ns) for other in voters) <= len(voters):
            return Verdict.OTHER
        self._offset_ns = track.offset_ns
        for other in self._tracks:
            other.forget()
            other.wrong_clock = other.offset_ns is not None and not self._alike(other, self._offset_ns)
        return Verdict.JUMPED

    def follow(self, now_ns: int) -> None:
        """Let the offset drift with those of the cameras that share the clock, each by its least delayed frame."""
        heard = (t for t in self._tracks if t.heard_ns is not None and now_ns - t.heard_ns <= GRACE_NS)
        offsets = [offset_ns for t in heard if (offset_ns := t.least_delayed_ns) is not None]
        if self._offset_ns is not None:
            shared_ns = self._offset_ns
            offsets = [o for o in offsets if abs(o - shared_ns) <= self._tolerance_ns] or [shared_ns]
        self._offset_ns = median_low(offsets)

    def ahead_ns(self, track: Track[P]) -> int:
        """By how much a camera's clock is ahead of that of most, or its delivery faster; below 0: behind or slower."""
        offset_ns = track.least_delayed_ns
        return 0 if offset_ns is None or self._offset_ns is None else offset_ns - self._offset_ns

    def arrives_ns(self, timestamp_ns: int) -> int:
        """When frames of this capture time arrive from most cameras."""
        return timestamp_ns - (self._offset_ns or 0)

    def _alike(self, track: Track[P], offset_ns: int) -> bool:
        return track.offset_ns is not None and abs(track.offset_ns - offset_ns) <= self._tolerance_ns
