"""How long and how fast networks are trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ..errors import InvalidArgument, expected

LEARNING_RATE: Final = 2e-3
"""Of the optimiser, after the warm-up."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How long and how networks are trained.

    Parameters
    ----------
    steps, minutes : the end, exactly one of them; minutes count over all runs of a resumed training
    seed : of the weights and of every random draw
    validate_every : steps between validations
    threads : of PyTorch
    learning_rate : the largest; it rises to it during the warm-up and falls from there
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    validate_every: int = 500
    threads: int = 2
    learning_rate: float = LEARNING_RATE

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise InvalidArgument(expected("length of a training", "steps or minutes", f"{self.steps}, {self.minutes}"))
        if (self.steps or 0) < 0 or (self.minutes or 0.0) < 0:
            raise InvalidArgument(expected("length of the training", "at least 0", self.steps or self.minutes))
        if not 0 < self.learning_rate < math.inf:
            raise InvalidArgument(expected("learning rate", "above 0", self.learning_rate))

    def progress(self, step: int, elapsed_s: float) -> float:
        """How much of the training is done, 0..1."""
        spent, whole = (step, self.steps) if self.steps is not None else (elapsed_s, 60.0 * (self.minutes or 0.0))
        return min(1.0, spent / whole) if whole else 1.0
