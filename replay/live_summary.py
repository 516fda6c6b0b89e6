"""What a live replay did, as a value and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..runtime.live.health import CameraHealth, Health, Spread
from .drive import Losses
from .live import LiveSinks, Pacing


@dataclass(frozen=True, slots=True)
class LiveSummary:
    """What a live replay did.

    pacing : how the frames were submitted; losses : what the drive could not give
    health : of the runtime at the end
    predictions, without_cameras : values that the runtime gave, and those among them that say that no camera delivers
    outputs : names of everything that was predicted at least once
    latency : from the submission of a set's last frame to its predictions, published
    recording, unrecorded : why the recording ended early, and the sets that are not, or not whole, in it
    """

    drive: str
    pacing: Pacing
    losses: Losses
    health: Health
    predictions: int
    without_cameras: int
    outputs: tuple[str, ...]
    latency: Spread | None
    recording: str | None = None
    unrecorded: int = 0

    @classmethod
    def of(cls, drive: str, pacing: Pacing, losses: Losses, health: Health, sinks: LiveSinks) -> LiveSummary:
        """Put together what the parts counted."""
        outputs = tuple(sinks.outputs)
        return cls(drive, pacing, losses, health, sinks.predictions, sinks.without_cameras, outputs, sinks.latency)

    @property
    def frames(self) -> int:
        """Images that went through the networks."""
        return sum(camera.used for camera in self.health.cameras.values())

    @property
    def invalid(self) -> Mapping[str, int]:
        """Output -> in how many predictions it was withheld."""
        return {name: output.invalid for name, output in self.health.outputs.items() if output.invalid}

    @property
    def lost(self) -> bool:
        """Whether anything of the drive did not make it into the predictions, or of them into the recording."""
        unused = self.frames < self.pacing.frames
        return bool(unused or self.losses or self.invalid or self.recording or not self.pacing.flushed)


def live_summary_json(summary: LiveSummary) -> dict[str, Any]:
    """The summary as one JSON object; the keys are part of the command's interface."""
    health = summary.health
    return {
        "drive": summary.drive,
        "submitted": summary.pacing.frames,
        "frames": summary.frames,
        "sets": health.sets,
        "incomplete": health.incomplete,
        "overrun": health.overrun,
        "deadline_misses": health.deadline_misses,
        "predictions": summary.predictions,
        "without_cameras": summary.without_cameras,
        "seconds": round(summary.pacing.seconds, 3),
        "drive_seconds": round(summary.pacing.drive_seconds, 3),
        "late_submissions": summary.pacing.late,
        "latest_submission_ms": round(summary.pacing.latest_by_ms, 3),
        "flushed": summary.pacing.flushed,
        "interrupted": summary.pacing.interrupted,
        "latency_ms": _spread(summary.latency),
        "cameras": {name: _camera(camera) for name, camera in health.cameras.items()},
        "stages_ms": {name: _spread(spread) for name, spread in health.stages.items()},
        "outputs": list(summary.outputs),
        "invalid": dict(summary.invalid),
        "resets": dict(health.resets),
        "errors": dict(health.errors),
        "corrupt": summary.losses.corrupt,
        "truncated": summary.losses.truncated,
        "loss_reasons": dict(summary.losses.reasons),
        "recording": summary.recording,
        "unrecorded": summary.unrecorded,
    }


def _camera(camera: CameraHealth) -> dict[str, Any]:
    values = asdict(camera)
    keys = ("received", "used", "corrupt", "rate_hz", "reason")
    return {"condition": camera.condition.value, "dropped": dict(camera.dropped)} | {key: values[key] for key in keys}


def _spread(spread: Spread | None) -> dict[str, float] | None:
    if spread is None:
        return None
    return {"p50": round(spread.p50_ms, 3), "p99": round(spread.p99_ms, 3), "max": round(spread.max_ms, 3)}
