"""What asking for few outputs saves: a step for all outputs of the reference bundle against steps for one each.

    python benchmarks/outputs.py

Frames are grey and decoded; A B A B in one process, medians. A ratio below 1 is time that is not spent.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import octobev
from octobev.replay.rigs import reference_rig
from octobev.runtime.bundle import REFERENCE_BUNDLE

ROUNDS = 15


def step_ms(runtime: octobev.Runtime, number: int, rig: octobev.Rig) -> float:
    """Time one step, milliseconds."""
    image = np.full((rig.cameras[0].intrinsics.height, rig.cameras[0].intrinsics.width, 3), 99, dtype=np.uint8)
    now_ns, pose = number * 100_000_000, octobev.Pose.planar(0.5 * number, 0, 0)
    frames = tuple(octobev.Frame(name, now_ns, image, world_from_ego=pose) for name in rig.names)
    frame_set = octobev.FrameSet(now_ns, frames, pose)
    begin = time.perf_counter()
    runtime.step(frame_set)
    return (time.perf_counter() - begin) * 1e3


def main() -> None:
    """Run and print the table."""
    rig, bundle = reference_rig(), octobev.open_bundle(REFERENCE_BUNDLE)
    choices = [None, *([name] for name in bundle.plan().outputs)]
    runtimes = [octobev.Runtime(bundle, rig, outputs=choice) for choice in choices]
    times: list[list[float]] = [[] for _ in choices]
    for number in range(ROUNDS + 2):
        for runtime, samples in zip(runtimes, times, strict=True):
            elapsed_ms = step_ms(runtime, number, rig)
            if number >= 2:
                samples.append(elapsed_ms)
    whole = statistics.median(times[0])
    print(f"{len(rig)} cameras, {runtimes[0].threads} threads, {ROUNDS} rounds")
    print(f"{'outputs':16} {'ms':>8} {'of all':>7}")
    for choice, samples in zip(choices, times, strict=True):
        median = statistics.median(samples)
        print(f"{'all' if choice is None else choice[0]:16} {median:8.1f} {median / whole:7.2f}")


if __name__ == "__main__":
    main()
