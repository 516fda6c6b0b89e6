"""What a step gives: road layout, occupancy, per-camera outputs, and how they came about.

Value types only (numpy). BEV arrays are indexed `[x, y]` on their grid, see :class:`octobev.fusion.grid.BevGrid`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected
from ..fusion.direction import CorridorDirection as CorridorDirection
from ..fusion.geometry import LayoutGeometry
from ..fusion.layout import RoadLayout as RoadLayout
from ..fusion.occupancy import OccupancyGrid as OccupancyGrid
from ..fusion.raster import BevTensor as BevTensor
from .detections import Detections as Detections
from .stages import StageSpan, totals_ms

BevOutput = RoadLayout | OccupancyGrid | CorridorDirection | BevTensor


@dataclass(frozen=True, slots=True, eq=False)
class CameraOutput:
    """One output of a per-camera network for one camera: a map, or anything raw.

    kind : features, segmentation, depth or raw
    values : segmentation: float32 [classes, h, w], probabilities 0..1; depth: float32 [h, w], metres along the optical
        axis; features, raw: as the network gave it, without the batch axis
    classes : class names of a segmentation, otherwise empty
    pixels_from_image : float64 [3, 3], homogeneous: pixel coordinates of the camera's full image to pixel coordinates
        of `values` (for undistorted inputs: of the undistorted image)
    """

    camera: str
    kind: str
    values: NDArray[Any]
    classes: tuple[str, ...]
    pixels_from_image: NDArray[np.float64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The array by name."""
        return {"values": self.values}


CameraPrediction = CameraOutput | Detections
"""What a per-camera network gives for one camera."""

ByCamera = Mapping[str, CameraPrediction]
"""What a per-camera network gives under one name: camera name -> value."""


class CameraPredictions(Mapping[str, ByCamera]):
    """Per-camera outputs: output name -> camera name -> value.

    The objects of many small outputs take longer to make than their numbers to compute. So they are made when they are
    first asked for, of a copy of the numbers that was made before; asked again, the same ones are given. May be read by
    several threads.

    Parameters
    ----------
    given : output name -> its values, or what makes them, given the name
    """

    __slots__ = ("_given", "_made")

    def __init__(self, given: Mapping[str, ByCamera | Callable[[str], ByCamera]]) -> None:
        self._given = dict(given)
        self._made: dict[str, ByCamera] = {}

    def __getitem__(self, name: str) -> ByCamera:
        given = self._given[name]
        if not callable(given):
            return given
        made = self._made.get(name)
        return self._made.setdefault(name, given(name)) if made is None else made  # of two threads one wins

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def __contains__(self, name: object) -> bool:
        return name in self._given

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"


