"""Some thousand damaged and forged messages; `benchmarks/fuzz_wire.py` does the same with a million."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "fuzz_wire.py"


@pytest.fixture(scope="module")
def fuzz_wire() -> ModuleType:
    specification = importlib.util.spec_from_file_location("fuzz_wire", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["fuzz_wire"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_messages_give_typed_errors_only(fuzz_wire: ModuleType, seed: int) -> None:
    result = fuzz_wire.fuzz(4000, seed)
    assert result.untyped == []
    assert result.messages == 4000
    assert result.accepted > 100
    assert set(result.errors) == {"WireError"}
    behind_the_checksum = {"array parts", "topic part", "array observed", "array values", "elements of observed"}
    assert behind_the_checksum <= set(result.reasons)


def test_the_same_seed_gives_the_same_messages(fuzz_wire: ModuleType) -> None:
    first, again, other = (fuzz_wire.mutated_messages(seed) for seed in (1, 1, 2))
    one = [next(first) for _ in range(50)]
    assert one == [next(again) for _ in range(50)]
    assert one != [next(other) for _ in range(50)]


def test_what_is_no_octobev_error_is_found(fuzz_wire: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_wire, "_take_apart", lambda message: message["oops"])
    result = fuzz_wire.fuzz(2000, 1)
    assert len(result.untyped) == 20
    assert "TypeError" in result.untyped[0]
