"""The runtime: a bundle, a rig, and the step from a frame set to predictions."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected
from ..fusion.pose import Pose
from ..fusion.rig import Rig, rig_sha256
from .bundle import Bundle
from .castouts import CastOuts
from .frames import Frame, FrameSet
from .hooks import InputWatch, RunHooks, Tamper
from .hydranet import CameraResults, HydraNet
from .memory import Memory
from .predictions import CameraPrediction, Predictions, Provenance
from .stages import StageTimes
from .topdowns import TopDowns
from .variants import VariantChoice, select_variant

T = TypeVar("T")

_VERSIONED: Final = ("octobev", "onnxruntime", "numpy")


class Runtime:
    """Steps from frame sets to predictions: synchronous, deterministic, one step at a time.

    Parameters
    ----------
    bundle : the opened model bundle
    rig : the calibration in use; frames of other cameras are ignored
    outputs : names of the wanted outputs (see `octobev bundle info`); only what they need is loaded and run, on the
        cameras that it needs. None: `bundle.default_outputs`
    threads : worker threads; None: the CPUs that this process may use. Results do not depend on it.
    max_gap_s : a longer time between two sets, or without anything usable from a network, makes the state begin anew
    variant : which arithmetic the networks compute in: `fp32`, `int8`, or `auto`: int8 where the bundle has it and the
        processor has int8 dot products. `bundle.variant` and the predictions' provenance say which one it is.

    Raises
    ------
    InvalidArgument
        An unknown output or variant, or no thread.
    RigError
        What is wanted needs a camera that the rig lacks.
    BundleError
        A network is not what the manifest declares, or the bundle has no such variant.
    """

    def __init__(
        self,
        bundle: Bundle,
        rig: Rig,
        outputs: Iterable[str] | None = None,
        threads: int | None = None,
        *,
        max_gap_s: float = 1.0,
        variant: VariantChoice = "auto",
    ) -> None:
        self.bundle = bundle = select_variant(bundle, variant)
        self.rig = rig
        self.threads = usable_cpus() if threads is None else threads
        if self.threads < 1:
            raise InvalidArgument(expected("threads", "at least 1", self.threads))
        self.plan = bundle.plan(outputs)
        self._hooks = RunHooks()
        self._hydranets = {
            name: HydraNet.load(bundle, name, rig, wanted, bundle.needed_cameras(self.plan, name, rig), self._hooks)
            for name, wanted in self.plan.networks.items()
        }
        self._castouts = CastOuts(bundle, self.plan.castouts, self._hydranets, rig, max_gap_s)
        self._topdowns = TopDowns(bundle, self.plan.topdown, self._hydranets, rig, self.threads, max_gap_s, self._hooks)
        self._networks = {output: network for network, given in self.plan.topdown.items() for output in given}
        self._memory = Memory(max_gap_s)
        self._sequence = 0
        self._closed = False
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="octobev") if self.threads > 1 else None
        self.provenance = self._provenance()

    def step(self, frame_set: FrameSet) -> Predictions:
        """Predict for one frame set.

        A camera that is absent, or whose image cannot be decoded, is masked and named in `absences`; a network's NaN or
        Inf, or its failure, withholds that output and names it in `invalid`; a top-down network's state is then again
        what it was before, and is carried on from there. None of these raises.
        """
        if self._closed:
            raise InvalidArgument("this runtime is closed; make a new one")
        stages = StageTimes()
        frames, absences = self._present(frame_set)
        results = {name: net.run(frames, self._pool, stages) for name, net in self._hydranets.items()}
        absences |= {camera: why for result in results.values() for camera, why in result.absences.items()}
        invalid = {key: why for result in results.values() for key, why in result.invalid.items()}

        status, motion = self._memory.follow(frame_set.timestamp_ns, frame_set.world_from_ego)
        fired_from_ego = {name: _fired_from_ego(frame, frame_set) for name, frame in frames.items()}
        states = self._castouts.carry(frame_set.timestamp_ns, status, motion)
        states |= self._topdowns.carry(frame_set.timestamp_ns, status, motion)
        with stages.measure("castout"):
            bev = self._castouts.step(results, fired_from_ego, self._map)
        with stages.measure("topdown"):
            topdown, failures = self._topdowns.step(results, fired_from_ego)
        states |= {name: replace(states[name], restored=why) for name, why in failures.items() if name in states}
        with stages.measure("collect"):
            camera_outputs = self._camera_outputs(results)
        predictions = Predictions(
            timestamp_ns=frame_set.timestamp_ns,
            sequence=self._sequence,
            cameras=self.rig.names,
            camera_mask=np.array([name in frames and name not in absences for name in self.rig.names]),
            camera_age_ns=self._ages(frame_set.timestamp_ns, frames),
            absences=absences,
            bev=bev | topdown,
            camera_outputs=camera_outputs,
            invalid=invalid | failures,
            state=status,
            provenance=self.provenance,
            stages_ms=stages.totals_ms(),
            networks=self._networks,
            states=states,
        )
        self._sequence += 1
        return predictions

    def reset(self, reason: str = "asked for") -> None:
        """Forget what is carried over time; the next step says so."""
        self._memory.forget(reason)

    def watch_inputs(self, watch: InputWatch | None) -> None:
        """Have something called with what each network is about to read: to calibrate it, or to look for a fault.

        Parameters
        ----------
        watch : gets the id of a network and its inputs by tensor name, before each of its runs: a per-camera network
            runs once a camera (or group of them), on one of the worker threads. The arrays are the network's own
            memory, which the next run overwrites: read or copy them. None: nothing any more
        """
        self._hooks.watch = watch

    def tamper(self, network_id: str, tamper: Tamper | None) -> None:
        """Have something done to what a network gives, to see what follows from it: NaN, an error, a slow run.

        For tests and fault injection. May be called from any thread; costs nothing while nothing is set.

        Parameters
        ----------
        network_id : id of a network in the manifest, whether it runs now or not
        tamper : called after each run of that network, before anything reads its results, on the thread of the run
            (several at a time for a per-camera network): `tamper(cameras, outputs)`. `cameras`: names of those whose
            images were run, usually one; empty for a top-down network. `outputs`: arrays by the tensor names of the
            ONNX file, recurrent states among them; what is written into them is taken for the network's own. To wait
            in it makes the network slow; to raise :class:`~octobev.errors.NetworkError` makes it fail. None: leave
            the network alone again

        Raises
        ------
        InvalidArgument
            The bundle has no such network.
        """
        if network_id not in self.bundle.manifest.networks:
            raise InvalidArgument(expected("network", f"one of {', '.join(self.bundle.manifest.networks)}", network_id))
        if tamper is None:
            self._hooks.tampers.pop(network_id, None)
        else:
            self._hooks.tampers[network_id] = tamper

    def close(self) -> None:
        """End the worker threads. A closed runtime cannot step."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _present(self, frame_set: FrameSet) -> tuple[dict[str, Frame], dict[str, str]]:
        frames = {frame.camera: frame for frame in frame_set.frames if frame.camera in self.rig}
        absences = {
            name: frame_set.absences.get(name, "no frame in this set") for name in self.rig.names if name not in frames
        }
        return frames, absences

    def _ages(self, timestamp_ns: int, frames: Mapping[str, Frame]) -> NDArray[np.int64]:
        ages = [timestamp_ns - frames[name].timestamp_ns if name in frames else 0 for name in self.rig.names]
        return np.array(ages, dtype=np.int64)

    def _camera_outputs(self, results: Mapping[str, CameraResults]) -> dict[str, dict[str, CameraPrediction]]:
        wanted = set(self.plan.outputs)
        return {
            name: outputs
            for net_id, net in self._hydranets.items()
            for name, outputs in net.outputs(results[net_id], wanted).items()
        }

    def _map(self, work: Callable[[str], T], names: Sequence[str]) -> list[T]:
        """Do independent pieces of work, side by side where there are threads."""
        if self._pool is None or len(names) < 2:
            return [work(name) for name in names]
        return list(self._pool.map(work, names))

    def _provenance(self) -> Provenance:
        networks = self._hydranets | self._topdowns.networks
        return Provenance(
            bundle_name=self.bundle.manifest.name,
            bundle_sha256=self.bundle.sha256,
            rig_sha256=rig_sha256(self.rig),
            versions=tuple((name, importlib.metadata.version(name)) for name in _VERSIONED),
            providers=tuple((name, tuple(network.providers)) for name, network in networks.items()),
            threads=self.threads,
            variant=self.bundle.variant,
        )


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fired_from_ego(frame: Frame, frame_set: FrameSet) -> Pose:
    """`ego_when_the_camera_fired_from_ego_now`; identity where one of the poses is not known."""
    if frame.world_from_ego is None or frame_set.world_from_ego is None:
        return Pose.identity()
    return frame.world_from_ego.inverse() @ frame_set.world_from_ego
