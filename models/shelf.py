"""Training sequences on disk: one file per town, written by one process and read by another."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import DriveError, expected

T = TypeVar("T")


def town_path(folder: Path, town: int) -> Path:
    """Where the sequences of a town are."""
    return folder / f"town_{town:05d}.npz"


class TownShelf(Generic[T]):
    """The newest towns of a training, each read when it is first wanted and kept while it is in use.

    Parameters
    ----------
    folder : where the files are, or will be
    towns : seeds of the towns in the order in which they come into use; after the last the first follows
    read : reads a town's file
    steps_per_town : after so many steps the next town comes into use
    window : so many towns are in use at once
    wait : called while a file is not there yet; raises when it will never come
    """

    def __init__(
        self,
        folder: Path,
        towns: list[int],
        read: Callable[[Path], T],
        *,
        steps_per_town: int,
        window: int,
        wait: Callable[[], None],
    ) -> None:
        if not towns or window < 1 or steps_per_town < 1:
            raise DriveError(expected("towns, window and steps per town", "at least 1", "0"))
        self.folder, self.towns, self.read = folder, towns, read
        self.steps_per_town, self.window, self.wait = steps_per_town, min(window, len(towns)), wait
        self.waited_s = 0.0
        self._open: OrderedDict[int, T] = OrderedDict()

    def towns_in_use(self, step: int) -> list[int]:
        """Seeds of the towns that step `step` draws from."""
        newest = step // self.steps_per_town + 1
        first = max(0, newest - self.window + 1)
        return [self.towns[index % len(self.towns)] for index in range(first, newest + 1)]

    def open(self, town: int) -> T:
        """Content of a town's file; waits for it."""
        if town not in self._open:
            path = town_path(self.folder, town)
            start = time.monotonic()
            while not path.is_file():
                self.wait()
            self.waited_s += time.monotonic() - start
            self._open[town] = self.read(path)
            while len(self._open) > self.window + 1:
                self._open.popitem(last=False)
        self._open.move_to_end(town)
        return self._open[town]
