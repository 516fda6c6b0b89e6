"""The top-down networks of a bundle."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .._ext.lift_levels import is_quick
from ..fusion.pose import Pose
from ..fusion.rig import Rig
from .bundle import Bundle, TopDownNetwork
from .camera_run import CameraResults
from .castouts import usable
from .hydranet import HydraNet
from .memory import Continuity, Motion
from .predictions import BevOutput, StateStatus
from .session import Network
from .sessions import Sessions
from .topdown import FeatureSource, TopDown
from .workers import Piece

_STANDING: Final = Pose.identity()

_Lift = tuple[str, str]
"""Network, and the output of another one that it lifts: its source."""


def lifted_from_levels(bundle: Bundle, wanted: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Feature outputs that are only lifted to levels of 8 bits, in rows, by networks that run: better had in levels.

    None where the processor lifts floats more quickly.

    Parameters
    ----------
    wanted : top-down network -> its wanted outputs
    """
    if not is_quick():
        return frozenset()
    specs = [bundle.manifest.topdown_networks[name] for name in wanted]
    lifts = [(lift, spec.levels_of(lift, bundle.variant)) for spec in specs for lift in spec.lifts]
    others = {lift.source for lift, levels in lifts if levels is None or lift.layout != "rows"}
    return frozenset(lift.source for lift, _ in lifts) - others


