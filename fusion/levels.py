"""What the whole numbers of a quantised tensor stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected

_LAST: Final = 255
_LEAST_SCALE: Final = 1e-30  # neither it nor one over it leaves what float32 can tell


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels 0..255 of a uint8 tensor, as of ONNX's QuantizeLinear: level l stands for `(l - zero_point) * scale`.

    scale : from one level to the next, positive
    zero_point : the level that stands for 0
    """

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not _LEAST_SCALE <= self.scale <= 1 / _LEAST_SCALE:
            raise InvalidArgument(expected("scale", f"{_LEAST_SCALE:g}..{1 / _LEAST_SCALE:g}", self.scale))
        if not 0 <= self.zero_point <= _LAST:
            raise InvalidArgument(expected("zero_point", f"0..{_LAST}", self.zero_point))

    def numbers(self, levels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What levels of any shape stand for, float32 in new memory, as ONNX's DequantizeLinear has it, to the bit."""
        return (levels.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)

    def nearest(self, numbers: NDArray[Any]) -> NDArray[np.uint8]:
        """The levels next to finite numbers, halves to even, new memory, as ONNX's QuantizeLinear has it."""
        steps = np.rint(numbers / np.float32(self.scale)) + self.zero_point
        levels: NDArray[np.uint8] = np.clip(steps, 0, _LAST).astype(np.uint8)
        return levels