@dataclass(frozen=True, slots=True)
class StateStatus:
    """Whether what is remembered over time was carried into this step.

    carried : the state of the step before was used
    reset_reason : why it was not: "first set", "gap of 2.100 s", "time went back by 0.100 s", "no ego pose", ...
    age_ns : time over which the present state has been built up; 0 after a reset
    restored : why this set did not go into the state, which is again what it was before, carried along by the
        ego-motion: what the network gave was not usable. None: it did
    """

    carried: bool
    reset_reason: str | None
    age_ns: int
    restored: str | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a prediction.

    bundle_name, bundle_sha256 : the model bundle and the SHA-256 of its manifest (which pins the networks)
    rig_sha256 : SHA-256 of the calibration in use
    versions : package name -> version
    providers : network name -> execution providers in use, in order
    threads : worker threads of the runtime
    variant : `fp32` or `int8`: which of the files that the manifest pins ran
    runs_at_once : runs of a per-camera network that went on at the same time
    batches : per-camera network -> images in one of its runs
    profile : name of the profile of this machine that chose these, see `octobev bundle tune`; None: none was used
    """

    bundle_name: str
    bundle_sha256: str
    rig_sha256: str
    versions: tuple[tuple[str, str], ...]
    providers: tuple[tuple[str, tuple[str, ...]], ...]
    threads: int
    variant: str = "fp32"
    runs_at_once: int = 1
    batches: tuple[tuple[str, int], ...] = ()
    profile: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Everything that one step gave.

    timestamp_ns : the instant that the predictions are about
    sequence : number of the step since the runtime was made, from 0
    cameras : names in rig order
    camera_mask : bool [cameras], whether the camera had a frame that could be used
    camera_age_ns : int64 [cameras], `timestamp_ns` minus the frame's own; meaningless where the mask is False
    absences : camera name -> why it was not used
    bev : output name -> top-down output
    camera_outputs : output name -> camera name -> output
    invalid : output name, or `output/camera` -> why it is not here (a network gave NaN, ...); it is then in neither map
    state : what is remembered as a whole
    networks : top-down output -> id of the network that gave it; cast-outs are not in it
    states : BEV output -> the state of its own that its network or cast-out has; also of outputs that are withheld
    levelled : camera -> pitch (up positive) and roll (clockwise positive, seen from behind it), degrees, by which its
        calibration was found to be wrong, and corrected in this step's views of the ground; others as they are
    """

    timestamp_ns: int
    sequence: int
    cameras: tuple[str, ...]
    camera_mask: NDArray[np.bool_]
    camera_age_ns: NDArray[np.int64]
    absences: Mapping[str, str]
    bev: Mapping[str, BevOutput]
    camera_outputs: Mapping[str, ByCamera]
    invalid: Mapping[str, str]
    state: StateStatus
    provenance: Provenance
    spans: tuple[StageSpan, ...] = ()
    """What ran when, on which thread; not part of :meth:`digest_into`."""

    networks: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, StateStatus] = field(default_factory=dict)
    levelled: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("camera_mask", self.camera_mask, np.bool_, (len(self.cameras),))
        _check("camera_age_ns", self.camera_age_ns, np.int64, (len(self.cameras),))
        for name in ("absences", "bev", "invalid", "networks", "states", "levelled"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if not isinstance(self.camera_outputs, CameraPredictions):
            object.__setattr__(self, "camera_outputs", CameraPredictions(self.camera_outputs))

    @property
    def stages_ms(self) -> dict[str, float]:
        """Wall time per stage of this step, milliseconds, summed over threads."""
        return totals_ms(self.spans)

    @property
    def road_layout(self) -> RoadLayout | None:
        """The output named `road_layout`, or None."""
        output = self.bev.get("road_layout")
        return output if isinstance(output, RoadLayout) else None

    @property
    def occupancy(self) -> OccupancyGrid | None:
        """The output named `occupancy`, or None."""
        output = self.bev.get("occupancy")
        return output if isinstance(output, OccupancyGrid) else None

    def state_of(self, output: str) -> StateStatus:
        """Tell the state that an output has of its own; :attr:`state` where it has none."""
        return self.states.get(output, self.state)

    @property
    def resets(self) -> tuple[str, ...]:
        """Why state was lost or set back in this step, each reason once; empty when all went on."""
        statuses = [self.state, *self.states.values()]
        reasons = [status.reset_reason for status in statuses]
        reasons += [f"{status.restored}; back to the last good state" for status in statuses if status.restored]
        return tuple(dict.fromkeys(reason for reason in reasons if reason is not None))

    def direction_of(self, output: str) -> CorridorDirection | None:
        """Find the corridor direction that the same network gave as a top-down output; None where there is none."""
        network = self.networks.get(output)
        for name, value in self.bev.items():
            if isinstance(value, CorridorDirection) and self.networks.get(name) == network:
                return value
        return None

    def geometry_of(self, output: str = "road_layout") -> LayoutGeometry:
        """Compute the geometry of a road layout, corridors and arms along the network's direction where it gave one.

        Raises
        ------
        InvalidArgument
            There is no road layout of this name.
        """
        layout = self.bev.get(output)
        if not isinstance(layout, RoadLayout):
            layouts = [name for name, value in self.bev.items() if isinstance(value, RoadLayout)]
            raise InvalidArgument(expected("road layout", f"one of {', '.join(layouts) or 'none'}", output))
        direction = self.direction_of(output)
        return layout.geometry(None if direction is None else direction.known_rad())

    def outputs(self) -> Iterator[tuple[str, BevOutput | CameraPrediction]]:
        """Every output with its topic: the BEV outputs, then `camera/<camera>/<output>` in rig order."""
        yield from self.bev.items()
        for name, by_camera in self.camera_outputs.items():
            for camera in self.cameras:
                if camera in by_camera:
                    yield f"camera/{camera}/{name}", by_camera[camera]

    def digest_into(self, sha256: hashlib._Hash) -> None:
        """Feed every prediction array, its name, type and shape into a running SHA-256. No wall-clock value enters."""
        sha256.update(f"{self.timestamp_ns} {self.camera_mask.tolist()}".encode())
        for topic, output in sorted(self.outputs(), key=lambda item: item[0]):
            for name, array in output.arrays().items():
                sha256.update(f"{topic} {name} {array.dtype.str} {array.shape}".encode())
                sha256.update(np.ascontiguousarray(array).data)


def _check(what: str, array: NDArray[Any], dtype: Any, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise InvalidArgument(expected(what, f"{np.dtype(dtype).name} {shape}", f"{array.dtype} {array.shape}"))
