"""A host process with a live runtime in it: camera drivers, localisation and planner on threads of their own.

python examples/host.py --seconds 10                                 the demo town, eight cameras, at real pace
python examples/host.py --rig rig.toml                               the sources that the cameras of rig.toml name

Prints a line per second. Ctrl-C or SIGTERM ends it. docs/embedding.md goes through it.
"""

from __future__ import annotations

import argparse
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import octobev
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.bundle import REFERENCE_BUNDLE
from octobev.runtime.live.health import Health
from octobev.sources.rig_sources import RigSources, make_sources, read_addresses

Image = tuple[int, np.ndarray, str]  # capture time in nanoseconds, pixels, pixel format

LOCALISATION_HZ = 50.0


class CameraDriver(threading.Thread):
    """One camera: waits for its images and hands them in."""

    def __init__(self, live: octobev.LiveRuntime, camera: str, images: Iterator[Image]) -> None:
        super().__init__(name=f"camera-{camera}")
        self.live, self.camera, self.images = live, camera, images

    def run(self) -> None:
        """Submit; an image that the runtime refuses is this driver's fault, and no reason to end."""
        for timestamp_ns, pixels, pixel_format in self.images:
            try:
                self.live.submit(self.camera, pixels, timestamp_ns, pixel_format=pixel_format)
            except octobev.OctobevError as error:
                logging.error("%s: %s", self.name, error)


class Localisation(threading.Thread):
    """Tells where the car is, at a rate of its own."""

    def __init__(
        self, live: octobev.LiveRuntime, world_from_ego: Callable[[int], octobev.Pose], ended: threading.Event
    ) -> None:
        super().__init__(name="localisation")
        self.live, self.world_from_ego, self.ended = live, world_from_ego, ended

    def run(self) -> None:
        """Submit poses on the clock of the frames."""
        while not self.ended.wait(1 / LOCALISATION_HZ):
            timestamp_ns = time.time_ns()
            self.live.submit_pose(timestamp_ns, self.world_from_ego(timestamp_ns))


class Planner(threading.Thread):
    """Plans on the newest predictions, however long it thinks about the ones before."""

    def __init__(self) -> None:
        super().__init__(name="planner")
        self.inbox: queue.Queue[octobev.Predictions | None] = queue.Queue(maxsize=1)
        self.road_ahead_m: float | None = None

    def put(self, predictions: octobev.Predictions | None) -> None:
        """Leave predictions in the inbox, in place of those that were not fetched; never waits."""
        while True:
            try:
                return self.inbox.put_nowait(predictions)
            except queue.Full:
                try:
                    self.inbox.get_nowait()
                except queue.Empty:
                    continue

    def run(self) -> None:
        """Plan until None is put."""
        while (predictions := self.inbox.get()) is not None:
            self.road_ahead_m = road_ahead_m(predictions.road_layout)


def road_ahead_m(layout: octobev.RoadLayout | None) -> float | None:
    """How far the road goes on ahead along y = 0; None when nothing is known, which is not the same as 0."""
    if layout is None or "drivable" not in layout.classes:
        return None
    grid = layout.grid
    first, column = int(-grid.x_min_m / grid.resolution_m), int(-grid.y_min_m / grid.resolution_m)
    road = layout.observed[first:, column] & (layout["drivable"][first:, column] > 0.5)
    return float(np.argmin([*road, False])) * grid.resolution_m


class Town:
    """Stands for the world: the demo drive, rendered when its time comes."""

    def __init__(self, seconds: float, ended: threading.Event) -> None:
        self.drive = SyntheticDrive(20_003, seconds, rate_hz=10.0, size=(320, 240), encode=None)
        self.ended = ended
        self._steps = self.drive.steps()
        self._rendered: list[dict[str, Image]] = []
        self._late_ns = 0
        self._lock = threading.Lock()
        _ = self.drive.world  # built when first asked for, which takes a second

    def images(self, camera: str) -> Iterator[Image]:
        """Give a camera's images, each when its capture time has come."""
        number = 0
        while (images := self._render(number)) is not None:
            timestamp_ns = images[camera][0]
            if self.ended.wait(max(0, timestamp_ns - time.time_ns()) / 1e9):
                return
            yield images.pop(camera)
            number += 1

    def world_from_ego(self, timestamp_ns: int) -> octobev.Pose:
        """Where the ego is."""
        return self.drive.world_from_ego(timestamp_ns - self._late_ns)

    def _render(self, number: int) -> dict[str, Image] | None:
        """The images of one instant; rendered by the camera that asks first. A town that is late stands still."""
        with self._lock:
            while number == len(self._rendered):
                step = next(self._steps, None)
                if step is None:
                    return None
                frames = step.frame_set.frames
                self._late_ns = max(self._late_ns, time.time_ns() - min(frame.timestamp_ns for frame in frames))
                self._rendered.append(
                    {f.camera: (f.timestamp_ns + self._late_ns, f.data, f.pixel_format.value) for f in frames}
                )
            return self._rendered[number]


