"""A drive with camera faults: what arrives is disturbed, and made into sets as a live runtime would."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ...runtime.frames import Frame, FrameSet
from ...runtime.sync import ApproximateTime, SampleSet, Synchroniser
from ...runtime.sync.policies import Policy
from ..arrivals import Arrival, drive_arrivals
from ..drive import Drive, DriveStep, GroundTruth
from .kinds import Fault
from .stream import disturb

POLICY: Final = ApproximateTime(max_skew_ns=60_000_000, max_wait_ns=80_000_000)
"""Fits rigs from 5 to 40 frames a second whose cameras fire within 60 ms of each other."""

_TRUTHS_KEPT: Final = 64


class FaultyDrive(Drive):
    """A drive as it would reach a runtime through faulty cameras.

    Frames arrive when they were taken, or when a fault lets them, on a clock that is simulated: nothing waits, and
    equal arguments give equal sets. A :class:`~octobev.runtime.sync.Synchroniser` makes sets of them, so a camera that
    is late, out of order or off in time is left out of them as it would be in a vehicle. While no frame arrives at all
    there are no sets. The truth stays with the sets whose time it is of.

    Parameters
    ----------
    drive : the drive without faults
    faults : those that are not of cameras are passed over
    seed : of what is left to chance
    policy : what a set is
    follow : told, before each set, the time that has come, nanoseconds after the first frame
    """

    def __init__(
        self,
        drive: Drive,
        faults: Sequence[Fault],
        seed: int = 0,
        *,
        policy: Policy = POLICY,
        follow: Callable[[int], None] | None = None,
    ) -> None:
        self.name = drive.name
        self.rig = drive.rig
        self.losses = drive.losses
        self._drive = drive
        self._faults = tuple(faults)
        self._seed = seed
        self._policy = policy
        self._follow = follow

    @property
    def length_hint(self) -> int | None:
        """As many steps as the drive without faults has."""
        return self._drive.length_hint

    def steps(self, *, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[DriveStep]:
        """Iterate over the steps; the faults' times are counted from the first frame of the part that is asked for."""
        kept = _Kept(self._drive)
        arrivals = drive_arrivals(kept, start_s=start_s, duration_s=duration_s)
        synchroniser: Synchroniser[Frame] = Synchroniser(self.rig.names, self._policy)
        for at_ns, samples in _sets(disturb(arrivals, self._faults, self._seed), synchroniser):
            if self._follow is not None:
                self._follow(at_ns)
            frames = tuple(sample.payload for sample in samples.samples.values())
            newest = max(frames, key=lambda frame: frame.timestamp_ns)
            frame_set = FrameSet(samples.timestamp_ns, frames, newest.world_from_ego, samples.absences)
            yield DriveStep(frame_set, kept.truth_of(samples.timestamp_ns))
        self.losses = self._drive.losses


class _Kept(Drive):
    """A drive whose latest truths can be asked for by their time."""

    def __init__(self, drive: Drive) -> None:
        self.name, self.rig, self.losses = drive.name, drive.rig, drive.losses
        self._drive = drive
        self._truths: deque[GroundTruth] = deque(maxlen=_TRUTHS_KEPT)

    def steps(self, *, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[DriveStep]:
        for step in self._drive.steps(start_s=start_s, duration_s=duration_s):
            if step.truth is not None:
                self._truths.append(step.truth)
            yield step

    def truth_of(self, timestamp_ns: int) -> GroundTruth | None:
        return next((truth for truth in self._truths if truth.timestamp_ns == timestamp_ns), None)


def _sets(arrivals: Iterator[Arrival], synchroniser: Synchroniser[Frame]) -> Iterator[tuple[int, SampleSet[Frame]]]:
    """Sets, with the simulated time at which each leaves."""
    for arrival in arrivals:
        yield from _overdue(synchroniser, arrival.at_ns)
        frame = arrival.item
        if isinstance(frame, Frame) and frame.camera in synchroniser.cameras:
            for samples in synchroniser.push(frame.camera, frame.timestamp_ns, frame, arrival.at_ns):
                yield arrival.at_ns, samples
    yield from _overdue(synchroniser, None)


def _overdue(synchroniser: Synchroniser[Frame], before_ns: int | None) -> Iterator[tuple[int, SampleSet[Frame]]]:
    """Sets that leave because they have waited, until a time; None: until nothing waits."""
    while (deadline_ns := synchroniser.deadline_ns) is not None and (before_ns is None or deadline_ns <= before_ns):
        for samples in synchroniser.pull(deadline_ns):
            yield deadline_ns, samples
        if synchroniser.deadline_ns == deadline_ns:  # nothing can leave at it: look again with the next arrival
            return
