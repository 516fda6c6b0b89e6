"""Which processors new threads may use."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ...errors import InvalidArgument, expected


@contextmanager
def on_cpus(cpus: Collection[int] | None) -> Iterator[None]:
    """Let threads that are started inside the block run on these processors only; the calling thread is put back after.

    Parameters
    ----------
    cpus : numbers of processors; None: no change

    Raises
    ------
    InvalidArgument
        None of them can be used by this process, or the system cannot bind threads to processors.
    """
    if cpus is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise InvalidArgument("cpus can be set on Linux only; leave it at None here")
    before = os.sched_getaffinity(0)
    if unknown := sorted(set(cpus) - before):
        usable = ", ".join(map(str, sorted(before)))
        raise InvalidArgument(expected("cpus", f"some of {usable}", ", ".join(map(str, unknown))))
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