def line(seconds: int, health: Health, sets: int, road_m: float | None) -> str:
    """What a person wants to know."""
    wrong = [f"{name} {camera.condition.value}" for name, camera in health.cameras.items() if camera.condition != "ok"]
    latency = "" if health.latency is None else f", latency {health.latency.p50_ms:.0f} ms"
    road = f"road ahead {road_m:.1f} m" if road_m is not None else "road not known: stop"
    stuck = [f"{stage} is stuck" for stage in health.stalled]
    said = road if health.valid else f"not valid: {health.reason}"
    return f"{seconds} s: {sets} sets{latency}, overrun {health.overrun}, {', '.join([said, *wrong, *stuck])}"


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="how long (default: the demo 30 s, cameras until Ctrl-C)")
    parser.add_argument("--bundle", type=Path, default=REFERENCE_BUNDLE, help="model bundle (default: the shipped one)")
    parser.add_argument("--rig", type=Path, help="rig.toml of cameras with sources, see docs/live.md")
    parser.add_argument("--publish", metavar="ENDPOINT", help="publish on ZeroMQ, e.g. ipc:///tmp/octobev")
    return parser.parse_args()


def run_demo(live: octobev.LiveRuntime, town: Town, stack: ExitStack) -> None:
    """Start a driver per camera and the localisation; they are joined when the stack is left."""
    threads: list[threading.Thread] = [CameraDriver(live, name, town.images(name)) for name in town.drive.rig.names]
    threads.append(Localisation(live, town.world_from_ego, town.ended))
    for thread in threads:
        thread.start()
        stack.callback(thread.join)
        stack.callback(town.ended.set)  # before the thread is joined, whatever ended us


def run_cameras(live: octobev.LiveRuntime, rig: Path, stack: ExitStack) -> None:
    """Start the sources that the rig names, each on its thread. Without poses nothing is carried over time."""
    sources = make_sources(octobev.read_rig(rig), read_addresses(rig))
    stack.enter_context(RigSources(sources, live.submit_frame)).start()


def watch(live: octobev.LiveRuntime, planner: Planner, seconds: float, ended: threading.Event) -> None:
    """Print a line per second until it is over."""
    begin_s, sets, second = time.monotonic(), 0, 0
    while second < seconds and not ended.wait(max(0.0, begin_s + second + 1 - time.monotonic())):
        health = live.health()
        second += 1
        print(line(second, health, health.sets - sets, planner.road_ahead_m), flush=True)
        sets = health.sets


def main() -> None:
    """Start everything in order; the stack ends it in the opposite order."""
    given = arguments()
    logging.basicConfig(level=logging.INFO)  # handlers are the host's too
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # signals are the host's: the runtime handles none
        signal.signal(number, lambda *_: ended.set())
    demo = given.rig is None
    seconds = (30.0 if demo else float("inf")) if given.seconds is None else given.seconds
    town = Town(seconds + 5.0, ended) if demo else None
    rig = town.drive.rig if town else octobev.read_rig(given.rig)
    settings = octobev.LiveSettings(frozen_after=None if demo else 5)  # rendered images have no noise
    bundle = octobev.open_bundle(given.bundle)
    planner = Planner()
    planner.start()
    with ExitStack() as stack:
        stack.callback(planner.put, None)
        publisher = stack.enter_context(octobev.Publisher(given.publish)) if given.publish else None
        live = stack.enter_context(
            octobev.LiveRuntime(bundle, rig, settings=settings, publisher=publisher, on_predictions=planner.put)
        )
        if town:
            run_demo(live, town, stack)
        else:
            run_cameras(live, given.rig, stack)
        watch(live, planner, seconds, ended)
    planner.join()
    print(f"ended after {live.health().sets} sets", flush=True)


if __name__ == "__main__":
    main()
