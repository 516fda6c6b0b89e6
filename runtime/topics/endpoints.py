"""Where topics are published: ZeroMQ endpoints that are safe to use, and the default one."""

from __future__ import annotations

import os
import re
import stat
from typing import Final

from ...errors import EndpointError, InvalidArgument, expected, unwritable

HEARTBEAT_MS: Final = 1000
"""How often either side of a connection asks whether the other is still there."""

HEARTBEAT_TIMEOUT_MS: Final = 3000
"""A side that does not answer for so long is gone."""

HANDSHAKE_MS: Final = 5000
"""How long a connection may take to become one, on either side."""

MAX_IPC_PATH_BYTES: Final = 107
"""Longest path of a Unix domain socket on Linux, without the closing zero."""

_TCP: Final = r"(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>\d{1,5}|\*)"


def default_endpoint() -> str:
    """`ipc://` endpoint in a directory that only this user can enter; the directory is made if it is not there.

    The directory is `$XDG_RUNTIME_DIR/octobev`, or `octobev-<uid>` in the directory for temporary files.

    Raises
    ------
    EndpointError
        The directory belongs to somebody else, is a link, or others may enter it, or replace it by another.
    """
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime_dir) and os.path.isdir(runtime_dir):
        folder = os.path.join(runtime_dir, "octobev")
    else:
        import tempfile  # brings in archives and random numbers, which nobody else here needs

        folder = os.path.join(tempfile.gettempdir(), f"octobev-{os.getuid()}")
    _check_parent(os.path.dirname(folder))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        status = os.lstat(folder)
    except OSError as error:
        why = unwritable(folder, error, folder=True)
        raise EndpointError(f"cannot make the directory for topics: {why}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise EndpointError(
            f"{folder}: " + expected("directory for topics", "your own with mode 0700", stat.filemode(status.st_mode))
        )
    return f"ipc://{folder}/topics"


def check_endpoint(endpoint: str, *, encrypted: bool = False) -> str:
    """Return an endpoint if it may be used.

    `ipc://PATH`, `tcp://HOST:PORT` and `inproc://NAME` are known. Without CURVE keys messages are not encrypted and
    nobody is asked who he is: then tcp is for the loopback interface (127.0.0.0/8, ::1, localhost).

    Parameters
    ----------
    encrypted : whether keys are at hand

    Raises
    ------
    InvalidArgument
        Not an endpoint, or not a safe one; the message says which.
    """
    transport, separator, address = endpoint.partition("://")
    if not separator or transport not in ("ipc", "tcp", "inproc") or not address:
        raise InvalidArgument(expected("endpoint", "ipc://PATH or tcp://HOST:PORT", repr(endpoint)))
    if transport == "ipc":
        _check_path(endpoint, address)
    elif transport == "tcp":
        _check_host(endpoint, address, encrypted)
    return endpoint


def _check_parent(parent: str) -> None:
    """Raise where others may rename what this user makes: writable for them, and not sticky as /tmp is."""
    try:
        status = os.stat(parent)
    except OSError as error:
        raise EndpointError(f"{parent}: cannot make the directory for topics: {error.strerror}") from error
    shared = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
    if shared or status.st_uid not in (os.getuid(), 0):
        raise EndpointError(
            f"{parent}: "
            + expected(
                "place for topics",
                "your own or root's, and sticky if others may write there",
                f"{stat.filemode(status.st_mode)} of user {status.st_uid}",
            )
        )


def _check_path(endpoint: str, path: str) -> None:
    if not path.startswith("/"):
        raise InvalidArgument(expected("path of an ipc endpoint", "absolute", repr(endpoint)))
    if (length := len(os.fsencode(path))) > MAX_IPC_PATH_BYTES:
        raise InvalidArgument(
            expected("path of an ipc endpoint", f"at most {MAX_IPC_PATH_BYTES} bytes", f"{length} bytes: {path}")
        )


def _check_host(endpoint: str, address: str, encrypted: bool) -> None:
    match = re.fullmatch(_TCP, address)
    if match is None or (match["port"] != "*" and int(match["port"]) > 65535):
        raise InvalidArgument(expected("tcp endpoint", "tcp://HOST:PORT", repr(endpoint)))
    if not encrypted and not _is_loopback(match["host"].strip("[]")):
        raise InvalidArgument(
            f"{endpoint}: topics beyond this machine need CURVE keys on both sides, or anybody on the network could "
            "read them and publish in your place: make keys with `octobev keys new` and give keys= (--key), "
            "or use ipc or loopback tcp"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    import ipaddress  # ipc, the default, does without

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
