"""`octobev evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    drives: Annotated[
        list[str], typer.Argument(help="Drives with ground truth: MCAP files, or **synth:SEED** for a synthetic one.")
    ],
    bundle: Annotated[
        Path | None, typer.Option(help="Model bundle (directory with bundle.toml). Default: the one that is shipped.")
    ] = None,
    warm_up: Annotated[int, typer.Option(min=0, help="Sets at the start of each drive that do not count.")] = 0,
    duration: Annotated[float | None, typer.Option(min=0.0, help="Only this many seconds of each drive.")] = None,
    reset_every_frame: Annotated[bool, typer.Option(help="Forget everything before each set.")] = False,
    seconds: Annotated[float, typer.Option(help="Length of synthetic drives.")] = 20.0,
    rate: Annotated[float, typer.Option(help="Sets per second of synthetic drives.")] = 10.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Worker threads. Default: the usable CPUs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare predictions with the truth: IoU per class, pooled over all sets.

    `iou` counts all cells of the grid, `iou_visible` those that a camera sees unobstructed, `iou_visible_20m` those of
    them within 20 m of the ego origin. The threshold is 0.5; `iou_best_visible` is the best over all thresholds.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ..replay import evaluate as evaluation
    from ..runtime.bundle import REFERENCE_BUNDLE, open_bundle
    from ..runtime.engine import Runtime
    from .source import open_source

    sources = [open_source(name, seconds=seconds, rate_hz=rate) for name in drives]
    bar = Progress(console=Console(stderr=True), transient=True, disable=as_json and not sys.stderr.isatty())
    opened = open_bundle(bundle or REFERENCE_BUNDLE)
    with bar:
        tasks = {id(source): bar.add_task(source.name, total=source.length_hint) for source in sources}
        result = evaluation.evaluate(
            sources,
            lambda rig: Runtime(opened, rig, threads=threads),
            warm_up=warm_up,
            duration_s=duration,
            reset_every_frame=reset_every_frame,
            progress=lambda drive, done: bar.update(tasks[id(drive)], completed=done),
        )
    report = result.report()
    if as_json:
        print(json.dumps(report))
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..replay.evaluate import flat

    table = Table("class", "visible, 20 m", "visible", "all", "best threshold", box=None, header_style="dim")
    for name, figures in flat(report).items():
        table.add_row(
            name,
            *(f"{figures[key]:.3f}" if figures[key] is not None else "-" for key in
              ("iou_visible_20m", "iou_visible", "iou")),
            f"{figures['iou_best_visible']} at {figures['threshold_best']:.2f}",
        )  # fmt: skip
    console = Console()
    console.print(f"IoU at {report['threshold']}, {report['frames']} sets")
    console.print(table)
