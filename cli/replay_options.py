"""What was asked of `octobev replay`, and what both of its ways need of it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CalibrationError, DriveError, InvalidArgument, MissingFile, RigError, expected
from .variant import Variant

if TYPE_CHECKING:
    from ..fusion.rig import Rig
    from ..replay.drive import Drive
    from ..replay.faults import Fault, ProcessFaults
    from ..replay.faults.disk import FullDisk
    from ..replay.recording import RecordingSink
    from ..runtime.bundle import Bundle
    from ..runtime.engine import Runtime
    from ..runtime.live.runtime import LiveRuntime
    from ..runtime.topics.keys import PublisherKeys


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The options of the command, see its help."""

    drive: str
    bundle: Path | None
    rig: Path | None
    cameras: list[str] | None
    outputs: list[str] | None
    variant: Variant
    level: bool
    rate: float | None
    start_s: float
    duration_s: float | None
    publish: str | None
    keys: PublisherKeys | None
    record: Path | None
    record_frames: bool
    record_belief: bool
    pictures: Path | None
    threads: int | None
    force: bool
    faults: list[Fault]
    fault_seed: int
    as_json: bool
    trace: Path | None

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise InvalidArgument(expected("rate", "positive and finite", self.rate))

    def open(self) -> tuple[Drive, Rig, Bundle]:
        """Open the drive and the bundle; the calibration is the one in use. Faults must be of what is there.

        The calibration that was given is the drive's where the drive's own cannot be used.
        """
        from ..fusion.rig import read_rig
        from ..replay.faults import check_names
        from ..runtime.bundle import REFERENCE_BUNDLE, open_bundle
        from .source import open_source

        self._check_targets()
        given = None if self.rig is None else read_rig(self.rig)
        try:
            source = open_source(self.drive)
        except (CalibrationError, DriveError, MissingFile):
            if given is None:
                raise
            source = open_source(self.drive, rig=given)
        rig = source.rig if given is None else given
        absent = [name for name in rig.names if name not in source.rig]
        if len(absent) == len(rig):
            there = ", ".join(source.rig.names)
            raise RigError(expected(f"{self.rig}: cameras", f"some of the drive's ({there})", ", ".join(absent)))
        if absent:
            print(f"octobev: {self.rig}: {source.name} has no frames of {', '.join(absent)}", file=sys.stderr)
        if unknown := [name for name in source.rig.names if name not in rig]:
            print(f"octobev: {self.rig}: frames of {', '.join(unknown)} are left out: not in it", file=sys.stderr)
        if self.cameras is not None:
            rig = rig.select(self.cameras)
        bundle = open_bundle(self.bundle or REFERENCE_BUNDLE)
        check_names(self.faults, rig.names, bundle.manifest.networks)
        return source, rig, bundle

    def _check_targets(self) -> None:
        """Refuse files that cannot be written, or would overwrite the drive or each other."""
        from .target import check_target, same_file

        for target in (self.record, self.trace):
            if target is not None:
                check_target(target, overwrite=self.force, reads=[self.drive])
        if self.record is not None and self.trace is not None and same_file(self.record, self.trace):
            raise InvalidArgument(expected("--trace", "another file than --record", self.trace))

    def check_played(self, source: Drive, frames: int) -> None:
        """Refuse a part of a drive in which there is nothing, and not because faults or losses took it away.

        Raises
        ------
        DriveError
        """
        if not frames and not source.losses and not self.faults:
            until = "" if self.duration_s is None else f" for {self.duration_s:g} s"
            what = f"{source.name}: frame sets from {self.start_s:g} s on{until}"
            raise DriveError(expected(what, "at least one", "none"))

    def recording(self, stack: ExitStack, rig: Rig) -> tuple[RecordingSink | None, FullDisk | None]:
        """Begin the recording that was asked for, on a disk that can be filled where that is to happen."""
        from .replay_sinks import disk_of, record_to

        if self.record is None:
            return None, None
        disk = disk_of(stack, self.record, self.force) if self.faults else None
        sink = record_to(
            stack, disk or self.record, rig, overwrite=self.force, frames=self.record_frames, belief=self.record_belief
        )
        return sink, disk

    def process_faults(
        self, stack: ExitStack, runtime: Runtime | LiveRuntime, bundle: Bundle, disk: FullDisk | None
    ) -> ProcessFaults:
        """Make ready the faults that are not of cameras."""
        from ..replay.faults import ProcessFaults

        return stack.enter_context(
            ProcessFaults(
                self.faults, networks=bundle.manifest.networks, tamper=runtime.tamper, endpoint=self.publish, disk=disk
            )
        )
