"""How a live runtime is set up."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import InvalidArgument, expected
from ..settle import ProfileChoice
from ..sync.policies import ApproximateTime, Policy
from ..variants import VariantChoice
from .condition import FROZEN_AFTER

DEFAULT_POLICY = ApproximateTime(max_skew_ns=60_000_000, max_wait_ns=80_000_000)
"""Fits rigs from 5 to 40 frames a second whose cameras fire within 60 ms of each other."""


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """Everything about a live runtime that is not a bundle, a rig or a callable.

    Parameters
    ----------
    policy : what a set of frames is, see docs/live.md
    threads, variant, max_gap_s, profile, level : as in :class:`octobev.Runtime`
    minimum_outputs : outputs that are always computed; further ones of the runtime's `outputs` are computed while
        somebody subscribes to them on the publisher. None: all of `outputs`, whoever listens.
    frame_budget_ms : longest time from the last arrival of a set to the end of its publication; longer counts as a
        deadline miss
    health_period_s : how often health is reported, and how often a runtime without frames says that it has nothing
    silence_s : how long no set may come before predictions say that they are not valid; for cameras so slow that 2.5 of
        their periods are longer, that
    stall_s : how long a stage may take before the watchdog reports it
    frozen_after : after so many equal images in succession a camera's picture is frozen, and left out until it moves;
        None: images are not compared (for scenes without noise)
    cpus : numbers of the processors that the runtime's threads may use (Linux); None: those of the process
    thread_name : beginning of the names of its threads
    """

    policy: Policy = DEFAULT_POLICY
    threads: int | None = None
    variant: VariantChoice = "auto"
    max_gap_s: float = 1.0
    minimum_outputs: tuple[str, ...] | None = None
    frame_budget_ms: float = 100.0
    health_period_s: float = 0.5
    silence_s: float = 0.5
    stall_s: float = 1.0
    frozen_after: int | None = FROZEN_AFTER
    cpus: frozenset[int] | None = None
    thread_name: str = "octobev"
    profile: ProfileChoice = "auto"
    level: bool = True

    def __post_init__(self) -> None:
        for name in ("max_gap_s", "frame_budget_ms", "health_period_s", "silence_s", "stall_s"):
            if not getattr(self, name) > 0:
                raise InvalidArgument(expected(name, "positive", getattr(self, name)))
        if self.cpus is not None and not self.cpus:
            raise InvalidArgument(expected("cpus", "at least one processor, or None", "none"))
