"""What ran when, as a file that trace viewers open."""

import json
from pathlib import Path

import numpy as np
import pytest
from octobev.errors import RecordingError
from octobev.replay.trace import TraceWriter
from octobev.runtime.predictions import Predictions, Provenance, StateStatus
from octobev.runtime.stages import StageSpan, StageTimes, totals_ms

SPANS = (
    StageSpan("decode", ("front",), "worker_0", 5_000_000, 1_500_000),
    StageSpan("decode", ("rear",), "worker_1", 5_250_000, 250_000),
    StageSpan("topdown", (), "main", 7_000_000, 2_000_000),
)


def predictions(sequence):
    return Predictions(
        timestamp_ns=1_700_000_000_000_000_000 + sequence,
        sequence=sequence,
        cameras=("front", "rear"),
        camera_mask=np.array([True, True]),
        camera_age_ns=np.zeros(2, dtype=np.int64),
        absences={},
        bev={},
        camera_outputs={},
        invalid={},
        state=StateStatus(True, None, 0),
        provenance=Provenance("b", "0", "0", (), (), 1),
        spans=SPANS,
    )


def test_events_have_time_thread_camera_and_set(tmp_path):
    with TraceWriter(tmp_path / "trace.json") as trace:
        trace.add(SPANS, predictions(4))
    events = json.loads((tmp_path / "trace.json").read_text())
    assert len({event["pid"] for event in events}) == 1
    complete = [event for event in events if event["ph"] == "X"]
    times = [(event["name"], event["ts"], event["dur"]) for event in complete]
    assert times == [("decode", 0.0, 1500.0), ("decode", 250.0, 250.0), ("topdown", 2000.0, 2000.0)]
    assert complete[0]["args"] == {"cameras": "front", "set": 4, "timestamp_ns": 1_700_000_000_000_000_004}
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert [names[event["tid"]] for event in complete] == ["worker_0", "worker_1", "main"]


def test_trace_that_was_cut_ends_with_a_whole_line(tmp_path):
    trace = TraceWriter(tmp_path / "trace.json")
    for number in range(500):
        trace.add(SPANS, predictions(number))
    lines = (tmp_path / "trace.json").read_text().rpartition("\n")[0]
    trace.close()
    assert len(json.loads(lines.rstrip(",") + "]")) > 100
    assert len(json.loads((tmp_path / "trace.json").read_text())) == 1 + 3 + 1500


def test_file_that_is_there_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "trace.json"
    path.write_text("mine")
    with pytest.raises(RecordingError, match=r"trace\.json: exists already"):
        TraceWriter(path)
    assert path.read_text() == "mine"
    TraceWriter(path, overwrite=True).close()
    assert len(json.loads(path.read_text())) == 1
    with pytest.raises(RecordingError, match="no must be a folder, got nothing of that name"):
        TraceWriter(tmp_path / "no" / "trace.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk_is_told_with_the_file():
    trace = TraceWriter("/dev/full", overwrite=True)
    with pytest.raises(RecordingError, match="/dev/full: cannot be written: No space left on device"):
        trace.add(SPANS * 500, predictions(0))
    with pytest.raises(RecordingError, match="/dev/full: cannot be written"):
        trace.close()
    trace.close()


def test_stages_are_summed_over_threads_in_their_order():
    assert totals_ms(SPANS) == {"decode": 1.75, "topdown": 2.0}
    assert predictions(0).stages_ms == totals_ms(SPANS)


def test_a_stage_that_raises_is_measured_all_the_same():
    times = StageTimes()
    with pytest.raises(ZeroDivisionError), times.measure("network", ["front"]):
        raise ZeroDivisionError
    (span,) = times.spans()
    assert (span.stage, span.cameras, span.duration_ns > 0) == ("network", ("front",), True)
