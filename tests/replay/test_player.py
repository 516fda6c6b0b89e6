import dataclasses
import hashlib
import json

import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics
from octobev.fusion.occupancy import OccupancyGrid
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.replay.drive import Drive, DriveStep, Losses
from octobev.replay.player import play, summary_json
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.predictions import Detections, Predictions, Provenance, StateStatus
from octobev.runtime.stages import StageSpan

GRID = BevGrid(0.0, 2.0, 0.0, 1.0, 1.0)
LENS = Intrinsics(4, 3, 4, 4, 1.5, 1.0)
RIG = Rig((Camera("front", LENS, Pose.identity()), Camera("rear", LENS, Pose.planar(1, 0, 0))))
PERIOD_NS = 100_000_000


class Recorded(Drive):
    """Sets of one front frame each, 0.1 s apart; loses one frame on the way."""

    def __init__(self, sets=3):
        self.name, self.rig, self.losses, self.sets = "recorded", RIG, Losses(), sets

    def steps(self, *, start_s=0.0, duration_s=None):
        self.losses = Losses()
        for number in range(self.sets):
            frame = Frame("front", number * PERIOD_NS, np.full((3, 4, 3), number, dtype=np.uint8))
            yield DriveStep(FrameSet(number * PERIOD_NS, (frame,), Pose.identity()))
        self.losses.add("checksum of a chunk")


class Brightness:
    """A runtime whose occupancy is the brightness of the frame."""

    rig = RIG

    def __init__(self, unusable=(), invalid=()):
        self.unusable, self.invalid = unusable, invalid

    def stream(self, frame_sets):
        return map(self.step, frame_sets)

    def step(self, frame_set):
        number = frame_set.timestamp_ns // PERIOD_NS
        log_odds = np.full(GRID.shape, frame_set.frames[0].data[0, 0, 0], dtype=np.float32)
        grid = OccupancyGrid(GRID, log_odds, np.ones(GRID.shape, np.bool_), np.ones(GRID.shape, np.uint64), 1.0)
        return Predictions(
            timestamp_ns=frame_set.timestamp_ns,
            sequence=number,
            cameras=RIG.names,
            camera_mask=np.array([number not in self.unusable, False]),
            camera_age_ns=np.zeros(2, dtype=np.int64),
            absences={"rear": "unplugged"},
            bev={} if number in self.invalid else {"occupancy": grid},
            camera_outputs={},
            invalid={"occupancy": "NaN"} if number in self.invalid else {},
            state=StateStatus(number > 0, None if number else "first set", number * PERIOD_NS),
            provenance=Provenance("b", "0", "0", (), (), 1),
            spans=(StageSpan("network", ("front",), "worker", number, number * 1_000_000),),
        )


def test_summary_counts_what_happened():
    summary = play(Recorded(), Brightness(unusable=[1]))
    assert (summary.sets, summary.frames, summary.dropped, summary.corrupt) == (3, 2, 1, 1)
    assert summary.loss_reasons == {"checksum of a chunk": 1}
    assert summary.drive_seconds == pytest.approx(0.2)
    assert summary.outputs == ("occupancy",)
    assert summary.resets == {"first set": 1}
    assert summary.stages_ms["network"] == {"p50": 1.0, "p99": pytest.approx(1.98)}
    assert "read" in summary.stages_ms
    assert summary.lost


def test_detections_are_counted_by_class():
    class Crowd(Brightness):
        def step(self, frame_set):
            """One person more in each set, and never a car."""
            count = frame_set.timestamp_ns // PERIOD_NS
            boxes, ones = np.ones((count, 4), np.float32), np.ones(count, np.float32)
            found = Detections("front", ("car", "person"), boxes, ones, ones.astype(np.uint16))
            return dataclasses.replace(super().step(frame_set), camera_outputs={"objects": {"front": found}})

    summary = play(Recorded(), Crowd())
    assert summary.outputs == ("occupancy", "objects")
    assert summary_json(summary)["detections"] == {"objects": {"car": 0, "person": 3}}


