import io
import struct

import numpy as np
import pytest
from mcap.opcode import Opcode
from mcap.reader import NonSeekingReader
from mcap.records import DataEnd, Footer
from mcap.stream_reader import StreamReader
from octobev.fusion.grid import BevGrid
from octobev.fusion.occupancy import OccupancyGrid
from octobev.replay.drive import DriveStep
from octobev.replay.faults.disk import FullDisk
from octobev.replay.recorder import Recorder
from octobev.replay.recording import RecordingSink
from octobev.replay.summary import MAGIC
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
    """Record twenty sets on a disk that is full before one of them, or so large; gives the sink, the sets, the file."""

    def record(full_before=None, room_bytes=None):
        file = File()
        disk = FullDisk(file)
        if room_bytes is not None:
            disk.fill(room_bytes)
        with RecordingSink(Recorder(disk, make_rig("front", width=200, height=100)), with_frames=True) as sink:
            for number in range(20):
                if number == full_before:
                    disk.fill()
                sink(*step(number))
            if full_before == 20:
                disk.fill()
        file.seek(0)
        messages = NonSeekingReader(file).iter_messages(topics=["/occupancy"])
        return sink, [(message.log_time - 1_000_000_000) // NS for _, _, message in messages], file.getvalue()

    return record


def test_whole_recording_loses_nothing(recorded):
    sink, sets, _ = recorded()
    assert (sink.reason, sink.lost_sets) == (None, 0)
    assert sets == list(range(20))


@pytest.mark.parametrize("full_before", [0, 7, 8, 9, 20])
def test_full_disk_ends_the_recording_and_nothing_else(recorded, full_before):
    sink, sets, _ = recorded(full_before)
    assert sink.reason == "disk: recording stopped: No space left on device; the file is valid up to there"
    assert sets == list(range(len(sets))), "what was written before is there"
    assert len(sets) <= full_before
    assert 20 - len(sets) <= sink.lost_sets <= 20 - len(sets) + 1, "a set half of which is there counts as lost"


def record_ends(content):
    """Opcode and end of every record of a file."""
    position = len(MAGIC)
    while position < len(content) - len(MAGIC):
        opcode, length = struct.unpack_from("<BQ", content, position)
        position += 9 + length
        yield opcode, position


@pytest.mark.parametrize(
    "opcode", [Opcode.CHUNK, Opcode.MESSAGE_INDEX, Opcode.DATA_END, Opcode.STATISTICS, Opcode.FOOTER]
)
def test_file_is_valid_wherever_the_disk_is_full(recorded, opcode):
    """Where the end of the file does not fit, the last chunk makes room for it, and its sets are counted as lost."""
    whole = recorded()[2]
    ends = [end for kind, end in record_ends(whole) if kind == opcode]
    for more in (-1, 0, 7, 20, 49, 50):
        sink, sets, content = recorded(room_bytes=min(ends[len(ends) // 2] + more, len(whole) - 1))
        records = StreamReader(io.BytesIO(content), emit_chunks=True, validate_crcs=True).records
        *_, before_last, last = (type(record) for record in records)
        assert (before_last, last) == (DataEnd, Footer)
        assert [kind for kind, _ in record_ends(content)].count(Opcode.DATA_END) == 1
        assert sets == list(range(len(sets)))
        assert 20 - len(sets) <= sink.lost_sets <= 20 - len(sets) + 1, (more, sets)
        assert sink.reason == "disk: recording stopped: No space left on device; the file is valid up to there"
