"""Frames of a stream of the network: RTSP, or HTTP with MJPEG or a container."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Final

from ..errors import SourceError
from ..runtime.frames import Frame
from .address import StreamAddress
from .back_off import BackOff
from .capture_clock import Instant, Rising, StreamClock
from .video import VideoImage, images_of, open_video

_OPTIONS: Final = {
    "protocol_whitelist": "rtsp,rtsps,rtp,udp,tcp,tls,http,https,httpproxy,crypto",  # never this machine's files
    "analyzeduration": "2000000",
    "fpsprobesize": "0",
}


class StreamSource:
    """A camera of the network.

    Capture times are the sender's where it tells them (RTCP) and its clock is ours within a second; else the stream's
    own times, as early as the quickest frames say; where the stream has none (MJPEG over HTTP), the time of arrival.

    Parameters
    ----------
    camera : its name in the rig
    address : where it is
    now : both clocks of this machine
    """

    finite: Final = False
    back_off: Final = BackOff()

    def __init__(self, camera: str, address: StreamAddress, *, now: Callable[[], Instant] = Instant.now) -> None:
        self.cameras = (camera,)
        self._address = address
        self._now = now

    def __str__(self) -> str:
        return str(self._address)

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        """See :class:`~octobev.sources.feed.CameraSource`."""
        address, clock, rising = self._address, StreamClock(), Rising()
        options = _OPTIONS | ({"rtsp_transport": address.transport} if address.url.startswith("rtsp") else {})
        heard_ns = self._now().monotonic_ns
        with (
            open_video(address.url, options=options, silence_s=address.silence_s) as container,
            closing(images_of(container)) as images,
        ):
            for image in images:
                if stop.is_set():
                    return
                now = self._now()
                if image is not None:
                    heard_ns = now.monotonic_ns
                    timestamp_ns = self._captured_ns(image, clock, now)
                    yield Frame(self.cameras[0], rising(timestamp_ns), image.data, image.pixel_format)
                elif now.monotonic_ns - heard_ns > max(address.silence_s, self.back_off.steady_s) * 1e9:
                    raise SourceError("data, but no image in time")

    def _captured_ns(self, image: VideoImage, clock: StreamClock, now: Instant) -> int:
        here_ns = now.wall_of(clock.capture_ns(image.presented_ns, now.monotonic_ns))
        if self._address.clock == "sender" and image.sent_ns is not None and now.trusts(image.sent_ns):
            return image.sent_ns
        return here_ns
