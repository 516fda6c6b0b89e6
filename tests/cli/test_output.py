"""What the command does when nobody takes what it prints, or the user stops it early."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from octobev import cli

COMMAND = [sys.executable, "-m", "octobev"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["doctor", "--json"], ["--help"], ["bundle", "info", "{bundle}"]])
def test_full_stdout_is_one_clear_line(arguments, fp32_bundle):
    arguments = [argument.format(bundle=fp32_bundle) for argument in arguments]
    with open("/dev/full", "w") as full:
        result = subprocess.run([*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.stderr == "octobev: output cannot be written: No space left on device\n"
    assert result.returncode == 1


def test_reader_that_has_gone_ends_the_command_quietly():
    receiver, sender = os.pipe()
    os.close(receiver)
    with os.fdopen(sender, "w") as stdout:
        result = subprocess.run([*COMMAND, "--help"], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (result.stderr, result.returncode) == ("", 1)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EISDIR, errno.EMFILE, errno.ENOSPC])
def test_path_that_cannot_be_used_is_one_clear_line(monkeypatch, capsys, number):
    def forbidden():
        raise OSError(number, os.strerror(number), "vault/drive.mcap")

    monkeypatch.setattr("octobev.cli.build", lambda: forbidden)
    with pytest.raises(SystemExit) as end:
        cli.run()
    assert end.value.code == 1
    assert capsys.readouterr().err == f"octobev: vault/drive.mcap: {os.strerror(number)}\n"


def test_interrupt_while_modules_are_loaded_ends_quietly(tmp_path):
    """The interrupt comes when the command line is about to be loaded."""
    script = (
        "import builtins, octobev.__main__ as command\n"
        "load = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'cli': raise KeyboardInterrupt\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "command.main()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (result.stderr, result.returncode) == ("", 128 + signal.SIGINT)
