"""Faults of what is around the cameras: networks, subscribers, the disk. They are made true as time passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidArgument, expected
from ...runtime.topics.subscriber import Subscriber
from .disk import FullDisk
from .grammar import describe_fault
from .kinds import ALL, Fault, NetworkFault, NotANumber, Slow, StalledSubscriber
from .kinds import FullDisk as DiskFault

_Outputs = Mapping[str, NDArray[Any]]
Tamper = Callable[[Sequence[str], _Outputs], None]
SetTamper = Callable[[str, Tamper | None], None]
"""As `Runtime.tamper`: has something done to what a network gives after each of its runs."""


class ProcessFaults:
    """Switches faults on and off. One thread calls it; :meth:`close` ends them all.

    Parameters
    ----------
    faults : those of cameras are passed over
    networks : ids of those that there are
    tamper : of the runtime
    endpoint : what is published on, None when nothing is
    disk : what is recorded to, None when nothing is
    sleep : how a slow network passes the time

    Raises
    ------
    InvalidArgument
        A fault of something that is not there.
    """

    def __init__(
        self,
        faults: Iterable[Fault],
        *,
        networks: Iterable[str] = (),
        tamper: SetTamper | None = None,
        endpoint: str | None = None,
        disk: FullDisk | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._faults = tuple(
            fault for fault in faults if isinstance(fault, (NetworkFault, StalledSubscriber, DiskFault))
        )
        self._networks = tuple(networks)
        self._tamper = tamper
        self._endpoint = endpoint
        self._disk = disk
        self._sleep = sleep
        self._now: tuple[Fault, ...] = ()
        self._stalled: Subscriber | None = None
        for fault in self._faults:
            if isinstance(fault, StalledSubscriber) and endpoint is None:
                raise InvalidArgument(f"fault {describe_fault(fault)}: " + expected("predictions", "published", "not"))
            if isinstance(fault, DiskFault) and disk is None:
                raise InvalidArgument(f"fault {describe_fault(fault)}: " + expected("predictions", "recorded", "not"))

    @property
    def now(self) -> tuple[Fault, ...]:
        """Those that hold."""
        return self._now

    def follow(self, at_ns: int) -> None:
        """Make true what holds at a time, and nothing else."""
        now = tuple(fault for fault in self._faults if fault.window.holds(at_ns))
        if now == self._now:
            return
        for network in self._networks:
            before, after = ([f for f in faults if _concerns(f, network)] for faults in (self._now, now))
            if before != after and self._tamper is not None:
                self._tamper(network, self._together(after) if after else None)
        self._let_stall(any(isinstance(fault, StalledSubscriber) for fault in now))
        self._fill_disk(any(isinstance(fault, DiskFault) for fault in now))
        self._now = now

    def close(self) -> None:
        """End all of them."""
        for network in {network for network in self._networks for fault in self._now if _concerns(fault, network)}:
            if self._tamper is not None:
                self._tamper(network, None)
        self._let_stall(False)
        self._now = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _let_stall(self, stalled: bool) -> None:
        if stalled and self._stalled is None:
            self._stalled = Subscriber(self._endpoint, hwm=1)  # and nobody ever asks it for a message
        elif not stalled and self._stalled is not None:
            self._stalled.close()
            self._stalled = None

    def _fill_disk(self, full: bool) -> None:
        was_full = any(isinstance(fault, DiskFault) for fault in self._now)
        if self._disk is not None and full != was_full:
            self._disk.fill() if full else self._disk.clear()

    def _together(self, faults: Sequence[Fault]) -> Tamper:
        def tamper(cameras: Sequence[str], outputs: _Outputs) -> None:
            for fault in faults:
                if isinstance(fault, Slow):
                    self._sleep(fault.delay_ns / 1e9)
                elif isinstance(fault, NotANumber):
                    _spoil(outputs)

        return tamper


def _concerns(fault: Fault, network: str) -> bool:
    return isinstance(fault, NetworkFault) and fault.network in (ALL, network)


def _spoil(outputs: _Outputs) -> None:
    """Write NaN into the middle element of each floating-point array: one is harder to notice than all."""
    for array in outputs.values():
        if np.issubdtype(array.dtype, np.floating) and array.size:
            array.flat[array.size // 2] = np.nan
