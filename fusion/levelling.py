"""Finds how the cameras are tilted against the ground from where a network sees the horizon, while driving.

A calibration that is off by a fraction of a degree puts distant ground metres away from where it is. Per-camera
networks may say where in their image the horizon is (the plane of the ground at infinity, whether something hides it or
not). Where it is to be expected follows from the calibration. The difference is a tilt: pitch and roll of that camera;
turning about the vertical leaves the horizon where it is.

One image says little (some tenths of a degree), many images of many cameras say more: tilts are added up over time, as
far as they are independent, and over the cameras, as far as they share an error: all pitched alike, or a body that
leans. What is not sure is left as it is. When the cameras contradict each other the network does not know what it looks
at, and nothing is changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .lens import Intrinsics
from .pose import Pose
from .view import FeatureCamera

HORIZON_CHANNELS: Final = 2
"""What a network says at each pixel of its horizon map: distance and log precision."""

INTERVAL_S: Final = 0.2
"""Sets that follow sooner are not looked at: they would say the same again."""

INDEPENDENT_S: Final = 2.0
"""Images of one camera this far apart are independent; nearer ones count in proportion to the time between."""

HALF_LIFE_S: Final = 120.0
"""In this time what was seen counts half: loads and passengers change how a body sits."""

SYSTEMATIC_DEG: Final = 0.12
"""Standard deviation of what a network gets wrong of a camera, however long it looks."""

SINGLE_DEG: Final = 0.2
"""Standard deviation of a camera's own error, before anything is seen."""

COMMON_DEG: Final = 1.0
"""The same for errors that all cameras share."""

SURE: Final = (2.0, 3.0, 3.0)
"""So many times its standard deviation a shared error must be to be believed: all cameras down, the body rolled, the
body pitched. Bodies seldom lean for long, and roll is seen less well: under a right calibration, on fourteen validation
drives of the reference bundle, these came to 1.3, 2.4 and 2.0 at most."""

SINGLE_SURE: Final = 3.0
"""The same for a camera's own: there are many, and one of them is far off by chance."""

LARGEST_DEG: Final = 3.0
"""Larger tilts are not believed: that is another mounting, or a network that sees no horizon."""

LARGEST_CONTRADICTION: Final = 4.0
"""Mean square of what shared errors do not explain, over its variance; more is a contradiction. The reference bundle
comes to 0.5 at most on validation drives, and to 10 and 26 on two real recordings, of a kind that it does not know."""

