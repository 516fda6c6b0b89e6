"""What a recorded drive is, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected
from ..fusion.grid import BevGrid
from ..fusion.rig import Rig
from ..runtime.frames import FrameSet

TRUTH_LAYERS = (
    "drivable",
    "lane_divider",
    "road_edge",
    "crosswalk",
    "intersection",
    "occupancy",
    "visible",
    "direction_rad",
)
"""Layers that ground truth may have. All are uint8 0, 1 or :data:`UNKNOWN` but the last."""

UNKNOWN: Final = 255
"""In a layer: nobody knows what is in this cell. It is neither counted nor learned from."""


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """What is really there at one instant.

    layers : name -> array [nx, ny] on `grid`, in the ego frame at `timestamp_ns`; uint8 0, 1 or :data:`UNKNOWN`, but
        `direction_rad`: float32, direction of the corridor without sign, -pi/2..pi/2, NaN where there is no corridor.
        `visible` is 1 where at least one camera has an unobstructed view of the ground (or of the obstacle on it).
    """

    timestamp_ns: int
    grid: BevGrid
    layers: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))
        for name, layer in self.layers.items():
            dtype = np.float32 if name == "direction_rad" else np.uint8
            if name not in TRUTH_LAYERS or layer.shape != self.grid.shape or layer.dtype != dtype:
                raise InvalidArgument(
                    expected(
                        f"ground truth layer {name}",
                        f"one of {', '.join(TRUTH_LAYERS)}, {np.dtype(dtype).name} {self.grid.shape}",
                        f"{layer.dtype} {layer.shape}",
                    )
                )


@dataclass(frozen=True, slots=True, eq=False)
class DriveStep:
    """One instant of a drive: the frames, and the truth where it is known."""

    frame_set: FrameSet
    truth: GroundTruth | None = None


@dataclass(slots=True)
class Losses:
    """What could not be read, counted while a drive is iterated.

    corrupt : frames that were there but failed a check (CRC, header, decoder)
    truncated : message about where the file ends too early, None when it is whole
    reasons : reason -> count
    """

    corrupt: int = 0
    truncated: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str) -> None:
        """Count one corrupt frame."""
        self.corrupt += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def __bool__(self) -> bool:
        return self.corrupt > 0 or self.truncated is not None


class Drive(ABC):
    """A recorded (or synthetic) drive: a rig, and sets of frames in time order.

    Memory does not grow with the length of the drive. Iterating twice gives the same sets twice; `losses` counts what
    was lost in the latest iteration.
    """

    name: str
    rig: Rig
    losses: Losses

    @abstractmethod
    def steps(self, *, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[DriveStep]:
        """Iterate over the steps.

        Parameters
        ----------
        start_s : seconds after the first set at which to begin
        duration_s : length of the half-open interval [start, start + duration); None for all
        """

    @property
    def length_hint(self) -> int | None:
        """About how many steps :meth:`steps` gives without limits, for progress bars; None when not known."""
        return None
