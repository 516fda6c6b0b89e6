import io

import numpy as np
import pytest
from mcap.reader import NonSeekingReader
from octobev.fusion.grid import BevGrid
from octobev.fusion.occupancy import OccupancyGrid
from octobev.replay.drive import DriveStep
from octobev.replay.faults.disk import FullDisk
from octobev.replay.recorder import Recorder
from octobev.replay.recording import RecordingSink
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.predictions import Predictions, Provenance, StateStatus

GRID = BevGrid(0.0, 2.0, 0.0, 1.0, 1.0)
NS = 100_000_000


def step(number):
    """One set: noise of 60 kB, of which two or three fill a chunk."""
    noise = np.random.default_rng(number).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    timestamp_ns = 1_000_000_000 + number * NS
    frame_set = FrameSet(timestamp_ns, (Frame("front", timestamp_ns, noise),))
    log_odds = np.zeros(GRID.shape, dtype=np.float32)
    grid = OccupancyGrid(GRID, log_odds, np.ones(GRID.shape, np.bool_), np.ones(GRID.shape, np.uint64), 1.0)
    predictions = Predictions(
        timestamp_ns=timestamp_ns,
        sequence=number,
        cameras=("front",),
        camera_mask=np.array([True]),
        camera_age_ns=np.zeros(1, dtype=np.int64),
        absences={},
        bev={"occupancy": grid},
        camera_outputs={},
        invalid={},
        state=StateStatus(True, None, 0),
        provenance=Provenance("b", "0", "0", (), (), 1),
    )
    return DriveStep(frame_set), predictions


class File(io.BytesIO):
    name = "disk"


@pytest.fixture
def recorded(make_rig):
    """Record twenty sets, on a disk that is full before one of them; gives the sink and the sets in the file."""

    def record(full_before):
        file = File()
        disk = FullDisk(file)
        with RecordingSink(Recorder(disk, make_rig("front", width=200, height=100)), with_frames=True) as sink:
            for number in range(20):
                if number == full_before:
                    disk.fill()
                sink(*step(number))
            if full_before == 20:
                disk.fill()
        file.seek(0)
        messages = NonSeekingReader(file).iter_messages(topics=["/occupancy"])
        return sink, [(message.log_time - 1_000_000_000) // NS for _, _, message in messages]

    return record


def test_whole_recording_loses_nothing(recorded):
    sink, sets = recorded(None)
    assert (sink.reason, sink.lost_sets) == (None, 0)
    assert sets == list(range(20))


@pytest.mark.parametrize("full_before", [0, 7, 8, 9, 20])
def test_full_disk_ends_the_recording_and_nothing_else(recorded, full_before):
    sink, sets = recorded(full_before)
    assert sink.reason == "disk: recording stopped: No space left on device"
    assert sets == list(range(len(sets))), "what was written before is there"
    assert len(sets) <= full_before
    assert 20 - len(sets) <= sink.lost_sets <= 20 - len(sets) + 1, "a set half of which is there counts as lost"
