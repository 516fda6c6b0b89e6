"""What the rows work on: eight cameras of 1280x960 pixels in a synthetic town, made once and shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..fusion.pose import Pose
from ..fusion.rig import Rig
from ..fusion.view import FeatureCamera, ViewTransform, aligned_zeros
from ..fusion.view_builder import ViewBuilder, grid_points
from ..replay.drive import Drive, DriveStep, Losses
from ..replay.recorder import record_drive
from ..replay.rigs import reference_rig
from ..replay.synthetic import SyntheticDrive
from ..runtime.bundle import REFERENCE_BUNDLE, Bundle, open_bundle
from ..runtime.engine import Runtime
from ..runtime.frames import Frame, FrameSet, PixelFormat
from ..runtime.images import pixels_of
from ..runtime.manifest import Variant
from ..runtime.preprocess import InputPlan
from ..runtime.variants import select_variant

PERIOD_NS: Final = 83_333_333
STAGGER_NS: Final = 4_000_000
CHANNELS: Final = 64
SEED: Final = 20_001
HYDRANET: Final = "hydranet"
TOPDOWN: Final = "topdown"

_SETS: Final = 4
START_NS: Final = 1_700_000_000_000_000_000


class Material:
    """Inputs of the measurements.

    Parameters
    ----------
    folder : a directory to write drives and bundles to
    quick : fewer rounds and shorter runs: for a look, not for the record
    threads : of everything that is measured, peers too
    """

    def __init__(self, folder: Path, *, quick: bool = False, threads: int = 2) -> None:
        self.folder = folder
        self.quick = quick
        self.threads = threads
        self.rig: Rig = reference_rig()
        self._next_set = 0

    def rounds(self, whole: int) -> int:
        """How many rounds to do where an unhurried measurement does so many."""
        return max(5, whole // 4) if self.quick else whole

    @cached_property
    def bundle(self) -> Bundle:
        """The reference bundle, in the arithmetic that suits this machine."""
        return select_variant(open_bundle(REFERENCE_BUNDLE))

    @cached_property
    def encoded(self) -> tuple[tuple[bytes, ...], ...]:
        """JPEG of every camera, a few sets."""
        drive = SyntheticDrive(SEED, _SETS / 2, rate_hz=2.0, rig=self.rig)
        sets = [step.frame_set.frames for step in drive.steps()]
        return tuple(tuple(frame.array.tobytes() for frame in frames) for frames in sets)

    @cached_property
    def decoded(self) -> tuple[tuple[NDArray[np.uint8], ...], ...]:
        """The same as pixels, uint8 [960, 1280, 3] BGR."""
        size = (self.rig.cameras[0].intrinsics.width, self.rig.cameras[0].intrinsics.height)
        return tuple(
            tuple(pixels_of(Frame("any", 0, data, PixelFormat.JPEG), size) for data in images)
            for images in self.encoded
        )

    def frame_set(self, number: int, *, encoded: bool = False, staggered: bool = True) -> FrameSet:
        """Make a set of a car that drives on without end; its images come again every few sets.

        Parameters
        ----------
        encoded : JPEG; False: pixels
        staggered : cameras fire one after another; False: all at once
        """
        images: Sequence[Any] = (self.encoded if encoded else self.decoded)[number % _SETS]
        pixel_format = PixelFormat.JPEG if encoded else PixelFormat.BGR8
        begin_ns = START_NS + number * PERIOD_NS
        frames = []
        for index, (name, image) in enumerate(zip(self.rig.names, images, strict=True)):
            fired_ns = begin_ns + index * STAGGER_NS * staggered
            frames.append(Frame(name, fired_ns, image, pixel_format, driving(fired_ns)))
        now_ns = frames[-1].timestamp_ns
        return FrameSet(now_ns, tuple(frames), driving(now_ns))

    def frame_sets(self, *, encoded: bool = False, staggered: bool = True) -> Iterator[FrameSet]:
        """Sets without end, in time order."""
        number = 0
        while True:
            yield self.frame_set(number, encoded=encoded, staggered=staggered)
            number += 1

    def runtime(self, variant: Variant | None = None, outputs: tuple[str, ...] | None = None) -> Runtime:
        """Make a runtime of the reference bundle and rig."""
        bundle = self.bundle
        return Runtime(bundle, self.rig, outputs, self.threads, variant=bundle.variant if variant is None else variant)

    @cached_property
    def drive(self) -> Path:
        """An MCAP file with a second of driving, JPEG frames."""
        path = self.folder / "drive.mcap"
        record_drive(_Recorded(self), path)
        return path

    @cached_property
    def feature_cameras(self) -> tuple[FeatureCamera, ...]:
        """The cameras as the per-camera network sees them."""
        given = self.bundle.manifest.camera_networks[HYDRANET].input
        return tuple(FeatureCamera(InputPlan(c.intrinsics, given).intrinsics, c.ego_from_camera) for c in self.rig)

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Height and width of a camera's feature map."""
        given = self.bundle.manifest.camera_networks[HYDRANET].input
        return round(given.height / self.stride), round(given.width / self.stride)

    @property
    def stride(self) -> float:
        """Network pixels per feature pixel."""
        return float(self.bundle.manifest.camera_networks[HYDRANET].outputs["features"].stride or 1)

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """Points of the lift, float64 [cells, heights, 3], metres in the ego frame."""
        lift = self.bundle.manifest.topdown_networks[TOPDOWN].lifts[0]
        return grid_points(self.bundle.manifest.grid, lift.heights_m)

    def view_builder(self) -> ViewBuilder:
        """Make a builder of the view transform that follows the slightest motion."""
        lift = self.bundle.manifest.topdown_networks[TOPDOWN].lifts[0]
        return ViewBuilder(
            self.points,
            self.feature_cameras,
            self.feature_shape,
            self.stride,
            resolution_m=self.bundle.manifest.grid.resolution_m,
            weighting=lift.weighting,
            border_px=lift.border_px,
            tolerance_cells=0.0,
        )

    @cached_property
    def view(self) -> ViewTransform:
        """The view transform of a car that stands."""
        return self.view_builder().build()

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """Features of all cameras, float32 [pixels, :data:`CHANNELS`]."""
        features = aligned_zeros((self.view.pixels, CHANNELS))  # as the runtime allocates them
        np.random.default_rng(0).random(dtype=np.float32, out=features)
        return features


class _Recorded(Drive):
    """The sets of a material as a drive."""

    def __init__(self, material: Material) -> None:
        self.name = "bench"
        self.rig = material.rig
        self.losses = Losses()
        self._material = material

    def steps(self, *, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[DriveStep]:
        """Give all of them, whatever part is asked for."""
        for number in range(3 * _SETS):
            yield DriveStep(self._material.frame_set(number, encoded=True))


def driving(timestamp_ns: int) -> Pose:
    """Where the ego is: about 12 m/s, faster and slower by turns, winding."""
    seconds = (timestamp_ns - START_NS) / 1e9
    return Pose.planar(
        12.0 * seconds + 1.5 * np.sin(2.0 * seconds), 3.0 * np.sin(0.4 * seconds), 0.1 * np.cos(0.4 * seconds)
    )
