"""Drives and predictions into MCAP files with Foxglove schemas: they open in any viewer, and in :func:`open_drive`.

Times are capture times throughout, so the same input gives the same bytes. Chunks are small and written unbuffered: a
killed process loses at most the last 128 kB. A full disk ends the recording; what was written before is a valid file.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast

import numpy as np
from mcap.opcode import Opcode
from mcap.writer import Writer
from mcap_protobuf.schema import build_file_descriptor_set
from numpy.typing import NDArray

from ..errors import ImageError, InvalidArgument, RecordingError, expected, unwritable
from ..fusion.lens import LensModel
from ..fusion.pose import Pose
from ..fusion.rig import Rig
from ..runtime.frames import Frame, FrameSet, PixelFormat
from ..runtime.images import bgr_of
from ..runtime.predictions import CameraOutput, CameraPrediction, Detections, OccupancyGrid, Predictions, RoadLayout
from . import foxglove
from .annotations import encode_annotations
from .drive import Drive, GroundTruth
from .mcap import TRUTH_TOPIC
from .scenes import encode_scene
from .survey import RIG_METADATA

WORLD_FRAME: Final = "map"
EGO_FRAME: Final = "base_link"
CHUNK_BYTES: Final = 128 * 1024

_RIG_EVERY_NS: Final = 1_000_000_000
_MAGIC_BYTES: Final = 8
_ENDING: Final = (
    struct.pack("<BQI", Opcode.DATA_END, 4, 0) + struct.pack("<BQQQI", Opcode.FOOTER, 20, 0, 0, 0) + b"\x89MCAP0\r\n"
)
"""The shortest end of a valid file: no summary."""


class Recorder:
    """Writes one MCAP file.

    Parameters
    ----------
    path : the file, or an unbuffered binary file open for writing (it is then not closed here)
    rig : the cameras
    overwrite : replace an existing file instead of refusing
    geometry : write the geometry of every road layout too
    belief : write what networks say of all cells too, of those that nobody observed as well
    segmentation : write every segmentation's most probable class as a mono8 RawImage on `/camera/<camera>/<output>`

    Raises
    ------
    RecordingError
        The file exists or cannot be written, or the disk is full. What was written before is then a valid file, and the
        recorder refuses to write more.
    """

    def __init__(
        self,
        path: str | Path | BinaryIO,
        rig: Rig,
        *,
        overwrite: bool = False,
        geometry: bool = True,
        belief: bool = False,
        segmentation: bool = False,
    ) -> None:
        self.name = str(path) if isinstance(path, (str, Path)) else str(getattr(path, "name", "recording"))
        self.rig = rig
        self._geometry = geometry
        self._belief = belief
        self._segmentation = segmentation
        self._owned = isinstance(path, (str, Path))
        self._closed = False
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._rig_written_ns: int | None = None
        self._pose_times: tuple[int, ...] = ()
        self._output = _Output(create_recording(path, overwrite) if isinstance(path, (str, Path)) else path)
        self._writer = Writer(self._output, chunk_size=CHUNK_BYTES)  # type: ignore[arg-type]
        self._guarded(lambda: self._writer.start(library="octobev"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def written_bytes(self) -> int:
        """Where the last whole chunk of the file ends, 0 before the first."""
        return self._output.chunk_end

    def close(self) -> None:
        """Write the index and close the file; closing twice does nothing."""
        if self._closed:
            return
        try:
            self._guarded(self._writer.finish)
        finally:
            self._close_file()

    def write(self, predictions: Predictions, frame_set: FrameSet | None = None) -> None:
        """Write the top-down outputs and the detections, and the ego pose of the set that they were made from.

        `RoadLayout` becomes a Grid on `/<output>` with one uint8 field per class (probability 0..255) and `observed`
        (0 or 1), and its geometry a SceneUpdate on `/<output>_geometry`; `OccupancyGrid` becomes a Grid with
        `probability` and `observed`. What a network says of all cells, observed or not, becomes a Grid of the same
        fields on `/<output>_belief` when asked for. Other top-down outputs are not recorded. Detections become
        ImageAnnotations on `/<camera>/annotations/<output>`, at the time of the image.
        """
        timestamp_ns = predictions.timestamp_ns
        if frame_set is not None and frame_set.world_from_ego is not None:
            self.write_pose(frame_set.timestamp_ns, frame_set.world_from_ego)
        for name, output in predictions.bev.items():
            grids = {name: _layers(output)}
            if self._belief and f"{name}_belief" not in predictions.bev:
                grids[f"{name}_belief"] = _belief_layers(output)
            for topic, layers in grids.items():
                if layers:
                    grid = foxglove.encode_grid(timestamp_ns, EGO_FRAME, output.grid, layers)
                    self._add(f"/{topic}", foxglove.GRID, timestamp_ns, grid)
            if self._geometry and isinstance(output, RoadLayout) and f"{name}_geometry" not in predictions.bev:
                scene = encode_scene(timestamp_ns, EGO_FRAME, predictions.geometry_of(name))
                self._add(f"/{name}_geometry", foxglove.SCENE, timestamp_ns, scene)
        ages_ns = dict(zip(predictions.cameras, predictions.camera_age_ns.tolist(), strict=True))
        for name, by_camera in predictions.camera_outputs.items():
            for camera in (camera for camera in self.rig.names if camera in by_camera):
                self._write_camera_output(name, by_camera[camera], timestamp_ns, ages_ns[camera])

    def write_frames(self, frame_set: FrameSet) -> None:
        """Write the images with the ego pose of each, and about every second of the drive the calibrations.

        Encoded images are kept as they are; others are written as PNG, which loses nothing: NV12 and YUYV as the BGR
        that colour networks see of them.
        """
        frames = sorted(frame_set.frames, key=lambda frame: frame.timestamp_ns)
        if unknown := sorted({frame.camera for frame in frames} - set(self.rig.names)):
            raise InvalidArgument(expected("camera", f"one of {', '.join(self.rig.names)}", ", ".join(unknown)))
        if frames:
            self._write_rig(frames[0].timestamp_ns)
        for frame in frames:
            pose = frame.world_from_ego or frame_set.world_from_ego
            if pose is not None:
                self.write_pose(frame.timestamp_ns, pose)
            data = foxglove.encode_image(_encoded(frame), frame.camera)
            self._add(self._image_topic(frame.camera), foxglove.IMAGE, frame.timestamp_ns, data)
        if frame_set.world_from_ego is not None:
            self.write_pose(frame_set.timestamp_ns, frame_set.world_from_ego)

    def write_truth(self, truth: GroundTruth) -> None:
        """Write ground truth as a Grid on `/ground_truth`."""
        if truth.layers:
            data = foxglove.encode_grid(truth.timestamp_ns, EGO_FRAME, truth.grid, truth.layers)
            self._add(TRUTH_TOPIC, foxglove.GRID, truth.timestamp_ns, data)

    def write_pose(self, timestamp_ns: int, world_from_ego: Pose) -> None:
        """Write where the ego was; a second pose of one time among the latest few is left out."""
        if timestamp_ns not in self._pose_times:
            self._pose_times = (*self._pose_times[-63:], timestamp_ns)
            data = foxglove.encode_transform(timestamp_ns, WORLD_FRAME, EGO_FRAME, world_from_ego)
            self._add("/tf", foxglove.TRANSFORM, timestamp_ns, data)

    def _write_rig(self, timestamp_ns: int) -> None:
        first = self._rig_written_ns is None
        if self._rig_written_ns is not None and 0 <= timestamp_ns - self._rig_written_ns < _RIG_EVERY_NS:
            return
        self._rig_written_ns = timestamp_ns
        for camera in self.rig:
            mounting = foxglove.encode_transform(timestamp_ns, EGO_FRAME, camera.name, camera.ego_from_camera)
            calibration = foxglove.encode_calibration(camera, timestamp_ns)
            self._add("/tf", foxglove.TRANSFORM, timestamp_ns, mounting)
            self._add(f"/{camera.name}/camera_info", foxglove.CALIBRATION, timestamp_ns, calibration)
            if first:  # in the order of the rig, also when a camera has no image yet
                self._channel(self._image_topic(camera.name), foxglove.IMAGE)

    def _image_topic(self, camera: str) -> str:
        rectified = self.rig[camera].intrinsics.model is LensModel.PINHOLE
        return f"/{camera}/{'image_rect_compressed' if rectified else 'image_compressed'}"

    def _write_camera_output(self, name: str, output: CameraPrediction, timestamp_ns: int, age_ns: int) -> None:
        if isinstance(output, Detections):
            taken_ns = timestamp_ns - age_ns
            data = encode_annotations(taken_ns, output)
            self._add(f"/{output.camera}/annotations/{name}", foxglove.ANNOTATIONS, taken_ns, data)
        elif output.kind == "segmentation" and self._segmentation:
            self._write_labels(f"/camera/{output.camera}/{name}", timestamp_ns, output)

    def _write_labels(self, topic: str, timestamp_ns: int, output: CameraOutput) -> None:
        labels = output.values.argmax(axis=0).astype(np.uint8)
        data = foxglove.encode_labels(timestamp_ns, output.camera, labels)
        self._add(topic, foxglove.RAW_IMAGE, timestamp_ns, data)

    def _add(self, topic: str, schema: str, timestamp_ns: int, data: bytes) -> None:
        channel = self._channel(topic, schema)
        self._guarded(
            lambda: self._writer.add_message(
                channel_id=channel, log_time=timestamp_ns, publish_time=timestamp_ns, data=data
            )
        )

    def _channel(self, topic: str, schema: str) -> int:
        if topic not in self._channels:
            self._guarded(lambda: self._register(topic, schema))
        return self._channels[topic]

    def _register(self, topic: str, schema: str) -> None:
        if schema not in self._schemas:
            description = build_file_descriptor_set(foxglove.MESSAGES[schema])
            self._schemas[schema] = self._writer.register_schema(
                schema, "protobuf", description.SerializeToString(deterministic=True)
            )
        metadata = {RIG_METADATA: self.rig.name} if schema == foxglove.CALIBRATION else {}
        self._channels[topic] = self._writer.register_channel(topic, "protobuf", self._schemas[schema], metadata)

    def _guarded(self, action: Callable[[], object]) -> None:
        """Do something that writes; when it fails, end the file after the last whole record."""
        if self._closed:
            raise RecordingError(f"{self.name}: the recording has ended")
        try:
            action()
        except BaseException as error:  # an interrupt in the middle of a record ends the file as well
            what_is_left = "is valid up to there" if self._output.end_early() else "breaks off there"
            self._close_file()
            if isinstance(error, OSError):
                why = error.strerror or error
                raise RecordingError(f"{self.name}: recording stopped: {why}; the file {what_is_left}") from error
            raise

    def _close_file(self) -> None:
        self._closed = True
        if self._owned:
            self._output.file.close()


def create_recording(path: str | Path, overwrite: bool = False) -> BinaryIO:
    """Open a file for a recording, as a :class:`Recorder` wants it; the caller closes it.

    Raises
    ------
    RecordingError
        It exists and is not to be overwritten, or it cannot be written.
    """
    try:
        return cast(BinaryIO, open(path, "wb" if overwrite else "xb", buffering=0))
    except OSError as error:
        raise RecordingError(unwritable(path, error)) from error


class _Output:
    """What the MCAP writer writes to: whole records or none, no buffer in between."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self._position = 0
        self._ends: deque[tuple[int, int]] = deque(maxlen=3)  # positions and chunk ends behind the latest records
        self._in_summary = False
        self.chunk_end = 0

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            written = self.file.write(view)
            view = view[len(view) if written is None else written :]
        self._position += len(data)
        if data:
            self._note(data[0])
        return len(data)

    def _note(self, opcode: int) -> None:
        if opcode == Opcode.CHUNK:
            self.chunk_end = self._position
        self._in_summary |= opcode == Opcode.DATA_END
        if not self._in_summary:
            self._ends.append((self._position, self.chunk_end))

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        self.file.flush()

    def end_early(self) -> bool:
        """Cut off what was not written whole, and write the shortest end: behind the latest record that leaves room.

        Returns whether the file is valid; where even that fails it is cut behind the latest record, if it can be.
        """
        for end, chunk_end in reversed(self._ends):
            if end > _MAGIC_BYTES and self._cut(end, _ENDING):
                self.chunk_end = chunk_end
                return True
        self._cut(self._ends[-1][0] if self._ends else 0, b"")
        return False

    def _cut(self, end: int, ending: bytes) -> bool:
        """Let the file end so; says whether it could be done."""
        try:
            self.file.seek(end)
            self.file.truncate()
            return self.file.write(ending) in (len(ending), None)
        except OSError:
            return False


