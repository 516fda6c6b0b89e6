import threading
from contextlib import closing

import numpy as np
import pytest
from octobev.errors import FrameRingError, SourceError
from octobev.fusion.pose import Pose
from octobev.runtime.frames import Frame
from octobev.runtime.ring.writer import FrameRingWriter
from octobev.sources.address import RingAddress
from octobev.sources.feed import Feed
from octobev.sources.frame_ring import RingSource


def numbered(index, camera="front"):
    return Frame(camera, 1000 + index, np.full((4, 4, 3), index, np.uint8), world_from_ego=Pose.planar(index, 0, 0))


def test_frames_come_with_time_and_pose_and_pixels_of_their_own(tmp_path):
    path = tmp_path / "ring"
    with FrameRingWriter(path, "front", payload_bytes=48, slots=2) as writer:
        writer.write(numbered(0))
        with closing(RingSource("front", RingAddress(str(path))).frames(threading.Event())) as frames:
            first = next(frames)
            for index in range(1, 6):
                writer.write(numbered(index))
            second = next(frames)
    assert (first.timestamp_ns, first.data.max(), second.timestamp_ns, second.data.min()) == (1000, 0, 1005, 5)
    assert second.world_from_ego.translation_m[0] == 5


def test_a_writer_that_dies_and_starts_again_is_found(tmp_path, receiver):
    path = tmp_path / "ring"
    feed = Feed(RingSource("front", RingAddress(str(path), silence_s=0.2)), receiver, seed=1)
    feed.start()
    for life in range(2):
        with FrameRingWriter(path, "front", payload_bytes=48) as writer:
            for index in range(3):
                writer.write(numbered(10 * life + index))
            receiver.wait(count := 1)
            while receiver.frames[count - 1].timestamp_ns < 1000 + 10 * life:  # those of the life before
                receiver.wait(count := count + 1)
    feed.stop()
    assert feed.join(60)


@pytest.mark.parametrize(("writes", "reason"), [(None, "no such ring"), (0, "no frame in time")])
def test_silence_is_a_failure_that_says_what_is_there(tmp_path, writes, reason):
    path = tmp_path / "ring"
    writer = None if writes is None else FrameRingWriter(path, "front", payload_bytes=48)
    with pytest.raises(SourceError, match=reason):
        list(RingSource("front", RingAddress(str(path), silence_s=0.01)).frames(threading.Event()))
    if writer is not None:
        writer.close()


def test_a_ring_of_another_camera_is_refused(tmp_path):
    path = tmp_path / "ring"
    with (
        FrameRingWriter(path, "rear", payload_bytes=48),
        pytest.raises(FrameRingError, match="camera must be front, got 'rear'"),
    ):
        list(RingSource("front", RingAddress(str(path))).frames(threading.Event()))
