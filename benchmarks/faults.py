"""Each fault in turn on the live path: what happened, how long until it was flagged, and until all was well again.

    python benchmarks/faults.py [--rate 8] [--only lose] [--json]

A synthetic drive of eight cameras is played at its own pace into a LiveRuntime with the bundle that is shipped, a
publisher and a subscriber; the fault holds from 3 s to 5 s. *Flagged* is the first time after its beginning at which
predictions or health say so: a camera masked or not `ok`, outputs withheld, a deadline missed, nothing
carried over a jump of the clock, a recording ended.
*Recovered* is the time from its end until neither says so any more.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import octobev
from live_parts import Exceptions, looped, rendered
from octobev.errors import TopicTimeout
from octobev.replay.faults import ProcessFaults, disturb, parse_fault
from octobev.replay.faults.disk import FullDisk
from octobev.replay.live import LiveSinks, play_live
from octobev.replay.recorder import Recorder, create_recording
from octobev.replay.recording import RecordingSink
from octobev.runtime.bundle import REFERENCE_BUNDLE
from octobev.runtime.live.health import CameraCondition, Health
from octobev.runtime.live.runtime import LiveRuntime
from octobev.runtime.live.settings import LiveSettings

S = 1_000_000_000
START_S, LENGTH_S, END_S = 3.0, 2.0, 9.0
LAP_S = 3.0
POLL_S = 0.02
CAMERA = "front_main"

CASES = (
    f"lose:{CAMERA}",
    "lose:*",
    f"freeze:{CAMERA}",
    f"noise:{CAMERA}*0.3",
    f"delay:{CAMERA}+60ms",
    f"delay:{CAMERA}+400ms",
    f"reorder:{CAMERA}",
    f"repeat:{CAMERA}",
    f"clock:{CAMERA}+5s",
    "clock:*+5s",
    f"corrupt:{CAMERA}",
    "corrupt:*",
    "nan:topdown",
    "nan:hydranet",
    "slow:topdown+300ms",
    "stall-subscriber",
    "full-disk",
)
NEEDS = {
    "stall-subscriber": " --publish ipc:///tmp/octobev.sock",
    "full-disk": " --record out.mcap --force",
}


@dataclass(slots=True)
class Seen:
    """What one look at predictions or health said: when (monotonic seconds), and what was wrong."""

    at_s: float
    wrong: tuple[str, ...]
    of_predictions: bool


@dataclass
class Run:
    """One case while it runs."""

    case: str
    seen: list[Seen] = field(default_factory=list)
    started_s: float | None = None
    ended_s: float | None = None
    sets: Counter = field(default_factory=Counter)

    @property
    def camera(self) -> str | None:
        """The one camera that the fault is of."""
        return CAMERA if f":{CAMERA}" in self.case else None

    def concerns(self, camera: str) -> bool:
        """Whether the fault is of this camera."""
        return camera == self.camera or ":*" in self.case

    def follow(self, at_ns: int) -> None:
        """Take note of when the fault begins and ends."""
        if self.started_s is None and at_ns >= START_S * S:
            self.started_s = time.monotonic()
        if self.ended_s is None and at_ns >= (START_S + LENGTH_S) * S:
            self.ended_s = time.monotonic()

    def predictions(self, predictions: octobev.Predictions) -> None:
        """Look at predictions."""
        used = dict(zip(predictions.cameras, predictions.camera_mask.tolist(), strict=True))
        wrong = []
        if not any(used.values()):
            wrong.append("no camera")
        elif self.camera is not None and not used[self.camera]:
            wrong.append("masked")
        if predictions.invalid:
            wrong.append("outputs withheld")
        if self.case.startswith("clock:*") and not predictions.state.carried:
            wrong.append("nothing carried over")
        if self.started_s is not None and self.ended_s is None:
            self.sets["sets"] += 1
            self.sets["valid"] += bool(predictions.bev) and any(used.values())
            self.sets["masked"] += self.camera is not None and not used[self.camera]
        self.seen.append(Seen(time.monotonic(), tuple(wrong), True))

    def health(self, health: Health, before: Health) -> None:
        """Look at health."""
        wrong = []
        if not health.valid and health.sets:
            wrong.append("not valid")
        for name, camera in health.cameras.items():
            if self.concerns(name) and camera.condition is not CameraCondition.OK:
                wrong.append(camera.condition.value)
        missed = health.deadline_misses - before.deadline_misses + health.overrun - before.overrun
        if missed and self.case.startswith("slow"):
            wrong.append("late")
        self.seen.append(Seen(time.monotonic(), tuple(wrong), False))

    def times(self) -> tuple[float | None, float | None]:
        """Seconds from the beginning to the first flag, and from the end until the last of them was gone."""
        if self.started_s is None or self.ended_s is None:
            return None, None
        first: list[float] = []
        clear: list[float | None] = []
        for of_predictions in (True, False):
            looks = [
                look for look in self.seen if look.of_predictions is of_predictions and look.at_s >= self.started_s
            ]
            flags = [index for index, look in enumerate(looks) if look.wrong]
            if flags:
                first.append(looks[flags[0]].at_s - self.started_s)
                later = looks[flags[-1] + 1 :]
                clear.append(max(0.0, later[0].at_s - self.ended_s) if later else None)
        return min(first, default=None), None if None in clear else max(clear, default=None)


def run(case: str, drive, recorded, bundle) -> dict:
    """Run a case; returns its row."""
    spec = f"{case}@{START_S:g}s+{LENGTH_S:g}s"
    fault = parse_fault(spec)
    running = Run(case)
    over = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.mcap"
        with create_recording(path) as file, octobev.Publisher(f"ipc://{folder}/topic") as publisher:
            disk = FullDisk(file)
            sink = RecordingSink(Recorder(disk, drive.rig))
            sinks = LiveSinks({"record": sink})
            reader = _Reader(publisher.endpoint, over)
            reader.start()

            def on_predictions(predictions: octobev.Predictions) -> None:
                sinks(predictions)
                running.predictions(predictions)
                if sink.reason is not None:
                    running.seen[-1] = Seen(time.monotonic(), ("recording ended",), True)

            with (
                LiveRuntime(
                    bundle, drive.rig, settings=LiveSettings(), publisher=publisher, on_predictions=on_predictions
                ) as runtime,
                ProcessFaults(
                    [fault],
                    networks=bundle.manifest.networks,
                    tamper=runtime.tamper,
                    endpoint=publisher.endpoint,
                    disk=disk,
                ) as process,
            ):
                watch = threading.Thread(target=_watch, args=(runtime, running, over), name="faults-watch")
                watch.start()
                play_live(
                    disturb(looped(recorded, round(LAP_S * S), round(END_S * S)), [fault], 0),
                    runtime,
                    follow=_both(process.follow, running.follow),
                    on_submit=sinks.submitted,
                )
                over.set()
                watch.join()
                health = runtime.health()
            reader.join()
            sink.close()
    flagged, recovered = running.times()
    return {
        "fault": spec,
        "happened": _happened(running, health, sink, reader),
        "flagged_s": None if flagged is None else round(flagged, 2),
        "recovered_s": None if recovered is None else round(recovered, 2),
        "errors": dict(health.errors),
        "command": f"octobev replay demo --live --fault '{spec}'{NEEDS.get(case, '')}",
    }


class _Reader(threading.Thread):
    """A subscriber that reads everything."""

    def __init__(self, endpoint: str, over: threading.Event) -> None:
        super().__init__(name="faults-reader")
        self._subscriber = octobev.Subscriber(endpoint, hwm=64)
        self._over = over
        self.received = self.lost = 0

    def run(self) -> None:
        """Read until it is over."""
        with self._subscriber:
            while not self._over.is_set():
                try:
                    self._subscriber.receive(0.2)
                except TopicTimeout:
                    continue
                self.received += 1
        self.lost = sum(self._subscriber.lost.values())


def _watch(runtime: LiveRuntime, running: Run, over: threading.Event) -> None:
    before = runtime.health()
    while not over.wait(POLL_S):
        now = runtime.health()
        running.health(now, before)
        before = now


def _both(*followers: Callable[[int], None]) -> Callable[[int], None]:
    def follow(at_ns: int) -> None:
        for follower in followers:
            follower(at_ns)

    return follow


def _happened(running: Run, health: Health, sink: RecordingSink, reader: _Reader) -> str:
    sets = running.sets
    words = [f"{sets['sets']} predictions meanwhile, {sets['valid']} with outputs"]
    if running.camera is not None:
        camera = health.cameras[running.camera]
        conditions = dict.fromkeys(
            what
            for look in running.seen
            if not look.of_predictions and look.at_s >= (running.started_s or 0.0)
            for what in look.wrong
        )
        words.append(f"camera masked in {sets['masked']}" + (f" ({', '.join(conditions)})" if conditions else ""))
        dropped = [f"{count} {why}" for why, count in camera.dropped.items()]
        dropped += [f"{camera.corrupt} corrupt"] if camera.corrupt else []
        words += [f"its frames dropped: {', '.join(dropped)}"] if dropped else []
    elif any(camera.corrupt for camera in health.cameras.values()):
        words.append(
            f"{sum(camera.corrupt for camera in health.cameras.values())} images could not be read and were left out"
        )
    withheld = [f"{output.invalid} x {name}" for name, output in health.outputs.items() if output.invalid]
    words += [f"withheld: {', '.join(withheld)}"] if withheld else []
    if running.case.startswith("slow"):
        words.append(f"{health.deadline_misses} deadline misses, {health.overrun} overruns")
    if sink.reason is not None:
        words.append(f"recording ended, {sink.lost_sets} sets not in it")
    if running.case == "stall-subscriber":
        words.append(f"the other subscriber got {reader.received} messages and lost {reader.lost}")
    resets = [f"{count} x {why}" for why, count in health.resets.items() if why != "first set"]
    words += [f"state: {', '.join(resets)}"] if resets else []
    return "; ".join(words)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=8.0, help="sets a second")
    parser.add_argument("--only", default="", help="only faults whose text begins so")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    exceptions = Exceptions()
    exceptions.watch()
    drive, recorded = rendered(LAP_S, options.rate)
    bundle = octobev.open_bundle(REFERENCE_BUNDLE)
    rows = []
    if not options.json:
        print("| fault | what happened | flagged after | recovered after | command |\n| --- | --- | --- | --- | --- |")
    for case in CASES:
        if not case.startswith(options.only):
            continue
        row = run(case, drive, recorded, bundle)
        rows.append(row)
        if not options.json:
            flagged, recovered = (
                "-" if row[key] is None else f"{row[key]:.2f} s" for key in ("flagged_s", "recovered_s")
            )  # fmt: skip
            print(
                f"| `{row['fault']}` | {row['happened']} | {flagged} | {recovered} | `{row['command']}` |", flush=True
            )
    if options.json:
        print(json.dumps({"rate_hz": options.rate, "rows": rows, "exceptions": dict(exceptions.counts)}))
    elif exceptions.counts:
        print(f"\nexceptions: {dict(exceptions.counts)}")


if __name__ == "__main__":
    main()
