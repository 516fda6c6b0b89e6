import random
import tracemalloc

import numpy as np
import pytest
from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.FrameTransforms_pb2 import FrameTransforms
from mcap.writer import CompressionType, IndexType, Writer
from octobev.errors import CalibrationError, DriveError, MissingFile, OctobevError, RigError
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.replay import foxglove
from octobev.replay.mcap import McapDrive
from octobev.replay.summary import read_summary
from octobev.runtime.frames import Frame, PixelFormat

MS = 1_000_000
START_NS = 1_600_000_000_000_000_000
PERIOD_MS = 100
LENS = Intrinsics(640, 480, 500, 510, 320, 240)
MOUNTINGS = {
    name: Pose.from_quaternion((1.5, y, 1.4), (-0.5, 0.5, -0.5, 0.5)) for name, y in (("left", 0.5), ("right", -0.5))
}


def at(ms):
    return START_NS + ms * MS


def jpeg(camera, ms, size=40):
    return b"\xff\xd8\xff" + f"{camera} {ms} ".encode() + random.Random(f"{camera}{ms}").randbytes(size)


def image(camera, ms, *, log_ms=None, topic=None, **more):
    data = foxglove.encode_image(Frame(camera, at(ms), jpeg(camera, ms, **more), PixelFormat.JPEG), camera)
    return topic or f"/{camera}/image_rect_compressed", foxglove.IMAGE, at(ms if log_ms is None else log_ms), data


def calibration(camera, ms=0, *, topic=None, frame_id=None, **changes):
    fields = {"frame_id": frame_id or camera, "width": 640, "height": 480, "K": [500, 0, 320, 0, 510, 240, 0, 0, 1]}
    data = CameraCalibration(**(fields | changes)).SerializeToString()
    return topic or f"/{camera}/camera_info", foxglove.CALIBRATION, at(ms), data


def transform(parent, child, pose, ms=0, *, log_ms=None):
    data = foxglove.encode_transform(at(ms), parent, child, pose)
    return "/tf", foxglove.TRANSFORM, at(ms if log_ms is None else log_ms), data


def ego_pose(ms):
    return Pose.planar(ms / 100, 0, 0)  # ten metres a second


def ego(ms, **more):
    return transform("map", "base_link", ego_pose(ms), ms, **more)


def rig_messages(*cameras, ms=0):
    for camera in cameras:
        yield calibration(camera, ms)
        yield transform("base_link", camera, MOUNTINGS[camera], ms)


def drive_messages(sets=5, **more):
    """Two cameras 10 ms apart, each with the ego pose of its time, calibrations again every second."""
    for number in range(sets):
        ms = number * PERIOD_MS
        if ms % 1000 == 0:
            yield from rig_messages("left", "right", ms=ms)
        for camera, offset in (("left", 0), ("right", 10)):
            yield ego(ms + offset)
            yield image(camera, ms + offset, **more)


def write(path, messages, *, chunk_size=1024, chunking=True, index=True, compression=CompressionType.ZSTD):
    with open(path, "wb") as file:
        writer = Writer(
            file,
            chunk_size=chunk_size,
            compression=compression,
            use_chunking=chunking,
            index_types=IndexType.ALL if index else IndexType.NONE,
            use_statistics=index,
            use_summary_offsets=index,
            repeat_channels=index,
            repeat_schemas=index,
        )
        writer.start()
        schemas, channels = {}, {}
        for topic, schema, log_time, data in messages:
            if schema not in schemas:
                schemas[schema] = writer.register_schema(schema, "protobuf", b"")
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "protobuf", schemas[schema])
            writer.add_message(channels[topic], log_time, data, log_time)
        writer.finish()
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "drive.mcap"


