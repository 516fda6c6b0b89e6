"""How a camera names its source: one line of text, read strictly."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from ..errors import InvalidArgument, expected

SILENCE_S: Final = 2.0
"""Default time without a frame after which a source is taken for dead."""

_URL_SCHEMES: Final = ("rtsp", "rtsps", "http", "https")
_EXAMPLES: Final = (
    "v4l2:/dev/video0, rtsp://HOST/PATH, http://HOST/PATH, file:PATH, ring:NAME or drive:PATH (see docs/live.md)"
)
_V4L2_FORMATS: Final = {"yuyv": "yuyv422", "uyvy": "uyvy422", "nv12": "nv12", "grey": "gray", "mjpeg": "mjpeg"}


@dataclass(frozen=True, slots=True)
class DeviceAddress:
    """A V4L2 device: `v4l2:/dev/video0?size=1280x960&rate=36&format=yuyv`, or `/dev/video0`.

    Parameters
    ----------
    path : of the device
    size : width and height asked of the driver, None for what it is set to; likewise `rate_hz` and `pixel_format`
        (yuyv, uyvy, nv12, grey, mjpeg)
    """

    path: str
    size: tuple[int, int] | None = None
    rate_hz: float | None = None
    pixel_format: str | None = None

    def __str__(self) -> str:
        return f"v4l2:{self.path}"

    @property
    def driver_options(self) -> dict[str, str]:
        """The same as options of FFmpeg's V4L2 input."""
        options = {}
        if self.size is not None:
            options["video_size"] = f"{self.size[0]}x{self.size[1]}"
        if self.rate_hz is not None:
            options["framerate"] = f"{self.rate_hz:g}"
        if self.pixel_format is not None:
            options["input_format"] = _V4L2_FORMATS[self.pixel_format]
        return options


@dataclass(frozen=True, slots=True)
class StreamAddress:
    """A stream of the network: an RTSP or HTTP address, options after `#`: `rtsp://host/path#transport=udp`.

    Parameters
    ----------
    url : as given, its password with it: never print it, print the address
    transport : tcp or udp, of RTSP
    silence_s : without data for so long it is taken for dead
    clock : `sender`: capture times by the camera's clock where it tells (RTCP) and differs by less than a second;
        `arrival`: by this machine's
    """

    url: str = field(repr=False)
    transport: str = "tcp"
    silence_s: float = SILENCE_S
    clock: str = "sender"

    def __str__(self) -> str:
        return redact(self.url)


@dataclass(frozen=True, slots=True)
class FileAddress:
    """A video file, played at its own pace: `file:front.mp4?loop=true`."""

    path: str
    loop: bool = False

    def __str__(self) -> str:
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class RingAddress:
    """A ring of frames in shared memory: `ring:front`, a name or a path; `?silence=2` as with streams."""

    ring: str
    silence_s: float = SILENCE_S

    def __str__(self) -> str:
        return f"ring:{self.ring}"


@dataclass(frozen=True, slots=True)
class DriveAddress:
    """A recorded drive, played in real time: `drive:town.mcap?loop=true`.

    Parameters
    ----------
    path : what :func:`octobev.open_drive` takes
    loop : begin again at its end
    clock : `now`: capture times as if it were driven now; `recorded`: those of the recording
    """

    path: str
    loop: bool = False
    clock: str = "now"

    def __post_init__(self) -> None:
        if self.loop and self.clock == "recorded":
            raise InvalidArgument(expected("clock of a drive that loops", "now", self.clock))

    def __str__(self) -> str:
        return f"drive:{self.path}"


Address = DeviceAddress | StreamAddress | FileAddress | RingAddress | DriveAddress


