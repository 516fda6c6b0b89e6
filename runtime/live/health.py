"""How a live runtime is doing, as values: per camera, per stage, per output, and as a whole.

Value types; times are nanoseconds unless the name says otherwise. Percentiles are over the latest samples of a
window, so that they follow what happens; counts are since the start and never fall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class CameraCondition(StrEnum):
    """What a camera delivers, the worst that is true of it last."""

    OK = "ok"
    """Its frames come and are used."""
    LATE = "late"
    """Its frames come, too late for their sets or with a clock that is not that of the others."""
    STALE = "stale"
    """Its frames come, and show the same image again and again."""
    CORRUPT = "corrupt"
    """Its frames come, and their images cannot be read."""
    MISSING = "missing"
    """Nothing comes."""


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """One camera.

    condition, since_ns : what it delivers, and for how long that has been so
    rate_hz : frames that arrived per second, over the last seconds; 0 when none did
    age_ns : time since its latest frame arrived; None before the first
    skew_ns : capture time of its frame minus that of its set, in the latest set that used it; None before the first
    received, used : frames submitted, and frames that went through the networks
    dropped : why -> how many frames were not used, corrupt ones apart
    corrupt : frames whose image could not be read
    queued : frames that wait for their set now
    reason : what the latest frame that was not used had, in words; None while the condition is ok
    """

    condition: CameraCondition
    since_ns: int
    rate_hz: float
    age_ns: int | None
    skew_ns: int | None
    received: int
    used: int
    dropped: Mapping[str, int]
    corrupt: int
    queued: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of a duration, milliseconds; `count` is since the start, the others are over the window."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class OutputHealth:
    """One output of the bundle.

    computed : whether it is computed now: somebody listens to it, or it belongs to the configured minimum
    valid : whether it was in the latest predictions, for at least one camera where it is a per-camera output
    reason : why it is not valid; None when it is, or when it is not computed
    invalid : in how many predictions it was withheld
    """

    computed: bool
    valid: bool
    reason: str | None
    invalid: int


@dataclass(frozen=True, slots=True)
class Health:
    """A live runtime at one instant.

    timestamp_ns : wall-clock time of this report, since the epoch
    uptime_ns : since the runtime was started
    valid : whether the latest predictions have anything to say; False from the moment that no camera delivers
    reason : why not; None when valid
    cameras : by name, in rig order
    stages : by name: the stages of a step (`decode`, `network`, ...), `step` (a whole step), `wait` (from the first
        arrival of a set to its step) and `publish`
    latency : from the capture of a set's latest frame to the end of publishing; None when the capture clock is not the
        wall clock, so that the difference means nothing
    outputs : by name
    sets, incomplete : sets that were stepped, and those among them that lacked a camera
    overrun : sets that were dropped because a newer one was there before they could be stepped
    deadline_misses : sets that took longer from their last arrival to publication than the frame budget
    resets : why -> how many times what is carried over time began anew
    queues : name -> length now: `sets` (waiting for a step), `results` (waiting to be fetched), ...
    stalled : stage -> seconds for which it has not returned, for those that the watchdog found stuck; empty when well
    errors : where -> exceptions that were caught there: `callback`, `publish`, `step`
    rss_bytes : resident memory of the process; None where the system does not tell
    rig_sha256, bundle_sha256 : calibration and bundle in use
    """

    timestamp_ns: int
    uptime_ns: int
    valid: bool
    reason: str | None
    cameras: Mapping[str, CameraHealth]
    stages: Mapping[str, Spread]
    latency: Spread | None
    outputs: Mapping[str, OutputHealth]
    sets: int
    incomplete: int
    overrun: int
    deadline_misses: int
    resets: Mapping[str, int]
    queues: Mapping[str, int]
    stalled: Mapping[str, float]
    errors: Mapping[str, int]
    rss_bytes: int | None
    rig_sha256: str
    bundle_sha256: str
    subscriptions: tuple[str, ...] = field(default=())
    """What is listened to now, as prefixes of `name/`; the empty text is everything."""
    threads: int | None = None
    """Threads of the process, those of native libraries among them; None where the system does not tell."""
    descriptors: int | None = None
    """Open file descriptors of the process; None where the system does not tell."""