def seen(drive, **limits):
    """Capture times in ms, per set and camera; every image is checked to be the recorded one."""
    found = []
    for step in drive.steps(**limits):
        for frame in step.frame_set.frames:
            ms = (frame.timestamp_ns - START_NS) // MS
            assert frame.data.startswith(b"\xff\xd8\xff" + f"{frame.camera} {ms} ".encode())
        found.append({frame.camera: (frame.timestamp_ns - START_NS) // MS for frame in step.frame_set.frames})
    return found


def expected_sets(sets=5):
    return [{"left": n * PERIOD_MS, "right": n * PERIOD_MS + 10} for n in range(sets)]


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize(("chunking", "index"), [(True, True), (True, False), (False, False), (False, True)])
def test_rig_and_sets_are_read(path, compression, chunking, index):
    drive = McapDrive(write(path, drive_messages(), chunking=chunking, index=index, compression=compression))
    assert drive.name == "drive"
    assert drive.rig.names == ("left", "right")
    for camera in drive.rig:
        assert camera.intrinsics == LENS
        np.testing.assert_allclose(camera.ego_from_camera.matrix, MOUNTINGS[camera.name].matrix, atol=1e-15)
    assert seen(drive) == expected_sets()
    assert not drive.losses
    assert drive.length_hint == (5 if index else None)
    assert seen(drive) == expected_sets(), "iterating again gives the same"


def test_images_are_the_bytes_that_were_recorded(path):
    drive = McapDrive(write(path, drive_messages(1)))
    (step,) = drive.steps()
    assert [frame.data for frame in step.frame_set.frames] == [jpeg("left", 0), jpeg("right", 10)]
    assert [frame.pixel_format for frame in step.frame_set.frames] == [PixelFormat.JPEG] * 2


def test_every_frame_has_the_ego_pose_of_its_own_time(path):
    drive = McapDrive(
        write(path, [*rig_messages("left", "right"), ego(0), image("left", 0), image("right", 25), ego(50)])
    )
    (step,) = drive.steps()
    poses = [frame.world_from_ego.translation_m[0] for frame in step.frame_set.frames]
    assert poses == pytest.approx([0.0, 0.25])
    assert step.frame_set.timestamp_ns == at(25)
    assert step.frame_set.world_from_ego.translation_m[0] == pytest.approx(0.25)


def test_capture_time_counts_not_log_time(path):
    messages = [*rig_messages("left"), ego(0), image("left", 10, log_ms=700), ego(20, log_ms=750)]
    (step,) = McapDrive(write(path, messages)).steps()
    assert step.frame_set.timestamp_ns == at(10)
    assert step.frame_set.world_from_ego.translation_m[0] == pytest.approx(0.1)


def test_poses_may_come_after_their_images(path):
    events = [image("left", ms) for ms in range(0, 1000, 100)] + [ego(ms, log_ms=ms + 400) for ms in range(0, 1000, 70)]
    drive = McapDrive(write(path, [*rig_messages("left"), *sorted(events, key=lambda event: event[2])]))
    found = [(s.frame_set.timestamp_ns, s.frame_set.world_from_ego.translation_m[0]) for s in drive.steps()]
    assert found == [(at(ms), pytest.approx(ms / 100)) for ms in range(0, 1000, 100)]


def test_a_pose_that_comes_more_than_a_second_late_is_not_waited_for(path):
    late = [ego(0, log_ms=1400), ego(100, log_ms=1400)]
    events = [*rig_messages("left"), image("left", 0), image("left", 1200), *late]
    steps = list(McapDrive(write(path, events)).steps())
    assert steps[0].frame_set.world_from_ego is None


def test_drive_without_ego_poses_has_none(path):
    events = [*rig_messages("left"), image("left", 0), image("left", 100)]
    steps = list(McapDrive(write(path, events)).steps())
    assert [step.frame_set.world_from_ego for step in steps] == [None, None]


def test_static_transforms_in_one_message_without_time_are_read(path):
    message = FrameTransforms()
    for child, z in (("mast", 1.0), ("left", 0.5)):
        item = message.transforms.add(parent_frame_id="base_link" if child == "mast" else "mast", child_frame_id=child)
        item.translation.z, item.rotation.w = z, 1.0
    static = ("/tf_static", foxglove.TRANSFORMS, at(0), message.SerializeToString())
    drive = McapDrive(write(path, [static, calibration("left"), ego(0), image("left", 0)]))
    np.testing.assert_allclose(drive.rig["left"].ego_from_camera.translation_m, (0, 0, 1.5))
    (step,) = drive.steps()
    assert step.frame_set.world_from_ego.translation_m[0] == 0


def test_ego_frame_is_the_common_parent_of_the_cameras(path):
    events = [calibration("left"), calibration("right"), image("left", 0), image("right", 0)]
    events += [transform("vut", camera, MOUNTINGS[camera]) for camera in ("left", "right")]
    events += [transform("odom", "vut", Pose.planar(7, 0, 0)), transform("map", "odom", Pose.planar(100, 0, 0))]
    drive = McapDrive(write(path, events))
    (step,) = drive.steps()
    assert step.frame_set.world_from_ego.translation_m[0] == 7


def test_calibration_is_found_by_frame_when_topics_differ(path):
    events = [calibration("left", topic="/info/of_left"), transform("base_link", "left", MOUNTINGS["left"])]
    drive = McapDrive(write(path, [*events, image("left", 0)]))
    assert drive.rig["left"].intrinsics == LENS


def test_calibration_of_the_same_topic_prefix_goes_before_that_of_the_frame(path):
    events = [calibration("left", topic="/other/camera_info", width=64), calibration("left", frame_id="left_lens")]
    events += [transform("base_link", "left", MOUNTINGS["left"]), image("left", 0)]
    assert McapDrive(write(path, events)).rig["left"].intrinsics == LENS


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("/left/image_rect_compressed", "left"),
        ("/sensors/cam/left/image_raw/compressed", "sensors_cam_left"),
        ("/left", "left"),
        ("left/image", "left"),
        ("/cam left/image", "cam_left"),
    ],
)
def test_cameras_are_named_by_the_prefix_of_their_topic(path, topic, name):
    events = [*rig_messages("left"), image("left", 0, topic=topic)]
    assert McapDrive(write(path, events)).rig.names == (name,)


