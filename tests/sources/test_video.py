"""Video files and HTTP streams, really read with PyAV; devices with an opener in place of the driver."""

import contextlib
import http.server
import socket
import threading
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from octobev.errors import MissingDependency, SourceError
from octobev.runtime.frames import Frame, PixelFormat
from octobev.runtime.images import bgr_of, pixels_of
from octobev.sources.address import DeviceAddress, FileAddress, StreamAddress, parse_address
from octobev.sources.capture_clock import Instant
from octobev.sources.device import DeviceSource
from octobev.sources.feed import Feed
from octobev.sources.playback import LEAD_NS, Pace
from octobev.sources.state import SourceCondition
from octobev.sources.stream import StreamSource
from octobev.sources.video import VideoImage, images_of, load_av, open_video
from octobev.sources.video_file import FileSource

MS = 1_000_000
S = 1000 * MS
WALL_NS = 1_700_000_000 * S


def long_ago():
    """Both clocks, such that everything that is played is due."""
    return Instant(0, WALL_NS)


class NeverWaits(threading.Event):
    """A stop signal whose waits are over at once; it notes them."""

    def __init__(self):
        super().__init__()
        self.waited_s = []

    def wait(self, timeout=None):
        self.waited_s.append(timeout)
        return self.is_set()


def shades(frames):
    return [
        int(np.median(pixels_of(frame, (64, 48)) if frame.size is None else bgr_of(frame, frame.size)))
        for frame in frames
    ]


def is_grey(found, indices):
    return np.allclose(found, [40 + 20 * (index % 8) for index in indices], atol=4)


@pytest.mark.parametrize(("codec", "kind"), [("mpeg4", PixelFormat.NV12), ("mjpeg", PixelFormat.JPEG)])
def test_a_file_is_played_at_its_own_pace(tmp_path, make_video, codec, kind):
    path = make_video(tmp_path / "a.mkv", 5, codec)
    stop = NeverWaits()
    frames = list(FileSource("front", FileAddress(str(path)), Pace(long_ago)).frames(stop))
    assert is_grey(shades(frames), range(5))
    assert {(frame.camera, frame.pixel_format) for frame in frames} == {("front", kind)}
    assert [frame.timestamp_ns for frame in frames] == [WALL_NS + LEAD_NS + n * 40 * MS for n in range(5)]
    assert stop.waited_s == pytest.approx([0.25 + 0.04 * n for n in range(5)])


