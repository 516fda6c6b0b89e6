"""What the processor says of itself; the answers of other systems are made up."""

from __future__ import annotations

import ctypes
import platform
import sys
from types import SimpleNamespace

import pytest
from octobev.runtime import cpu


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"), reason="compares with Linux on x86"
)
def test_cpuid_agrees_with_linux():
    assert set(cpu.fast_int8()) == {"avx512_vnni", "avx_vnni"} & cpu.cpu_flags()


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ({"fp", "asimd", "asimddp", "i8mm"}, ("asimddp", "i8mm")),
        ({"fp", "asimd", "asimddp"}, ("asimddp",)),
        ({"fp", "asimd"}, ()),
        (set(), ()),
    ],
)
def test_linux_on_arm(monkeypatch, flags, found):
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(cpu.sys, "platform", "linux")
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset(flags))
    assert cpu.fast_int8() == found


@pytest.mark.parametrize(("known", "found"), [({b"hw.optional.arm.FEAT_DotProd": 1}, ("asimddp",)), ({}, ())])
def test_macos_on_arm(monkeypatch, known, found):
    def sysctlbyname(name, value, size, new, new_size):
        value._obj.value = known.get(name, 0)
        return 0 if name in known else -1

    monkeypatch.setattr(cpu.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(cpu.sys, "platform", "darwin")
    monkeypatch.setattr(cpu.ctypes, "CDLL", lambda name: SimpleNamespace(sysctlbyname=sysctlbyname))
    assert cpu.fast_int8() == found


@pytest.mark.parametrize(("answer", "found"), [(1, ("asimddp",)), (0, ())])
def test_windows_on_arm(monkeypatch, answer, found):
    asked = []
    kernel32 = SimpleNamespace(IsProcessorFeaturePresent=lambda feature: asked.append(feature) or answer)
    monkeypatch.setattr(cpu.platform, "machine", lambda: "ARM64")
    monkeypatch.setattr(cpu.sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
    assert cpu.fast_int8() == found
    assert asked == [43]


def test_unknown_system_has_none(monkeypatch):
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(cpu.sys, "platform", "plan9")
    assert cpu.fast_int8() == ()
