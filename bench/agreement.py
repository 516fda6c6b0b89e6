"""Whether a peer does the same work: its result against ours, before anything is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BenchError, expected


def check_close(peer: str, theirs: NDArray[Any], ours: NDArray[Any], tolerance: float, *, share: float = 1.0) -> float:
    """Refuse a peer that gives something else.

    Parameters
    ----------
    peer : name for the message
    theirs, ours : arrays of one shape
    tolerance : how far two values may be apart
    share : of the values that must be as near as that

    Returns
    -------
    Share of the values within the tolerance.

    Raises
    ------
    BenchError
        Another shape, or too many values too far apart.
    """
    if theirs.shape != ours.shape:
        raise BenchError(expected(f"result of {peer}", f"of shape {ours.shape}", theirs.shape))
    apart = np.abs(theirs.astype(np.float64) - ours.astype(np.float64))
    near = float(np.mean(apart <= tolerance))
    if not near >= share:
        wanted = f"within {tolerance:g} of ours for {share:.1%} of the values"
        raise BenchError(expected(f"result of {peer}", wanted, f"{near:.2%}, at most {np.nanmax(apart):.3g} apart"))
    return near