class TopDowns:
    """Runs the wanted top-down networks of a bundle, each with cameras, matrices and a state of its own.

    Parameters
    ----------
    bundle, rig, sessions, max_gap_s : see :class:`octobev.runtime.graph.Graph`
    wanted : network -> its wanted outputs
    hydranets : whose features they lift
    threads_beside : threads for what runs beside the next set's cameras; None: nothing does
    """

    def __init__(
        self,
        bundle: Bundle,
        wanted: Mapping[str, tuple[str, ...]],
        hydranets: Mapping[str, HydraNet],
        rig: Rig,
        sessions: Sessions,
        max_gap_s: float,
        threads_beside: int | None = None,
    ) -> None:
        self.loaded: tuple[Network, ...] = ()
        self._hydranets = hydranets
        self._topdowns: dict[str, TopDown] = {}
        self._continuities = {name: Continuity(f"network {name}", max_gap_s) for name in wanted}
        self._specs: dict[str, TopDownNetwork] = {}
        self._network_of: dict[str, str] = {}
        self._taking_part: dict[_Lift, NDArray[np.uint8]] = {}
        self._present: dict[_Lift, NDArray[np.uint8]] = {}
        self._broken: dict[_Lift, NDArray[np.uint8]] = {}
        for name, outputs in wanted.items():
            spec = bundle.manifest.topdown_networks[name]
            for lift in spec.lifts:
                self._network_of[lift.source] = bundle.source_of(lift.source)[0]
                self._note_cameras((name, lift.source), bundle.cameras(name, rig))
            tensors = [spec.outputs[output].tensor for output in outputs] + [state.output for state in spec.states]
            network = sessions.load(name, tensors)  # entries of one file share it, buffers and states are their own
            narrow = None if threads_beside is None else sessions.load(name, tensors, threads_beside)
            sources = {lift.source: self._source(lift.source) for lift in spec.lifts}
            self._specs[name] = spec
            grid, variant = bundle.manifest.grid, bundle.variant
            self._topdowns[name] = TopDown(name, spec, network, grid, sources, outputs, rig, variant, narrow)
            self.loaded += (network,) if narrow is None else (network, narrow)

    @property
    def networks(self) -> dict[str, Network]:
        """The loaded networks by id."""
        return {name: topdown.network for name, topdown in self._topdowns.items()}

    def warm(self) -> None:
        """Do beforehand what the first step would do for the first time."""
        for topdown in self._topdowns.values():
            topdown.warm()

    def take_over(self, before: TopDowns) -> None:
        """Go on with the states of others, which are not to be used any more."""
        for name in self._topdowns.keys() & before._topdowns.keys():
            self._topdowns[name].take_over(before._topdowns[name])
            self._continuities[name].take_over(before._continuities[name])

    def carry(self, timestamp_ns: int, whole: StateStatus, motion: Motion | None) -> dict[str, StateStatus]:
        """Carry every recurrent state into the ego frame of now, or begin it anew where that cannot be.

        Parameters
        ----------
        timestamp_ns, whole, motion : the step, and what :class:`octobev.runtime.memory.Memory` says about it

        Returns
        -------
        Output name -> how it went for the state of its network; outputs of networks without a state are left out.
        """
        statuses: dict[str, StateStatus] = {}
        for name, topdown in self._topdowns.items():
            status = self._continuities[name].follow(timestamp_ns, whole)
            if status.carried and motion is not None:
                topdown.move(motion.before_from_now)
            else:
                topdown.reset()
            if topdown.recurrent:
                statuses |= dict.fromkeys(topdown.outputs, status)
        return statuses

    def aim(self, fired_from_ego: Mapping[str, Pose]) -> None:
        """Have the view transforms of a set ready before its features are.

        A camera that has a frame is expected to give features, unless it had one in the set before and gave none.

        Parameters
        ----------
        fired_from_ego : camera -> `ego_when_it_fired_from_ego_now`, for the cameras that have a frame
        """
        for name, topdown in self._topdowns.items():
            moves, expected = {}, {}
            for source in self._sources(name):
                cameras = self._hydranets[self._network_of[source]].cameras
                moves[source] = [fired_from_ego.get(camera, _STANDING) for camera in cameras]
                present = np.array([camera in fired_from_ego for camera in cameras], dtype=np.uint8)
                self._present[name, source] = present
                expected[source] = present & self._taking_part[name, source] & ~self._broken[name, source]
            topdown.aim(moves, expected)

    def lift(self, results: Mapping[str, CameraResults], num_threads: int = 1) -> None:
        """Lift the features of the set that was aimed at; what the per-camera networks gave is not read any more then.

        Parameters
        ----------
        results : network id -> what it gave
        """
        for name, topdown in self._topdowns.items():
            features = {s: self._hydranets[self._network_of[s]].rows(s) for s in self._sources(name)}
            active = {source: self._active(name, source, results) for source in features}
            topdown.lift(features, active, num_threads)

    def look_pieces(self) -> list[Piece]:
        """Return what is to be done before :meth:`values`, and beside :meth:`run` if somebody has time."""
        return [topdown.look for topdown in self._topdowns.values()]

    def run(self, *, beside: bool = False) -> dict[str, str]:
        """Run every network on what was lifted; returns why outputs are withheld, by name.

        Parameters
        ----------
        beside : on `threads_beside`, as the others work ahead on the next set's cameras
        """
        failures: dict[str, str] = {}
        for name, topdown in self._topdowns.items():
            failure = topdown.run(narrow=beside)
            if failure is None:
                self._continuities[name].take_in()
            else:
                failures |= dict.fromkeys(topdown.outputs, failure)
        return failures

    def values(self) -> dict[str, BevOutput]:
        """Give the outputs of the networks that did not fail."""
        return {key: value for topdown in self._topdowns.values() for key, value in topdown.values().items()}

    def _note_cameras(self, lift: _Lift, cameras: Collection[str]) -> None:
        given = self._hydranets[self._network_of[lift[1]]].cameras
        self._taking_part[lift] = np.array([camera in cameras for camera in given], dtype=np.uint8)
        self._broken[lift] = np.zeros(len(given), dtype=np.uint8)

    def _source(self, output: str) -> FeatureSource:
        net = self._hydranets[self._network_of[output]]
        features = net.features(output)
        return FeatureSource(
            net.cameras, features.cameras, features.shape, features.stride, features.channels, features.levels
        )

    def _sources(self, name: str) -> tuple[str, ...]:
        return tuple(lift.source for lift in self._specs[name].lifts)

    def _active(self, name: str, source: str, results: Mapping[str, CameraResults]) -> NDArray[np.uint8]:
        """Which cameras of a source give features to a network; notes those that have a frame and give none."""
        network = self._network_of[source]
        given = usable(self._hydranets[network], results[network], [source])
        self._broken[name, source] = self._present[name, source] & ~given
        return given & self._taking_part[name, source]
