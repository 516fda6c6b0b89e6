"""A GIF that grows by one picture at a time and is whole after each.

OpenCV encodes single pictures (palette, dithering, LZW); their blocks are spliced into one file here, so that neither
memory nor an interruption depends on how many there are. Format: GIF89a specification, CompuServe 1990.
"""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from ..errors import RecordingError, expected, unwritable
from ..runtime.images import load_opencv
from .drawing import Picture

cv2: Any = load_opencv()

_HEADER_BYTES: Final = 13
_LOOP_FOREVER: Final = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
_TRAILER: Final = b"\x3b"
_DELAY_OFFSET: Final = 4
_DITHERED: Final = [int(cv2.IMWRITE_GIF_DITHER), 3]
_SHORTEST_CS, _LONGEST_CS = 2, 200


class GrowingGif:
    """Writes an animated GIF.

    Parameters
    ----------
    path : file to write, replaced if it exists

    Raises
    ------
    RecordingError
        The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size: tuple[int, int] | None = None
        self._end = 0
        self._delay_at = 0
        self._last_ns = 0
        self.frames = 0
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise RecordingError(unwritable(path, error)) from error

    def add(self, picture: Picture, timestamp_ns: int) -> None:
        """Append a picture, all of one size; it is shown until the time of the next, at most two seconds."""
        size = (picture.shape[1], picture.shape[0])
        head = b""
        if self._size is None:
            self._size = size
            head = b"GIF89a" + struct.pack("<HHBBB", *size, 0x70, 0, 0) + _LOOP_FOREVER
        elif size != self._size:
            raise RecordingError(expected(f"{self._path}: picture size", f"{self._size} throughout", size))
        delay_cs = self._update_delay(timestamp_ns) if self.frames else 10
        block = _image_block(picture, delay_cs)
        self._write(self._end, head + block + _TRAILER)
        self._delay_at = self._end + len(head) + _DELAY_OFFSET
        self._end += len(head) + len(block)
        self._last_ns = timestamp_ns
        self.frames += 1

    def _update_delay(self, timestamp_ns: int) -> int:
        """Give the picture before the time that really passed."""
        delay_cs = min(max(round((timestamp_ns - self._last_ns) / 1e7), _SHORTEST_CS), _LONGEST_CS)
        self._write(self._delay_at, struct.pack("<H", delay_cs))
        return delay_cs

    def _write(self, offset: int, data: bytes) -> None:
        try:
            self._file.seek(offset)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise RecordingError(unwritable(self._path, error)) from error

    def close(self) -> None:
        """Close the file, and remove it when it never had a picture."""
        self._file.close()
        if not self.frames:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> GrowingGif:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _image_block(picture: Picture, delay_cs: int) -> bytes:
    """Encode a picture as graphic control extension, image descriptor, local colour table and data."""
    ok, encoded = cv2.imencode(".gif", picture, _DITHERED)
    if not ok:
        raise RecordingError(expected("picture", "one that can be encoded as GIF", picture.shape))
    data: bytes = encoded.tobytes()
    flags = data[10]
    table = data[_HEADER_BYTES : _HEADER_BYTES + _table_bytes(flags)]
    position = _HEADER_BYTES + len(table)
    while data[position] == 0x21:  # extensions: label, then sub-blocks up to an empty one
        position += 2
        while data[position]:
            position += 1 + data[position]
        position += 1
    left, top, width, height, local = struct.unpack_from("<HHHHB", data, position + 1)
    start = position + 10
    if local & 0x80:
        flags, table = local, data[start : start + _table_bytes(local)]
        start += len(table)
    descriptor = struct.pack("<BHHHHB", 0x2C, left, top, width, height, 0x80 | (local & 0x40) | (flags & 0x07))
    control = b"\x21\xf9\x04\x04" + struct.pack("<H", delay_cs) + b"\x00\x00"
    return control + descriptor + table + data[start : data.rindex(_TRAILER)]


def _table_bytes(flags: int) -> int:
    return 3 << ((flags & 0x07) + 1) if flags & 0x80 else 0
