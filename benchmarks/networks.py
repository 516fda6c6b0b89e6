"""What the reference networks of one frame set cost in ONNX Runtime alone, float32 against int8.

    python benchmarks/networks.py

Eight runs of the per-camera network shared out among the threads, then one run of the top-down network on all of them;
A B A B in one process, medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import octobev
import onnxruntime
from octobev.replay.rigs import reference_rig
from octobev.runtime.bundle import REFERENCE_BUNDLE
from octobev.runtime.manifest import Variant
from octobev.runtime.variants import variants_of

ROUNDS = 25


class Networks:
    """Both networks of a variant, with inputs of plausible numbers."""

    def __init__(self, bundle: octobev.Bundle, variant: Variant, threads: int) -> None:
        self.cameras = len(reference_rig())
        self.per_camera = _session(bundle.model_bytes("hydranet", variant), 1)
        self.topdown = _session(bundle.model_bytes("topdown", variant), threads)
        random = np.random.default_rng(0)
        self.image = {"image": random.integers(0, 256, (1, 3, 192, 320), dtype=np.uint8)}
        self.ground = {
            given.name: random.gamma(1.0, 0.5, given.shape).astype(np.float32) for given in self.topdown.get_inputs()
        }
        self.pool = ThreadPoolExecutor(threads)

    def per_camera_ms(self) -> float:
        """Time all runs of the per-camera network, milliseconds."""
        begin = time.perf_counter()
        list(self.pool.map(lambda _: self.per_camera.run(None, self.image), range(self.cameras)))
        return (time.perf_counter() - begin) * 1e3

    def topdown_ms(self) -> float:
        """Time one run of the top-down network, milliseconds."""
        begin = time.perf_counter()
        self.topdown.run(None, self.ground)
        return (time.perf_counter() - begin) * 1e3


def _session(graph: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    threads = parser.parse_args().threads
    bundle = octobev.open_bundle(REFERENCE_BUNDLE)
    variants = variants_of(bundle)
    networks = [Networks(bundle, variant, threads) for variant in variants]
    times: list[list[tuple[float, float]]] = [[] for _ in variants]
    for number in range(ROUNDS + 3):
        for net, samples in zip(networks, times, strict=True):
            elapsed = net.per_camera_ms(), net.topdown_ms()
            if number >= 3:
                samples.append(elapsed)
    print(f"onnxruntime {onnxruntime.__version__}, {threads} threads, {ROUNDS} rounds, medians (least) in ms")
    print(f"{'variant':8} {'8 cameras':>16} {'top-down':>16} {'one set':>16}")
    for variant, samples in zip(variants, times, strict=True):
        columns = [list(column) for column in zip(*samples, strict=True)]
        columns.append([sum(sample) for sample in samples])
        cells = [f"{statistics.median(column):.1f} ({min(column):.1f})" for column in columns]
        print(f"{variant:8} " + " ".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
