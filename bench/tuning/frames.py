"""The frame sets that choices are measured on: those of a drive, and a drive without end made of their images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...errors import DriveError, expected
from ...fusion.rig import Rig
from ...replay.drive import Drive
from ...runtime.frames import FrameSet
from ..material import PERIOD_NS, START_NS, driving


def first_sets(drive: Drive, rig: Rig, count: int) -> tuple[FrameSet, ...]:
    """Read the first sets of a drive in which no camera of the rig is absent; if there is none, the first sets.

    Raises
    ------
    DriveError
        The drive has no set with a frame of the rig.
    """
    some: list[FrameSet] = []
    whole: list[FrameSet] = []
    for step in itertools.islice(drive.steps(), 50):
        present = {frame.camera for frame in step.frame_set.frames}
        if present & set(rig.names):
            some.append(step.frame_set)
        if present >= set(rig.names):
            whole.append(step.frame_set)
        if len(whole) == count:
            break
    sets = whole or some[:count]
    if not sets:
        wanted = f"at least one with a frame of {', '.join(rig.names)}"
        raise DriveError(expected(f"{drive.name}: frame sets", wanted, "none"))
    return tuple(sets)


def without_end(sets: Sequence[FrameSet]) -> Iterator[FrameSet]:
    """The images of some sets again and again, at times that increase, of a car that drives on.

    Nothing is reset in between, as it would be if time went back. Frames and sets without a pose stay without one.
    """
    for number in itertools.count():
        taken = sets[number % len(sets)]
        shift_ns = START_NS + number * PERIOD_NS - taken.timestamp_ns
        frames = tuple(
            replace(
                frame,
                timestamp_ns=frame.timestamp_ns + shift_ns,
                world_from_ego=None if frame.world_from_ego is None else driving(frame.timestamp_ns + shift_ns),
            )
            for frame in taken.frames
        )
        now_ns = taken.timestamp_ns + shift_ns
        pose = None if taken.world_from_ego is None else driving(now_ns)
        yield replace(taken, timestamp_ns=now_ns, frames=frames, world_from_ego=pose)
