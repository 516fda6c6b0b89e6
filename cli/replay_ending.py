"""How `octobev replay` ends, in lock-step and live: what went wrong on the way, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Ending:
    """What a replay could not do.

    Parameters
    ----------
    levelled : camera -> pitch and roll by which it was corrected, degrees
    resets, invalid, losses, errors : how often: reasons why the state began anew, outputs that were withheld, reasons
        why something of the drive was lost, places where exceptions were caught
    unused_frames : of the drive
    truncated : where the drive broke off
    recording, unrecorded : why the recording ended early, and how many sets it lacks
    interrupted : by Ctrl-C
    lost : whether any of it is a loss to those who asked for the replay
    """

    resets: Mapping[str, int]
    invalid: Mapping[str, int]
    losses: Mapping[str, int]
    errors: Mapping[str, int] = field(default_factory=dict)
    levelled: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    unused_frames: int = 0
    truncated: str | None = None
    recording: str | None = None
    unrecorded: int = 0
    interrupted: bool = False
    lost: bool = False

    def show(self, console: Console) -> None:
        """Print a line for each."""
        for (pitch, roll), names in _by_tilt(self.levelled).items():
            console.print(f"levelled by pitch {pitch:+.2f}, roll {roll:+.2f} deg: {', '.join(names)}", markup=False)
        for reason, count in self.resets.items():
            console.print(f"state lost or set back {count}x: {reason}", markup=False)
        warnings = [f"withheld {count}x: {name}" for name, count in self.invalid.items()]
        warnings += [f"lost {count}x: {reason}" for reason, count in self.losses.items()]
        if self.unused_frames:
            warnings.append(f"{self.unused_frames} frames could not be used")
        if self.truncated:
            warnings.append(self.truncated)
        if self.recording:
            warnings.append(f"{self.recording}; {self.unrecorded} sets are not in it")
        if self.interrupted:
            warnings.append("interrupted")
        for where, count in self.errors.items():
            console.print(f"{count} exceptions in {where}", style="red", markup=False)
        for warning in warnings:
            console.print(warning, style="yellow", markup=False)

    def leave(self) -> None:
        """Leave with the exit code that this deserves."""
        from . import EXIT_INTERRUPTED, EXIT_LOSS

        if self.interrupted:
            raise typer.Exit(EXIT_INTERRUPTED)
        if self.lost:
            raise typer.Exit(EXIT_LOSS)


def _by_tilt(levelled: Mapping[str, tuple[float, float]]) -> dict[tuple[float, float], list[str]]:
    """Cameras by what they were corrected by, to a hundredth of a degree."""
    cameras: dict[tuple[float, float], list[str]] = {}
    for name, (pitch, roll) in levelled.items():
        cameras.setdefault((round(pitch, 2), round(roll, 2) + 0.0), []).append(name)
    return cameras
