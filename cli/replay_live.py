"""`octobev replay --live`."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..replay.live_summary import LiveSummary
    from ..replay.player import Sink
    from .replay_ending import Ending
    from .replay_options import ReplayOptions


def replay_live(options: ReplayOptions) -> None:
    """Play into a live runtime, print and leave with the exit code that the summary deserves."""
    from ..replay.arrivals import drive_arrivals
    from ..replay.faults import disturb
    from ..replay.live import LiveSinks, play_live
    from ..replay.live_summary import LiveSummary, live_summary_json
    from ..runtime.live.runtime import LiveRuntime
    from ..runtime.live.settings import LiveSettings
    from ..runtime.topics.publisher import Publisher
    from .replay_sinks import draw_into, trace_into

    source, rig, bundle = options.open()
    rate = 1.0 if options.rate is None else options.rate
    with ExitStack() as stack:
        sinks: dict[str, Sink] = {}
        if options.pictures is not None:
            sinks["pictures"] = draw_into(stack, options.pictures, rig, source.name)
        if options.trace is not None:
            trace = trace_into(stack, options.trace, overwrite=options.force)
            sinks["trace"] = lambda step, predictions: trace.add(predictions.spans, predictions)
        recording, disk = options.recording(stack, rig)
        if recording is not None:
            sinks["record"] = recording
        published = None
        if options.publish is not None:
            published = stack.enter_context(Publisher(options.publish, keys=options.keys))
        taken = LiveSinks(sinks, keep_images=options.record_frames or options.pictures is not None)
        settings = LiveSettings(threads=options.threads, variant=options.variant.value, level=options.level)
        runtime = stack.enter_context(
            LiveRuntime(
                bundle,
                rig,
                options.outputs,
                settings=settings,
                publisher=published,
                on_predictions=taken,
                clock_ns=lambda: round(time.monotonic_ns() * rate),
            )
        )
        faults = options.process_faults(stack, runtime, bundle, disk)
        arrivals = drive_arrivals(source, start_s=options.start_s, duration_s=options.duration_s)
        pacing = play_live(
            disturb(arrivals, options.faults, options.fault_seed),
            runtime,
            rate=rate,
            cameras=rig.names,
            follow=faults.follow,
            on_submit=taken.submitted,
        )
        summary = LiveSummary.of(source.name, pacing, source.losses, runtime.health(), taken)
    if not pacing.interrupted:
        options.check_played(source, pacing.frames)
    if recording is not None:
        summary = replace(summary, recording=recording.reason, unrecorded=recording.lost_sets)
    ending = _ending(summary)
    if options.as_json:
        print(json.dumps(live_summary_json(summary)))
    else:
        _print(summary, ending)
    ending.leave()


def _print(summary: LiveSummary, ending: Ending) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    health, pacing = summary.health, summary.pacing
    console.print(
        f"[bold]{summary.drive}[/bold]: {health.sets} sets ({health.incomplete} incomplete), {summary.frames} of"
        f" {pacing.frames} frames, {pacing.drive_seconds:.1f} s of driving in {pacing.seconds:.1f} s"
    )
    console.print(
        f"{health.overrun} sets overrun, {health.deadline_misses} deadline misses, {pacing.late} frames submitted late"
        f" (by at most {pacing.latest_by_ms:.0f} ms)"
    )
    if (latency := summary.latency) is not None:
        console.print(
            f"latency ms: p50 {latency.p50_ms:.1f}, p99 {latency.p99_ms:.1f}, max {latency.max_ms:.1f}"
            " (from the submission of a set's last frame to its predictions)"
        )
    table = Table("camera", "condition", "received", "used", "corrupt", "dropped", box=None, header_style="dim")
    for name, camera in health.cameras.items():
        dropped = ", ".join(f"{count} {why}" for why, count in camera.dropped.items())
        counts = (camera.received, camera.used, camera.corrupt)
        table.add_row(name, camera.condition.value, *map(str, counts), dropped)
    console.print(table)
    console.print(f"outputs: {', '.join(summary.outputs) or 'none'}")
    ending.show(console)


def _ending(summary: LiveSummary) -> Ending:
    from .replay_ending import Ending

    return Ending(
        resets=summary.health.resets,
        invalid=summary.invalid,
        losses=summary.losses.reasons,
        errors=summary.health.errors,
        truncated=summary.losses.truncated,
        recording=summary.recording,
        unrecorded=summary.unrecorded,
        interrupted=summary.pacing.interrupted,
        lost=summary.lost,
    )
