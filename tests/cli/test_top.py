import importlib.metadata
import subprocess
import sys

import octobev
from octobev.cli import build
from typer.testing import CliRunner


def test_version_is_that_of_the_package():
    result = CliRunner().invoke(build(), ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"octobev {octobev.__version__}\n")
    assert importlib.metadata.version("octobev") == octobev.__version__


def test_help_names_every_command_and_teaches_the_first():
    text = CliRunner().invoke(build(), ["--help"]).stdout
    for command in ("replay", "evaluate", "doctor", "drive", "topic", "rig", "bundle", "octobev replay demo"):
        assert command in text


def test_doctor_finds_no_problem_here():
    result = subprocess.run([sys.executable, "-m", "octobev", "doctor"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout
    for words in (
        "onnxruntime",
        "CPUExecutionProvider",
        "OpenMP",
        "octobev-reference",
        "fast int8",
        "variant",
        "no problems found",
    ):
        assert words in result.stdout


def test_unknown_command_is_wrong_usage():
    assert CliRunner().invoke(build(), ["fly"]).exit_code == 2