def parse_address(text: str, folder: Path | None = None) -> Address:
    """Read what names a source.

    Parameters
    ----------
    text : `v4l2:DEVICE` (or `/dev/video...`), an RTSP or HTTP address, `file:PATH`, `ring:NAME`, `drive:PATH`; with
        options behind `?`, those of network addresses behind `#`
    folder : where relative paths of files and drives begin; None: the working directory

    Raises
    ------
    InvalidArgument
        Not one of these, an unknown option, or a value that it cannot have. Passwords are not in the message.
    """
    scheme, colon, rest = text.partition(":")
    if scheme in _URL_SCHEMES and rest.startswith("//"):
        return _parse_url(text)
    if text.startswith("/dev/video"):
        scheme, colon, rest = "v4l2", ":", text
    if not colon or scheme not in _LOCAL:
        raise InvalidArgument(expected("source", _EXAMPLES, repr(redact(text))))
    target, _, query = rest.partition("?")
    if not target:
        raise InvalidArgument(expected("source", _EXAMPLES, repr(text)))
    if folder is not None and scheme in ("file", "drive"):
        target = str(folder / target)
    make, readers = _LOCAL[scheme]
    address: Address = make(target, **_options(query, readers, scheme))
    return address


def redact(text: str) -> str:
    """Hide what may be secret in an address: user, password, the values of its query."""
    text = re.sub(r"//.*@", "//***@", text)
    text = re.sub(r"([?&;][^=&#?]*=)[^&#;]+", r"\1***", text)
    return re.sub(r"(?i)((?:pass\w*|pwd|token|key|secret|auth\w*)=)[^&/;?#]+", r"\1***", text)


def _parse_url(text: str) -> StreamAddress:
    url, _, fragment = text.partition("#")
    try:
        valid = bool(urlsplit(url).hostname) and urlsplit(url).port != 0 and "@" not in fragment
    except ValueError:  # its message may have the password
        valid = False
    if not valid:
        wanted = "an address with a host, a number as its port, and %23 for # in a password"
        raise InvalidArgument(expected("source", wanted, repr(redact(text))))
    return StreamAddress(url, **_options(fragment, _STREAM_OPTIONS, "network"))


def _options(query: str, readers: Mapping[str, tuple[str, Callable[[str, str], Any]]], kind: str) -> dict[str, Any]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise InvalidArgument(expected(f"options of a {kind} source", "NAME=VALUE&NAME=VALUE", repr(query))) from None
    options: dict[str, Any] = {}
    for name, value in pairs:
        if name not in readers:
            known = ", ".join(readers)
            raise InvalidArgument(expected(f"option of a {kind} source", f"one of {known}", repr(name)))
        parameter, read = readers[name]
        if parameter in options:
            raise InvalidArgument(expected(f"option {name}", "given once", "twice"))
        options[parameter] = read(name, value)
    return options


def _size(name: str, value: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", value, re.ASCII)
    if match is None:
        raise InvalidArgument(expected(name, "WIDTHxHEIGHT, as 1280x960", repr(value)))
    return int(match[1]), int(match[2])


def _positive(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise InvalidArgument(expected(name, "a positive number", repr(value)))
    return number


def _flag(name: str, value: str) -> bool:
    return _one_of("true", "false")(name, value) == "true"


def _one_of(*choices: str) -> Callable[[str, str], str]:
    def read(name: str, value: str) -> str:
        if value not in choices:
            raise InvalidArgument(expected(name, f"one of {', '.join(choices)}", repr(value)))
        return value

    return read


_Readers = Mapping[str, tuple[str, Callable[[str, str], Any]]]

_STREAM_OPTIONS: Final[_Readers] = {
    "transport": ("transport", _one_of("tcp", "udp")),
    "silence": ("silence_s", _positive),
    "clock": ("clock", _one_of("sender", "arrival")),
}
_LOCAL: Final[Mapping[str, tuple[Callable[..., Address], _Readers]]] = {
    "v4l2": (
        DeviceAddress,
        {
            "size": ("size", _size),
            "rate": ("rate_hz", _positive),
            "format": ("pixel_format", _one_of(*_V4L2_FORMATS)),
        },
    ),
    "file": (FileAddress, {"loop": ("loop", _flag)}),
    "ring": (RingAddress, {"silence": ("silence_s", _positive)}),
    "drive": (DriveAddress, {"loop": ("loop", _flag), "clock": ("clock", _one_of("now", "recorded"))}),
}
