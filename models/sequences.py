"""Training sequences: stretches of a drive through a synthetic town, seen by a whole rig, with the truth on the ground.

A camera's true mounting differs a little from the calibration that goes with it, and the body rolls and pitches
unknown to the calibration: a network that trusts every pixel to be where the calibration says would not last long.
"""

from __future__ import annotations

import multiprocessing
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DriveError
from ..fusion.grid import BevGrid
from ..fusion.lens import Intrinsics, LensModel
from ..fusion.pose import Pose
from ..fusion.rig import Camera, Rig
from ..fusion.view import FeatureCamera
from ..fusion.whole_file import whole_file
from .mountings import jittered_rig, network_intrinsics, rotation, training_rig
from .shelf import town_path

if TYPE_CHECKING:
    from ..replay.backdrop import Rays
    from ..replay.render import Renderer, View
    from ..replay.world import World

GRID: Final = BevGrid(-24.0, 40.0, -24.0, 24.0, 0.5)
"""The grid of the reference bundle."""

LAYERS: Final = ("drivable", "lane_divider", "road_edge", "crosswalk", "intersection", "occupancy")
VISIBLE: Final = len(LAYERS)
"""Plane of the truth that says which cells some camera sees."""

SEQUENCES_PER_TOWN: Final = 3
SETS_PER_SEQUENCE: Final = 16
RATES_HZ: Final = (2.0, 12.0)
FINER: Final = 2
"""Views are drawn so many times finer than the network's input."""

UNKNOWN_MOUNTING_DEG: Final = 0.15
"""Standard deviation of what the calibration does not know of each camera's angles."""

DRIVE_SECONDS: Final = 60.0
DEPTH_STRIDE: Final = 2
"""Image pixels per stored depth."""

SKY_M: Final = 80.0
MOST_OBJECTS: Final = 24
"""Boxes kept of one view, the largest."""

BODY_DEG: Final = (0.2, 0.35)
"""Standard deviation of the body's roll and pitch, which no matrix knows either."""

LENSES_KEPT: Final = 48
"""Lenses whose rays are kept from town to town, 3 MB each."""

_STAGGER_NS: Final = 5_000_000
_LENS_NUMBERS: Final = 15


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Stretches of one town: S stretches of T frame sets of N cameras, all of one size.

    images : uint8 [S, T, N, height, width, 3], RGB, as the per-camera network takes them
    labels : uint8 [S, T, N, height, width], numbers of :data:`octobev.replay.render.CLASSES`; no pixels where nobody
        knows what is in the images ([S, T, N, 0, 0]: recorded drives), and then no depths and no objects either
    depth_m : float16 [S, T, N, height / 2, width / 2], metres along the optical axis; the sky is as far as depths go
    objects : float32 [S, T, N, 24, 5], kind, x_min, y_min, x_max, y_max in pixels, see
        :func:`octobev.replay.objects.visible_boxes`; kind 0 where there are no more
    layers : uint8 [S, T, 7, nx, ny], 1 where the class of :data:`LAYERS` is, 255 where nobody knows, last
        the visible cells, 0 or 1
    direction_rad : float16 [S, T, nx, ny], of the corridor, -pi/2 .. pi/2 in the ego frame; NaN where there is none
    lenses : float64 [S, N, 15], see :func:`lens_numbers`, of the network's input
    ego_from_camera : float64 [S, N, 4, 4], mounting as the calibration has it
    world_from_ego : float64 [S, T, 4, 4], at the instant of the set
    world_from_fired : float64 [S, T, N, 4, 4], where the ego was when each camera fired; NaN where it has no image
    true_mountings : float64 [S, N, 4, 4], mountings as they are; of recorded drives nobody knows better
    true_fired : float64 [S, T, N, 4, 4], as `world_from_fired`, with the body's roll and pitch
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth_m: NDArray[np.float16]
    objects: NDArray[np.float32]
    layers: NDArray[np.uint8]
    direction_rad: NDArray[np.float16]
    lenses: NDArray[np.float64]
    ego_from_camera: NDArray[np.float64]
    world_from_ego: NDArray[np.float64]
    world_from_fired: NDArray[np.float64]
    true_mountings: NDArray[np.float64]
    true_fired: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sets(self) -> int:
        """Frame sets of each stretch."""
        return int(self.images.shape[1])

    @property
    def taken(self) -> NDArray[np.bool_]:
        """Which cameras have an image in which set, bool [S, T, N]."""
        return np.isfinite(self.world_from_fired[..., 0, 0])

    def exact(self) -> Sequences:
        """The same stretches with a calibration that knows every error of it."""
        return replace(self, ego_from_camera=self.true_mountings, world_from_fired=self.true_fired)

    def cameras(self, index: int) -> list[FeatureCamera]:
        """Cameras of a stretch as the network sees them."""
        return [
            FeatureCamera(lens_of(numbers), Pose(mounting))
            for numbers, mounting in zip(self.lenses[index], self.ego_from_camera[index], strict=True)
        ]


