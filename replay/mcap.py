"""Drives in MCAP files with Foxglove schemas, as foxglove's converters, its SDK and Octobev's recorder write them.

Images are found by their schema, cameras are named by their topics' prefix, calibrations belong to the prefix or the
frame, mountings and ego poses come from the transforms. Every image carries the ego pose of its own capture time. One
pass, a bounded look ahead: see :mod:`.lookahead`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from ..errors import OctobevError
from ..fusion.rig import Rig
from ..runtime.frames import Frame
from . import foxglove
from .drive import TRUTH_LAYERS, Drive, DriveStep, GroundTruth, Losses
from .lookahead import Lookahead
from .messages import Message, MessageFile
from .sets import check_window, group_frames, skew_for_period, window
from .survey import SCHEMAS, CalibrationWatch, Survey

TRUTH_TOPIC: Final = "/ground_truth"

_MARGIN_NS: Final = 2_000_000_000
_MAX_TRUTHS: Final = 64
_MAX_REASONS: Final = 64


class McapDrive(Drive):
    """A drive in an MCAP file.

    Parameters
    ----------
    path : the file
    max_skew_s : bound on the time within a set, see :func:`.sets.group_frames`; None: by the cameras' period
    cameras : only these cameras, None for all
    rig : cameras by these calibrations instead of the file's

    Raises
    ------
    MissingFile, DriveError, CalibrationError, RigError
        Not a drive, no images, or a camera without a usable calibration or mounting; with the file and the topic.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_skew_s: float | None = None,
        cameras: Sequence[str] | None = None,
        rig: Rig | None = None,
    ) -> None:
        self._file = MessageFile(path)
        self._survey = Survey(self._file, cameras, rig)
        self.rig = self._survey.rig
        self.name = self._file.path.stem
        self.losses = Losses()
        skew_s = skew_for_period(self._period_s()) if max_skew_s is None else max_skew_s
        self._max_skew_ns = round(skew_s * 1e9)

    @property
    def length_hint(self) -> int | None:
        """Messages of the busiest camera."""
        summary = self._file.summary
        if summary.message_counts is None:
            return None
        counts = (
            summary.message_counts.get(number, 0)
            for number, channel in summary.channels.items()
            if channel.topic in self._survey.streams
        )
        return max(counts, default=0)

    def steps(self, *, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[DriveStep]:
        """Iterate over the steps; with an index, a late start does not read what comes before."""
        check_window(start_s, duration_s)
        losses = self.losses = Losses()
        after_ns = None
        if start_s > 0 and self._survey.log_offset_ns is not None:
            after_ns = self._first_ns + round(start_s * 1e9) + self._survey.log_offset_ns - _MARGIN_NS
        first_ns = self._first_ns if start_s > 0 else None
        return window(self._steps(losses, after_ns), start_s, duration_s, first_ns=first_ns)

    @cached_property
    def _first_ns(self) -> int:
        """Time of the drive's first set; 0 when it has none."""
        first = next(self._steps(Losses(), None), None)
        return first.frame_set.timestamp_ns if first else 0

    def _period_s(self) -> float | None:
        """Time between two images of the busiest camera, by the file's statistics."""
        summary, count = self._file.summary, self.length_hint
        if count is None or count < 2 or summary.start_ns is None or summary.end_ns is None:
            return None
        return (summary.end_ns - summary.start_ns) / 1e9 / (count - 1)

    def _steps(self, losses: Losses, after_ns: int | None) -> Iterator[DriveStep]:
        truths: dict[int, GroundTruth] = {}
        frames = self._frames(losses, truths, after_ns)
        for frame_set in group_frames(frames, self.rig.names, self._max_skew_ns, losses):
            yield DriveStep(frame_set, truths.pop(frame_set.timestamp_ns, None))
            for old in [time for time in truths if time <= frame_set.timestamp_ns]:
                del truths[old]

    def _frames(self, losses: Losses, truths: dict[int, GroundTruth], after_ns: int | None) -> Iterator[Frame]:
        """Frames in time order with their poses; ground truth goes to `truths` on the way."""
        ahead = Lookahead(self._max_skew_ns)
        watch = CalibrationWatch(self._survey)
        schemas = {*SCHEMAS, foxglove.GRID}
        for message in self._file.messages(schemas, losses, lost_schema=foxglove.IMAGE, after_ns=after_ns):
            try:
                if message.schema == foxglove.IMAGE:
                    self._take_image(message, ahead, losses)
                elif message.schema == foxglove.GRID:
                    self._take_truth(message, truths)
                elif message.schema == foxglove.CALIBRATION:
                    watch.calibration(message, losses)
                else:
                    self._take_transforms(message, ahead, watch, losses)
            except OctobevError as error:
                losses.add(f"{message.topic}: {error}" if len(losses.reasons) < _MAX_REASONS else "other reasons")
            yield from ahead.ready(message.log_time_ns)
        yield from ahead.rest()

    def _take_image(self, message: Message, ahead: Lookahead, losses: Losses) -> None:
        stream = self._survey.streams.get(message.topic)
        if stream is not None:
            image = foxglove.decode_image(message.data)
            frame = Frame(stream.camera, image.timestamp_ns, image.data, image.pixel_format)
            ahead.push(frame, message.log_time_ns)

    def _take_transforms(self, message: Message, ahead: Lookahead, watch: CalibrationWatch, losses: Losses) -> None:
        for item in foxglove.decode_transforms(message.schema, message.data):
            if item.child != self._survey.ego_frame:
                watch.transform(item, losses)
            elif self._survey.tree.parent(item.child) in (None, item.parent):
                ahead.poses.add(item.timestamp_ns, item.parent_from_child)

    def _take_truth(self, message: Message, truths: dict[int, GroundTruth]) -> None:
        if message.topic != TRUTH_TOPIC:
            return
        item = foxglove.decode_grid(message.data)
        layers = {name: layer for name, layer in item.layers.items() if name in TRUTH_LAYERS}
        truths[item.timestamp_ns] = GroundTruth(item.timestamp_ns, item.grid, layers)
        if len(truths) > _MAX_TRUTHS:
            del truths[min(truths)]