def test_a_file_that_loops_goes_on_in_time(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", 3)
    source = FileSource("front", FileAddress(str(path), loop=True), Pace(long_ago))
    with contextlib.closing(source.frames(NeverWaits())) as frames:
        some = [next(frames) for _ in range(7)]
    assert is_grey(shades(some), [0, 1, 2, 0, 1, 2, 0])
    assert [(frame.timestamp_ns - some[0].timestamp_ns) / MS for frame in some] == [40 * n for n in range(7)]


def test_files_of_one_pace_stay_in_step(tmp_path, make_video):
    pace = Pace(long_ago)
    paths = [make_video(tmp_path / f"{name}.mp4", 3) for name in "ab"]
    times = [
        [f.timestamp_ns for f in FileSource("front", FileAddress(str(p)), pace).frames(NeverWaits())] for p in paths
    ]
    assert times[0] == times[1]


def test_a_file_ends_when_stopped(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", 5)
    stop = threading.Event()
    frames = FileSource("front", FileAddress(str(path)), Pace(long_ago)).frames(stop)
    stop.set()
    assert list(frames) == []


def test_a_file_that_is_none_says_so_without_its_name(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video at all" * 100)
    with pytest.raises(SourceError, match="invalid data found"):
        list(FileSource("front", FileAddress(str(path)), Pace(long_ago)).frames(NeverWaits()))


def test_packets_that_cannot_be_decoded_are_left_out_until_there_are_too_many():
    container = device_container(range(150), bad=range(1, 100))
    assert [image is not None for image in images_of(container)] == [True, *[False] * 99, *[True] * 50]
    with pytest.raises(SourceError, match="100 packets in a row cannot be decoded"):
        list(images_of(device_container(range(150), bad=range(20, 120))))


def test_without_pyav_the_extra_is_named():
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    with pytest.raises(MissingDependency, match=r"pip install 'octobev\[video\]'"):
        load_av(absent)


def test_errors_of_ffmpeg_lose_the_address():
    with pytest.raises(SourceError) as caught, open_video("http://u:hunter2@127.0.0.1:9/a", options={}, silence_s=5):
        pass
    assert "hunter2" not in f"{caught.value}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


class Server:
    """Serves a file, or JPEGs for ever as network cameras do, on a port that stays the same."""

    def __init__(self, content=None, port=0):
        jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 100, np.uint8))[1].tobytes()
        part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
        self.quiet = threading.Event()
        self.pace = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                if content is not None:
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                    return
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    while not server.gone:
                        if not server.quiet.is_set():
                            self.wfile.write(part)
                        server.pace.wait(0.01)

            def log_message(self, *arguments):
                pass

        self.gone = False
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_port
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.gone = True
        self.pace.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@contextlib.contextmanager
def running(source, submit):
    feed = Feed(source, submit, seed=1)
    feed.start()
    try:
        yield feed
    finally:
        feed.stop()
        assert feed.join(60)


def test_mjpeg_over_http_passes_as_jpeg(receiver):
    with Server() as server:
        source = StreamSource("front", parse_address(f"http://127.0.0.1:{server.port}/front"))
        before = Instant.now().wall_ns
        with running(source, receiver):
            receiver.wait(5)
    frames = receiver.frames[:5]
    assert [frame.pixel_format for frame in frames] == ["jpeg"] * 5
    assert np.allclose(shades(frames), 100, atol=2)
    times = [frame.timestamp_ns for frame in frames]
    assert times == sorted(set(times))
    assert before <= times[0] <= times[-1] <= Instant.now().wall_ns


def test_a_container_over_http_is_decoded_and_its_end_is_no_end(tmp_path, make_video, receiver):
    content = make_video(tmp_path / "a.mkv", 5).read_bytes()
    with Server(content) as server:
        source = StreamSource("front", parse_address(f"http://127.0.0.1:{server.port}/a.mkv"))
        with running(source, receiver) as feed:
            receiver.wait(8)
            assert feed.state.connections >= 2
    assert is_grey(shades(receiver.frames[:5]), range(5))


def test_a_server_that_goes_away_and_returns_is_found_again(receiver):
    with Server() as server:
        port = server.port
        source = StreamSource("front", parse_address(f"http://127.0.0.1:{port}/front"))
        waiting = threading.Event()
        feed = Feed(source, receiver, seed=1, changed=lambda: feed.state.retry_ns is not None and waiting.set())
        feed.start()
        receiver.wait(3)
    assert waiting.wait(60)
    assert feed.state.reason
    before = len(receiver.frames)
    with Server(port=port):
        receiver.wait(before + 3)
        assert feed.state.condition is SourceCondition.STREAMING
        assert feed.state.connections >= 2
        feed.stop()
        assert feed.join(60)


def test_silence_is_a_failure(receiver):
    with Server() as server:
        source = StreamSource("front", StreamAddress(f"http://127.0.0.1:{server.port}/front", silence_s=0.2))
        frames = source.frames(threading.Event())
        next(frames)
        server.quiet.set()
        with pytest.raises(SourceError, match="no data in time"):
            list(frames)


def device_container(pts_us, bad=()):
    """What PyAV gives for a V4L2 device: packets with the driver's times in microseconds, some that are damaged."""

    class Stream:
        codec_context = av.CodecContext.create("rawvideo", "r")

    class Container:
        streams = type("Streams", (), {"video": [Stream()]})
        format = av.format.ContainerFormat("v4l2", "r")

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def demux(self, stream):
            for index, pts in enumerate(pts_us):
                packet = FakePacket(b"" if index in bad else bytes([100 + 10 * index % 100, 128] * 8))
                packet.pts, packet.time_base = pts, Fraction(1, 1_000_000)
                yield packet

    return Container()


class FakePacket:
    def __init__(self, data):
        self._data = data

    def __bytes__(self):
        return self._data

    def has_sidedata(self, kind):
        return False

    def decode(self):
        if not self._data:
            raise av.error.InvalidDataError(1, "damaged")
        frame = av.VideoFrame(4, 2, "yuyv422")
        plane = frame.planes[0]
        rows = np.zeros((2, plane.line_size), np.uint8)
        rows[:, :8] = np.frombuffer(self._data, np.uint8).reshape(2, 8)
        plane.update(rows.tobytes())
        frame.pts, frame.time_base = self.pts, self.time_base
        return [frame]


def test_a_device_is_asked_and_its_drivers_times_are_used():
    asked = []

    def open_container(path, **options):
        asked.append((path, options))
        return device_container([1_000_000, 1_040_000])

    address = DeviceAddress("/dev/video0", (4, 2), 25.0, "yuyv")
    now = Instant(monotonic_ns=1_050 * MS, wall_ns=WALL_NS)
    source = DeviceSource("front", address, now=lambda: now, open_container=open_container)
    frames = list(source.frames(threading.Event()))
    (path, options) = asked[0]
    assert (path, options["format"]) == ("/dev/video0", "v4l2")
    assert options["options"] == {"video_size": "4x2", "framerate": "25", "input_format": "yuyv422"}
    assert [frame.timestamp_ns - WALL_NS for frame in frames] == [-50 * MS, -10 * MS]
    assert [(frame.pixel_format, frame.data.shape) for frame in frames] == [("yuyv", (2, 4, 2))] * 2
    assert [frame.data.tolist() for frame in frames] == [[[[y, 128]] * 4] * 2 for y in (100, 110)]


def test_a_device_that_is_not_there_is_a_failure():
    with pytest.raises(SourceError, match="no such file or directory"):
        list(DeviceSource("front", DeviceAddress("/dev/video999")).frames(threading.Event()))


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1] & ~1  # RTP is even, RTCP the next


