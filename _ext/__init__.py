"""Cython kernels: arrays in, arrays out. They know no Octobev type, no file and no log."""

from __future__ import annotations

import os


def _load_openmp() -> None:
    """Load the OpenMP runtime, which comes with the kernels, with threads that sleep while they wait for work.

    By default they spin for a while after every parallel loop. Where the cores are busy with networks, that costs the
    spinning threads their share of the processor, and the next loop waits ten milliseconds for a time slice. The
    runtime reads the policy once, when it is loaded; a policy that the user set is left alone.
    """
    policy = "OMP_WAIT_POLICY"
    if policy in os.environ:
        return
    os.environ[policy] = "PASSIVE"
    try:
        from . import lift as lift
    finally:
        del os.environ[policy]


_load_openmp()
