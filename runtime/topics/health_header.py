"""The state of a live runtime as a part of the header, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from ...errors import InvalidArgument, WireError, expected
from ..live.health import CameraCondition, CameraHealth, Health, OutputHealth, Spread
from .header import CameraHealthHeader, Header, HealthHeader, OutputHealthHeader, SpreadHeader, StageHeader

MAX_COUNTS: Final = 32
"""Entries of a map of counts; more are added up as `other`."""

MAX_SUBSCRIPTIONS: Final = 32

_LONGEST_REASON: Final = 200
_LONGEST_NAME: Final = 64
_LONGEST_SUBSCRIPTION: Final = 255
_OTHER: Final = "other"

E = TypeVar("E", CameraHealthHeader, StageHeader, OutputHealthHeader)


def to_header(health: Health) -> HealthHeader:
    """Make the map that goes on the wire; texts and lists are cut to what docs/topics.md says.

    Raises
    ------
    InvalidArgument
        A number that no reader would take.
    """
    header = HealthHeader(
        uptime_ns=health.uptime_ns,
        valid=health.valid,
        reason=_cut(health.reason),
        cameras=tuple(_camera(name, camera) for name, camera in health.cameras.items()),
        stages=tuple(StageHeader(name, _spread(spread)) for name, spread in health.stages.items()),
        latency=None if health.latency is None else _spread(health.latency),
        outputs=tuple(
            OutputHealthHeader(name, output.computed, output.valid, _cut(output.reason), output.invalid)
            for name, output in health.outputs.items()
        ),
        sets=health.sets,
        incomplete=health.incomplete,
        overrun=health.overrun,
        deadline_misses=health.deadline_misses,
        resets=_counts(health.resets),
        queues=_counts(health.queues),
        stalled=dict(sorted(health.stalled.items(), key=lambda item: -item[1])[:MAX_COUNTS]),
        errors=_counts(health.errors),
        rss_bytes=health.rss_bytes,
        threads=health.threads,
        descriptors=health.descriptors,
        subscriptions=tuple(s for s in sorted(health.subscriptions) if len(s) <= _LONGEST_SUBSCRIPTION)[
            :MAX_SUBSCRIPTIONS
        ],
    )
    try:
        msgspec.convert(msgspec.to_builtins(header), HealthHeader)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"health: {error}") from error
    return header


def from_header(header: Header) -> Health:
    """Read the state of a live runtime.

    Raises
    ------
    WireError
        A header without it, without the hashes of rig and bundle, or with a name that stands there twice.
    """
    state = header.health
    if state is None or header.rig_sha256 is None or header.bundle_sha256 is None:
        raise WireError(expected("header of a health", "one with health, rig_sha256 and bundle_sha256", "without"))
    return Health(
        timestamp_ns=header.timestamp_ns,
        uptime_ns=state.uptime_ns,
        valid=state.valid,
        reason=state.reason,
        cameras={name: _camera_health(entry) for name, entry in _by_name("cameras", state.cameras).items()},
        stages={name: _from_spread(entry.spread) for name, entry in _by_name("stages", state.stages).items()},
        latency=None if state.latency is None else _from_spread(state.latency),
        outputs={
            name: OutputHealth(entry.computed, entry.valid, entry.reason, entry.invalid)
            for name, entry in _by_name("outputs", state.outputs).items()
        },
        sets=state.sets,
        incomplete=state.incomplete,
        overrun=state.overrun,
        deadline_misses=state.deadline_misses,
        resets=state.resets,
        queues=state.queues,
        stalled=state.stalled,
        errors=state.errors,
        rss_bytes=state.rss_bytes,
        rig_sha256=header.rig_sha256,
        bundle_sha256=header.bundle_sha256,
        subscriptions=state.subscriptions,
        threads=state.threads,
        descriptors=state.descriptors,
    )


def _camera(name: str, camera: CameraHealth) -> CameraHealthHeader:
    return CameraHealthHeader(
        name=name,
        condition=camera.condition.value,
        since_ns=camera.since_ns,
        rate_hz=camera.rate_hz,
        age_ns=camera.age_ns,
        skew_ns=camera.skew_ns,
        received=camera.received,
        used=camera.used,
        dropped=_counts(camera.dropped),
        corrupt=camera.corrupt,
        queued=camera.queued,
        reason=_cut(camera.reason),
    )


def _camera_health(entry: CameraHealthHeader) -> CameraHealth:
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__ if name not in ("name", "condition")}
    return CameraHealth(condition=CameraCondition(entry.condition), **fields)


def _spread(spread: Spread) -> SpreadHeader:
    return SpreadHeader(spread.count, spread.p50_ms, spread.p99_ms, spread.max_ms)


def _from_spread(entry: SpreadHeader) -> Spread:
    return Spread(entry.count, entry.p50_ms, entry.p99_ms, entry.max_ms)


def _by_name(what: str, entries: Sequence[E]) -> dict[str, E]:
    named = {entry.name: entry for entry in entries}
    if len(named) < len(entries):
        raise WireError(expected(f"names of {what}", "unique", ", ".join(entry.name for entry in entries)))
    return named


def _counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by name; names are cut, and what is beyond the limit is added up."""
    cut: Counter[str] = Counter()
    for name, count in counts.items():
        text = _plain(str(name))[:_LONGEST_NAME]
        cut[text if text in cut or len(cut) < MAX_COUNTS - 1 else _OTHER] += count
    return dict(cut)


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= _LONGEST_REASON:
        return None if text is None else _plain(text)
    return _plain(text[: _LONGEST_REASON - 3]) + "..."


def _plain(text: str) -> str:
    """The text without halves of surrogate pairs, which UTF-8 does not know."""
    return text.encode("utf-8", "replace").decode("utf-8")
