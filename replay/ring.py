"""Outline of a roundabout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MOUTH_M: Final = 3.0
"""How much wider an arm is on each side where it meets the ring."""


def ring_outline(centre: Array, radius_m: float, arms: Sequence[tuple[Array, Array, float]]) -> Array:
    """Curb of a ring and of its arms.

    Parameters
    ----------
    centre : float64 [2], world frame
    arms : counter-clockwise; the middle of the line where each begins, unit vector outwards, half its width in metres

    Returns
    -------
    float64 [k, 2], counter-clockwise
    """
    ends = []
    for middle, out, half_width_m in arms:
        left = half_width_m * np.array([-out[1], out[0]])
        bearing = float(np.arctan2(middle[1] - centre[1], middle[0] - centre[0]))
        opening = float(np.arcsin(min((half_width_m + _MOUTH_M) / radius_m, 0.95)))
        ends.append((middle - left, middle + left, out, bearing, opening))
    outline: list[Array] = []
    for index, (right, left, out, bearing, opening) in enumerate(ends):
        next_right, _, next_out, next_bearing, next_opening = ends[(index + 1) % len(ends)]
        sweep = (next_bearing - bearing) % (2 * np.pi)
        begin, end = bearing + opening, bearing + max(sweep - next_opening, opening)
        arc = [centre + radius_m * np.array([np.cos(a), np.sin(a)]) for a in np.linspace(begin, end, 24)]
        outline += [right, left]
        outline += _blend(left, -out, arc[0], np.array([-np.sin(begin), np.cos(begin)]))
        outline += arc
        outline += _blend(next_right, -next_out, arc[-1], np.array([np.sin(end), -np.cos(end)]))[::-1]
    return np.array(outline, np.float64)


def _blend(start: Array, into: Array, stop: Array, along: Array) -> list[Array]:
    """Cubic from `start`, which leads `into`, to `stop`, which leads on `along`; its ends left out."""
    reach = 0.4 * float(np.hypot(*(stop - start)))
    t = np.linspace(0, 1, 10)[1:-1, None]
    near, far = start + reach * into, stop - reach * along
    return list((1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * near + 3 * (1 - t) * t**2 * far + t**3 * stop)
