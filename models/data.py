"""Training views: synthetic towns, seen as the runtime will see a camera's JPEG.

Views are drawn finer than the network's input and averaged down. Drawn at the network's size they would be sharper and
more jagged than anything that it meets later.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DriveError
from ..fusion.lens import Intrinsics
from ..fusion.pose import Pose
from ..fusion.rig import Camera
from .mountings import free_rig, jittered_rig, network_intrinsics, rotation
from .shards import DEPTH_STRIDE, Shard, shard_path, write_shard

if TYPE_CHECKING:
    from ..replay.backdrop import Rays
    from ..replay.render import Renderer

POSES_PER_TOWN = 16
FREE_POSES = 2
"""So many of a town's poses are seen by cameras of other lenses and mountings than the reference rig's."""

JPEG_EVERY = 6
"""Every so many poses go through a JPEG of the camera's full size, decoded at a quarter, as in the runtime."""

FINER = 2
"""The other views are drawn so many times finer than the network's input."""

DRIVE_SECONDS = 60.0
BODY_SIGMA_DEG = (0.5, 0.5, 4.0)
"""Roll and pitch of the body, and how far it does not point along its lane."""

ASIDE_SIGMA_M = 0.5
SKY_M = 80.0


def draw_town(
    seed: int, width: int, height: int, poses: int = POSES_PER_TOWN, rays: dict[Intrinsics, Rays] | None = None
) -> Shard:
    """Draw the training views of a town: poses along a drive, each seen by every camera of the moment's rig.

    Parameters
    ----------
    rays : of the lenses so far, kept from town to town; added to
    """
    from ..replay.render import Renderer
    from ..replay.rigs import reference_rig
    from ..replay.world import START_NS, World

    random = np.random.default_rng((seed, 7))
    world = World(seed, DRIVE_SECONDS)
    renderer = Renderer(world, rays=rays)
    town_rig = jittered_rig(reference_rig(), random)
    views = []
    for index in range(poses):
        moment = START_NS + round(1e9 * DRIVE_SECONDS * (index + random.random()) / poses)
        body = rotation(np.radians(random.normal(0.0, BODY_SIGMA_DEG)))
        aside = Pose.planar(0.0, float(random.normal(0.0, ASIDE_SIGMA_M)), 0.0)
        world_from_ego = world.ego_pose(moment) @ aside @ body
        rig = free_rig(len(town_rig), random) if index < FREE_POSES else town_rig
        for camera in rig:
            jpeg = index >= FREE_POSES and index % JPEG_EVERY == 0
            image = draw_image(renderer, camera, world_from_ego, moment, (width, height), jpeg)
            views.append((image, *draw_labels(renderer, camera, world_from_ego, moment, (width, height))))
    order = random.permutation(len(views))
    return Shard(
        np.stack([image for image, _, _ in views])[order],
        np.stack([labels for _, labels, _ in views])[order],
        np.stack([depth for _, _, depth in views])[order],
    )


def draw_image(
    renderer: Renderer, camera: Camera, world_from_ego: Pose, moment_ns: int, size: tuple[int, int], jpeg: bool
) -> NDArray[np.uint8]:
    """Draw what the network gets of a camera, uint8 [height, width, 3] RGB."""
    width, height = size
    if jpeg:
        full = renderer.render(camera, world_from_ego, moment_ns).image
        encoded = cv2.imencode(".jpg", full, (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
        image = cut_middle(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_REDUCED_COLOR_4), np.uint8), width / height)
    else:
        lens = network_intrinsics(camera.intrinsics, FINER * width, FINER * height)
        image = renderer.render(Camera(camera.name, lens, camera.ego_from_camera), world_from_ego, moment_ns).image
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small[:, :, ::-1], dtype=np.uint8)


def draw_labels(
    renderer: Renderer, camera: Camera, world_from_ego: Pose, moment_ns: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Draw the truth of a camera's view: class numbers uint8 [h, w]; depths float16 [h / 2, w / 2], metres."""
    lens = network_intrinsics(camera.intrinsics, *size)
    view = renderer.render(Camera(camera.name, lens, camera.ego_from_camera), world_from_ego, moment_ns, labels=True)
    if view.classes is None or view.depth is None:
        raise DriveError("rendered view must have labels, got none")
    return view.classes, coarse_depth(view.depth)


def cut_middle(image: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """Middle of an image with width / height = aspect, to whole pixels."""
    height, width = image.shape[:2]
    tall, wide = min(height, round(width / aspect)), min(width, round(height * aspect))
    top, left = (height - tall) // 2, (width - wide) // 2
    return image[top : top + tall, left : left + wide]


def coarse_depth(depth_m: NDArray[np.float32]) -> NDArray[np.float16]:
    """Geometric mean of each block's depths, [h, w] -> [h / 2, w / 2]; the sky is as far as depths go."""
    height, width = depth_m.shape
    logs = np.log(np.clip(depth_m, 0.1, SKY_M))
    blocks = logs.reshape(height // DEPTH_STRIDE, DEPTH_STRIDE, width // DEPTH_STRIDE, DEPTH_STRIDE)
    coarse: NDArray[np.float16] = np.exp(blocks.mean(axis=(1, 3))).astype(np.float16)
    return coarse


class TownWorkers:
    """Processes that draw towns into a folder, in order; towns that are there already are kept.

    Parameters
    ----------
    folder : made if it is not there
    towns : seeds
    width, height : of the views
    processes : how many
    draw : draws some of the towns, called in the process as `draw(folder, towns, width, height)`; None:
        :func:`draw_towns`
    """

    def __init__(
        self,
        folder: Path,
        towns: list[int],
        width: int,
        height: int,
        processes: int = 1,
        draw: Callable[[Path, list[int], int, int], None] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [town for town in towns if not shard_path(folder, town).is_file()]
        context = multiprocessing.get_context("spawn")
        self._processes: list[BaseProcess] = [
            context.Process(
                target=draw or draw_towns, args=(folder, missing[index::processes], width, height), daemon=True
            )
            for index in range(processes)
            if missing[index::processes]
        ]

    def __enter__(self) -> TownWorkers:
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def wait(self) -> None:
        """Wait a little for the next town.

        Raises
        ------
        DriveError
            A worker died, or all have ended and there is nothing to wait for.
        """
        if failed := [process.exitcode for process in self._processes if process.exitcode]:
            raise DriveError(f"process that draws towns ended with exit code {failed[0]}; its message is above")
        if all(process.exitcode is not None for process in self._processes):
            raise DriveError("all towns are drawn, but a file of training frames is missing; was it deleted?")
        time.sleep(0.1)


def draw_towns(folder: Path, towns: list[int], width: int, height: int) -> None:
    """Draw towns into a folder, one after another, for as long as the process that asked for them lives."""
    cv2.setNumThreads(1)
    rays: dict[Intrinsics, Rays] = {}
    parent = multiprocessing.parent_process()
    for town in towns:
        if parent is not None and not parent.is_alive():
            return
        write_shard(draw_town(town, width, height, rays=rays), shard_path(folder, town))
