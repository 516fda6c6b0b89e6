import hashlib
import struct

import cv2
import numpy as np
import pytest
from octobev.errors import ImageError
from octobev.fusion.pose import Pose
from octobev.replay.arrivals import Arrival, StampedPose
from octobev.replay.faults import disturb, parse_fault
from octobev.replay.faults.images import corrupt_frame, noisy_frame
from octobev.runtime.frames import Frame, PixelFormat
from octobev.runtime.images import pixels_of

MS = 1_000_000
T0 = 1_700_000_000_000_000_000
PERIOD = 100 * MS
SIZE = (32, 24)


def image(number):
    return np.random.default_rng(number).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def jpeg(number):
    return cv2.imencode(".jpg", image(number))[1].tobytes()


def arrivals(count=10, cameras=("front", "rear"), data=image, pixel_format=PixelFormat.BGR8):
    """A frame per camera every 100 ms, and before each a pose."""
    made = []
    for number in range(count):
        at = number * PERIOD
        for index, camera in enumerate(cameras):
            made.append(Arrival(at, StampedPose(T0 + at, Pose.planar(number, 0, 0))))
            made.append(Arrival(at, Frame(camera, T0 + at, data(10 * number + index), pixel_format)))
    return made


def played(spec, stream=None, seed=0, **options):
    specs = spec if isinstance(spec, (list, tuple)) else [spec]
    return list(disturb(stream or arrivals(**options), [parse_fault(text) for text in specs], seed))


