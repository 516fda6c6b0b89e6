"""`octobev run`."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidArgument, RigError, expected
from .keys import AllowedOption, KeyOption, publisher_keys
from .level_option import LevelOption
from .replay import split_names
from .target import check_target
from .variant import Variant, VariantOption

if TYPE_CHECKING:
    from ..fusion.rig import Rig
    from ..replay.drive import Drive
    from ..replay.live import LiveSinks
    from ..replay.recording import RecordingSink
    from ..runtime.frames import Frame
    from ..runtime.live.health import Health
    from ..runtime.live.runtime import LiveRuntime
    from ..runtime.topics.keys import PublisherKeys
    from ..runtime.topics.publisher import Publisher
    from ..sources.address import Address
    from ..sources.rig_sources import RigSources
    from ..sources.state import SourceState

FLUSH_S = 5.0


def run(
    rig: Annotated[
        Path | None,
        typer.Option(help="rig.toml: calibration, and **source = ...** for each camera. Default: that of the drive."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CAMERA=]SOURCE",
            help="Source of a camera in place of the rig file's, as front=/dev/video0; or, without a camera, a drive"
            " for all of them: drive:town.mcap. May be given several times.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Model bundle (directory with bundle.toml). Default: the one that is shipped.")
    ] = None,
    outputs: Annotated[
        str | None, typer.Option(help="Only these outputs, separated by commas; nothing else is computed.")
    ] = None,
    always: Annotated[
        str | None,
        typer.Option(
            metavar="OUTPUTS",
            help="With --publish: compute only these all the time, the others while somebody subscribes to them.",
        ),
    ] = None,
    variant: VariantOption = Variant.AUTO,
    level: LevelOption = True,
    threads: Annotated[int | None, typer.Option(min=1, help="Worker threads. Default: the usable CPUs.")] = None,
    budget_ms: Annotated[
        float,
        typer.Option(metavar="MS", help="Time from a set's last frame to its publication; more is a deadline miss."),
    ] = 100.0,
    publish: Annotated[
        str | None,
        typer.Option(
            metavar="ENDPOINT", help="Publish predictions and health on ZeroMQ, e.g. ipc:///tmp/octobev.sock."
        ),
    ] = None,
    key: KeyOption = None,
    allowed: AllowedOption = None,
    record: Annotated[
        Path | None, typer.Option(metavar="OUT.mcap", help="Record predictions (Foxglove schemas, MCAP).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the recording if it exists.")] = False,
    metrics: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Serve the health to Prometheus on this port of 127.0.0.1."
        ),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0.0, metavar="S", help="End after so many seconds. Default: when told to.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout at the end instead of the summary.")
    ] = False,
) -> None:
    """Run live: the frames of cameras in as they come, road layout and occupancy out.

    Each camera of rig.toml names its source:

    - `v4l2:/dev/video0?size=1280x960&rate=30&format=mjpeg`: a camera of this machine

    - `rtsp://HOST/PATH`, `http://HOST/PATH`: a camera of the network

    - `file:front.mp4?loop=true`: a video, at its own pace

    - `ring:front`: frames that another process writes into shared memory

    - `drive:town.mcap`: a recorded drive, in real time, with its poses

    Sources that fail are tried again, for ever; files and drives end. Without poses (drives and rings have them)
    nothing is carried over time. docs/live.md says more.

    To try it: `octobev drive synth town.mcap --seed 7 --seconds 20`, then
    `octobev run --source 'drive:town.mcap?loop=true'`

    How it is going stands on stderr: a picture in a terminal, else a line every few seconds. Ctrl-C and SIGTERM end it
    within a second; it also ends when all its sources have.

    Exit codes: 0 ended, by itself or when told to; 1 error; 2 wrong usage; 3 ended, but a file or drive could not be
    played to its end, the recording could not be written to its end, or errors were caught on the way.
    """
    from ..sources.address import DriveAddress, FileAddress
    from ..sources.rig_sources import RigSources, make_sources
    from .live_display import logging_shown, until_told

    if always is not None and publish is None:
        raise typer.BadParameter("needs --publish ENDPOINT", param_hint="--always")
    keys = publisher_keys(key, allowed, publish)
    drives = _Drives()
    used_rig, addresses = _rig_and_addresses(rig, source or [], drives)
    if record is not None:
        read = {address.path for address in addresses.values() if isinstance(address, (DriveAddress, FileAddress))}
        check_target(record, overwrite=force, reads=read)
    made = make_sources(used_rig, addresses, open_drive=drives)
    with ExitStack() as stack:
        stack.enter_context(logging_shown())
        recording, sinks = (None, None) if record is None else _recording(stack, record, used_rig, force)
        publisher = None if publish is None else _publisher(stack, publish, keys)
        live = stack.enter_context(
            _live(bundle, used_rig, outputs, always, variant, level, threads, budget_ms, publisher, sinks)
        )
        if metrics is not None:
            _serve_metrics(stack, live, metrics)
        sources = stack.enter_context(RigSources(made, _submit(live, sinks)))
        sources.start()
        until_told(live, sources, duration)
        states, health = _end(live, sources)
    _report(states, health, recording, as_json=as_json)


class _Drives:
    """Opens each drive once."""

    def __init__(self) -> None:
        self._opened: dict[str, Drive] = {}

    def __call__(self, path: str) -> Drive:
        from ..replay.open import open_drive

        if path not in self._opened:
            self._opened[path] = open_drive(path)
        return self._opened[path]


def _rig_and_addresses(rig: Path | None, sources: list[str], drives: _Drives) -> tuple[Rig, dict[str, Address]]:
    """The calibration, and where each camera's frames come from."""
    from ..fusion.rig import read_rig
    from ..sources.address import DriveAddress, parse_address
    from ..sources.rig_sources import read_addresses

    single: dict[str, Address] = {}
    for_all: DriveAddress | None = None
    for text in sources:
        named = re.fullmatch(r"([\w.-]+)=(.*)", text, re.DOTALL)
        try:
            address = parse_address(named[2] if named else text)
        except InvalidArgument as error:
            raise typer.BadParameter(str(error), param_hint="--source") from None
        if named:
            single[named[1]] = address
        elif isinstance(address, DriveAddress) and for_all is None:
            for_all = address
        else:
            wanted = expected("source without a camera", "one drive:PATH", str(address))
            raise typer.BadParameter(f"{wanted}; for one camera: CAMERA={address}", param_hint="--source")
    if rig is None and for_all is None:
        raise typer.BadParameter("needs --rig rig.toml, or a drive: --source drive:PATH", param_hint="octobev run")
    used = read_rig(rig) if rig is not None else drives(for_all.path).rig if for_all is not None else None
    if used is None:
        raise RigError(expected("rig", "given", "none"))
    if for_all is not None:
        addresses: dict[str, Address] = dict.fromkeys(used.names, for_all)
    else:
        addresses = read_addresses(rig) if rig is not None else {}
    return used, addresses | single


