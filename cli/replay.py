"""`octobev replay`."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .variant import Variant, VariantOption

if TYPE_CHECKING:
    from ..fusion.rig import Rig
    from ..replay.drive import Drive, DriveStep
    from ..replay.player import ReplaySummary, Sink
    from ..runtime.engine import Runtime
    from ..runtime.predictions import Predictions


def replay(
    drive: Annotated[
        str,
        typer.Argument(help="A drive: an MCAP file, a nuScenes table directory, a folder of images; or **demo**."),
    ],
    bundle: Annotated[
        Path | None, typer.Option(help="Model bundle (directory with bundle.toml). Default: the one that is shipped.")
    ] = None,
    rig: Annotated[Path | None, typer.Option(help="rig.toml to use in place of the drive's own calibration.")] = None,
    cameras: Annotated[
        str | None, typer.Option(help="Only these cameras, separated by commas; the others are left out.")
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(
            help="Only these outputs, separated by commas; nothing else is computed. See `octobev bundle info`."
        ),
    ] = None,
    variant: VariantOption = Variant.AUTO,
    rate: Annotated[
        float | None, typer.Option(help="Speed: 1 as recorded, 2 twice as fast. Default: as fast as it goes.")
    ] = None,
    start: Annotated[float, typer.Option(min=0.0, help="Begin this many seconds after the first frame set.")] = 0.0,
    duration: Annotated[float | None, typer.Option(min=0.0, help="Stop after this many seconds of the drive.")] = None,
    publish: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help="Publish on ZeroMQ, e.g. ipc:///tmp/octobev.sock.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="OUT.mcap", help="Record predictions (Foxglove schemas, MCAP).")
    ] = None,
    record_frames: Annotated[
        bool, typer.Option("--record-frames", help="Record the frames, the calibration and the truth too.")
    ] = False,
    record_belief: Annotated[
        bool, typer.Option("--record-belief", help="Record what networks say of cells that nobody observed, too.")
    ] = False,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a picture of every set, and a moving one of them all.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Worker threads. Default: the usable CPUs.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the recording if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of the summary.")] = False,
) -> None:
    """Replay a drive: frames in, road layout and occupancy out.

    Every frame set of the drive goes through the networks of the bundle; predictions are stitched over cameras and
    time, and may be published, recorded and drawn on the way. The replay is in lock-step: nothing is skipped, and
    the same drive gives the same predictions, byte for byte, with any number of threads (compare `digest`).

    `octobev replay demo` drives through a synthetic town and needs no file.

    Exit codes: 0 done; 1 error; 2 wrong usage; 3 done, but something of the drive was lost; 130 interrupted.
    """
    from ..replay.player import play, summary_json
    from .source import open_source

    for option, given in (("--record-frames", record_frames), ("--record-belief", record_belief)):
        if given and record is None:
            raise typer.BadParameter("needs --record OUT.mcap", param_hint=option)
    source = open_source(drive)
    used_rig = _used_rig(source, rig, cameras)
    with ExitStack() as stack:
        runtime = stack.enter_context(_runtime(bundle, used_rig, outputs, threads, variant))
        sinks = _sinks(stack, runtime, source.name, publish, pictures)
        if record is not None:
            sinks["record"] = _recorder(stack, runtime, record, force, record_frames, record_belief)
        sinks["progress"] = stack.enter_context(_Progress(source, duration, quiet=as_json and not sys.stderr.isatty()))
        summary = play(source, runtime, sinks=sinks, start_s=start, duration_s=duration, rate=rate)
    summary.stages_ms.pop("progress", None)
    if as_json:
        print(json.dumps({**summary_json(summary), "provenance": _provenance(runtime)}))
    else:
        print_summary(summary, runtime)
    exit_with(summary)


def print_summary(summary: ReplaySummary, runtime: Runtime) -> None:
    """Print what a person wants to know."""
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
    table = Table("stage", "p50 ms", "p99 ms", box=None, header_style="dim")
    for stage, values in summary.stages_ms.items():
        table.add_row(stage, f"{values['p50']:.2f}", f"{values['p99']:.2f}")
    console.print(table)
    for name, counts in summary.detections.items():
        console.print(f"{name}: {', '.join(f'{count} x {found}' for found, count in counts.items())}")
    for reason, count in summary.resets.items():
        console.print(f"state lost or set back {count}x: {reason}")
    for reason, count in summary.loss_reasons.items():
        console.print(f"[yellow]lost {count}x: {reason}[/yellow]")
    for name, count in summary.invalid.items():
        console.print(f"[yellow]withheld {count}x: {name}[/yellow]")
    if summary.dropped:
        console.print(f"[yellow]{summary.dropped} frames could not be used[/yellow]")
    if summary.truncated:
        console.print(f"[yellow]{summary.truncated}[/yellow]")
    if summary.interrupted:
        console.print("[yellow]interrupted[/yellow]")
    console.print(f"digest {summary.digest}", style="dim")


def exit_with(summary: ReplaySummary) -> None:
    """Leave with the exit code that the summary deserves."""
    from . import EXIT_INTERRUPTED, EXIT_LOSS

    if summary.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.lost:
        raise typer.Exit(EXIT_LOSS)


def split_names(text: str | None) -> list[str] | None:
    """Names of a comma-separated option."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _used_rig(source: Drive, rig: Path | None, cameras: str | None) -> Rig:
    from ..fusion.rig import read_rig

    used = read_rig(rig) if rig is not None else source.rig
    names = split_names(cameras)
    return used if names is None else used.select(names)


