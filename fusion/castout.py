"""Cast-out: image-space class probabilities carried onto the ground and stitched over cameras and time.

Per step and cell, all cameras that see it vote with the weights of the view transform. Two things take votes away:

* a *blocker* (an obstacle class) in the pixel means that the ground behind it was not seen: its share of the vote is
  void;
* where the image network gives depth, a pixel counts only as far as its depth agrees with that of the cell's point, so
  that what stands in front of a cell says nothing about it.

A cell is looked at in several points, because near the car a pixel is much smaller than a cell: a class that is thinner
than a cell (a line) is there when any of the points has it, other classes as far as the points have them on average.

What remains is evidence of mass m in 0..1 with probability p. It is stitched as Bayesian log-odds relative to a prior
(Thrun, Burgard, Fox 2005, ch. 9): `L = clip(decay * L + gain * m * (logit(p) - logit(prior)))`, and read as
`sigmoid(L + logit(prior))`. Evidence fades with range and, by a half-life, with time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .._ext import lift, occupancy
from .grid import BevGrid
from .layout import RoadLayout
from .occupancy import OccupancyGrid
from .pose import Pose
from .state import RollingMap
from .view import FeatureCamera, ViewTransform
from .view_builder import ViewBuilder

_DEFAULT_PRIOR: Final = 0.1
_SMALLEST: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Stitching:
    """How evidence becomes log-odds.

    half_life_s : time in which log-odds fall to a half when nothing new is seen
    range_m : evidence from farther than this is not used
    full_evidence_m : evidence counts in full up to here, beyond it in proportion to 1 / range
    gain : weight of one set's evidence
    independent_after_s : sets that follow each other sooner than this see the same things with the same errors: the
        later one counts in proportion to the time between them, so that the rate of the cameras makes no difference
    limit : log-odds are clamped to +- this
    min_mass : less evidence than this in a cell is none
    depth_sigma_m, depth_sigma_relative : tolerance of the depth agreement: sigma = m + relative * depth
    """

    half_life_s: float
    range_m: float
    full_evidence_m: float
    gain: float
    independent_after_s: float
    limit: float
    min_mass: float
    depth_sigma_m: float
    depth_sigma_relative: float


@dataclass(frozen=True, slots=True, eq=False)
class ImageEvidence:
    """What the image networks saw in one set.

    probability : float32 [cameras * h * w, classes], rows in camera order; cameras without a frame are not read
    depth_m : float32 [cameras * h * w], along the optical axis, or None
    active : uint8 [cameras], 1 where there is a frame to read
    fired_from_ego : for each camera `ego_when_it_fired_from_ego_now`
    """

    probability: NDArray[np.float32]
    depth_m: NDArray[np.float32] | None
    active: NDArray[np.uint8]
    fired_from_ego: Sequence[Pose]


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """What the pixels of one set say about the cells that were looked at.

    cells : int64 [n], rows of the map
    channels : float32 [samples, n, channels], weighted votes
    void : float32 [samples, n], votes of blockers
    mass : float32 [samples, n], weight of all votes, 0..1
    seen_by : uint64 [rows of the map], cameras that see each cell
    """

    cells: NDArray[np.int64]
    channels: NDArray[np.float32]
    void: NDArray[np.float32]
    mass: NDArray[np.float32]
    seen_by: NDArray[np.uint64]


class GroundStitcher:
    """Stitches votes of image classes into a map that travels with the ego.

    Parameters
    ----------
    grid : the ego grid of the results
    cameras, feature_shape, stride : the image outputs that are cast, see :class:`octobev.fusion.view.ViewBuilder`
    offsets_m : float64 [samples, 3], points that are looked at in each cell, relative to its centre on the ground
    votes : float32 [image classes, channels], how much of each image class votes for each channel
    blockers : float32 [image classes], 1 for classes that hide the ground
    prior : prior probability per channel
    """

    def __init__(
        self,
        grid: BevGrid,
        cameras: Sequence[FeatureCamera],
        feature_shape: tuple[int, int],
        stride: float,
        *,
        offsets_m: NDArray[np.float64],
        votes: NDArray[np.float32],
        blockers: NDArray[np.float32],
        prior: Sequence[float],
        stitching: Stitching,
    ) -> None:
        self.grid = grid
        self.stitching = stitching
        self.map = RollingMap(grid, votes.shape[1])
        points = self.map.points[:, np.newaxis, :] + offsets_m
        self._view = ViewBuilder(points, cameras, feature_shape, stride, resolution_m=grid.resolution_m)
        self._votes = np.ascontiguousarray(np.column_stack((votes, blockers)), dtype=np.float32)
        clipped = np.clip(np.asarray(prior, dtype=np.float32), _SMALLEST, 1 - _SMALLEST)
        self.prior_logit = np.log(clipped / (1 - clipped)).astype(np.float32)
        self._samples = len(offsets_m)
        rows = len(points) * self._samples
        self._classes = np.empty((rows, votes.shape[0]), dtype=np.float32)
        self._mass = np.empty(rows, dtype=np.float32)
        self._weights = np.empty(0, dtype=np.float32)
        self._probability_mass = np.zeros((len(points), votes.shape[1]), dtype=np.float32)
        self._cell_mass = np.zeros(len(points), dtype=np.float32)
        self._gain = np.zeros(len(points), dtype=np.float32)
        self._news = 1.0

    @property
    def rebuilds(self) -> int:
        """How often the view transform had to be built."""
        return self._view.builds

    def warm(self) -> None:
        """Have the memory of the view transform ready."""
        self._view.warm([self.map.ego_from_window] * len(self._view.cameras))

    def take_over(self, before: GroundStitcher) -> None:
        """Go on with the map of another one, of the same grid and channels, which is not to be used any more.

        Where the cameras are the same the view transform is taken, too: then nothing shows that another one goes on.
        """
        self.map, self._news = before.map, before._news
        if self._view.cameras == before._view.cameras:
            self._view = before._view

    def reset(self) -> None:
        """Forget what was stitched."""
        self.map.reset()
        self._news = 1.0

    def move(self, before_from_now: Pose, elapsed_s: float) -> None:
        """Follow the ego and let old evidence fade."""
        self.map.move(before_from_now)
        self._news = min(1.0, elapsed_s / self.stitching.independent_after_s)
        self.map.values *= np.float32(0.5 ** (elapsed_s / self.stitching.half_life_s))

    def cast(self, evidence: ImageEvidence, num_threads: int = 1) -> Votes:
        """Carry the votes of one set onto the cells of the map."""
        ego_from_window = self.map.ego_from_window
        range_m, inside = self._range_m()
        within = inside & (range_m <= self.stitching.range_m)
        view = self._view.build(
            [fired @ ego_from_window for fired in evidence.fired_from_ego],
            evidence.active,
            point_active=within.astype(np.uint8),
            num_threads=num_threads,
        )
        weights = self._agreeing_weights(view, evidence.depth_m, num_threads)
        lift.lift_rows(view.indptr, view.indices, weights, evidence.probability, self._classes, num_threads=num_threads)
        cells = np.flatnonzero(within)
        self._gain[:] = 0
        nearness = np.minimum(1.0, self.stitching.full_evidence_m / np.maximum(range_m[cells], _SMALLEST))
        self._gain[cells] = self.stitching.gain * self._news * nearness
        classes = self._classes.reshape(len(within), self._samples, -1)[cells]
        votes = classes.transpose(1, 0, 2) @ self._votes
        mass = np.ascontiguousarray(self._mass.reshape(len(within), self._samples)[cells].T)
        return Votes(cells, votes[:, :, :-1], votes[:, :, -1], mass, view.seen_by)

    def stitch(
        self, cells: NDArray[np.int64], probability_mass: NDArray[np.float32], mass: NDArray[np.float32]
    ) -> None:
        """Add evidence to the map.

        Parameters
        ----------
        cells : int64 [n], rows of the map
        probability_mass : float32 [n, channels], probability times mass
        mass : float32 [n], 0..1
        """
        self._probability_mass[cells] = probability_mass
        self._cell_mass[:] = 0
        self._cell_mass[cells] = mass
        occupancy.update_log_odds(
            self.map.values,
            self.map.observed,
            self._probability_mass,
            self._cell_mass,
            self._gain,
            self.prior_logit,
            decay=1.0,
            limit=self.stitching.limit,
            min_mass=self.stitching.min_mass,
        )

    def read(self, seen_by: NDArray[np.uint64]) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint64]]:
        """Log-odds with the prior [channels, nx, ny], observed [nx, ny] and the cameras that see each cell [nx, ny]."""
        log_odds, observed = self.map.read()
        log_odds += self.prior_logit[:, np.newaxis, np.newaxis]
        log_odds[:, ~observed] = 0
        return log_odds, observed, seen_by[self.map.nearest_cells()]

    def _agreeing_weights(
        self, view: ViewTransform, depth_m: NDArray[np.float32] | None, num_threads: int
    ) -> NDArray[np.float32]:
        if depth_m is None:
            lift.row_mass(view.indptr, view.weights, self._mass)
            return view.weights
        if len(self._weights) < len(view.weights):
            self._weights = np.empty(len(view.weights) * 5 // 4, dtype=np.float32)
        weights = self._weights[: len(view.weights)]
        lift.depth_weights(
            view.indptr,
            view.indices,
            view.weights,
            view.depth_m,
            depth_m,
            self.stitching.depth_sigma_m,
            self.stitching.depth_sigma_relative,
            weights,
            self._mass,
            num_threads=num_threads,
        )
        return weights

    def _range_m(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Distance of each map cell from the ego, and which of them the ego grid needs (with a margin)."""
        points = self.map.points_ego()
        x, y = np.ascontiguousarray(points.T)
        grid, margin = self.grid, 2 * self.grid.resolution_m
        inside = (
            (x > grid.x_min_m - margin)
            & (x < grid.x_max_m + margin)
            & (y > grid.y_min_m - margin)
            & (y < grid.y_max_m + margin)
        )
        return np.hypot(x, y), inside