def _publisher(stack: ExitStack, endpoint: str, keys: PublisherKeys | None) -> Publisher:
    from ..runtime.topics.publisher import Publisher

    return stack.enter_context(Publisher(endpoint, keys=keys))


def _recording(stack: ExitStack, path: Path, rig: Rig, force: bool) -> tuple[RecordingSink, LiveSinks]:
    from ..replay.live import LiveSinks
    from .replay_sinks import record_to

    recording = record_to(stack, path, rig, overwrite=force, frames=False, belief=False)
    return recording, LiveSinks({"record": recording})


def _serve_metrics(stack: ExitStack, live: LiveRuntime, port: int) -> None:
    from ..runtime.live.metrics import MetricsServer

    stack.enter_context(MetricsServer(live.health, port))


def _live(
    bundle: Path | None,
    rig: Rig,
    outputs: str | None,
    always: str | None,
    variant: Variant,
    level: bool,
    threads: int | None,
    budget_ms: float,
    publisher: Publisher | None,
    sinks: LiveSinks | None,
) -> LiveRuntime:
    from ..runtime.bundle import REFERENCE_BUNDLE, open_bundle
    from ..runtime.live.runtime import LiveRuntime
    from ..runtime.live.settings import LiveSettings

    minimum = split_names(always)
    settings = LiveSettings(
        threads=threads,
        variant=variant.value,
        level=level,
        minimum_outputs=None if minimum is None else tuple(minimum),
        frame_budget_ms=budget_ms,
    )
    opened = open_bundle(bundle or REFERENCE_BUNDLE)
    return LiveRuntime(opened, rig, split_names(outputs), settings=settings, publisher=publisher, on_predictions=sinks)


def _submit(live: LiveRuntime, sinks: LiveSinks | None) -> Callable[[Frame], None]:
    """Where frames go; a recording is told of them for their poses."""
    if sinks is None:
        return live.submit_frame

    def submit(frame: Frame) -> None:
        sinks.submitted(frame)
        live.submit_frame(frame)

    return submit


def _end(live: LiveRuntime, sources: RigSources) -> tuple[dict[str, SourceState], Health]:
    """End the sources, let the runtime finish what they gave if they ended by themselves; how it went."""
    ended = sources.wait_ended(0)
    states = sources.states()
    sources.close(timeout_s=0.5)
    if ended:
        live.flush(FLUSH_S)
    health = live.health()
    live.close()
    return states, health


def _report(states: dict[str, SourceState], health: Health, recording: RecordingSink | None, *, as_json: bool) -> None:
    import msgspec

    from . import EXIT_LOSS
    from .live_status import camera_line, status_lines

    broken = {camera: state.reason for camera, state in states.items() if state.condition == "ended" and state.reason}
    if as_json:
        summary: dict[str, Any] = {"sources": states, "health": health}
        print(msgspec.json.encode(summary).decode())
    else:
        now_ns = time.monotonic_ns()
        print(status_lines(health, None, states, now_ns)[0])
        for name, camera in health.cameras.items():
            line = camera_line(name, camera, states.get(name), now_ns)
            print(f"  {line}; {camera.used} of {camera.received} frames used")
    for name, reason in broken.items():
        print(f"octobev: {name}: {reason}", file=sys.stderr)
    cut = recording is not None and recording.reason is not None
    if recording is not None and cut:
        print(f"octobev: {recording.reason}; {recording.lost_sets} sets are not in it", file=sys.stderr)
    if broken or health.errors or cut:
        raise typer.Exit(EXIT_LOSS)
