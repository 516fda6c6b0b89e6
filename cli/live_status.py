"""How a live rig is doing, in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..runtime.live.health import CameraHealth, Health
    from ..sources.state import SourceState


def status_lines(
    health: Health, before: Health | None, states: Mapping[str, SourceState], now_ns: int
) -> tuple[str, ...]:
    """Give one line about the whole, one for each camera that is not well, one for those without a source.

    Parameters
    ----------
    health : of the runtime
    before : an earlier one, from which rates are counted; None: the start
    states : camera -> state of its source
    now_ns : monotonic time, as in the states
    """
    ill = {name: camera for name, camera in health.cameras.items() if camera.condition != "ok"}
    lines = [camera_line(name, camera, states[name], now_ns) for name, camera in ill.items() if name in states]
    if without := [name for name in health.cameras if name not in states]:
        lines.append(f"no source: {', '.join(without)}")
    return (_whole(health, before, len(ill)), *lines)


def camera_line(name: str, camera: CameraHealth, state: SourceState | None, now_ns: int) -> str:
    """Say what one camera delivers, and what its source does."""
    source = "no source" if state is None else f"source {state.describe(now_ns)}"
    reason = "" if camera.reason is None or camera.reason in source else f" ({camera.reason})"
    return f"{name}: {camera.condition.value}{reason}, {camera.rate_hz:.1f} Hz; {source}"


def _whole(health: Health, before: Health | None, ill: int) -> str:
    sets = health.sets - (0 if before is None else before.sets)
    seconds = (health.uptime_ns - (0 if before is None else before.uptime_ns)) / 1e9
    parts = [
        f"{health.uptime_ns / 1e9:.0f} s",
        f"{health.sets} sets" + (f" ({sets / seconds:.1f}/s)" if seconds > 0 else ""),
        f"cameras {len(health.cameras) - ill} of {len(health.cameras)} ok",
    ]
    if health.latency is not None:
        parts.append(f"latency {health.latency.p50_ms:.0f} ms (p99 {health.latency.p99_ms:.0f})")
    for count, what in (
        (health.incomplete, "incomplete"),
        (health.overrun, "overrun"),
        (health.deadline_misses, "deadline misses"),
        (sum(health.errors.values()), "errors"),
    ):
        if count:
            parts.append(f"{count} {what}")
    if not health.valid:
        parts.append(f"NOT VALID: {health.reason}")
    return "  ".join(parts)
