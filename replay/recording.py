"""Recording while something else goes on: when the disk is full the recording ends, and nothing else does."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Final, Self

from ..errors import RecordingError
from ..runtime.frames import FrameSet
from ..runtime.predictions import Predictions
from .drive import DriveStep
from .recorder import Recorder

_LOG: Final = logging.getLogger("octobev.recording")


class RecordingSink:
    """A sink that writes every step, until that fails: from then on it counts what is lost.

    Parameters
    ----------
    recorder : closed by :meth:`close`
    with_frames : write the frames and the truth, too
    """

    def __init__(self, recorder: Recorder, *, with_frames: bool = False) -> None:
        self.reason: str | None = None
        self.lost_sets = 0
        self._recorder = recorder
        self._with_frames = with_frames
        self._pending = self._in_last_chunk = 0
        self._written_bytes = recorder.written_bytes

    def __call__(self, step: DriveStep, predictions: Predictions) -> None:
        """Write a step, or count it as lost."""
        if self.reason is not None:
            self.lost_sets += 1
            return
        self._pending += 1
        try:
            self._write(step, predictions)
        except RecordingError as error:
            self._end(error, under_way=1)
            return
        if self._recorder.written_bytes != self._written_bytes:  # a chunk left; the next may hold the end of this set
            self._written_bytes = self._recorder.written_bytes
            self._in_last_chunk, self._pending = self._pending, 1

    def close(self) -> None:
        """End the recording; what could not be written is counted, not raised."""
        try:
            self._recorder.close()
        except RecordingError as error:
            self._end(error, under_way=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, error: RecordingError, *, under_way: int) -> None:
        """Count what is lost: the sets since the last chunk, and those in it where it had to make room for the end."""
        self.reason = str(error)
        grown_bytes = self._recorder.written_bytes - self._written_bytes
        if grown_bytes > 0:  # their chunk was written, and what failed came behind it
            self.lost_sets += under_way
        elif grown_bytes < 0:
            self.lost_sets += self._pending + self._in_last_chunk - 1  # one set may reach into both
        else:
            self.lost_sets += self._pending
        _LOG.warning("%s", error)

    def _write(self, step: DriveStep, predictions: Predictions) -> None:
        frame_set = step.frame_set
        if self._with_frames:
            own = tuple(frame for frame in frame_set.frames if frame.camera in self._recorder.rig)
            self._recorder.write_frames(FrameSet(frame_set.timestamp_ns, own, frame_set.world_from_ego))
            if step.truth is not None:
                self._recorder.write_truth(step.truth)
        self._recorder.write(predictions, frame_set)