def test_the_senders_clock_comes_with_rtcp(tmp_path):
    port = free_port()
    (tmp_path / "a.sdp").write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port} RTP/AVP 96\na=rtpmap:96 MP4V-ES/90000\n"
    )
    stop = threading.Event()

    def send():
        with av.open(f"rtp://127.0.0.1:{port}", "w", format="rtp") as container:
            stream = container.add_stream("mpeg4", rate=25, options={"g": "2"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            while not stop.wait(0.02):
                image = np.full((48, 64, 3), 100, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        options = {"protocol_whitelist": "file,udp,rtp", "analyzeduration": "1000000"}
        with open_video(str(tmp_path / "a.sdp"), options=options, silence_s=20) as container:
            image = next(image for image in images_of(container) if image is not None and image.sent_ns is not None)
    finally:
        stop.set()
        sender.join()
    assert abs(image.sent_ns - Instant.now().wall_ns) < 600 * S


@pytest.mark.parametrize(
    ("clock", "sent_ns", "captured_ns"),
    [
        ("sender", WALL_NS - 80 * MS, WALL_NS - 80 * MS),
        ("sender", WALL_NS - 3600 * S, WALL_NS),  # not set: it says nothing about our time
        ("sender", None, WALL_NS),
        ("arrival", WALL_NS - 80 * MS, WALL_NS),
    ],
)
def test_the_senders_clock_is_taken_where_it_can_be_meant(monkeypatch, clock, sent_ns, captured_ns):
    image = VideoImage(7 * S, sent_ns, b"jpeg", PixelFormat.JPEG)
    monkeypatch.setattr("octobev.sources.stream.open_video", lambda *a, **k: contextlib.nullcontext())
    monkeypatch.setattr("octobev.sources.stream.images_of", lambda container: (image for _ in range(1)))
    source = StreamSource("front", StreamAddress("rtsp://h/a", clock=clock), now=lambda: Instant(99, WALL_NS))
    (frame,) = source.frames(threading.Event())
    assert frame.timestamp_ns == captured_ns


@pytest.mark.parametrize(
    ("name", "colorspace", "color_range", "kind"),
    [
        ("yuv420p", 2, 0, "nv12"),
        ("yuv420p", 6, 1, "nv12"),
        ("nv12", 5, 1, "nv12"),
        ("yuyv422", 2, 0, "yuyv"),
        ("gray", 2, 2, "mono8"),
        ("yuv420p", 1, 1, "bgr8"),  # BT.709
        ("yuvj420p", 2, 2, "bgr8"),
        ("yuv420p", 2, 2, "bgr8"),  # full range
        ("yuv422p", 2, 0, "bgr8"),
    ],
)
def test_pixels_are_kept_where_the_colours_are_those_of_the_format(monkeypatch, name, colorspace, color_range, kind):
    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), (60, 120, 200), np.uint8), format="bgr24")
    frame = frame.reformat(format=name, dst_colorspace=colorspace if colorspace != 2 else None)
    frame.colorspace, frame.color_range = colorspace, color_range
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    container = device_container([0])
    monkeypatch.setattr(FakePacket, "decode", lambda self: [frame])
    (image,) = images_of(container)
    assert image.pixel_format == kind
    made = Frame("front", 0, image.data, image.pixel_format)
    assert made.size == (64, 48)
    if kind != "mono8" and color_range != 2:
        assert np.median(bgr_of(made, made.size), axis=(0, 1)) == pytest.approx([60, 120, 200], abs=4)
