"""What a training learns from and is measured on: synthetic towns, and recorded drives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ..errors import DriveError, InvalidArgument, expected
from ..fusion.rig import Rig
from .recorded import drive_files, same_drive
from .sequences import lens_numbers, read_sequences
from .shelf import Shelf, town_path
from .windows import Source

FILES_IN_USE: Final = 64
"""Towns, and files of recorded drives, that are drawn from at one time; they are kept in memory."""

VALIDATION_FILES: Final = 2
"""So many files of a held-out drive are measured on, spread over it."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a training learns from and is measured on.

    Parameters
    ----------
    towns : seeds, in the order in which they come into use; may be none where there are drives
    drives : recorded drives with ground truth
    drive_share : how much of the stretches comes from drives where there are towns too, 0..1
    held_out_towns, held_out_drives : to measure on
    rigs : that drive through the towns, see :func:`.sequences.draw_sequences`

    Raises
    ------
    InvalidArgument
        Nothing to learn from, a share that is none, or a drive both learned from and measured on.
    """

    towns: tuple[int, ...]
    drives: tuple[str, ...] = ()
    drive_share: float = 0.5
    held_out_towns: tuple[int, ...] = ()
    held_out_drives: tuple[str, ...] = ()
    rigs: tuple[Rig, ...] = ()

    def __post_init__(self) -> None:
        if not self.towns and not self.drives:
            raise InvalidArgument(expected("data to learn from", "towns or drives", "neither"))
        if not 0 < self.drive_share < 1:
            raise InvalidArgument(
                expected("share of drives", "above 0 and below 1 (without any towns all is theirs)", self.drive_share)
            )
        for held_out in self.held_out_drives:
            if any(same_drive(held_out, drive) for drive in self.drives):
                raise InvalidArgument(expected("validation drive", "held out", f"{held_out}, which is learned from"))

    @property
    def towns_to_draw(self) -> list[int]:
        """All towns, the first wanted first."""
        return [*self.towns[:2], *self.held_out_towns, *self.towns[2:]]

    def town_folder(self, folder: Path) -> Path:
        """Where the towns are: towns that other rigs drove through are others."""
        if not self.rigs:
            return folder
        digest = hashlib.sha256()
        for rig in self.rigs:
            for camera in rig:
                digest.update(lens_numbers(camera.intrinsics).tobytes() + camera.ego_from_camera.matrix.tobytes())
            digest.update(b"rig")
        return folder / f"rigs_{digest.hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class DriveFiles:
    """Files of the stretches of recorded drives: those to learn from, and those to measure on."""

    learned: tuple[Path, ...]
    held_out: tuple[Path, ...]


def read_drives(
    material: Material,
    folder: Path,
    size: tuple[int, int],
    sets: int,
    *,
    say: Callable[[str], None],
    note: Callable[[str], None],
) -> DriveFiles:
    """Read all drives, see :func:`.recorded.drive_files`.

    Parameters
    ----------
    say : told how far the reading is
    note : told what became of each drive
    """
    files: dict[str, list[Path]] = {}
    for drive in dict.fromkeys((*material.drives, *material.held_out_drives)):
        files[drive], summary = drive_files(drive, folder, size, sets, say)
        note(f"{drive}: {summary}")
    learned = [file for drive in material.drives for file in files[drive]]
    held_out = [file for drive in material.held_out_drives for file in spread(files[drive], VALIDATION_FILES)]
    return DriveFiles(tuple(learned), tuple(held_out))


def make_sources(
    material: Material, folder: Path, drives: DriveFiles, *, steps_per_file: int, wait: Callable[[], None]
) -> list[Source]:
    """Where stretches come from: towns, drives, or both.

    Parameters
    ----------
    folder : where the towns are, or will be
    wait : called while a town is not there yet
    """
    share = (material.drive_share if material.towns else 1.0) if drives.learned else 0.0
    of_drives = max(1, round(share * FILES_IN_USE))
    sources = []
    if material.towns:
        towns = [town_path(folder, town) for town in material.towns]
        window = max(1, FILES_IN_USE - of_drives) if drives.learned else FILES_IN_USE
        shelf = Shelf(towns, read_sequences, steps_per_file=steps_per_file, window=window, wait=wait)
        sources.append(Source(shelf, 1.0 - share))
    if drives.learned:
        shelf = Shelf(
            drives.learned,
            read_sequences,
            steps_per_file=steps_per_file,
            window=of_drives,
            wait=_missing,
            first=of_drives,
        )
        sources.append(Source(shelf, share, labelled=False))
    return sources


def spread(files: list[Path], count: int) -> list[Path]:
    """So many of the files, from all over the list."""
    places = np.linspace(0, len(files) - 1, min(count, len(files)))
    return [files[round(place)] for place in places]


def _missing() -> None:
    raise DriveError("a file of a recorded drive's stretches is missing; was it deleted?")
