"""Writing and reading a ring, within one process."""

from __future__ import annotations

import os
import queue
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from octobev import FrameRingReader, FrameRingWriter
from octobev._ext import seqlock
from octobev.errors import FrameOverwritten, FrameRingError, ImageError, InvalidArgument
from octobev.fusion.pose import Pose
from octobev.runtime.frames import Frame, PixelFormat
from octobev.runtime.ring import reader as reading
from octobev.runtime.ring.file import Ring
from octobev.runtime.ring.layout import HEAD_OFFSET, PAGE_BYTES

Numbered = Callable[..., Frame]
RNG = np.random.default_rng(5)
COLOUR = RNG.integers(0, 256, (6, 10, 3), dtype=np.uint8)


def writer(path: Path, slots: int = 4, payload_bytes: int = 8 * 8 * 3) -> FrameRingWriter:
    return FrameRingWriter(path, "front", payload_bytes=payload_bytes, slots=slots)


def poke(path: Path, offset: int, kind: str, value: int) -> None:
    """Write into the file of a ring behind its writer's back."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(kind, value))


@pytest.mark.parametrize(
    ("data", "pixel_format"),
    [
        (COLOUR, "bgr8"),
        (COLOUR[::-2, 1:7, ::-1], "rgb8"),
        (COLOUR[..., 1], "mono8"),
        (COLOUR[..., 1].copy(), "nv12"),
        (RNG.integers(0, 256, (18, 20), dtype=np.uint8)[::2, 4:14], "nv12"),
        (COLOUR[..., :2].copy(), "yuyv"),
        (RNG.integers(0, 256, (7, 20, 2), dtype=np.uint8)[::-1, 4:14], "yuyv"),
        (COLOUR[:1, :1], "bgr8"),
        (COLOUR.tobytes()[:77], "jpeg"),
        (memoryview(COLOUR.tobytes())[1:50], "jpeg"),
        (np.frombuffer(COLOUR.tobytes(), np.uint8)[5:60], "jpeg"),
        (b"\x89", "png"),
    ],
)
def test_a_frame_arrives_as_it_was_sent(path: Path, data: Any, pixel_format: str) -> None:
    pose = Pose.planar(12.5, -3.25, 1.0)
    sent = Frame("front", 1_700_000_000_123_456_789, data, PixelFormat(pixel_format), pose)
    with writer(path) as ring, FrameRingReader(path) as reader:
        assert ring.write(sent) == 0
        frame = reader.next_frame()
        assert frame is not None
        got = frame.copy()
    assert (frame.camera, frame.sequence, frame.missed, frame.epoch) == ("front", 0, 0, ring.epoch)
    assert (got.camera, got.timestamp_ns, got.pixel_format) == ("front", 1_700_000_000_123_456_789, pixel_format)
    np.testing.assert_array_equal(got.world_from_ego.matrix, pose.matrix)
    np.testing.assert_array_equal(got.array, sent.array)
    if sent.pixel_format.encoded:
        assert isinstance(got.data, bytes)
        np.testing.assert_array_equal(frame.data, sent.array)
    else:
        assert got.data.base is None
        assert got.data.shape == data.shape


def test_what_a_driver_may_write_is_read(path: Path) -> None:
    # gaps between rows, a larger payload than needed, no pose
    with writer(path) as ring, FrameRingReader(path) as reader:
        ring.write(Frame("front", 5, COLOUR[:4, :8]))
        slot = PAGE_BYTES
        poke(path, slot + 32, "<I", 5)  # width
        poke(path, slot + 36, "<I", 3)  # height
        poke(path, slot + 40, "<Q", 24)  # stride
        frame = reader.next_frame()
        assert frame is not None
        np.testing.assert_array_equal(frame.data, COLOUR[:3, :5])
        assert frame.data.strides == (24, 3, 1)
        assert frame.world_from_ego is None


def test_a_view_is_the_memory_of_the_ring(path: Path, numbered: Numbered) -> None:
    with writer(path) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(7))
        frame = reader.next_frame()
        assert frame is not None
        assert not frame.data.flags.writeable
        borrowed = frame.borrow()
        assert np.shares_memory(borrowed.data, frame.data)
        poke(path, PAGE_BYTES + PAGE_BYTES, "<B", 200)
        assert borrowed.data[0, 0, 0] == 200


def test_frames_come_in_order_around_the_ring(path: Path, numbered: Numbered) -> None:
    with writer(path, slots=3) as ring, FrameRingReader(path) as reader:
        for turn in range(10):
            for sequence in (2 * turn, 2 * turn + 1):
                assert ring.write(numbered(sequence)) == sequence
            for sequence in (2 * turn, 2 * turn + 1):
                frame = reader.next_frame()
                assert frame is not None
                assert (frame.sequence, frame.missed, frame.timestamp_ns) == (sequence, 0, sequence)
                assert (frame.copy().data == sequence).all()
            assert reader.next_frame() is None


def test_the_newest_frame_and_what_was_skipped(path: Path, numbered: Numbered) -> None:
    with writer(path, slots=4) as ring, FrameRingReader(path) as reader:
        assert reader.newest_frame() is None
        told = []
        for count in (1, 3, 9):
            for _ in range(count):
                ring.write(numbered(0))
            frame = reader.newest_frame()
            assert frame is not None
            told.append((frame.sequence, frame.missed))
            assert reader.newest_frame() is None
        assert told == [(0, 0), (3, 2), (12, 8)]


def test_a_reader_that_comes_late_begins_with_the_newest(path: Path, numbered: Numbered) -> None:
    with writer(path, slots=4) as ring:
        for sequence in range(3):
            ring.write(numbered(sequence))
        with FrameRingReader(path) as reader:
            frame = reader.next_frame()
            assert frame is not None
            assert (frame.sequence, frame.missed) == (2, 0)
            assert reader.next_frame() is None


def test_a_reader_that_waited_for_the_ring_gets_its_first_frame(path: Path, numbered: Numbered) -> None:
    with FrameRingReader(path) as reader:
        assert (reader.attached, reader.camera, reader.epoch, reader.writer_alive()) == (False, None, None, False)
        assert reader.next_frame(0.001) is None
        with writer(path) as ring:
            ring.write(numbered(0))
            ring.write(numbered(1))
            frame = reader.next_frame()
            assert frame is not None
            assert (frame.sequence, frame.missed) == (0, 0)
            assert (reader.attached, reader.camera, reader.epoch) == (True, "front", ring.epoch)
            assert reader.writer_alive()


@pytest.mark.parametrize("written", [5, 6, 100])
def test_an_overtaken_reader_goes_on_with_the_newest_and_is_told(path: Path, numbered: Numbered, written: int) -> None:
    with writer(path, slots=4) as ring, FrameRingReader(path) as reader:
        for sequence in range(written):
            ring.write(numbered(sequence))
        frame = reader.next_frame()
        assert frame is not None
        assert (frame.sequence, frame.missed) == (written - 1, written - 1)
        ring.write(numbered(written))
        after = reader.next_frame()
        assert after is not None
        assert (after.sequence, after.missed) == (written, 0)


def test_a_full_ring_is_not_overtaken(path: Path, numbered: Numbered) -> None:
    with writer(path, slots=4) as ring, FrameRingReader(path) as reader:
        for sequence in range(4):
            ring.write(numbered(sequence))
        frame = reader.next_frame()
        assert frame is not None
        assert (frame.sequence, frame.missed) == (0, 0)


def test_a_frame_is_valid_until_its_slot_is_used_again(path: Path, numbered: Numbered) -> None:
    with writer(path, slots=3) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(0))
        frame = reader.next_frame()
        assert frame is not None
        for sequence in (1, 2):
            ring.write(numbered(sequence))
            assert frame.still_valid()
            frame.check()
        ring.write(numbered(3))
        assert not frame.still_valid()
        message = "frame 0 of ring front was overwritten while it was read, 4 are written: copy frames"
        for use in (frame.check, frame.copy):
            with pytest.raises(FrameOverwritten, match=message):
                use()
        for sequence in range(4, 10):  # also when a frame is there again that could be taken for it
            ring.write(numbered(sequence))
            assert not frame.still_valid()


def test_the_context_checks_at_its_end(path: Path, numbered: Numbered) -> None:
    with writer(path, slots=2) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(0))
        frame = reader.next_frame()
        assert frame is not None
        with frame as same:
            assert same is frame
            ring.write(numbered(1))
        with pytest.raises(FrameOverwritten, match="frame 0 of ring front"), frame:
            ring.write(numbered(2))


def test_an_exception_inside_of_the_context_stays_and_is_explained(path: Path, numbered: Numbered) -> None:
    def fail(frame: Any) -> list[str]:
        with pytest.raises(ZeroDivisionError) as caught, frame:
            raise ZeroDivisionError
        return getattr(caught.value, "__notes__", [])

    with writer(path, slots=2) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(0))
        frame = reader.next_frame()
        assert fail(frame) == []
        ring.write(numbered(1))
        ring.write(numbered(2))
        (note,) = fail(frame)
        assert "frame 0 of ring front was overwritten" in note


def test_a_copy_that_is_overtaken_in_the_middle_is_refused(path: Path, numbered: Numbered) -> None:
    with writer(path, slots=2) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(0))
        frame = reader.next_frame()
        assert frame is not None

        class Overtaken(np.ndarray):
            def copy(self, order: Any = "C") -> Any:
                half = np.array(self)
                ring.write(numbered(1))
                ring.write(numbered(2))
                half[4:] = self[4:]
                return half

        object.__setattr__(frame, "data", frame.data.view(Overtaken))
        with pytest.raises(FrameOverwritten, match="frame 0"):
            frame.copy()


def test_a_header_that_is_overtaken_in_the_middle_is_not_believed(
    path: Path, numbered: Numbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer(path, slots=2) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(0))
        load = seqlock.load_acquire

        def overtake(words: Any, index: int) -> int:
            value = load(words, index)
            if index == PAGE_BYTES // 8 and value == 2:  # the lock of frame 0
                ring.write(numbered(1))
                ring.write(numbered(2))
            return value

        monkeypatch.setattr(seqlock, "load_acquire", overtake)
        frame = reader.next_frame()
        assert frame is not None
        assert (frame.sequence, frame.missed, frame.timestamp_ns, frame.data[0, 0, 0]) == (2, 2, 2, 2)


def test_a_slot_is_not_shown_while_it_is_written(
    path: Path, numbered: Numbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    with writer(path, slots=2) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(0))
        held = reader.next_frame()
        assert held is not None
        ring.write(numbered(1))

        def look(to: Any, data: Any) -> None:
            with FrameRingReader(path) as late:
                newest, next_one = late.next_frame(), reader.next_frame()
            seen.extend([newest.sequence, newest.copy().data[0, 0, 0], held.still_valid(), next_one.sequence])
            to[...] = data

        monkeypatch.setattr(np, "copyto", look)
        ring.write(numbered(2))
        monkeypatch.undo()
        frame = reader.next_frame()
        assert frame is not None
        assert (seen, frame.sequence) == ([1, 1, False, 1], 2)


def test_a_write_that_fails_in_the_middle_is_not_seen(
    path: Path, numbered: Numbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(to: Any, data: Any) -> None:
        raise MemoryError

    with writer(path, slots=2) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(0))
        monkeypatch.setattr(np, "copyto", fail)
        with pytest.raises(MemoryError):
            ring.write(numbered(1))
        monkeypatch.undo()
        frame = reader.next_frame()
        assert frame is not None
        assert frame.copy().timestamp_ns == 0
        assert reader.next_frame() is None
        assert ring.write(numbered(1)) == 1
        frame = reader.next_frame()
        assert frame is not None
        assert (frame.copy().timestamp_ns, frame.missed) == (1, 0)


def test_views_outlive_everybody(path: Path, numbered: Numbered) -> None:
    with writer(path) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(9))
        frame = reader.next_frame()
        assert frame is not None
    assert (frame.data == 9).all()
    assert frame.still_valid()


def test_nothing_of_a_closed_ring_is_lost(path: Path, numbered: Numbered) -> None:
    with writer(path) as ring, FrameRingReader(path) as reader:
        for sequence in range(3):
            ring.write(numbered(sequence))
        ring.close()
        assert not path.exists()
        frames = [reader.next_frame() for _ in range(4)]
        assert [frame and frame.sequence for frame in frames] == [0, 1, 2, None]
        assert not reader.attached


def test_the_last_frame_before_the_end_is_not_lost(
    path: Path, numbered: Numbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It comes after the reader has found nothing, and before the reader looks whether the ring is still there.
    with writer(path) as ring, FrameRingReader(path) as reader:
        removed = Ring.removed

        def end(self: Ring) -> bool:
            monkeypatch.setattr(Ring, "removed", removed)
            ring.write(numbered(0))
            ring.close()
            return self.removed()

        monkeypatch.setattr(Ring, "removed", end)
        frame = reader.next_frame()
        assert frame is not None
        assert frame.sequence == 0
        assert reader.next_frame() is None


def test_a_new_writer_is_a_new_epoch(path: Path, numbered: Numbered) -> None:
    with FrameRingReader(path) as reader:
        with writer(path, slots=4) as first:
            first.write(numbered(0))
            first.write(numbered(1))
            old = reader.next_frame()
        with FrameRingWriter(path, "front", payload_bytes=10_000, slots=2) as second:
            second.write(numbered(50, side=40))
            rest, new = reader.next_frame(), reader.next_frame()
        assert old is not None
        assert rest is not None
        assert new is not None
        assert [old.sequence, rest.sequence, new.sequence] == [0, 1, 0]
        assert old.epoch == rest.epoch == first.epoch < second.epoch == new.epoch
        assert (old.data == 0).all()
        assert old.still_valid()
        assert new.data.shape == (40, 40, 3)


def test_a_reader_that_waits_is_woken(path: Path, numbered: Numbered, monkeypatch: pytest.MonkeyPatch) -> None:
    # It does not look by itself, so a frame that wakes nobody would stay unseen.
    monkeypatch.setattr(reading, "_SLICE_S", 3600.0)
    taken: queue.Queue[int | None] = queue.Queue()

    def take() -> None:
        with FrameRingReader(path) as reader:
            for _ in range(50):
                taken.put(None)
                frame = reader.next_frame(3600)
                taken.put(frame and frame.sequence)

    with writer(path) as ring:
        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        for sequence in range(50):
            assert taken.get(timeout=60) is None
            ring.write(numbered(sequence))
            assert taken.get(timeout=60) == sequence
        thread.join(60)


def test_descriptors_and_mappings_end(path: Path, numbered: Numbered) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count(str(path))

    before = held()
    for _ in range(5):
        with writer(path) as ring, FrameRingReader(path) as reader:
            ring.write(numbered(0))
            frame = reader.next_frame()
            assert held()[1] == before[1] + 2
    assert frame is not None
    assert held()[1] == before[1] + 1  # the view holds its ring
    del frame, ring, reader
    assert held() == before


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame("rear", 5, COLOUR), "camera of a frame must be front, got rear"),
        (Frame("front", 5, np.zeros((9, 8, 3), np.uint8)), "frame must be at most 192 bytes, got 216"),
        (Frame("front", 5, bytes(193), PixelFormat.JPEG), "frame must be at most 192 bytes, got 193"),
    ],
)
def test_frames_that_do_not_fit_are_refused(path: Path, numbered: Numbered, frame: Frame, message: str) -> None:
    with writer(path) as ring, FrameRingReader(path) as reader:
        with pytest.raises(InvalidArgument, match=message):
            ring.write(frame)
        assert reader.next_frame() is None
        assert ring.write(numbered(0)) == 0


def test_closed_ends_refuse_work(path: Path, numbered: Numbered) -> None:
    ring, reader = writer(path), FrameRingReader(path)
    for end in (ring, reader):
        end.close()
        end.close()
    with pytest.raises(InvalidArgument, match="writer must be open, got a closed one"):
        ring.write(numbered(0))
    with pytest.raises(InvalidArgument, match="reader must be open, got a closed one"):
        reader.next_frame()


def test_a_frame_that_cannot_be_is_refused_alone(path: Path, numbered: Numbered) -> None:
    with writer(path) as ring, FrameRingReader(path) as reader:
        for sequence in range(2):
            ring.write(numbered(sequence))
        poke(path, PAGE_BYTES + 24, "<I", 99)
        with pytest.raises(ImageError, match=r"ring .*, frame 0: pixel format must be one of 1, .*, 7, got 99"):
            reader.next_frame()
        frame = reader.next_frame()
        assert frame is not None
        assert (frame.sequence, frame.missed) == (1, 0)


@pytest.mark.parametrize("head", [2, 2**63, 2**64 - 1])
def test_a_head_without_frames_is_damage(path: Path, numbered: Numbered, head: int) -> None:
    with writer(path) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(0))
        poke(path, HEAD_OFFSET, "<Q", head)
        with pytest.raises(FrameRingError, match=f"slot of frame {head - 1} must be written before it is shown"):
            reader.newest_frame()


def test_a_head_that_goes_back_is_damage(path: Path, numbered: Numbered) -> None:
    with writer(path) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(0))
        assert reader.next_frame() is not None
        poke(path, HEAD_OFFSET, "<Q", 0)
        with pytest.raises(FrameRingError, match="frames written must be at least 1, got 0"):
            reader.next_frame()


def test_a_head_that_stands_still_while_slots_change_is_damage(path: Path, numbered: Numbered) -> None:
    with writer(path) as ring, FrameRingReader(path) as reader:
        ring.write(numbered(0))
        poke(path, PAGE_BYTES, "<Q", 2**64 - 1)
        with pytest.raises(FrameRingError, match="newest frame must be readable, got overwritten 1000 times"):
            reader.next_frame()
