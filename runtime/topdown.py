"""A top-down network: features of many cameras lifted into the bird's-eye view, a state carried under ego-motion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .._ext.magnitude import magnitude
from .._ext.outputs import clear_unobserved, lengths, to_odds
from ..errors import BundleError, NetworkError, expected
from ..fusion.direction import doubled_angle
from ..fusion.grid import BevGrid
from ..fusion.levels import Levels
from ..fusion.pose import Pose
from ..fusion.rig import Rig
from ..fusion.state import Look, ObservedGround, carry_raster
from ..fusion.view import FeatureCamera, ViewTransform
from ..fusion.view_builder import ViewBuilder, grid_points
from .activations import activate
from .bundle import Lift, State, TopDownNetwork, Variant
from .predictions import BevOutput, BevTensor, CorridorDirection, OccupancyGrid, RoadLayout
from .session import Binding, Network
from .tensor_checks import FLOAT, check_levels, check_tensor, static_shape

_LEAST: Final = 1e-6
"""Probability of occupancy below which, and above one less which, the log-odds go no further."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSource:
    """Where a lift takes its features from: the cameras, and the shape of each one's feature map.

    levels : what they stand for, where they are levels; None: they are float32
    """

    names: Sequence[str]
    cameras: Sequence[FeatureCamera]
    shape: tuple[int, int]
    stride: float
    channels: int
    levels: Levels | None = None


