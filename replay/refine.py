"""Finds how the cameras are really pitched from what the networks see while driving: no target, no truth, no training.

One angle for all cameras is searched, at which road layouts predicted from places apart agree best
(:mod:`octobev.replay.agreement`). It is kept when it is known to a fraction of a degree, is clearly more than its own
uncertainty, and when each half of the stretches agrees better with what the other half found. Otherwise nothing is
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected
from ..fusion.rig import Rig
from ..runtime.bundle import Bundle
from ..runtime.engine import Runtime
from ..runtime.frames import FrameSet
from ..runtime.variants import VariantChoice
from .agreement import PLACES, SPACING_M, Agreement, choose_stretches, similarity
from .disturbance import turned_camera

FEWEST_STRETCHES: Final = 3
"""With fewer stretches nothing says how sure an angle is."""

WIDEST_DEG: Final = 3.0
"""How far the pitch is searched."""

SURE_DEG: Final = 0.12
"""Largest standard error of the pitch that is believed."""

LEAST_DEG: Final = 0.15
"""A pitch of less is left as it is: under a right calibration up to 0.1 was found."""

CAST_OUT_LEAST_DEG: Final = 0.5
"""The same for a road layout that is cast out: under a right calibration up to 0.4 was found."""

LEAST_SIMILARITY: Final = 0.3
"""With less agreement at the best angle the networks do not know this kind of road."""

_COARSE_DEG: Final = 1.0
_COARSE_REACH: Final = 1  # steps to either side of 0 before the search goes where it is better
_FINE_DEG: Final = (0.5, 0.25, 0.125)
_NEAR_DEG: Final = 0.25  # angles this near to the best one make the parabola
_FLAT: Final = 1e-3  # similarity per square degree; less curvature than this is none
_SIGNIFICANT: Final = 2.0  # standard errors
_USUAL: Final = 12  # calibrations that a search tries

Progress = Callable[[int, int], None]
"""Called with calibrations tried, and how many there will be about."""


@dataclass(frozen=True, slots=True, eq=False)
class Refinement:
    """What was found about a calibration.

    rig : the refined calibration; the very one that was given when nothing is to be changed
    sure : whether the pitch is known
    reason : why not, None when it is
    pitch_deg : how much farther up the cameras look than the calibration says, the estimate
    standard_error_deg : of the estimate, jackknife over the stretches of the drive; infinite where no angle is best
    applied_deg : by how much the cameras of `rig` were turned up: 0 where the estimate is not believed or is too small
    curve : (angle in degrees, similarity) of every pitch that was tried, in order of the angle
    similarity_before, similarity_after : agreement under the given and the refined calibration, 0..1
    sets, pairs : what was compared
    """

    rig: Rig
    sure: bool
    reason: str | None
    pitch_deg: float = 0.0
    standard_error_deg: float = float("inf")
    applied_deg: float = 0.0
    curve: tuple[tuple[float, float], ...] = ()
    similarity_before: float = 0.0
    similarity_after: float = 0.0
    sets: int = 0
    pairs: int = 0

    def report(self) -> dict[str, Any]:
        """The figures as JSON; the keys are part of the commands' interface."""
        error = self.standard_error_deg
        return {
            "sure": self.sure,
            "reason": self.reason,
            "pitch_deg": round(self.pitch_deg, 4),
            "standard_error_deg": round(error, 4) if np.isfinite(error) else None,
            "applied_deg": round(self.applied_deg, 4),
            "similarity_before": round(self.similarity_before, 5),
            "similarity_after": round(self.similarity_after, 5),
            "curve": [{"pitch_deg": angle, "similarity": round(value, 5)} for angle, value in self.curve],
            "sets": self.sets,
            "pairs": self.pairs,
        }