class RoadLayoutCastOut:
    """Road layout from image classes: see the module.

    Parameters
    ----------
    classes : names of the stitcher's channels
    thin : those of them that are thinner than a cell
    """

    def __init__(self, classes: Sequence[str], stitcher: GroundStitcher, thin: Collection[str] = ()) -> None:
        self.classes = tuple(classes)
        self.stitcher = stitcher
        self._thin = [number for number, name in enumerate(self.classes) if name in thin]

    def step(self, evidence: ImageEvidence, num_threads: int = 1) -> RoadLayout:
        """Stitch one set and read the map."""
        votes = self.stitcher.cast(evidence, num_threads)
        evident = np.maximum(votes.mass - votes.void, 0)
        mass = evident.mean(axis=0)
        probability_mass = votes.channels.mean(axis=0)
        certain = evident >= self.stitcher.stitching.min_mass
        for channel in self._thin:
            share = np.divide(votes.channels[:, :, channel], evident, out=np.zeros_like(evident), where=certain)
            probability_mass[:, channel] = np.minimum(share.max(axis=0), 1) * mass
        self.stitcher.stitch(votes.cells, probability_mass, mass)
        log_odds, observed, seen_by = self.stitcher.read(votes.seen_by)
        probability = _sigmoid(log_odds)
        probability[:, ~observed] = 0
        return RoadLayout(self.stitcher.grid, self.classes, probability, observed, seen_by)


