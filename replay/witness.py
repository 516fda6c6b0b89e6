"""Finds invented outputs: predictions that say more than the frames that went in can have shown.

It knows what was submitted, and works out for itself, from the calibration and the poses, what ground each camera can
have seen. Nothing of the runtime's own book-keeping is believed.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..fusion.grid import BevGrid
from ..fusion.pose import Pose
from ..fusion.rig import Camera, Rig
from ..runtime.frames import Frame
from ..runtime.images import pixels_of
from ..runtime.predictions import CorridorDirection, OccupancyGrid, Predictions, RoadLayout
from ..runtime.topics.message import Message

HEIGHTS_M: Final = (0.0, 0.6, 1.5, 3.0)
"""Where above a cell a camera may see something of it."""

SLACK_CELLS: Final = 3
"""A camera fires before the instant of its set: the ego has moved by up to this many cells since."""

_BLOCK_M: Final = 1.0
_BLOCK_REACH: Final = 1
_KEPT: Final = 1024
_STATIC: Final = frozenset({"rig", "health"})


class Witness:
    """Knows what was submitted to one live runtime. Its methods may be called from several threads.

    What is called invented:

    - an output without any camera whose frame was used;
    - a camera that is said to be used at a time at which it gave no frame, or one that cannot be read;
    - an instant at which no frame was submitted, or a number that does not follow the one before;
    - a number that is not finite, or a probability outside of 0..1;
    - a cell seen by a camera that was not used, or that is out of its sight;
    - an observed cell that no camera that was used can have seen since the last reset;
    - a per-camera output of a camera that was not used.

    Parameters
    ----------
    rig : the cameras
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._lock = threading.Lock()
        self._readable: OrderedDict[tuple[str, int], bool] = OrderedDict()
        self._images: OrderedDict[bytes, bool] = OrderedDict()
        self._poses: OrderedDict[int, Pose] = OrderedDict()
        self._times: OrderedDict[int, None] = OrderedDict()
        self._sight: dict[BevGrid, NDArray[np.bool_]] = {}
        self._ground: NDArray[np.int64] = np.zeros(0, np.int64)
        self._sequence: int | None = None

    def submitted(self, frame: Frame) -> None:
        """A frame goes in. Of two at one time, one that can be read is enough."""
        key = frame.camera, frame.timestamp_ns
        readable = self._readable.get(key, False) or self._can_be_read(frame)
        with self._lock:
            _keep(self._readable, key, readable)
            _keep(self._times, frame.timestamp_ns, None)

    def posed(self, timestamp_ns: int, world_from_ego: Pose) -> None:
        """A pose goes in."""
        with self._lock:
            _keep(self._poses, timestamp_ns, world_from_ego)

    def inventions(self, predictions: Predictions) -> list[str]:
        """What predictions have invented; to be asked for each of one runtime, in their order."""
        used = predictions.camera_mask
        with self._lock:
            found = list(self._of_cameras(predictions))
            pose = self._poses.get(predictions.timestamp_ns)
        if self._sequence is not None and predictions.sequence != self._sequence + 1:
            found.append(f"number {predictions.sequence} after {self._sequence}")
        self._sequence = predictions.sequence
        if not used.any() and (predictions.bev or any(predictions.camera_outputs.values())):
            found.append("outputs without any camera")
        for topic, output in predictions.outputs():
            found += (f"{topic}: {what}" for what in _wrong_numbers(output.arrays()))
            if isinstance(output, (OccupancyGrid, RoadLayout, CorridorDirection)):
                found += (f"{topic}: {what}" for what in self._out_of_sight(output, predictions, pose))
        absent = {name for name, was_used in zip(predictions.cameras, used, strict=True) if not was_used}
        for name, by_camera in predictions.camera_outputs.items():
            found += (
                f"camera/{camera}/{name} of a camera that was not used" for camera in sorted(absent & set(by_camera))
            )
        self._remember(predictions, pose)
        return found

    def forgeries(self, message: Message) -> list[str]:
        """What a received message has invented."""
        if message.kind in _STATIC or not message.valid:
            return []
        found = [f"{message.topic}: {what}" for what in _wrong_numbers(message.arrays)]
        used = [camera for camera in message.header.cameras if camera.used]
        if not used:
            found.append(f"{message.topic}: valid without any camera")
        with self._lock:
            for camera in used:
                found += self._of_frame(camera.name, message.timestamp_ns - (camera.age_ns or 0))
            if message.timestamp_ns not in self._times:
                found.append(f"{message.topic}: no frame was submitted at its instant")
        return found

    def _can_be_read(self, frame: Frame) -> bool:
        """Whether an image can be decoded; those that come again and again are remembered by their hash."""
        lens = self._rig[frame.camera].intrinsics
        digest = hashlib.blake2b(frame.array.data, digest_size=16).digest() if frame.pixel_format.encoded else None
        if digest is None or digest not in self._images:
            try:
                pixels_of(frame, (lens.width, lens.height))
                readable = True
            except ImageError:
                readable = False
            if digest is None:
                return readable
            _keep(self._images, digest, readable)
        return self._images[digest]

    def _of_cameras(self, predictions: Predictions) -> Iterator[str]:
        taken = (predictions.timestamp_ns - predictions.camera_age_ns).tolist()
        for name, was_used, time_ns in zip(predictions.cameras, predictions.camera_mask, taken, strict=True):
            if was_used:
                yield from self._of_frame(name, time_ns)
        if predictions.camera_mask.any() and predictions.timestamp_ns not in self._times:
            yield "no frame was submitted at this instant"

    def _of_frame(self, camera: str, time_ns: int) -> list[str]:
        readable = self._readable.get((camera, time_ns))
        if readable is None:
            return [f"{camera} used at a time at which it gave no frame"]
        return [] if readable else [f"{camera} used although its frame cannot be read"]

    def _out_of_sight(self, output: Any, predictions: Predictions, pose: Pose | None) -> Iterator[str]:
        """Cells that are said to be seen or observed and cannot be."""
        sight = self._sight_on(output.grid)
        can_see = np.zeros(output.grid.shape, np.bool_)
        for index, name in enumerate(predictions.cameras):
            seen = (output.seen_by >> np.uint64(index)) & np.uint64(1) != 0
            mine = sight[self._rig.names.index(name)]
            if not predictions.camera_mask[index]:
                if seen.any():
                    yield f"{int(seen.sum())} cells seen by {name}, which was not used"
                continue
            can_see |= mine
            if (beyond := seen & ~mine).any():
                yield f"{int(beyond.sum())} cells seen by {name} that are out of its sight"
        unseen = output.observed & ~can_see
        if not predictions.state.carried or pose is None:
            if unseen.any():
                yield f"{int(unseen.sum())} cells observed that no camera sees, with nothing carried over"
        elif unseen.any():
            never = ~np.isin(_blocks(output.grid, pose)[unseen], self._ground)
            if never.any():
                yield f"{int(never.sum())} cells observed that no camera has seen since the last reset"

    def _remember(self, predictions: Predictions, pose: Pose | None) -> None:
        """Add the ground that the cameras that were used can have seen; after a reset it is all there is."""
        if not predictions.camera_mask.any() and not predictions.bev:
            return  # the runtime says that nothing came: what it carries on is as it was
        grids = [output.grid for output in predictions.bev.values()] or list(self._sight)[:1]
        if not predictions.state.carried:
            self._ground = np.zeros(0, np.int64)
        if pose is None or not grids or not predictions.camera_mask.any():
            return
        grid = grids[0]
        used = [predictions.cameras[index] for index in np.flatnonzero(predictions.camera_mask)]
        seen = self._sight_on(grid)[[self._rig.names.index(name) for name in used]].any(axis=0)
        blocks = np.unique(_blocks(grid, pose)[seen])
        near = [
            blocks + _key(i, j)
            for i in range(-_BLOCK_REACH, _BLOCK_REACH + 1)
            for j in range(-_BLOCK_REACH, _BLOCK_REACH + 1)
        ]
        self._ground = np.union1d(self._ground, np.concatenate(near))

    def _sight_on(self, grid: BevGrid) -> NDArray[np.bool_]:
        """Bool [cameras, nx, ny]: what each camera can see, generously."""
        if grid not in self._sight:
            self._sight[grid] = np.stack([_dilated(_sight(camera, grid), SLACK_CELLS) for camera in self._rig])
        return self._sight[grid]


