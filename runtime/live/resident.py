"""What this process holds of the system: memory, threads, open descriptors. Each costs some microseconds."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def resident_bytes() -> int | None:
    """Resident memory of this process, bytes; None where the system does not say (anything but Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def thread_count() -> int | None:
    """Threads of this process, those of native libraries among them; None where the system does not say."""
    return _entries("/proc/self/task")


def descriptor_count() -> int | None:
    """Open file descriptors of this process; None where the system does not say."""
    entries = _entries("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    return None if entries is None else entries - 1  # but the one that was open to list them


def _entries(folder: str) -> int | None:
    try:
        return len(os.listdir(folder))
    except OSError:
        return None
