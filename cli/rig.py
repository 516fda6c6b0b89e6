"""`octobev rig`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .rig_refine import refine
from .target import check_target

if TYPE_CHECKING:
    from ..fusion.rig import Rig
    from ..fusion.rig_check import Coverage, Finding
    from ..runtime.frames import FrameSet

app = typer.Typer(no_args_is_help=True, help="Look at the calibration of a rig, and find what is wrong with it.")

Source = Annotated[
    str, typer.Argument(metavar="DRIVE|RIG.toml", help="A drive (as for `octobev replay`) or a rig file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("check")
def check(
    source: Source,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.png",
            help="Draw the ground grid into every image, all images cast to the ground, and the coverage.",
        ),
    ] = None,
    start: Annotated[float, typer.Option(min=0.0, help="Use the images this many seconds into the drive.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Find wrong calibrations: inverted transforms, swapped names, cameras that look at the sky, and more.

    Exit codes: 0 nothing wrong, or only warnings; 1 something is certainly wrong.
    """
    from ..errors import CalibrationError, expected
    from ..fusion.rig_check import Severity, check_rig, measure_coverage, unreadable
    from ..replay.image_check import check_images

    if picture is not None:
        if picture.suffix.lower() != ".png":
            raise typer.BadParameter(expected("picture", "a .png file", picture), param_hint="--picture")
        check_target(picture, overwrite=True, reads=[source])
    rig: Rig | None = None
    coverage: Coverage | None = None
    findings: tuple[Finding, ...]
    try:
        rig, frame_set = _open(source, start)
    except CalibrationError as error:
        findings = (unreadable(error),)
    else:
        findings = check_rig(rig) + (check_images(rig, frame_set) if frame_set else ())
        coverage = measure_coverage(rig)
        if picture is not None:
            from ..replay.drawing import write_png
            from ..replay.rig_picture import draw_rig

            write_png(picture, draw_rig(rig, findings, coverage, frame_set, Path(source).name))
    if as_json:
        print(json.dumps(_report(source, rig, findings, coverage, picture if rig else None)))
    else:
        _print_report(rig, findings, coverage, picture)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(1)


@app.command("show")
def show(source: Source, as_json: AsJson = False) -> None:
    """Print where every camera sits and looks, and what it sees."""
    rig, _ = _open(source, None)
    if as_json:
        print(json.dumps({"name": rig.name, "cameras": [_camera(rig, name) for name in rig.names]}))
    else:
        _print_rig(rig)


@app.command("export")
def export(
    source: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT.toml", help="File to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
) -> None:
    """Write the calibration of a drive as rig.toml, to correct it and give it to `octobev replay --rig`."""
    from ..errors import RecordingError, unwritable
    from ..fusion.rig import write_rig

    rig, _ = _open(source, None)
    check_target(out, overwrite=force, reads=() if source.endswith(".toml") else [source])
    try:
        write_rig(rig, out)
    except OSError as error:
        raise RecordingError(unwritable(out, error)) from error
    print(f"{out}: {len(rig)} cameras")


app.command("refine")(refine)


def _open(source: str, start_s: float | None) -> tuple[Rig, FrameSet | None]:
    """Read the rig, and of a drive the first set from `start_s` on (None: no set)."""
    if source.endswith(".toml"):
        from ..fusion.rig import read_rig

        return read_rig(source), None
    from ..errors import DriveError, expected
    from .source import open_source

    drive = open_source(source)
    if start_s is None:
        return drive.rig, None
    step = next(iter(drive.steps(start_s=start_s)), None)
    if step is None and start_s > 0:
        raise DriveError(expected(f"{drive.name}: frame sets from {start_s:g} s on", "at least one", "none"))
    return drive.rig, step.frame_set if step else None


def _camera(rig: Rig, name: str) -> dict[str, Any]:
    from ..fusion.rig_check import view_angles_deg

    camera = rig[name]
    lens, pose = camera.intrinsics, camera.ego_from_camera
    yaw, pitch, roll = view_angles_deg(pose)
    return {
        "name": name,
        "width": lens.width,
        "height": lens.height,
        "model": lens.model.value,
        "fov_deg": [round(value, 3) for value in lens.fov_deg],
        "position_m": pose.translation_m.tolist(),
        "yaw_deg": round(yaw, 4) + 0.0,
        "pitch_deg": round(pitch, 4) + 0.0,
        "roll_deg": round(roll, 4) + 0.0,
    }


def _report(
    source: str, rig: Rig | None, findings: tuple[Finding, ...], coverage: Coverage | None, picture: Path | None
) -> dict[str, Any]:
    severities = [finding.severity.value for finding in findings]
    return {
        "source": source,
        "cameras": [_camera(rig, name) for name in rig.names] if rig else [],
        "findings": [
            {
                "severity": finding.severity.value,
                "check": finding.check,
                "camera": finding.camera,
                "message": finding.message,
                "value": finding.value,
            }
            for finding in findings
        ],
        "errors": severities.count("error"),
        "warnings": severities.count("warning"),
        "near_seen": round(coverage.near_seen, 4) if coverage else None,
        "blind_sectors_deg": [list(sector) for sector in coverage.blind_sectors_deg] if coverage else [],
        "picture": str(picture) if picture else None,
    }


def _print_report(
    rig: Rig | None, findings: tuple[Finding, ...], coverage: Coverage | None, picture: Path | None
) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True, highlight=False)
    if rig is not None:
        _print_rig(rig)
    for finding in findings:
        colour = "red" if finding.severity == "error" else "yellow"
        name = f"{finding.camera or 'rig'}: {finding.message} [{finding.check}]"
        console.print(f"[{colour}]{finding.severity}[/{colour}] {escape(name)}")
    if not findings:
        console.print("[green]no findings[/green]")
    if coverage is not None:
        console.print(f"{coverage.near_seen:.0%} of the ground within 10 m is seen")
    if picture is not None and rig is not None:
        console.print(f"picture: {escape(str(picture))}")


def _print_rig(rig: Rig) -> None:
    width = max(len("camera"), *map(len, rig.names))
    header = f"{'camera':{width}}  {'image':>9}  {'lens':14}  {'field of view':>13}"
    print(f"{header}  {'x':>6} {'y':>6} {'z m':>6}  {'yaw':>6} {'pitch':>6} {'roll °':>6}")
    for camera in (_camera(rig, name) for name in rig.names):
        size = f"{camera['width']}x{camera['height']}"
        fov = "{:.0f}° x {:.0f}°".format(*camera["fov_deg"])
        place = " ".join(f"{value:6.2f}" for value in camera["position_m"])
        angles = " ".join(f"{round(camera[key], 1) + 0.0:6.1f}" for key in ("yaw_deg", "pitch_deg", "roll_deg"))
        print(f"{camera['name']:{width}}  {size:>9}  {camera['model']:14}  {fov:>13}  {place}  {angles}")
