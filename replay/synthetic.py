"""Synthetic drives: a car with cameras in a procedural town, with exact ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected
from ..fusion.grid import BevGrid
from ..fusion.pose import Pose
from ..fusion.rig import Camera, Rig
from ..runtime.frames import Frame, FrameSet, PixelFormat
from .drive import Drive, DriveStep, GroundTruth, Losses
from .render import Renderer, View
from .rigs import reference_rig
from .sight import visible_from
from .world import START_NS, World

BODY_M: Final = 0.6
"""Height at which a thing is looked for: under cars and trucks one sees the street."""

DEFAULT_GRID: Final = BevGrid(-24.0, 40.0, -24.0, 24.0, 0.5)


class SyntheticDrive(Drive):
    """A drive through a procedural town. Equal arguments give equal drives.

    Parameters
    ----------
    seed : the town, its day and its traffic
    seconds : length; there are `floor(seconds * rate_hz)` steps
    rate_hz : frame sets per second
    size : width and height of the frames in pixels, to which the rig's images are stretched; None for the rig's own
    rig : cameras with their true mountings and lenses, None for :func:`reference_rig`
    encode : "jpeg" for encoded frames, None for bgr8 arrays
    jpeg_quality : 1 to 100
    grid : where ground truth is given
    stagger_ns : time from one camera's firing to the next one's, in the rig's order
    mount_jitter_deg : standard deviation of random turns of every camera's true mounting about its three axes, degrees;
        `rig` keeps the nominal mountings, as a calibration with such errors would; `true_cameras` has the true ones
    """

    def __init__(
        self,
        seed: int,
        seconds: float,
        rate_hz: float = 12.0,
        size: tuple[int, int] | None = None,
        rig: Rig | None = None,
        encode: Literal["jpeg"] | None = "jpeg",
        jpeg_quality: int = 90,
        grid: BevGrid = DEFAULT_GRID,
        stagger_ns: int = 4_000_000,
        mount_jitter_deg: float = 0.0,
    ) -> None:
        _check("seed", seed >= 0, "not negative", seed)
        _check("seconds", 0 < seconds <= 3600, "more than 0 and at most 3600", seconds)
        _check("rate_hz", 0 < rate_hz <= 200, "more than 0 and at most 200", rate_hz)
        _check("encode", encode in ("jpeg", None), "'jpeg' or None", encode)
        _check("jpeg_quality", 1 <= jpeg_quality <= 100, "from 1 to 100", jpeg_quality)
        _check("stagger_ns", stagger_ns >= 0, "not negative", stagger_ns)
        self.name = f"synthetic-{seed}"
        self.rig = _resized(rig if rig is not None else reference_rig(), size)
        self.losses = Losses()
        self.seed = seed
        self._rate_hz = rate_hz
        self._count = int(seconds * rate_hz + 1e-9)
        self._encode = encode
        self._quality = jpeg_quality
        self._grid = grid
        self._stagger_ns = stagger_ns
        self._seconds = seconds
        self.true_cameras = _jittered(self.rig, mount_jitter_deg, seed)
        self._world: World | None = None
        self._renderer: Renderer | None = None

    @property
    def length_hint(self) -> int | None:
        """The number of steps."""
        return self._count

    @property
    def world(self) -> World:
        """The town, made when first asked for."""
        if self._world is None:
            self._world = World(self.seed, self._seconds + 1.0)
        return self._world

    def world_from_ego(self, timestamp_ns: int) -> Pose:
        """Where the ego is at a time."""
        return self.world.ego_pose(timestamp_ns)

    def steps(self, *, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[DriveStep]:
        """Iterate over the steps, see :meth:`Drive.steps`."""
        for timestamp_ns in self._times_ns(start_s, duration_s):
            yield self._step(timestamp_ns, labels=False)[0]

    def labelled_steps(
        self, *, start_s: float = 0.0, duration_s: float | None = None
    ) -> Iterator[tuple[DriveStep, dict[str, View]]]:
        """Iterate over the steps, with every camera's labelled view by name."""
        for timestamp_ns in self._times_ns(start_s, duration_s):
            yield self._step(timestamp_ns, labels=True)

    def _times_ns(self, start_s: float, duration_s: float | None) -> Iterator[int]:
        """When the first camera of each set fires."""
        end_s = np.inf if duration_s is None else start_s + duration_s
        for index in range(self._count):
            if start_s <= index / self._rate_hz + 1e-9 < end_s:
                yield START_NS + round(index * 1e9 / self._rate_hz)

    def _step(self, first_ns: int, labels: bool) -> tuple[DriveStep, dict[str, View]]:
        if self._renderer is None:
            self._renderer = Renderer(self.world)
        frames, views = [], {}
        for index, camera in enumerate(self.true_cameras):
            timestamp_ns = first_ns + self._stagger_ns * index
            pose = self.world_from_ego(timestamp_ns)
            view = self._renderer.render(camera, pose, timestamp_ns, labels=labels, sight=True)
            views[camera.name] = view
            data, pixel_format = self._encoded(view.image)
            frames.append(Frame(camera.name, timestamp_ns, data, pixel_format, pose))
        timestamp_ns = max(frame.timestamp_ns for frame in frames)
        frame_set = FrameSet(timestamp_ns, tuple(frames), self.world_from_ego(timestamp_ns))
        return DriveStep(frame_set, self._truth(frame_set, views)), views

    def _encoded(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8] | bytes, PixelFormat]:
        if self._encode is None:
            return image, PixelFormat.BGR8
        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        if not done:  # imencode fails only for want of memory
            raise MemoryError("JPEG encoder")
        return data.tobytes(), PixelFormat.JPEG

    def _truth(self, frame_set: FrameSet, views: dict[str, View]) -> GroundTruth:
        pose = self.world_from_ego(frame_set.timestamp_ns)
        layers, things = self.world.truth(self._grid, pose, frame_set.timestamp_ns)
        centres = self._grid.centres()
        heights = np.where(things > 0, BODY_M, 0.0)
        points = pose.apply(np.concatenate((centres, heights[..., None]), axis=2))
        visible = np.zeros(self._grid.shape, np.bool_)
        for camera, frame in zip(self.true_cameras, frame_set.frames, strict=True):
            fired_at = self.world_from_ego(frame.timestamp_ns)
            sight = views[camera.name].sight
            if sight is not None:
                visible |= visible_from(camera, fired_at, sight, points, things)
        layers["visible"] = visible.astype(np.uint8)
        return GroundTruth(frame_set.timestamp_ns, self._grid, layers)


def _resized(rig: Rig, size: tuple[int, int] | None) -> Rig:
    sizes = [size if size is not None else (c.intrinsics.width, c.intrinsics.height) for c in rig]
    for width_height in sizes:
        _check("size", min(width_height) >= 16 and max(width_height) <= 8192, "from 16 to 8192 pixels", width_height)
    cameras = [
        Camera(c.name, c.intrinsics.resized(*wanted), c.ego_from_camera) for c, wanted in zip(rig, sizes, strict=True)
    ]
    return Rig(tuple(cameras), rig.name)


def _jittered(rig: Rig, sigma_deg: float, seed: int) -> tuple[Camera, ...]:
    if sigma_deg == 0:
        return tuple(rig)
    rng = np.random.default_rng([seed, 77])
    cameras = []
    for camera in rig:
        vector, _ = cv2.Rodrigues(np.radians(rng.normal(0, sigma_deg, 3)))
        turn = np.eye(4)
        turn[:3, :3] = vector
        cameras.append(Camera(camera.name, camera.intrinsics, camera.ego_from_camera @ Pose(turn)))
    return tuple(cameras)


def _check(what: str, right: bool, must_be: str, actual: object) -> None:
    if not right:
        raise InvalidArgument(expected(what, must_be, actual))
