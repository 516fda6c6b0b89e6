"""What `octobev replay` does with predictions: publish, draw, record, show progress."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..fusion.rig import Rig
    from ..replay.drive import Drive, DriveStep
    from ..replay.faults.disk import FullDisk
    from ..replay.player import Sink
    from ..replay.recording import RecordingSink
    from ..replay.trace import TraceWriter
    from ..runtime.engine import Runtime
    from ..runtime.predictions import Predictions
    from ..runtime.topics.keys import PublisherKeys


def publish_to(stack: ExitStack, endpoint: str, keys: PublisherKeys | None, runtime: Runtime) -> Sink:
    """Publish on an endpoint."""
    from ..runtime.topics.publisher import Publisher

    publisher = stack.enter_context(Publisher(endpoint, keys=keys))
    publisher.set_rig(runtime.rig, runtime.provenance.rig_sha256)
    return lambda step, predictions: publisher.publish(predictions)


def draw_into(stack: ExitStack, folder: Path, rig: Rig, title: str) -> Sink:
    """Write a picture of every set."""
    from ..replay.pictures import PictureWriter

    writer = stack.enter_context(PictureWriter(folder, rig, title=title))
    return lambda step, predictions: writer.add(step.frame_set, predictions, step.truth)


def trace_into(stack: ExitStack, path: Path, *, overwrite: bool) -> TraceWriter:
    """Open the file of what ran when."""
    from ..replay.trace import TraceWriter

    return stack.enter_context(TraceWriter(path, overwrite=overwrite))


def disk_of(stack: ExitStack, path: Path, overwrite: bool) -> FullDisk:
    """Create a recording on a disk that can be filled."""
    from ..replay.faults.disk import FullDisk
    from ..replay.recorder import create_recording

    return FullDisk(stack.enter_context(create_recording(path, overwrite)))


def record_to(
    stack: ExitStack, path: Path | FullDisk, rig: Rig, *, overwrite: bool, frames: bool, belief: bool
) -> RecordingSink:
    """Record to a file."""
    from ..replay.recorder import Recorder
    from ..replay.recording import RecordingSink

    recorder = Recorder(path, rig, overwrite=overwrite, belief=belief, segmentation=frames)  # type: ignore[arg-type]
    return stack.enter_context(RecordingSink(recorder, with_frames=frames))


class Progress:
    """A progress bar on stderr; as a sink it counts steps."""

    def __init__(self, source: Drive, duration_s: float | None, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet,
            transient=True,
        )
        total = source.length_hint if duration_s is None else None
        self._task = self._bar.add_task(source.name, total=total, speed="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def __call__(self, step: DriveStep, predictions: Predictions) -> None:
        """Count a step."""
        elapsed_ms = sum(predictions.stages_ms.values())
        self._bar.update(self._task, advance=1, speed=f"{elapsed_ms:.0f} ms a set")