def write_sequences(sequences: Sequences, path: Path) -> None:
    """Write atomically, so that a reader never sees half a file."""
    with whole_file(path) as part, open(part, "wb") as file:
        np.savez(file, **{field.name: getattr(sequences, field.name) for field in fields(Sequences)})


def read_sequences(path: Path) -> Sequences:
    """Read what :func:`write_sequences` wrote.

    Raises
    ------
    DriveError
        Not a file of training sequences.
    """
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            return Sequences(**{field.name: arrays[field.name] for field in fields(Sequences)})
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DriveError(f"{path}: not a file of training sequences: {error}") from error


def lens_numbers(lens: Intrinsics) -> NDArray[np.float64]:
    """Width, height, code of the model, fx, fy, cx, cy and up to 8 coefficients (then NaN), float64 [15]."""
    numbers = np.full(_LENS_NUMBERS, np.nan)
    numbers[:7] = lens.width, lens.height, lens.model.code, lens.fx, lens.fy, lens.cx, lens.cy
    numbers[7 : 7 + len(lens.coefficients)] = lens.coefficients
    return numbers


def lens_of(numbers: NDArray[np.float64]) -> Intrinsics:
    """Undo :func:`lens_numbers`."""
    width, height, code = (int(number) for number in numbers[:3])
    model = next(model for model in LensModel if model.code == code)
    fx, fy, cx, cy = (float(number) for number in numbers[3:7])
    coefficients = tuple(float(number) for number in numbers[7:] if not np.isnan(number))
    return Intrinsics(width, height, fx, fy, cx, cy, model, coefficients)


def draw_sequences(
    seed: int,
    width: int,
    height: int,
    *,
    rigs: Sequence[Rig] = (),
    count: int = SEQUENCES_PER_TOWN,
    sets: int = SETS_PER_SEQUENCE,
    rays: dict[Intrinsics, Rays] | None = None,
) -> Sequences:
    """Draw stretches of a drive through a town, each by a rig mounted a little differently.

    Parameters
    ----------
    width, height : of the network's input
    rigs : one of them, by the seed, drives through the town; none: see :func:`.mountings.training_rig`
    rays : of the lenses so far, kept from town to town; added to
    """
    from ..replay.render import Renderer
    from ..replay.world import World

    random = np.random.default_rng((seed, 11))
    world = World(seed, DRIVE_SECONDS)
    renderer = Renderer(world, rays=rays)
    town_rig = rigs[seed % len(rigs)] if rigs else training_rig(seed, random)
    stretches = []
    for index in range(count):
        rate_hz = float(np.exp(random.uniform(*np.log(RATES_HZ))))
        free_s = (DRIVE_SECONDS - 1.0 - sets / rate_hz) / count
        start_s = 0.5 + (index + random.random()) * max(free_s, 0.0)
        rig = jittered_rig(town_rig, random)
        stretches.append(_draw_stretch(world, renderer, rig, start_s, rate_hz, sets, (width, height), random))
    return Sequences(*(np.stack(arrays) for arrays in zip(*stretches, strict=True)))


def _draw_stretch(
    world: World,
    renderer: Renderer,
    rig: Rig,
    start_s: float,
    rate_hz: float,
    sets: int,
    size: tuple[int, int],
    random: np.random.Generator,
) -> tuple[NDArray[np.generic], ...]:
    """Arrays of one stretch, in the order of the fields of :class:`Sequences`, without the first axis."""
    from ..replay.rigs import displaced
    from ..replay.world import START_NS

    lenses = [network_intrinsics(camera.intrinsics, *size) for camera in rig]
    true_cameras = [
        Camera(
            camera.name,
            network_intrinsics(camera.intrinsics, FINER * size[0], FINER * size[1]),
            camera.ego_from_camera,
        )
        for camera in displaced(rig, UNKNOWN_MOUNTING_DEG, 0.0, random)
    ]
    fired_ns = random.integers(-_STAGGER_NS * len(rig), 1, len(rig))
    drawn, poses, fired, true_fired = [], [], [], []
    for index in range(sets):
        moment = START_NS + round(1e9 * (start_s + index / rate_hz))
        body = rotation(np.radians([*random.normal(0.0, BODY_DEG), 0.0]))
        drawn.append(_draw_set(world, renderer, true_cameras, moment, fired_ns, body, size))
        poses.append(world.ego_pose(moment).matrix)
        fired.append([world.ego_pose(moment + int(offset)).matrix for offset in fired_ns])
        true_fired.append([matrix @ body.matrix for matrix in fired[-1]])
    return (
        *(np.stack(arrays) for arrays in zip(*drawn, strict=True)),
        np.stack([lens_numbers(lens) for lens in lenses]),
        np.stack([camera.ego_from_camera.matrix for camera in rig]),
        np.stack(poses),
        np.array(fired),
        np.stack([camera.ego_from_camera.matrix for camera in true_cameras]),
        np.array(true_fired),
    )