def test_two_image_topics_of_one_camera_are_two_cameras(path):
    topics = ["/left/image_rect_compressed", "/left/image_small"]
    drive = McapDrive(write(path, [*rig_messages("left"), *(image("left", 0, topic=topic) for topic in topics)]))
    assert drive.rig.names == ("left", "left_image_small")


def test_unrectified_images_keep_their_distortion(path):
    events = [
        calibration("left", D=[0.1, 0.2, 0.3, 0.4], distortion_model="fisheye"),
        transform("base_link", "left", MOUNTINGS["left"]),
        image("left", 0, topic="/left/image_raw"),
    ]
    assert McapDrive(write(path, events)).rig["left"].intrinsics.model is LensModel.KANNALA_BRANDT


def test_a_subset_of_cameras_is_read(path):
    drive = McapDrive(write(path, drive_messages()), cameras=["right"])
    assert drive.rig.names == ("right",)
    assert seen(drive) == [{"right": n * PERIOD_MS + 10} for n in range(5)]


def test_an_unknown_camera_is_refused(path):
    with pytest.raises(RigError, match="camera must be one of left, right, got rear"):
        McapDrive(write(path, drive_messages()), cameras=["left", "rear"])


def test_image_topic_without_calibration_is_named(path):
    events = [*rig_messages("left"), image("left", 0), image("right", 10)]
    with pytest.raises(DriveError, match=r"topic /right/image_rect_compressed: no foxglove\.CameraCalibration"):
        McapDrive(write(path, events))
    assert McapDrive(path, cameras=["left"]).rig.names == ("left",)