def _wrong_numbers(arrays: Any) -> Iterator[str]:
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating):
            if not np.isfinite(array).all():
                yield f"{name} is not finite"
            elif name == "probability" and array.size and not (array.min() >= 0 and array.max() <= 1):
                yield f"{name} is outside of 0..1"


def _sight(camera: Camera, grid: BevGrid) -> NDArray[np.bool_]:
    centres = grid.centres()
    seen = np.zeros(grid.shape, np.bool_)
    for height_m in HEIGHTS_M:
        points = np.concatenate((centres, np.full((*grid.shape, 1), height_m)), axis=2)
        seen |= camera.intrinsics.project(camera.ego_from_camera.inverse().apply(points))[1]
    return seen


def _dilated(mask: NDArray[np.bool_], cells: int) -> NDArray[np.bool_]:
    for _ in range(cells):
        padded = np.pad(mask, 1)
        mask = mask | padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
    return mask


def _blocks(grid: BevGrid, world_from_ego: Pose) -> NDArray[np.int64]:
    """Number of the block of ground, a metre wide, that holds the centre of each cell."""
    centres = grid.centres()
    points = world_from_ego.apply(np.concatenate((centres, np.zeros((*grid.shape, 1))), axis=2))
    blocks = np.floor(points[..., :2] / _BLOCK_M).astype(np.int64)
    return np.asarray(_key(blocks[..., 0], blocks[..., 1]), dtype=np.int64)


def _key(i: Any, j: Any) -> Any:
    return i * (1 << 31) + j


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    while len(kept) > _KEPT:
        kept.popitem(last=False)
