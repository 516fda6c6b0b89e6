"""Training sequences on disk: files written by one process and read by another."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from ..errors import DriveError, expected

T = TypeVar("T")

FIRST_FILES: Final = 2
"""So many files are in use at the first step, while others are still being made."""


def town_path(folder: Path, town: int) -> Path:
    """Where the sequences of a town are."""
    return folder / f"town_{town:05d}.npz"


class Shelf(Generic[T]):
    """The newest files of a training, each read when it is first wanted and kept while it is in use.

    Parameters
    ----------
    files : in the order in which they come into use; after the last the first follows
    read : reads a file
    steps_per_file : after so many steps the next file comes into use
    window : so many files are in use at once
    first : so many files are in use at the first step
    wait : called while a file is not there yet; raises when it will never come
    """

    def __init__(
        self,
        files: Sequence[Path],
        read: Callable[[Path], T],
        *,
        steps_per_file: int,
        window: int,
        wait: Callable[[], None],
        first: int = FIRST_FILES,
    ) -> None:
        if not files or min(window, steps_per_file, first) < 1:
            raise DriveError(expected("files, window, steps per file and first files", "at least 1", "0"))
        self.files, self.read = tuple(files), read
        self.steps_per_file, self.window, self.wait = steps_per_file, min(window, len(files)), wait
        self.first = min(first, self.window)
        self.waited_s = 0.0
        self._open: OrderedDict[Path, T] = OrderedDict()

    def in_use(self, step: int) -> list[Path]:
        """Files that step `step` draws from."""
        end = step // self.steps_per_file + self.first
        return [self.files[index % len(self.files)] for index in range(max(0, end - self.window), end)]

    def open(self, path: Path) -> T:
        """Content of a file; waits for it."""
        if path not in self._open:
            start = time.monotonic()
            while not path.is_file():
                self.wait()
            self.waited_s += time.monotonic() - start
            self._open[path] = self.read(path)
            while len(self._open) > self.window + 1:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path]
