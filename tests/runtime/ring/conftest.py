from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from octobev.fusion.pose import Pose
from octobev.runtime.frames import Frame

SCRIPT = Path(__file__).with_name("ring_process.py")
Process = subprocess.Popen[str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ring of a test is."""
    return tmp_path / "ring"


@pytest.fixture
def numbered() -> Callable[..., Frame]:
    """Make a frame that says everywhere which one it is, as those of `ring_process.py`."""

    def make(sequence: int, side: int = 8) -> Frame:
        image = np.full((side, side, 3), sequence % 251, np.uint8)
        return Frame("front", sequence, image, world_from_ego=Pose.planar(sequence, -sequence, 0))

    return make


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start a process of `ring_process.py`, or any command; whatever happens, it ends with the test."""
    with contextlib.ExitStack() as stack:

        def run(*words: object, command: tuple[object, ...] = (sys.executable, SCRIPT)) -> Process:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = subprocess.Popen([*map(str, (*command, *words))], **pipes)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


@pytest.fixture
def line() -> Callable[[Process], str]:
    """Read a line that a process says; its end is an error. The test's time limit is the time limit."""

    def read(process: Process) -> str:
        assert process.stdout is not None
        text = process.stdout.readline()
        assert text, f"the process ended with {process.wait()}"
        return text.rstrip("\n")

    return read


@pytest.fixture
def tell() -> Callable[[Process], None]:
    """Tell a process to go on."""

    def write(process: Process) -> None:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

    return write
