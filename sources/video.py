"""Video through PyAV (FFmpeg): opening without leaks of passwords, packets to images."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependency, SourceError, expected
from ..runtime.frames import PixelFormat

OPEN_TIMEOUT_S: Final = 5.0

_BAD_PACKETS: Final = 100
"""So many packets in a row without an image, and the stream is given up."""

_KEPT: Final = {
    "yuyv422": PixelFormat.YUYV,
    "nv12": PixelFormat.NV12,
    "yuv420p": PixelFormat.NV12,
    "gray": PixelFormat.MONO8,
}
"""Formats of FFmpeg that need no conversion, or nearly none."""

_COLOURS_OF_601: Final = frozenset({2, 5, 6})
"""`AVColorSpace`: unspecified, BT.470BG, SMPTE 170M."""

_LIMITED_RANGES: Final = frozenset({0, 1})
"""`AVColorRange`: unspecified, limited."""

_WITHOUT_TIMES: Final = frozenset({"mpjpeg", "mjpeg", "h264", "hevc", "m4v", "mpegvideo"})
"""Formats that carry no times: FFmpeg makes some up from a guessed frame rate."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoImage:
    """An image of a stream.

    presented_ns : its time on the stream's clock, None where it has none
    sent_ns : the same instant by the sender's wall clock (RTCP), since the epoch; None where the sender does not tell
    data, pixel_format : as in a Frame; pixels are its own
    """

    presented_ns: int | None
    sent_ns: int | None
    data: NDArray[np.uint8] | bytes
    pixel_format: PixelFormat


def load_av(load: Callable[[str], Any] = importlib.import_module) -> Any:
    """Import PyAV.

    Raises
    ------
    MissingDependency
        It is not there; says the remedy.
    """
    try:
        return load("av")
    except ImportError as error:
        raise MissingDependency(
            f"PyAV cannot be loaded ({error}); devices, streams and video files need it; remedy:"
            " pip install 'octobev[video]'"
        ) from error


@contextmanager
def open_video(
    target: str,
    *,
    options: Mapping[str, str],
    silence_s: float | None = None,
    container_format: str | None = None,
    open_container: Callable[..., Any] | None = None,
) -> Iterator[Any]:
    """Open a video; errors inside the `with` become SourceErrors that do not name the target.

    Parameters
    ----------
    target : what FFmpeg opens
    options : of FFmpeg
    silence_s : longest wait for data, seconds; None: no bound
    container_format : None: by what is there
    open_container : in place of `av.open`

    Raises
    ------
    SourceError
        It cannot be opened or read on. MissingDependency without PyAV.
    """
    av = load_av()
    timeout = None if silence_s is None else (max(OPEN_TIMEOUT_S, silence_s), silence_s)
    try:
        with (open_container or av.open)(
            target, format=container_format, options=dict(options), timeout=timeout
        ) as container:
            yield container
    except av.error.ExitError:
        raise SourceError("no data in time") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        # not `from error`: FFmpeg's messages have the whole address in them
        raise SourceError(reason_of(error)) from None


def reason_of(error: BaseException) -> str:
    """Say what went wrong without the address, which may have a password in it."""
    return (getattr(error, "strerror", None) or type(error).__name__).lower()


def images_of(container: Any) -> Generator[VideoImage | None, None, None]:
    """Give the images of a container's first video; None where a packet gave none.

    JPEG passes as it is: the runtime decodes it at the scale that it needs. All else is decoded on this thread: YUYV,
    NV12 and grey stay what they are, 4:2:0 of the colours that NV12 is taken to have becomes NV12, the rest BGR by the
    colour space that the stream declares.

    Raises
    ------
    SourceError
        No video, or nothing but packets that cannot be decoded.
    """
    av = load_av()
    if not container.streams.video:
        raise SourceError(expected("stream", "a video", "one without"))
    stream = container.streams.video[0]
    passes = stream.codec_context.name == "mjpeg"
    if not passes:
        stream.codec_context.thread_count = 1
    timed = not set(container.format.name.split(",")) & _WITHOUT_TIMES
    clock = _SenderClock()
    bad = 0
    for packet in container.demux(stream):
        clock.see(packet)
        found: list[VideoImage] = []
        try:
            found = list(_passed(packet, timed, clock) if passes else _decoded(packet, timed, clock))
        except av.error.InvalidDataError:
            bad += 1
            if bad >= _BAD_PACKETS:
                raise SourceError(f"{bad} packets in a row cannot be decoded") from None
        if found:
            bad = 0
        yield from found or (None,)


class _SenderClock:
    """What the sender's wall clock says, as FFmpeg hands it on from RTCP (`AVProducerReferenceTime`)."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None

    def see(self, packet: Any) -> None:
        presented_ns = _nanoseconds(packet.pts, packet.time_base)
        if presented_ns is None or not packet.has_sidedata("prft"):
            return
        wall_us, _ = struct.unpack_from("=qi", bytes(packet.get_sidedata("prft")))
        self._offset_ns = wall_us * 1000 - presented_ns

    def of(self, presented_ns: int | None) -> int | None:
        if presented_ns is None or self._offset_ns is None:
            return None
        return presented_ns + self._offset_ns


def _passed(packet: Any, timed: bool, clock: _SenderClock) -> Iterator[VideoImage]:
    data = bytes(packet)
    if data:  # the last packet of a file is empty
        presented_ns = _nanoseconds(packet.pts, packet.time_base) if timed else None
        yield VideoImage(presented_ns, clock.of(presented_ns), data, PixelFormat.JPEG)


def _decoded(packet: Any, timed: bool, clock: _SenderClock) -> Iterator[VideoImage]:
    for frame in packet.decode():
        presented_ns = _nanoseconds(frame.pts, frame.time_base) if timed else None
        data, pixel_format = _pixels(frame)
        yield VideoImage(presented_ns, clock.of(presented_ns), data, pixel_format)


def _pixels(frame: Any) -> tuple[NDArray[np.uint8], PixelFormat]:
    even = frame.width % 2 == frame.height % 2 == 0
    kept = _KEPT.get(frame.format.name)
    if kept is not None and even and (kept is PixelFormat.MONO8 or _is_limited_601(frame)):
        return frame.to_ndarray(format=kept.value if kept is PixelFormat.NV12 else None), kept
    return frame.to_ndarray(format="bgr24"), PixelFormat.BGR8


def _is_limited_601(frame: Any) -> bool:
    """Whether colours are what the pixel formats NV12 and YUYV say: so declared, or not declared."""
    return frame.colorspace in _COLOURS_OF_601 and frame.color_range in _LIMITED_RANGES


def _nanoseconds(ticks: int | None, time_base: Any) -> int | None:
    return None if ticks is None or time_base is None else round(ticks * time_base * 1_000_000_000)
