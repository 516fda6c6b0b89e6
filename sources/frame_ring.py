"""Frames that another process writes into a ring of shared memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Final

from ..errors import FrameOverwritten, ImageError, SourceError
from ..runtime.frames import Frame
from ..runtime.ring.reader import FrameRingReader, RingFrame
from .address import RingAddress
from .back_off import BackOff

_SLICE_S: Final = 0.1
"""How long to wait for a frame before looking whether to stop."""


class RingSource:
    """A ring of frames. Capture times and poses are those that its writer gives.

    Frames are copied: the writer may overwrite them while they wait for their set. A writer that starts again is
    followed at once.

    Parameters
    ----------
    camera : its name in the rig, and that of the ring's camera
    address : which ring
    clock_ns : monotonic clock
    """

    finite: Final = False
    back_off: Final = BackOff(longest_s=0.5)

    def __init__(self, camera: str, address: RingAddress, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.cameras = (camera,)
        self._address = address
        self._clock_ns = clock_ns

    def __str__(self) -> str:
        return str(self._address)

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        """See :class:`~octobev.sources.feed.CameraSource`."""
        heard_ns = self._clock_ns()
        with FrameRingReader(self._address.ring, self.cameras[0]) as reader:
            while not stop.is_set():
                frame = _next_frame(reader)
                if frame is not None:
                    heard_ns = self._clock_ns()
                    try:
                        yield frame.copy()
                    except FrameOverwritten:
                        continue  # the next one is newer
                elif self._clock_ns() - heard_ns > self._address.silence_s * 1e9:
                    raise SourceError(_silence(reader))


def _next_frame(reader: FrameRingReader) -> RingFrame | None:
    try:
        return reader.next_frame(_SLICE_S)
    except ImageError:
        return None  # this frame cannot be; the next call goes on behind it


def _silence(reader: FrameRingReader) -> str:
    if not reader.attached:
        return "no such ring"
    return "no frame in time" if reader.writer_alive() else "its writer is gone"
