"""What an MCAP file holds for a rig: image streams, their calibration and mounting, the ego and the world frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import DriveError, OctobevError, RigError, expected
from ..fusion.lens import Intrinsics
from ..fusion.pose import Pose
from ..fusion.rig import Camera, Rig
from . import foxglove
from .drive import Losses
from .messages import Message, MessageFile
from .transforms import EGO_FRAMES, FrameTree, differs

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
    channel_id : number of its channel in the file
    sure : images are known to be there, so a missing calibration is an error
    """

    camera: str
    topic: str
    prefix: str
    channel_id: int = 0
    frame_id: str | None = None
    sure: bool = False


def prefix_of(topic: str) -> str:
    """Return the camera's part of a topic: `cam_front` of `/cam_front/camera_info`."""
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

    Attributes
    ----------
    rig : the cameras, in the order of the file's channels
    streams : image topic -> stream, of the rig's cameras only
    tree : the frames as far as they were seen
    ego_frame : name of the ego frame, None when no transform tells
    log_offset_ns : log time minus capture time of the first image
    """

    def __init__(self, file: MessageFile, cameras: Sequence[str] | None = None, rig: Rig | None = None) -> None:
        self._path = file.path
        self._needs_calibration = rig is None
        self._calibrations: dict[str, tuple[str, bytes]] = {}
        self._losses = Losses()
        self.tree = FrameTree()
        self.streams: dict[str, ImageStream] = {}
        self.log_offset_ns: int | None = None
        self._list_streams(file)
        self._read(file)
        self.streams = dict(sorted(self.streams.items(), key=lambda item: item[1].channel_id))
        if not self.streams:
            raw = _topics(file, foxglove.RAW_IMAGE).values()
            got = f"one with uncompressed images on {', '.join(raw)}" if raw else "one without"
            got += self._damage()
            raise DriveError(expected(f"{file.path}: drive", f"a file with {foxglove.IMAGE} topics", got))
        self.ego_frame = self._find_ego()
        if rig is not None:
            self.rig = rig if cameras is None else rig.select(cameras)
        else:
            self._select(cameras)
            self.rig = self._build_rig(_rig_name(file))
        self.streams = {topic: stream for topic, stream in self.streams.items() if stream.camera in self.rig}
        if not self.streams:
            raise RigError(expected(f"{file.path}: rig", "of cameras that the drive has", ", ".join(self.rig.names)))

    def _list_streams(self, file: MessageFile) -> None:
        counts = file.summary.message_counts
        for number, topic in _topics(file, foxglove.IMAGE).items():
            self._stream(topic, number).sure |= counts is None or counts.get(number, 0) > 0

    def _stream(self, topic: str, channel_id: int) -> ImageStream:
        if topic not in self.streams:
            prefix = prefix_of(topic)
            taken = {stream.camera for stream in self.streams.values()}
            camera = _NAME.sub("_", prefix)
            if camera in taken:
                camera = _NAME.sub("_", topic.strip("/"))
            self.streams[topic] = ImageStream(camera, topic, prefix, channel_id)
        return self.streams[topic]

    def _read(self, file: MessageFile) -> None:
        listed = bool(self.streams)
        started_ns: int | None = None
        for message in file.messages(SCHEMAS, self._losses):
            started_ns = message.log_time_ns if started_ns is None else started_ns
            try:
                news = self._take(message)
            except OctobevError:
                continue  # counted when the drive is iterated
            waited = listed or message.log_time_ns - started_ns > _UNLISTED_NS
            if (news or not listed) and waited and self._complete():
                return

    def _take(self, message: Message) -> bool:
        """Learn from a message; whether there was anything new in it."""
        if message.schema == foxglove.IMAGE:
            stream = self._stream(message.topic, message.channel_id)
            if stream.frame_id is not None:
                return False
            image = foxglove.decode_image(message.data)
            stream.frame_id, stream.sure = image.frame_id, True
            if self.log_offset_ns is None:
                self.log_offset_ns = message.log_time_ns - image.timestamp_ns
            return True
        if message.schema == foxglove.CALIBRATION:
            prefix = prefix_of(message.topic)
            news = prefix not in self._calibrations
            self._calibrations.setdefault(prefix, (message.topic, message.data))
            return news
        news = False
        for item in foxglove.decode_transforms(message.schema, message.data):
            news |= self.tree.parent(item.child) is None
            self.tree.add(item.parent, item.child, item.parent_from_child)
        return news

    def _complete(self) -> bool:
        """Whether nothing is missing for the streams that are sure to come."""
        sure = [stream for stream in self.streams.values() if stream.sure]
        if not sure or any(stream.frame_id is None for stream in sure):
            return False
        if not self._needs_calibration:
            return True
        return all(self._calibration(stream) and self.tree.parent(self._frame(stream)) for stream in sure)

    @property
    def rectified(self) -> dict[str, bool]:
        """Topic prefix -> whether its images are rectified, for the cameras whose calibration is the file's."""
        if not self._needs_calibration:
            return {}
        return {stream.prefix: foxglove.is_rectified(stream.topic) for stream in self.streams.values()}

    @property
    def mounted_frames(self) -> set[str]:
        """Frames between the ego frame and the cameras, for the cameras whose mounting is the file's."""
        frames: set[str] = set()
        for stream in self.streams.values() if self._needs_calibration and self.ego_frame else ():
            chain = [self._frame(stream), *self.tree.ancestors(self._frame(stream))]
            frames.update(chain[: chain.index(self.ego_frame)] if self.ego_frame in chain else ())
        return frames

    def _calibration(self, stream: ImageStream) -> tuple[str, bytes] | None:
        """Topic and bytes of the calibration with the stream's prefix, or else with its frame."""
        if stream.prefix in self._calibrations:
            return self._calibrations[stream.prefix]
        for topic, data in self._calibrations.values():
            if stream.frame_id and foxglove.frame_of_calibration(data) == stream.frame_id:
                return topic, data
        return None

    def _frame(self, stream: ImageStream) -> str:
        """Frame of the stream's camera: its images' or, where that hangs nowhere, its calibration's."""
        if stream.frame_id and self.tree.parent(stream.frame_id):
            return stream.frame_id
        calibration = self._calibration(stream)
        return foxglove.frame_of_calibration(calibration[1]) if calibration else stream.frame_id or ""

    def _find_ego(self) -> str | None:
        frames = [self._frame(stream) for stream in self.streams.values()]
        ego = self.tree.common_ancestor(frame for frame in frames if self.tree.parent(frame))
        return ego or next((name for name in EGO_FRAMES if self.tree.parent(name)), None)

    def _damage(self) -> str:
        """Say what of the file was lost, as the end of a message about what is missing."""
        lost = [f"{count} x {reason}" for reason, count in self._losses.reasons.items()]
        lost += [self._losses.truncated] if self._losses.truncated else []
        return f" (the file is damaged: {', '.join(lost)})" if lost else ""

    def _select(self, cameras: Sequence[str] | None) -> None:
        if cameras is None:
            return
        names = {stream.camera for stream in self.streams.values()}
        if unknown := sorted(set(cameras) - names):
            raise RigError(expected(f"{self._path}: camera", f"one of {', '.join(sorted(names))}", ", ".join(unknown)))
        self.streams = {topic: stream for topic, stream in self.streams.items() if stream.camera in cameras}

    def _build_rig(self, name: str) -> Rig:
        cameras = []
        for stream in self.streams.values():
            try:
                cameras.append(self.camera_of(stream))
            except OctobevError as error:
                if stream.sure:  # a stream that is only announced may lack anything
                    raise type(error)(f"{self._path}: topic {stream.topic}: {error}{self._damage()}") from error
        return Rig(tuple(cameras), name)

    def camera_of(self, stream: ImageStream) -> Camera:
        """Build the camera of a stream from what has been seen; errors do not name the topic of the images."""
        calibration = self._calibration(stream)
        if calibration is None:
            raise DriveError(
                f"no {foxglove.CALIBRATION} with its topic prefix or frame_id; leave the camera out, or give a rig"
            )
        try:
            _, intrinsics = foxglove.decode_calibration(calibration[1], rectified=foxglove.is_rectified(stream.topic))
        except OctobevError as error:
            raise type(error)(f"its calibration {calibration[0]}: {error}") from error
        frame = self._frame(stream)
        mounting = self.tree.lookup(self.ego_frame, frame) if self.ego_frame else None
        if mounting is None:
            raise DriveError(f"no transform tells where its frame {frame!r} is mounted")
        return Camera(stream.camera, intrinsics, mounting)


