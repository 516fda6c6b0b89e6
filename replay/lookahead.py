"""Frames wait for the ego pose of their own time, which a recording may hold later than the image."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from ..runtime.frames import Frame
from .transforms import PoseBuffer

PATIENCE_NS: Final = 1_000_000_000
"""How long a frame waits for a pose, in log time, nanoseconds."""

MAX_WAITING: Final = 256
"""Most frames that wait; beyond it the oldest goes without waiting longer."""

_KEPT_NS: Final = 2_000_000_000


class Lookahead:
    """A bounded queue that gives frames back in time order with their poses.

    A frame leaves when images later than it by `reorder_ns` were seen and the poses have passed its time, or when
    :data:`PATIENCE_NS` of log time have gone by, or when more than :data:`MAX_WAITING` frames wait.
    """

    def __init__(self, reorder_ns: int) -> None:
        self.poses = PoseBuffer()
        self._reorder_ns = reorder_ns
        self._waiting: list[tuple[int, int, int, Frame]] = []
        self._newest_image_ns = 0
        self._newest_log_ns = 0
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, frame: Frame, log_time_ns: int) -> None:
        """Take in a frame; a pose that it already has is kept."""
        self._count += 1
        heapq.heappush(self._waiting, (frame.timestamp_ns, self._count, log_time_ns, frame))
        self._newest_image_ns = max(self._newest_image_ns, frame.timestamp_ns)

    def ready(self, log_time_ns: int) -> Iterator[Frame]:
        """Frames that need not wait longer, now that the log has come to this time."""
        self._newest_log_ns = max(self._newest_log_ns, log_time_ns)
        while self._waiting:
            timestamp_ns, _, logged_ns, _ = self._waiting[0]
            in_order = self._newest_image_ns - timestamp_ns > self._reorder_ns
            posed = self.poses.newest_ns is not None and self.poses.newest_ns >= timestamp_ns
            late = self._newest_log_ns - logged_ns >= PATIENCE_NS
            if not ((in_order and posed) or late or len(self._waiting) > MAX_WAITING):
                return
            yield self._pop()

    def rest(self) -> Iterator[Frame]:
        """All frames that still wait."""
        while self._waiting:
            yield self._pop()

    def _pop(self) -> Frame:
        frame = heapq.heappop(self._waiting)[3]
        pose = frame.world_from_ego or self.poses.at(frame.timestamp_ns)
        self.poses.forget(frame.timestamp_ns - _KEPT_NS)
        return replace(frame, world_from_ego=pose)
