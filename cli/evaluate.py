"""`octobev evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .level_option import LevelOption
from .variant import Variant, VariantOption

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..fusion.rig import Rig
    from ..replay.drive import Drive
    from ..replay.evaluate import Evaluation
    from ..replay.evaluation_report import ReportWriter
    from ..replay.extremes import Extremes
    from ..replay.refine import Refinement
    from ..runtime.frames import FrameSet


_FAULTS = "Faults put on purpose"


def evaluate(
    drives: Annotated[
        list[str], typer.Argument(help="Drives with ground truth: MCAP files, or **synth:SEED** for a synthetic one.")
    ],
    bundle: Annotated[
        Path | None, typer.Option(help="Model bundle (directory with bundle.toml). Default: the one that is shipped.")
    ] = None,
    variant: VariantOption = Variant.AUTO,
    level: LevelOption = True,
    warm_up: Annotated[int, typer.Option(min=0, help="Sets at the start of each drive that do not count.")] = 0,
    duration: Annotated[float | None, typer.Option(min=0.0, help="Only this many seconds of each drive.")] = None,
    reset_every_frame: Annotated[bool, typer.Option(help="Forget everything before each set.")] = False,
    without_camera: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Take this camera's frames away; repeatable.", rich_help_panel=_FAULTS),
    ] = None,
    perturb_pitch_deg: Annotated[
        float, typer.Option(help="Every camera is taken to look this much farther down.", rich_help_panel=_FAULTS)
    ] = 0.0,
    perturb_mounting_deg: Annotated[
        float, typer.Option(min=0.0, help="Random turn of each camera's mounting.", rich_help_panel=_FAULTS)
    ] = 0.0,
    odometry_noise: Annotated[
        float, typer.Option(min=0.0, help="Error of each step's length, percent.", rich_help_panel=_FAULTS)
    ] = 0.0,
    odometry_noise_deg: Annotated[
        float, typer.Option(min=0.0, help="Error of each step's turn, degrees.", rich_help_panel=_FAULTS)
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random faults.", rich_help_panel=_FAULTS)] = 0,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="First find the pitch of the cameras in each drive, without its truth, as `octobev rig refine` does, "
            "and evaluate with what was found.",
        ),
    ] = False,
    seconds: Annotated[float, typer.Option(help="Length of synthetic drives.")] = 20.0,
    rate: Annotated[float, typer.Option(help="Sets per second of synthetic drives.")] = 10.0,
    report_to: Annotated[
        Path | None,
        typer.Option("--report", metavar="DIR", help="Write a page with tables, plots and pictures: DIR/index.html."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Worker threads. Default: the usable CPUs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare predictions with the truth: IoU per class and more, pooled over all sets.

    `iou` counts all cells of the grid, `iou_visible` those that a camera sees unobstructed, `iou_remembered` those that
    are hidden now and were visible before. The threshold is 0.5; `iou_best_visible` is the best over all thresholds.
    docs/evaluation.md defines every figure.

    Ctrl-C ends the evaluation and gives the figures of what was done so far.

    Exit codes: 0 done; 1 error; 2 wrong usage; 3 done, but something of a drive was lost; 130 interrupted.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ..replay import evaluate as evaluation
    from ..replay.disturbance import Disturbance
    from ..replay.refine import refine_rig
    from ..runtime.bundle import REFERENCE_BUNDLE, open_bundle
    from ..runtime.engine import Runtime
    from ..runtime.settle import settle
    from .source import is_synthetic, open_source

    disturbance = Disturbance(
        tuple(without_camera or ()), perturb_pitch_deg, perturb_mounting_deg, odometry_noise, odometry_noise_deg, seed
    )
    opened = settle(open_bundle(bundle or REFERENCE_BUNDLE), threads=threads, variant=variant.value).bundle
    writer, extremes = _report_writer(report_to)
    for name in drives:
        if not is_synthetic(name):
            open_source(name)  # a file that cannot be read is found before the work begins
    outputs = None  # a report shows all of them
    if writer is None:
        kinds = opened.outputs
        outputs = [output for output in opened.default_outputs if kinds[output] in evaluation.COMPARED_KINDS]
    names: list[str] = []
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with bar:
        task = bar.add_task("")

        def sources() -> Iterator[Drive]:
            """One drive at a time: a synthetic town takes hundreds of megabytes."""
            for name in drives:
                source = open_source(name, seconds=seconds, rate_hz=rate)
                names.append(source.name)
                bar.reset(task, description=source.name, total=source.length_hint)
                yield source

        def refiner(sets: Iterable[FrameSet], rig: Rig) -> Refinement:
            return refine_rig(sets, opened, rig, threads=threads, variant=opened.variant)

        result = evaluation.evaluate(
            sources(),
            lambda rig: Runtime(opened, rig, outputs, threads, variant=opened.variant, level=level),
            warm_up=warm_up,
            duration_s=duration,
            reset_every_frame=reset_every_frame,
            disturbance=disturbance,
            refine=refiner if refine else None,
            watch=extremes,
            progress=lambda drive, done: bar.update(task, completed=done),
        )
    settings = {
        "bundle": opened.manifest.name,
        "bundle_sha256": opened.sha256,
        "variant": opened.variant,
        "drives": names,
        "seconds": seconds,
        "rate_hz": rate,
        "warm_up": warm_up,
        "duration_s": duration,
        "reset_every_frame": reset_every_frame,
        "refine": refine,
        "level": level,
        **disturbance.values(),
    }
    if writer is not None and extremes is not None:
        page = writer.write(result, settings, extremes)
        print(f"report: {page}", file=sys.stderr)
    report = {**result.report(), "settings": settings}
    if as_json:
        print(json.dumps(report))
    else:
        _print(report)
    _exit_with(result)


def _report_writer(directory: Path | None) -> tuple[ReportWriter | None, Extremes | None]:
    """What writes the report, and what watches for its pictures; made before the work begins, to fail early."""
    if directory is None:
        return None, None
    from ..replay.evaluation_report import ReportWriter
    from ..replay.extremes import Extremes

    return ReportWriter(directory), Extremes()


def _exit_with(result: Evaluation) -> None:
    from . import EXIT_INTERRUPTED, EXIT_LOSS

    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if result.corrupt or result.truncated:
        raise typer.Exit(EXIT_LOSS)


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..replay.evaluate import flat

    headings = {
        "iou_visible_20m": "20 m",
        "iou_visible": "visible",
        "iou_remembered": "remembered",
        "iou": "all",
        "iou_best_visible": "best, at",
        "f1_tolerant": "F1+-1",
    }
    table = Table("class", *headings.values(), "ECE", box=None, header_style="dim")
    for name, figures in flat(report).items():
        row = {key: _figure(figures[key]) for key in headings}
        row["iou_best_visible"] += f" {figures['threshold_best']:.2f}"
        table.add_row(name, *row.values(), _figure(report["calibration_error"][name]))
    console = Console()
    console.print(f"IoU at {report['threshold']}, {report['frames']} sets")
    console.print(table)
    found, direction = report["intersections"], report["corridor_direction_deg"]
    if found["precision"] is not None or found["recall"] is not None:
        console.print(f"intersections: precision {_figure(found['precision'])}, recall {_figure(found['recall'])}")
    if direction["median"] is not None:
        console.print(f"corridor direction: median {direction['median']:.1f} deg, p90 {direction['p90']:.1f} deg")
    for found in report["refinements"]:
        said = f"pitch {found['applied_deg']:+.3f} deg" if found["sure"] else f"not sure: {found['reason']}"
        console.print(f"{found['drive']}: refined, {said}" if found["sure"] else f"{found['drive']}: {said}")
    for found in report["levelled"]:
        if tilts := found["cameras"].values():
            mean = sum(pitch for pitch, _ in tilts) / len(tilts)
            console.print(f"{found['drive']}: {len(tilts)} cameras levelled, pitch {mean:+.2f} deg on average")
    if report["corrupt"]:
        console.print(f"[yellow]{report['corrupt']} frames could not be read[/yellow]")
    for message in report["truncated"]:
        console.print(f"[yellow]{message}[/yellow]")
    if report["interrupted"]:
        console.print("[yellow]interrupted[/yellow]")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
