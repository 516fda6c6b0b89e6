"""The `octobev` command: one module per group of sub-commands; they parse, call and print."""

from __future__ import annotations

import sys

import typer

from ..errors import OctobevError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_LOSS = 3
EXIT_INTERRUPTED = 130


def build() -> typer.Typer:
    """Assemble the command from its groups."""
    from . import bundle, doctor, drive, evaluate, replay, rig, topic

    app = typer.Typer(
        name="octobev",
        help="Surround cameras in, bird's-eye-view road layout and occupancy out.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    app.command("replay")(replay.replay)
    app.command("evaluate")(evaluate.evaluate)
    app.command("doctor")(doctor.doctor)
    app.add_typer(drive.app, name="drive")
    app.add_typer(topic.app, name="topic")
    app.add_typer(rig.app, name="rig")
    app.add_typer(bundle.app, name="bundle")
    return app


def run() -> None:
    """Run the command; an Octobev error becomes one line on stderr and exit code 1."""
    try:
        build()()
    except OctobevError as error:
        print(f"octobev: {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        print("octobev: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
