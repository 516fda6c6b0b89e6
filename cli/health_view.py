"""The state of a live runtime as tables for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from rich.console import Group, RenderableType
from rich.styled import Styled
from rich.table import Table
from rich.text import Text

from ..runtime.live.health import CameraCondition, CameraHealth, Health, OutputHealth, Spread

STYLES: Final = {
    CameraCondition.OK: "green",
    CameraCondition.LATE: "yellow",
    CameraCondition.STALE: "magenta",
    CameraCondition.CORRUPT: "red",
    CameraCondition.MISSING: "bold red",
}
_ALARM: Final = "bold white on red"


def view(health: Health, endpoint: str, silent_s: float, *, dead: bool) -> RenderableType:
    """Make the picture of one report.

    Parameters
    ----------
    endpoint : where it came from
    silent_s : how long ago it came
    dead : that is too long: it is shown as old
    """
    body: list[RenderableType] = [_state(health), *_stuck(health), _cameras(health.cameras), *_reasons(health)]
    body += [Text(), _two_tables(health), Text(), *_counters(health)]
    if not dead:
        return Group(_title(health, endpoint), *body)
    alarm = _line((f" nothing has come for {_duration(silent_s)}: what follows is old ", _ALARM))
    return Group(_title(health, endpoint), alarm, *(Styled(part, "dim") for part in body))


def waiting(endpoint: str, silent_s: float) -> RenderableType:
    """What is shown before the first report."""
    return _line(("waiting", "yellow"), f" for a report on {endpoint}, {silent_s:.0f} s")


def _title(health: Health, endpoint: str) -> Text:
    return _line(("octobev health", "bold"), f"  up {_duration(health.uptime_ns / 1e9)}  {endpoint}")


def _state(health: Health) -> Text:
    if health.valid:
        return _line("predictions ", ("valid", "green"))
    return _line("predictions ", (f"NOT VALID: {health.reason}", "bold red"))


def _stuck(health: Health) -> list[Text]:
    return [_line((f" {stage} is stuck for {_duration(s)} ", _ALARM)) for stage, s in health.stalled.items()]


def _cameras(cameras: Mapping[str, CameraHealth]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", expand=True)
    table.add_column("camera", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("condition", no_wrap=True)
    for name in ("for", "Hz", "age", "skew", "used", "dropped", "corrupt", "queue"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, camera in cameras.items():
        table.add_row(
            Text(name),
            Text(camera.condition.value, style=STYLES[camera.condition]),
            _duration(camera.since_ns / 1e9),
            f"{camera.rate_hz:.1f}",
            "-" if camera.age_ns is None else _duration(camera.age_ns / 1e9),
            "-" if camera.skew_ns is None else f"{round(camera.skew_ns / 1e6):+d} ms",
            _count(camera.used),
            _count(sum(camera.dropped.values())),
            _count(camera.corrupt),
            _count(camera.queued),
        )
    return table


def _reasons(health: Health) -> list[Text]:
    """Why cameras are not ok; those with the same reason on one line."""
    sharing: dict[tuple[str, CameraCondition], list[str]] = {}
    for name, camera in health.cameras.items():
        if camera.reason is not None:
            sharing.setdefault((camera.reason, camera.condition), []).append(name)
    return [
        _line((names[0] if len(names) == 1 else f"{len(names)} cameras", STYLES[condition]), f": {reason}")
        for (reason, condition), names in sharing.items()
    ]


def _two_tables(health: Health) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0), expand=True)
    grid.add_column()
    grid.add_column(ratio=1)
    grid.add_row(_stages(health), _outputs(health.outputs))
    return grid


def _stages(health: Health) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("stage", no_wrap=True)
    for name in ("p50", "p99", "max ms"):
        table.add_column(name, justify="right", no_wrap=True)
    spreads: dict[str, Spread | None] = {**health.stages, "latency": health.latency}
    for name, spread in spreads.items():
        stuck = "bold red" if name in health.stalled else ""
        times = ("-",) * 3 if spread is None else (f"{t:.1f}" for t in (spread.p50_ms, spread.p99_ms, spread.max_ms))
        table.add_row(Text(name, style=stuck), *times)
    return table


def _outputs(outputs: Mapping[str, OutputHealth]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", expand=True)
    table.add_column("output", no_wrap=True, overflow="ellipsis")
    table.add_column("state", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("withheld", justify="right", no_wrap=True)
    for name, output in outputs.items():
        table.add_row(Text(name), _output_state(output), _count(output.invalid))
    return table


def _output_state(output: OutputHealth) -> Text:
    if not output.computed:
        return Text("not wanted", style="dim")
    return Text("valid", style="green") if output.valid else Text(output.reason or "not valid", style="red")


def _counters(health: Health) -> list[Text]:
    dropped: Counter[str] = Counter()
    for camera in health.cameras.values():
        dropped.update(camera.dropped)
    memory = "" if health.rss_bytes is None else f"  memory {health.rss_bytes / 2**20:.0f} MiB"
    threads = "" if health.threads is None else f"  threads {health.threads}"
    descriptors = "" if health.descriptors is None else f"  descriptors {health.descriptors}"
    listened = ", ".join(prefix or "everything" for prefix in health.subscriptions) or "nothing"
    return [
        _line(
            f"sets {health.sets}  incomplete {health.incomplete}  overrun {health.overrun}"
            f"  deadline misses {health.deadline_misses}"
        ),
        *_named("dropped", dropped),
        *_named("resets", health.resets),
        *_named("errors", health.errors, style="red"),
        *_named("queues", health.queues, extra=memory + threads + descriptors),
        _line(f"listened to: {listened}"),
    ]


def _named(what: str, counts: Mapping[str, int], *, style: str = "", extra: str = "") -> list[Text]:
    """One line of counts by name; none when there is nothing to tell."""
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    return (
        [_line((f"{what}: {told}" if told else "", style), extra if told else extra.lstrip())] if told or extra else []
    )


def _line(*pieces: str | tuple[str, str]) -> Text:
    return Text.assemble(*pieces, no_wrap=True, overflow="ellipsis")


def _duration(seconds: float) -> str:
    """Short, one unit: 12 ms, 3.4 s, 12 m, 5 h, 3 d."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, unit_s, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def _count(count: int) -> str:
    """At most five characters: 99999, 123k, 12M."""
    for limit, unit, suffix in ((100_000, 1, ""), (10_000_000, 1000, "k"), (10_000_000_000, 1_000_000, "M")):
        if count < limit:
            return f"{count // unit}{suffix}"
    return f"{count // 1_000_000_000}G"
