"""The row about int8 against float32: how much faster, and at what loss."""

from __future__ import annotations

from typing import Final

from ..replay.evaluate import Evaluation, evaluate
from ..replay.synthetic import SyntheticDrive
from ..runtime.engine import Runtime
from .material import Material
from .networks import NetworksAlone
from .row import Figures
from .spread import Spread, take_turns, wall_ms

LOSS_LIMIT: Final = 0.01
"""IoU that int8 may lose in any class: a point."""

_HELD_OUT: Final = 20_011
_SECONDS: Final = 10.0


def int8_speedup(material: Material) -> Figures:
    """The networks of a set in float32 against int8; then the IoU of every class on a drive not trained on."""
    fp32, int8 = (NetworksAlone.of(material, variant) for variant in ("fp32", "int8"))
    sides = {
        "fp32": wall_ms(fp32.run),
        "int8": wall_ms(int8.run),
        "fp32 per-camera": wall_ms(fp32.per_camera),
        "int8 per-camera": wall_ms(int8.per_camera),
        "fp32 top-down": wall_ms(fp32.topdown),
        "int8 top-down": wall_ms(int8.topdown),
    }
    turns = take_turns(sides, material.rounds(25))
    ratio = turns.ratio("fp32", "int8")
    notes = [f"fp32: {fp32.arrangement}", f"int8: {int8.arrangement}"]
    if material.quick:
        return Figures(ratio, turns.spreads(), (*notes, "accuracy is not measured with --quick"))
    lost = iou_lost(material)
    missed = tuple(
        f"IoU lost in {name} must be at most {LOSS_LIMIT:g}, got {points:.4f}"
        for name, points in lost.items()
        if points > LOSS_LIMIT
    )
    spreads = turns.spreads() | {f"IoU lost, {name}": Spread.of([points]) for name, points in lost.items()}
    notes.append(f"IoU in visible cells, synth:{_HELD_OUT}, {_SECONDS:g} s at 6 sets a second")
    return Figures(ratio, spreads, tuple(notes), missed)


def iou_lost(material: Material) -> dict[str, float]:
    """IoU in visible cells that each class loses in int8, 0..1, on a held-out drive."""
    found = {}
    for variant in ("fp32", "int8"):
        drive = SyntheticDrive(_HELD_OUT, _SECONDS, rate_hz=6.0, rig=material.rig)
        found[variant] = _iou(
            evaluate([drive], lambda rig, v=variant: Runtime(material.bundle, rig, None, material.threads, variant=v))  # type: ignore[misc]
        )
    return {name: iou - found["int8"][name] for name, iou in found["fp32"].items() if name in found["int8"]}


def _iou(evaluation: Evaluation) -> dict[str, float]:
    reports = {name: counts.report()["iou_visible"] for name, counts in evaluation.classes.items()}
    return {name: iou for name, iou in reports.items() if iou is not None}
