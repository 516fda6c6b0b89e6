"""Frames of a recorded drive, in real time."""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator
from dataclasses import replace
from typing import Final

from ..errors import SourceError
from ..replay.arrivals import StampedPose, drive_arrivals
from ..replay.drive import Drive
from ..runtime.frames import Frame
from .address import DriveAddress
from .back_off import BackOff
from .playback import Pace


class DriveSource:
    """A drive: every frame at its own time, with its own pose; one thread for all cameras.

    Parameters
    ----------
    cameras : those to take
    address : which drive, and how
    drive : the same, opened
    pace : shared by all that is played
    """

    finite: Final = True
    back_off: Final = BackOff()

    def __init__(self, cameras: Collection[str], address: DriveAddress, drive: Drive, pace: Pace) -> None:
        self.cameras = tuple(cameras)
        self._address = address
        self._drive = drive
        self._pace = pace

    def __str__(self) -> str:
        return str(self._address)

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        """See :class:`~octobev.sources.feed.CameraSource`."""
        begin_ns = 0
        while True:
            first_ns, last_ns, sets = None, 0, 0
            for arrival in drive_arrivals(self._drive):
                frame = arrival.item
                if isinstance(frame, StampedPose) or frame.camera not in self.cameras:
                    continue  # frames have their poses
                first_ns = frame.timestamp_ns if first_ns is None else first_ns
                elapsed_ns = frame.timestamp_ns - first_ns
                last_ns, sets = max(last_ns, elapsed_ns), sets + (frame.camera == self.cameras[0])
                if not self._pace.wait(begin_ns + elapsed_ns, stop):
                    return
                yield self._stamped(frame, begin_ns + elapsed_ns)
            if first_ns is None:
                raise SourceError("no frame in the drive")
            if not self._address.loop:
                break
            begin_ns += last_ns + round(last_ns / max(1, sets - 1))
        if self._drive.losses:
            raise SourceError(_losses(self._drive))

    def _stamped(self, frame: Frame, elapsed_ns: int) -> Frame:
        if self._address.clock == "recorded":
            return frame
        return replace(frame, timestamp_ns=self._pace.wall_ns(elapsed_ns))


def _losses(drive: Drive) -> str:
    losses = drive.losses
    parts = [f"{count} x {reason}" for reason, count in losses.reasons.items()]
    return "; ".join([*parts, *([losses.truncated] if losses.truncated else [])])
