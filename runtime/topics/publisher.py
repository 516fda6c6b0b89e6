"""Publishes predictions; never waits for a subscriber."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Final, Self

import zmq

from ...errors import EndpointError, InvalidArgument, expected
from ...fusion.rig import Rig
from ..live.health import Health
from ..predictions import Predictions
from .encode import Common, Stamp, encode_health, encode_output, encode_rig
from .endpoints import (
    HANDSHAKE_MS,
    HEARTBEAT_MS,
    HEARTBEAT_TIMEOUT_MS,
    check_endpoint,
    default_endpoint,
)
from .gate import CHECK_S, Gate
from .header import MAX_PART_BYTES
from .keys import PublisherKeys
from .names import HEALTH, RIG, check_topic, topic_part
from .outlets import OutletBook
from .socket_path import identity_of, refuse_taken_path, remove_path
from .wire import Buffer

MAX_SUBSCRIPTION_BYTES: Final = 4096
"""Longest part taken from a subscriber; a subscription is a topic name and one byte."""

_SUBSCRIPTIONS_AT_ONCE: Final = 256
"""Subscriptions read before the lock is given to whoever publishes."""

_BIND_AGAIN_S: Final = 0.05

_LAST: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_READABLE: Final = int(zmq.POLLIN)
"""Plain numbers: every `|` of pyzmq's own makes an enumeration member, which takes longer than a small frame."""

_LOG: Final = logging.getLogger("octobev.topics")


