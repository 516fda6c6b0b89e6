"""The README tells the truth: its Python runs as printed."""

import re
import shutil
from pathlib import Path

import pytest
from octobev.replay.recorder import record_drive
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.bundle import REFERENCE_BUNDLE

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", blocks("python"))
def test_python_of_the_readme_is_python(block):
    compile(block, "README.md", "exec")


def test_embedding_example_runs_as_printed(tmp_path, monkeypatch):
    record_drive(SyntheticDrive(20_003, 0.25, rate_hz=8.0, size=(320, 240)), tmp_path / "drive.mcap")
    shutil.copytree(REFERENCE_BUNDLE, tmp_path / "my_bundle")
    monkeypatch.chdir(tmp_path)
    (example,) = [block for block in blocks("python") if "Runtime(" in block]
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["drivable"].shape == (128, 96)
    assert 0 < names["unknown"].mean() < 1


def test_readme_names_both_commands():
    assert "pip install . && octobev replay demo" in README
    assert "pip install '.[test]' && pytest" in README
