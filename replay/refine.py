"""Finds how cameras are really pitched from what the networks see while driving: no target, no truth, no training.

The angle is searched at which road layouts predicted from places apart agree best (:mod:`octobev.replay.agreement`):
first one angle for all cameras, then one for each. An angle is kept when it is known to a fraction of a degree, is
clearly more than its own uncertainty, and when each half of the stretches agrees better with what the other half found.
Otherwise nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType
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
"""How far the common pitch is searched."""

SURE_DEG: Final = 0.12
"""Largest standard error of the common pitch that is believed."""

LEAST_DEG: Final = 0.08
"""A common pitch of less is left as it is: networks have errors of their own."""

CAMERA_STRETCHES: Final = 6
"""With fewer stretches no camera is turned alone."""

CAMERA_LEAST_DEG: Final = 0.2
"""A camera's own pitch of less is left as it is."""

LEAST_SIMILARITY: Final = 0.3
"""With less agreement at the best angle the networks do not know this kind of road."""

_COARSE_DEG: Final = 1.0
_COARSE_REACH: Final = 1  # steps to either side of 0 before the search goes where it is better
_FINE_DEG: Final = (0.5, 0.25, 0.125)
_PROBE_DEG: Final = 0.25
_SWEEPS: Final = 2
_FLAT: Final = 1e-3  # similarity per square degree; less curvature than this is none
_SIGNIFICANT: Final = 2.0  # standard errors of the common pitch
_CAMERA_SIGNIFICANT: Final = 3.0  # of a camera's own: there are many of them

Progress = Callable[[int, int], None]
"""Called with calibrations tried, and how many there will be about."""


