"""What was measured on which machine, as JSON and as a table for the eye."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any, Final

import cv2
import onnxruntime

from .._ext.project import openmp_enabled
from ..runtime.cpu import cpu_flags, cpu_name, fast_int8, usable_cpus
from .row import Outcome
from .spread import Spread

PACKAGES: Final = (
    "octobev", "onnxruntime", "onnx", "opencv-python", "numpy", "pyzmq", "msgspec", "mcap",
    "scipy", "torch", "openvino",
)  # fmt: skip
FEATURES: Final = ("sse4_2", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "asimddp")


def machine(threads: int) -> dict[str, Any]:
    """Say what the figures depend on: versions, processor, threads, and what else runs."""
    flags = cpu_flags()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_features": [name for name in FEATURES if name in flags],
        "fast_int8": list(fast_int8()),
        "cpus_usable": usable_cpus(),
        "threads": threads,
        "openmp": openmp_enabled(),
        "opencv_threads": cv2.getNumThreads(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def report(header: Mapping[str, Any], outcomes: Sequence[Outcome], *, quick: bool) -> dict[str, Any]:
    """Everything as one object; `rows` by key."""
    return {"machine": dict(header), "quick": quick, "rows": {out.row.key: out.as_dict() for out in outcomes}}


def header_lines(header: Mapping[str, Any]) -> list[str]:
    """Say the same for the eye."""
    packages = ", ".join(f"{name} {version}" for name, version in header["packages"].items() if version is not None)
    loads = ", ".join(map(str, header["load_average"] or ["not known"]))
    return [
        f"{header['cpu']}, {header['cpus_usable']} CPUs, {', '.join(header['cpu_features'])}",
        f"Python {header['python']}, {packages}",
        f"{header['threads']} threads, OpenMP {'yes' if header['openmp'] else 'no'}, load average {loads}",
    ]


def row_line(outcome: Outcome) -> str:
    """One row for the eye: figure, quartiles, bar, whether it is met."""
    row = outcome.row
    if outcome.figures is None:
        return f"{row.key:28} {'skipped' if outcome.skipped else 'FAILED'}: {outcome.skipped or outcome.failed}"
    value = outcome.figures.value
    met, bar = "met" if outcome.met else "MISSED", f"bar {outcome.bar}"
    figure = f"{value.median:9.3g} {row.unit:3} {_quartiles(value):19}"
    return f"{row.key:28} {figure} {bar:22} {met:6}  {row.title}"


def detail_lines(outcome: Outcome) -> list[str]:
    """What a figure was made of."""
    if outcome.figures is None:
        return []
    sides = [f"{name}: {side.median:.4g} {_quartiles(side)}" for name, side in outcome.figures.sides.items()]
    return [*sides, *outcome.figures.notes, *(f"MISSED: {reason}" for reason in outcome.figures.missed)]


def _quartiles(spread: Spread) -> str:
    return f"({spread.low:.3g} .. {spread.high:.3g})"


def _version(package: str) -> str | None:
    try:
        return onnxruntime.__version__ if package == "onnxruntime" else importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
