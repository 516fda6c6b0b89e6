"""The processor: its name, how much of it is ours, and whether it multiplies 8-bit numbers fast (int8 networks)."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from .._ext.cpuid import int8_dot_products

_ARM: Final = frozenset({"arm64", "aarch64"})
_WINDOWS_DOT_PRODUCT: Final = 43  # PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE
_MAC_NAMES: Final[Mapping[str, str]] = {"asimddp": "hw.optional.arm.FEAT_DotProd", "i8mm": "hw.optional.arm.FEAT_I8MM"}


def fast_int8() -> tuple[str, ...]:
    """Names of the extensions with int8 dot products that programs may use here; empty: none, or not known.

    x86: `avx512_vnni`, `avx_vnni` (processors with AMX-INT8 have the first, too); Arm: `asimddp` (dot product), `i8mm`.
    """
    if platform.machine().lower() not in _ARM:
        return int8_dot_products()
    readers: dict[str, Callable[[], tuple[str, ...]]] = {
        "linux": lambda: linux_arm_features(cpu_flags()),
        "darwin": lambda: _mac_arm_features(ctypes.CDLL(ctypes.util.find_library("c"))),
        "win32": lambda: _windows_arm_features(getattr(ctypes, "windll").kernel32),  # noqa: B009  (typed on Windows only)
    }
    try:
        return readers[sys.platform]() if sys.platform in readers else ()
    except (OSError, AttributeError):  # no such library, or not with that function: not known
        return ()


def cpu_flags() -> frozenset[str]:
    """Every feature that Linux lists for the first processor; empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file if line.startswith(("flags", "Features"))]
    except OSError:
        return frozenset()
    return frozenset(lines[0].split(":", 1)[1].split()) if lines else frozenset()


def cpu_name() -> str:
    """The processor's name as it tells it; its architecture where it tells none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def linux_arm_features(flags: frozenset[str]) -> tuple[str, ...]:
    """Those of the features that Linux lists which have int8 dot products."""
    return tuple(name for name in _MAC_NAMES if name in flags)


def _mac_arm_features(libc: Any) -> tuple[str, ...]:
    def is_set(name: str) -> bool:
        value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
        failed = libc.sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
        return not failed and value.value != 0

    return tuple(own for own, name in _MAC_NAMES.items() if is_set(name))


def _windows_arm_features(kernel32: Any) -> tuple[str, ...]:
    return ("asimddp",) if kernel32.IsProcessorFeaturePresent(_WINDOWS_DOT_PRODUCT) else ()