def test_camera_without_mounting_is_named(path):
    events = [*rig_messages("left"), calibration("right"), image("left", 0), image("right", 10)]
    with pytest.raises(
        DriveError, match="topic /right/image_rect_compressed: no transform tells where its frame 'right'"
    ):
        McapDrive(write(path, events))


def test_singular_camera_matrix_is_named(path):
    events = [calibration("left", K=[0] * 9), transform("base_link", "left", MOUNTINGS["left"]), image("left", 0)]
    with pytest.raises(
        CalibrationError, match="/left/image_rect_compressed: its calibration /left/camera_info: camera"
    ):
        McapDrive(write(path, events))


def test_unknown_distortion_model_is_named(path):
    events = [
        calibration("left", distortion_model="double_sphere", D=[0.5]),
        transform("base_link", "left", MOUNTINGS["left"]),
        image("left", 0, topic="/left/image"),
    ]
    with pytest.raises(CalibrationError, match=r"/left/image: .*distortion model must be .* got 'double_sphere'"):
        McapDrive(write(path, events))


def test_a_given_rig_stands_in_for_missing_calibrations(path):
    rig = Rig((Camera("left", LENS, MOUNTINGS["left"]), Camera("rear", LENS, MOUNTINGS["right"])))
    drive = McapDrive(write(path, [ego(0), image("left", 0), image("right", 10)]), rig=rig)
    (step,) = drive.steps()
    assert drive.rig is rig
    assert [frame.camera for frame in step.frame_set.frames] == ["left"]
    assert dict(step.frame_set.absences) == {"rear": "no frame within 60 ms"}
    assert step.frame_set.world_from_ego.translation_m[0] == 0


def test_a_given_rig_of_other_cameras_is_refused(path):
    rig = Rig((Camera("rear", LENS, MOUNTINGS["left"]),))
    with pytest.raises(RigError, match="rig must be of cameras that the drive has, got rear"):
        McapDrive(write(path, drive_messages()), rig=rig)


def test_camera_whose_images_stop_is_absent(path):
    events = [*rig_messages("left", "right"), image("left", 0), image("right", 0), image("left", 100)]
    steps = list(McapDrive(write(path, events)).steps())
    assert [dict(step.frame_set.absences) for step in steps] == [{}, {"right": "no frame within 60 ms"}]


def test_calibration_that_changes_is_counted_and_the_first_stays(path):
    moved = Pose.planar(0.1, 0, 0) @ MOUNTINGS["left"]
    events = [*drive_messages(2), *(transform("base_link", "left", moved, ms) for ms in (300, 310))]
    events += [calibration("right", 320, K=[400, 0, 320, 0, 400, 240, 0, 0, 1])]
    drive = McapDrive(write(path, events))
    assert len(seen(drive)) == 2
    assert drive.losses.reasons == {"calibration changed": 2}
    assert drive.rig["right"].intrinsics == LENS


def test_frames_within_the_skew_bound_are_put_in_order(path):
    events = [*rig_messages("left", "right"), image("right", 30), image("left", 0), image("left", 100)]
    assert seen(McapDrive(write(path, events))) == [{"left": 0, "right": 30}, {"left": 100}]


def test_timestamps_that_go_backwards_are_dropped_and_counted(path):
    events = [*drive_messages(3), image("left", -5000, log_ms=3000), image("right", 3005)]
    events += [image("left", 3010), image("left", 100, log_ms=6000), image("left", 7000)]
    drive = McapDrive(write(path, events))
    stamps = [step.frame_set.timestamp_ns for step in drive.steps()]
    assert stamps == sorted(stamps)
    assert len(stamps) == 5
    assert drive.losses.reasons == {"timestamp goes backwards": 2}


def test_fast_cameras_are_not_mixed_up_across_sets(path):
    events = list(rig_messages("left", "right"))
    for number in range(36):
        ms = number * 1000 // 36
        events += [image("left", ms)] * (number != 5) + [image("right", ms + 3)]
    drive = McapDrive(write(path, events))
    sets = seen(drive)
    assert len(sets) == 36
    assert max(max(found.values()) - min(found.values()) for found in sets) == 3


