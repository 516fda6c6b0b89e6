"""Lines on stdout, for commands that print as long as they run."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import typer


def emit(text: str, stream: Any = None) -> None:
    """Print a line at once; a reader that has gone (`| head`) ends the command quietly."""
    try:
        print(text, file=stream or sys.stdout, flush=True)
    except BrokenPipeError:
        give_up_stdout()
        raise typer.Exit(0) from None


def refused(error: OSError) -> bool:
    """Whether an error is that of an output that takes no more: its reader has gone, or its disk is full."""
    return error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO)


def give_up_stdout() -> None:
    """Let nothing more be written to stdout, not even at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
