"""A drive as a vehicle would deliver it: frames and ego poses one by one, each at its own time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..fusion.pose import Pose
from ..runtime.frames import Frame
from .drive import Drive


@dataclass(frozen=True, slots=True, eq=False)
class StampedPose:
    """Where the ego was at a time."""

    timestamp_ns: int
    world_from_ego: Pose


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """Something that arrives, and when.

    Parameters
    ----------
    at_ns : nanoseconds after the first frame's capture. Within a stream it never falls
    item : a frame, with the pose of its own time where that is known; or such a pose, as odometry gives it
    """

    at_ns: int
    item: Frame | StampedPose


def drive_arrivals(drive: Drive, *, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[Arrival]:
    """Give the frames of a drive, in the order of their capture, each as it is taken; its pose goes before it.

    A frame without a pose of its own has that of its set.
    """
    first_ns: int | None = None
    at_ns = 0
    for step in drive.steps(start_s=start_s, duration_s=duration_s):
        for frame in sorted(step.frame_set.frames, key=lambda frame: frame.timestamp_ns):
            first_ns = frame.timestamp_ns if first_ns is None else first_ns
            at_ns = max(at_ns, frame.timestamp_ns - first_ns)
            pose = frame.world_from_ego or step.frame_set.world_from_ego
            if pose is not None:
                yield Arrival(at_ns, StampedPose(frame.timestamp_ns, pose))
                frame = replace(frame, world_from_ego=pose)
            yield Arrival(at_ns, frame)