def test_malformed_messages_are_counted_and_named(path):
    bad = ("/left/image_rect_compressed", foxglove.IMAGE, at(50), b"\xff\xff")
    drive = McapDrive(write(path, [*drive_messages(2), bad]))
    assert seen(drive) == expected_sets(2)
    (reason,) = drive.losses.reasons
    assert reason.startswith("/left/image_rect_compressed: message must be a foxglove.CompressedImage")


def test_ground_truth_belongs_to_the_set_of_its_time(path):
    grid = BevGrid(0, 3, 0, 2, 1.0)
    layer = np.array([[0, 1], [1, 1], [0, 0]], np.uint8)
    truth = ("/ground_truth", foxglove.GRID, at(110), foxglove.encode_grid(at(110), "base_link", grid, {
        "drivable": layer, "someone_elses": layer, "direction_rad": np.full((3, 2), np.nan, np.float32),
    }))  # fmt: skip
    other = ("/map_grid", foxglove.GRID, at(10), foxglove.encode_grid(at(10), "map", grid, {"drivable": layer}))
    steps = list(McapDrive(write(path, [*drive_messages(2), truth, other])).steps())
    assert steps[0].truth is None
    assert steps[1].truth.grid == grid
    assert sorted(steps[1].truth.layers) == ["direction_rad", "drivable"]
    np.testing.assert_array_equal(steps[1].truth.layers["drivable"], layer)


def test_file_without_images_is_refused(path):
    with pytest.raises(
        DriveError, match=r"drive must be a file with foxglove\.CompressedImage topics, got one without"
    ):
        McapDrive(write(path, [ego(0)]))


def test_file_with_uncompressed_images_is_refused(path):
    labels = foxglove.encode_labels(at(0), "front", np.zeros((2, 3), np.uint8))
    messages = [("/front/image_raw", foxglove.RAW_IMAGE, at(0), labels), ego(0)]
    with pytest.raises(
        DriveError, match=r"CompressedImage topics, got one with uncompressed images on /front/image_raw$"
    ):
        McapDrive(write(path, messages))


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "got an empty one"), (b"PK\3\4 zip", "got one that begins with")]
)
def test_other_files_are_refused(path, content, message):
    path.write_bytes(content)
    with pytest.raises(DriveError, match=f"must be an MCAP file, {message}"):
        McapDrive(path)


def test_missing_file_is_named(path):
    with pytest.raises(MissingFile, match=r"drive\.mcap: no such file"):
        McapDrive(path)


def test_start_and_duration_cut_the_same_sets_as_reading_all(path):
    drive = McapDrive(write(path, drive_messages(60)))
    everything = seen(drive)
    assert seen(drive, start_s=0.3) == everything[3:]
    assert seen(drive, start_s=4.0, duration_s=0.5) == everything[40:45]
    assert seen(drive, duration_s=0.2) == everything[:2]
    assert seen(drive, start_s=100) == []


