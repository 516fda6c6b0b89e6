"""`octobev bench`: what it prints and refuses; nothing here is timed."""

import json

import pytest
from octobev.bench import table
from octobev.bench.row import Bar, Figures, Row
from octobev.bench.spread import Spread
from octobev.cli import build
from octobev.errors import BenchError, InvalidArgument
from typer.testing import CliRunner


def row(key, measure=lambda _: Figures(Spread.of([3.0]), {"octobev, ms": Spread.of([1.0])}), needs=()):
    return Row(key, f"what {key} is", "x", Bar(2.0, at_least=True), measure, needs)


def refuse(_):
    raise BenchError("cannot be measured here")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(table, "ROWS", (row("first"), row("second"), row("absent", needs=("no_such_module",))))
    return lambda *options: CliRunner().invoke(build(), ["bench", *options])


def test_every_row_has_a_line(bench):
    result = bench("--quick")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["first", "second", "absent"]
    assert "bar >= 2" in lines[-2]
    assert "skipped: no_such_module not installed: pip install 'octobev[bench]'" in lines[-1]


def test_json_is_one_object(bench):
    result = bench("--json", "--threads", "1", "--only", "second,absent")
    found = json.loads(result.stdout)
    assert list(found["rows"]) == ["second", "absent"]
    assert found["rows"]["second"]["met"] is True
    assert found["machine"]["threads"] == 1
    assert "[2/2] absent" in result.stderr


def test_details_show_the_sides(bench):
    assert "octobev, ms: 1" in bench("--details", "--only", "first").stdout


def test_a_row_that_cannot_be_measured_is_an_error(bench, monkeypatch):
    monkeypatch.setattr(table, "ROWS", (row("broken", refuse), row("first")))
    result = bench()
    assert result.exit_code == 1
    assert "FAILED: cannot be measured here" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("first")


def test_an_unknown_key_is_refused(bench):
    result = bench("--only", "nonsense")
    assert isinstance(result.exception, InvalidArgument)
