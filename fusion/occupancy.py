"""Occupancy: whether something stands in a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grid import BevGrid


@dataclass(frozen=True, slots=True, eq=False)
class OccupancyGrid:
    """Whether something stands in a cell.

    log_odds : float32 [nx, ny], natural logarithm of the odds; 0 where not observed
    observed : bool [nx, ny], whether a camera sees the cell now or has seen this ground since the last reset
    seen_by : uint64 [nx, ny], bit i set when camera i of the rig sees the cell in this very set; what is observed and
        seen by none is remembered
    half_life_s : time in which stitched log-odds fall to a half; infinity where the network decides
    belief : float32 [nx, ny], 0..1, the probability that the network gives every cell, those among them that nobody
        observed; None where there is none (cast-outs, messages). Not among :meth:`arrays`.
    """

    grid: BevGrid
    log_odds: NDArray[np.float32]
    observed: NDArray[np.bool_]
    seen_by: NDArray[np.uint64]
    half_life_s: float
    belief: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        self.grid.check("log_odds", self.log_odds, np.float32)
        self.grid.check("observed", self.observed, np.bool_)
        self.grid.check("seen_by", self.seen_by, np.uint64)
        if self.belief is not None:
            self.grid.check("belief", self.belief, np.float32)

    @property
    def probability(self) -> NDArray[np.float32]:
        """Probability that the cell is occupied, float32 [nx, ny]; 0.5 where nothing is known: read `observed` too."""
        with np.errstate(over="ignore"):  # exp overflows to infinity: a probability of 0
            return np.asarray(1.0 / (1.0 + np.exp(-self.log_odds)), dtype=np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, in wire order."""
        return {"log_odds": self.log_odds, "observed": self.observed, "seen_by": self.seen_by}
