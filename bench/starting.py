"""Rows about processes of their own: how soon they are there, how much memory they take, and whether that grows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import BenchError, expected
from .material import Material
from .row import Figures
from .spread import Spread, Turns, take_turns

_ROUNDS: Final = 21
_SETTLED: Final = 1 / 3
"""Share of a long run after which memory is taken to have settled."""


def import_ms(material: Material) -> Figures:
    """`import octobev` in a new process."""
    return _import(material, "import octobev")


def subscriber_import_ms(material: Material) -> Figures:
    """What a process that only subscribes imports."""
    return _import(material, "from octobev import Subscriber")


def first_prediction_s(material: Material) -> Figures:
    """`octobev replay` of one set of an MCAP file: from nothing to the end of the process."""
    command = [sys.executable, "-m", "octobev", *_replay(material.drive, material.threads), "--duration", "0.01"]
    turns = take_turns(
        {"replay of one set": lambda: _run(command, material.folder)}, material.rounds(11), warm_up=1, steady_s=0.0
    )
    note = "the whole command: one set of eight cameras, print and end; files are in the page cache"
    return Figures(turns["replay of one set"], {}, (note,))


def rss_mb(material: Material) -> Figures:
    """Peak memory of `octobev replay`, eight cameras."""
    command = [*_ourselves("memory"), "peak", *_replay(material.drive, material.threads)]
    peaks = [float(_output(command, material.folder)[1].splitlines()[-1]) for _ in range(2 if material.quick else 5)]
    return Figures(Spread.of(peaks), {}, ("peak resident size of the process, shared libraries among it",))


def rss_growth_mb_per_1000_sets(material: Material) -> Figures:
    """Memory over a long replay: a line through what is resident after the first third."""
    sets = 180 if material.quick else 3000
    command = [*_ourselves("memory"), "endless", str(material.drive), str(sets), str(material.threads)]
    lines = _output(command, material.folder)[0].splitlines()
    samples = np.array([json.loads(line) for line in lines])
    growth = growth_per_1000(samples[:, 0], samples[:, 1])
    sides = {"resident at the end, MB": Spread.of([float(samples[-1, 1])])}
    note = f"{int(samples[-1, 0])} sets; " + (
        "too short to tell less than about 5 MB" if material.quick else "a line fit"
    )
    return Figures(Spread.of([growth]), sides, (note,))


def growth_per_1000(sets: NDArray[np.float64], resident_mb: NDArray[np.float64]) -> float:
    """Slope of the line through the samples after the first third, MB per 1,000 sets."""
    settled = sets >= sets[-1] * _SETTLED
    slope, _ = np.polyfit(sets[settled], resident_mb[settled], 1)
    return float(1000.0 * slope)


def _import(material: Material, statement: str) -> Figures:
    sides = {
        "bare Python": lambda: 1e3 * _run([sys.executable, "-c", "pass"], material.folder),
        statement: lambda: 1e3 * _run([sys.executable, "-c", statement], material.folder),
    }
    turns: Turns = take_turns(sides, material.rounds(_ROUNDS), warm_up=1, steady_s=0.0)
    pairs = zip(turns.samples[statement], turns.samples["bare Python"], strict=True)
    return Figures(Spread.of([a - b for a, b in pairs]), turns.spreads())


def _replay(drive: Path, threads: int) -> list[str]:
    return ["replay", str(drive), "--threads", str(threads), "--json"]


def _ourselves(module: str) -> list[str]:
    return [sys.executable, "-m", f"{__package__}.{module}"]


def _run(command: list[str], folder: Path) -> float:
    """Run a program to its end; returns seconds."""
    begin = time.perf_counter()
    _output(command, folder)
    return time.perf_counter() - begin


def _output(command: list[str], folder: Path) -> tuple[str, str]:
    """Run a program to its end; returns what it wrote on stdout and stderr.

    Modules are compiled once, as an installer does: an edited source, or a variable that forbids bytecode, would add
    the compiler's time to every run.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    done = subprocess.run(  # noqa: S603  (ourselves)
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BenchError(
            expected(f"{' '.join(command[1:4])}: exit code", "0", f"{done.returncode}: {done.stderr[-200:]}")
        )
    return done.stdout, done.stderr
