"""Training sequences out of recorded drives that have ground truth.

A drive is read once: its images go through the same preprocessing as in the runtime, what its truth knows of the ground
becomes layers, and what it does not know is said to be unknown. What is in the images nobody knows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DriveError, ImageError, expected
from ..fusion.pose import Pose
from ..fusion.whole_file import whole_file
from ..replay.drive import UNKNOWN, Drive, DriveStep, GroundTruth, Losses
from ..replay.open import open_drive
from ..runtime.frames import FrameSet
from ..runtime.manifest import ImageInput
from ..runtime.preprocess import InputPlan
from ..runtime.stages import StageTimes
from .sequences import (
    GRID,
    LAYERS,
    RATES_HZ,
    SEQUENCES_PER_TOWN,
    VISIBLE,
    Sequences,
    lens_numbers,
    read_sequences,
    write_sequences,
)
from .template import FIT, SAMPLING

LONGEST_GAP_S: Final = 1.0
"""Sets that are farther apart do not belong to one stretch."""

SHORTEST_GAP_S: Final = 0.75 / RATES_HZ[1]
"""Sets that follow sooner are passed over: consecutive ones are much alike."""

VISIBLE_LAYER: Final = "visible"
DIRECTION_LAYER: Final = "direction_rad"
"""Names in the ground truth of drives."""

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class LearnedSet:
    """A set of a drive that something can be learned from; layers and directions as in :class:`Sequences`."""

    frame_set: FrameSet
    world_from_ego: Pose
    layers: NDArray[np.uint8]
    direction_rad: NDArray[np.float16]

    @property
    def timestamp_ns(self) -> int:
        """Instant of the set."""
        return self.frame_set.timestamp_ns


@dataclass(slots=True)
class DriveCounts:
    """What became of a drive.

    sets : sets of the drive
    stretches : stretches that were cut
    without_truth, without_pose : sets that were passed over
    longest : most sets in a row that could have been a stretch
    frames_lost : frames without a readable image in sets of stretches, damaged ones among them
    damage : what was wrong with the first damaged image
    losses : what the drive itself could not give
    """

    sets: int = 0
    stretches: int = 0
    without_truth: int = 0
    without_pose: int = 0
    longest: int = 0
    frames_lost: int = 0
    damage: str = ""
    losses: Losses = field(default_factory=Losses)

    def summary(self) -> str:
        """One line for the one who watches."""
        notes = {
            "without ground truth": self.without_truth,
            "without a pose": self.without_pose,
            "frames without an image": self.frames_lost,
            "lost by the drive": self.losses.corrupt,
        }
        parts = [f"{self.stretches} stretches out of {self.sets} sets"]
        parts += [f"{count} {what}" for what, count in notes.items() if count]
        reasons = [self.damage, self.losses.truncated or "", *self.losses.reasons][:3]
        return ", ".join(parts) + "".join(f" ({reason})" for reason in reasons if reason)


def drive_files(
    path: str, folder: Path, size: tuple[int, int], sets: int, say: Callable[[str], None]
) -> tuple[list[Path], str]:
    """Files of the stretches of a drive; read out of the drive unless an earlier training has done so.

    Parameters
    ----------
    path : anything that :func:`octobev.open_drive` opens
    folder : of the files; made if it is not there
    size : width and height of the network's input
    sets : frame sets of a stretch
    say : told how far the reading is

    Returns
    -------
    files : with up to :data:`~octobev.models.sequences.SEQUENCES_PER_TOWN` stretches each, in order of time
    summary : what became of the drive

    Raises
    ------
    OctobevError
        Nothing that is a drive, or a drive without truth or poses, with truth on another grid, or too short.
    """
    drive = open_drive(path)
    folder.mkdir(parents=True, exist_ok=True)
    name = _name(path, drive.name, size, sets)
    listing = folder / f"{name}.json"
    if (known := _read_listing(listing)) is not None:
        return known
    reader = _Reader(drive, path, size, sets, say)
    files = []
    for index, stretches in enumerate(_in_groups(reader.stretches(), SEQUENCES_PER_TOWN)):
        file = folder / f"{name}_{index:04d}.npz"
        there = file.is_file()  # of an earlier reading that was stopped
        sequences = read_sequences(file) if there else reader.sequences(stretches)
        if sequences is not None:
            if not there:
                write_sequences(sequences, file)
            files.append(file)
            reader.counts.stretches += len(sequences)
    reader.check()
    _write_listing(listing, files, reader.counts.summary())
    return files, reader.counts.summary()


def same_drive(one: str, other: str) -> bool:
    """Whether two names are of the same drive."""
    paths = [(Path(text.partition("#")[0]).resolve(), text.partition("#")[2]) for text in (one, other)]
    return paths[0] == paths[1]


def _name(path: str, drive_name: str, size: tuple[int, int], sets: int) -> str:
    """Name of a drive's files: another one when the drive, or what is made of it, changes."""
    place = Path(path) if Path(path).exists() else Path(path.partition("#")[0])
    status = place.stat()
    content = [str(place.resolve()), path.partition("#")[2], status.st_size, status.st_mtime_ns, size, sets, _FORMAT]
    digest = hashlib.sha256(json.dumps([*content, asdict(GRID)]).encode()).hexdigest()[:12]
    return f"drive_{drive_name[:40]}_{digest}"


