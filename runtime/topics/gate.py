"""Who may subscribe: a ZAP handler (https://rfc.zeromq.org/spec/27/) that knows a directory of public keys."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Final

import zmq
from zmq.utils import z85

from ...errors import OctobevError
from .keys import PublisherKeys, read_allowed_keys, read_secret_key

CHECK_S: Final = 1.0
"""How often the directory is looked at; besides at every handshake."""

_HANDLER: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = b"octobev"
_VERSION: Final = b"1.0"
_STRANGERS_NAMED: Final = 64
"""Strange keys that are logged one by one: a stranger can make as many as he likes."""

_LOG: Final = logging.getLogger("octobev.topics")


class Gate:
    """Lets the subscribers of one ZeroMQ context in whose keys are in a directory.

    The directory is read at every handshake, so a key that is added counts at once; :meth:`attend` tells of keys that
    were removed. As long as the directory is not good, nobody is let in.

    All but :meth:`guard` is of one thread.

    Raises
    ------
    MissingFile, KeyFileError
        A key file or the directory is not there or not good.
    """

    def __init__(self, context: zmq.Context[Any], keys: PublisherKeys) -> None:
        self._pair = read_secret_key(Path(keys.secret))
        self._directory = Path(keys.allowed)
        self._inside: set[bytes] = set()
        self._strangers: set[bytes] = set()
        self._complaint: str | None = None
        self._checked_s = -math.inf
        if not read_allowed_keys(self._directory):
            _LOG.warning("%s: no keys yet: nobody can subscribe", self._directory)
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_HANDLER)

    def guard(self, socket: zmq.Socket[Any]) -> None:
        """Make a socket of the same context let nobody in without asking here. Call it before the bind."""
        socket.curve_server = True
        socket.curve_secretkey = self._pair.secret
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a handler nobody is let in, instead of everybody

    @property
    def descriptor(self) -> int:
        """File descriptor that becomes readable when somebody knocks (edge-triggered, as those of ZeroMQ are)."""
        return int(self._socket.FD)

    def attend(self, now_s: float) -> bool:
        """Answer all who knock, and once in :data:`CHECK_S` look whether a key that was let in is allowed no longer.

        Parameters
        ----------
        now_s : the time, of any clock that does not jump

        Returns
        -------
        Whether there is one. It is said once: whoever asks closes all connections.
        """
        while True:
            try:
                request = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._socket.send_multipart(self._reply(request))
        if now_s - self._checked_s < CHECK_S:
            return False
        self._checked_s = now_s
        gone = bool(self._inside) and not self._inside.issubset(self._allowed())
        if gone:
            self._inside.clear()
        return gone

    def _reply(self, request: list[bytes]) -> list[bytes]:
        """[version, request id, domain, address, identity, mechanism, key] to [version, id, status, text, user, {}]."""
        request_id = request[1] if len(request) > 1 else b""
        if len(request) != 7 or request[0] != _VERSION or request[2] != _DOMAIN or request[5] != b"CURVE":
            return [_VERSION, request_id, b"400", b"not a CURVE request", b"", b""]
        key = z85.encode(request[6])
        name = self._allowed().get(key)
        if name is None:
            self._log_stranger(key)
            return [_VERSION, request_id, b"400", b"key not allowed", b"", b""]
        self._inside.add(key)
        return [_VERSION, request_id, b"200", b"OK", name.encode(), b""]

    def _allowed(self) -> dict[bytes, str]:
        try:
            allowed = read_allowed_keys(self._directory)
        except OctobevError as error:
            if str(error) != self._complaint:
                _LOG.error("%s: nobody is let in: %s", self._directory, error)
            self._complaint = str(error)
            return {}
        self._complaint = None
        return allowed

    def _log_stranger(self, key: bytes) -> None:
        if key not in self._strangers and len(self._strangers) < _STRANGERS_NAMED:
            self._strangers.add(key)
            _LOG.warning("a subscriber was refused: its key %s is not in %s", key.decode(), self._directory)
