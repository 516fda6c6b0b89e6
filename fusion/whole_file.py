"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, in the same folder; what is there when the block ends takes the place of `path`.

    A reader sees what was there before, or all of the new file. When the block raises, `path` is as it was and
    nothing is left behind; a process that is killed leaves its part, named `.NAME.PID.part`.

    Raises
    ------
    OSError
        The file cannot take its place.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