def refine_rig(
    frame_sets: Iterable[FrameSet],
    bundle: Bundle,
    rig: Rig,
    *,
    threads: int | None = None,
    variant: VariantChoice = "auto",
    progress: Progress | None = None,
) -> Refinement:
    """Find the pitch of the cameras from a drive.

    Deterministic: equal sets, bundle and rig give equal angles, with any number of threads.

    Parameters
    ----------
    frame_sets : in the order of time, read once; at most 60 of them are kept in memory. The ego must move: at least
        50 m or so
    bundle : one with a road layout, from a top-down network or cast out
    rig : the calibration to begin with
    threads, variant : see :class:`octobev.runtime.engine.Runtime`
    progress : see :data:`Progress`

    Raises
    ------
    InvalidArgument
        The bundle has no road layout.
    RigError, BundleError
        As when a runtime is made.
    """
    output = layout_output(bundle)
    stretches = choose_stretches(frame_sets)
    if len(stretches) < FEWEST_STRETCHES:
        needed = f"{FEWEST_STRETCHES} stretches of {PLACES} places {SPACING_M:g} m apart, with ego poses"
        return Refinement(rig, False, expected("the drive", f"at least {needed}", f"{len(stretches)}"))
    with Runtime(bundle, rig, [output], threads, variant=variant, level=False) as runtime:
        least_deg = CAST_OUT_LEAST_DEG if output in bundle.manifest.castouts else LEAST_DEG
        return search_pitch(Agreement(runtime, output, stretches), rig, progress, least_deg)


class Measure(Protocol):
    """What says how well a calibration fits, see :class:`octobev.replay.agreement.Agreement`."""

    @property
    def sets(self) -> int:
        """Number of sets."""

    @property
    def pairs(self) -> int:
        """Number of pairs of sets that are compared."""

    def measure(self, rig: Rig) -> NDArray[np.float64]:
        """Overlaps of each stretch under a calibration, float64 [stretches, 2]; deterministic."""


def search_pitch(
    agreement: Measure, rig: Rig, progress: Progress | None = None, least_deg: float = LEAST_DEG
) -> Refinement:
    """Search the pitch at which an agreement is greatest; less than `least_deg` is left as it is.

    See :func:`refine_rig`.
    """
    count = 0

    def measure(angle: float) -> NDArray[np.float64]:
        nonlocal count
        overlaps = agreement.measure(_pitched(rig, angle))
        count += 1
        if progress is not None:
            progress(count, max(count, _USUAL))
        return overlaps

    tried = _try_angles(measure)
    angles, overlaps = _around(tried)
    angle, error = _vertex(angles, overlaps)
    reason = _doubt(tried, angle, error)
    needed = max(_SIGNIFICANT * error, least_deg)
    turn = reason is None and abs(angle) >= needed and _halves_agree(angles, overlaps)
    before = similarity(tried[0.0])
    return Refinement(
        rig=_pitched(rig, angle if turn else 0.0),
        sure=reason is None,
        reason=reason,
        pitch_deg=angle,
        standard_error_deg=error,
        applied_deg=angle if turn else 0.0,
        curve=tuple((angle, similarity(tried[angle])) for angle in sorted(tried)),
        similarity_before=before,
        similarity_after=similarity(measure(angle)) if turn else before,
        sets=agreement.sets,
        pairs=agreement.pairs,
    )


def layout_output(bundle: Bundle) -> str:
    """Name the road layout of a bundle that is looked at: `road_layout`, or the first that is given by default.

    Raises
    ------
    InvalidArgument
        The bundle has none.
    """
    kinds = bundle.outputs
    layouts = [name for name in bundle.default_outputs if kinds[name] == "road_layout"]
    if not layouts:
        raise InvalidArgument(expected(f"outputs of bundle {bundle.manifest.name}", "a road layout among them", "none"))
    return "road_layout" if "road_layout" in layouts else layouts[0]


