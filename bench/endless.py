"""A replay that begins again and again: `python -m octobev.bench.endless DRIVE SETS THREADS` prints what it holds.

One JSON array a replay: sets so far, resident memory in MB.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ..replay.open import open_drive
from ..replay.player import play
from ..runtime.bundle import REFERENCE_BUNDLE, open_bundle
from ..runtime.engine import Runtime


def run(path: str, sets: int, threads: int) -> None:
    """Replay until so many sets were stepped."""
    drive = open_drive(path)
    done = 0
    with Runtime(open_bundle(REFERENCE_BUNDLE), drive.rig, threads=threads) as runtime:
        while done < sets:
            done += play(drive, runtime).sets
            print(json.dumps([done, resident_mb()]), flush=True)


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
