"""Frames of many cameras, as they arrive, become sets: one instant of the rig each.

Pure logic: no thread, no waiting, no clock. The caller says what time it is; the same calls give the same sets. Two
times are kept apart: the capture time of a frame (`timestamp_ns`), which decides what belongs together, and the time of
its arrival (`now_ns`, any clock that does not jump), which decides how long to wait. Neither is ever taken for the
other; their difference is only compared with that of other cameras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic

from ...errors import InvalidArgument, expected
from .clock import SharedClock, Verdict
from .plans import Passed, Plan, Planner
from .policies import ExactTime, Latest, Policy
from .track import CameraState, DropReason, P, Sample, Track


@dataclass(frozen=True, slots=True, eq=False)
class SampleSet(Generic[P]):
    """One instant: at most one sample per camera. A FrameSet once the payloads are frames.

    Parameters
    ----------
    epoch : number of jumps of the cameras' common clock so far; (epoch, timestamp_ns) rises strictly from set to set
    timestamp_ns : capture time of its latest sample
    samples : camera -> its sample, in the order of the rig
    absences : camera -> why it has none
    """

    epoch: int
    timestamp_ns: int
    samples: Mapping[str, Sample[P]]
    absences: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class CameraSync:
    """What became of one camera's frames so far: pushed = queued + matched + the sum of dropped.

    state : whether sets wait for the camera; period_ns : median time between its frames, None when not known
    """

    state: CameraState
    queued: int
    matched: int
    dropped: Mapping[DropReason, int]
    period_ns: int | None


@dataclass(frozen=True, slots=True, eq=False)
class SyncStatus:
    """State of a synchroniser at one instant.

    cameras : camera -> its part; complete, incomplete : sets so far; epoch : see :class:`SampleSet`;
    pace : camera whose frames the sets are made around, None for exact time or when no camera delivers
    """

    cameras: Mapping[str, CameraSync]
    complete: int
    incomplete: int
    epoch: int
    pace: str | None


class Synchroniser(Generic[P]):
    """Matches samples of several cameras by a policy.

    Not thread-safe: who pushes from several threads holds a lock. It keeps at most `len(cameras) * queue_frames`
    payloads and sixteen pairs of integers per camera, whatever is pushed.

    Parameters
    ----------
    cameras : names, in the order of the rig
    policy : what a set is
    queue_frames : so many frames of a camera may wait; when more come the oldest is dropped. :class:`Latest` keeps one.
    clock_tolerance_ns : by how much the capture clock of a camera (seen from the arrivals, so delays count) may differ
        from that of most cameras; not less than the policy's `max_wait_ns`

    Raises
    ------
    InvalidArgument
        No cameras, a camera twice, a reference that is none of them, numbers out of range.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        policy: Policy,
        *,
        queue_frames: int = 8,
        clock_tolerance_ns: int = 500_000_000,
    ) -> None:
        names = tuple(cameras)
        if not names or len(set(names)) != len(names):
            raise InvalidArgument(expected("cameras", "one or more different names", ", ".join(names) or "none"))
        if queue_frames < 1:
            raise InvalidArgument(expected("queue_frames", "1 or more", queue_frames))
        self._max_wait_ns = 0 if isinstance(policy, Latest) else policy.max_wait_ns
        if clock_tolerance_ns < max(1, self._max_wait_ns):
            at_least = f"at least {max(1, self._max_wait_ns)} (max_wait_ns of the policy)"
            raise InvalidArgument(expected("clock_tolerance_ns", at_least, clock_tolerance_ns))
        self._reference = names[0]
        if not isinstance(policy, ExactTime) and policy.reference is not None:
            self._reference = policy.reference
        if self._reference not in names:
            raise InvalidArgument(expected("reference", f"one of {', '.join(names)}", self._reference))
        self.policy = policy
        self._tolerance_ns = clock_tolerance_ns
        self._tracks: dict[str, Track[P]] = {
            name: Track(name, 1, DropReason.SURPLUS) if isinstance(policy, Latest) else Track(name, queue_frames)
            for name in names
        }
        self._clock = SharedClock(self._tracks.values(), clock_tolerance_ns)
        self._planner = Planner(policy, self._tracks)
        self._now_ns: int | None = None
        self._started_ns = 0
        self._deadline_ns: int | None = None
        self._passed: Passed | None = None
        self._newest_ns: int | None = None
        self._epoch = 0
        self._sets = {True: 0, False: 0}

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names, in the order of the rig."""
        return tuple(self._tracks)

    def push(self, camera: str, timestamp_ns: int, payload: P, now_ns: int) -> tuple[SampleSet[P], ...]:
        """Take a frame that has arrived; returns the sets that leave by it, and those whose waiting is over.

        Parameters
        ----------
        camera : one of `cameras`
        timestamp_ns : capture time
        payload : kept until its set leaves or it is dropped
        now_ns : time of arrival; a time before that of an earlier call counts as that

        Raises
        ------
        InvalidArgument
            A camera that is not known.
        """
        if camera not in self._tracks:
            raise InvalidArgument(expected("camera", f"one of {', '.join(self._tracks)}", camera))
        sets = self.pull(now_ns)
        now_ns = self._tick(now_ns)
        track = self._tracks[camera]
        if track.seen(timestamp_ns):
            track.drop(DropReason.DUPLICATE)
            return sets
        newest_ns = track.newest_ns
        verdict = self._clock.judge(track, timestamp_ns, now_ns)
        if verdict is Verdict.JUMPED:
            self._epoch += 1
            self._passed = self._newest_ns = newest_ns = None
        if verdict is Verdict.OTHER:
            track.wrong_clock = True
            late = newest_ns is not None and timestamp_ns > newest_ns and self._clock.arrives_ns(timestamp_ns) < now_ns
            track.drop(DropReason.LATE if late else DropReason.CLOCK_JUMP)
            return sets + self._release(now_ns)
        track.note(timestamp_ns, now_ns)
        self._clock.follow(now_ns)
        if track.floor_ns is None or timestamp_ns > track.floor_ns:
            track.add(Sample(timestamp_ns, now_ns, payload))
        else:
            behind = newest_ns is not None and timestamp_ns < newest_ns
            track.drop(DropReason.OUT_OF_ORDER if behind else DropReason.LATE)
        return sets + self._release(now_ns)

    def pull(self, now_ns: int) -> tuple[SampleSet[P], ...]:
        """Return the sets whose waiting is over; to be called at :attr:`deadline_ns`."""
        now_ns = self._tick(now_ns)
        return () if self._deadline_ns is None or now_ns < self._deadline_ns else self._release(now_ns)

    @property
    def deadline_ns(self) -> int | None:
        """When to call :meth:`pull` unless something is pushed before, on the clock of the arrivals.

        Nothing leaves earlier. It may be that nothing leaves then, either: a camera has become a missing one, or frames
        have waited in vain. None: nothing waits.
        """
        return self._deadline_ns

    def status(self, now_ns: int) -> SyncStatus:
        """Return what the synchroniser knows; changes nothing."""
        cameras = {
            name: CameraSync(
                track.state(now_ns, self._started_ns),
                len(track.queue),
                track.matched,
                MappingProxyType(dict(track.dropped)),
                track.period_ns,
            )
            for name, track in self._tracks.items()
        }
        pace = self._pace(self._waited_for(now_ns))
        return SyncStatus(MappingProxyType(cameras), self._sets[True], self._sets[False], self._epoch, pace)

    def _tick(self, now_ns: int) -> int:
        if self._now_ns is None:
            self._started_ns = self._now_ns = now_ns
        self._now_ns = max(self._now_ns, now_ns)
        return self._now_ns

    def _waited_for(self, now_ns: int) -> list[str]:
        """Cameras that deliver, and at the start those that may."""
        return [
            name
            for name, track in self._tracks.items()
            if not track.wrong_clock and now_ns < track.missing_at_ns(self._started_ns)
        ]

    def _pace(self, waited_for: Sequence[str]) -> str | None:
        """Camera whose frames sets are made around: the reference, or the delivering camera most like it."""
        if isinstance(self.policy, ExactTime):
            return None
        reference = self._tracks[self._reference]
        apart_ns = self._max_wait_ns or self._tolerance_ns

        def rank(track: Track[P]) -> tuple[bool, bool, bool, int]:
            out_of_step = abs(self._clock.ahead_ns(track)) > apart_ns
            unlike_ns = abs((track.period_ns or 0) - (reference.period_ns or 0))
            quarters = 4 * unlike_ns // (reference.period_ns or 1)
            return track.name not in waited_for, out_of_step, track is not reference, quarters

        heard = [track for track in self._tracks.values() if track.heard_ns is not None]
        return min(heard, key=rank).name if heard else None

    def _plans(self, now_ns: int) -> list[Plan[P]]:
        waited_for = self._waited_for(now_ns)
        return self._planner.plan(self._pace(waited_for), waited_for, self._passed)

    def _release(self, now_ns: int) -> tuple[SampleSet[P], ...]:
        sets: list[SampleSet[P]] = []
        while True:
            plans = self._plans(now_ns)
            if not any(plan.members and self._due(plan, now_ns) for plan in plans):
                break
            sets += self._leave(plans[0], now_ns)
        self._deadline_ns = self._expire(now_ns) if self._max_wait_ns else None
        return tuple(sets)

    def _expire(self, now_ns: int) -> int | None:
        """Drop what has waited for long enough and no set wants; returns when to look again."""
        for track in self._tracks.values():
            track.expire(now_ns - self._max_wait_ns)
        waiting = [sample.arrived_ns for track in self._tracks.values() for sample in track.queue]
        if not waiting:
            return None
        silent_ns = [track.missing_at_ns(self._started_ns) for track in self._tracks.values()]
        return min([min(waiting) + self._max_wait_ns, *(time_ns for time_ns in silent_ns if time_ns > now_ns)])

    def _due(self, plan: Plan[P], now_ns: int) -> bool:
        """Whether a set waits for nothing, for nothing that can come in time, or has waited for long enough.

        A set without a frame of the camera that sets the pace is none before that frame could be there.
        """
        deadline_ns = min(sample.arrived_ns for sample in plan.members.values()) + self._max_wait_ns
        if plan.pace in plan.awaited and self._clock.arrives_ns(plan.anchor_ns) > deadline_ns:
            return False
        if now_ns >= deadline_ns:
            return True
        for name, time_ns in plan.awaited.items():
            offset_ns = self._tracks[name].least_delayed_ns
            if time_ns is None or offset_ns is None or time_ns - offset_ns <= deadline_ns:
                return False
        return True

    def _leave(self, plan: Plan[P], now_ns: int) -> list[SampleSet[P]]:
        """Let a set go: what is in it is used, what is behind it is dropped."""
        members = plan.members
        newest_ns = max((sample.timestamp_ns for sample in members.values()), default=None)
        forward = newest_ns is not None and (self._newest_ns is None or newest_ns > self._newest_ns)
        if not forward:
            members = {}
        passed = Passed(plan.anchor_ns, plan.pace if plan.pace in members else None)
        for name, track in self._tracks.items():
            passes_ns = passed.before_ns(track) if name == plan.pace else plan.passes_ns
            used = members.get(name)
            if used is not None and plan.pace in members:
                track.phase_ns = used.timestamp_ns - plan.anchor_ns
            track.pass_by(passes_ns, used)
        self._passed = passed
        if not forward or newest_ns is None:
            return []
        self._newest_ns = newest_ns
        absences = {
            name: self._absence(track, plan, now_ns) for name, track in self._tracks.items() if name not in members
        }
        self._sets[not absences] += 1
        samples = {name: members[name] for name in self._tracks if name in members}
        return [SampleSet(self._epoch, newest_ns, MappingProxyType(samples), MappingProxyType(absences))]

    def _absence(self, track: Track[P], plan: Plan[P], now_ns: int) -> str:
        state = track.state(now_ns, self._started_ns)
        if state is not CameraState.ACTIVE:
            return state.value
        if track.name in plan.awaited:
            return f"not there within {self._max_wait_ns / 1e6:g} ms"
        if isinstance(self.policy, ExactTime):
            return "no frame at this time"
        return f"no frame within {self.policy.max_skew_ns / 1e6:g} ms"
