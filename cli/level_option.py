"""`--no-level` of commands that run networks."""

from __future__ import annotations

from typing import Annotated

import typer

LevelOption = Annotated[
    bool,
    typer.Option(
        "--level/--no-level",
        help="Find the cameras' pitch and roll against the ground while driving, where the bundle says by what, and "
        "correct what is sure; or take the calibration as it is.",
    ),
]
