"""`octobev bundle tune`."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .variant import Variant

if TYPE_CHECKING:
    from ..bench.tuning.trials import Trial
    from ..bench.tuning.tuner import Answer, Question
    from ..fusion.rig import Rig
    from ..replay.drive import Drive
    from ..runtime.bundle import Bundle
    from ..runtime.profile import Choice, Profile

_SEED: Final = 20_001
_SECONDS: Final = {False: 12.0, True: 3.0}
_SETS: Final = {False: 4, True: 2}
_WIDTH: Final = 52
_BUSY: Final = 0.5
"""Load of a CPU from which on figures are doubtful."""


def tune(
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="The bundle's directory. Default: the one that is shipped."),
    ] = None,
    rig: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|RIG.toml",
            help="Cameras to measure with: **reference** (the default), **six**, **fisheye**, or a rig.toml.",
        ),
    ] = None,
    drive: Annotated[
        str | None,
        typer.Option(
            metavar="DRIVE",
            help="Take frames from this drive, as for `octobev replay`, in place of a synthetic town's.",
        ),
    ] = None,
    variant: Annotated[
        Variant,
        typer.Option(help="**auto**: try those that the bundle has; **fp32**, **int8**: this one and no other."),
    ] = Variant.AUTO,
    own_providers: Annotated[
        bool, typer.Option("--own-providers", help="Try no execution providers but those that the bundle names.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Most threads to use, to leave CPUs to others. Default: the usable CPUs.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A quarter of the time; sees large differences only.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure and show, write nothing.")] = False,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Remove the bundle's profiles, those of other machines too; measure nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure how a bundle runs fastest on this machine, and remember it in a profile that every runtime picks up.

    Whole steps, from frames to predictions, run in turns (A B A B): every variant on every execution provider that is
    installed, fewer cameras at once with more threads inside a network, fewer threads, several cameras in a run. A
    choice is taken when it is faster than the one in use by 3 % and in three rounds of four; `>` marks it.

    How work is spread over threads never changes results: what does not give the same bits is not taken. Another
    variant or execution provider does change them. The table says how far they are from fp32, what is too far off is
    not taken, and `provenance` of all predictions names what runs. `--variant fp32 --own-providers` rules both out.

        octobev bundle tune                            # the shipped bundle
        octobev bundle tune my_bundle --rig rig.toml   # yours, your cameras
        octobev bundle tune my_bundle --forget         # remove the profile

    A profile is for one bundle on one machine: other CPUs or another ONNX Runtime need another. `OCTOBEV_PROFILES`
    names the directory of profiles, or is `off`. Options of a command (`--threads`, `--variant`) and arguments of
    `Runtime` win over a profile. Measure while the machine does nothing else, or what it always does.

    Ctrl-C writes nothing; a profile that was there stays.

    Exit codes: 0 done; 1 error; 2 wrong usage; 130 interrupted.
    """
    from ..bench.report import machine
    from ..runtime.bundle import REFERENCE_BUNDLE, open_bundle
    from ..runtime.cpu import usable_cpus
    from ..runtime.profile import check_place, forget_profiles, write_profile
    from . import EXIT_INTERRUPTED

    opened = open_bundle(bundle or REFERENCE_BUNDLE)
    if forget:
        _print_forgotten(forget_profiles(opened), as_json)
        return
    if not dry_run:
        check_place()  # found out before a minute of measuring, not after
    source, cameras = _source(drive, rig)
    header = machine(threads or usable_cpus())  # with the load before there is any of our own
    try:
        answer = _measure(
            opened, source, cameras, threads, variant, own_providers=own_providers, quick=quick, as_json=as_json
        )
    except KeyboardInterrupt:
        print("octobev: interrupted; no profile was written, one that was there stays", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    profile = _profile(opened, source, cameras, answer)
    written = None if dry_run else write_profile(profile)
    if as_json:
        print(json.dumps(_report(header, opened, source, answer, profile, written)))
    else:
        _print(header, opened, source, cameras, answer, written)


def _source(drive: str | None, rig: str | None) -> tuple[Drive, Rig]:
    """The drive to take frames from, and the cameras."""
    from ..replay.rigs import find_rig
    from ..replay.synthetic import SyntheticDrive
    from .source import open_source

    if drive is not None:
        source = open_source(drive)
        return source, source.rig if rig is None else find_rig(rig)
    cameras = find_rig(rig or "reference")
    return SyntheticDrive(_SEED, 4.0, rate_hz=2.0, rig=cameras), cameras


def _measure(
    bundle: Bundle,
    source: Drive,
    rig: Rig,
    threads: int | None,
    variant: Variant,
    *,
    own_providers: bool,
    quick: bool,
    as_json: bool,
) -> Answer:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from ..bench.tuning.frames import first_sets
    from ..bench.tuning.tuner import Tuner

    columns = (TextColumn("[bold]{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("frames", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        tuner = Tuner(
            bundle,
            rig,
            threads=threads,
            variant=variant.value,
            own_providers=own_providers,
            seconds=_SECONDS[quick],
            progress=show,
        )
        return tuner.run(first_sets(source, rig, _SETS[quick]))


def _profile(bundle: Bundle, source: Drive, rig: Rig, answer: Answer) -> Profile:
    from .. import __version__
    from ..runtime.profile import SCHEMA, Machine, Measured, Profile

    measured = Measured(
        when=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        octobev=__version__,
        source=source.name,
        cameras=_cameras_words(rig),
        step_ms=round(answer.ms.median, 2),
        default_step_ms=round(answer.default_ms.median, 2),
    )
    return Profile(SCHEMA, bundle.manifest.name, bundle.sha256, Machine.this(), answer.choice, measured)


def _report(
    header: dict[str, Any], bundle: Bundle, source: Drive, answer: Answer, profile: Profile, written: Path | None
) -> dict[str, Any]:
    import msgspec

    return {
        "machine": header,
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "drive": source.name,
        "questions": [
            {
                "name": question.name,
                "trials": [{**trial.as_dict(), "taken": trial.choice == question.taken} for trial in question.trials],
                "notes": list(question.notes),
            }
            for question in answer.questions
        ],
        "step_ms": answer.ms.as_dict(),
        "default_step_ms": answer.default_ms.as_dict(),
        "ratio": None if answer.ratio is None else answer.ratio.as_dict(),
        "profile": msgspec.to_builtins(profile),
        "written": None if written is None else str(written),
    }


def _print(
    header: dict[str, Any], bundle: Bundle, source: Drive, rig: Rig, answer: Answer, written: Path | None
) -> None:
    from rich.console import Console

    from ..bench import report

    console = Console(highlight=False, soft_wrap=True, markup=False)
    for line in report.header_lines(header):
        console.print(line, style="dim")
    manifest = bundle.manifest
    console.print(f"{manifest.name} {manifest.version}: {manifest.description}".removesuffix(": "))
    console.print(f"{_cameras_words(rig)}, frames of {source.name}\n")
    console.print(f"  {'':{_WIDTH}} {'ms a set':>9} {'(quartiles)':17} {'x':>5}", style="dim")
    for question in answer.questions:
        console.print(question.name, style="bold")
        for trial in question.trials if len(question.trials) > 1 or question.trials[0].ms else ():
            console.print(_figures(question, trial), style="green" if trial.choice == question.taken else None)
            for remark in _remarks(question, trial):
                console.print(f"      {remark}", style="dim")
        for note in question.notes:
            console.print(f"      {note}", style="dim")
    console.print("\n" + "\n".join(_conclusion(answer)))
    if header["load_average"] and header["load_average"][0] > _BUSY * header["cpus_usable"]:
        console.print("the machine was busy with something else: measure again when it is not", style="yellow")
    if written is None:
        console.print("nothing was written (--dry-run)")
    else:
        console.print(f"profile: {written}")


def _figures(question: Question, trial: Trial) -> str:
    words = _words(question, trial.choice)
    line = f"{'>' if trial.choice == question.taken else ' '} {words:{_WIDTH}}"
    if trial.ms is None:
        return line
    ratio = 1.0 if trial.ratio is None else trial.ratio.median
    quartiles = f"({trial.ms.low:.1f} .. {trial.ms.high:.1f})"
    return f"{line} {trial.ms.median:9.1f} {quartiles:17} {ratio:5.2f}"


def _words(question: Question, choice: Choice) -> str:
    """Say of a choice what the question is about."""
    from ..bench.tuning.candidates import networks_words, threads_words

    if question.name == "networks":
        spread_alike = choice.runs_at_once == question.trials[0].choice.runs_at_once
        return networks_words(choice) if spread_alike else choice_words(choice)
    return choice_words(choice) if question.name == "check" else threads_words(choice)


def _remarks(question: Question, trial: Trial) -> list[str]:
    """How far a choice's results are from fp32, and why it cannot be taken."""
    remarks = []
    if question.name == "networks" and (far := trial.difference) is not None:
        remarks.append(
            f"from fp32: at most {far.largest:.2g}, in {far.output}; {far.near:.2%} of each output within 0.1"
        )
    if trial.refused is not None:
        remarks.append(f"not taken: {trial.refused}")
    return remarks


def _conclusion(answer: Answer) -> list[str]:
    from ..bench.tuning.candidates import networks_words

    chosen = choice_words(answer.choice)
    if answer.ratio is None:
        return [f"fastest: {chosen}: {answer.ms.median:.1f} ms a set; the same as without a profile"]
    times = 1 / answer.ratio.median
    lines = [
        f"fastest: {chosen}: {answer.ms.median:.1f} ms a set,"
        f" {times:.2f} times as fast as without a profile ({answer.default_ms.median:.1f} ms)"
    ]
    before, now = networks_words(answer.default), networks_words(answer.choice)
    if before != now:
        lines.append(
            f"RESULTS CHANGE: networks run in {now} from now on, until now in {before}; --help says how to avoid it"
        )
    else:
        lines.append("results stay the same to the bit")
    return lines


def choice_words(choice: Choice) -> str:
    """Say all of a choice."""
    from ..bench.tuning.candidates import networks_words, threads_words

    return f"{networks_words(choice)}; {threads_words(choice)}"


def _print_forgotten(paths: tuple[Path, ...], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"forgotten": [str(path) for path in paths]}))
        return
    for path in paths:
        print(f"removed {path}")
    if not paths:
        print("there was no profile of this bundle")


def _cameras_words(rig: Rig) -> str:
    sizes = dict.fromkeys(f"{camera.intrinsics.width}x{camera.intrinsics.height}" for camera in rig)
    return f"{len(rig)} camera{'s' * (len(rig) > 1)} of {', '.join(sizes)}"
