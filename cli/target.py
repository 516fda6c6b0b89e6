"""A file that a command will write when its work is done: what stands in its way is found before the work begins."""

from __future__ import annotations

from pathlib import Path

from ..errors import RecordingError, unwritable


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there already, or could not be put there.

    Raises
    ------
    RecordingError
    """
    if path.exists() and (path.is_dir() or not overwrite):
        raise RecordingError(unwritable(path, FileExistsError()))
    if not path.parent.is_dir():
        raise RecordingError(unwritable(path, FileNotFoundError()))