def test_late_start_does_not_read_what_comes_before(path):
    write(path, drive_messages(60))
    content = bytearray(path.read_bytes())
    content[len(content) // 4 + 20 : len(content) // 4 + 24] = b"\0\0\0\0"
    path.write_bytes(content)
    drive = McapDrive(path)
    assert len(seen(drive, start_s=4.5)) == 15
    assert not drive.losses
    seen(drive)
    assert drive.losses


@pytest.mark.parametrize("index", [True, False])
def test_damaged_chunk_is_skipped_and_its_images_are_counted(path, index):
    write(path, drive_messages(12, size=2000), index=index, compression=CompressionType.NONE)
    content = bytearray(path.read_bytes())
    content[content.index(b"left 500 ") + 500] ^= 1
    path.write_bytes(content)
    drive = McapDrive(path)
    assert seen(drive) == [found if found["left"] != 500 else {"right": 510} for found in expected_sets(12)]
    assert drive.losses.reasons == {"damaged chunk": 1}


@pytest.mark.parametrize("index", [True, False])
def test_every_image_of_a_damaged_chunk_is_counted(path, index):
    # without the summary the message indexes behind the chunk still tell
    write(path, drive_messages(12, size=2000), compression=CompressionType.NONE, chunk_size=8000)
    content = bytearray(path.read_bytes())
    content[content.index(b"left 500 ") + 500] ^= 1
    path.write_bytes(content if index else content[:-200])
    drive = McapDrive(path)
    lost = 24 - sum(map(len, seen(drive)))
    assert lost > 1
    assert drive.losses.reasons == {"damaged chunk": lost}


def test_damaged_framing_is_overcome_with_the_index(path):
    write(path, drive_messages(12, size=2000), compression=CompressionType.NONE)
    content = bytearray(path.read_bytes())
    image_at = content.index(b"left 500 ")
    chunk_at = max(offset for offset in read_summary(path).chunk_offsets if offset < image_at)
    content[chunk_at + 3] ^= 0x40  # in the length of the chunk
    path.write_bytes(content)
    drive = McapDrive(path)
    assert seen(drive) == [found if found["left"] != 500 else {"right": 510} for found in expected_sets(12)]
    assert drive.losses.reasons == {"damaged chunk": 1}


def test_truncated_file_gives_every_whole_chunk(path):
    whole = write(path, drive_messages(12)).read_bytes()
    full = seen(McapDrive(path))
    counts = []
    for cut in range(len(whole) // 2, len(whole), 97):
        path.write_bytes(whole[:cut])
        drive = McapDrive(path)
        found = seen(drive)
        counts.append(sum(map(len, found)))
        assert all(set(part.items()) <= set(all_of.items()) for part, all_of in zip(found, full, strict=False))
        assert f"ends at byte {cut}" in drive.losses.truncated
    assert counts == sorted(counts)
    assert counts[0] > 8
    assert counts[-1] == 24


def test_file_cut_before_the_first_chunk_has_no_images(path):
    whole = write(path, drive_messages(2)).read_bytes()
    path.write_bytes(whole[:60])
    with pytest.raises(DriveError, match=r"topics, got one without \(the file is damaged: drive.mcap ends at byte 60"):
        McapDrive(path)


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bits_never_change_a_frame(path, seed):
    random_ = random.Random(seed)
    compression = random_.choice(list(CompressionType))
    whole = write(path, drive_messages(3), compression=compression, index=seed % 2 == 0).read_bytes()
    original = {(camera, ms): jpeg(camera, ms) for found in expected_sets(3) for camera, ms in found.items()}
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(random_.choice((1, 1, 3))):
            content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
        path.write_bytes(content)
        try:
            drive = McapDrive(path)
            frames = [frame for step in drive.steps() for frame in step.frame_set.frames]
        except OctobevError:
            continue
        for frame in frames:
            assert original[frame.camera, (frame.timestamp_ns - START_NS) // MS] == frame.data
        assert len(frames) == len(original) or drive.losses


def test_memory_does_not_grow_with_the_file(path):
    def peak(sets):
        write(path, drive_messages(sets, size=20_000), chunk_size=50_000)
        drive = McapDrive(path)
        tracemalloc.start()
        count = sum(1 for _ in drive.steps())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == sets
        return most

    assert peak(200) < 1.3 * peak(50)


def test_frames_that_nothing_releases_do_not_pile_up(path):
    events = [*rig_messages("left", "right"), *(image("left", n, log_ms=0, size=5000) for n in range(1500))]
    drive = McapDrive(write(path, events, chunk_size=50_000), max_skew_s=0)
    steps = drive.steps()
    tracemalloc.start()
    count = sum(1 for _ in steps)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1500
    assert most < 4_000_000
