"""`octobev drive`: look at recorded drives, make synthetic ones."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .replay import split_names
from .target import check_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from ..replay.drive import Drive

app = typer.Typer(no_args_is_help=True, help="Recorded and synthetic drives.")


@app.command()
def info(
    path: Annotated[
        str, typer.Argument(help="A drive as for `octobev replay`: MCAP, tables (DIR#scene), folder, **demo**.")
    ],
    cameras: Annotated[str | None, typer.Option(help="Only these cameras, separated by commas.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read a drive to its end and say what is in it: cameras, sets, poses, ground truth, losses.

    Exit code 3 when something of it was lost.
    """
    from . import EXIT_LOSS
    from .source import open_source

    drive = open_source(path, cameras=split_names(cameras))
    summary = _survey(drive)
    if as_json:
        print(json.dumps(summary))
    else:
        _print_info(summary)
    if drive.losses:
        raise typer.Exit(EXIT_LOSS)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="MCAP file to write.")],
    seed: Annotated[int, typer.Option(help="Which town and which way through it.")],
    seconds: Annotated[float, typer.Option(help="Length of the drive.")],
    rate: Annotated[float, typer.Option(help="Sets a second.")] = 12.0,
    rig: Annotated[str, typer.Option(help="The car's cameras: reference, six, fisheye, or a rig.toml.")] = "reference",
    size: Annotated[str | None, typer.Option(help="Size of the images, WxH; the rig's own by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Drive through a synthetic town and record it: images of all cameras, ego poses and exact ground truth.

    The same arguments give the same file. Ctrl-C ends the drive early and leaves a valid file.
    """
    for option, number in (("--seconds", seconds), ("--rate", rate)):
        if not 0 < number < float("inf"):
            raise typer.BadParameter(f"must be above 0, got {number}", param_hint=option)
    width_height = None if size is None else _size(size)
    check_target(out, overwrite=force)
    from ..replay.recorder import record_drive
    from ..replay.rigs import find_rig
    from ..replay.synthetic import SyntheticDrive
    from . import EXIT_INTERRUPTED

    cameras = find_rig(rig)
    written, interrupted = 0, False

    def count(sets: int) -> None:
        nonlocal written
        written = sets
        progress.update(task, completed=sets)

    with _progress() as progress:
        task = progress.add_task("Building the town", total=None)
        drive = SyntheticDrive(seed, seconds, rate_hz=rate, size=width_height, rig=cameras)
        if not drive.length_hint:
            raise typer.BadParameter(
                f"must be at least {1 / rate:g} for one set, got {seconds:g}", param_hint="--seconds"
            )
        progress.update(task, description="Driving", total=drive.length_hint)
        try:
            record_drive(drive, out, overwrite=force, progress=count)
        except KeyboardInterrupt:
            interrupted = True
    summary = {
        "path": str(out),
        "seed": seed,
        "rig": drive.rig.name,
        "sets": written,
        "cameras": list(drive.rig.names),
        "bytes": out.stat().st_size if out.exists() else 0,
        "interrupted": interrupted,
    }
    if as_json:
        print(json.dumps(summary))
    else:
        megabytes = (out.stat().st_size if out.exists() else 0) / 1e6
        print(f"{out}: {written} sets of {len(drive.rig)} cameras, {megabytes:.1f} MB")
    if interrupted:
        print("octobev: interrupted; the file is valid and holds what was written so far", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) <= 8192 and 0 < int(height) <= 8192):
        raise typer.BadParameter(
            f"must be WxH in pixels up to 8192, such as 1280x960, got {text!r}", param_hint="--size"
        )
    return int(width), int(height)


def _survey(drive: Drive) -> dict[str, Any]:
    """Everything worth saying about a drive, from one pass over it."""
    frames = dict.fromkeys(drive.rig.names, 0)
    posed = truths = sets = complete = size = 0
    times: list[int] = []
    for step in _steps(drive):
        sets += 1
        complete += not step.frame_set.absences
        truths += step.truth is not None
        times = [*times[:1], step.frame_set.timestamp_ns]
        for frame in step.frame_set.frames:
            frames[frame.camera] += 1
            posed += frame.world_from_ego is not None
            size += frame.array.nbytes
    return {
        "name": drive.name,
        "rig": drive.rig.name,
        "cameras": {
            camera.name: {
                "frames": frames[camera.name],
                "width": camera.intrinsics.width,
                "height": camera.intrinsics.height,
                "lens": camera.intrinsics.model.value,
                "fov_deg": [None if math.isnan(angle) else round(angle, 1) for angle in camera.intrinsics.fov_deg],
                "position_m": [round(float(value), 3) for value in camera.ego_from_camera.translation_m],
            }
            for camera in drive.rig
        },
        "sets": sets,
        "complete_sets": complete,
        "frames": sum(frames.values()),
        "frames_with_pose": posed,
        "sets_with_truth": truths,
        "image_bytes": size,
        "start_ns": times[0] if times else None,
        "seconds": (times[-1] - times[0]) / 1e9 if times else 0.0,
        "corrupt": drive.losses.corrupt,
        "truncated": drive.losses.truncated,
        "loss_reasons": dict(drive.losses.reasons),
    }


def _steps(drive: Drive) -> Iterator[Any]:
    with _progress() as progress:
        yield from progress.track(drive.steps(), total=drive.length_hint, description="Reading")


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _print_info(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    seconds, sets = summary["seconds"], summary["sets"]
    rate = f", {(sets - 1) / seconds:.1f} a second" if seconds > 0 else ""
    print(f"{summary['name']}: {sets} sets over {seconds:.2f} s{rate}, {summary['complete_sets']} of them complete")
    print(
        f"{summary['frames']} frames, {summary['image_bytes'] / 1e6:.1f} MB, {summary['frames_with_pose']} with a pose"
    )
    print(f"ground truth for {summary['sets_with_truth']} sets")
    table = Table("camera", "frames", "size", "lens", "field of view", "position x y z", box=None)
    for name, camera in summary["cameras"].items():
        horizontal, vertical = ("?" if angle is None else f"{angle:.0f}" for angle in camera["fov_deg"])
        table.add_row(
            name,
            str(camera["frames"]),
            f"{camera['width']}x{camera['height']}",
            camera["lens"],
            f"{horizontal} x {vertical} deg",
            " ".join(f"{value:.2f}" for value in camera["position_m"]) + " m",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if summary["truncated"]:
        print(f"truncated: {summary['truncated']}")
    for reason, count in summary["loss_reasons"].items():
        print(f"lost: {count} x {reason}")
