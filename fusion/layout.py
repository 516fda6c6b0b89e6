"""Road layout: class probabilities on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected
from .geometry import LayoutGeometry
from .grid import BevGrid


@dataclass(frozen=True, slots=True, eq=False)
class RoadLayout:
    """Class probabilities on the ground.

    probability : float32 [classes, nx, ny], 0..1; 0 where not observed
    observed : bool [nx, ny], whether a camera sees the cell now or has seen this ground since the last reset
    seen_by : uint64 [nx, ny], bit i set when camera i of the rig sees the cell in this very set; what is observed and
        seen by none is remembered
    belief : float32 [classes, nx, ny], 0..1, what the network says of every cell, those among them that nobody
        observed; None where there is none (cast-outs, messages). Not among :meth:`arrays`.
    """

    grid: BevGrid
    classes: tuple[str, ...]
    probability: NDArray[np.float32]
    observed: NDArray[np.bool_]
    seen_by: NDArray[np.uint64]
    belief: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        self.grid.check("probability", self.probability, np.float32, len(self.classes))
        self.grid.check("observed", self.observed, np.bool_)
        self.grid.check("seen_by", self.seen_by, np.uint64)
        if self.belief is not None:
            self.grid.check("belief", self.belief, np.float32, len(self.classes))

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Probability of one class, float32 [nx, ny]."""
        if name not in self.classes:
            raise InvalidArgument(expected("class", f"one of {', '.join(self.classes)}", name))
        plane: NDArray[np.float32] = self.probability[self.classes.index(name)]
        return plane

    def geometry(self, direction_rad: NDArray[np.float32] | None = None) -> LayoutGeometry:
        """Lines, corridors and intersections in metres: `lane_divider` and `road_edge` as polylines, and so on.

        Computed anew by each call, in some milliseconds; equal rasters give equal geometry. What is not observed is
        not guessed: lines and outlines end there. Classes that the layout does not have give nothing.

        Parameters
        ----------
        direction_rad : float32 [nx, ny], direction of the road without sign, NaN where there is none; None: not known.
            Corridors then follow the edges of drivable space.
        """
        from .vectorise import vectorise  # with the kernels, which a layout without geometry does not need

        return vectorise(self, direction_rad)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, in wire order."""
        return {"probability": self.probability, "observed": self.observed, "seen_by": self.seen_by}