def _read_listing(listing: Path) -> tuple[list[Path], str] | None:
    """What an earlier training wrote; None when it, or one of its files, is missing."""
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
        files = [listing.parent / name for name in content["files"]]
        return (files, content["summary"]) if all(file.is_file() for file in files) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_listing(listing: Path, files: list[Path], summary: str) -> None:
    with whole_file(listing) as part:
        part.write_text(json.dumps({"files": [file.name for file in files], "summary": summary}), encoding="utf-8")


def _in_groups(stretches: Iterator[list[LearnedSet]], size: int) -> Iterator[list[list[LearnedSet]]]:
    group: list[list[LearnedSet]] = []
    for stretch in stretches:
        group.append(stretch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


class _Reader:
    """Reads one drive."""

    def __init__(self, drive: Drive, path: str, size: tuple[int, int], sets: int, say: Callable[[str], None]) -> None:
        spec = ImageInput(
            tensor="image",
            width=size[0],
            height=size[1],
            dtype="uint8",
            layout="nhwc",
            colour="rgb",
            fit=FIT,
            sampling=SAMPLING,
        )
        self.drive, self.path, self.sets, self.say = drive, path, sets, say
        self.plans = [InputPlan(camera.intrinsics, spec) for camera in drive.rig]
        self.counts = DriveCounts()

    def stretches(self) -> Iterator[list[LearnedSet]]:
        """Sets with truth and pose in a row, so many at a time as a stretch has."""
        row: list[LearnedSet] = []
        about = "" if self.drive.length_hint is None else f" of about {self.drive.length_hint}"
        for step in self.drive.steps():
            self.counts.sets += 1
            self.say(f"reading {self.drive.name}: set {self.counts.sets}{about}")
            learned = self._learned(step)
            if learned is None:
                continue
            gap_s = 1e-9 * (learned.timestamp_ns - row[-1].timestamp_ns) if row else SHORTEST_GAP_S
            if gap_s < SHORTEST_GAP_S:
                continue
            row = [*row, learned] if gap_s <= LONGEST_GAP_S else [learned]
            self.counts.longest = max(self.counts.longest, len(row))
            if len(row) == self.sets:
                yield row
                row = []
        self.counts.losses = self.drive.losses

    def _learned(self, step: DriveStep) -> LearnedSet | None:
        """The set when everything is known that it takes to learn from it."""
        if step.truth is None or not {*LAYERS, DIRECTION_LAYER} & step.truth.layers.keys():
            self.counts.without_truth += 1
            return None
        place = f"{self.path}: ground truth at {step.truth.timestamp_ns} ns: "
        if step.truth.grid != GRID:
            raise DriveError(place + expected("grid", str(GRID), step.truth.grid))
        layers = truth_layers(step.truth)
        for name, layer in zip((*LAYERS, VISIBLE_LAYER), layers, strict=True):
            if wrong := sorted(set(np.unique(layer).tolist()) - {0, 1, UNKNOWN}):
                raise DriveError(place + expected(f"layer {name}", f"0, 1 or {UNKNOWN} (unknown)", wrong[0]))
        if step.frame_set.world_from_ego is None:
            self.counts.without_pose += 1
            return None
        return LearnedSet(step.frame_set, step.frame_set.world_from_ego, layers, truth_direction(step.truth))

    def sequences(self, stretches: list[list[LearnedSet]]) -> Sequences | None:
        """Read the images of stretches, but not of those that have a set without any readable image."""
        arrays = [self._stretch(row) for row in stretches]
        whole = [stretch for stretch in arrays if stretch is not None]
        return Sequences(*(np.stack(same) for same in zip(*whole, strict=True))) if whole else None

    def _stretch(self, row: list[LearnedSet]) -> tuple[NDArray[Any], ...] | None:
        """Arrays of one stretch, in the order of the fields of :class:`Sequences`, without the first axis."""
        shape = (len(row), len(self.plans))
        images = np.zeros((*shape, *self.plans[0].shape), np.uint8)
        fired = np.full((*shape, 4, 4), np.nan)
        for index, learned in enumerate(row):
            self._read_images(learned, images[index], fired[index])
        if not np.isfinite(fired).any(axis=(1, 2, 3)).all():
            return None
        mountings = np.stack([camera.ego_from_camera.matrix for camera in self.drive.rig])
        return (
            images,
            np.zeros((*shape, 0, 0), np.uint8),
            np.zeros((*shape, 0, 0), np.float16),
            np.zeros((*shape, 0, 5), np.float32),
            np.stack([learned.layers for learned in row]),
            np.stack([learned.direction_rad for learned in row]),
            np.stack([lens_numbers(plan.intrinsics) for plan in self.plans]),
            mountings,
            np.stack([learned.world_from_ego.matrix for learned in row]),
            fired,
            mountings,
            fired,
        )

    def _read_images(self, learned: LearnedSet, images: NDArray[np.uint8], fired: NDArray[np.float64]) -> None:
        """Read the images of a set, [N, height, width, 3], and where the ego was, [N, 4, 4]; both written."""
        stages = StageTimes()
        for index, (name, plan) in enumerate(zip(self.drive.rig.names, self.plans, strict=True)):
            frame = learned.frame_set.frame(name)
            try:
                if frame is not None:
                    plan.run(frame, images[index], stages)
                    fired[index] = (frame.world_from_ego or learned.world_from_ego).matrix
            except ImageError as error:
                images[index] = 0
                self.counts.damage = self.counts.damage or str(error)
            self.counts.frames_lost += not np.isfinite(fired[index]).all()

    def check(self) -> None:
        """Refuse a drive that gave no stretch, and say why."""
        counts, needed = self.counts, f"at least {self.sets}"
        if counts.stretches:
            return
        if counts.without_truth == counts.sets:
            what, actual = "sets with ground truth", f"0 of {counts.sets}"
        elif counts.without_truth + counts.without_pose == counts.sets:
            what, actual = "sets with ground truth and an ego pose", f"0 of {counts.sets}"
        elif counts.longest < self.sets:
            what = f"sets with ground truth and an ego pose, at most {LONGEST_GAP_S:g} s apart"
            actual = f"{counts.longest} of {counts.sets}"
        else:
            what, actual = "sets with readable images", counts.damage or "none"
        raise DriveError(f"{self.path}: drive is too little to learn from: " + expected(what, needed, actual))


def truth_layers(truth: GroundTruth) -> NDArray[np.uint8]:
    """Layers as in :class:`Sequences`, uint8 [7, nx, ny]; those that the truth does not have are unknown.

    Where it is unknown what is visible, all cells count as visible: a window leaves out those that no camera sees.
    """
    layers = np.full((len(LAYERS) + 1, *truth.grid.shape), UNKNOWN, np.uint8)
    for plane, name in zip(layers, (*LAYERS, VISIBLE_LAYER), strict=True):
        if name in truth.layers:
            plane[:] = truth.layers[name]
    visible = layers[VISIBLE]
    visible[visible == UNKNOWN] = 1
    return layers


def truth_direction(truth: GroundTruth) -> NDArray[np.float16]:
    """Directions as in :class:`Sequences`, float16 [nx, ny]; NaN everywhere when the truth has none."""
    if DIRECTION_LAYER not in truth.layers:
        return np.full(truth.grid.shape, np.nan, np.float16)
    direction: NDArray[np.float16] = truth.layers[DIRECTION_LAYER].astype(np.float16)
    return direction
