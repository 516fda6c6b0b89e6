"""The shape of the package: what an import loads, which way imports point, how long modules are."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import octobev
import pytest

ROOT = Path(octobev.__file__).parent
FLOORS = ("errors", "_ext", "fusion", "runtime", "replay", "sources", "bench", "cli")
LONGEST_MODULE = 450
VALUE_TYPES = (
    "fusion/pose.py",
    "fusion/lens.py",
    "fusion/grid.py",
    "fusion/rig.py",
    "runtime/frames.py",
    "runtime/live/health.py",
    "runtime/predictions.py",
    "runtime/sync/policies.py",
    "replay/drive.py",
)


def modules() -> list[Path]:
    folders = [ROOT / floor for floor in (*FLOORS[1:], "models")]
    return sorted([*ROOT.glob("__*__.py"), ROOT / "errors.py", *(p for f in folders for p in f.rglob("*.py"))])


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every module that a module imports, wherever in the file the import stands."""
    package = ("octobev", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` may name modules
            yield from ((node.lineno, f"{stem}.{alias.name}" if node.module is None else stem) for alias in node.names)


def floor_of(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py") if parts else ""


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize(
    "statement",
    [
        "import octobev",
        "import octobev, octobev.fusion.rig, octobev.runtime.frames, octobev.runtime.predictions, octobev.replay.drive",
        "from octobev import Rig, Pose, Frame, FrameSet, BevGrid, Predictions, read_rig",
        "from octobev import Subscriber",
    ],
)
def test_light_imports_load_no_heavy_library(statement: str) -> None:
    if "Subscriber" in statement and not (ROOT / "runtime/topics/subscriber.py").exists():
        pytest.skip("no subscriber yet")
    heavy = ("onnxruntime", "onnx", "cv2", "mcap", "google.protobuf", "torch", "scipy")
    code = f"import sys; {statement}; print([m for m in {heavy} if m in sys.modules])"
    assert run(code) == "[]"


def test_bare_import_does_not_even_load_numpy() -> None:
    assert run("import sys, octobev; print('numpy' in sys.modules)") == "False"


def test_a_subscriber_loads_neither_types_of_content_nor_what_few_need() -> None:
    unwanted = ("octobev.fusion.rig", "octobev.runtime.predictions", "octobev.runtime.topics.keys", "numpy.typing")
    unwanted += ("logging", "tempfile", "asyncio", "hashlib", "zmq.auth")
    code = "import sys; before = set(sys.modules); from octobev import Subscriber; new = set(sys.modules) - before"
    assert run(f"{code}; print([m for m in {unwanted} if m in new])") == "[]"


def test_every_public_name_has_its_home() -> None:
    missing = [
        name
        for name, home in octobev._HOME.items()
        if not hasattr(importlib.import_module(home, "octobev"), name) or getattr(octobev, name) is None
    ]
    assert missing == []
    assert set(octobev.__all__) <= set(dir(octobev))
    with pytest.raises(AttributeError, match="module 'octobev' has no attribute 'nonsense'"):
        octobev.nonsense  # noqa: B018


def test_imports_point_one_way() -> None:
    wrong = []
    for path in modules():
        floor = floor_of(path.relative_to(ROOT).parts)
        if floor not in FLOORS:
            continue
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] != "octobev":
                continue
            target = floor_of(tuple(parts[1:]))
            if target == "models" or (target in FLOORS and FLOORS.index(target) > FLOORS.index(floor)):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


def test_imports_inside_the_package_are_relative() -> None:
    absolute = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            absolute += [f"{path.relative_to(ROOT)}:{node.lineno}" for n in names if n.split(".")[0] == "octobev"]
    assert absolute == []


@pytest.mark.parametrize("module", VALUE_TYPES)
def test_value_types_import_numpy_and_errors_only(module: str) -> None:
    allowed = {"numpy", "octobev", *sys.stdlib_module_names}
    assert sorted({name for _, name in imports(ROOT / module) if name.split(".")[0] not in allowed}) == []


def test_modules_stay_short() -> None:
    lines = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in modules()}
    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}


def test_the_reader_of_imports_sees_all_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "fusion").mkdir()
    module = tmp_path / "fusion" / "x.py"
    module.write_text(
        "import cv2\nfrom . import rig\nfrom ..errors import E\ndef f():\n    from ..cli.rig import app\n"
    )
    assert list(imports(module)) == [
        (1, "cv2"),
        (2, "octobev.fusion.rig"),
        (3, "octobev.errors"),
        (5, "octobev.cli.rig"),
    ]


@pytest.mark.parametrize(("chosen", "kept"), [(None, "1"), ("0", "0")])
def test_networks_run_without_reports_to_their_makers(chosen: str | None, kept: str, monkeypatch) -> None:
    """Unless the user wants them: what he set stays."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    if chosen is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", chosen)
    assert run("import octobev, os; print(os.environ['ORT_DISABLE_TELEMETRY'])") == kept
