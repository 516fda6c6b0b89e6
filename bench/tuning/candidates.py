"""What is tried, and what it is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ...runtime.bundle import Bundle, Variant
from ...runtime.profile import Choice

CPU: Final = "CPUExecutionProvider"

ELSEWHERE: Final = frozenset({"AzureExecutionProvider"})
"""Execution providers that run nothing on this machine: they send it to somebody."""

_MOST_THREAD_COUNTS: Final = 4


def provider_lists(bundle: Bundle, available: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Execution providers to try: those that the bundle names, each that is installed, and the CPU alone."""
    own = tuple(provider.name for provider in bundle.manifest.runtime.providers)
    others = [(name,) for name in available if name not in ELSEWHERE]
    return tuple(dict.fromkeys([own, *others, (CPU,)]))


def network_choices(
    default: Choice, variants: Sequence[Variant], providers: Sequence[tuple[str, ...]]
) -> tuple[Choice, ...]:
    """Every variant on every list of execution providers, spread over threads as the default; that one first.

    Providers other than the default's are tried with one camera after another, too: many have threads or a device of
    their own, for which cameras side by side are only in each other's way.
    """
    tried = []
    for names in providers:
        for variant in variants:
            choice = msgspec.structs.replace(default, variant=variant, providers=names)
            tried.append(choice)
            if names != default.providers:
                tried.append(msgspec.structs.replace(choice, runs_at_once=1))
    return tuple(dict.fromkeys([default, *tried]))


def run_choices(best: Choice, cameras: int) -> tuple[Choice, ...]:
    """Fewer cameras at once, so that the threads that are left work inside the networks; the best so far first."""
    most = min(best.threads - 1, cameras)
    at_once = [2**power for power in range(most.bit_length())] + [most]
    fewer = [msgspec.structs.replace(best, runs_at_once=runs) for runs in at_once if 1 <= runs <= most]
    return tuple(dict.fromkeys([best, *fewer]))


def thread_choices(best: Choice) -> tuple[Choice, ...]:
    """Half the threads, and half of those: a processor that runs two on each core may be faster with one."""
    tried = [best]
    while tried[-1].threads > 1 and len(tried) < _MOST_THREAD_COUNTS:
        threads = tried[-1].threads // 2
        side_by_side = best.runs_at_once == best.threads
        runs = threads if side_by_side else min(best.runs_at_once, threads)
        tried.append(msgspec.structs.replace(best, threads=threads, runs_at_once=runs))
    return tuple(tried)


def batch_choices(best: Choice, cameras: int) -> tuple[Choice, ...]:
    """Several cameras in a run: all of them, or as many as make a run for each thread; the best so far first."""
    all_in_one = msgspec.structs.replace(best, runs_at_once=1, batch=cameras)
    a_run_each = msgspec.structs.replace(best, runs_at_once=best.threads, batch=-(-cameras // best.threads))
    return tuple(dict.fromkeys([best, *(c for c in (a_run_each, all_in_one) if c.batch > 1)]))


def networks_words(choice: Choice) -> str:
    """Say in which arithmetic and where networks run."""
    return f"{choice.variant} on {', '.join(short_name(name) for name in choice.providers)}"


def threads_words(choice: Choice) -> str:
    """Say how the work is spread over threads."""
    if choice.threads == 1:
        words = "1 thread"
    elif choice.runs_at_once == choice.threads:
        words = f"{choice.threads} threads, a camera each"
    elif choice.runs_at_once == 1:
        words = f"{choice.threads} threads, one camera after another"
    else:
        words = f"{choice.threads} threads, {choice.runs_at_once} cameras at once"
    return words if choice.batch == 1 else f"{words.replace('camera', 'run')}, {choice.batch} cameras in a run"


def short_name(provider: str) -> str:
    """Name of an execution provider without what all of them end in."""
    return provider.removesuffix("ExecutionProvider")
