"""Windows of consecutive frame sets, as the recurrent network is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DriveError, expected
from ..fusion.pose import Pose
from ..fusion.view import FeatureCamera, ViewTransform
from ..fusion.view_builder import ViewBuilder, grid_points
from .sequences import GRID, VISIBLE, Sequences, lens_numbers, lens_of
from .shelf import Shelf
from .template import FEATURE_STRIDE
from .tone import tone_curves

FRONT_CAMERAS: Final = 3
"""So many cameras count as those that look ahead, as in the reference rig."""

FRONT_ONLY: Final = 0.1
"""Share of windows that only the front cameras see."""

CAMERAS_MISSING: Final = 0.3
"""Share of windows that one to three cameras, drawn at random, are missing from."""

STATE_LOST: Final = 0.15
"""Share of windows, not the first of their stretch, that begin without what was remembered."""

NOISY_ODOMETRY: Final = 0.5
"""Share of windows whose ego-motion is a little wrong."""

ODOMETRY_SIGMA: Final = (0.03, 0.3)
"""Standard deviations of that error at most: share of the way, and degrees a set."""

EXACT: Final = 0.85
"""Share of stretches whose calibration is right: thin lines are learned from these, doubt from the others."""

_ACROSS_EGO: Final = np.diag([1.0, -1.0, 1.0, 1.0])
_ACROSS_IMAGE: Final = np.diag([-1.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class LiftPlan:
    """How features are lifted: the same words as in a manifest's lift, and the shape of a feature map."""

    heights_m: tuple[float, ...]
    border_px: float
    feature_shape: tuple[int, int]

    def builder(self, cameras: Sequence[FeatureCamera]) -> ViewBuilder:
        """Make what builds the matrices for a rig, as a runtime does."""
        return ViewBuilder(
            grid_points(GRID, self.heights_m),
            cameras,
            self.feature_shape,
            FEATURE_STRIDE,
            resolution_m=GRID.resolution_m,
            border_px=self.border_px,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """T consecutive sets of one stretch.

    images : uint8 [T, N, height, width, 3], RGB
    labels, depth_m, objects : as in :class:`~octobev.models.sequences.Sequences`, [T, N, ...]
    active : bool [T, N], cameras that take part in each set
    views : the view transform of each set
    motions : for each set `ego_before_from_ego_now`; None where nothing is remembered
    layers : uint8 [T, 7, nx, ny], see :class:`~octobev.models.sequences.Sequences`; visible are only
        cells that a camera which takes part sees
    direction_rad : float32 [T, nx, ny], NaN where there is no corridor
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth_m: NDArray[np.float16]
    objects: NDArray[np.float32]
    active: NDArray[np.bool_]
    views: list[ViewTransform]
    motions: list[Pose | None]
    layers: NDArray[np.uint8]
    direction_rad: NDArray[np.float32]

    @property
    def labelled(self) -> bool:
        """Whether it is known what is in the images."""
        return self.labels.size > 0


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Single views, each of another place: n images with their truth, arrays as in a window, [n, ...]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth_m: NDArray[np.float16]
    objects: NDArray[np.float32]


def cut_window(
    sequences: Sequences, stretch: int, first: int, sets: int, lift: LiftPlan, active: NDArray[np.bool_] | None = None
) -> Window:
    """Cut consecutive sets out of a stretch and build their matrices.

    Parameters
    ----------
    first, sets : the window; the first set of a stretch remembers nothing
    active : bool [N] or [T, N], cameras that take part; None: all. A camera without an image never does
    """
    part = slice(first, first + sets)
    taken = sequences.taken[stretch, part]
    active = taken if active is None else taken & active
    builder = lift.builder(sequences.cameras(stretch))
    poses = [Pose(matrix) for matrix in sequences.world_from_ego[stretch]]
    views, motions = [], []
    layers = sequences.layers[stretch, first : first + sets].copy()
    for index in range(first, first + sets):
        in_set = active[index - first]
        fired = [
            Pose(matrix) if takes_part else poses[index]
            for matrix, takes_part in zip(sequences.world_from_fired[stretch, index], in_set, strict=True)
        ]
        view = builder.build([there.inverse() @ poses[index] for there in fired], in_set)
        views.append(view)
        motions.append(poses[index - 1].inverse() @ poses[index] if index else None)
        layers[index - first, VISIBLE] &= (view.seen_by != 0).reshape(GRID.shape)
    return Window(
        sequences.images[stretch, part],
        sequences.labels[stretch, part],
        sequences.depth_m[stretch, part],
        sequences.objects[stretch, part],
        active,
        views,
        motions,
        layers,
        sequences.direction_rad[stretch, part].astype(np.float32),
    )


def mirrored(sequences: Sequences, stretch: int) -> Sequences:
    """Return one stretch seen in a mirror: left is right, in the images, the calibration, the motion and the truth."""
    part = slice(stretch, stretch + 1)
    lenses = np.stack([lens_numbers(lens_of(numbers).mirrored()) for numbers in sequences.lenses[stretch]])
    return Sequences(
        sequences.images[part, :, :, :, ::-1],
        sequences.labels[part, ..., ::-1],
        sequences.depth_m[part, ..., ::-1],
        _mirrored_boxes(sequences.objects[part], sequences.images.shape[4]),
        sequences.layers[part, ..., ::-1],
        -sequences.direction_rad[part, ..., ::-1],
        lenses[np.newaxis],
        _ACROSS_EGO @ sequences.ego_from_camera[part] @ _ACROSS_IMAGE,
        _ACROSS_EGO @ sequences.world_from_ego[part] @ _ACROSS_EGO,
        _ACROSS_EGO @ sequences.world_from_fired[part] @ _ACROSS_EGO,
        _ACROSS_EGO @ sequences.true_mountings[part] @ _ACROSS_IMAGE,
        _ACROSS_EGO @ sequences.true_fired[part] @ _ACROSS_EGO,
    )


@dataclass(frozen=True, slots=True)
class Source:
    """Where stretches come from.

    shelf : their files
    share : how much of all stretches comes from there; counts relatively
    labelled : whether it is known what is in the images
    """

    shelf: Shelf[Sequences]
    share: float = 1.0
    labelled: bool = True


class WindowSampler:
    """Draws for each lane of a batch one window after another of a stretch, then of the next stretch; and single views.

    Which ones is a function of seed and step alone. Lanes stand at different places of their stretches. The sets of a
    window are much alike, so the heads of the images are trained on views from everywhere.

    Parameters
    ----------
    sources : where stretches come from
    lift : how features are lifted
    seed : of the random draws
    lanes : windows per step
    sets : frame sets of a window
    windows : windows of a stretch
    """

    def __init__(
        self,
        sources: Sequence[Source],
        lift: LiftPlan,
        *,
        seed: int,
        lanes: int,
        sets: int,
        windows: int,
    ) -> None:
        if min(lanes, sets, windows) < 1:
            raise DriveError(expected("lanes, sets and windows", "at least 1", (lanes, sets, windows)))
        shares = [source.share for source in sources]
        if not shares or min(shares) < 0 or not 0 < sum(shares) < np.inf:
            raise DriveError(expected("shares of sources", "not negative and one above 0", shares))
        self.sources = tuple(sources)
        self._ends = np.cumsum(shares) / sum(shares)
        self.lift, self.seed, self.lanes, self.sets, self.windows = lift, seed, lanes, sets, windows

    def draw(self, step: int) -> list[Window]:
        """Draw the windows of a step, one a lane."""
        return [self._draw(step, lane) for lane in range(self.lanes)]

    def draw_views(self, step: int, count: int) -> Views | None:
        """Draw the single views of a step; there are none when no source is labelled."""
        shelf = next((source.shelf for source in self.sources if source.labelled), None)
        if shelf is None:
            return None
        random = np.random.default_rng((self.seed, step, 5))
        files = list(dict.fromkeys(shelf.in_use(step)))
        return _stacked([_view(shelf.open(files[int(random.integers(len(files)))]), random) for _ in range(count)])

    def _draw(self, step: int, lane: int) -> Window:
        place = step + lane * self.windows // self.lanes
        number, index = divmod(place, self.windows)
        shelf = self._source(lane, number).shelf
        random = np.random.default_rng((self.seed, lane, number, 3))
        files = list(dict.fromkeys(shelf.in_use(max(step - index, 0))))
        sequences = shelf.open(files[int(random.integers(len(files)))])
        stretch = int(random.integers(len(sequences)))
        if sequences.sets < self.sets * self.windows:
            needed = self.sets * self.windows
            raise DriveError(expected("sets of a stretch", f"at least {needed}", sequences.sets))
        if random.random() < 0.5:
            sequences, stretch = mirrored(sequences, stretch), 0
        if random.random() < EXACT:
            sequences = sequences.exact()
        random = np.random.default_rng((self.seed, lane, number, index, 4))
        active = _active(sequences, stretch, slice(index * self.sets, (index + 1) * self.sets), random)
        window = cut_window(sequences, stretch, index * self.sets, self.sets, self.lift, active)
        if index and random.random() < STATE_LOST:
            window.motions[0] = None
        elif random.random() < NOISY_ODOMETRY:
            window.motions[:] = [_disturbed(motion, random) for motion in window.motions]
        return replace(window, images=_toned(window.images, random))

    def _source(self, lane: int, number: int) -> Source:
        """Where a lane's stretch of that number comes from."""
        if len(self.sources) == 1:
            return self.sources[0]
        chance = np.random.default_rng((self.seed, lane, number, 6)).random()
        return self.sources[int(np.searchsorted(self._ends, chance, side="right"))]


def _mirrored_boxes(objects: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Boxes [..., 5] in the mirrored image."""
    boxes = objects.copy()
    boxes[..., [1, 3]] = width - 1.0 - objects[..., [3, 1]]
    return boxes


def _view(sequences: Sequences, random: np.random.Generator) -> Views:
    """Draw one view of a town, half of them mirrored, with a tone of its own."""
    place = tuple(int(random.integers(size)) for size in sequences.images.shape[:3])
    objects = sequences.objects[place]
    step = 1
    if random.random() < 0.5:
        step, objects = -1, _mirrored_boxes(objects, sequences.images.shape[4])
    image = cv2.LUT(np.ascontiguousarray(sequences.images[place][:, ::step]), tone_curves(random))
    labels, depth_m = sequences.labels[place][:, ::step], sequences.depth_m[place][:, ::step]
    return Views(np.asarray(image, np.uint8), labels, depth_m, objects)


def _stacked(views: list[Views]) -> Views:
    return Views(*(np.stack([getattr(view, name) for view in views]) for name in Views.__slots__))


def _active(sequences: Sequences, stretch: int, part: slice, random: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the cameras that take part, bool [T, N]: in every set at least one that has an image."""
    active = np.ones(sequences.images.shape[2], dtype=np.bool_)
    chance = random.random()
    if chance < FRONT_ONLY:
        ahead = sequences.ego_from_camera[stretch, :, 0, 2]  # of the optical axes along the ego's x axis
        active[np.argsort(-ahead, kind="stable")[FRONT_CAMERAS:]] = False
    elif chance < FRONT_ONLY + CAMERAS_MISSING:
        missing = int(random.integers(1, 4))
        active[random.permutation(len(active))[: min(missing, len(active) - 1)]] = False
    taken = sequences.taken[stretch, part]
    drawn = taken & active
    return np.where(drawn.any(axis=1, keepdims=True), drawn, taken)


def _disturbed(motion: Pose | None, random: np.random.Generator) -> Pose | None:
    """Make a motion a little too long or too short, and turn it a little."""
    if motion is None:
        return None
    share, turn_deg = random.normal(0.0, ODOMETRY_SIGMA)
    x, y = (1.0 + share) * motion.matrix[:2, 3]
    return Pose.planar(float(x), float(y), motion.yaw_rad + float(np.radians(turn_deg)))


def _toned(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Copy with exposure, gamma and white balance of each camera changed, the same in all sets."""
    changed = np.empty(images.shape, dtype=np.uint8)
    for camera in range(images.shape[1]):
        table = tone_curves(random)
        for index in range(len(images)):
            cv2.LUT(np.ascontiguousarray(images[index, camera]), table, dst=changed[index, camera])
    return changed
