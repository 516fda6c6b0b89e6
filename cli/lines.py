"""Lines on stdout, for commands that print as long as they run."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer


def emit(text: str, stream: Any = None) -> None:
    """Print a line at once; a reader that has gone (`| head`) ends the command quietly."""
    try:
        print(text, file=stream or sys.stdout, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
