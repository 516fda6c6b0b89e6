"""Receives predictions: blocking, polling, or with asyncio."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Self

import zmq

from ...errors import EndpointError, InvalidArgument, TopicTimeout, WireError, expected
from .endpoints import HANDSHAKE_MS, HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS, check_endpoint, default_endpoint
from .header import MAX_PART_BYTES
from .message import Message
from .names import topic_patterns
from .wire import Buffer, decode

if TYPE_CHECKING:
    import zmq.asyncio

    from .keys import SubscriberKeys

RECONNECT_MS: Final = 100
RECONNECT_MAX_MS: Final = 2000

WATCH_MS: Final = 500
"""How often the connection is looked after, at least."""

_NOBLOCK: Final = int(zmq.NOBLOCK)
"""A plain number: pyzmq's own members of enumerations are slow to combine and to pass on."""

_DRAIN_AT_MOST: Final = 1024
"""Messages that :meth:`Subscriber.latest` reads before it answers, however fast they come."""

_REFUSALS: Final[dict[int, str]] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the publisher does not allow this subscriber's key",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "only one of publisher and subscriber uses keys, or that is no publisher",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed: no publisher, or one with other keys than expected",
}

_WATCHED: Final = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Subscriber:
    """Receives messages of one endpoint, in the calling thread. It connects when a publisher appears, and again.

    A message that is not valid Octobev (damaged, forged, another version) is counted in :attr:`malformed`, kept as
    :attr:`last_error`, and skipped: no call here raises WireError. A message with `valid` False is delivered. Messages
    that come again (rig and health are sent again when others join) are delivered once.

    :attr:`refusal` says why publisher and subscriber do not come together (a key that is not allowed, keys on one side
    only); None: nothing is known to be wrong.

    Not safe to use from several threads at once.

    Parameters
    ----------
    endpoint : as the publisher's; None is :func:`~octobev.runtime.topics.endpoints.default_endpoint`
    topics : names or patterns (`road_layout`, `camera/*/depth`, `*`); None is everything
    hwm : how many messages per name or pattern wait here before the publisher keeps them, and then drops
    max_part_bytes : a larger part is not taken: its connection is closed, made again, and :attr:`malformed` counted
    keys : believe only the publisher who has the secret key to a certain public one, and be known to him; needed for
        tcp beyond the loopback interface, and wherever the publisher has keys

    Raises
    ------
    InvalidArgument
        Not an endpoint, or tcp beyond loopback without `keys`.
    MissingFile, KeyFileError
        A key file is not there, or others may read or write it, or it holds no key.
    TopicError
        Not a topic or pattern.
    EndpointError
        The endpoint cannot be connected to (a publisher that is not there yet is no error).
    """

    def __init__(
        self,
        endpoint: str | None = None,
        topics: str | Iterable[str] | None = None,
        *,
        hwm: int = 4,
        max_part_bytes: int = MAX_PART_BYTES,
        keys: SubscriberKeys | None = None,
    ) -> None:
        if hwm < 1:
            raise InvalidArgument(expected("hwm", "at least 1", hwm))
        self.endpoint = default_endpoint() if endpoint is None else check_endpoint(endpoint, encrypted=keys is not None)
        self.patterns = topic_patterns(topics)
        self.malformed = 0
        self.restarts = 0
        self.last_error: WireError | None = None
        self.refusal: str | None = None
        self._lost: dict[str, int] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._async: zmq.asyncio.Socket | None = None
        self._max_part_bytes = max_part_bytes
        self._down_since: float | None = None
        self._looked_s = time.monotonic()
        self._patience_ms = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        try:
            self._connect(hwm, keys)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    @property
    def lost(self) -> Mapping[str, int]:
        """Topic -> messages that were published while this subscriber was connected but did not arrive.

        Counted from gaps in the sequence numbers of one session; topics without losses are not in it.
        """
        return MappingProxyType(self._lost)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return bool(self._socket.closed)

    def receive(self, timeout_s: float | None = None) -> Message:
        """Wait for the next message.

        Raises
        ------
        TopicTimeout
            Nothing came within `timeout_s` seconds (None waits for ever).
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._require_open()
            wait_ms = _wait_ms(deadline)
            try:
                parts = self._parts(wait_ms)
            except zmq.Again:
                self._look_after_connection()
                if wait_ms == 0:
                    raise self._timeout(timeout_s) from None
                continue
            if (message := self._take(parts)) is not None:
                return message

    def receive_nowait(self) -> Message | None:
        """The next message if there is one already."""
        self._require_open()
        while True:
            try:
                parts = self._parts(0)
            except zmq.Again:
                self._look_after_connection()
                return None
            if (message := self._take(parts)) is not None:
                return message

    def latest(self, timeout_s: float | None = None) -> dict[str, Message]:
        """Wait for a message, take all that are there, and keep the newest of each topic: topic -> message.

        Raises
        ------
        TopicTimeout
            Nothing came within `timeout_s` seconds (None waits for ever).
        """
        message: Message | None = self.receive(timeout_s)
        newest: dict[str, Message] = {}
        for _ in range(_DRAIN_AT_MOST):
            if message is None:
                break
            newest[message.topic] = message
            message = self.receive_nowait()
        return newest

    def __iter__(self) -> Iterator[Message]:
        """Messages as they come, for ever or until the subscriber is closed."""
        while not self.closed:
            yield self.receive()

    async def receive_async(self, timeout_s: float | None = None) -> Message:
        """As :meth:`receive`, in an asyncio event loop; no thread is used, a cancelled call loses no message.

        Raises
        ------
        TopicTimeout
            Nothing came within `timeout_s` seconds (None waits for ever).
        """
        import asyncio  # only who asks for it pays for its import

        if (message := self.receive_nowait()) is not None:
            await asyncio.sleep(0)  # others get their turn however fast messages come
            return message
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            wait_ms = _wait_ms(deadline)
            arrived = await self._async_socket().poll(wait_ms)
            if (message := self.receive_nowait()) is not None:
                return message
            if not arrived and wait_ms == 0:
                raise self._timeout(timeout_s)

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Messages as they come, for ever or until the subscriber is closed."""
        while not self.closed:
            yield await self.receive_async()

    def close(self) -> None:
        """Disconnect. May be called again. Arrays of received messages stay valid."""
        if self._async is not None:
            self._async.close(linger=0)
            self._async = None
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self, hwm: int, keys: SubscriberKeys | None) -> None:
        self._socket.linger = 0
        self._socket.setsockopt(zmq.RCVHWM, hwm * len(self.patterns))
        self._socket.setsockopt(zmq.MAXMSGSIZE, self._max_part_bytes)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._socket.setsockopt(zmq.CONNECT_TIMEOUT, HANDSHAKE_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        self._socket.setsockopt(zmq.IPV6, int("[" in self.endpoint))
        if keys is not None:
            self._believe(keys)
        for pattern in self.patterns:
            self._socket.setsockopt(zmq.SUBSCRIBE, pattern.prefix)
        self._monitor = self._socket.get_monitor_socket(_WATCHED)
        try:
            self._socket.connect(self.endpoint)
        except zmq.ZMQError as error:
            raise EndpointError(f"{self.endpoint}: cannot subscribe there: {error.strerror}") from error

    def _believe(self, keys: SubscriberKeys) -> None:
        from pathlib import Path

        from .keys import read_public_key, read_secret_key  # only who has keys pays for their import

        own = read_secret_key(Path(keys.secret))
        self._socket.curve_publickey, self._socket.curve_secretkey = own.public, own.secret
        self._socket.curve_serverkey = read_public_key(Path(keys.server))

    def _parts(self, wait_ms: int) -> list[memoryview]:
        """Parts of the next message, which must come within so many milliseconds; raises zmq.Again when it does not.

        A wait inside of ZeroMQ's receive is shorter by a system call or two than a poll before it.
        """
        if wait_ms not in (0, self._patience_ms):
            self._socket.rcvtimeo = self._patience_ms = wait_ms
        frame = self._socket.recv(0 if wait_ms else _NOBLOCK, copy=False)
        parts = [frame.buffer]
        while frame.more:  # the others are here, too: a message comes as a whole
            frame = self._socket.recv(_NOBLOCK, copy=False)
            parts.append(frame.buffer)
        return parts

    def _look_after_connection(self) -> None:
        """Connect again where ZeroMQ does not: it gives a peer up for good that sent too much, or refused the key.

        Every other loss of a connection is followed by a retry of ZeroMQ's own, which the monitor tells.
        """
        self._looked_s = time.monotonic()
        with contextlib.suppress(zmq.Again):
            while True:
                self._note(_event_of(self._monitor.recv_multipart(zmq.NOBLOCK)))
        pause_ms = RECONNECT_MS if self.refusal is None else RECONNECT_MAX_MS
        if self._down_since is None or time.monotonic() - self._down_since < pause_ms / 1000:
            return
        self._down_since = None
        if self.refusal is None:
            self.malformed += 1
            self.last_error = WireError(
                expected(
                    "part", f"at most {self._max_part_bytes} bytes", "a larger one: connection closed and made again"
                )
            )
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disconnect(self.endpoint)
        self._socket.connect(self.endpoint)

    def _note(self, event: int) -> None:
        """Take note of what the monitor tells of the connection."""
        self._down_since = time.monotonic() if event == zmq.EVENT_DISCONNECTED else None
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.refusal = None
        elif (refusal := _REFUSALS.get(event)) is not None:
            if self.refusal is None:
                _warn("%s: %s", self.endpoint, refusal)
            self.refusal = refusal

    def _take(self, parts: Sequence[Buffer]) -> Message | None:
        """Decode, count, and drop what was not asked for or came before."""
        if self.refusal is not None or time.monotonic() - self._looked_s > WATCH_MS / 1000:
            self._look_after_connection()
        received_ns = time.time_ns()
        try:
            message = decode(parts, received_ns=received_ns)
        except WireError as error:
            if self.malformed == 0:
                _warn("%s: malformed message skipped: %s", self.endpoint, error)
            self.malformed += 1
            self.last_error = error
            return None
        topic = message.header.topic
        if topic not in self._seen and not any(pattern.matches(topic) for pattern in self.patterns):
            return None
        return message if self._follow(message) else None

    def _follow(self, message: Message) -> bool:
        """Count gaps and restarts; False for a message that was delivered before."""
        topic, session, sequence = message.topic, message.session, message.sequence
        before = self._seen.get(topic)
        self._seen[topic] = (session, sequence)
        if before is None:
            return True
        if before[0] != session:
            self.restarts += not any(seen[0] == session for name, seen in self._seen.items() if name != topic)
            return True
        if sequence == before[1]:
            return False
        if sequence > before[1] + 1:
            self._lost[topic] = self._lost.get(topic, 0) + sequence - before[1] - 1
        return True

    def _async_socket(self) -> zmq.asyncio.Socket:
        if self._async is None:
            import zmq.asyncio

            self._async = zmq.asyncio.Socket.from_socket(self._socket)
        return self._async

    def _timeout(self, timeout_s: float | None) -> TopicTimeout:
        wanted = ", ".join(pattern.text for pattern in self.patterns)
        skipped = f"; {self.malformed} malformed messages skipped, last: {self.last_error}" if self.malformed else ""
        refused = f"; {self.refusal}" if self.refusal is not None else ""
        return TopicTimeout(f"{self.endpoint}: no message of {wanted} in {timeout_s:g} s{refused}{skipped}")

    def _require_open(self) -> None:
        if self.closed:
            raise InvalidArgument(expected("subscriber", "open", "a closed one"))


def _event_of(parts: Sequence[bytes]) -> int:
    """Kind of an event that a monitor tells (zmq_socket_monitor(3): 16 bits, native order, before its value).

    zmq.utils.monitor reads it too, but imports asyncio, a quarter of what the import of a subscriber would take.
    """
    return int.from_bytes(parts[0][:2], sys.byteorder)


def _warn(text: str, *values: object) -> None:
    import logging  # only who has something to say pays for its import

    logging.getLogger("octobev.topics").warning(text, *values)


def _wait_ms(deadline: float | None) -> int:
    """Milliseconds to wait for a message at once; 0 when the deadline has passed."""
    if deadline is None:
        return WATCH_MS
    return math.ceil(
        min(WATCH_MS, max(0.0, (deadline - time.monotonic()) * 1000))
    )  # also of a deadline that never comes
