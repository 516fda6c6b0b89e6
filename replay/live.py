"""Plays arrivals at their own pace into a live runtime, and says what came of it."""

from __future__ import annotations

import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from ..errors import InvalidArgument, expected
from ..fusion.pose import Pose
from ..runtime.frames import Frame, FrameSet
from ..runtime.live.health import Spread
from ..runtime.predictions import Predictions
from .arrivals import Arrival, StampedPose
from .drive import DriveStep
from .player import Sink

LATE_NS: Final = 20_000_000
"""A frame that is submitted so long after its time is counted: the drive cannot be read as fast as it is played."""

FLUSH_S: Final = 5.0

_KEPT_FRAMES: Final = 256
"""So many latest frames are remembered until predictions are there that were made from them."""


class LiveTarget(Protocol):
    """What is played into: a :class:`~octobev.runtime.live.runtime.LiveRuntime`."""

    def submit_frame(self, frame: Frame) -> None:
        """Take a frame."""

    def submit_pose(self, timestamp_ns: int, world_from_ego: Pose) -> None:
        """Take a pose of the ego."""

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything was stepped on or dropped."""


@dataclass(slots=True)
class Pacing:
    """How the playing went.

    frames, poses : submitted
    late : frames that were submitted more than :data:`LATE_NS` after their time
    latest_by_ms : how long after its time the latest of all was submitted
    flushed : whether everything submitted was used or dropped within :data:`FLUSH_S` of the end
    seconds : wall time; drive_seconds : of the drive
    """

    frames: int = 0
    poses: int = 0
    late: int = 0
    latest_by_ms: float = 0.0
    flushed: bool = False
    interrupted: bool = False
    seconds: float = 0.0
    drive_seconds: float = 0.0


def play_live(
    arrivals: Iterable[Arrival],
    runtime: LiveTarget,
    *,
    rate: float = 1.0,
    cameras: Iterable[str] | None = None,
    follow: Callable[[int], None] | None = None,
    on_submit: Callable[[Frame], None] | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
    wait: Callable[[float], None] = time.sleep,
) -> Pacing:
    """Submit each frame and pose when its time has come.

    Frames go without their poses, which arrive as poses, as from odometry: what a camera's clock does is not in them.

    Parameters
    ----------
    rate : speed relative to the drive
    cameras : frames of others are passed over; None: of none
    follow : told the time that has come, nanoseconds after the first frame, before each arrival: process faults
    on_submit : told of each frame before it is submitted
    clock, wait : time source, nanoseconds, that does not jump, and waiting, seconds

    A KeyboardInterrupt ends the playing; the result then says `interrupted`.
    """
    if not 0 < rate < float("inf"):
        raise InvalidArgument(expected("rate", "positive", rate))
    wanted = None if cameras is None else frozenset(cameras)
    pacing = Pacing()
    start_ns = clock()
    try:
        for arrival in arrivals:
            item = arrival.item
            due_ns = start_ns + round(arrival.at_ns / rate)
            if (left_ns := due_ns - clock()) > 0:
                wait(left_ns / 1e9)
            if follow is not None:
                follow(arrival.at_ns)
            pacing.drive_seconds = arrival.at_ns / 1e9
            if isinstance(item, StampedPose):
                pacing.poses += 1
                runtime.submit_pose(item.timestamp_ns, item.world_from_ego)
            elif wanted is None or item.camera in wanted:
                _count(pacing, clock() - due_ns)
                if on_submit is not None:
                    on_submit(item)
                runtime.submit_frame(_without_pose(item))
        pacing.flushed = runtime.flush(FLUSH_S)
    except KeyboardInterrupt:
        pacing.interrupted = True
    pacing.seconds = (clock() - start_ns) / 1e9
    return pacing


class LiveSinks:
    """Gives the sinks of a replay what a live runtime predicts, with the frames that it was made from.

    Made to be the runtime's `on_predictions`; :meth:`submitted` is told of each frame before it goes in.

    Parameters
    ----------
    sinks : name -> what is done with every step, in this order
    keep_images : whether sinks need the images, and not only poses

    Predictions without any camera, by which a runtime says that nothing comes, are counted and go to no sink.
    """

    def __init__(
        self, sinks: Mapping[str, Sink], *, keep_images: bool = False, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.predictions = 0
        self.without_cameras = 0
        self.outputs: dict[str, None] = {}
        self._sinks = dict(sinks)
        self._keep_images = keep_images
        self._clock = clock
        self._lock = threading.Lock()  # guards what the submitting thread writes and the runtime's reads
        self._submitted: OrderedDict[tuple[str, int], tuple[int, Pose | None, Frame | None]] = OrderedDict()
        self._latencies_ns = array("q")

    def submitted(self, frame: Frame) -> None:
        """Remember a frame, until predictions are there that were made from it."""
        with self._lock:
            kept = frame if self._keep_images else None
            self._submitted.setdefault((frame.camera, frame.timestamp_ns), (self._clock(), frame.world_from_ego, kept))
            while len(self._submitted) > _KEPT_FRAMES:
                self._submitted.popitem(last=False)

    def __call__(self, predictions: Predictions) -> None:
        """Take what the runtime predicted."""
        now_ns = self._clock()
        self.predictions += 1
        if not predictions.camera_mask.any():
            self.without_cameras += 1
            return
        self.outputs |= dict.fromkeys([*predictions.bev, *predictions.camera_outputs])
        step = self._step(predictions, now_ns)
        for sink in self._sinks.values():
            sink(step, predictions)

    @property
    def latency(self) -> Spread | None:
        """From the submission of a set's last frame to its predictions, published; None when there were none."""
        if not self._latencies_ns:
            return None
        p50, p99, most = (float(ms) for ms in np.percentile(np.asarray(self._latencies_ns) / 1e6, (50, 99, 100)))
        return Spread(len(self._latencies_ns), p50, p99, most)

    def _step(self, predictions: Predictions, now_ns: int) -> DriveStep:
        times = predictions.timestamp_ns - predictions.camera_age_ns
        used = zip(predictions.cameras, times.tolist(), predictions.camera_mask.tolist(), strict=True)
        with self._lock:
            keys = [(camera, time_ns) for camera, time_ns, was_used in used if was_used]
            found = {key: self._submitted[key] for key in keys if key in self._submitted}
        if found:
            self._latencies_ns.append(now_ns - max(submitted_ns for submitted_ns, _, _ in found.values()))
        pose = next((pose for (_, time_ns), (_, pose, _) in found.items() if time_ns == predictions.timestamp_ns), None)
        frames = tuple(frame for _, _, frame in found.values() if frame is not None)
        return DriveStep(FrameSet(predictions.timestamp_ns, frames, pose, dict(predictions.absences)))


def _count(pacing: Pacing, behind_ns: int) -> None:
    pacing.frames += 1
    pacing.late += behind_ns > LATE_NS
    pacing.latest_by_ms = max(pacing.latest_by_ms, behind_ns / 1e6)


def _without_pose(frame: Frame) -> Frame:
    if frame.world_from_ego is None:
        return frame
    return Frame(frame.camera, frame.timestamp_ns, frame.data, frame.pixel_format)
