"""What a camera delivers, told from what arrives and what becomes of it.

Pure logic: no thread, no clock, no lock. The host tells what happened and when, on a clock that does not jump.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum, auto
from statistics import median_low
from typing import Final

from ...errors import InvalidArgument, expected
from ..sync.track import DropReason
from .health import CameraCondition, CameraHealth

GRACE_NS: Final = 1_000_000_000
"""After so long without a frame a camera is missing whose period is not known yet."""

SHORTEST_GRACE_NS: Final = 10_000_000
"""No camera is missing sooner, however fast it fires."""

MISSING_AFTER_PERIODS: Final = 2.5
FROZEN_AFTER: Final = 5
RECOVERED_AFTER: Final = 3
"""So many good frames in succession make a camera ok again; the very first time one is enough."""

RATE_WINDOW_NS: Final = 3_000_000_000

OTHER: Final = "other"
"""What frames are counted as that were dropped for reasons beyond the first `MAX_REASONS`."""

MAX_REASONS: Final = 16

_LATE_REASONS: Final = frozenset({DropReason.LATE, DropReason.OUT_OF_ORDER, DropReason.CLOCK_JUMP, DropReason.SKEW})
_LATE_AFTER: Final = 2
_PACES: Final = 16
_PACES_APART: Final = 4
_ARRIVALS: Final = 256


class _Verdict(Enum):
    """What one frame says about its camera."""

    GOOD = auto()
    LATE = auto()
    FROZEN = auto()
    CORRUPT = auto()


class CameraWatch:
    """Follows one camera.

    Every frame is told once by :meth:`arrived` and later once by what became of it: :meth:`used`, :meth:`dropped` or
    :meth:`corrupt`. The condition, the worst that holds first:

    - missing: no frame for 2.5 periods of the camera, or for a second while its period is not known;
    - corrupt: one of the last three images could not be read;
    - stale: `frozen_after` frames in succession had the same image or the same timestamp;
    - late: two of the last three frames were late, out of order, too far from any set, or of another clock.

    A condition stays until another one holds or three frames in succession were good. Good is, too, what was dropped
    for no fault of its camera: because it fires faster than others, or because the host was busy.

    The period is the median over the latest 16 arrivals, each taken over four frames, so that frames that arrive in
    pairs or bursts do not mislead; after an outage it is learned anew. Times that go back are taken for no later.

    Parameters
    ----------
    started_ns : when the host began to wait for frames, on the clock of all `now_ns`
    frozen_after : after so many equal images in succession the camera is stale, at least 2; None: images are not
        compared, only timestamps are (for scenes without noise)
    """

    def __init__(self, started_ns: int, *, frozen_after: int | None = FROZEN_AFTER) -> None:
        if frozen_after is not None and frozen_after < 2:
            raise InvalidArgument(expected("frozen_after", "at least 2", frozen_after))
        self._frozen_after = frozen_after or FROZEN_AFTER
        self._compares = frozen_after is not None
        self._now_ns = self._since_ns = started_ns
        self._condition = CameraCondition.MISSING
        self._reason: str | None = None
        self._silent = True
        self._good_needed = 1
        self._verdicts: deque[_Verdict] = deque(maxlen=RECOVERED_AFTER)
        self._heard_ns: int | None = None
        self._timestamp_ns: int | None = None
        self._fingerprint: int | None = None
        self._alike = 0
        self._period_ns: int | None = None
        self._paces: deque[int] = deque(maxlen=_PACES)
        self._arrivals: deque[int] = deque(maxlen=_ARRIVALS)
        self._skew_ns: int | None = None
        self._received = self._used = self._corrupt = 0
        self._dropped: Counter[str] = Counter()

    def arrived(self, now_ns: int, timestamp_ns: int, fingerprint: int | None = None) -> None:
        """Take note of a frame that was submitted.

        Parameters
        ----------
        timestamp_ns : its capture time; the one of the frame before again means: nothing new
        fingerprint : of its image, see :func:`~octobev.runtime.live.fingerprint.fingerprint`; None: not known
        """
        now_ns = self._pass(now_ns)
        self._received += 1
        self._heard_ns, self._silent = now_ns, False
        self._arrivals.append(now_ns)
        again = timestamp_ns == self._timestamp_ns
        alike = self._compares and fingerprint is not None and fingerprint == self._fingerprint
        self._alike = self._alike + 1 if again or alike else 1
        self._timestamp_ns, self._fingerprint = timestamp_ns, fingerprint
        if not again:
            self._learn(now_ns)
        if self.frozen:
            self._reason = f"the same {'image' if alike else 'timestamp'} {self._alike} times in succession"
            self._verdicts.append(_Verdict.FROZEN)
        self._judge(now_ns)

    def used(self, now_ns: int, skew_ns: int) -> None:
        """Take note of a frame that went through the networks; skew: its capture time minus that of its set."""
        self._used += 1
        self._skew_ns = skew_ns
        self._conclude(now_ns, _Verdict.GOOD)

    def dropped(self, now_ns: int, reason: str) -> None:
        """Take note of a frame that was not used, for a reason of the synchroniser or one of the host's."""
        reason = str(reason)
        self._dropped[reason if reason in self._dropped or len(self._dropped) < MAX_REASONS else OTHER] += 1
        if reason in _LATE_REASONS:
            self._conclude(now_ns, _Verdict.LATE, reason)
        elif reason != DropReason.DUPLICATE:
            self._conclude(now_ns, _Verdict.GOOD)

    def corrupt(self, now_ns: int, why: str) -> None:
        """Take note of a frame whose image could not be read."""
        self._corrupt += 1
        self._conclude(now_ns, _Verdict.CORRUPT, why)

    def condition(self, now_ns: int) -> CameraCondition:
        """What the camera delivers now."""
        self._pass(now_ns)
        return self._condition

    def missing_at_ns(self) -> int | None:
        """When the camera will be missing if nothing comes until then; None: it is."""
        return None if self._silent or self._heard_ns is None else self._heard_ns + self._grace_ns

    def health(self, now_ns: int, queued: int = 0) -> CameraHealth:
        """Everything about the camera now; `queued` of its frames wait for their set."""
        now_ns = self._pass(now_ns)
        return CameraHealth(
            condition=self._condition,
            since_ns=now_ns - self._since_ns,
            rate_hz=self._rate_hz(now_ns),
            age_ns=None if self._heard_ns is None else now_ns - self._heard_ns,
            skew_ns=self._skew_ns,
            received=self._received,
            used=self._used,
            dropped=dict(self._dropped),
            corrupt=self._corrupt,
            queued=queued,
            reason=self._words(now_ns),
        )

    @property
    def frozen(self) -> bool:
        """Whether the latest frame showed what those before it did, often enough to be stale."""
        return self._alike >= self._frozen_after

    @property
    def _grace_ns(self) -> int:
        if self._period_ns is None:
            return GRACE_NS
        return max(SHORTEST_GRACE_NS, round(MISSING_AFTER_PERIODS * self._period_ns))

    @property
    def _slow(self) -> bool:
        """Whether frames come so seldom that a silence says nothing about the period."""
        return len(self._paces) < 2 or self._paces[-1] - self._paces[-2] > GRACE_NS // 2

    def _pass(self, now_ns: int) -> int:
        """Let time pass until now; a camera that was silent for too long has been missing since it was so."""
        self._now_ns = now_ns = max(now_ns, self._now_ns)
        missing_at_ns = self.missing_at_ns()
        if missing_at_ns is not None and now_ns >= missing_at_ns:
            self._turn(CameraCondition.MISSING, missing_at_ns)
            self._silent = True
            self._verdicts.clear()
            if not self._slow:
                self._period_ns = None
                self._paces.clear()
        return now_ns

    def _conclude(self, now_ns: int, verdict: _Verdict, reason: str | None = None) -> None:
        now_ns = self._pass(now_ns)
        if self._silent or (self.frozen and verdict is _Verdict.GOOD):
            return
        if reason is not None:
            self._reason = str(reason)
        self._verdicts.append(verdict)
        self._judge(now_ns)

    def _judge(self, now_ns: int) -> None:
        if _Verdict.CORRUPT in self._verdicts:
            self._turn(CameraCondition.CORRUPT, now_ns)
        elif self.frozen:
            self._turn(CameraCondition.STALE, now_ns)
        elif self._verdicts.count(_Verdict.LATE) >= _LATE_AFTER:
            self._turn(CameraCondition.LATE, now_ns)
        elif [*self._verdicts][-self._good_needed :] == self._good_needed * [_Verdict.GOOD]:
            self._turn(CameraCondition.OK, now_ns)
            self._good_needed = RECOVERED_AFTER

    def _turn(self, condition: CameraCondition, at_ns: int) -> None:
        if condition is not self._condition:
            self._condition, self._since_ns = condition, at_ns

    def _learn(self, now_ns: int) -> None:
        self._paces.append(now_ns)
        times = [*self._paces]
        if len(times) > _PACES_APART:
            spans = [after - before for before, after in zip(times, times[_PACES_APART:], strict=False)]
            self._period_ns = median_low(spans) // _PACES_APART

    def _rate_hz(self, now_ns: int) -> float:
        """Frames per second from the first of the window to the latest, or to now when the camera is missing."""
        while self._arrivals and self._arrivals[0] <= now_ns - RATE_WINDOW_NS:
            self._arrivals.popleft()
        if not self._arrivals:
            return 0.0
        end_ns = now_ns if self._silent else self._arrivals[-1]
        span_ns = end_ns - self._arrivals[0]
        if len(self._arrivals) == 1 or span_ns == 0:
            return len(self._arrivals) * 1e9 / RATE_WINDOW_NS
        return (len(self._arrivals) - 1) * 1e9 / span_ns

    def _words(self, now_ns: int) -> str | None:
        if self._condition is CameraCondition.OK:
            return None
        if self._condition is not CameraCondition.MISSING:
            return self._reason
        if self._heard_ns is None:
            return "no frame yet"
        if self._silent:
            return f"no frame for {(now_ns - self._heard_ns) / 1e9:.1f} s"
        return f"back, until {self._good_needed} good frames have come in succession"