_NEAR: Final = 0.5  # sine of latitude: farther from the horizon, pixels do not go with sines any more
_STICKY: Final = 0.5
_SUBSETS: Final = [np.array(chosen, np.bool_) for chosen in sorted(itertools.product((0, 1), repeat=3), key=sum)]
_LARGEST_LOG_PRECISION: Final = float(np.log(1 / 0.1**2))  # a tenth of a pixel
_STEP_RAD: Final = float(np.radians(0.02))
_HALF_PIXEL: Final = np.array([[0.0, 0.0], [0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
_UP: Final = np.array([0.0, 0.0, 1.0])

_Floats = NDArray[np.float64]


class Levelling:
    """What is known about the tilts of the cameras of a rig. Equal sets give equal tilts, to the bit.

    Parameters
    ----------
    cameras : as the network sees them, N
    shape : height and width of a horizon map, h and w
    stride : network pixels per pixel of the map
    """

    def __init__(self, cameras: Sequence[FeatureCamera], shape: tuple[int, int], stride: float) -> None:
        self._cameras = tuple(cameras)
        self._shape, self._stride = shape, stride
        seen = [horizon_rays(camera.intrinsics, shape, stride) for camera in self._cameras]
        self._rays = np.stack([ray for ray, _ in seen])
        self._slopes = np.stack([slope.reshape(-1, 3) for _, slope in seen])
        self._mountings = np.stack([camera.ego_from_camera.rotation for camera in self._cameras])
        self.reset()

    @property
    def tilts_rad(self) -> _Floats:
        """Tilts in use, float64 [N, 2]: of each camera about its x axis and its optical axis.

        Positive: it looks farther down, and is turned counterclockwise (seen from behind it), than its calibration
        says. Zero where nothing is believed.
        """
        return self._tilts

    def reset(self) -> None:
        """Forget everything."""
        count = len(self._cameras)
        self._information = np.zeros((count, 2, 2))
        self._vector = np.zeros((count, 2))
        self._looked = np.zeros(count, dtype=np.bool_)
        self._latest_ns: int | None = None
        self._believed = _Believed(np.zeros(3, np.bool_), np.zeros((count, 2), np.bool_))
        self._tilts = np.zeros((count, 2))
        self._turns: tuple[Pose | None, ...] = (None,) * count

    def take_over(self, before: Levelling) -> None:
        """Go on with what another one knows, if its cameras are the same; it is not to be used any more."""
        if (self._cameras, self._shape, self._stride) != (before._cameras, before._shape, before._stride):
            return
        self._information, self._vector, self._looked = before._information, before._vector, before._looked
        self._latest_ns, self._believed = before._latest_ns, before._believed
        self._tilts, self._turns = before._tilts, before._turns

    def corrected(self, fired_from_ego: Sequence[Pose]) -> list[Pose]:
        """Turn poses so that a view built of them with the given calibration is that of the cameras as they are.

        Parameters
        ----------
        fired_from_ego : of each camera `ego_when_it_fired_from_ego_now`
        """
        return [pose if turn is None else turn @ pose for turn, pose in zip(self._turns, fired_from_ego, strict=True)]

    def observe(
        self,
        timestamp_ns: int,
        rows: NDArray[np.float32],
        active: NDArray[np.uint8],
        fired_from_ego: Sequence[Pose],
    ) -> None:
        """Take in the horizons of a set.

        Parameters
        ----------
        timestamp_ns : of the set; those that follow the one before within :data:`INTERVAL_S` are passed over
        rows : float32 [N * h * w, 2], for each pixel of the maps its distance from the horizon, network pixels,
            positive above it (across the horizon, as if the lens bent nothing in between), and the natural logarithm
            of the precision of that, 1 / pixels²
        active : uint8 [N], 1 where a camera gave a map
        fired_from_ego : of each camera `ego_when_it_fired_from_ego_now`, as it is known, not :meth:`corrected`
        """
        since_s = np.inf if self._latest_ns is None else (timestamp_ns - self._latest_ns) / 1e9
        if 0 <= since_s < INTERVAL_S:
            return
        self._latest_ns = timestamp_ns
        information, vector = self._measure(rows, fired_from_ego)
        fade = 0.5 ** (max(since_s, 0.0) / HALF_LIFE_S) if np.isfinite(since_s) else 1.0
        share = min(max(since_s, 0.0) / INDEPENDENT_S, 1.0)
        weight = np.where(self._looked, share, 1.0) * (active != 0)
        self._information = fade * self._information + weight[:, None, None] * information
        self._vector = fade * self._vector + weight[:, None] * vector
        self._looked |= active != 0
        self._settle()

    def _measure(self, rows: NDArray[np.float32], fired_from_ego: Sequence[Pose]) -> tuple[_Floats, _Floats]:
        """What the maps say about each tilt: information [N, 2, 2] and the tilt times it [N, 2]."""
        maps = rows.reshape(len(self._cameras), -1, HORIZON_CHANNELS).astype(np.float64)
        ups = np.stack([pose.rotation @ _UP for pose in fired_from_ego])
        up = np.einsum("nji,nj->ni", self._mountings, ups)  # in each camera
        across = np.stack((np.cross([1.0, 0.0, 0.0], up), np.cross([0.0, 0.0, 1.0], up)), axis=2)
        lever = self._rays @ across  # what sine of latitude a tilt adds
        along = (self._slopes @ up[..., None]).reshape(*maps.shape[:2], 2)
        per_pixel = np.hypot(along[..., 0], along[..., 1])
        weights = np.exp(np.minimum(maps[..., 1], _LARGEST_LOG_PRECISION)) / np.maximum(np.square(per_pixel), 1e-12)
        expected_sine = (self._rays @ up[..., None])[..., 0]
        weights *= (per_pixel > 0) & (np.abs(expected_sine) < _NEAR)
        missing = maps[..., 0] * per_pixel - expected_sine
        weighted = (lever * weights[..., None]).transpose(0, 2, 1)
        return weighted @ lever, (weighted @ missing[..., None])[..., 0]

    def _settle(self) -> None:
        """Decide which tilts are believed."""
        errors = _Errors(self._information, self._vector, self._mountings, self._looked)
        self._believed = errors.believed(self._believed)
        tilts = errors.tilts(self._believed)
        if (np.abs(tilts - self._tilts) >= _STEP_RAD).any() or (tilts.any() != self._tilts.any()):
            self._tilts = tilts
            self._turns = tuple(
                _turn(camera, tilt) if tilt.any() else None for camera, tilt in zip(self._cameras, tilts, strict=True)
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Believed:
    """Which errors are believed: shared ones [3] (all cameras down, body rolled, body pitched), single ones [N, 2]."""

    shared: NDArray[np.bool_]
    single: NDArray[np.bool_]


class _Errors:
    """A Gaussian model of tilts: levers @ shared + single, and of how they are measured.

    A mixed model (Henderson 1975): shared errors by generalised least squares, what they leave of each camera shrunk
    towards nothing.

    Parameters
    ----------
    information, vector, looked : what was measured, as :class:`Levelling` adds it up
    mountings : float64 [N, 3, 3], rotations of `ego_from_camera`
    """

    def __init__(self, information: _Floats, vector: _Floats, mountings: _Floats, looked: NDArray[np.bool_]) -> None:
        known = information + np.eye(2) / np.radians(LARGEST_DEG) ** 2
        self.measured = np.linalg.solve(known, vector[..., None])[..., 0]
        single = np.radians(SINGLE_DEG) ** 2
        variance = np.linalg.inv(known) + (np.radians(SYSTEMATIC_DEG) ** 2 + single) * np.eye(2)
        self.trust = np.linalg.inv(variance) * looked[:, None, None]
        self.gain = single * self.trust
        self.single_sigma = np.sqrt(np.diagonal(single * (np.eye(2) - self.gain), axis1=1, axis2=2))
        self.levers = np.zeros((len(mountings), 2, 3))
        self.levers[:, 0, 0] = 1.0
        self.levers[:, :, 1:] = mountings[:, :2, [0, 2]].transpose(0, 2, 1)
        prior = np.eye(3) / np.radians(COMMON_DEG) ** 2
        self._normal = prior + np.einsum("nik,nij,njl->kl", self.levers, self.trust, self.levers)
        self._right = np.einsum("nik,nij,nj->k", self.levers, self.trust, self.measured)
        self._looked = max(int(looked.sum()), 1)

    def believed(self, before: _Believed) -> _Believed:
        """Which errors are sure; what was believed before is so until it is half as large.

        Of the shared ones those that together explain most for their number: rigs that look one way cannot tell
        whether their cameras or the body is tilted, and take the simplest.
        """
        nothing = _Believed(np.zeros(3, np.bool_), np.zeros_like(before.single))
        if self._contradiction() > LARGEST_CONTRADICTION:
            return nothing
        price = np.square(SURE) * np.where(before.shared, _STICKY**2, 1.0)
        shared = max(_SUBSETS, key=lambda chosen: self._explained(chosen) - price[chosen].sum())
        own = np.einsum("nij,nj->ni", self.gain, self._left(shared))
        single = np.abs(own) > SINGLE_SURE * self.single_sigma * np.where(before.single, _STICKY, 1.0)
        believed = _Believed(shared, single)
        too_large = np.abs(self.tilts(believed)).max(initial=0.0) > np.radians(LARGEST_DEG)
        return nothing if too_large else believed

    def tilts(self, believed: _Believed) -> _Floats:
        """Tilts [N, 2] of what is believed."""
        return self.levers @ self._shared(believed.shared) + self._left(believed.shared) * believed.single

    def _shared(self, chosen: NDArray[np.bool_]) -> _Floats:
        """The likeliest shared errors [3] when only those chosen are there."""
        shared = np.zeros(3)
        if chosen.any():
            shared[chosen] = np.linalg.solve(self._normal[np.ix_(chosen, chosen)], self._right[chosen])
        return shared

    def _explained(self, chosen: NDArray[np.bool_]) -> float:
        """By how much they lessen the sum of squares over their variances."""
        return float(self._right @ self._shared(chosen))

    def _left(self, chosen: NDArray[np.bool_]) -> _Floats:
        """What they leave of the tilts, [N, 2]."""
        left: _Floats = self.measured - self.levers @ self._shared(chosen)
        return left

    def _contradiction(self) -> float:
        """Mean square of what no shared errors explain, over its variance."""
        left = self._left(np.ones(3, np.bool_))
        return float(np.einsum("ni,nij,nj->", left, self.trust, left) / (2 * self._looked))


def horizon_rays(lens: Intrinsics, shape: tuple[int, int], stride: float) -> tuple[_Floats, _Floats]:
    """Rays through the pixels of a horizon map in the camera frame, and how they change along u and v.

    Parameters
    ----------
    lens : of the network's input
    shape, stride : see :class:`Levelling`

    Returns
    -------
    rays : float64 [h * w, 3], of length 1; zero where the lens sees nothing
    slopes : float64 [h * w, 2, 3], per network pixel
    """
    v, u = np.mgrid[0 : shape[0], 0 : shape[1]]
    centres = np.stack(((u + 0.5) * stride - 0.5, (v + 0.5) * stride - 0.5), axis=-1).reshape(-1, 1, 2)
    pixels = centres + _HALF_PIXEL
    rays, seen = lens.unproject(pixels.reshape(-1, 2))
    rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).reshape(*pixels.shape[:2], 3)
    rays[~seen.reshape(pixels.shape[:2]).all(axis=1)] = 0.0
    return rays[:, 0], rays[:, [1, 3]] - rays[:, [2, 4]]


def _turn(camera: FeatureCamera, tilt_rad: _Floats) -> Pose:
    """What brings a point to where a camera that is tilted so finds it by its calibration; in the ego frame."""
    angle = float(np.hypot(*tilt_rad))
    half = np.sin(angle / 2) / angle
    tilt = Pose.from_quaternion((0.0, 0.0, 0.0), (half * tilt_rad[0], 0.0, half * tilt_rad[1], np.cos(angle / 2)))
    return camera.ego_from_camera @ tilt @ camera.ego_from_camera.inverse()


def tilts_in_degrees(names: Sequence[str], tilts_rad: NDArray[Any]) -> dict[str, tuple[float, float]]:
    """Camera -> pitch (up positive) and roll (clockwise positive, seen from behind it) of its error, degrees.

    Cameras without a believed error are left out.
    """
    return {
        name: (-float(np.degrees(tilt[0])) + 0.0, -float(np.degrees(tilt[1])) + 0.0)
        for name, tilt in zip(names, tilts_rad, strict=True)
        if tilt.any()
    }