def frames(stream, camera):
    """(time of arrival, capture time) in ms of a camera's frames, in order of arrival."""
    return [
        (a.at_ns // MS, (a.item.timestamp_ns - T0) // MS)
        for a in stream
        if isinstance(a.item, Frame) and a.item.camera == camera
    ]


def data(stream, camera):
    return [a.item.data for a in stream if isinstance(a.item, Frame) and a.item.camera == camera]


def digest(stream):
    sha256 = hashlib.sha256()
    for arrival in stream:
        item = arrival.item
        sha256.update(f"{arrival.at_ns} {item.timestamp_ns} {getattr(item, 'camera', 'pose')}".encode())
        if isinstance(item, Frame):
            sha256.update(bytes(item.data))
    return sha256.hexdigest()


EVERY_CAMERA_FAULT = (
    "lose:front%50@..", "freeze:rear@300ms+200ms", "noise:front*0.1@..", "delay:rear+30ms@..", "reorder:*@..",
    "repeat:front@200ms", "clock:rear-50ms@600ms", "corrupt:front%50@..",
)  # fmt: skip


def test_without_faults_nothing_changes():
    stream = arrivals()
    assert list(disturb(stream, [parse_fault("nan:*@.."), parse_fault("full-disk@..")])) == stream


@pytest.mark.parametrize("spec", [*EVERY_CAMERA_FAULT, EVERY_CAMERA_FAULT])
def test_same_fault_and_seed_give_the_same(spec):
    made = digest(played(spec, seed=1))
    assert digest(played(spec, seed=1)) == made
    assert made != digest(arrivals())


@pytest.mark.parametrize("spec", ["lose:*%50@..", "noise:**0.1@..", "reorder:*@..", "corrupt:*%50@.."])
def test_another_seed_gives_something_else(spec):
    assert digest(played(spec, seed=1)) != digest(played(spec, seed=2))


@pytest.mark.parametrize("spec", [*EVERY_CAMERA_FAULT, EVERY_CAMERA_FAULT])
def test_time_of_arrival_never_falls(spec):
    times = [arrival.at_ns for arrival in played(spec)]
    assert times == sorted(times)


def test_input_is_not_written_to():
    stream = arrivals()
    before = digest(stream)
    played(EVERY_CAMERA_FAULT, stream)
    assert digest(stream) == before


def test_lost_frames_do_not_arrive_and_others_do():
    stream = played("lose:front@200ms+300ms")
    assert frames(stream, "front") == [(at, at) for at in (0, 100, 500, 600, 700, 800, 900)]
    assert len(frames(stream, "rear")) == 10
    assert sum(isinstance(arrival.item, StampedPose) for arrival in stream) == 20, "odometry goes on"


def test_share_of_frames_is_lost():
    left = len(frames(played("lose:front%30@..", count=400), "front"))
    assert 250 < left < 310


def test_frozen_camera_shows_its_last_image_with_new_times():
    stream = played("freeze:rear@300ms+200ms")
    assert frames(stream, "rear") == [(at, at) for at in range(0, 1000, 100)]
    shown = data(stream, "rear")
    assert shown[3] is shown[2]
    assert shown[4] is shown[2]
    assert not np.array_equal(shown[5], shown[2])


def test_camera_that_is_frozen_from_the_start_shows_its_first_image():
    shown = data(played("freeze:rear@.."), "rear")
    assert all(other is shown[0] for other in shown)


def test_noise_has_its_deviation():
    grey = np.full((100, 100, 3), 128, np.uint8)
    noisy = noisy_frame(Frame("front", T0, grey), 0.1, np.random.default_rng(0))
    assert noisy.data.std() == pytest.approx(25.5, rel=0.02)
    assert noisy.data.mean() == pytest.approx(128, abs=1)
    assert (grey == 128).all()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_noise_on_an_encoded_image_keeps_its_format(suffix):
    grey = np.full((24, 32, 3), 128, np.uint8)
    frame = Frame("front", T0, cv2.imencode(f".{suffix}", grey)[1].tobytes(), {"jpg": "jpeg"}.get(suffix, suffix))
    noisy = noisy_frame(frame, 0.1, np.random.default_rng(0))
    assert noisy.pixel_format is frame.pixel_format
    assert pixels_of(noisy, SIZE).std() > 10


def test_noise_leaves_alone_what_cannot_be_decoded():
    frame = Frame("front", T0, b"no image", PixelFormat.JPEG)
    assert noisy_frame(frame, 0.1, np.random.default_rng(0)) is frame


def test_delayed_frames_arrive_later_in_their_order():
    stream = played("delay:front+130ms@200ms+200ms")
    assert frames(stream, "front") == [
        (0, 0), (100, 100), (330, 200), (400, 400), (430, 300), *((at, at) for at in range(500, 1000, 100))
    ]  # fmt: skip


def test_delay_beyond_the_end_loses_nothing():
    assert len(frames(played("delay:front+5s@.."), "front")) == 10


def test_reordered_frames_change_places_with_their_neighbours():
    found = frames(played("reorder:front%100@.."), "front")
    assert [taken for _, taken in found] == [100, 0, 300, 200, 500, 400, 700, 600, 900, 800]
    assert [at for at, _ in found] == [100, 100, 300, 300, 500, 500, 700, 700, 900, 900]
    assert sorted(taken for _, taken in frames(played("reorder:*@.."), "rear")) == list(range(0, 1000, 100))


def test_repeated_frames_arrive_twice():
    found = frames(played("repeat:front@..", count=2), "front")
    assert found == [(0, 0), (0, 0), (100, 100), (100, 100)]


def test_clock_of_one_camera_jumps_and_comes_back():
    stream = played("clock:front+5s@200ms+100ms", count=4)
    assert [taken for _, taken in frames(stream, "front")] == [0, 100, 5200, 300]
    assert [taken for _, taken in frames(stream, "rear")] == [0, 100, 200, 300]
    assert max(a.item.timestamp_ns for a in stream if isinstance(a.item, StampedPose)) == T0 + 300 * MS


def test_clock_of_all_stamps_poses_too():
    stream = played("clock:*-1s@100ms", count=2)
    assert {(a.item.timestamp_ns - T0) // MS for a in stream} == {0, -900}


def test_corrupt_images_are_cut_or_changed():
    cut = changed = 0
    for number in range(60):
        frame = Frame("front", T0 + number, jpeg(number), PixelFormat.JPEG)
        damaged = corrupt_frame(frame, np.random.default_rng(number))
        assert damaged.data != frame.data
        changed += len(damaged.data) == len(frame.data)
        if len(damaged.data) < len(frame.data):
            cut += 1
            with pytest.raises(ImageError):
                pixels_of(damaged, SIZE)
    assert cut > 15
    assert changed > 15


def test_bare_pixels_are_encoded_before_they_are_damaged():
    found = data(played("corrupt:front@..", count=3), "front")
    assert all(isinstance(content, bytes) for content in found)


@pytest.mark.parametrize("pixel_format", ["nv12", "yuyv"])
def test_yuv_is_made_worse_too(pixel_format):
    kind = PixelFormat(pixel_format)
    clean = Frame("front", T0, np.full(kind.array_shape(*SIZE), 128, np.uint8), kind)
    noisy = noisy_frame(clean, 0.1, np.random.default_rng(0))
    assert (noisy.pixel_format, noisy.size) == (kind, SIZE)
    assert noisy.array.std() > 20
    damaged = corrupt_frame(clean, np.random.default_rng(1))
    assert damaged.pixel_format is PixelFormat.JPEG
    assert struct.pack(">HH", SIZE[1], SIZE[0]) in damaged.data  # of the image, not of the array


def test_share_of_frames_is_corrupt():
    clean = data(arrivals(count=200, data=jpeg, pixel_format=PixelFormat.JPEG), "front")
    found = data(played("corrupt:front%30@..", count=200, data=jpeg, pixel_format=PixelFormat.JPEG), "front")
    assert 35 < sum(one != other for one, other in zip(clean, found, strict=True)) < 85


def test_faults_follow_one_another():
    stream = played(["delay:front+150ms@..", "lose:front@0s+160ms"], count=3)
    assert [taken for _, taken in frames(stream, "front")] == [100, 200], "what is lost is what arrives then"
