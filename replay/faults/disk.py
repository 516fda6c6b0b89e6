"""A disk that runs full, for recordings."""

from __future__ import annotations

import errno
import os
from typing import Any, BinaryIO, Final

ROOM_BYTES: Final = 4096
"""What still fits when the disk becomes full: the rest of a block."""


class FullDisk:
    """A binary file, unbuffered, whose disk can be filled: writing then raises OSError (ENOSPC).

    As on a real disk, a write that does not fit is written as far as it fits, and truncating gives room again.

    Parameters
    ----------
    file : open for writing; it is not closed here
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end: int | None = None
        self.name = str(getattr(file, "name", "recording"))

    def fill(self, room_bytes: int = ROOM_BYTES) -> None:
        """Leave room for so many bytes behind those that the file has."""
        at = self._file.tell()
        self._end = self._file.seek(0, os.SEEK_END) + room_bytes
        self._file.seek(at)

    def clear(self) -> None:
        """Make room again."""
        self._end = None

    def write(self, data: Any) -> int:
        """Write what fits; raise when nothing does."""
        view = memoryview(data)
        if self._end is not None and view.nbytes:
            room = self._end - self._file.tell()
            if room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)
            view = view[:room]
        return self._file.write(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file's."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As a file's."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """As a file's."""
        return self._file.truncate(size)

    def flush(self) -> None:
        """As a file's."""
        self._file.flush()
