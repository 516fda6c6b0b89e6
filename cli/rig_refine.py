"""`octobev rig refine`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .variant import Variant, VariantOption

if TYPE_CHECKING:
    from ..replay.drive import Drive
    from ..replay.refine import Refinement
    from ..runtime.bundle import Bundle

_BAR: int = 40


def refine(
    drive: Annotated[
        str, typer.Argument(help="A drive as for `octobev replay`: MCAP, tables, folder, **synth:SEED**.")
    ],
    bundle: Annotated[
        Path | None,
        typer.Option(help="Model bundle with a road layout. Default: the one that is shipped."),
    ] = None,
    rig: Annotated[
        Path | None, typer.Option(help="rig.toml to begin with in place of the drive's calibration.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.toml", help="Write the refined rig here.")
    ] = None,
    start: Annotated[float, typer.Option(min=0.0, help="Begin this many seconds after the first frame set.")] = 0.0,
    duration: Annotated[float | None, typer.Option(min=0.0, help="Use this many seconds of the drive.")] = None,
    variant: VariantOption = Variant.AUTO,
    threads: Annotated[int | None, typer.Option(min=1, help="Worker threads. Default: the usable CPUs.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Find how the cameras are really pitched, from a drive alone: no targets, no ground truth, no training.

    When `octobev rig check` finds nothing, a calibration may still be off by some tenths of a degree, and that is what
    costs most: 0.3 degrees of pitch put the ground 20 m ahead more than a metre from where it is. This command tries
    angles, predicts the road layout from places some metres apart, and takes the angle at which the predictions agree
    best about the ground: one angle for all cameras.

    It needs 50 m or more of driving with ego poses, and a bundle that knows the kind of road; some 100 m with curves,
    markings and side roads are better. It finds up to 3 degrees; how one camera differs from the others is
    not looked for. When the evidence is weak nothing is changed, and the exit code says so.

        octobev rig check drive.mcap
        octobev rig refine drive.mcap --output rig.toml
        octobev replay drive.mcap --rig rig.toml

    Exit codes: 0 sure (the rig is refined, or was right already); 1 error; 2 wrong usage; 3 not sure, nothing changed.
    """
    from ..errors import RecordingError, unwritable
    from ..fusion.rig import read_rig, read_rig_sources, write_rig
    from ..replay.refine import refine_rig
    from ..runtime.bundle import REFERENCE_BUNDLE, open_bundle
    from . import EXIT_LOSS
    from .source import open_source
    from .target import check_target

    if output is not None:
        check_target(output, overwrite=force, reads=[drive])
    source = open_source(drive)
    opened: Bundle = open_bundle(bundle or REFERENCE_BUNDLE)
    given = source.rig if rig is None else read_rig(rig)
    with _Bar(as_json) as bar:
        refinement = refine_rig(
            (step.frame_set for step in source.steps(start_s=start, duration_s=duration)),
            opened,
            given,
            threads=threads,
            variant=variant.value,
            progress=bar,
        )
    if output is not None and refinement.sure:
        try:
            write_rig(refinement.rig, output, {} if rig is None else read_rig_sources(rig))
        except OSError as error:
            raise RecordingError(unwritable(output, error)) from error
    written = str(output) if output is not None and refinement.sure else None
    if as_json:
        print(
            json.dumps({"drive": source.name, "bundle": opened.manifest.name, **refinement.report(), "output": written})
        )
    else:
        _print(source, refinement, written)
    if not refinement.sure:
        raise typer.Exit(EXIT_LOSS)


class _Bar:
    """Progress on stderr, where somebody looks at it."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(
            console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()
        )
        self._task = self._progress.add_task("calibrations tried", total=None)

    def __call__(self, tried: int, total: int) -> None:
        self._progress.update(self._task, completed=tried, total=total)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()


def plot_curve(refinement: Refinement) -> str:
    """Draw the similarity over the common pitch, one line an angle, the best with the longest bar."""
    values = [value for _, value in refinement.curve]
    low, high = min(values), max(values)
    lines = []
    for angle, value in refinement.curve:
        share = (value - low) / (high - low) if high > low else 0.0
        mark = " <- best of those tried" if value == high else ""
        lines.append(f"{angle:+7.3f} deg  {value:.3f}  {'#' * (1 + round(share * (_BAR - 1)))}{mark}")
    return "\n".join(lines)


def _print(source: Drive, refinement: Refinement, written: str | None) -> None:
    print(f"{source.name}: {refinement.sets} sets, {refinement.pairs} pairs from places apart")
    if refinement.curve:
        print("agreement of road layouts, by how much farther up all cameras look than the rig says")
        print(plot_curve(refinement))
    if not refinement.sure:
        print(f"not sure, nothing is changed: {refinement.reason}")
        return
    error = refinement.standard_error_deg
    print(f"pitch {refinement.pitch_deg:+.3f} deg, standard error {error:.3f}, up is positive")
    if not refinement.applied_deg:
        print("nothing to change: the calibration fits")
    else:
        agreement = f"similarity {refinement.similarity_before:.3f} -> {refinement.similarity_after:.3f}"
        print(f"all cameras turned by {refinement.applied_deg:+.3f} deg: {agreement}")
    if written is not None:
        print(f"rig: {written}")