def record_drive(
    drive: Drive, path: str | Path, *, overwrite: bool = False, progress: Callable[[int], None] | None = None
) -> int:
    """Write a drive to an MCAP file that :func:`open_drive` reads back equal.

    Parameters
    ----------
    progress : called with the number of sets written so far

    Returns
    -------
    Number of sets written. An exception on the way (Ctrl-C too) leaves a valid file.
    """
    count = 0
    with Recorder(path, drive.rig, overwrite=overwrite) as recorder:
        for step in drive.steps():
            recorder.write_frames(step.frame_set)
            if step.truth is not None:
                recorder.write_truth(step.truth)
            count += 1
            if progress is not None:
                progress(count)
    return count


def _layers(output: Any) -> Mapping[str, NDArray[Any]]:
    if isinstance(output, RoadLayout):
        layers = {name: _byte(output[name]) for name in output.classes}
        return layers | {"observed": output.observed}
    if isinstance(output, OccupancyGrid):
        return {"probability": _byte(output.probability), "observed": output.observed}
    return {}


def _belief_layers(output: Any) -> Mapping[str, NDArray[Any]]:
    """The layers of an output with the probability that the network gives every cell; none where there is none."""
    if isinstance(output, RoadLayout) and output.belief is not None:
        layers = {name: _byte(plane) for name, plane in zip(output.classes, output.belief, strict=True)}
        return layers | {"observed": output.observed}
    if isinstance(output, OccupancyGrid) and output.belief is not None:
        return {"probability": _byte(output.belief), "observed": output.observed}
    return {}


def _byte(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(probability, 0.0, 1.0) * 255).astype(np.uint8)


def _encoded(frame: Frame) -> Frame:
    if frame.size is None:
        return frame
    import cv2

    image = frame.array if frame.pixel_format is PixelFormat.MONO8 else bgr_of(frame, frame.size)
    done, data = cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise ImageError(f"camera {frame.camera} at {frame.timestamp_ns} ns: image cannot be encoded")
    return Frame(frame.camera, frame.timestamp_ns, data.tobytes(), PixelFormat.PNG, frame.world_from_ego)
