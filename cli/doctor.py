"""`octobev doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from typing import Annotated, Any

import typer

PACKAGES = (
    "octobev", "onnxruntime", "onnx", "opencv-python", "numpy", "pyzmq", "msgspec", "mcap",
    "mcap-protobuf-support", "foxglove-schemas-protobuf", "typer", "rich", "cython",
)  # fmt: skip
CPU_FEATURES = ("sse4_2", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show versions, execution providers, CPU features and how the kernels were built.

    Exit code 1 when something that `octobev replay` needs does not work; the report says what and how to mend it.
    """
    report, problems = examine()
    if as_json:
        print(json.dumps({**report, "problems": problems}, indent=2))
    else:
        for section, values in report.items():
            print(f"{section}")
            for key, value in values.items():
                print(f"  {key:26} {', '.join(value) if isinstance(value, list) else value}")
        for problem in problems:
            print(f"PROBLEM: {problem}")
        if not problems:
            print("no problems found")
    if problems:
        raise typer.Exit(1)


def examine() -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Gather the report and the problems."""
    problems: list[str] = []
    name, flags, fast = _cpu()
    report: dict[str, dict[str, Any]] = {
        "machine": {
            "python": sys.version.split()[0],
            "platform": platform.platform(),
            "cpu": name,
            "cpus usable": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
            "cpu features": [name for name in CPU_FEATURES if name in flags],
            "fast int8": list(fast) or "no: networks run in fp32",
        },
        "packages": {name: _version(name, problems) for name in PACKAGES},
        "kernels": _kernels(problems),
        "onnxruntime": _providers(problems),
        "opencv": _opencv(problems),
        "bundle": _reference_bundle(problems),
    }
    return report, problems


def _cpu() -> tuple[str, frozenset[str], tuple[str, ...]]:
    """What the processor is called, what it has, and which of it makes int8 networks fast."""
    try:
        from ..runtime.cpu import cpu_flags, cpu_name, fast_int8
    except ImportError:  # kernels that cannot be loaded: a problem of its own, told below
        return platform.machine(), frozenset(), ()
    return cpu_name(), cpu_flags(), fast_int8()


def _version(name: str, problems: list[str]) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if name == "cython":
            return "not installed (needed to build only)"
        if name == "onnxruntime" and importlib.util.find_spec(name) is not None:  # onnxruntime-gpu, -openvino, ...
            return f"{importlib.import_module(name).__version__} (in a distribution of another name)"
        problems.append(f"package {name} is not installed: pip install {name}")
        return "missing"


def _kernels(problems: list[str]) -> dict[str, Any]:
    try:
        from .._ext import project
    except ImportError as error:
        problems.append(f"kernels cannot be loaded ({error}): reinstall with `pip install .`")
        return {"built": "no"}
    return {"built": "yes", "OpenMP": "yes" if project.openmp_enabled() else "no (kernels run on one thread each)"}


def _providers(problems: list[str]) -> dict[str, Any]:
    try:
        import onnxruntime
    except ImportError as error:
        problems.append(f"onnxruntime cannot be loaded: {error}")
        return {"providers": []}
    return {"providers": list(onnxruntime.get_available_providers())}


def _opencv(problems: list[str]) -> dict[str, Any]:
    try:
        from ..runtime.images import cv2
    except ImportError as error:
        problems.append(str(error))
        return {"loads": "no"}
    return {"loads": "yes", "threads": cv2.getNumThreads()}


def _reference_bundle(problems: list[str]) -> dict[str, Any]:
    from ..errors import OctobevError
    from ..runtime.bundle import REFERENCE_BUNDLE, open_bundle

    try:
        from ..runtime.profile import find_profile
        from ..runtime.settle import settle
    except ImportError as error:
        problems.append(f"networks cannot be run: {error}")
        return {"reference": "not opened"}
    try:
        bundle = settle(open_bundle(REFERENCE_BUNDLE)).bundle
        profile = find_profile(bundle)
    except OctobevError as error:
        problems.append(f"the reference bundle cannot be opened: {error}")
        return {"reference": "broken"}
    name = f"{bundle.manifest.name} {bundle.manifest.version}"
    tuned = "none for this machine (octobev bundle tune)" if profile is None else profile.name
    return {"reference": name, "variant": bundle.variant, "profile": tuned, "sha256": bundle.sha256}
