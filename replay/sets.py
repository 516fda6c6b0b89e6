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

    A set closes when every camera has its frame, when a camera comes again, or when a frame is more than `max_skew_ns`
    later than the set's first. The set's timestamp and ego pose are those of its latest frame; cameras without a frame
    become absences. Time never runs backwards: a frame older than the one before it is dropped and counted.

    Parameters
    ----------
    frames : in time order, each with its own ego pose
    cameras : names that every set should have; frames of other cameras are ignored
    max_skew_ns : bound, nanoseconds
    losses : counts what is dropped
    """
    expected_cameras = tuple(cameras)
    members: dict[str, Frame] = {}
    first_ns = newest_ns = -1
    latest: dict[str, int] = {}
    for frame in frames:
        if frame.camera not in expected_cameras:
            continue
        if latest.get(frame.camera) == frame.timestamp_ns:
            losses.add("two frames of one camera at the same time")
            continue
        if frame.timestamp_ns < newest_ns:
            losses.add("timestamp goes backwards")
            continue
        if members and (frame.camera in members or frame.timestamp_ns - first_ns > max_skew_ns):
            yield _close(members, expected_cameras, max_skew_ns)
            members = {}
        if not members:
            first_ns = frame.timestamp_ns
        newest_ns = latest[frame.camera] = frame.timestamp_ns
        members[frame.camera] = frame
        if len(members) == len(expected_cameras):
            yield _close(members, expected_cameras, max_skew_ns)
            members = {}
    if members:
        yield _close(members, expected_cameras, max_skew_ns)


def window(
    steps: Iterator[DriveStep], start_s: float, duration_s: float | None, *, first_ns: int | None = None
) -> Iterator[DriveStep]:
    """Cut out the half-open interval [start, start + duration) after the first step.

    Parameters
    ----------
    steps : in time order
    start_s, duration_s : seconds; a duration of None is without end
    first_ns : time of the drive's first step, where `steps` do not begin with it

    Raises
    ------
    InvalidArgument
        A negative or non-finite start or duration.
    """
    for what, value in (("start_s", start_s), ("duration_s", duration_s)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise InvalidArgument(expected(what, "seconds from 0 on", value))
    return _window(steps, start_s, duration_s, first_ns)


def _window(
    steps: Iterator[DriveStep], start_s: float, duration_s: float | None, first_ns: int | None
) -> Iterator[DriveStep]:
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
