"""Synthetic drives: an eight-camera car in a procedural town, with exact ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected
from ..fusion.grid import BevGrid
from ..fusion.lens import Intrinsics, LensModel
from ..fusion.pose import Pose
from ..fusion.rig import Camera, Rig
from ..runtime.frames import Frame, FrameSet, PixelFormat
from .drive import Drive, DriveStep, GroundTruth, Losses
from .render import Renderer, View
from .world import START_NS, World

DEFAULT_GRID: Final = BevGrid(-24.0, 40.0, -24.0, 24.0, 0.5)

_MOUNTINGS: Final = {
    # x, y, z in metres; yaw (left positive) and pitch (down positive) in degrees; horizontal field of view in degrees
    "front_main": (1.75, 0.03, 1.42, 0.0, 2.5, 50.0),
    "front_wide": (1.75, -0.03, 1.42, 0.0, 5.0, 120.0),
    "front_narrow": (1.75, 0.0, 1.44, 0.0, 0.8, 35.0),
    "left_pillar": (1.15, 0.72, 1.36, 58.0, 4.0, 85.0),
    "right_pillar": (1.15, -0.72, 1.36, -58.0, 4.0, 85.0),
    "left_repeater": (2.45, 0.93, 0.95, 142.0, 3.0, 80.0),
    "right_repeater": (2.45, -0.93, 0.95, -142.0, 3.0, 80.0),
    "rear": (-0.95, 0.0, 1.02, 180.0, 6.0, 110.0),
}
_FIRING_ORDER: Final = (0, 2, 1, 3, 4, 5, 6, 7)


def optical_mounting(
    x_m: float, y_m: float, z_m: float, yaw_deg: float, pitch_deg: float, roll_deg: float = 0.0
) -> Pose:
    """`ego_from_camera` of a camera at a place that looks along a yaw (left positive) and pitch (down positive)."""
    yaw, pitch, roll = np.radians((yaw_deg, pitch_deg, roll_deg))
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), -np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    matrix = np.eye(4)
    matrix[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
    matrix[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
    matrix[:3, 2] = forward
    matrix[:3, 3] = (x_m, y_m, z_m)
    return Pose(matrix)


def reference_rig() -> Rig:
    """The reference rig: eight cameras of 1280x960 pixels; the two widest with lens distortion."""
    cameras = []
    for name, (x, y, z, yaw, pitch, fov) in _MOUNTINGS.items():
        lens = _wide_lens(fov) if fov > 100 else _pinhole(fov)
        cameras.append(Camera(name, lens, optical_mounting(x, y, z, yaw, pitch)))
    return Rig(tuple(cameras), "reference")


def _pinhole(fov_deg: float, width: int = 1280, height: int = 960) -> Intrinsics:
    focal = width / 2 / np.tan(np.radians(fov_deg) / 2)
    return Intrinsics(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)


def _wide_lens(fov_deg: float, width: int = 1280, height: int = 960) -> Intrinsics:
    """Kannala-Brandt lens, nearly equidistant, whose horizontal field of view is `fov_deg`."""
    k1, k2, k3, k4 = 0.032, -0.012, 0.003, -0.0006
    half = np.radians(fov_deg) / 2
    radius = half * (1 + half**2 * (k1 + half**2 * (k2 + half**2 * (k3 + half**2 * k4))))
    focal = width / 2 / radius
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return Intrinsics(width, height, focal, focal, cx, cy, LensModel.KANNALA_BRANDT, (k1, k2, k3, k4))


class SyntheticDrive(Drive):
    """A drive through a procedural town. Equal arguments give equal drives.

    Parameters
    ----------
    seed : the town, its day and its traffic
    seconds : length; there are `floor(seconds * rate_hz)` steps
    rate_hz : frame sets per second
    size : width and height of the frames in pixels; the rig's images are stretched to it
    rig : cameras, None for :func:`reference_rig`
    encode : "jpeg" for encoded frames, None for bgr8 arrays
    jpeg_quality : 1 to 100
    grid : where ground truth is given
    stagger_ns : time between two cameras' firing
    mount_jitter_deg : standard deviation of random turns of every camera's true mounting about its three axes, degrees;
        `rig` keeps the nominal mountings, as a calibration with such errors would; `true_cameras` has the true ones
    """

    def __init__(
        self,
        seed: int,
        seconds: float,
        rate_hz: float = 12.0,
        size: tuple[int, int] = (1280, 960),
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
        _check("size", min(size) >= 16 and max(size) <= 8192, "from 16 to 8192 pixels", size)
        _check("encode", encode in ("jpeg", None), "'jpeg' or None", encode)
        _check("jpeg_quality", 1 <= jpeg_quality <= 100, "from 1 to 100", jpeg_quality)
        _check("stagger_ns", stagger_ns >= 0, "not negative", stagger_ns)
        nominal = rig if rig is not None else reference_rig()
        self.name = f"synthetic-{seed}"
        self.rig = Rig(
            tuple(Camera(c.name, c.intrinsics.resized(*size), c.ego_from_camera) for c in nominal), nominal.name
        )
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
        for step, _ in self.labelled_steps(start_s=start_s, duration_s=duration_s):
            yield step

    def labelled_steps(
        self, *, start_s: float = 0.0, duration_s: float | None = None
    ) -> Iterator[tuple[DriveStep, dict[str, View]]]:
        """Iterate over the steps, with every camera's labelled view by name."""
        end_s = np.inf if duration_s is None else start_s + duration_s
        for index in range(self._count):
            if start_s <= index / self._rate_hz + 1e-9 < end_s:
                yield self._step(START_NS + round(index * 1e9 / self._rate_hz))

    def _step(self, first_ns: int) -> tuple[DriveStep, dict[str, View]]:
        if self._renderer is None:
            self._renderer = Renderer(self.world)
        frames, views = [], {}
        rank = {camera: order for order, camera in enumerate(_FIRING_ORDER)}
        for index, camera in enumerate(self.true_cameras):
            timestamp_ns = first_ns + self._stagger_ns * rank.get(index, index)
            pose = self.world_from_ego(timestamp_ns)
            view = self._renderer.render(camera, pose, timestamp_ns, labels=True)
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
            visible |= visible_from(camera, fired_at, views[camera.name], points, things)
        layers["visible"] = visible.astype(np.uint8)
        return GroundTruth(frame_set.timestamp_ns, self._grid, layers)


