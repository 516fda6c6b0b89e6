"""Drives as a folder of images: `images/<camera>/<timestamp_ns>.jpg|png`, `rig.toml`, `poses.csv` or `poses.jsonl`.

The format is Octobev's own, for people who have images and a calibration and nothing else; docs/drives.md describes it.
"""

from __future__ import annotations

import csv
import heapq
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from ..errors import CalibrationError, DriveError, MissingFile, RigError, expected
from ..fusion.pose import Pose
from ..fusion.rig import Rig, read_rig
from ..runtime.frames import Frame
from .drive import Drive, DriveStep, Losses
from .foxglove import image_format
from .sets import check_window, group_frames, skew_for_period, window
from .transforms import PoseBuffer

SUFFIXES: Final = (".jpg", ".jpeg", ".png")
POSE_COLUMNS: Final = ("timestamp_ns", "x_m", "y_m", "z_m", "qx", "qy", "qz", "qw")

_AHEAD_NS: Final = 2_000_000_000


class ImageFile(NamedTuple):
    """One image on disk."""

    timestamp_ns: int
    camera: str
    path: Path


def is_folder(path: Path) -> bool:
    """Whether a directory is such a drive."""
    return (path / "images").is_dir()


class FolderDrive(Drive):
    """A drive in a folder of images.

    Images are read when their set comes; only their names are kept, a hundred bytes each.

    Parameters
    ----------
    path : the folder
    max_skew_s, cameras, rig : see :func:`octobev.open_drive`

    Raises
    ------
    MissingFile, DriveError, RigError, CalibrationError
        No images or rig.toml, a file name that is no timestamp, a wrong pose; with the file and the line.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_skew_s: float | None = None,
        cameras: Sequence[str] | None = None,
        rig: Rig | None = None,
    ) -> None:
        self._path = Path(path)
        if not is_folder(self._path):
            raise MissingFile(f"{path}: no folder of this name with images/ in it")
        self.name = self._path.resolve().name
        self.losses = Losses()
        whole = read_rig(self._path / "rig.toml") if rig is None else rig
        self.rig = whole if cameras is None else whole.select(cameras)
        if rig is None:
            self._check_cameras(whole)
        self._poses = self._find_poses()
        self._files = {name: self._list(name) for name in self.rig.names}
        if not any(self._files.values()):
            raise DriveError(expected(f"{self._path}/images", "folders of images named as the cameras", "no image"))
        skew_s = skew_for_period(self._period_s()) if max_skew_s is None else max_skew_s
        self._max_skew_ns = round(skew_s * 1e9)

    @property
    def length_hint(self) -> int | None:
        """Images of the busiest camera."""
        return max(map(len, self._files.values()))

    def steps(self, *, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[DriveStep]:
        """Iterate over the steps."""
        check_window(start_s, duration_s)
        losses = self.losses = Losses()
        after_ns = self._first_ns + round(start_s * 1e9) - _AHEAD_NS if start_s > 0 else None
        first_ns = self._first_ns if start_s > 0 else None
        return window(self._steps(losses, after_ns), start_s, duration_s, first_ns=first_ns)

    @cached_property
    def _first_ns(self) -> int:
        first = next(self._steps(Losses(), None), None)
        return first.frame_set.timestamp_ns if first else 0

    def _steps(self, losses: Losses, after_ns: int | None) -> Iterator[DriveStep]:
        for frame_set in group_frames(self._frames(losses, after_ns), self.rig.names, self._max_skew_ns, losses):
            yield DriveStep(frame_set)

    def _frames(self, losses: Losses, after_ns: int | None) -> Iterator[Frame]:
        poses = PoseBuffer()
        coming = self._read_poses()
        for item in heapq.merge(*self._files.values()):
            if after_ns is not None and item.timestamp_ns < after_ns:
                continue
            while poses.newest_ns is None or poses.newest_ns < item.timestamp_ns:
                if (pose := next(coming, None)) is None:
                    break
                poses.add(*pose)
            try:
                data = item.path.read_bytes()
            except OSError as error:
                losses.add(f"image cannot be read: {error.strerror}")
                continue
            pixel_format = image_format(data)
            if pixel_format is None:
                losses.add("image is neither JPEG nor PNG")
                continue
            yield Frame(item.camera, item.timestamp_ns, data, pixel_format, poses.at(item.timestamp_ns))
            poses.forget(item.timestamp_ns - _AHEAD_NS)

    def _check_cameras(self, rig: Rig) -> None:
        folders = sorted(folder.name for folder in (self._path / "images").iterdir() if folder.is_dir())
        if unknown := [name for name in folders if name not in rig]:
            raise RigError(
                expected(f"{self._path}/images: folders", f"among {', '.join(rig.names)}", ", ".join(unknown))
            )

    def _list(self, camera: str) -> list[ImageFile]:
        folder = self._path / "images" / camera
        if not folder.is_dir():
            return []
        files = []
        for path in folder.iterdir():
            if path.suffix.lower() not in SUFFIXES:
                continue
            if not (path.stem.isascii() and path.stem.isdigit() and int(path.stem) < 2**63):
                raise DriveError(expected(str(path), "named by its capture time in nanoseconds", path.stem))
            files.append(ImageFile(int(path.stem), camera, path))
        return sorted(files)

    def _period_s(self) -> float | None:
        busiest = max(self._files.values(), key=len)
        if len(busiest) < 2:
            return None
        return (busiest[-1].timestamp_ns - busiest[0].timestamp_ns) / 1e9 / (len(busiest) - 1)

    def _find_poses(self) -> Path | None:
        found = [path for path in (self._path / "poses.csv", self._path / "poses.jsonl") if path.exists()]
        if len(found) > 1:
            raise DriveError(expected(f"{self._path}: poses", "in one file", "poses.csv and poses.jsonl"))
        return found[0] if found else None

    def _read_poses(self) -> Iterator[tuple[int, Pose]]:
        """Poses in time order, as they are asked for."""
        if self._poses is None:
            return
        previous_ns = -1
        rows = _csv_rows(self._poses) if self._poses.suffix == ".csv" else _json_rows(self._poses)
        for where, timestamp_ns, numbers in rows:
            if timestamp_ns <= previous_ns:
                raise DriveError(expected(f"{where}: timestamp_ns", f"above {previous_ns}", timestamp_ns))
            previous_ns = timestamp_ns
            try:
                yield timestamp_ns, Pose.from_quaternion(numbers[:3], numbers[3:])
            except (CalibrationError, ValueError) as error:
                raise CalibrationError(f"{where}: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise DriveError(f"{path}: cannot be read: {error.strerror}") from error


def _csv_rows(path: Path) -> Iterator[tuple[str, int, list[float]]]:
    with _opened(path) as file:
        try:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if missing := [name for name in POSE_COLUMNS if name not in header]:
                raise DriveError(expected(f"{path}: columns", ", ".join(POSE_COLUMNS), f"no {', '.join(missing)}"))
            columns = [header.index(name) for name in POSE_COLUMNS]
            for row in filter(None, reader):
                where = f"{path}:{reader.line_num}"
                try:
                    values = [row[column] for column in columns]
                    yield where, int(values[0]), [float(value) for value in values[1:]]
                except (ValueError, IndexError) as error:
                    raise DriveError(expected(where, f"{len(header)} numbers", ",".join(row))) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise DriveError(f"{path}: not a CSV file: {error}") from error


def _json_rows(path: Path) -> Iterator[tuple[str, int, list[float]]]:
    with _opened(path) as file:
        try:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                try:
                    row = json.loads(line)
                    numbers = [*row["translation_m"], *row["quaternion_xyzw"]]
                    yield where, int(row["timestamp_ns"]), [float(value) for value in numbers]
                except (ValueError, KeyError, TypeError) as error:
                    keys = "timestamp_ns, translation_m and quaternion_xyzw"
                    raise DriveError(expected(where, f"an object with {keys}", line.strip()[:80])) from error
        except UnicodeDecodeError as error:
            raise DriveError(f"{path}: not a text file: {error}") from error
