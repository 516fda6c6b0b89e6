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
from .rigs import displaced, reference_rig
from .sets import check_window
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
        `rig` does not know them, as a calibration with such errors would not; `true_cameras` has the true mountings
    mounting_spread_deg, mounting_spread_m : standard deviations of random turns about, and shifts along, the three axes
        of every camera: another car of the same series. `rig` knows them
    body_tilt : how far the body, with the cameras, pitches and rolls on its springs: 0 not at all, 1 as an ordinary
        car. The pose of each frame has that tilt, as odometry would give it. The set's pose stays level on the ground,
        and so does the ground truth
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
        mounting_spread_deg: float = 0.0,
        mounting_spread_m: float = 0.0,
        body_tilt: float = 0.0,
    ) -> None:
        _check("seed", seed >= 0, "not negative", seed)
        _check("seconds", 0 < seconds <= 3600, "more than 0 and at most 3600", seconds)
        _check("rate_hz", 0 < rate_hz <= 200, "more than 0 and at most 200", rate_hz)
        _check("encode", encode in ("jpeg", None), "'jpeg' or None", encode)
        _check("jpeg_quality", 1 <= jpeg_quality <= 100, "from 1 to 100", jpeg_quality)
        _check("stagger_ns", stagger_ns >= 0, "not negative", stagger_ns)
        for what, value in (
            ("mount_jitter_deg", mount_jitter_deg),
            ("mounting_spread_deg", mounting_spread_deg),
            ("mounting_spread_m", mounting_spread_m),
            ("body_tilt", body_tilt),
        ):
            _check(what, 0 <= value < np.inf, "not negative", value)
        self.name = f"synthetic-{seed}"
        nominal = _resized(rig if rig is not None else reference_rig(), size)
        random = np.random.default_rng([seed, 78])
        self.rig = displaced(nominal, mounting_spread_deg, mounting_spread_m, random)
        self.losses = Losses()
        self.seed = seed
        self._rate_hz = rate_hz
        self._count = int(seconds * rate_hz + 1e-9)
        self._encode = encode
        self._quality = jpeg_quality
        self._grid = grid
        self._stagger_ns = stagger_ns
        self._seconds = seconds
        self._body_tilt = body_tilt
        self.true_cameras = displaced(self.rig, mount_jitter_deg, 0.0, np.random.default_rng([seed, 77])).cameras
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
        """Where the ego is at a time, level on the ground: the pose of a set of that time."""
        return self.world.ego_pose(timestamp_ns)

    def world_from_body(self, timestamp_ns: int) -> Pose:
        """Where the ego's body is at a time, with its tilt: the pose of a frame of that time."""
        return (
            self.world.body_pose(timestamp_ns, self._body_tilt)
            if self._body_tilt
            else self.world_from_ego(timestamp_ns)
        )

    def steps(self, *, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[DriveStep]:
        """Iterate over the steps, see :meth:`Drive.steps`."""
        check_window(start_s, duration_s)
        return (self._step(timestamp_ns, labels=False)[0] for timestamp_ns in self._times_ns(start_s, duration_s))

    def labelled_steps(
        self, *, start_s: float = 0.0, duration_s: float | None = None
    ) -> Iterator[tuple[DriveStep, dict[str, View]]]:
        """Iterate over the steps, with every camera's labelled view by name."""
        check_window(start_s, duration_s)
        return (self._step(timestamp_ns, labels=True) for timestamp_ns in self._times_ns(start_s, duration_s))

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
            pose = self.world_from_body(timestamp_ns)
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
            sight = views[camera.name].sight
            if sight is not None and frame.world_from_ego is not None:
                unseen = ~visible
                visible[unseen] = visible_from(camera, frame.world_from_ego, sight, points[unseen], things[unseen])
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


def _check(what: str, right: bool, must_be: str, actual: object) -> None:
    if not right:
        raise InvalidArgument(expected(what, must_be, actual))