BODY_M: Final = 0.6
"""Height at which a thing is looked for: under cars and trucks one sees the street."""

SURFACE_M: Final = 2.5
"""Cells of a long thing count as visible up to this far behind the surface that is seen."""


def visible_from(
    camera: Camera, world_from_ego: Pose, view: View, points: NDArray[np.float64], things: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Which cells a camera sees: the ground in them, or the thing that stands in them.

    Parameters
    ----------
    view : labelled view of the camera from there
    points : float64 [nx, ny, 3], cell centres, world frame: on the ground, or at a height where the thing surely is
    things : int32 [nx, ny], number of the thing in each cell, 0 for none
    """
    if view.things is None or view.depth is None:
        raise InvalidArgument(expected("view", "labelled", "one without labels"))
    camera_from_world = (world_from_ego @ camera.ego_from_camera).inverse()
    in_camera = camera_from_world.apply(points)
    pixels, valid = camera.intrinsics.project(in_camera)
    visible = np.zeros(things.shape, np.bool_)
    column, row = np.floor(pixels[valid] + 0.5).astype(np.int64).T
    seen = view.things[row, column]
    hit = in_camera[valid]
    slant = np.linalg.norm(hit, axis=1) / np.maximum(hit[:, 2], 1e-6)  # depth is along the optical axis
    behind = (hit[:, 2] - view.depth[row, column]) * slant
    visible[valid] = (seen == things[valid]) & ((seen == 0) | (behind < SURFACE_M))
    return visible


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
