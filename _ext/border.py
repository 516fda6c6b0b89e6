"""Checks at the border of the kernels: what a kernel reads is known to be there before it reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def require(holds: bool, what: str, must_be: str, actual: object) -> None:
    """Raise ValueError "{what} must be {must_be}, got {actual}" unless the condition holds."""
    if not holds:
        raise ValueError(f"{what} must be {must_be}, got {actual}")


def require_threads(num_threads: int) -> int:
    """A number of threads, at least one."""
    require(num_threads >= 1, "num_threads", "at least 1", num_threads)
    return num_threads


def require_finite(what: str, value: float) -> float:
    """A finite number."""
    require(math.isfinite(value), what, "finite", value)
    return value


def require_apart(what: str, out: NDArray[Any], *sources: NDArray[Any]) -> None:
    """An output that shares no memory with the inputs it is computed from."""
    for source in sources:
        require(not np.may_share_memory(out, source), what, "memory of its own", "a view of an input")
