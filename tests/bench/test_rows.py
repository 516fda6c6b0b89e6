"""Rows: the table of keys, bars, peers that are not there, and rows that fail."""

import json

import numpy as np
import pytest
from octobev.bench import report
from octobev.bench.agreement import check_close
from octobev.bench.memory import peak_mb
from octobev.bench.row import Bar, Figures, Outcome, Row
from octobev.bench.runner import choose, run_rows
from octobev.bench.spread import Spread
from octobev.bench.starting import growth_per_1000
from octobev.bench.table import ROWS
from octobev.errors import BenchError, InvalidArgument

KEYS = [
    *("lift_vs_scipy", "lift_vs_torch_csr", "lift_vs_grid_sample"),
    *("preprocess_vs_user", "preprocess_vs_blob", "preprocess_vs_bandwidth", "warp_vs_opencv"),
    *("overhead", "step_vs_user_fp32", "step_vs_user_int8", "step_vs_best_user", "int8_speedup"),
    *("sets_per_second", "replay_vs_limit", "publish_overhead", "head_subset", "cameras_linear", "many_outputs"),
    *("import_ms", "subscriber_import_ms", "first_prediction_s", "rss_mb", "rss_growth_mb_per_1000_sets"),
    "transform_build_ms",
]
RUN_TIME_DEPENDENCIES = {"onnxruntime", "onnx", "cv2", "numpy", "zmq", "msgspec", "mcap"}


def row(figure=2.0, *, bar=None, needs=(), missed=()):
    def measure(_):
        return Figures(Spread.of([figure]), {"octobev, ms": Spread.of([1.0, 2.0])}, ("a note",), missed)

    return Row("some_row", "something / something else", "x", bar or Bar(1.5, at_least=True), measure, needs)


def ticking():
    now = iter(range(100))
    return lambda: float(next(now))


def test_keys_of_the_table_are_stable():
    assert [row.key for row in ROWS] == KEYS


def test_peers_are_named_where_rows_need_them():
    needed = {module for row in ROWS for module in row.needs}
    assert needed == {"scipy", "torch", "openvino"}
    assert not needed & RUN_TIME_DEPENDENCIES


def test_rows_are_chosen_by_key_in_the_order_of_the_table():
    assert [row.key for row in choose(ROWS, ["rss_mb", "overhead"])] == ["overhead", "rss_mb"]
    assert choose(ROWS, None) == ROWS
    with pytest.raises(InvalidArgument, match=r"key of a row must be one of lift_vs_scipy, .*, got 'nonsense'"):
        choose(ROWS, ["nonsense"])


@pytest.mark.parametrize(
    ("bar", "figure", "met"),
    [
        (Bar(1.5, at_least=True), 1.5, True),
        (Bar(1.5, at_least=True), 1.4, False),
        (Bar(1.5, at_least=False), 1.5, True),
        (Bar(1.5, at_least=False), 1.6, False),
    ],
)
def test_bar_is_met_on_its_own_side(bar, figure, met):
    (outcome,) = run_rows([row(figure, bar=bar)], None)
    assert outcome.met is met


def test_a_missed_condition_misses_the_bar():
    (outcome,) = run_rows([row(9.0, missed=("p99 latency must be at most 55.6 ms, got 80.0",))], None)
    assert outcome.met is False
    assert any("MISSED: p99" in line for line in report.detail_lines(outcome))


def test_a_bar_found_while_measuring_counts():
    measured = Row("r", "t", "x", Bar(9.0, False), lambda _: Figures(Spread.of([2.0]), bar=Bar(1.0, at_least=False)))
    (outcome,) = run_rows([measured], None)
    assert outcome.met is False
    assert outcome.as_dict()["bar"]["limit"] == 1.0


def test_a_row_whose_peer_is_not_installed_is_skipped_and_says_so():
    asked = []

    def has(module):
        asked.append(module)
        return module != "torch"

    (outcome,) = run_rows([row(needs=("openvino", "torch"))], None, has=has)
    assert asked == ["openvino", "torch"]
    assert outcome.skipped == "torch not installed: pip install 'octobev[bench]'"
    assert outcome.met is None
    assert "skipped: torch not installed" in report.row_line(outcome)


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("broken\nin many lines"), "RuntimeError: broken"), (ValueError(), "ValueError: no m")],
)
def test_a_peer_that_breaks_does_not_stop_the_others(error, said):
    def break_down(_):
        raise error

    failed, fine = run_rows([Row("failing", "t", "x", Bar(1.0, True), break_down), row()], None)
    assert failed.failed.startswith(said)
    assert "\n" not in failed.failed
    assert fine.met


def test_a_row_that_fails_does_not_stop_the_others():
    def refuse(_):
        raise BenchError("result of a peer must be ours, got another")

    failing = Row("failing", "t", "x", Bar(1.0, True), refuse)
    failed, fine = run_rows([failing, row()], None, clock=ticking())
    assert failed.failed == "result of a peer must be ours, got another"
    assert "FAILED: result of a peer" in report.row_line(failed)
    assert (failed.seconds, fine.seconds, fine.met) == (1.0, 1.0, True)


def test_report_is_one_json_object_with_a_key_for_each_row():
    outcomes = [*run_rows([row()], None, clock=ticking()), Outcome(ROWS[0], skipped="scipy not installed")]
    found = json.loads(json.dumps(report.report(report.machine(2), outcomes, quick=True)))
    assert found["quick"] is True
    assert found["machine"]["threads"] == 2
    assert {"cpu", "cpu_features", "load_average", "packages", "cpus_usable"} <= set(found["machine"])
    assert found["machine"]["packages"]["numpy"]
    assert found["rows"]["some_row"] == {
        "title": "something / something else",
        "unit": "x",
        "bar": {"limit": 1.5, "at_least": True, "aim": None},
        "met": True,
        "value": {"median": 2.0, "quartiles": [2.0, 2.0], "samples": 1},
        "skipped": None,
        "failed": None,
        "seconds": 1.0,
        "sides": {"octobev, ms": {"median": 1.5, "quartiles": [1.25, 1.75], "samples": 2}},
        "notes": ["a note"],
        "missed": [],
    }
    assert found["rows"]["lift_vs_scipy"]["value"] is None
    assert found["rows"]["lift_vs_scipy"]["met"] is None


def test_header_names_versions_processor_threads_and_load():
    text = "\n".join(report.header_lines(report.machine(3)))
    assert "3 threads" in text
    assert "onnxruntime" in text
    assert "load average" in text


def test_a_peer_that_gives_something_else_is_refused():
    ours = np.zeros(100)
    theirs = np.zeros(100)
    theirs[:4] = 1.0
    assert check_close("peer", theirs, ours, 0.1, share=0.95) == 0.96
    with pytest.raises(BenchError, match=r"result of peer must be within 0.1 of ours for 97.0% .*, got 96.00%"):
        check_close("peer", theirs, ours, 0.1, share=0.97)
    with pytest.raises(BenchError, match=r"result of peer must be of shape \(100,\), got \(99,\)"):
        check_close("peer", theirs[1:], ours, 0.1)


def test_growth_is_the_slope_after_the_first_third():
    sets = np.arange(0.0, 901.0, 100.0)
    resident = np.where(sets < 300, sets, 400.0 + 0.002 * sets)
    assert growth_per_1000(sets, resident) == pytest.approx(2.0)


def test_peak_memory_is_read_in_kibibytes():
    assert peak_mb("Name:\tpython\nVmHWM:\t  200000 kB\nVmRSS:\t  1000 kB\n") == 204.8
