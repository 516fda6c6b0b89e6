"""What the live benchmarks share: a synthetic drive that is played again and again, and exceptions that are counted."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from octobev.replay.arrivals import Arrival, drive_arrivals
from octobev.replay.synthetic import SyntheticDrive

SEED = 20_003
SIZE = (320, 240)


def rendered(seconds: float, rate_hz: float) -> tuple[SyntheticDrive, list[Arrival]]:
    """Make a drive and all of its arrivals, in memory: nothing is rendered while it is played."""
    drive = SyntheticDrive(SEED, seconds, rate_hz=rate_hz, size=SIZE)
    return drive, list(drive_arrivals(drive))


def looped(arrivals: list[Arrival], lap_ns: int, until_ns: int) -> Iterator[Arrival]:
    """Play arrivals again and again, stamped as if each were captured at the time at which it arrives, from now on."""
    first_ns = arrivals[0].item.timestamp_ns
    offset_ns = time.time_ns() - first_ns
    lap = 0
    while lap * lap_ns < until_ns:
        for arrival in arrivals:
            at_ns = arrival.at_ns + lap * lap_ns
            if at_ns >= until_ns:
                return
            stamp_ns = arrival.item.timestamp_ns + offset_ns + lap * lap_ns
            yield Arrival(at_ns, replace(arrival.item, timestamp_ns=stamp_ns))
        lap += 1


class Exceptions(logging.Handler):
    """Counts what nobody caught, and what was caught where it should not have come from."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record that tells of an exception."""
        if record.exc_info is not None:
            self.counts[f"{record.name}: {record.exc_info[1]!r}"] += 1

    def watch(self) -> None:
        """Begin to count."""
        logging.getLogger("octobev").addHandler(self)
        threading.excepthook = lambda args: self.counts.update([f"thread {args.thread}: {args.exc_value!r}"])
        sys.unraisablehook = lambda args: self.counts.update([f"unraisable: {args.exc_value!r}"])
