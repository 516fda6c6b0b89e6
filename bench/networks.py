"""The networks of one set in ONNX Runtime alone, in the arrangement that is best on this machine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import onnxruntime

from ..runtime.bundle import Bundle
from ..runtime.manifest import Variant
from .material import HYDRANET, TOPDOWN, Material
from .spread import take_turns, wall_ms

_TRIAL_ROUNDS: Final = 9


def session(model: bytes, threads: int, *, spinning: bool) -> onnxruntime.InferenceSession:
    """Load a network with everything else as ONNX Runtime does by default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class BoundRun:
    """A session with inputs and outputs bound to arrays once, so that a run copies nothing."""

    def __init__(self, loaded: onnxruntime.InferenceSession, inputs: dict[str, Any]) -> None:
        self._session = loaded
        self._binding = loaded.io_binding()
        self._arrays = dict(inputs)  # the binding holds bare pointers
        for name, array in inputs.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for given in loaded.get_outputs():
            array = np.empty(given.shape, np.float32)
            self._arrays[given.name] = array
            self._binding.bind_output(given.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def __call__(self) -> BoundRun:
        """Run once."""
        self._session.run_with_iobinding(self._binding)
        return self


class NetworksAlone:
    """One set's runs of the per-camera network, then one of the top-down network, on inputs that are there.

    Several arrangements are tried, the fastest is kept: cameras side by side on threads of one's own, or one after
    another with ONNX Runtime's threads inside a run, which spin or do not.

    Parameters
    ----------
    bundle : the reference bundle
    variant : its arithmetic
    count : of cameras
    threads : in all

    Attributes
    ----------
    per_camera, topdown, run : the runs of the cameras, of the top-down network, of both
    arrangement : what is kept, in words
    """

    def __init__(self, bundle: Bundle, variant: Variant, count: int, threads: int) -> None:
        random = np.random.default_rng(0)
        given = bundle.manifest.camera_networks[HYDRANET].input
        shape = (1, given.channels, given.height, given.width)
        images = [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]
        self._pool = ThreadPoolExecutor(threads)
        hydranet, topdown = (bundle.model_bytes(name, variant) for name in (HYDRANET, TOPDOWN))

        def camera_runs(loaded: onnxruntime.InferenceSession) -> list[BoundRun]:
            return [BoundRun(loaded, {given.tensor: image}) for image in images]

        def side_by_side(runs: list[BoundRun]) -> Callable[[], object]:
            return lambda: list(self._pool.map(BoundRun.__call__, runs))

        def in_a_row(runs: list[BoundRun]) -> Callable[[], object]:
            return lambda: [run() for run in runs]

        def ground_run(loaded: onnxruntime.InferenceSession) -> BoundRun:
            inputs: dict[str, Any] = {}
            for tensor in loaded.get_inputs():
                if tensor.type == "tensor(uint8)":
                    inputs[tensor.name] = random.integers(0, 256, tensor.shape, dtype=np.uint8)
                else:
                    inputs[tensor.name] = random.gamma(1.0, 0.5, tensor.shape).astype(np.float32)
            return BoundRun(loaded, inputs)

        cameras_ways = {
            "cameras side by side": side_by_side(camera_runs(session(hydranet, 1, spinning=False))),
            "cameras in a row": in_a_row(camera_runs(session(hydranet, threads, spinning=False))),
            "cameras in a row, spinning": in_a_row(camera_runs(session(hydranet, threads, spinning=True))),
        }
        ground_ways = {
            "top-down not spinning": ground_run(session(topdown, threads, spinning=False)),
            "top-down spinning": ground_run(session(topdown, threads, spinning=True)),
        }
        pairs = {
            f"{cameras_way}; {ground_way}": (cameras, ground)
            for cameras_way, cameras in cameras_ways.items()
            for ground_way, ground in ground_ways.items()
        }
        # both together: threads that still spin for the one are in the way of the other
        trials = {way: wall_ms(_one_after_the_other(*pair)) for way, pair in pairs.items()}
        self.arrangement = take_turns(trials, _TRIAL_ROUNDS).fastest()
        self.per_camera, self.topdown = pairs[self.arrangement]
        self.run = _one_after_the_other(self.per_camera, self.topdown)

    @classmethod
    def of(cls, material: Material, variant: Variant | None = None) -> NetworksAlone:
        """The networks of the reference bundle for the reference rig."""
        bundle = material.bundle
        return cls(bundle, bundle.variant if variant is None else variant, len(material.rig), material.threads)


def _one_after_the_other(first: Callable[[], object], then: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        first()
        then()

    return run
