"""Processes that tell what they hold, for rows about memory.

`python -m octobev.bench.memory endless DRIVE SETS THREADS` replays a drive again and again, and prints one JSON array a
replay: sets so far, resident MB. `python -m octobev.bench.memory peak ARGUMENT...` is `octobev ARGUMENT...` with the
most that it ever held, MB, as the last line on stderr.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def endless(path: str, sets: int, threads: int) -> None:
    """Replay until so many sets were stepped."""
    from ..replay.open import open_drive
    from ..replay.player import play
    from ..runtime.bundle import REFERENCE_BUNDLE, open_bundle
    from ..runtime.engine import Runtime

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


def peak_mb(status: str) -> float:
    """Most memory that a process ever had resident, from the text of its `/proc/PID/status`.

    Not the `ru_maxrss` of a child: that counts what its parent held when it was forked.
    """
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    if sys.argv[1] == "endless":
        endless(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        from ..__main__ import main

        sys.argv[:2] = ["octobev"]
        try:
            main()
        finally:
            print(peak_mb(Path("/proc/self/status").read_text(encoding="ascii")), file=sys.stderr)