class Publisher:
    """Publishes predictions on one endpoint.

    One small thread, `octobev-publisher`, waits for subscriptions and sends the rig to late joiners; it is joined by
    :meth:`close`. Messages are sent by the thread that calls :meth:`publish`. Safe to call from several threads.

    Parameters
    ----------
    endpoint : `ipc://PATH` or `tcp://HOST:PORT` (`*` takes a free port, see :attr:`endpoint`); None is
        :func:`~octobev.runtime.topics.endpoints.default_endpoint`
    hwm : how many sets of predictions wait for a subscriber that does not keep up; what is newer is dropped for him
    max_part_bytes : largest array that may be published, bytes
    keys : encrypt with CURVE, and let nobody in whose public key is not in a directory; needed for tcp beyond the
        loopback interface, possible everywhere. A key added to the directory counts at once. When one that was let in
        is removed, within a second all subscribers are disconnected; those still allowed connect again by themselves.

    Raises
    ------
    InvalidArgument
        Not an endpoint, or tcp beyond loopback without `keys`.
    MissingFile, KeyFileError
        A key file or the directory of allowed keys is not there, or others may read or write it, or it holds no key.
    EndpointError
        The endpoint cannot be bound: address in use, no such directory, not permitted.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        hwm: int = 4,
        max_part_bytes: int = MAX_PART_BYTES,
        keys: PublisherKeys | None = None,
    ) -> None:
        if hwm < 1:
            raise InvalidArgument(expected("hwm", "at least 1", hwm))
        endpoint = default_endpoint() if endpoint is None else check_endpoint(endpoint, encrypted=keys is not None)
        self.session = uuid.uuid4().hex
        self.max_part_bytes = max_part_bytes
        self._hwm = hwm
        self._topics_per_set = 1
        self._book = OutletBook()
        self._static: dict[str, list[Buffer]] = {}
        self._static_sequences: dict[str, int] = {}
        self._prefixes: frozenset[bytes] = frozenset()
        self._process = os.getpid()
        self._closed = False
        self._changed = threading.Condition()  # guards the socket and everything above
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        try:
            self._gate = None if keys is None else Gate(self._context, keys)
            self._set_up(endpoint)
            self._bind(endpoint)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name="octobev-publisher", daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Where subscribers connect; with the port that was taken."""
        return self._endpoint

    @property
    def subscriptions(self) -> frozenset[str]:
        """What is listened to now: prefixes of `name/`; the empty text is everything."""
        with self._entered():
            return frozenset(prefix.decode("utf-8", "replace") for prefix in self._prefixes)

    def wants(self, topic: str) -> bool:
        """Whether anybody listens to a topic now."""
        part = topic_part(check_topic(topic))
        with self._entered():
            return self._wanted(part)

    def wait_for_subscription(self, topic: str, timeout_s: float) -> bool:
        """Wait until somebody listens to a topic; False when nobody did in time."""
        part = topic_part(check_topic(topic))
        with self._entered():
            return self._changed.wait_for(lambda: self._closed or self._wanted(part), timeout_s) and not self._closed

    def wait_for_change(self, subscriptions: frozenset[str], timeout_s: float) -> frozenset[str]:
        """Wait until what is listened to differs from `subscriptions`, or for `timeout_s`; returns what it is then."""
        known = frozenset(prefix.encode() for prefix in subscriptions)
        with self._entered():
            self._changed.wait_for(lambda: self._closed or self._prefixes != known, timeout_s)
        return self.subscriptions

    def publish(self, predictions: Predictions) -> int:
        """Publish every output of one step, those that are not valid as messages that say so.

        Returns at once whatever subscribers do. What nobody listens to is not encoded. Arrays are copied into the
        messages: they belong to the caller again when this returns.

        Returns
        -------
        Number of messages that somebody listens to.

        Raises
        ------
        TopicError
            An output with a name that topics may not have (`camera`, `rig`, `health`).
        InvalidArgument
            The publisher is closed, or an array is of a type or size that the wire does not take.
        """
        sent = 0
        common = Common(predictions)
        with self._entered():
            self._require_open()
            if self._pending():
                self._read_subscriptions()
            self._book.note(predictions)
            self._make_room(len(self._book.outlets))
            for outlet in self._book.wanted(self._prefixes):
                topic, output, kind = outlet.topic, outlet.of(predictions), self._book.kind(outlet.topic)
                stamp = Stamp(self.session, self._book.sequence(topic), time.time_ns())
                self._send(encode_output(topic, output, predictions, stamp, kind=kind, common=common))
                sent += 1
            if self._pending():
                self._wake()
        return sent

    def set_rig(self, rig: Rig, rig_sha256: str) -> None:
        """Publish the calibration now, and to every late joiner at once when he subscribes to `rig`."""
        self._publish_static(RIG, lambda stamp: encode_rig(rig, rig_sha256, stamp))

    def publish_health(self, health: Health) -> None:
        """Publish the state of a live runtime now, and the latest to every late joiner at once.

        Raises
        ------
        InvalidArgument
            The publisher is closed, or the wire does not take it, see
            :func:`~octobev.runtime.topics.encode.encode_health`.
        """
        self._publish_static(HEALTH, lambda stamp: encode_health(health, stamp))

    def close(self) -> None:
        """Stop publishing; what was not delivered yet is dropped. May be called again."""
        if os.getpid() != self._process:
            return  # after a fork, thread and socket belong to the parent
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._wake()
        self._thread.join()
        self._context.destroy(linger=0)
        remove_path(self._endpoint, self._path_identity)
        self._wake_sender.close()
        self._wake_receiver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _set_up(self, endpoint: str) -> None:
        self._socket.linger = 0
        self._socket.setsockopt(zmq.SNDHWM, self._hwm)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION_BYTES)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        if self._gate is not None:
            self._gate.guard(self._socket)

    def _bind(self, endpoint: str) -> None:
        refuse_taken_path(endpoint)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            reason = "address in use" if error.errno == zmq.EADDRINUSE else str(error.strerror)
            raise EndpointError(f"{endpoint}: cannot publish there: {reason}") from error
        self._endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._path_identity = identity_of(self._endpoint)
        self._listening = True

    def _serve(self) -> None:
        """Thread: wait on descriptors of sockets (edge-triggered: read to the end) and on the wake-up line."""
        wait_s = None if self._gate is None else CHECK_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket.FD, selectors.EVENT_READ)
            selector.register(self._wake_receiver, selectors.EVENT_READ)
            if self._gate is not None:
                selector.register(self._gate.descriptor, selectors.EVENT_READ)
            while True:
                expelled = self._gate is not None and self._gate.attend(time.monotonic())
                with self._changed:
                    if self._closed:
                        return
                    bound = self._bound(expelled)
                    self._read_subscriptions()
                    more = self._pending()
                if not more:
                    selector.select(wait_s if bound else _BIND_AGAIN_S)
                    with contextlib.suppress(BlockingIOError):
                        self._wake_receiver.recv(4096)

    def _bound(self, expelled: bool) -> bool:
        """Whether subscribers can connect. To part from one that was expelled, part from all and bind again."""
        if expelled:
            _LOG.warning("%s: a key was removed: all subscribers are disconnected and may come again", self._endpoint)
            self._socket.unbind(self._endpoint)
            self._listening = False
        if not self._listening:
            with contextlib.suppress(EndpointError):  # the listener of before may not be closed yet
                self._bind(self._endpoint)
        return self._listening

    def _read_subscriptions(self) -> None:
        """Take what subscribers asked for, a limited number at once. The lock is held."""
        joined: set[bytes] = set()
        count = 0
        while count < _SUBSCRIPTIONS_AT_ONCE:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            count += 1
            prefix = parts[0][1:]
            if parts[0][:1] == b"\x01":
                self._prefixes |= {prefix}
                joined.add(prefix)
            elif parts[0][:1] == b"\x00":
                self._prefixes -= {prefix}
            else:
                _LOG.debug("a subscriber sent something that is not a subscription, %d bytes", len(parts[0]))
        if joined:
            self._set_hwm()
            for topic, message in self._static.items():
                if any(topic_part(topic).startswith(prefix) for prefix in joined):
                    self._send(message)
        if count:
            self._changed.notify_all()

    def _wanted(self, part: bytes) -> bool:
        return part.startswith(tuple(self._prefixes))

    def _make_room(self, topics: int) -> None:
        """The high-water mark counts messages, `hwm` counts sets of them."""
        if topics > self._topics_per_set:
            self._topics_per_set = topics
            self._set_hwm()

    def _set_hwm(self) -> None:
        """Set the mark on every connection; those made later start from the mark of the bind, so do it again then."""
        self._socket.setsockopt(zmq.SNDHWM, self._hwm * self._topics_per_set + len(self._static))

    def _publish_static(self, topic: str, encode: Callable[[Stamp], list[Buffer]]) -> None:
        """Publish a message that stays: whoever joins later gets it, until the next one takes its place."""
        with self._entered():
            self._require_open()
            sequence = self._static_sequences.get(topic, 0)
            self._static_sequences[topic] = sequence + 1
            parts = encode(Stamp(self.session, sequence, time.time_ns()))
            self._static[topic] = parts
            self._send(parts)
            if self._pending():
                self._wake()

    def _send(self, parts: list[Buffer]) -> None:
        for part in parts[2:]:
            if len(part) > self.max_part_bytes:
                raise InvalidArgument(
                    expected("array of a message", f"at most {self.max_part_bytes} bytes", f"{len(part)} bytes")
                )
        for part in parts[:-1]:
            self._socket.send(part, _MORE)
        self._socket.send(parts[-1], _LAST)

    def _pending(self) -> bool:
        """Whether a subscription waits. Asked after every use of the socket, which may take the descriptor's edge."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & _READABLE)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_sender.send(b"\0")

    def _entered(self) -> threading.Condition:
        """The lock, for who comes from outside: after a fork it may be held by a thread that is not there."""
        if os.getpid() != self._process:
            raise InvalidArgument(expected("publisher", "used in the process that made it", "used after a fork"))
        return self._changed

    def _require_open(self) -> None:
        if self._closed:
            raise InvalidArgument(expected("publisher", "open", "a closed one"))
