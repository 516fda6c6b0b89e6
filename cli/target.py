"""A file that a command will write: what stands in its way is found before the work begins."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import RecordingError, expected, unwritable


def check_target(path: Path, *, overwrite: bool, reads: Iterable[str | Path] = ()) -> None:
    """Refuse a file that is there already, could not be put there, or would overwrite what the work reads.

    Parameters
    ----------
    reads : what the command reads; names that are no files do not matter

    Raises
    ------
    RecordingError
    """
    if any(same_file(path, other) for other in reads):
        raise RecordingError(expected(str(path), "another file than those that are read", "one of them"))
    if path.exists() and (path.is_dir() or not overwrite):
        raise RecordingError(unwritable(path, FileExistsError()))
    if not path.parent.is_dir():
        raise RecordingError(unwritable(path, FileNotFoundError()))
    if not path.exists() and not os.access(path.parent, os.W_OK):
        raise RecordingError(unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES))))


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to the same file, whether it is there or not."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # ValueError: a null character
        return os.path.realpath(one) == os.path.realpath(other)
