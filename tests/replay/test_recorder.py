import dataclasses
import errno
import io
from types import MappingProxyType

import cv2
import numpy as np
import pytest
from foxglove_schemas_protobuf.Grid_pb2 import Grid
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from mcap.reader import NonSeekingReader, make_reader
from mcap_protobuf.decoder import DecoderFactory
from octobev.errors import InvalidArgument, RecordingError
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.replay.drawing import class_colour
from octobev.replay.drive import Drive, DriveStep, GroundTruth, Losses
from octobev.replay.mcap import McapDrive
from octobev.replay.open import open_drive
from octobev.replay.recorder import Recorder, record_drive
from octobev.replay.sets import window
from octobev.runtime.frames import Frame, FrameSet, PixelFormat
from octobev.runtime.predictions import (
    CameraOutput,
    Detections,
    OccupancyGrid,
    Predictions,
    Provenance,
    RoadLayout,
    StateStatus,
)

MS = 1_000_000
START_NS = 1_600_000_000_123_456_789
GRID = BevGrid(-2, 4, -1, 1, 0.5)
FISHEYE = Intrinsics(640, 480, 300, 310, 320, 240, LensModel.KANNALA_BRANDT, (0.1, 0.01, 0.0, 0.0))
RIG = Rig(
    (
        Camera("front.main", Intrinsics(640, 480, 500, 510, 320, 240), Pose.planar(1.5, 0, 0)),
        Camera("rear", FISHEYE, Pose.planar(-0.5, 0.1, np.pi)),
        Camera("never", Intrinsics(64, 48, 50, 50, 32, 24), Pose.planar(0, 0, 1)),
    ),
    "car 7",
)


class Recorded(Drive):
    """Three sets; the second one lacks a camera, the third one has PNG images and no truth."""

    name, rig = "recorded", RIG

    def __init__(self, sets=3, size=50):
        self.losses = Losses()
        self.sets, self.size = sets, size

    @property
    def length_hint(self):
        return self.sets

    def steps(self, *, start_s=0.0, duration_s=None):
        return window(map(self.step, range(self.sets)), start_s, duration_s)

    def step(self, number):
        rng = np.random.default_rng(number)
        head, kind = (b"\x89PNG\r\n\x1a\n", PixelFormat.PNG) if number == 2 else (b"\xff\xd8\xff", PixelFormat.JPEG)
        frames = []
        for camera, offset in (("front.main", 4), ("rear", 0)):
            if (number, camera) != (1, "rear"):
                pose = Pose.planar(number + offset / 100, 2 * number, 0.1 * number)
                stamp = START_NS + (100 * number + offset) * MS
                frames.append(Frame(camera, stamp, head + rng.bytes(self.size), kind, pose))
        absent = dict.fromkeys(["never"] + ["rear"] * (number == 1), "no frame within 60 ms")
        stamp = START_NS + (100 * number + 4) * MS
        layers = {
            "drivable": rng.integers(0, 2, GRID.shape, np.uint8),
            "direction_rad": np.where(rng.random(GRID.shape) < 0.5, np.nan, 0.5).astype(np.float32),
        }
        truth = GroundTruth(stamp, GRID, layers) if number != 2 else None
        return DriveStep(FrameSet(stamp, tuple(frames), frames[0].world_from_ego, absent), truth)


