"""What an MCAP file holds for a rig: image streams, their calibration and mounting, the ego and the world frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import CalibrationError, DriveError, OctobevError, RigError, expected
from ..fusion.lens import Intrinsics
from ..fusion.rig import Camera, Rig
from . import foxglove
from .drive import Losses
from .messages import Message, MessageFile
from .transforms import FrameTree

SCHEMAS: Final = (foxglove.IMAGE, foxglove.CALIBRATION, foxglove.TRANSFORM, foxglove.TRANSFORMS)
RIG_METADATA: Final = "octobev.rig"
"""Key of the calibration channels' metadata under which the recorder keeps the name of the rig."""

_UNLISTED_NS: Final = 2_000_000_000
_NAME: Final = re.compile(r"[^\w.-]", re.ASCII)


@dataclass(slots=True)
class ImageStream:
    """One image topic.

    camera : name of the camera
    topic, prefix : the topic, and what it shares with the calibration's topic
    frame_id : frame of the camera, None as long as no image was seen
    sure : images are known to be there, so a missing calibration is an error
    """

    camera: str
    topic: str
    prefix: str
    frame_id: str | None = None
    sure: bool = False


def prefix_of(topic: str) -> str:
    """The camera's part of a topic: `/cam_front` of `/cam_front/image_rect_compressed` and `/cam_front/camera_info`."""
    parts = topic.strip("/").split("/")
    if len(parts) > 2 and parts[-1] in ("compressed", "compressed_image"):
        parts = parts[:-1]
    return "/".join(parts[:-1] or parts)


class Survey:
    """A first, bounded look at a file: it ends as soon as every image stream has its calibration and mounting.

    Without a summary nobody knows which streams will come: then it goes on for two seconds of log time.

    Parameters
    ----------
    file : the file
    cameras : only these cameras, None for all
    rig : this rig instead of what the file says; calibrations are then not needed
    """

    def __init__(self, file: MessageFile, cameras: Sequence[str] | None = None, rig: Rig | None = None) -> None:
        self._file = file
        self._given = rig
        self.tree = FrameTree()
        self.calibrations: dict[str, tuple[str, Intrinsics]] = {}
        self.streams: dict[str, ImageStream] = {}
        self.problems: dict[str, OctobevError] = {}
        self.log_offset_ns = 0
        counts = file.summary.message_counts
        for number, channel in sorted(file.summary.channels.items()):
            schema = file.summary.schemas.get(channel.schema_id)
            if schema is not None and schema.name == foxglove.IMAGE:
                self._add_stream(channel.topic, sure=counts is None or counts.get(number, 0) > 0)
        self._listed = bool(self.streams)
        self._read()
        self.streams = self._choose(cameras)
        self.rig = self._given.select(s.camera for s in self.streams.values()) if self._given else self._build_rig()
        frames = [frame for stream in self.streams.values() if (frame := self._frame_of(stream))]
        self.ego_frame = self._ego_frame(frames)

    def _read(self) -> None:
        started_ns: int | None = None
        losses = Losses()
        for message in self._file.messages(SCHEMAS, losses):
            started_ns = message.log_time_ns if started_ns is None else started_ns
            news = self._take(message)
            waited = self._listed or message.log_time_ns - started_ns > _UNLISTED_NS
            if news and waited and self.streams and self._complete():
                return

    def _take(self, message: Message) -> bool:
        """Learn from a message; whether there was anything new in it."""
        try:
            if message.schema == foxglove.IMAGE:
                return self._take_image(message)
            if message.schema == foxglove.CALIBRATION:
                prefix = prefix_of(message.topic)
                if prefix in self.calibrations:
                    return not self._listed
                rectified = any(
                    foxglove.is_rectified(s.topic) for s in self.streams.values() if s.prefix == prefix
                )
                self.calibrations[prefix] = foxglove.decode_calibration(message.data, rectified=rectified)
            else:
                for item in foxglove.decode_transforms(message.schema, message.data):
                    self.tree.add(item.parent, item.child, item.parent_from_child)
        except OctobevError as error:
            self.problems.setdefault(message.topic, error)
            return False
        return True
