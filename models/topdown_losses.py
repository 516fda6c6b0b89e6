"""What the recurrent top-down network is trained on, and how it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..fusion.direction import doubled_angle
from ..replay.drive import UNKNOWN
from .net import Tensor, functional, torch
from .sequences import LAYERS, VISIBLE
from .topdown_net import TopDownOutputs

POSITIVE_WEIGHTS: Final = (1.0, 3.0, 3.0, 2.5, 1.5, 1.5)
"""How much more a cell that has the class counts than one that has not, in the order of the layers."""

LAYER_WEIGHTS: Final = (1.0, 6.0, 2.0, 2.0, 1.0, 2.0)
HIDDEN_WEIGHT: Final = 0.5
"""How much a cell counts that no camera sees."""

DICE_WEIGHT: Final = 0.8
DIRECTION_WEIGHT: Final = 0.5


@dataclass(frozen=True, slots=True)
class TopDownTerms:
    """One batch's losses, each a scalar tensor: layers (binary cross entropy), dice, direction (L1) and their sum."""

    layers: Tensor
    dice: Tensor
    direction: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.layers + DICE_WEIGHT * self.dice + DIRECTION_WEIGHT * self.direction


def topdown_terms(outputs: TopDownOutputs, layers: Tensor, direction_rad: Tensor) -> TopDownTerms:
    """Compare a batch with its truth.

    Parameters
    ----------
    layers : uint8 [B, 7, nx, ny], see :class:`~octobev.models.sequences.Sequences`; unknown cells cost nothing
    direction_rad : float32 [B, nx, ny], NaN where there is no corridor
    """
    target = (layers[:, :VISIBLE] == 1).to(torch.float32)
    sight = HIDDEN_WEIGHT + (1.0 - HIDDEN_WEIGHT) * layers[:, VISIBLE:].to(torch.float32)
    cells = sight * (layers[:, :VISIBLE] != UNKNOWN)
    logits = outputs.logits.to(torch.float32)
    positive = torch.tensor(POSITIVE_WEIGHTS).reshape(-1, 1, 1)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=positive, reduction="none")
    per_layer = (entropy * cells).sum((0, 2, 3)) / cells.sum((0, 2, 3)).clamp(min=1.0)
    weights = torch.tensor(LAYER_WEIGHTS)
    p = torch.sigmoid(logits) * cells
    overlap = (p * target).sum((0, 2, 3))
    size = (p * torch.sigmoid(logits)).sum((0, 2, 3)) + (target * cells).sum((0, 2, 3))
    dice = 1.0 - (2.0 * overlap + 1.0) / (size + 1.0)
    known = torch.isfinite(direction_rad)
    angle = 2.0 * torch.where(known, direction_rad, 0.0)
    wanted = torch.stack((torch.cos(angle), torch.sin(angle)), 1)
    error = (outputs.direction.to(torch.float32) - wanted).abs().sum(1)
    share = known * sight[:, 0]
    direction = (error * share).sum() / share.sum().clamp(min=1.0)
    return TopDownTerms((per_layer * weights).sum(), (dice * weights).mean(), direction)


@dataclass(slots=True)
class BevScores:
    """IoU per layer at probability 0.5 and direction error, pooled over every set that was added."""

    layers: Sequence[str] = LAYERS
    counts: NDArray[np.int64] = field(init=False)
    direction_errors: list[NDArray[np.float32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = np.zeros((2, len(self.layers), 3), dtype=np.int64)

    def add(
        self,
        logits: NDArray[np.float32],
        direction: NDArray[np.float32],
        layers: NDArray[np.uint8],
        direction_rad: NDArray[np.float32],
    ) -> None:
        """Add sets; arrays as in :class:`TopDownOutputs` and :func:`topdown_terms`. Unknown cells are left out."""
        visible = layers[:, VISIBLE:] > 0
        predicted, true, certain = logits > 0, layers[:, :VISIBLE] == 1, layers[:, :VISIBLE] != UNKNOWN
        for row, mask in enumerate((certain, certain & visible)):
            for column, cells in enumerate((predicted & true & mask, predicted & mask, true & mask)):
                self.counts[row, :, column] += cells.sum((0, 2, 3))
        known = np.isfinite(direction_rad) & visible[:, 0]
        difference = doubled_angle(direction, axis=1)[known] - direction_rad[known]
        folded = np.abs((difference + np.pi / 2) % np.pi - np.pi / 2)
        self.direction_errors.append(np.degrees(folded[::7]).astype(np.float32))

    def iou(self, *, visible: bool) -> dict[str, float]:
        """Intersection over union of each layer, in all cells or in the visible ones; NaN for one that is nowhere."""
        hit, predicted, true = self.counts[int(visible)].T
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: float(value) for name, value in zip(self.layers, hit / (predicted + true - hit), strict=True)}

    def direction_error_deg(self) -> tuple[float, float]:
        """Direction error in visible cells of corridors: median and 90th percentile; NaN when nothing was added."""
        errors = np.concatenate(self.direction_errors) if self.direction_errors else np.zeros(0, np.float32)
        if len(errors) == 0:
            return float("nan"), float("nan")
        return float(np.median(errors)), float(np.quantile(errors, 0.9))

    def numbers(self) -> dict[str, float]:
        """All figures by name."""
        named = {f"iou_{name}": value for name, value in self.iou(visible=False).items()}
        named |= {f"iou_visible_{name}": value for name, value in self.iou(visible=True).items()}
        median, p90 = self.direction_error_deg()
        named |= {"direction_deg_median": median, "direction_deg_p90": p90}
        return {name: round(value, 4) for name, value in named.items() if not np.isnan(value)}