def _runtime(bundle: Path | None, rig: Rig, outputs: str | None, threads: int | None, variant: Variant) -> Runtime:
    from ..runtime.bundle import REFERENCE_BUNDLE, open_bundle
    from ..runtime.engine import Runtime

    opened = open_bundle(bundle or REFERENCE_BUNDLE)
    return Runtime(opened, rig, outputs=split_names(outputs), threads=threads, variant=variant.value)


def _sinks(
    stack: ExitStack,
    runtime: Runtime,
    title: str,
    publish: str | None,
    pictures: Path | None,
) -> dict[str, Sink]:
    sinks: dict[str, Sink] = {}
    if publish is not None:
        from ..runtime.topics.publisher import Publisher

        publisher = stack.enter_context(Publisher(publish))
        publisher.set_rig(runtime.rig, runtime.provenance.rig_sha256)
        sinks["publish"] = lambda step, predictions: publisher.publish(predictions)
    if pictures is not None:
        from ..replay.pictures import PictureWriter

        writer = stack.enter_context(PictureWriter(pictures, runtime.rig, title=title))
        sinks["pictures"] = lambda step, predictions: writer.add(step.frame_set, predictions, step.truth)
    return sinks


def _recorder(
    stack: ExitStack, runtime: Runtime, path: Path, force: bool, with_frames: bool, with_belief: bool
) -> Sink:
    from ..replay.recorder import Recorder
    from ..runtime.frames import FrameSet

    recorder = stack.enter_context(
        Recorder(path, runtime.rig, overwrite=force, belief=with_belief, segmentation=with_frames)
    )

    def record(step: DriveStep, predictions: Predictions) -> None:
        frame_set = step.frame_set
        if with_frames:
            own = tuple(frame for frame in frame_set.frames if frame.camera in runtime.rig)
            recorder.write_frames(FrameSet(frame_set.timestamp_ns, own, frame_set.world_from_ego))
            if step.truth is not None:
                recorder.write_truth(step.truth)
        recorder.write(predictions, frame_set)

    return record


def _provenance(runtime: Runtime) -> dict[str, Any]:
    import msgspec

    return dict(msgspec.to_builtins(runtime.provenance))


class _Progress:
    """A progress bar on stderr; as a sink it counts steps."""

    def __init__(self, source: Drive, duration_s: float | None, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet,
            transient=True,
        )
        total = source.length_hint if duration_s is None else None
        self._task = self._bar.add_task(source.name, total=total, speed="")

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def __call__(self, step: DriveStep, predictions: Predictions) -> None:
        elapsed_ms = sum(predictions.stages_ms.values())
        self._bar.update(self._task, advance=1, speed=f"{elapsed_ms:.0f} ms a set")
