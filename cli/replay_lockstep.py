"""`octobev replay` in lock-step."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..replay.drive import Drive
    from ..replay.player import ReplaySummary, Sink
    from ..runtime.engine import Runtime
    from .replay_ending import Ending
    from .replay_options import ReplayOptions


def replay_lockstep(options: ReplayOptions) -> None:
    """Replay, print and leave with the exit code that the summary deserves."""
    from ..replay.player import play, summary_json
    from ..runtime.engine import Runtime
    from .replay_sinks import Progress, draw_into, publish_to, trace_into

    source, rig, bundle = options.open()
    with ExitStack() as stack:
        runtime = stack.enter_context(
            Runtime(bundle, rig, options.outputs, options.threads, variant=options.variant.value, level=options.level)
        )
        sinks: dict[str, Sink] = {}
        if options.publish is not None:
            sinks["publish"] = publish_to(stack, options.publish, options.keys, runtime)
        if options.pictures is not None:
            sinks["pictures"] = draw_into(stack, options.pictures, rig, source.name)
        recording, disk = options.recording(stack, rig)
        if recording is not None:
            sinks["record"] = recording
        sinks["progress"] = stack.enter_context(Progress(source, options.duration_s, quiet=not sys.stderr.isatty()))
        if options.faults:
            faults = options.process_faults(stack, runtime, bundle, disk)
            source = _faulty(source, options, faults.follow)
        trace = None
        if options.trace is not None:
            trace = trace_into(stack, options.trace, overwrite=options.force)
        summary = play(
            source,
            runtime,
            sinks=sinks,
            start_s=options.start_s,
            duration_s=options.duration_s,
            rate=options.rate,
            trace=trace,
            ahead=not options.faults,  # they fail at their time, not beside the set before
        )
    if not summary.interrupted:
        options.check_played(source, summary.sets)
    if recording is not None:
        summary.recording, summary.unrecorded = recording.reason, recording.lost_sets
    summary.stages_ms.pop("progress", None)
    ending = _ending(summary)
    if options.as_json:
        print(json.dumps({**summary_json(summary), "provenance": _provenance(runtime)}))
    else:
        _print(summary, runtime, ending)
    ending.leave()


def _print(summary: ReplaySummary, runtime: Runtime, ending: Ending) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"[bold]{summary.drive}[/bold]: {summary.sets} sets, {summary.frames} frames of {len(summary.cameras)} cameras,"
        f" {summary.drive_seconds:.1f} s of driving in {summary.seconds:.1f} s"
        f" ({summary.sets_per_second:.1f} sets/s, {summary.fps:.0f} frames/s)"
    )
    console.print(f"outputs: {', '.join(summary.outputs) or 'none'}")
    console.print(
        f"networks: {runtime.bundle.manifest.name} {runtime.bundle.manifest.version}, {runtime.bundle.variant}"
    )
    if runtime.provenance.profile is not None:
        console.print(f"profile of this machine: {runtime.provenance.profile}", style="dim")
    table = Table("stage", "p50 ms", "p99 ms", box=None, header_style="dim")
    for stage, values in summary.stages_ms.items():
        table.add_row(stage, f"{values['p50']:.2f}", f"{values['p99']:.2f}")
    console.print(table)
    for name, counts in summary.detections.items():
        console.print(f"{name}: {', '.join(f'{count} x {found}' for found, count in counts.items())}")
    ending.show(console)
    console.print(f"digest {summary.digest}", style="dim")


def _ending(summary: ReplaySummary) -> Ending:
    from .replay_ending import Ending

    return Ending(
        levelled=summary.levelled,
        resets=summary.resets,
        invalid=summary.invalid,
        losses=summary.loss_reasons,
        unused_frames=summary.dropped,
        truncated=summary.truncated,
        recording=summary.recording,
        unrecorded=summary.unrecorded,
        interrupted=summary.interrupted,
        lost=summary.lost,
    )


def _faulty(source: Drive, options: ReplayOptions, follow: Callable[[int], None]) -> Drive:
    from ..replay.faults import FaultyDrive

    return FaultyDrive(source, options.faults, options.fault_seed, follow=follow)


def _provenance(runtime: Runtime) -> dict[str, Any]:
    import msgspec

    return dict(msgspec.to_builtins(runtime.provenance))