class OccupancyCastOut:
    """Occupancy from image classes: see the module.

    The stitcher's first sample is the cell's centre on the ground, the others stand above it. A cell is free as far as
    its ground is seen not to be an obstacle, and occupied as far as an obstacle is seen at any of the samples.
    """

    def __init__(self, stitcher: GroundStitcher) -> None:
        self.stitcher = stitcher

    def step(self, evidence: ImageEvidence, num_threads: int = 1) -> OccupancyGrid:
        """Stitch one set and read the map."""
        votes = self.stitcher.cast(evidence, num_threads)
        occupied = votes.channels[:, :, 0].max(axis=0)
        free = votes.mass[0] - votes.channels[0, :, 0]
        mass = np.minimum(occupied + free, 1)
        share = occupied / np.maximum(occupied + free, _SMALLEST)
        self.stitcher.stitch(votes.cells, (share * mass)[:, np.newaxis], mass)
        log_odds, observed, seen_by = self.stitcher.read(votes.seen_by)
        return OccupancyGrid(self.stitcher.grid, log_odds[0], observed, seen_by, self.stitcher.stitching.half_life_s)


def spread_in_cell(per_side: int, resolution_m: float) -> NDArray[np.float64]:
    """Offsets of per_side x per_side points that share a cell evenly, float64 [samples, 3], metres."""
    steps = ((np.arange(per_side) + 0.5) / per_side - 0.5) * resolution_m
    x, y = np.meshgrid(steps, steps, indexing="ij")
    return np.column_stack((x.ravel(), y.ravel(), np.zeros(per_side**2)))


def above_centre(heights_m: Sequence[float]) -> NDArray[np.float64]:
    """Offsets of points above a cell's centre, float64 [samples, 3], metres."""
    return np.column_stack((np.zeros((len(heights_m), 2)), heights_m))


def class_votes(image_classes: Sequence[str], groups: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """Vote matrix [image classes, groups]: 1 where a class belongs to a group."""
    return np.array([[float(name in group) for group in groups] for name in image_classes], dtype=np.float32).reshape(
        len(image_classes), len(groups)
    )


def default_prior(prior: dict[str, float], classes: Sequence[str]) -> list[float]:
    """Prior probability per class; 0.1 where the manifest says none."""
    return [prior.get(name, _DEFAULT_PRIOR) for name in classes]


def _sigmoid(log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)), dtype=np.float32)
