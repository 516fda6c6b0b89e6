"""How a source is doing, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SourceCondition(StrEnum):
    """Where a source is between its first connection and its end."""

    CONNECTING = "connecting"
    STREAMING = "streaming"
    """Frames come."""
    WAITING = "waiting"
    """It failed, and will be tried again."""
    ENDED = "ended"
    """Nothing more will come: the end of a file or drive, or it was closed."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source at one instant; times are of the monotonic clock.

    condition, since_ns : where it is, and since when
    reason : why it waits, or why it ended before its end; None when all is well
    retry_ns : when it will be tried again, None unless it waits
    frames : handed on since the start
    refused : frames that nobody wanted: of a wrong size or format, or not readable
    connections : how often frames began to come
    """

    condition: SourceCondition
    since_ns: int
    reason: str | None = None
    retry_ns: int | None = None
    frames: int = 0
    refused: int = 0
    connections: int = 0

    def describe(self, now_ns: int) -> str:
        """Say it in a few words."""
        if self.condition is SourceCondition.WAITING and self.retry_ns is not None:
            left_s = max(0, self.retry_ns - now_ns) / 1e9
            return f"waiting {left_s:.1f} s ({self.reason})"
        return self.condition.value if self.reason is None else f"{self.condition.value} ({self.reason})"
