"""`octobev replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .fault_option import FaultOption, FaultSeedOption, parse_faults
from .keys import AllowedOption, KeyOption, publisher_keys
from .level_option import LevelOption
from .replay_options import ReplayOptions
from .variant import Variant, VariantOption


def replay(
    drive: Annotated[
        str,
        typer.Argument(
            help="A drive: an MCAP file, a nuScenes table directory, a folder of images; or **demo**, or "
            "**synth:SEED** for another synthetic one."
        ),
    ],
    bundle: Annotated[
        Path | None, typer.Option(help="Model bundle (directory with bundle.toml). Default: the one that is shipped.")
    ] = None,
    rig: Annotated[Path | None, typer.Option(help="rig.toml to use in place of the drive's own calibration.")] = None,
    cameras: Annotated[
        str | None, typer.Option(help="Only these cameras, separated by commas; the others are left out.")
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(
            help="Only these outputs, separated by commas; nothing else is computed. See `octobev bundle info`."
        ),
    ] = None,
    variant: VariantOption = Variant.AUTO,
    level: LevelOption = True,
    live: Annotated[
        bool, typer.Option("--live", help="Each frame at its own time, through the live runtime; see above.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(help="Speed: 1 as recorded, 2 twice as fast. Default: as fast as it goes, with --live 1."),
    ] = None,
    start: Annotated[float, typer.Option(min=0.0, help="Begin this many seconds after the first frame set.")] = 0.0,
    duration: Annotated[float | None, typer.Option(min=0.0, help="Stop after this many seconds of the drive.")] = None,
    publish: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help="Publish on ZeroMQ, e.g. ipc:///tmp/octobev.sock.")
    ] = None,
    key: KeyOption = None,
    allowed: AllowedOption = None,
    record: Annotated[
        Path | None, typer.Option(metavar="OUT.mcap", help="Record predictions (Foxglove schemas, MCAP).")
    ] = None,
    record_frames: Annotated[
        bool, typer.Option("--record-frames", help="Record the frames, the calibration and the truth too.")
    ] = False,
    record_belief: Annotated[
        bool, typer.Option("--record-belief", help="Record what networks say of cells that nobody observed, too.")
    ] = False,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a picture of every set, and a moving one of them all.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="OUT.json", help="Write what ran when, on which thread; open it in ui.perfetto.dev."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Worker threads. Default: the usable CPUs.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the recording and the trace if they exist.")
    ] = False,
    fault: FaultOption = None,
    fault_seed: FaultSeedOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of the summary.")] = False,
) -> None:
    """Replay a drive: frames in, road layout and occupancy out.

    Every frame set of the drive goes through the networks of the bundle; predictions are stitched over cameras and
    time, and may be published, recorded and drawn on the way. The replay is in lock-step: nothing is skipped, and
    the same drive gives the same predictions, byte for byte, with any number of threads (compare `digest`).

    `octobev replay demo` drives through a synthetic town and needs no file.

    `--live` submits each frame at its own time to the live runtime, as cameras would: sets are made of what has
    arrived, and what comes too late is dropped and counted. Two runs are never quite the same. With `--rate` all
    waiting, limits and times of the runtime are in time of the drive.

    `--fault` makes something fail, e.g. `--fault lose:front_main@2s+3s`: from 2 s after the first frame on, for 3 s.
    The same faults and `--fault-seed` give the same in lock-step. All kinds stand at the end.

    Exit codes: 0 done; 1 error; 2 wrong usage; 3 done, but something of the drive or of the recording was lost; 130
    interrupted.
    """
    for option, given in (("--record-frames", record_frames), ("--record-belief", record_belief)):
        if given and record is None:
            raise typer.BadParameter("needs --record OUT.mcap", param_hint=option)
    keys = publisher_keys(key, allowed, publish)
    options = ReplayOptions(
        drive=drive,
        bundle=bundle,
        rig=rig,
        cameras=split_names(cameras),
        outputs=split_names(outputs),
        variant=variant,
        level=level,
        rate=rate,
        start_s=start,
        duration_s=duration,
        publish=publish,
        keys=keys,
        record=record,
        record_frames=record_frames,
        record_belief=record_belief,
        pictures=pictures,
        threads=threads,
        force=force,
        faults=parse_faults(fault, published=publish is not None and keys is None, recorded=record is not None),
        fault_seed=fault_seed,
        as_json=as_json,
        trace=trace,
    )
    if live:
        from .replay_live import replay_live

        replay_live(options)
    else:
        from .replay_lockstep import replay_lockstep

        replay_lockstep(options)


def split_names(text: str | None) -> list[str] | None:
    """Names of a comma-separated option."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
