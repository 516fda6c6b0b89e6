"""The `octobev` command: one module per group of sub-commands; they parse, call and print."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import OctobevError
from .lines import give_up_stdout, refused

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_LOSS = 3
EXIT_INTERRUPTED = 130


def build() -> typer.Typer:
    """Assemble the command from its groups."""
    from . import bench, bundle, doctor, drive, evaluate, health, keys, live, replay, rig, topic
    from .fault_option import FAULT_HELP

    app = typer.Typer(
        name="octobev",
        help="Surround cameras in, bird's-eye-view road layout and occupancy out.\n\nBegin with `octobev replay demo`.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    app.callback()(_top)
    app.command("replay", epilog=FAULT_HELP)(replay.replay)
    app.command("run")(live.run)
    app.command("evaluate")(evaluate.evaluate)
    app.command("health")(health.health)
    app.command("doctor")(doctor.doctor)
    app.command("bench")(bench.bench)
    app.add_typer(drive.app, name="drive")
    app.add_typer(topic.app, name="topic")
    app.add_typer(keys.app, name="keys")
    app.add_typer(rig.app, name="rig")
    app.add_typer(bundle.app, name="bundle")
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"octobev {__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def run() -> None:
    """Run the command; an Octobev error, or a stdout that is full, becomes one line on stderr and exit code 1."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started the command: what is printed there goes nowhere
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (it stays open)
    try:
        try:
            build()()
        finally:
            sys.stdout.flush()  # here it can still be told that it failed
    except OctobevError as error:
        print(f"octobev: {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
    except OSError as error:
        if error.filename is not None or isinstance(error, PermissionError):
            print(f"octobev: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
            sys.exit(EXIT_ERROR)
        if not refused(error):
            raise
        give_up_stdout()
        if error.errno != errno.EPIPE:
            print(f"octobev: output cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        print("octobev: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
