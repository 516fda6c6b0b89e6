"""The file system path of an `ipc://` endpoint, as whoever binds it has to treat it."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from ...errors import EndpointError, expected


def refuse_taken_path(endpoint: str) -> None:
    """Raise EndpointError if an `ipc://` endpoint must not be bound, because ZeroMQ would replace whatever is there.

    That is: another publisher serves it, or the path is not a socket.
    """
    if not endpoint.startswith("ipc://"):
        return
    path = Path(endpoint.removeprefix("ipc://"))
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there, or the bind will say what is wrong
    if not stat.S_ISSOCK(mode):
        raise EndpointError(f"{endpoint}: " + expected("path", "free or a socket", stat.filemode(mode)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            pass  # somebody listens, his queue is full
        except OSError:
            return
    raise EndpointError(f"{endpoint}: address in use: another publisher is bound to it")


def identity_of(endpoint: str) -> tuple[int, int] | None:
    """Device and inode of the socket of an `ipc://` endpoint; None where there is none."""
    try:
        status = os.lstat(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)


def remove_path(endpoint: str, identity: tuple[int, int] | None) -> None:
    """Remove the socket of an `ipc://` endpoint unless somebody else made a new one there."""
    if identity is not None and identity_of(endpoint) == identity:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(endpoint.removeprefix("ipc://"))
