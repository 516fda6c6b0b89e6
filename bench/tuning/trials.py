"""One choice, tried: what it gives, how long it takes, and whether it may be chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from ...fusion.rig import Rig
from ...runtime.bundle import Bundle
from ...runtime.engine import Runtime
from ...runtime.frames import FrameSet
from ...runtime.predictions import Predictions
from ...runtime.profile import Choice
from ..spread import Clock, Sample, Spread, Turns
from ..stepping import stepping
from .differences import Difference, digest
from .frames import without_end

MARGIN: Final = 0.03
"""A choice must be faster than the one in use by this much, and by more than runs differ among themselves."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a choice.

    choice : what was tried
    ms : time of a whole step, milliseconds
    ratio : to the choice that was in use until then, round by round; None: it is that one
    difference : from float32 on the bundle's own execution providers; None: it is that, or nothing can be compared
    refused : why it cannot be chosen, however fast it is; None: it can
    """

    choice: Choice
    ms: Spread | None = None
    ratio: Spread | None = None
    difference: Difference | None = None
    refused: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give everything by name, for JSON."""
        found = self.difference
        return {
            "variant": self.choice.variant,
            "providers": list(self.choice.providers),
            "threads": self.choice.threads,
            "runs_at_once": self.choice.runs_at_once,
            "batch": self.choice.batch,
            "step_ms": None if self.ms is None else self.ms.as_dict(),
            "ratio": None if self.ratio is None else self.ratio.as_dict(),
            "largest_difference": None if found is None else _finite(found.largest),
            "near": None if found is None else found.near,
            "refused": self.refused,
        }


class Contender:
    """A runtime that does what a choice says, and what it gave for the sets.

    Parameters
    ----------
    sets : predicted once in their order, then measured on over and over
    clock : seconds

    Attributes
    ----------
    steps : what it gave for the sets
    seconds : how long the last of them took

    Raises
    ------
    OctobevError
        It cannot run: an execution provider that does not load, a rig that lacks cameras, ...
    """

    def __init__(self, bundle: Bundle, rig: Rig, choice: Choice, sets: Sequence[FrameSet], clock: Clock) -> None:
        self.choice = choice
        self._runtime = Runtime(bundle, rig, profile=choice)
        self.steps: list[Predictions] = []
        try:
            for frame_set in sets:
                begin = clock()
                self.steps.append(self._runtime.step(frame_set))
                self.seconds = clock() - begin
        except BaseException:
            self._runtime.close()
            raise
        self.sample: Sample = stepping(self._runtime, without_end(sets))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that it gave."""
        return digest(self.steps)

    @property
    def withheld(self) -> frozenset[str]:
        """Outputs that were not given for some of the sets."""
        return frozenset(name for predictions in self.steps for name in predictions.invalid)

    @property
    def batches(self) -> tuple[tuple[str, int], ...]:
        """Per-camera network and images in a run."""
        return self._runtime.provenance.batches

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._runtime.close()


def is_faster(turns: Turns, side: str, than: str) -> bool:
    """Whether a side is faster by more than the margin, in three rounds of four."""
    ratio = turns.ratio(side, than)
    return ratio.median <= 1 - MARGIN and ratio.high < 1


def fastest(turns: Turns, in_use: str, allowed: Sequence[str]) -> str:
    """The side to use from now on: the fastest of those that are allowed and faster than the one in use, else that."""
    faster = [side for side in allowed if side != in_use and is_faster(turns, side, in_use)]
    return min(faster, key=lambda side: turns[side].median, default=in_use)


def _finite(value: float) -> float | None:
    """A number as JSON has it."""
    return value if math.isfinite(value) else None
