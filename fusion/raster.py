"""Top-down outputs without a meaning of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from .grid import BevGrid


@dataclass(frozen=True, slots=True, eq=False)
class BevTensor:
    """A top-down output that the bundle declares `raw` or as a field of its own, as the network gave it."""

    grid: BevGrid
    values: NDArray[Any]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The array by name."""
        return {"values": self.values}
