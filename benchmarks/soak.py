"""The live path for a long time under random faults: what grows, what is lost, what is invented.

    python benchmarks/soak.py --minutes 10 [--rate 8] [--seed S] [--json]

A synthetic drive of eight cameras is played in a loop at its own pace into a LiveRuntime with a publisher, a subscriber
that reads everything, and a recorder; one fault after another, drawn from the seed, with quiet seconds between them.
Measures are taken in the quiet, after the warm-up. Exit code 1 when resident memory grew by more than 5 MB, descriptors
or threads are more than they were, an exception was not handled, a recording cannot be read, or anything was invented
(octobev.replay.witness says what that is).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import octobev
from live_parts import Exceptions, looped, rendered
from mcap.reader import NonSeekingReader
from octobev.errors import TopicTimeout
from octobev.replay.arrivals import Arrival, StampedPose
from octobev.replay.faults import Fault, ProcessFaults, disturb, parse_fault
from octobev.replay.faults.disk import FullDisk
from octobev.replay.faults.kinds import FullDisk as DiskFault
from octobev.replay.live import LiveSinks, play_live
from octobev.replay.recorder import Recorder, create_recording
from octobev.replay.recording import RecordingSink
from octobev.replay.witness import Witness
from octobev.runtime.bundle import REFERENCE_BUNDLE
from octobev.runtime.live.resident import descriptor_count, resident_bytes, thread_count
from octobev.runtime.live.runtime import LiveRuntime
from octobev.runtime.live.settings import LiveSettings

S = 1_000_000_000
LAP_S = 4.0
FIRST_FAULT_S = 3.0
QUIET_S = 3.0
SETTLE_S = 1.5
RECORDING_S = 20.0
GROWTH_BAR_BYTES = 5_000_000

FAULTS = (
    "lose:{camera}", "lose:{camera}%40", "lose:*", "lose:*%20", "freeze:{camera}", "noise:{camera}*0.3",
    "delay:{camera}+60ms", "delay:{camera}+400ms", "delay:*+150ms", "reorder:{camera}", "reorder:*", "repeat:*",
    "clock:{camera}+5s", "clock:{camera}-300ms", "clock:*+2s", "clock:*-2s",
    "corrupt:{camera}", "corrupt:*%30", "corrupt:*", "nan:topdown", "nan:hydranet", "nan:*",
    "slow:topdown+120ms", "slow:hydranet+40ms", "stall-subscriber", "full-disk",
)  # fmt: skip


def random_faults(seed: int, seconds: float, cameras: tuple[str, ...]) -> list[Fault]:
    """Give one fault after another, of 0.3 to 4 s, with quiet between them; all come before any comes again."""
    chance = random.Random(seed)
    faults, at, left = [], FIRST_FAULT_S, []
    while at < seconds - 2 * QUIET_S:
        left = left or chance.sample(FAULTS, len(FAULTS))
        length = round(chance.uniform(0.3, 4.0), 1)
        what = left.pop().format(camera=chance.choice(cameras))
        faults.append(parse_fault(f"{what}@{round(at * 1000)}ms+{round(length * 1000)}ms"))
        at += length + QUIET_S + chance.uniform(0.0, 2.0)
    return faults


class Recordings:
    """A recording after another, each for some seconds, on one disk that can be filled; none is kept."""

    def __init__(self, folder: Path, rig: octobev.Rig) -> None:
        self.reasons: Counter[str] = Counter()
        self.lost_sets = self.files = self.unreadable = 0
        self._folder, self._rig = folder, rig
        self._full = False
        self._lock = threading.Lock()  # the disk is filled by the thread that plays
        self._begin()

    def __call__(self, step, predictions) -> None:
        """Record a step."""
        with self._lock:
            if predictions.timestamp_ns - (self._since_ns or predictions.timestamp_ns) > RECORDING_S * S:
                self._end()
                self._begin()
            self._since_ns = self._since_ns or predictions.timestamp_ns
            self._sink(step, predictions)

    def fill(self) -> None:
        """Let the disk be full."""
        with self._lock:
            self._full = True
            self._disk.fill()

    def clear(self) -> None:
        """Let there be room."""
        with self._lock:
            self._full = False
            self._disk.clear()

    def close(self) -> None:
        """End the last recording."""
        with self._lock:
            self._end()

    def _begin(self) -> None:
        self.files += 1
        self._path = self._folder / f"{self.files}.mcap"
        self._file = create_recording(self._path)
        self._disk = FullDisk(self._file)
        self._since_ns = None
        if self._full:
            self._disk.fill(100_000)
        self._sink = RecordingSink(Recorder(self._disk, self._rig))

    def _end(self) -> None:
        self._sink.close()
        self._file.close()
        self.lost_sets += self._sink.lost_sets
        if self._sink.reason is not None:
            self.reasons[self._sink.reason.partition(": ")[2]] += 1
        try:
            with open(self._path, "rb") as file:
                for _ in NonSeekingReader(file).iter_messages():
                    pass
        except Exception as error:
            self.unreadable += 1
            self.reasons[f"cannot be read back: {error!r}"] += 1
        self._path.unlink()


@dataclass
class Findings:
    """What was seen on the way."""

    inventions: Counter = field(default_factory=Counter)
    examples: list = field(default_factory=list)
    samples: list = field(default_factory=list)
    messages: int = 0

    def invented(self, what: list[str], where: str) -> None:
        """Take note of what was invented."""
        for text in what:
            self.inventions[text.rstrip("0123456789 ")] += 1
            if len(self.examples) < 20:
                self.examples.append(f"{where}: {text}")


class Subscription(threading.Thread):
    """Reads everything that is published and has it checked."""

    def __init__(self, endpoint: str, witness: Witness, findings: Findings) -> None:
        super().__init__(name="soak-subscriber")
        self._subscriber = octobev.Subscriber(endpoint, hwm=64)
        self._witness, self._findings = witness, findings
        self._over = threading.Event()

    def run(self) -> None:
        """Read until it is over."""
        with self._subscriber:
            while not self._over.is_set():
                try:
                    message = self._subscriber.receive(0.2)
                except TopicTimeout:
                    continue
                self._findings.messages += 1
                self._findings.invented(self._witness.forgeries(message), "message")

    def stop(self) -> dict[str, int]:
        """Stop, and say what came."""
        self._over.set()
        self.join()
        lost = sum(self._subscriber.lost.values())
        return {"received": self._findings.messages, "lost": lost, "malformed": self._subscriber.malformed}


def soak(minutes: float, rate_hz: float, seed: int, warm_up_s: float) -> dict:
    """Run it; returns the report."""
    exceptions = Exceptions()
    exceptions.watch()
    findings = Findings()
    drive, recorded = rendered(LAP_S, rate_hz)
    seconds = minutes * 60
    faults = random_faults(seed, seconds, drive.rig.names)
    bundle = octobev.open_bundle(REFERENCE_BUNDLE)
    witness = Witness(drive.rig)
    with tempfile.TemporaryDirectory() as folder:
        recordings = Recordings(Path(folder), drive.rig)
        sinks = LiveSinks({"record": recordings})

        def on_predictions(predictions: octobev.Predictions) -> None:
            findings.invented(witness.inventions(predictions), "predictions")
            sinks(predictions)

        with octobev.Publisher(f"ipc://{folder}/topic") as publisher:
            subscription = Subscription(publisher.endpoint, witness, findings)
            subscription.start()
            with LiveRuntime(
                bundle,
                drive.rig,
                settings=LiveSettings(frame_budget_ms=1000 / rate_hz),
                publisher=publisher,
                on_predictions=on_predictions,
            ) as runtime, ProcessFaults(
                faults,
                networks=bundle.manifest.networks,
                tamper=runtime.tamper,
                endpoint=publisher.endpoint,
                disk=recordings,
            ) as process:  # fmt: skip
                given = looped(recorded, round(LAP_S * S), round(seconds * S))
                pacing = play_live(
                    _witnessed(disturb(given, faults, seed), witness),
                    runtime,
                    follow=_Follower(process, faults, findings),
                    on_submit=sinks.submitted,
                )
                health = runtime.health()
            messages = subscription.stop()
        recordings.close()
    return _report(pacing, health, sinks, recordings, messages, faults, findings, exceptions, warm_up_s)


def _witnessed(arrivals, witness: Witness):
    for arrival in arrivals:
        _tell(arrival, witness)
        yield arrival


def _tell(arrival: Arrival, witness: Witness) -> None:
    if isinstance(arrival.item, StampedPose):
        witness.posed(arrival.item.timestamp_ns, arrival.item.world_from_ego)
    else:
        witness.submitted(arrival.item)


class _Follower:
    """Makes faults true as time passes, and measures the process once a second while all is quiet."""

    def __init__(self, process: ProcessFaults, faults: list[Fault], findings: Findings) -> None:
        self._process, self._findings = process, findings
        self._loud = [(f.window.start_ns, (f.window.end_ns or 0) + round(SETTLE_S * S)) for f in faults]
        self._next_ns = 0

    def __call__(self, at_ns: int) -> None:
        self._process.follow(at_ns)
        if at_ns < self._next_ns:
            return
        self._next_ns = at_ns + S
        if not any(start <= at_ns < end for start, end in self._loud):
            self._findings.samples.append((at_ns / S, resident_bytes(), descriptor_count(), thread_count()))


def _report(pacing, health, sinks, recordings, messages, faults, findings, exceptions, warm_up_s) -> dict:
    samples = [sample for sample in findings.samples if sample[0] >= warm_up_s] or findings.samples[-1:]
    tenth = max(1, len(samples) // 10)
    rss = [sample[1] for sample in samples]
    growth = statistics.median(rss[-tenth:]) - statistics.median(rss[:tenth])
    descriptors, threads = ([sample[column] for sample in samples] for column in (2, 3))
    lost: Counter[str] = Counter()
    for camera in health.cameras.values():
        lost.update(camera.dropped)
        lost["corrupt"] += camera.corrupt
    broken = {
        "growth": growth > GROWTH_BAR_BYTES,
        "descriptors": statistics.median(descriptors[-tenth:]) > statistics.median(descriptors[:tenth]),
        "threads": statistics.median(threads[-tenth:]) > statistics.median(threads[:tenth]),
        "exceptions": bool(exceptions.counts or health.errors),
        "invented": bool(findings.inventions),
        "recordings": recordings.unreadable > 0,
    }
    latency = sinks.latency
    return {
        "seconds": round(pacing.seconds, 1),
        "faults": len(faults),
        "kinds": len({type(fault) for fault in faults}),
        "sets": health.sets,
        "incomplete": health.incomplete,
        "overrun": health.overrun,
        "deadline_misses": health.deadline_misses,
        "predictions": sinks.predictions,
        "without_cameras": sinks.without_cameras,
        "submitted": pacing.frames,
        "submitted_late": pacing.late,
        "used": sum(camera.used for camera in health.cameras.values()),
        "lost_frames": dict(lost),
        "resets": dict(health.resets),
        "withheld": {name: output.invalid for name, output in health.outputs.items() if output.invalid},
        "latency_ms": None
        if latency is None
        else [round(ms, 1) for ms in (latency.p50_ms, latency.p99_ms, latency.max_ms)],
        "messages": messages,
        "recordings": {"files": recordings.files, "lost_sets": recordings.lost_sets, "why": dict(recordings.reasons)},
        "full_disks": sum(isinstance(fault, DiskFault) for fault in faults),
        "rss_mb": {"first": round(rss[0] / 1e6, 1), "last": round(rss[-1] / 1e6, 1), "most": round(max(rss) / 1e6, 1)},
        "rss_growth_mb": round(growth / 1e6, 2),
        "descriptors": {"first": descriptors[0], "last": descriptors[-1], "most": max(descriptors)},
        "threads": {"first": threads[0], "last": threads[-1], "most": max(threads)},
        "quiet_samples": len(samples),
        "exceptions": dict(exceptions.counts) | dict(health.errors),
        "invented": dict(findings.inventions),
        "examples": findings.examples,
        "broken": [name for name, is_broken in broken.items() if is_broken],
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=8.0, help="sets a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm-up", type=float, default=60.0, help="seconds that are not measured")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = soak(options.minutes, options.rate, options.seed, min(options.warm_up, options.minutes * 30))
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:16} {value}")
    sys.exit(1 if report["broken"] else 0)


if __name__ == "__main__":
    main()