def _try_angles(measure: Callable[[float], NDArray[np.float64]]) -> dict[float, NDArray[np.float64]]:
    """Angles that were tried and their overlaps: coarse first, then halving the step around the best."""
    tried: dict[float, NDArray[np.float64]] = {}

    def attempt(angle: float) -> None:
        if angle not in tried and abs(angle) <= WIDEST_DEG:
            tried[angle] = measure(angle)

    for step in range(-_COARSE_REACH, _COARSE_REACH + 1):
        attempt(step * _COARSE_DEG)
    while (best := _best(tried)) in (min(tried), max(tried)) and abs(best) < WIDEST_DEG:
        attempt(best + float(np.copysign(_COARSE_DEG, best)))
    for step_deg in _FINE_DEG:
        best = _best(tried)
        attempt(best - step_deg)
        attempt(best + step_deg)
    best = _best(tried)
    for offset in (-_NEAR_DEG, -_FINE_DEG[-1], _FINE_DEG[-1], _NEAR_DEG):
        attempt(best + offset)
    return tried


def _best(tried: dict[float, NDArray[np.float64]]) -> float:
    return max(tried, key=lambda angle: (similarity(tried[angle]), -abs(angle)))


def _pitched(rig: Rig, pitch_deg: float) -> Rig:
    """Turn every camera up by degrees; the rig itself when there is nothing to turn."""
    if not pitch_deg:
        return rig
    return Rig(tuple(turned_camera(camera, (pitch_deg, 0.0, 0.0)) for camera in rig), rig.name)


def _around(tried: dict[float, NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The angles near the best one, [n], and their overlaps, [n, stretches, 2]."""
    best = max(tried, key=lambda angle: (similarity(tried[angle]), -abs(angle)))
    angles = [angle for angle in sorted(tried) if abs(angle - best) <= _NEAR_DEG + 1e-9]
    return np.array(angles), np.array([tried[angle] for angle in angles])


def _parabola(angles: NDArray[np.float64], overlaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares through the similarity at these angles: coefficients of angle squared, angle, 1."""
    coefficients: NDArray[np.float64] = np.polyfit(angles, [similarity(overlap) for overlap in overlaps], 2)
    return coefficients


def _vertex(angles: NDArray[np.float64], overlaps: NDArray[np.float64]) -> tuple[float, float]:
    """Where the similarity is greatest, and the standard error of that.

    The jackknife leaves out one stretch at a time (Efron, Stein 1981). It takes the slope at the middle angle, with the
    curvature of all stretches: single ones may have none.
    """
    middle = float(angles.mean())
    square, slope, _ = _parabola(angles - middle, overlaps)
    if square > -_FLAT:
        return middle, float("inf")
    count = overlaps.shape[1]
    slopes = np.array([_parabola(angles - middle, np.delete(overlaps, i, axis=1))[1] for i in range(count)])
    slope_error = np.sqrt((count - 1) / count * ((slopes - slopes.mean()) ** 2).sum())
    return float(middle - slope / (2 * square)), float(slope_error / (-2 * square))


def _doubt(tried: dict[float, NDArray[np.float64]], angle: float, error: float) -> str | None:
    """Why the pitch is not to be believed, or None."""
    best = max(map(similarity, tried.values()))
    if best < LEAST_SIMILARITY:
        return expected("similarity of road layouts from places apart", f"at least {LEAST_SIMILARITY:g}", f"{best:.2f}")
    if not error <= SURE_DEG:
        found = f"{error:.2f}" if np.isfinite(error) else "no angle that is better than others"
        return expected("standard error of the pitch", f"at most {SURE_DEG:g} degrees", found)
    if not min(tried) + _NEAR_DEG <= angle <= max(tried) - _NEAR_DEG:
        return expected("pitch", f"within {WIDEST_DEG:g} degrees", f"{angle:+.2f}")
    return None


def _halves_agree(angles: NDArray[np.float64], overlaps: NDArray[np.float64]) -> bool:
    """Whether each half of the stretches agrees better at the angle that the other half found than at 0."""
    halves = [_parabola(angles, overlaps[:, start::2]) for start in (0, 1)]
    for half, other in (halves, halves[::-1]):
        if half[0] >= 0:
            return False
        found = -half[1] / (2 * half[0])
        found = np.clip(found, angles[0] - _NEAR_DEG, angles[-1] + _NEAR_DEG)
        if np.polyval(other, found) <= np.polyval(other, 0.0):
            return False
    return True