@dataclass(frozen=True, slots=True)
class PitchEstimate:
    """How much farther up a camera looks than the calibration says.

    pitch_deg : the estimate, up positive
    standard_error_deg : jackknife over the stretches of the drive; infinite where nothing depends on the angle
    applied_deg : what was put into the refined rig: 0 where the estimate was not believed or not needed
    """

    pitch_deg: float
    standard_error_deg: float
    applied_deg: float

    def report(self) -> dict[str, float | None]:
        """The numbers as JSON."""
        error = self.standard_error_deg
        return {
            "pitch_deg": round(self.pitch_deg, 4),
            "standard_error_deg": round(error, 4) if np.isfinite(error) else None,
            "applied_deg": round(self.applied_deg, 4),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Refinement:
    """What was found about a calibration.

    rig : the refined calibration; the very one that was given when nothing is to be changed
    sure : whether the common pitch is known
    reason : why not, None when it is
    common : pitch of all cameras together
    cameras : camera -> its own pitch on top of the common one; empty when that is not known
    curve : (angle in degrees, similarity) of every common pitch that was tried, in order of the angle
    similarity_before, similarity_after : agreement under the given and the refined calibration, 0..1
    sets, pairs : what was compared
    """

    rig: Rig
    sure: bool
    reason: str | None
    common: PitchEstimate
    cameras: MappingProxyType[str, PitchEstimate]
    curve: tuple[tuple[float, float], ...]
    similarity_before: float
    similarity_after: float
    sets: int
    pairs: int

    @property
    def changed(self) -> bool:
        """Whether the refined calibration is another than the given one."""
        return any(estimate.applied_deg for estimate in (self.common, *self.cameras.values()))

    def report(self) -> dict[str, Any]:
        """The figures as JSON; the keys are part of the commands' interface."""
        return {
            "sure": self.sure,
            "reason": self.reason,
            "changed": self.changed,
            "common": self.common.report(),
            "cameras": {name: estimate.report() for name, estimate in self.cameras.items()},
            "curve": [{"pitch_deg": angle, "similarity": round(value, 5)} for angle, value in self.curve],
            "similarity_before": round(self.similarity_before, 5),
            "similarity_after": round(self.similarity_after, 5),
            "sets": self.sets,
            "pairs": self.pairs,
        }


def refine_rig(
    frame_sets: Iterable[FrameSet],
    bundle: Bundle,
    rig: Rig,
    *,
    each_camera: bool = True,
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
    each_camera : also look for a pitch of each camera's own
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
        return _unknown(rig, expected("the drive", f"at least {needed}", f"{len(stretches)}"))
    with Runtime(bundle, rig, [output], threads, variant=variant) as runtime:
        return search_pitch(Agreement(runtime, output, stretches), rig, each_camera=each_camera, progress=progress)


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
    agreement: Measure, rig: Rig, *, each_camera: bool = True, progress: Progress | None = None
) -> Refinement:
    """Search the pitch at which an agreement is greatest; see :func:`refine_rig`."""
    return _Search(agreement, rig, progress).run(each_camera)


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


def _unknown(rig: Rig, reason: str) -> Refinement:
    nothing = PitchEstimate(0.0, float("inf"), 0.0)
    return Refinement(rig, False, reason, nothing, MappingProxyType({}), (), 0.0, 0.0, 0, 0)


class _Search:
    """Tries calibrations. Overlaps are float64 [stretches, 2] throughout."""

    def __init__(self, agreement: Measure, rig: Rig, progress: Progress | None) -> None:
        self._agreement = agreement
        self._rig = rig
        self._progress = progress
        self._tried = 0
        self._expected = 2 * _COARSE_REACH + 1 + 2 * len(_FINE_DEG)

    def run(self, each_camera: bool) -> Refinement:
        tried = self._common_curve()
        angle, error = _vertex(*_around(tried))
        reason = _doubt(tried, angle, error)
        needed = max(_SIGNIFICANT * error, LEAST_DEG)
        applied = angle if reason is None and abs(angle) >= needed and _halves_agree(*_around(tried)) else 0.0
        pitch = dict.fromkeys(self._rig.names, applied)
        own: dict[str, PitchEstimate] = {}
        before = after = similarity(tried[0.0])
        each_camera = each_camera and len(tried[0.0]) >= CAMERA_STRETCHES
        if reason is None and (each_camera or applied):
            self._expected = self._tried + 1 + (2 * _SWEEPS * len(pitch) if each_camera else 0)
            base = self._measure(pitch)
            if each_camera:
                base, own = self._each_camera(pitch, base, applied)
            after = similarity(base)
        return Refinement(
            rig=_pitched(self._rig, pitch),
            sure=reason is None,
            reason=reason,
            common=PitchEstimate(angle, error, applied),
            cameras=MappingProxyType(own),
            curve=tuple((angle, similarity(tried[angle])) for angle in sorted(tried)),
            similarity_before=before,
            similarity_after=after,
            sets=self._agreement.sets,
            pairs=self._agreement.pairs,
        )

    def _common_curve(self) -> dict[float, NDArray[np.float64]]:
        """Angles of all cameras that were tried, coarse first, then halving the step around the best."""
        tried: dict[float, NDArray[np.float64]] = {}

        def attempt(angle: float) -> None:
            if angle not in tried and abs(angle) <= WIDEST_DEG:
                tried[angle] = self._measure(dict.fromkeys(self._rig.names, angle))

        def best() -> float:
            return max(tried, key=lambda angle: (similarity(tried[angle]), -abs(angle)))

        for step in range(-_COARSE_REACH, _COARSE_REACH + 1):
            attempt(step * _COARSE_DEG)
        while best() in (min(tried), max(tried)) and abs(best()) < WIDEST_DEG:
            attempt(best() + float(np.copysign(_COARSE_DEG, best())))
        for step_deg in _FINE_DEG:
            centre = best()
            attempt(centre - step_deg)
            attempt(centre + step_deg)
        centre = best()
        for offset in (-_PROBE_DEG, -_FINE_DEG[-1], _FINE_DEG[-1], _PROBE_DEG):
            attempt(centre + offset)
        return tried

    def _each_camera(
        self, pitch: dict[str, float], base: NDArray[np.float64], common: float
    ) -> tuple[NDArray[np.float64], dict[str, PitchEstimate]]:
        """Turn one camera after the other; `pitch` is written to."""
        own: dict[str, PitchEstimate] = {}
        for _ in range(_SWEEPS):
            for name in pitch:
                down, up = (self._measure(pitch | {name: pitch[name] + turn}) for turn in (-_PROBE_DEG, _PROBE_DEG))
                angles, overlaps = np.array([-_PROBE_DEG, 0.0, _PROBE_DEG]), np.array([down, base, up])
                step, error = _vertex(angles, overlaps)
                step = float(np.clip(step, -2 * _PROBE_DEG, 2 * _PROBE_DEG))
                needed = max(_CAMERA_SIGNIFICANT * error, CAMERA_LEAST_DEG)
                if abs(step) >= needed and _halves_agree(angles, overlaps):
                    turned = self._measure(pitch | {name: pitch[name] + step})
                    if similarity(turned) > similarity(base):
                        pitch[name] += step
                        base = turned
                        step = 0.0
                found = pitch[name] - common
                own[name] = PitchEstimate(found + step if np.isfinite(error) else 0.0, error, found)
        return base, own

    def _measure(self, pitch_deg: dict[str, float]) -> NDArray[np.float64]:
        overlaps = self._agreement.measure(_pitched(self._rig, pitch_deg))
        self._tried += 1
        if self._progress is not None:
            self._progress(self._tried, max(self._tried, self._expected))
        return overlaps


def _pitched(rig: Rig, pitch_deg: dict[str, float]) -> Rig:
    """Turn cameras up by degrees; the rig itself where none is turned."""
    if not any(pitch_deg.values()):
        return rig
    cameras = (
        turned_camera(camera, (pitch_deg[camera.name], 0.0, 0.0)) if pitch_deg[camera.name] else camera
        for camera in rig
    )
    return Rig(tuple(cameras), rig.name)


def _around(tried: dict[float, NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The angles near the best one, [n], and their overlaps, [n, stretches, 2]."""
    best = max(tried, key=lambda angle: (similarity(tried[angle]), -abs(angle)))
    angles = [angle for angle in sorted(tried) if abs(angle - best) <= _PROBE_DEG + 1e-9]
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
    """Why the common pitch is not to be believed, or None."""
    best = max(map(similarity, tried.values()))
    if best < LEAST_SIMILARITY:
        return expected("similarity of road layouts from places apart", f"at least {LEAST_SIMILARITY:g}", f"{best:.2f}")
    if not error <= SURE_DEG:
        found = f"{error:.2f}" if np.isfinite(error) else "no angle that is better than others"
        return expected("standard error of the common pitch", f"at most {SURE_DEG:g} degrees", found)
    if not min(tried) + _PROBE_DEG <= angle <= max(tried) - _PROBE_DEG:
        return expected("common pitch", f"within {WIDEST_DEG:g} degrees", f"{angle:+.2f}")
    return None


def _halves_agree(angles: NDArray[np.float64], overlaps: NDArray[np.float64]) -> bool:
    """Whether each half of the stretches agrees better at the angle that the other half found than at 0."""
    halves = [_parabola(angles, overlaps[:, start::2]) for start in (0, 1)]
    for half, other in (halves, halves[::-1]):
        if half[0] >= 0:
            return False
        found = -half[1] / (2 * half[0])
        found = np.clip(found, angles[0] - _PROBE_DEG, angles[-1] + _PROBE_DEG)
        if np.polyval(other, found) <= np.polyval(other, 0.0):
            return False
    return True
