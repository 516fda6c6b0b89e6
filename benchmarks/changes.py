"""What a recalibration and other wanted outputs cost while a runtime steps at 10 sets a second, on one thread.

    python benchmarks/changes.py

Another thread makes the changes, one a second; frames are grey and decoded. `change` is what the calling thread does,
`first step` the step that takes a change over, `step` all the others: processor time of their threads. `wall` is the
wall time of all steps, those that run during a change among them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import octobev
from octobev.fusion.rig import Camera
from octobev.replay.rigs import reference_rig
from octobev.runtime.bundle import REFERENCE_BUNDLE

PERIOD_S = 0.1
CHANGES = 12


def turned(rig: octobev.Rig, number: int) -> octobev.Rig:
    """Turn every camera by a little."""
    turn = octobev.Pose.planar(0.0, 0.0, 0.002 * (number % 3))
    return octobev.Rig(tuple(Camera(c.name, c.intrinsics, turn @ c.ego_from_camera) for c in rig), rig.name)


def rss_mb() -> float:
    """Tell the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def spread(samples: Sequence[float]) -> str:
    """Median and maximum."""
    return f"{np.median(samples):6.1f} {max(samples):7.1f}" if samples else f"{'-':>6} {'-':>7}"


def measure(runtime: octobev.Runtime, rig: octobev.Rig, change: Callable[[int], None] | None) -> None:
    """Step in real time while another thread makes the changes; print a row."""
    image = np.full((rig.cameras[0].intrinsics.height, rig.cameras[0].intrinsics.width, 3), 99, dtype=np.uint8)
    changes: list[float] = []
    firsts: list[float] = []
    steps: list[float] = []
    walls: list[float] = []
    done = threading.Event()

    def make_changes() -> None:
        for number in range(CHANGES):
            time.sleep(1.0)
            if change is not None:
                begin = time.thread_time()
                change(number)
                changes.append((time.thread_time() - begin) * 1e3)
        done.set()

    runtime.reset()
    thread = threading.Thread(target=make_changes)
    began = time.perf_counter()
    thread.start()
    number = seen = 0
    while not done.is_set():
        pose, now_ns = octobev.Pose.planar(0.5 * number, 0, 0), number * 100_000_000
        frames = tuple(octobev.Frame(name, now_ns, image, world_from_ego=pose) for name in rig.names)
        made = len(changes)
        wall, used = time.perf_counter(), time.thread_time()
        runtime.step(octobev.FrameSet(now_ns, frames, pose))
        (firsts if made > seen else steps).append((time.thread_time() - used) * 1e3)
        walls.append((time.perf_counter() - wall) * 1e3)
        seen = made
        number += 1
        time.sleep(max(0.0, began + number * PERIOD_S - time.perf_counter()))
    thread.join()
    name = "nothing" if change is None else change.__name__
    print(
        f"{name:20} {spread(changes)}  {spread(firsts)}  {spread(steps)}  {spread(walls)}  {rss_mb():5.0f}", flush=True
    )


def main() -> None:
    """Run and print the table."""
    rig, bundle = reference_rig(), octobev.open_bundle(REFERENCE_BUNDLE)
    few, many = ["road_layout"], list(bundle.default_outputs)
    others = [["road_layout", name] for name in ("depth", "objects", "segmentation", "features", "occupancy")]
    runtime = octobev.Runtime(bundle, rig, threads=1)

    def recalibrate(number: int) -> None:
        runtime.recalibrate(turned(rig, number))

    def few_or_all(number: int) -> None:
        runtime.want(many if number % 2 else few)

    def others_each_time(number: int) -> None:
        runtime.want(others[number % len(others)])

    print(f"{len(rig)} cameras, {runtime.threads} thread, {bundle.manifest.name}, {runtime.bundle.variant}; ms")
    titles = ("change", "first step", "step", "wall")
    print(f"{'p50 and maximum':20} {'  '.join(f'{title:>14}' for title in titles)}  {'RSS':>5}")
    for change in (None, recalibrate, few_or_all, others_each_time, None):
        measure(runtime, rig, change)


if __name__ == "__main__":
    main()
