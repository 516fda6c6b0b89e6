"""Frames in time order become sets: one instant of the rig each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

from ..errors import InvalidArgument, expected
from ..runtime.frames import Frame, FrameSet
from .drive import DriveStep, Losses

MAX_SKEW_S: Final = 0.06
"""How far apart the first and the last frame of a set may be, when the drive does not ask for less, seconds."""

_FORGET_AFTER: Final = 10


def skew_for_period(period_s: float | None) -> float:
    """Return the skew bound for cameras that fire every `period_s`.

    It is :data:`MAX_SKEW_S`, or three quarters of the period when that is less, so that the sets of a fast rig do not
    reach into each other.
    """
    return MAX_SKEW_S if period_s is None or period_s <= 0 else min(MAX_SKEW_S, 0.75 * period_s)


def group_frames(
    frames: Iterable[Frame], cameras: Iterable[str], max_skew_ns: int, losses: Losses
) -> Iterator[FrameSet]:
    """Group frames into sets.

    A set closes when every camera has its frame, when a camera comes again, when a frame is more than `max_skew_ns`
    later than the set's first, or when the frame by its camera's phase belongs to the next set (see :class:`_Phases`).
    The set's timestamp and ego pose are those of its latest frame; cameras without a frame become absences. Time never
    runs backwards: a frame older than the one before it is dropped and counted.

    Parameters
    ----------
    frames : in time order, each with its own ego pose
    cameras : names that every set should have; frames of other cameras are ignored
    max_skew_ns : bound, nanoseconds
    losses : counts what is dropped
    """
    names = tuple(cameras)
    phases = _Phases()
    members: dict[str, Frame] = {}
    for frame in _forward(frames, names, losses):
        phases.see(frame)
        if members:
            first = next(iter(members.values()))
            late = frame.timestamp_ns - first.timestamp_ns > max_skew_ns
            if late or frame.camera in members or not phases.agree(first, frame):
                phases.close(members, complete=False)
                yield _close(members, names, max_skew_ns)
                members = {}
        members[frame.camera] = frame
        if len(members) == len(names):
            phases.close(members, complete=True)
            yield _close(members, names, max_skew_ns)
            members = {}
    if members:
        yield _close(members, names, max_skew_ns)


def _forward(frames: Iterable[Frame], names: tuple[str, ...], losses: Losses) -> Iterator[Frame]:
    """Frames of these cameras in time order; drop and count what repeats or goes back."""
    newest_ns = -1
    latest: dict[str, int] = {}
    for frame in frames:
        if frame.camera not in names:
            continue
        if latest.get(frame.camera) == frame.timestamp_ns:
            losses.add("two frames of one camera at the same time")
        elif frame.timestamp_ns < newest_ns:
            losses.add("timestamp goes backwards")
        else:
            newest_ns = latest[frame.camera] = frame.timestamp_ns
            yield frame


class _Phases:
    """When in a set each camera fires, learned from complete sets.

    Without it one lost frame would let the frames behind it slip into the set before, and every set from there on would
    mix two instants as long as both fit into the skew bound.
    """

    def __init__(self) -> None:
        self._offsets: dict[str, int] = {}
        self._latest: dict[str, int] = {}
        self._intervals: dict[str, int] = {}
        self._incomplete = 0

    def see(self, frame: Frame) -> None:
        """Take note of the time between a camera's frames."""
        if frame.camera in self._latest:
            self._intervals[frame.camera] = frame.timestamp_ns - self._latest[frame.camera]
        self._latest[frame.camera] = frame.timestamp_ns

    def agree(self, first: Frame, frame: Frame) -> bool:
        """Whether two frames by their cameras' phases are nearer to one instant than to two."""
        if first.camera not in self._offsets or frame.camera not in self._offsets or not self._intervals:
            return True
        apart = frame.timestamp_ns - self._offsets[frame.camera] - first.timestamp_ns + self._offsets[first.camera]
        return 2 * abs(apart) <= min(self._intervals.values())

    def close(self, members: dict[str, Frame], *, complete: bool) -> None:
        """Learn from a complete set; forget when there has been none for long: the phases may have drifted."""
        self._incomplete = 0 if complete else self._incomplete + 1
        if complete:
            first_ns = min(frame.timestamp_ns for frame in members.values())
            self._offsets = {name: frame.timestamp_ns - first_ns for name, frame in members.items()}
        elif self._incomplete > _FORGET_AFTER:
            self._offsets = {}


def check_window(start_s: float, duration_s: float | None) -> None:
    """Refuse a part of a drive that is none.

    Raises
    ------
    InvalidArgument
        A negative or non-finite start or duration.
    """
    for what, value in (("start_s", start_s), ("duration_s", duration_s)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise InvalidArgument(expected(what, "finite seconds from 0 on", value))


def window(
    steps: Iterator[DriveStep], start_s: float, duration_s: float | None, *, first_ns: int | None = None
) -> Iterator[DriveStep]:
    """Cut out the half-open interval [start, start + duration) after the first step.

    Parameters
    ----------
    steps : in time order
    start_s, duration_s : seconds, see :func:`check_window`; a duration of None is without end
    first_ns : time of the drive's first step, where `steps` do not begin with it
    """
    for step in steps:
        timestamp_ns = step.frame_set.timestamp_ns
        first_ns = timestamp_ns if first_ns is None else first_ns
        begin_ns = first_ns + round(start_s * 1e9)
        if duration_s is not None and timestamp_ns >= begin_ns + round(duration_s * 1e9):
            return
        if timestamp_ns >= begin_ns:
            yield step


def _close(members: dict[str, Frame], cameras: tuple[str, ...], max_skew_ns: int) -> FrameSet:
    newest = max(members.values(), key=lambda frame: frame.timestamp_ns)
    reason = f"no frame within {max_skew_ns / 1e6:g} ms"
    return FrameSet(
        timestamp_ns=newest.timestamp_ns,
        frames=tuple(members[name] for name in cameras if name in members),
        world_from_ego=newest.world_from_ego,
        absences={name: reason for name in cameras if name not in members},
    )