class CalibrationWatch:
    """Notices calibrations and mountings that change within a drive: the rig of a drive is that of its beginning."""

    def __init__(self, survey: Survey) -> None:
        self._intrinsics: dict[str, Intrinsics] = {}
        self._mountings: dict[str, Pose] = {}
        self._rectified = survey.rectified
        self._frames = survey.mounted_frames

    def calibration(self, message: Message, losses: Losses) -> None:
        """Compare a CameraCalibration with the one before."""
        prefix = prefix_of(message.topic)
        if prefix not in self._rectified:
            return
        _, intrinsics = foxglove.decode_calibration(message.data, rectified=self._rectified[prefix])
        if self._intrinsics.setdefault(prefix, intrinsics) != intrinsics:
            self._intrinsics[prefix] = intrinsics
            losses.add("calibration changed")

    def transform(self, item: foxglove.StampedTransform, losses: Losses) -> None:
        """Compare the transform of a frame between ego and camera with the one before."""
        if item.child not in self._frames:
            return
        if differs(self._mountings.setdefault(item.child, item.parent_from_child), item.parent_from_child):
            self._mountings[item.child] = item.parent_from_child
            losses.add("calibration changed")


def _topics(file: MessageFile, schema: str) -> dict[int, str]:
    """Channel number -> topic of the channels with a schema that the file's summary tells, in their order."""
    summary = file.summary
    numbers = {number for number, found in summary.schemas.items() if found.name == schema}
    return {
        number: channel.topic for number, channel in sorted(summary.channels.items()) if channel.schema_id in numbers
    }


def _rig_name(file: MessageFile) -> str:
    names = (channel.metadata.get(RIG_METADATA) for channel in file.summary.channels.values())
    return next(filter(None, names), file.path.stem)