def test_withheld_outputs_are_counted():
    assert play(Recorded(), Brightness(invalid=[0, 2])).invalid == {"occupancy": 2}


def test_digest_is_that_of_the_arrays_in_order():
    runtime, sha256 = Brightness(), hashlib.sha256()
    for step in Recorded().steps():
        runtime.step(step.frame_set).digest_into(sha256)
    assert play(Recorded(), runtime).digest == sha256.hexdigest()
    assert play(Recorded(2), runtime).digest != sha256.hexdigest()


def test_sinks_get_every_step_in_order_and_are_timed():
    seen = []
    sinks = {
        "first": lambda step, predictions: seen.append(("first", step.frame_set.timestamp_ns)),
        "second": lambda step, predictions: seen.append(("second", predictions.timestamp_ns)),
    }
    summary = play(Recorded(2), Brightness(), sinks=sinks)
    assert seen == [("first", 0), ("second", 0), ("first", PERIOD_NS), ("second", PERIOD_NS)]
    assert {"first", "second"} <= set(summary.stages_ms)


@pytest.mark.parametrize(("rate", "expected_s"), [(1.0, 0.2), (2.0, 0.1)])
def test_rate_paces_the_drive(rate, expected_s):
    now = [100.0]

    def sleep(seconds):
        now[0] += seconds

    summary = play(Recorded(), Brightness(), rate=rate, clock=lambda: now[0], sleep=sleep)
    assert summary.seconds == pytest.approx(expected_s)


@pytest.mark.parametrize(("rate", "ahead", "streamed"), [(None, True, True), (None, False, False), (1e6, True, False)])
def test_sets_are_streamed_where_nothing_waits_for_the_clock(rate, ahead, streamed):
    class Streaming(Brightness):
        streamed = False

        def stream(self, frame_sets):
            self.streamed = True
            return super().stream(frame_sets)

    runtime = Streaming()
    assert play(Recorded(), runtime, rate=rate, ahead=ahead).sets == 3
    assert runtime.streamed == streamed


def test_what_was_read_ahead_is_told_with_its_own_set():
    """Steps, and how long they took to read, belong to their predictions, though the next ones are read before."""

    class Eager(Brightness):
        def stream(self, frame_sets):
            return map(self.step, list(frame_sets))

    seen = []
    summary = play(
        Recorded(), Eager(), sinks={"see": lambda step, given: seen.append((step.frame_set.timestamp_ns, given))}
    )
    assert [(timestamp_ns, given.timestamp_ns) for timestamp_ns, given in seen] == [
        (number * PERIOD_NS, number * PERIOD_NS) for number in range(3)
    ]
    assert summary.sets == 3


def test_rate_must_be_positive():
    with pytest.raises(InvalidArgument, match="rate must be positive, got 0"):
        play(Recorded(), Brightness(), rate=0)


def test_interruption_ends_the_replay_with_what_was_done():
    def interrupt(step, predictions):
        if predictions.sequence == 1:
            raise KeyboardInterrupt

    taken = []
    sinks = {"stop": interrupt, "keep": lambda step, predictions: taken.append(predictions.sequence)}
    summary = play(Recorded(), Brightness(), sinks=sinks)
    assert summary.interrupted
    assert summary.sets == 2
    assert taken == [0, 1]


def test_summary_as_json_has_the_promised_keys():
    document = json.loads(json.dumps(summary_json(play(Recorded(), Brightness()))))
    promised = "frames cameras seconds fps dropped corrupt outputs digest stages_ms"
    assert set(promised.split()) <= set(document)
    assert document["cameras"] == ["front", "rear"]


def test_empty_drive_is_no_error():
    summary = play(Recorded(0), Brightness())
    assert (summary.sets, summary.fps, summary.drive_seconds) == (0, pytest.approx(0.0), 0.0)