def predictions(number=0):
    rng = np.random.default_rng(number)
    nx, ny = GRID.shape
    observed = rng.random((nx, ny)) < 0.5
    seen_by = observed.astype(np.uint64)
    layout = RoadLayout(GRID, ("drivable", "edge"), rng.random((2, nx, ny), np.float32), observed, seen_by)
    occupancy = OccupancyGrid(GRID, rng.normal(size=(nx, ny)).astype(np.float32), observed, seen_by, 1.0)
    labels = CameraOutput("rear", "segmentation", rng.random((3, 4, 5), np.float32), ("a", "b", "c"), np.eye(3))
    features = CameraOutput("rear", "features", rng.random((3, 4, 5), np.float32), (), np.eye(3))
    return Predictions(
        timestamp_ns=START_NS + number * 100 * MS,
        sequence=number,
        cameras=RIG.names,
        camera_mask=np.ones(3, np.bool_),
        camera_age_ns=np.zeros(3, np.int64),
        absences={},
        bev={"road_layout": layout, "occupancy": occupancy},
        camera_outputs={"segmentation": {"rear": labels}, "features": {"rear": features}},
        invalid={},
        state=StateStatus(False, "first set", 0),
        provenance=Provenance("b", "0", "0", (), (), 1),
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.mcap"


def messages(path):
    with open(path, "rb") as file:
        return [
            (channel.topic, schema.name, message, decoded)
            for schema, channel, message, decoded in make_reader(
                file, validate_crcs=True, decoder_factories=[DecoderFactory()]
            ).iter_decoded_messages(log_time_order=False)
        ]


def assert_same(one, other):
    for step, again in zip(one.steps(), other.steps(), strict=True):
        frames, others = step.frame_set, again.frame_set
        assert frames.timestamp_ns == others.timestamp_ns
        assert dict(frames.absences) == dict(others.absences)
        np.testing.assert_allclose(frames.world_from_ego.matrix, others.world_from_ego.matrix, atol=1e-12)
        for frame, twin in zip(frames.frames, others.frames, strict=True):
            assert (frame.camera, frame.timestamp_ns, frame.data) == (twin.camera, twin.timestamp_ns, twin.data)
            assert frame.pixel_format == twin.pixel_format
            np.testing.assert_allclose(frame.world_from_ego.matrix, twin.world_from_ego.matrix, atol=1e-12)
        assert (step.truth is None) == (again.truth is None)
        if step.truth is not None:
            assert (step.truth.timestamp_ns, step.truth.grid) == (again.truth.timestamp_ns, again.truth.grid)
            assert sorted(step.truth.layers) == sorted(again.truth.layers)
            for name, layer in step.truth.layers.items():
                np.testing.assert_array_equal(layer, again.truth.layers[name])


def test_a_recorded_drive_is_read_back_equal(path):
    counts = []
    assert record_drive(Recorded(), path, progress=counts.append) == 3
    assert counts == [1, 2, 3]
    back = open_drive(path)
    assert (back.rig.name, back.rig.names) == ("car 7", RIG.names)
    for camera, again in zip(RIG, back.rig, strict=True):
        assert camera.intrinsics == again.intrinsics
        np.testing.assert_allclose(camera.ego_from_camera.matrix, again.ego_from_camera.matrix, atol=1e-12)
    assert_same(Recorded(), back)
    assert not back.losses
    assert back.length_hint == 3


def test_the_same_drive_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        record_drive(Recorded(), tmp_path / name)
        with Recorder(tmp_path / f"{name}2", RIG, segmentation=True) as recorder:
            recorder.write(predictions(), Recorded().step(0).frame_set)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a2").read_bytes() == (tmp_path / "b2").read_bytes()


def test_calibrations_are_repeated_so_that_a_lost_chunk_does_not_lose_the_rig(path):
    record_drive(Recorded(sets=25), path)
    times = [m.log_time - START_NS for topic, _, m, _ in messages(path) if topic == "/rear/camera_info"]
    assert times == [0, 1000 * MS, 2000 * MS]


def test_predictions_become_grids_a_viewer_understands(path):
    made = predictions()
    with Recorder(path, RIG) as recorder:
        recorder.write(made)
    found = {topic: (schema, message, decoded) for topic, schema, message, decoded in messages(path)}
    assert sorted(found) == ["/occupancy", "/road_layout", "/road_layout_geometry"]
    schema, message, grid = found["/road_layout"]
    assert schema == Grid.DESCRIPTOR.full_name
    assert message.log_time == message.publish_time == made.timestamp_ns == grid.timestamp.ToNanoseconds()
    assert [(field.name, field.offset) for field in grid.fields] == [("drivable", 0), ("edge", 1), ("observed", 2)]
    cells = np.frombuffer(grid.data, np.uint8).reshape(GRID.shape[1], GRID.shape[0], 3)
    assert cells[2, 5, 1] == round(float(made.road_layout["edge"][5, 2]) * 255)
    np.testing.assert_array_equal(cells[:, :, 2].T.astype(bool), made.road_layout.observed)
    assert (grid.pose.position.x, grid.pose.position.y, grid.frame_id) == (-2, -1, "base_link")
    cells = np.frombuffer(found["/occupancy"][2].data, np.uint8).reshape(GRID.shape[1], GRID.shape[0], 2)
    np.testing.assert_array_equal(cells[:, :, 0].T, np.rint(made.occupancy.probability * 255))


def test_the_geometry_of_a_road_layout_becomes_a_scene(path):
    made = predictions()
    with Recorder(path, RIG) as recorder:
        recorder.write(made)
    found = {topic: (schema, message, decoded) for topic, schema, message, decoded in messages(path)}
    schema, message, scene = found["/road_layout_geometry"]
    assert (schema, message.log_time) == (SceneUpdate.DESCRIPTOR.full_name, made.timestamp_ns)
    assert [entity.id for entity in scene.entities] == ["lane_divider", "road_edge", "corridor", "intersection"]
    assert {entity.frame_id for entity in scene.entities} == {"base_link"}


def test_geometry_may_be_left_out(path):
    with Recorder(path, RIG, geometry=False) as recorder:
        recorder.write(predictions())
    assert sorted({topic for topic, *_ in messages(path)}) == ["/occupancy", "/road_layout"]


def test_belief_is_written_when_asked_for(path):
    made = predictions()
    belief = np.random.default_rng(5).random((2, *GRID.shape), np.float32)
    layout = dataclasses.replace(made.road_layout, belief=belief)
    occupancy = dataclasses.replace(made.occupancy, belief=belief[0])
    made = dataclasses.replace(made, bev={"road_layout": layout, "occupancy": occupancy})
    with Recorder(path, RIG, geometry=False, belief=True) as recorder:
        recorder.write(made)
    found = {topic: decoded for topic, _, _, decoded in messages(path)}
    assert sorted(found) == ["/occupancy", "/occupancy_belief", "/road_layout", "/road_layout_belief"]
    cells = np.frombuffer(found["/road_layout_belief"].data, np.uint8).reshape(GRID.shape[1], GRID.shape[0], 3)
    np.testing.assert_array_equal(cells[:, :, 1].T, np.rint(belief[1] * 255))
    np.testing.assert_array_equal(cells[:, :, 2].T.astype(bool), layout.observed)
    assert [field.name for field in found["/occupancy_belief"].fields] == ["probability", "observed"]


def test_outputs_without_a_belief_have_none_in_the_file(path):
    with Recorder(path, RIG, geometry=False, belief=True) as recorder:
        recorder.write(predictions())
    assert sorted({topic for topic, *_ in messages(path)}) == ["/occupancy", "/road_layout"]


def test_the_pose_of_the_set_is_written_with_the_predictions(path):
    step = Recorded().step(1)
    with Recorder(path, RIG) as recorder:
        recorder.write(predictions(), step.frame_set)
        recorder.write(predictions(), step.frame_set)
    (transform,) = [decoded for topic, _, _, decoded in messages(path) if topic == "/tf"]
    assert (transform.parent_frame_id, transform.child_frame_id) == ("map", "base_link")
    assert transform.translation.x == step.frame_set.world_from_ego.translation_m[0]


def test_segmentation_is_written_on_request_as_the_most_probable_class(path):
    made = predictions()
    with Recorder(path, RIG, segmentation=True) as recorder:
        recorder.write(made)
    found = {topic: (schema, decoded) for topic, schema, _, decoded in messages(path)}
    assert sorted(found) == ["/camera/rear/segmentation", "/occupancy", "/road_layout", "/road_layout_geometry"]
    schema, labels = found["/camera/rear/segmentation"]
    assert (schema, labels.encoding) == (RawImage.DESCRIPTOR.full_name, "mono8")
    values = made.camera_outputs["segmentation"]["rear"].values
    np.testing.assert_array_equal(np.frombuffer(labels.data, np.uint8).reshape(4, 5), values.argmax(axis=0))


def test_detections_become_annotations_at_the_time_of_the_image(path):
    """The schema counts pixels from the corner of the first pixel, detections from its centre."""
    boxes, scores = np.array([[9.5, 19.5, 99.5, 59.5]], np.float32), np.array([0.875], np.float32)
    found = Detections("rear", ("vehicle", "pedestrian"), boxes, scores, np.array([1], np.uint16))
    nothing = Detections("never", found.classes, boxes[:0], scores[:0], found.class_ids[:0])
    made = dataclasses.replace(
        predictions(),
        camera_outputs={"objects": {"rear": found, "never": nothing}},
        camera_age_ns=np.array([0, 4 * MS, -2 * MS]),
    )
    with Recorder(path, RIG) as recorder:
        recorder.write(made)
    written = {topic: (schema, message, decoded) for topic, schema, message, decoded in messages(path)}
    schema, message, annotations = written["/rear/annotations/objects"]
    assert (schema, message.log_time) == (ImageAnnotations.DESCRIPTOR.full_name, START_NS - 4 * MS)
    (outline,), (text,) = annotations.points, annotations.texts
    assert outline.type == outline.LINE_LOOP
    assert [(point.x, point.y) for point in outline.points] == [(10, 20), (100, 20), (100, 60), (10, 60)]
    colour = outline.outline_color
    assert np.rint(np.array([colour.b, colour.g, colour.r, colour.a]) * 255).astype(int).tolist() == [
        *class_colour("pedestrian"), 255,
    ]  # fmt: skip
    assert (text.text, text.position.x, text.position.y) == ("pedestrian 0.88", 10, 20)
    for stamp in (outline.timestamp, text.timestamp):
        assert stamp.ToNanoseconds() == START_NS - 4 * MS
    _, message, annotations = written["/never/annotations/objects"]
    assert (message.log_time, len(annotations.points), len(annotations.texts)) == (START_NS + 2 * MS, 0, 0)


def test_frames_that_are_not_encoded_are_written_without_loss(path):
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    frames = (
        Frame("front.main", START_NS, image, PixelFormat.BGR8),
        Frame("rear", START_NS, image[:, :, ::-1], PixelFormat.RGB8),
        Frame("never", START_NS, image[:, :, 0], PixelFormat.MONO8),
    )
    with Recorder(path, RIG) as recorder:
        recorder.write_frames(FrameSet(START_NS, frames))
    (step,) = open_drive(path).steps()
    first, second, third = (np.frombuffer(frame.data, np.uint8) for frame in step.frame_set.frames)
    np.testing.assert_array_equal(cv2.imdecode(first, cv2.IMREAD_COLOR), image)
    np.testing.assert_array_equal(cv2.imdecode(second, cv2.IMREAD_COLOR), image)
    np.testing.assert_array_equal(cv2.imdecode(third, cv2.IMREAD_GRAYSCALE), image[:, :, 0])


@pytest.mark.parametrize(("pixel_format", "code"), [("nv12", cv2.COLOR_YUV2BGR_NV12), ("yuyv", cv2.COLOR_YUV2BGR_YUY2)])
def test_yuv_is_recorded_as_what_networks_see_of_it(path, pixel_format, code):
    kind = PixelFormat(pixel_format)
    data = np.random.default_rng(0).integers(0, 256, kind.array_shape(8, 6), np.uint8)
    with Recorder(path, RIG) as recorder:
        recorder.write_frames(FrameSet(START_NS, (Frame("rear", START_NS, data, kind),)))
    (step,) = open_drive(path).steps()
    (frame,) = step.frame_set.frames
    assert frame.pixel_format is PixelFormat.PNG
    np.testing.assert_array_equal(cv2.imdecode(frame.array, cv2.IMREAD_COLOR), cv2.cvtColor(data, code))


def test_encoded_views_are_recorded_as_they_are(path):
    done, jpeg = cv2.imencode(".jpg", np.zeros((6, 8, 3), np.uint8))
    assert done
    frames = (
        Frame("rear", START_NS, memoryview(jpeg.tobytes()), PixelFormat.JPEG),
        Frame("front.main", START_NS, jpeg, PixelFormat.JPEG),
    )
    with Recorder(path, RIG) as recorder:
        recorder.write_frames(FrameSet(START_NS, frames))
    (step,) = open_drive(path).steps()
    assert [frame.data for frame in step.frame_set.frames] == [jpeg.tobytes()] * 2


def test_frame_of_a_camera_outside_the_rig_is_refused(path):
    frame = Frame("roof", START_NS, b"\xff\xd8\xff", PixelFormat.JPEG)
    with Recorder(path, RIG) as recorder, pytest.raises(InvalidArgument, match=r"camera must be one of .* got roof"):
        recorder.write_frames(FrameSet(START_NS, (frame,)))


def test_existing_file_is_kept_unless_told_otherwise(path):
    path.write_bytes(b"precious")
    with pytest.raises(RecordingError, match=r"out\.mcap: exists already"):
        Recorder(path, RIG)
    assert path.read_bytes() == b"precious"
    record_drive(Recorded(), path, overwrite=True)
    assert len(list(open_drive(path).steps())) == 3


def test_file_that_cannot_be_made_is_an_error(tmp_path):
    with pytest.raises(RecordingError, match="no/such must be a folder, got nothing of that name"):
        Recorder(tmp_path / "no" / "such" / "folder.mcap", RIG)


def test_writing_after_the_end_is_an_error(path):
    recorder = Recorder(path, RIG)
    recorder.close()
    recorder.close()
    with pytest.raises(RecordingError, match="the recording has ended"):
        recorder.write(predictions())


class Disk(io.BytesIO):
    """A disk that holds `room` bytes and then writes what still fits, as disks do."""

    name = "disk"

    def __init__(self, room):
        super().__init__()
        self.room = room

    def write(self, data):
        free = self.room - self.tell()
        if free <= 0 and len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(bytes(data)[:free])


@pytest.mark.parametrize("room", [0, 5, 30, 100_000, 300_001, 567_890])
def test_full_disk_stops_the_recording_and_keeps_what_was_written(path, room):
    disk = Disk(room)
    written = []
    left = "is valid up to there" if room > 100 else "breaks off there"
    with pytest.raises(RecordingError, match=f"disk: recording stopped: No space left on device; the file {left}"):
        fill(disk, written)
    path.write_bytes(disk.getvalue())
    if room < 200_000:
        return  # not one chunk fitted
    disk.seek(0)
    assert list(NonSeekingReader(disk).iter_messages()), "other readers can read it too"
    drive = McapDrive(path)
    frames = [frame.data for step in drive.steps() for frame in step.frame_set.frames]
    everything = [frame.data for step in Recorded(sets=40, size=20_000).steps() for frame in step.frame_set.frames]
    assert 0 < len(frames) < len(everything)
    assert set(frames) <= set(everything)
    assert drive.losses.truncated is None
    assert drive.losses.corrupt == 0


def fill(disk, written):
    with Recorder(disk, RIG) as recorder:
        for step in Recorded(sets=40, size=20_000).steps():
            recorder.write_frames(step.frame_set)
            written.append(step)


def test_recorder_stays_closed_after_a_full_disk():
    recorder = Recorder(Disk(2000), RIG)
    with pytest.raises(RecordingError, match="No space left"):
        recorder.write_frames(Recorded(size=200_000).step(0).frame_set)
    with pytest.raises(RecordingError, match="the recording has ended"):
        recorder.write(predictions())
    recorder.close()


def test_cut_recording_keeps_the_order_of_the_cameras(path):
    record_drive(Recorded(sets=30, size=20_000), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert open_drive(path).rig.names == ("front.main", "rear")  # the rear camera fires first


def test_interrupt_between_sets_leaves_a_whole_file(path):
    def stop(count):
        if count == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_drive(Recorded(sets=40), path, progress=stop)
    drive = open_drive(path)
    assert len(list(drive.steps())) == 7
    assert not drive.losses


def test_interrupt_inside_a_record_leaves_a_readable_file(path):
    class Interrupted(Disk):
        def write(self, data):
            if self.tell() > 300_000 and len(data) > 1000:
                super().write(bytes(data)[:1000])
                raise KeyboardInterrupt
            return super().write(data)

    disk = Interrupted(1 << 30)
    with pytest.raises(KeyboardInterrupt):
        fill(disk, [])
    path.write_bytes(disk.getvalue())
    drive = open_drive(path)
    assert len(list(drive.steps())) > 5
    assert not drive.losses


def test_killed_recording_keeps_all_but_the_last_chunk(path):
    recorder = Recorder(path, RIG)
    for step in Recorded(sets=40, size=20_000).steps():
        recorder.write_frames(step.frame_set)
    drive = open_drive(path)  # as it is on disk now, nothing flushed or closed
    sets = len(list(drive.steps()))
    assert sets >= 40 - 4
    assert f"ends at byte {path.stat().st_size}" in drive.losses.truncated
    recorder.close()


def test_predictions_alone_are_no_drive_but_a_valid_file(path):
    with Recorder(path, RIG) as recorder:
        for number in range(3):
            recorder.write(predictions(number))
    assert [topic for topic, *_ in messages(path)] == ["/road_layout", "/road_layout_geometry", "/occupancy"] * 3


def test_raw_top_down_outputs_are_left_out(path):
    made = predictions()
    object.__setattr__(made, "bev", MappingProxyType({}))
    with Recorder(path, RIG) as recorder:
        recorder.write(made)
    assert messages(path) == []
