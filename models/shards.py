"""Training frames on disk: one file per town, written by one process and read by another."""

from __future__ import annotations

import os
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DriveError, expected

T = TypeVar("T")

DEPTH_STRIDE = 2
"""Image pixels per stored depth."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Views of one town, all of one size.

    images : uint8 [n, height, width, 3], RGB
    labels : uint8 [n, height, width], class numbers
    depth_m : float16 [n, height / 2, width / 2], metres along the optical axis; 0 where there is none
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth_m: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.images)


def write_shard(shard: Shard, path: Path) -> None:
    """Write atomically, so that a reader never sees half a file."""
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        np.savez(file, images=shard.images, labels=shard.labels, depth_m=shard.depth_m)
    os.replace(partial, path)


def read_shard(path: Path) -> Shard:
    """Read what :func:`write_shard` wrote.

    Raises
    ------
    DriveError
        Not a file of training frames.
    """
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            return Shard(arrays["images"], arrays["labels"], arrays["depth_m"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DriveError(f"{path}: not a file of training frames: {error}") from error


def shard_path(folder: Path, town: int) -> Path:
    """Where the views of a town are."""
    return folder / f"town_{town:05d}.npz"


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Views drawn for one step; arrays as in :class:`Shard`, with n the batch size."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth_m: NDArray[np.float16]


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
            path = shard_path(self.folder, town)
            start = time.monotonic()
            while not path.is_file():
                self.wait()
            self.waited_s += time.monotonic() - start
            self._open[town] = self.read(path)
            while len(self._open) > self.window + 1:
                self._open.popitem(last=False)
        self._open.move_to_end(town)
        return self._open[town]


class ShardSampler:
    """Draws batches out of the newest towns; which ones is a function of seed and step alone.

    Parameters
    ----------
    folder, towns, steps_per_town, window, wait : see :class:`TownShelf`
    seed : of the random draws
    batch : views per step
    """

    def __init__(
        self,
        folder: Path,
        towns: list[int],
        *,
        seed: int,
        batch: int,
        steps_per_town: int,
        window: int,
        wait: Callable[[], None],
    ) -> None:
        if batch < 1:
            raise DriveError(expected("batch", "at least 1", batch))
        self.shelf = TownShelf(folder, towns, read_shard, steps_per_town=steps_per_town, window=window, wait=wait)
        self.seed, self.batch = seed, batch

    @property
    def waited_s(self) -> float:
        """How long it was waited for towns, seconds."""
        return self.shelf.waited_s

    def towns_in_use(self, step: int) -> list[int]:
        """Seeds of the towns that step `step` draws from."""
        return self.shelf.towns_in_use(step)

    def draw(self, step: int) -> Batch:
        """Draw the batch of a step."""
        random = np.random.default_rng((self.seed, step))
        shards = [self.shelf.open(town) for town in dict.fromkeys(self.towns_in_use(step))]
        picks = []
        for _ in range(self.batch):
            shard = shards[int(random.integers(len(shards)))]
            picks.append((shard, int(random.integers(len(shard)))))
        return Batch(
            np.stack([shard.images[index] for shard, index in picks]),
            np.stack([shard.labels[index] for shard, index in picks]),
            np.stack([shard.depth_m[index] for shard, index in picks]),
        )
