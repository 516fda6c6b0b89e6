"""What runs for some wanted outputs with one calibration."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected
from ..fusion.rig import Rig, rig_sha256
from .arrangement import Arrangement
from .bundle import Bundle, Plan
from .camera_run import CameraResults, Perception
from .castouts import CastOuts
from .frames import Frame, PixelFormat
from .hydranet import HydraNet
from .levelled import LevelledCameras
from .memory import Motion
from .predictions import Provenance, StateStatus
from .session import Network
from .sessions import Sessions
from .stages import StageTimes
from .topdowns import TopDowns, lifted_from_levels


@dataclass(frozen=True, slots=True, eq=False)
class Percepts:
    """What the per-camera networks gave for one set, kept to be cast to the ground again and again.

    results : network id -> how it went
    rows : network id -> output that is cast to the ground -> its rows, see :meth:`HydraNet.rows`; memory of their own
    """

    results: Mapping[str, CameraResults]
    rows: Mapping[str, Mapping[str, NDArray[Any]]]


class Graph:
    """The per-camera networks, cast-outs and top-down networks that some outputs need, on the cameras of one rig.

    It is made whole or not at all, and never changed: another calibration or other outputs are another graph, which
    takes over what is remembered. Networks come from `sessions`. A graph may be made and warmed while the one `before`
    runs on another thread.

    Parameters
    ----------
    bundle : which networks
    plan : which of them, for which outputs
    rig : the calibration
    sessions : where networks are loaded
    arrangement : how the per-camera networks' work is spread over threads
    profile : where that comes from, for the provenance
    max_gap_s : see :class:`octobev.runtime.memory.Continuity`
    before : the one that this one is to take the place of: what is the same is shared with it

    Raises
    ------
    RigError
        A network needs a camera that the rig lacks.
    BundleError
        A network is not what the manifest declares.
    """

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        rig: Rig,
        sessions: Sessions,
        *,
        arrangement: Arrangement,
        profile: str | None = None,
        max_gap_s: float,
        before: Graph | None = None,
    ) -> None:
        self.plan = plan
        self._wanted = frozenset(plan.outputs)
        self._arrangement = arrangement
        self.rig = rig
        self._from_levels = lifted_from_levels(bundle, plan.topdown)
        self._new: list[HydraNet] = []
        self.hydranets: dict[str, HydraNet] = {}
        for name, outputs in plan.networks.items():
            self.hydranets[name] = self._hydranet(bundle, name, outputs, sessions, before)
        self.castouts = CastOuts(bundle, plan.castouts, self.hydranets, rig, max_gap_s)
        on_cpu = all(provider.name == "CPUExecutionProvider" for provider in bundle.providers)
        beside = arrangement.threads_beside if arrangement.threads > 1 and on_cpu else None
        self.topdowns = TopDowns(bundle, plan.topdown, self.hydranets, rig, sessions, max_gap_s, beside)
        self.levelled: LevelledCameras | None = None
        if plan.horizon is not None:
            network_id, output = plan.horizon
            self.levelled = LevelledCameras(self.hydranets[network_id], output)
        self.network_of = {output: network for network, given in plan.topdown.items() for output in given}
        self.provenance = self._provenance(bundle, profile)

    @property
    def networks(self) -> dict[str, Network]:
        """The loaded networks by id."""
        return {name: net.network for name, net in self.hydranets.items()} | self.topdowns.networks

    @property
    def loaded(self) -> list[Network]:
        """All that is loaded for it: a network twice, where other numbers of threads run it."""
        return [*(net.network for net in self.hydranets.values()), *self.topdowns.loaded]

    def warm(self, pixel_formats: Iterable[PixelFormat]) -> None:
        """Do beforehand what the first step would do for the first time, so that it is not slower than the others.

        Parameters
        ----------
        pixel_formats : those of the frames to come
        """
        for net in self._new:
            net.warm(pixel_formats)
        self.castouts.warm()
        self.topdowns.warm()

    def take_over(self, before: Graph) -> None:
        """Go on with what another graph remembers, in so far as both have it; the other is not to be used any more."""
        self.castouts.take_over(before.castouts)
        self.topdowns.take_over(before.topdowns)

    def keep_level(self, before: Graph) -> None:
        """Go on with the tilts that another graph knows, if its cameras are the same; it is not to be used any more."""
        if self.levelled is not None and before.levelled is not None:
            self.levelled.take_over(before.levelled)

    def carry(self, timestamp_ns: int, whole: StateStatus, motion: Motion | None) -> dict[str, StateStatus]:
        """Carry what is remembered into the ego frame of now, or begin it anew; returns how it went for each output."""
        states = self.castouts.carry(timestamp_ns, whole, motion)
        return states | self.topdowns.carry(timestamp_ns, whole, motion)

    def begin_cameras(self, frames: Mapping[str, Frame], stages: StageTimes) -> Perception:
        """Begin to run the per-camera networks on the frames of one instant, see :meth:`HydraNet.begin`."""
        images = {net.images: net.images.begin(frames, stages) for net in self.hydranets.values()}
        runs = {name: net.begin(images[net.images], stages) for name, net in self.hydranets.items()}
        return Perception(runs, self._wanted)

    def keep(self, results: Mapping[str, CameraResults]) -> Percepts:
        """Copy what the latest run of the per-camera networks gave."""
        return Percepts(dict(results), {name: net.keep() for name, net in self.hydranets.items()})

    def put_back(self, percepts: Percepts) -> Perception:
        """Have the per-camera networks give what was kept, as if they had run.

        Raises
        ------
        InvalidArgument
            It was kept for other networks, outputs or cameras.
        """
        if percepts.rows.keys() != self.hydranets.keys():
            known = ", ".join(self.hydranets)
            raise InvalidArgument(expected("networks of what was kept", known, ", ".join(percepts.rows)))
        for name, net in self.hydranets.items():
            net.put_back(percepts.rows[name])
        return Perception({}, kept=percepts.results)

    def _hydranet(
        self, bundle: Bundle, name: str, outputs: tuple[str, ...], sessions: Sessions, before: Graph | None
    ) -> HydraNet:
        cameras = bundle.needed_cameras(self.plan, name, self.rig)
        old = None if before is None else before.hydranets.get(name)
        as_levels = self._from_levels & {*outputs}
        same = before is not None and before.rig is self.rig and before._from_levels & {*outputs} == as_levels
        if same and old is not None and (old.cameras, old.output_names) == (cameras, outputs):
            return old
        plans = None if old is None else old.plans
        images = [net.images for net in self.hydranets.values()]
        net = HydraNet.load(
            bundle, name, self.rig, outputs, cameras, sessions, plans, images, self._arrangement, as_levels
        )
        self._new.append(net)
        return net

    def _provenance(self, bundle: Bundle, profile: str | None) -> Provenance:
        return Provenance(
            bundle_name=bundle.manifest.name,
            bundle_sha256=bundle.sha256,
            rig_sha256=rig_sha256(self.rig),
            versions=_versions(),
            providers=tuple((name, network.providers) for name, network in self.networks.items()),
            threads=self._arrangement.threads,
            variant=bundle.variant,
            runs_at_once=self._arrangement.runs_at_once,
            batches=tuple((name, net.batch) for name, net in self.hydranets.items()),
            profile=profile,
        )


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    """Versions of what computes. That of ONNX Runtime is its own word: it comes in distributions of several names."""
    octobev = importlib.metadata.version("octobev")
    return (("octobev", octobev), ("onnxruntime", ort.__version__), ("numpy", np.__version__))
