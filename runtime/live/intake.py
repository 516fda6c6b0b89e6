"""What arrives becomes the next set to step on: the newest, whole. Pure logic; the caller says what time it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ...fusion.pose import Pose
from ..frames import Frame, FrameSet
from ..sync import CameraState, SampleSet, Synchroniser, SyncStatus
from .pose_track import PoseTrack

STALE: Final = "stale"
"""Why a frame is left out whose image is the one before it again, and again."""

OVERRUN: Final = "overrun"
"""Why a frame is left out whose set was not stepped on because a newer one was there."""

_PERIODS_OF_SILENCE: Final = 2.5

LATELY: Final = 1 / 3
"""Part of the cameras' period within which a set has come lately, so that no newer one will be there soon.

An older one that is begun beside the rest of the step before, about half a step, would be in the way of a newer one: it
would double the longest latency where steps take longer than periods.
"""


@dataclass(frozen=True, slots=True)
class PendingSet:
    """A set that waits to be stepped on.

    frame_set : with a pose for each of its frames, where one is known
    first_arrival_ns, last_arrival_ns : when its frames arrived
    """

    frame_set: FrameSet
    first_arrival_ns: int
    last_arrival_ns: int


class Intake:
    """Takes frames and poses from cameras, gives the newest set. Not thread-safe: the caller holds a lock.

    Parameters
    ----------
    synchroniser : makes sets of frames
    overrun : told of each camera whose frame is dropped because a newer set is there
    """

    def __init__(self, synchroniser: Synchroniser[Frame], overrun: Callable[[str], None]) -> None:
        self._synchroniser = synchroniser
        self._overrun = overrun
        self._poses = PoseTrack()
        self._refused: dict[str, str] = {}
        self._waiting: SampleSet[Frame] | None = None
        self._set_at_ns: int | None = None
        self._set_timestamp_ns = 0
        self.overruns = 0

    def submit(self, frame: Frame, now_ns: int) -> None:
        """Take a frame that has arrived."""
        self._refused.pop(frame.camera, None)
        if frame.world_from_ego is not None:
            self._poses.add(frame.timestamp_ns, frame.world_from_ego)
        self._leave(self._synchroniser.push(frame.camera, frame.timestamp_ns, frame, now_ns), now_ns)

    def refuse(self, camera: str, reason: str) -> None:
        """Leave a camera out, for this reason, until it submits a frame again."""
        self._refused[camera] = reason

    def submit_pose(self, timestamp_ns: int, world_from_ego: Pose) -> None:
        """Take a pose of the ego."""
        self._poses.add(timestamp_ns, world_from_ego)

    def pull(self, now_ns: int) -> None:
        """Let sets go whose waiting is over; to be called at :attr:`deadline_ns`."""
        self._leave(self._synchroniser.pull(now_ns), now_ns)

    @property
    def deadline_ns(self) -> int | None:
        """When to call :meth:`pull`; None: nothing waits for a time."""
        return self._synchroniser.deadline_ns

    @property
    def ready(self) -> bool:
        """Whether a set waits to be stepped on."""
        return self._waiting is not None

    @property
    def idle(self) -> bool:
        """Whether nothing waits at all: no set for a step, no frame for its set."""
        return self._waiting is None and self.deadline_ns is None

    def take(self) -> PendingSet:
        """Give the set that waits, with the poses that are known by now."""
        assert self._waiting is not None, "ask `ready` first"  # noqa: S101 (the caller's duty, not input)
        samples, self._waiting = self._waiting, None
        arrivals = [sample.arrived_ns for sample in samples.samples.values()]
        frames = [self._placed(sample.payload) for sample in samples.samples.values()]
        frame_set = FrameSet(
            samples.timestamp_ns,
            tuple(frames),
            self._poses.at(samples.timestamp_ns),
            self._absences(samples.absences),
        )
        return PendingSet(frame_set, min(arrivals), max(arrivals))

    def take_lately(self, now_ns: int) -> PendingSet | None:
        """Give the set that waits, if it came lately: it is to be begun beside the rest of the step before it."""
        if self._waiting is None or self._set_at_ns is None:
            return None
        period_ns = self._period_ns(now_ns)
        return self.take() if period_ns is not None and now_ns - self._set_at_ns <= LATELY * period_ns else None

    def status(self, now_ns: int) -> SyncStatus:
        """Return what the synchroniser knows."""
        return self._synchroniser.status(now_ns)

    def silent_since_ns(self, now_ns: int, least_ns: int) -> int | None:
        """When the latest set left, if that is so long ago that nothing can be said of now.

        Parameters
        ----------
        least_ns : shorter is no silence; for slow cameras, 2.5 of their periods are not
        """
        if self._set_at_ns is None or self._waiting is not None or now_ns - self._set_at_ns < least_ns:
            return None
        allowed_ns = max(least_ns, int(_PERIODS_OF_SILENCE * (self._period_ns(now_ns) or 0)))
        return self._set_at_ns if now_ns - self._set_at_ns >= allowed_ns else None

    def capture_time_ns(self, now_ns: int) -> int:
        """Capture time of the latest set, and the time since."""
        return self._set_timestamp_ns + now_ns - (now_ns if self._set_at_ns is None else self._set_at_ns)

    def reason_of_silence(self, now_ns: int) -> str:
        """Say why no set comes."""
        states = {name: camera.state for name, camera in self.status(now_ns).cameras.items()}
        if any(state is CameraState.ACTIVE for state in states.values()):
            return "frames of the cameras do not make a set"
        why = {self._refused.get(name, state.value) for name, state in states.items()}
        return f"no camera delivers ({', '.join(sorted(why))})"

    def _period_ns(self, now_ns: int) -> int | None:
        """Shortest period of the cameras, as far as known."""
        periods = [c.period_ns for c in self.status(now_ns).cameras.values() if c.period_ns is not None]
        return min(periods, default=None)

    def _leave(self, sets: Iterable[SampleSet[Frame]], now_ns: int) -> None:
        for samples in sets:
            if self._waiting is not None:
                self.overruns += 1
                for camera in self._waiting.samples:
                    self._overrun(camera)
            self._waiting = samples
            self._set_at_ns, self._set_timestamp_ns = now_ns, samples.timestamp_ns

    def _placed(self, frame: Frame) -> Frame:
        """The frame with the pose that the ego had when it was taken."""
        if frame.world_from_ego is not None:
            return frame
        return replace(frame, world_from_ego=self._poses.at(frame.timestamp_ns))

    def _absences(self, absences: Mapping[str, str]) -> dict[str, str]:
        return {camera: self._refused.get(camera, reason) for camera, reason in absences.items()}