class TopDown:
    """Runs one top-down network of a bundle.

    Parameters
    ----------
    name : id of the network in the manifest
    spec : its declaration
    network : the loaded ONNX network, reduced to the wanted outputs and the states
    grid : grid of the lifts and outputs
    sources : feature output name -> where its features come from
    outputs : wanted outputs
    rig : gives the order of the bits of `seen_by`
    variant : which one of the network was loaded; decides what lifted tensors are in
    narrow : the same network, loaded for fewer threads: for runs beside other work. None: there is none

    Raises
    ------
    BundleError
        The network is not what the manifest declares; names both.
    """

    def __init__(
        self,
        name: str,
        spec: TopDownNetwork,
        network: Network,
        grid: BevGrid,
        sources: Mapping[str, FeatureSource],
        outputs: Sequence[str],
        rig: Rig,
        variant: Variant = "fp32",
        narrow: Network | None = None,
    ) -> None:
        self.name = name
        self.network = network
        self.outputs = tuple(outputs)
        self._spec = spec
        self._grid = grid
        self._wanted = {key: spec.outputs[key] for key in outputs}
        self._lifts = []
        for i, lift in enumerate(spec.lifts):
            where = f"networks.{name}.lifts[{i}]"
            levels = spec.levels_of(lift, variant)
            if variant in spec.variants and levels is not None:
                where = f"networks.{name}.variants.{variant}.levels.{lift.tensor}"
            self._lifts.append(_LiftInput(where, lift, levels, grid, sources[lift.source], network, rig))
        self._states = [
            _StatePair(f"networks.{name}.states[{i}]", state, grid, network) for i, state in enumerate(spec.states)
        ]
        self._outputs = {
            key: _output_array(f"networks.{name}.outputs.{key}", output.tensor, network)
            for key, output in self._wanted.items()
        }
        self._observed_ground = ObservedGround(grid)
        self._check_output_shapes()
        inputs = {lift.tensor: lift.array for lift in self._lifts}
        inputs |= {state.spec.input: state.before for state in self._states}
        results = {self._wanted[key].tensor: array for key, array in self._outputs.items()}
        results |= {state.spec.output: state.after for state in self._states}
        self._binding = network.bind(inputs, results, network_id=name)
        self._narrow = self._binding if narrow is None else narrow.bind(inputs, results, network_id=name)
        self._seen_by = np.zeros(grid.shape, dtype=np.uint64)
        self._look: Look | None = None
        self._ground: dict[str, tuple[NDArray[np.bool_], NDArray[np.uint64]]] = {}  # observed, seen by: of each output
        self._failure: str | None = None

    @property
    def recurrent(self) -> bool:
        """Whether there is a state; a network without one remembers nothing."""
        return bool(self._states)

    def warm(self) -> None:
        """Do beforehand what the first step would do for the first time."""
        for lift in self._lifts:
            lift.warm()
        self._binding.warm()
        self._narrow.warm()
        self.reset()

    def take_over(self, before: TopDown) -> None:
        """Go on with the state of another one, of the same network of the bundle, which is not to be used any more.

        Lifts whose cameras are the same take their view transforms, too.
        """
        self._observed_ground = before._observed_ground
        for state, old_state in zip(self._states, before._states, strict=True):
            state.after[:] = old_state.after
        for lift, old_lift in zip(self._lifts, before._lifts, strict=True):
            lift.take_over(old_lift)

    def reset(self) -> None:
        """Forget the recurrent state."""
        self._observed_ground.reset()
        for state in self._states:
            state.reset()

    def move(self, before_from_now: Pose) -> None:
        """Carry the recurrent state into the ego frame of now; a state not declared `warp` stays as it is."""
        if self.recurrent:
            self._observed_ground.move(before_from_now)
        else:
            self._observed_ground.reset()
        for state in self._states:
            state.move(before_from_now)

    def aim(
        self,
        fired_from_ego: Mapping[str, Sequence[Pose]],
        active: Mapping[str, NDArray[np.uint8]],
        num_threads: int = 1,
    ) -> None:
        """Have the view transforms of a set ready, which takes the poses of its cameras but none of their features.

        Parameters
        ----------
        fired_from_ego : source -> for each of its cameras `ego_when_it_fired_from_ego_now`
        active : source -> uint8 [cameras], 1 where features are to be expected
        """
        for lift in self._lifts:
            lift.aim(fired_from_ego[lift.source], active[lift.source], num_threads)

    def lift(
        self,
        features: Mapping[str, NDArray[Any]],
        active: Mapping[str, NDArray[np.uint8]],
        num_threads: int = 1,
    ) -> None:
        """Lift the features of the set that was aimed at; they are not read any more then.

        Parameters
        ----------
        features : source -> float32, or uint8 of a source of levels, [cameras * h * w, C], rows in the order of the
            source's cameras
        active : source -> uint8 [cameras], 1 where there are features
        """
        seen_by = [lift.fill(features[lift.source], active[lift.source], num_threads) for lift in self._lifts]
        if seen_by:  # that of a single lift is its own, and only read
            self._seen_by = seen_by[0] if len(seen_by) == 1 else np.bitwise_or.reduce(seen_by)

    def look(self) -> None:
        """Work out which ground is observed, before or beside :meth:`run`: it takes only what was lifted."""
        look = self._observed_ground.look(self._seen_by != 0)
        self._look = look
        grounded = [key for key, spec in self._wanted.items() if spec.kind != "raw"]
        self._ground = {key: (look.observed.copy(), self._seen_by.copy()) for key in grounded}

    def run(self, *, narrow: bool = False) -> str | None:
        """Run the network on what was lifted.

        Parameters
        ----------
        narrow : on the fewer threads, beside other work

        Returns
        -------
        None, or why nothing may be used: it failed, or gave NaN or Inf. The state is then the one that it read, the
        last good one carried to here: nothing of this set goes into it.
        """
        self._failure = self._run(self._narrow if narrow else self._binding)
        if self._failure is not None:
            for state in self._states:
                state.restore()
        return self._failure

    def values(self) -> dict[str, BevOutput]:
        """Give the outputs after :meth:`look` and :meth:`run`, in memory of their own; none where the latter failed."""
        look, self._look = self._look, None
        if look is None:
            raise RuntimeError(expected("look()", "before values()", "none since the values before"))
        self._observed_ground.take(look, seen=self._failure is None)
        if self._failure is not None:
            return {}
        return {key: self._value(key) for key in self._outputs}

    def _run(self, binding: Binding) -> str | None:
        """Run the network; returns why nothing that it gave may be used, or None."""
        try:
            binding.run()
        except NetworkError as error:
            return str(error)
        broken = [state.spec.output for state in self._states if not _finite(state.after)]
        broken += [key for key, array in self._outputs.items() if not _finite(array)]
        return f"NaN or Inf in {', '.join(broken)} of network {self.name}" if broken else None

    def _value(self, key: str) -> BevOutput:
        spec, array = self._wanted[key], self._outputs[key]
        if spec.kind == "raw":
            return BevTensor(self._grid, array.copy())
        observed, seen_by = self._ground.pop(key)
        if spec.kind == "direction":
            return self._direction(array[0].astype(np.float32, copy=False), observed, seen_by)
        belief = activate(spec.activation, array[0].astype(np.float32), axis=0)
        if spec.kind == "road_layout":
            known = belief.copy()
            clear_unobserved(known, observed.view(np.uint8))
            return RoadLayout(self._grid, tuple(spec.classes), known, observed, seen_by, belief)
        log_odds = belief.copy()
        to_odds(log_odds, _LEAST, 1 - _LEAST)
        clear_unobserved(np.log(log_odds, out=log_odds), observed.view(np.uint8))
        return OccupancyGrid(self._grid, log_odds[0], observed, seen_by, float("inf"), belief[0])

    def _direction(
        self, vectors: NDArray[np.float32], observed: NDArray[np.bool_], seen_by: NDArray[np.uint64]
    ) -> CorridorDirection:
        angle, confidence = doubled_angle(vectors, axis=0), np.empty(self._grid.shape, dtype=np.float32)
        clear_unobserved(angle[np.newaxis], observed.view(np.uint8))
        lengths(vectors, observed.view(np.uint8), confidence)
        return CorridorDirection(self._grid, angle, confidence, observed, seen_by)

    def _check_output_shapes(self) -> None:
        for key, output in self._wanted.items():
            if output.kind == "raw":
                continue
            channels = {"road_layout": len(output.classes), "direction": 2}.get(output.kind, 1)
            wanted = (1, channels, *self._grid.shape)
            if self._outputs[key].shape != wanted:
                raise BundleError(
                    expected(
                        f"networks.{self.name}.outputs.{key}: shape of tensor {output.tensor}",
                        str(wanted),
                        self._outputs[key].shape,
                    )
                )


