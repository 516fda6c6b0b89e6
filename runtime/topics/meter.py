"""Measures a stream of messages per topic: rate, size, delay, losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .message import Message

_WINDOW = 10_000
"""Delays kept per topic for percentiles."""


@dataclass(frozen=True, slots=True)
class DelaySummary:
    """Delays of a topic's messages, milliseconds, by the wall clocks of both sides."""

    mean_ms: float
    min_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class TopicSummary:
    """What was measured on one topic.

    hz : messages per second between the first and the last one; None with fewer than two
    bytes_per_s : of whole messages, in the same time; None with fewer than two
    transport : from publication to reception
    capture : from the instant that the content is about to reception; of a recorded drive this is its age
    """

    topic: str
    kind: str
    messages: int
    invalid: int
    lost: int
    hz: float | None
    bytes_per_s: float | None
    mean_bytes: float
    transport: DelaySummary | None
    capture: DelaySummary | None


class TopicMeter:
    """Adds up messages of one topic."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._kind = ""
        self._messages = 0
        self._invalid = 0
        self._bytes = 0
        self._first_bytes = 0
        self._first_ns = 0
        self._last_ns = 0
        self._transport_ms: list[float] = []
        self._capture_ms: list[float] = []

    def add(self, message: Message) -> None:
        """Count a message that a subscriber received."""
        received_ns = message.received_ns or 0
        if self._messages == 0:
            self._first_ns, self._first_bytes = received_ns, message.size_bytes
        self._kind = message.kind
        self._messages += 1
        self._invalid += not message.valid
        self._bytes += message.size_bytes
        self._last_ns = received_ns
        if len(self._transport_ms) < _WINDOW:
            self._transport_ms.append((received_ns - message.header.published_ns) / 1e6)
            self._capture_ms.append((received_ns - message.timestamp_ns) / 1e6)

    def summary(self, lost: int = 0) -> TopicSummary:
        """What was measured so far; `lost` is the subscriber's count of this topic."""
        span_s = (self._last_ns - self._first_ns) / 1e9
        steady = self._messages > 1 and span_s > 0
        return TopicSummary(
            self.topic,
            self._kind,
            self._messages,
            self._invalid,
            lost,
            (self._messages - 1) / span_s if steady else None,
            (self._bytes - self._first_bytes) / span_s if steady else None,
            self._bytes / self._messages if self._messages else 0.0,
            _delays(self._transport_ms),
            _delays(self._capture_ms),
        )


def _delays(values_ms: list[float]) -> DelaySummary | None:
    if not values_ms:
        return None
    p50, p99 = np.percentile(values_ms, (50, 99))
    return DelaySummary(float(np.mean(values_ms)), min(values_ms), float(p50), float(p99), max(values_ms))
