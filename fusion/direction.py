"""Corridor direction: which way one may drive in a cell, without saying forwards or backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grid import BevGrid


@dataclass(frozen=True, slots=True, eq=False)
class CorridorDirection:
    """The direction of the corridor that a cell belongs to, as a line: turned by pi it is the same.

    direction_rad : float32 [nx, ny], -pi/2 .. pi/2 from the ego's x axis, to the left positive; 0 where not observed.
        Outside of corridors (beside the road, in the middle of intersections) it says nothing: read the road layout.
    confidence : float32 [nx, ny], 0..1, length of the vector (cos 2t, sin 2t) that the network gave; 0 where not
        observed
    observed : bool [nx, ny], whether a camera sees the cell now or has seen this ground since the last reset
    seen_by : uint64 [nx, ny], bit i set when camera i of the rig sees the cell in this very set
    """

    grid: BevGrid
    direction_rad: NDArray[np.float32]
    confidence: NDArray[np.float32]
    observed: NDArray[np.bool_]
    seen_by: NDArray[np.uint64]

    def __post_init__(self) -> None:
        self.grid.check("direction_rad", self.direction_rad, np.float32)
        self.grid.check("confidence", self.confidence, np.float32)
        self.grid.check("observed", self.observed, np.bool_)
        self.grid.check("seen_by", self.seen_by, np.uint64)

    def known_rad(self, least_confidence: float = 0.0) -> NDArray[np.float32]:
        """The direction where it is known, float32 [nx, ny]; NaN where not observed or with less confidence."""
        known = self.observed & (self.confidence >= least_confidence)
        return np.where(known, self.direction_rad, np.float32(np.nan))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, in wire order."""
        return {
            "direction_rad": self.direction_rad,
            "confidence": self.confidence,
            "observed": self.observed,
            "seen_by": self.seen_by,
        }


def doubled_angle(vectors: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Angle t, float32 in -pi/2 .. pi/2, of vectors (cos 2t, sin 2t) of any length along an axis."""
    cosine, sine = (vectors[(slice(None),) * axis + (i,)] for i in (0, 1))
    angle: NDArray[np.float32] = np.arctan2(sine, cosine, dtype=np.float32)
    angle *= np.float32(0.5)
    return angle