def _draw_set(
    world: World,
    renderer: Renderer,
    cameras: list[Camera],
    moment_ns: int,
    fired_ns: NDArray[np.int64],
    body: Pose,
    size: tuple[int, int],
) -> tuple[NDArray[np.generic], ...]:
    """Images, labels, depths, objects, layers and directions of one set, as in :class:`Sequences`."""
    from ..replay.sight import visible_from
    from ..replay.synthetic import BODY_M

    pose = world.ego_pose(moment_ns)
    truth, things = world.truth(GRID, pose, moment_ns)
    heights = np.where(things > 0, BODY_M, 0.0)
    points = pose.apply(np.concatenate((GRID.centres(), heights[..., None]), axis=2))
    visible = np.zeros(GRID.shape, np.bool_)
    views = []
    for camera, offset in zip(cameras, fired_ns, strict=True):
        at = moment_ns + int(offset)
        world_from_body = world.ego_pose(at) @ body
        view = renderer.render(camera, world_from_body, at, labels=True)
        if view.sight is not None:
            unseen = ~visible
            visible[unseen] = visible_from(camera, world_from_body, view.sight, points[unseen], things[unseen])
        views.append(_network_view(view, world.kinds, size))
    layers = np.stack([*(truth[name] for name in LAYERS), visible.astype(np.uint8)])
    images = (np.stack(arrays) for arrays in zip(*views, strict=True))
    return *images, layers, truth["direction_rad"].astype(np.float16)


def _network_view(view: View, kinds: NDArray[np.uint8], size: tuple[int, int]) -> tuple[NDArray[np.generic], ...]:
    """Image, labels, depths and objects of a view that was drawn :data:`FINER` times finer."""
    from ..replay.objects import visible_boxes

    if view.classes is None or view.depth is None or view.things is None:
        raise DriveError("rendered view must have labels, got none")
    coarse = np.s_[::FINER, ::FINER]
    image = cv2.resize(view.image, size, interpolation=cv2.INTER_AREA)[:, :, ::-1]
    boxes = visible_boxes(view.things[coarse], kinds)
    order = np.argsort(-np.prod(boxes[:, 3:] - boxes[:, 1:3], axis=1), kind="stable")[:MOST_OBJECTS]
    objects = np.zeros((MOST_OBJECTS, 5), np.float32)
    objects[: len(order)] = boxes[order]
    return image, view.classes[coarse], coarse_depth(view.depth[coarse]), objects


def coarse_depth(depth_m: NDArray[np.float32]) -> NDArray[np.float16]:
    """Geometric mean of each block's depths, [h, w] -> [h / 2, w / 2]; the sky is as far as depths go."""
    height, width = depth_m.shape
    logs = np.log(np.clip(depth_m, 0.1, SKY_M))
    blocks = logs.reshape(height // DEPTH_STRIDE, DEPTH_STRIDE, width // DEPTH_STRIDE, DEPTH_STRIDE)
    coarse: NDArray[np.float16] = np.exp(blocks.mean(axis=(1, 3))).astype(np.float16)
    return coarse


def draw_towns(folder: Path, towns: list[int], width: int, height: int, rigs: Sequence[Rig] = ()) -> None:
    """Draw towns into a folder, one after another, for as long as the process that asked for them lives."""
    cv2.setNumThreads(1)
    rays: dict[Intrinsics, Rays] = {}
    parent = multiprocessing.parent_process()
    for town in towns:
        if parent is not None and not parent.is_alive():
            return
        write_sequences(draw_sequences(town, width, height, rigs=rigs, rays=rays), town_path(folder, town))
        while len(rays) > LENSES_KEPT:
            del rays[next(iter(rays))]
