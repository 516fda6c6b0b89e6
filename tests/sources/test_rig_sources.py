import logging
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from octobev.errors import ImageError, MissingFile, RigError
from octobev.fusion.pose import Pose
from octobev.fusion.rig import write_rig
from octobev.replay.drive import Drive, DriveStep, Losses
from octobev.runtime.frames import Frame, FrameSet
from octobev.sources.address import DeviceAddress, DriveAddress, FileAddress, RingAddress, StreamAddress
from octobev.sources.capture_clock import Instant
from octobev.sources.drive_player import DriveSource
from octobev.sources.playback import LEAD_NS, Pace
from octobev.sources.rig_sources import RigSources, make_sources, read_addresses

MS = 1_000_000
WALL_NS = 1_700_000_000_000 * MS


class SmallDrive(Drive):
    """Two sets 100 ms apart; of the second, the left camera fires 20 ms before the front one."""

    def __init__(self, rig, *, corrupt=0):
        self.name, self.rig, self.losses = "small", rig, Losses()
        self.corrupt = corrupt

    def steps(self, *, start_s=0.0, duration_s=None):
        self.losses = Losses()
        for _ in range(self.corrupt):
            self.losses.add("CRC")
        for index, times in enumerate([(0, 0), (100 * MS, 80 * MS)]):
            pixels = np.full((2, 2, 3), index, np.uint8)
            frames = [
                Frame(camera, time, pixels, world_from_ego=Pose.planar(index, 0, 0))
                for camera, time in zip(("front", "left"), times, strict=True)
            ]
            yield DriveStep(FrameSet(times[0], tuple(frames), Pose.planar(index, 0, 0)))


class NeverWaits(threading.Event):
    def __init__(self):
        super().__init__()
        self.waited_ms = []

    def wait(self, timeout=None):
        self.waited_ms.append(round(timeout * 1000))
        return self.is_set()


@pytest.fixture
def play(make_rig):
    def play(address, cameras=("front", "left"), count=None, **drive):
        source = DriveSource(
            cameras, address, SmallDrive(make_rig("front", "left"), **drive), Pace(lambda: Instant(0, WALL_NS))
        )
        stop = NeverWaits()
        frames = source.frames(stop)
        return [next(frames) for _ in range(count)] if count else list(frames), stop

    return play


def test_a_drive_is_played_frame_by_frame_in_real_time(play):
    frames, stop = play(DriveAddress("d"))
    assert [frame.camera for frame in frames] == ["front", "left", "left", "front"]
    assert stop.waited_ms == [250, 250, 330, 350]
    assert [(f.timestamp_ns - WALL_NS - LEAD_NS) / MS for f in frames] == [0, 0, 80, 100]
    assert [f.world_from_ego.translation_m[0] for f in frames] == [0, 0, 1, 1]


def test_a_drive_keeps_its_own_times_when_asked(play):
    frames, stop = play(DriveAddress("d", clock="recorded"))
    assert [frame.timestamp_ns for frame in frames] == [0, 0, 80 * MS, 100 * MS]
    assert stop.waited_ms == [250, 250, 330, 350]


def test_a_drive_that_loops_goes_on_in_time(play):
    frames, _ = play(DriveAddress("d", loop=True), count=6)
    assert [(f.timestamp_ns - WALL_NS - LEAD_NS) / MS for f in frames] == [0, 0, 80, 100, 200, 200]


def test_only_the_cameras_that_are_wanted(play):
    assert [frame.camera for frame in play(DriveAddress("d"), ("left",))[0]] == ["left", "left"]


def test_what_a_drive_lost_is_said_at_its_end(make_rig, receiver):
    drive = SmallDrive(make_rig("front", "left"), corrupt=2)
    source = DriveSource(("front", "left"), DriveAddress("d"), drive, Pace())
    with RigSources([source], receiver) as sources:
        sources.start()
        assert sources.wait_ended(60)
        states = sources.states()
    assert len(receiver.frames) == 4
    assert states["left"].reason == "2 x CRC"
    assert states["front"] is states["left"]


