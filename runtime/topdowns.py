"""The top-down networks of a bundle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..fusion.pose import Pose
from ..fusion.rig import Rig
from .bundle import Bundle, TopDownNetwork
from .castouts import usable
from .hydranet import CameraResults, HydraNet
from .memory import Continuity, Motion
from .predictions import BevOutput, StateStatus
from .session import Network
from .sessions import Sessions
from .topdown import FeatureSource, LiftedFeatures, TopDown


class TopDowns:
    """Runs the wanted top-down networks of a bundle, each with cameras, matrices and a state of its own."""

    def __init__(
        self,
        bundle: Bundle,
        wanted: Mapping[str, tuple[str, ...]],
        hydranets: Mapping[str, HydraNet],
        rig: Rig,
        sessions: Sessions,
        max_gap_s: float,
    ) -> None:
        self._hydranets = hydranets
        self._topdowns: dict[str, TopDown] = {}
        self._continuities = {name: Continuity(f"network {name}", max_gap_s) for name in wanted}
        self._specs: dict[str, TopDownNetwork] = {}
        self._cameras = {name: frozenset(bundle.cameras(name, rig)) for name in wanted}
        self._network_of: dict[str, str] = {}
        for name, outputs in wanted.items():
            spec = bundle.manifest.topdown_networks[name]
            for lift in spec.lifts:
                self._network_of[lift.source] = bundle.source_of(lift.source)[0]
            tensors = [spec.outputs[output].tensor for output in outputs] + [state.output for state in spec.states]
            network = sessions.load(name, tensors)  # entries of one file share it, buffers and states are their own
            sources = {lift.source: self._source(lift.source) for lift in spec.lifts}
            self._specs[name] = spec
            self._topdowns[name] = TopDown(name, spec, network, bundle.manifest.grid, sources, outputs, rig)

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

    def step(
        self, results: Mapping[str, CameraResults], fired_from_ego: Mapping[str, Pose]
    ) -> tuple[dict[str, BevOutput], dict[str, str]]:
        """Run every network on one set; returns the outputs, and for withheld ones the reason."""
        outputs: dict[str, BevOutput] = {}
        failures: dict[str, str] = {}
        for name, topdown in self._topdowns.items():
            features = {
                lift.source: self._features(name, lift.source, results, fired_from_ego)
                for lift in self._specs[name].lifts
            }
            values, failure = topdown.step(features)
            outputs |= values
            if failure is None:
                self._continuities[name].take_in()
            else:
                failures |= dict.fromkeys(topdown.outputs, failure)
        return outputs, failures

    def _source(self, output: str) -> FeatureSource:
        net = self._hydranets[self._network_of[output]]
        features = net.features(output)
        return FeatureSource(net.cameras, features.cameras, features.shape, features.stride, features.channels)

    def _features(
        self,
        name: str,
        output: str,
        results: Mapping[str, CameraResults],
        fired_from_ego: Mapping[str, Pose],
    ) -> LiftedFeatures:
        network = self._network_of[output]
        net = self._hydranets[network]
        taking_part = np.array([camera in self._cameras[name] for camera in net.cameras], dtype=np.uint8)
        return LiftedFeatures(
            net.rows(output),
            usable(net, results[network], [output]) & taking_part,
            [fired_from_ego.get(camera, Pose.identity()) for camera in net.cameras],
        )
