"""The host process runs, and ends as it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from octobev import write_rig
from octobev.replay.recorder import record_drive
from octobev.replay.synthetic import SyntheticDrive

ROOT = Path(__file__).parents[2]
HOST = ROOT / "examples" / "host.py"
LONG_S = 110.0
SOURCE = 'source = "drive:drive.mcap?loop=true"\n'


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-W", "error", str(HOST), *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


def wait_for_a_step(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if " 0 sets" not in line:
            assert "sets" in line
            return
    raise AssertionError("it ended without a step")


def test_demo_ends_by_itself(tmp_path: Path) -> None:
    process = start(tmp_path, "--seconds", 2, "--publish", f"ipc://{tmp_path}/topics")
    output, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, errors) == (0, "")
    lines = output.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "ended"]
    assert os.listdir(tmp_path) == []  # not even the socket


def test_signal_ends_it_cleanly(tmp_path: Path) -> None:
    process = start(tmp_path, "--seconds", 30)
    try:
        wait_for_a_step(process)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=LONG_S)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    assert output.splitlines()[-1].startswith("ended after ")


def test_cameras_of_a_rig_are_taken_from_their_sources(tmp_path: Path) -> None:
    drive = SyntheticDrive(20_003, 1.0, rate_hz=5.0, size=(320, 240))
    record_drive(drive, tmp_path / "drive.mcap")
    rig = tmp_path / "rig.toml"
    write_rig(drive.rig, rig)
    rig.write_text(rig.read_text(encoding="utf-8").replace("[[cameras]]\n", "[[cameras]]\n" + SOURCE), encoding="utf-8")
    process = start(tmp_path, "--rig", rig)
    try:
        wait_for_a_step(process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LONG_S)
    finally:
        process.kill()
    assert process.returncode == 0, errors