class _LiftInput:
    """One lifted input: the view transform of its cameras, and the array that the network reads."""

    def __init__(
        self,
        where: str,
        spec: Lift,
        levels: Levels | None,
        grid: BevGrid,
        source: FeatureSource,
        network: Network,
        rig: Rig,
    ) -> None:
        self.tensor = spec.tensor
        self.source = spec.source
        self._rig = rig
        self._names = source.names
        self._planes = spec.layout == "nchw"
        self._levels = levels
        self._source_levels = source.levels
        self._fixed_weights = np.zeros(0, dtype=np.int16)
        self._grid = grid
        channels = len(spec.heights_m) * source.channels
        nx, ny = grid.shape
        shape = (1, channels, nx, ny) if self._planes else (nx * ny, channels)
        dtype = FLOAT if levels is None else np.dtype(np.uint8)
        check_tensor(where, network, spec.tensor, shape, is_input=True, dtype=dtype)
        check_levels(where, network, spec.tensor, levels)
        self.array: NDArray[Any] = np.zeros(shape, dtype=dtype)
        self._builder = ViewBuilder(
            grid_points(grid, spec.heights_m),
            source.cameras,
            source.shape,
            source.stride,
            resolution_m=grid.resolution_m,
            weighting=spec.weighting,
            border_px=spec.border_px,
        )
        self._fired_from_ego: Sequence[Pose] = ()
        self._active = np.zeros(0, dtype=np.uint8)
        self._view: ViewTransform | None = None
        self._seen_by = np.zeros(grid.shape, dtype=np.uint64)

    def warm(self) -> None:
        self._builder.warm()
        self.array[:] = 0  # fresh pages are there when they are first written to

    def take_over(self, before: _LiftInput) -> None:
        if self._builder.cameras == before._builder.cameras:
            self._builder = before._builder

    def aim(self, fired_from_ego: Sequence[Pose], active: NDArray[np.uint8], num_threads: int) -> ViewTransform:
        """Have the view transform ready, see :meth:`TopDown.aim`."""
        view = self._builder.build(fired_from_ego, active, num_threads=num_threads)
        if view is not self._view:
            self._seen_by = self._rig.bits_of(self._names, view.seen_by).reshape(self._grid.shape)
            if self._source_levels is not None:
                if len(self._fixed_weights) < len(view.weights):
                    self._fixed_weights = np.zeros(len(view.weights) * 9 // 8, dtype=np.int16)
                view.fix_weights(self._fixed_weights)
        self._fired_from_ego, self._active, self._view = fired_from_ego, active, view
        return view

    def fill(self, features: NDArray[Any], active: NDArray[np.uint8], num_threads: int) -> NDArray[np.uint64]:
        """Lift the features into :attr:`array`; returns which cameras see each cell, uint64 [nx, ny]."""
        view = self._view
        if view is None or not np.array_equal(active, self._active):
            view = self.aim(self._fired_from_ego, active, num_threads)
        if self._source_levels is not None and self._levels is not None:
            view.lift_levels(features, self._source_levels, self._fixed_weights, self.array, self._levels, num_threads)
        elif self._planes:
            view.lift_planes(features, self.array.reshape(self.array.shape[1], -1), num_threads, self._levels)
        else:
            view.lift(features, self.array, num_threads, self._levels)
        return self._seen_by


class _StatePair:
    """One recurrent state: what the network reads and what it writes."""

    def __init__(self, where: str, spec: State, grid: BevGrid, network: Network) -> None:
        self.spec = spec
        shape = static_shape(where, network, spec.input, is_input=True)
        check_tensor(where, network, spec.output, shape, is_input=False)
        self.before = np.zeros(shape, dtype=np.float32)
        self.after = np.zeros(shape, dtype=np.float32)
        self._grid = grid
        if spec.warp:
            self._grid = self._state_grid(where, shape, grid)

    def reset(self) -> None:
        self.before[:] = 0
        self.after[:] = 0

    def restore(self) -> None:
        """Take what was read for what was written."""
        self.after[:] = self.before

    def move(self, before_from_now: Pose) -> None:
        if self.spec.warp:
            carry_raster(self.after[0], self._grid, before_from_now, self.before[0])
        else:
            self.before[:] = self.after

    @staticmethod
    def _state_grid(where: str, shape: tuple[int, ...], grid: BevGrid) -> BevGrid:
        nx, ny = grid.shape
        factor = nx // shape[2] if len(shape) == 4 and shape[2] else 0
        if len(shape) != 4 or shape[0] != 1 or factor < 1 or (shape[2] * factor, shape[3] * factor) != (nx, ny):
            raise BundleError(
                expected(f"{where}: shape of a warped state", f"(1, C, {nx}/k, {ny}/k) for a whole k", shape)
            )
        return grid.scaled(factor)


def _output_array(where: str, tensor: str, network: Network) -> NDArray[Any]:
    shape = static_shape(where, network, tensor, is_input=False)
    return np.zeros(shape, dtype=network.output_specs[tensor].dtype)


def _finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind != "f" or math.isfinite(magnitude(array)[0])