def test_sources_of_a_rig_from_its_file(tmp_path, make_rig, make_video, receiver):
    write_rig(make_rig("front", "left", "rear"), tmp_path / "rig.toml")
    text = (tmp_path / "rig.toml").read_text()
    for name, source in (("front", "file:a.mp4"), ("rear", "file:b.mkv")):
        text = text.replace(f'name = "{name}"', f'name = "{name}"\nsource = "{source}"')
    (tmp_path / "rig.toml").write_text(text)
    make_video(tmp_path / "a.mp4", 4)
    make_video(tmp_path / "b.mkv", 4)
    addresses = read_addresses(tmp_path / "rig.toml")
    assert set(addresses) == {"front", "rear"}
    over = threading.Event()
    with RigSources(make_sources(make_rig("front", "left", "rear"), addresses), receiver, ended=over.set) as sources:
        sources.start()
        assert over.wait(60)
        assert sources.wait_ended(60)
        assert {name: state.frames for name, state in sources.states().items()} == {"front": 4, "rear": 4}
        assert sources.close() == ()
    times = [[frame.timestamp_ns for frame in receiver.of(name)] for name in ("front", "rear")]
    assert times[0] == times[1]


def test_a_source_that_cannot_be_read_names_file_and_camera(tmp_path, make_rig):
    write_rig(make_rig("front"), tmp_path / "rig.toml")
    text = (
        (tmp_path / "rig.toml").read_text().replace('name = "front"', 'name = "front"\nsource = "rtsp://u:hunter2@h:x"')
    )
    (tmp_path / "rig.toml").write_text(text)
    with pytest.raises(RigError, match=r"rig\.toml: camera front: source must be .* got 'rtsp://\*\*\*@h:x'"):
        read_addresses(tmp_path / "rig.toml")


def test_what_cannot_be_is_refused_before_anything_starts(tmp_path, make_rig):
    rig = make_rig("front", "left")
    with pytest.raises(RigError, match="camera with a source must be one of front, left, got rear"):
        make_sources(rig, {"rear": RingAddress("rear")})
    with pytest.raises(RigError, match="rig must be one whose cameras name a source, got none that does"):
        make_sources(rig, {})
    with pytest.raises(MissingFile, match=r"camera front: .*a\.mp4: no such file"):
        make_sources(rig, {"front": FileAddress(str(tmp_path / "a.mp4"))})
    with pytest.raises(RigError, match="drive:d: camera must be one of left, got front"):
        make_sources(rig, {"front": DriveAddress("d")}, open_drive=lambda path: SmallDrive(make_rig("left")))


def test_cameras_of_one_drive_share_a_source_the_others_have_their_own(make_rig):
    rig = make_rig("front", "left", "rear", "right")
    drive = DriveAddress("d")
    sources = make_sources(
        rig,
        {"front": drive, "left": drive, "rear": RingAddress("r"), "right": StreamAddress("rtsp://h/r")},
        open_drive=lambda path: SmallDrive(make_rig("front", "left")),
    )
    assert [source.cameras for source in sources] == [("front", "left"), ("rear",), ("right",)]


def test_a_thread_that_is_held_up_is_named_and_hands_nothing_on(receiver, caplog):
    held, go = threading.Event(), threading.Event()

    class Stuck:
        cameras, finite, back_off = ("front",), True, None

        def frames(self, stop):
            held.set()
            go.wait(60)
            yield Frame("front", 1, np.zeros((2, 2, 3), np.uint8))

    sources = RigSources([Stuck()], receiver)
    sources.start()
    assert held.wait(60)
    assert sources.close(timeout_s=0.01) == ("octobev-source-front",)
    go.set()
    assert sources.feeds[0].join(60)
    assert receiver.frames == []


def test_frames_that_the_runtime_refuses_are_logged_once(make_rig, caplog):
    caplog.set_level(logging.WARNING, "octobev.sources")

    def refuse(frame):
        raise ImageError("wrong size")

    source = DriveSource(("front", "left"), DriveAddress("d"), SmallDrive(make_rig("front", "left")), Pace())
    with RigSources([source], refuse) as sources:
        sources.start()
        assert sources.wait_ended(60)
        assert sources.states()["front"].refused == 4
    assert caplog.text.count("wrong size") == 1


def test_the_example_of_the_docs_is_a_rig_with_sources(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "rig.toml").write_text(example, encoding="utf-8")
    addresses = read_addresses(tmp_path / "rig.toml")
    assert addresses["front"] == DeviceAddress("/dev/video0", (1280, 960), 30.0, "mjpeg")
    assert str(addresses["rear"]) == "rtsp://***@10.0.0.12/live"
