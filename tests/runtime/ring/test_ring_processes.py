"""A ring between processes, some of which are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from octobev import FrameRingReader, FrameRingWriter
from octobev.errors import FrameOverwritten
from octobev.runtime.frames import Frame

Start = Callable[..., "subprocess.Popen[str]"]
Line = Callable[["subprocess.Popen[str]"], str]
Tell = Callable[["subprocess.Popen[str]"], None]

DRIVER = Path(__file__).parents[3] / "examples" / "frame_ring_writer.cpp"
COMPILER = shutil.which("g++") or shutil.which("c++")


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("read", ["copy", "view"])
def test_no_frame_is_torn_while_a_writer_writes_as_fast_as_it_can(
    path: Path, start: Start, line: Line, read: str
) -> None:
    writer = start("write_for_ever", path, 2, 256)
    line(writer)
    whole, refused, last = 0, 0, -1
    with FrameRingReader(path) as reader:
        while whole < 200 or refused < 20:
            frame = reader.newest_frame(60)
            assert frame is not None
            try:
                if read == "copy":
                    data = frame.copy().data
                    least, most = data.min(), data.max()
                else:
                    with frame:
                        least, most = frame.data.min(), frame.data.max()
            except FrameOverwritten:
                refused += 1
                continue
            whole += 1
            assert least == most == frame.sequence % 251
            assert frame.timestamp_ns == frame.sequence > last
            assert frame.world_from_ego is not None
            assert tuple(frame.world_from_ego.translation_m) == (frame.sequence, -frame.sequence, 0)
            last = frame.sequence
    assert writer.poll() is None


def test_a_writer_is_killed_and_leaves_nothing(path: Path, start: Start, line: Line) -> None:
    for _ in range(3):
        writer = start("write_for_ever", path, 4, 32)
        line(writer)
        with FrameRingReader(path) as reader:
            assert reader.writer_alive()
            kill(writer)
            assert not reader.writer_alive()
            frame = reader.newest_frame()
            assert frame is not None
            assert (frame.copy().data == frame.sequence % 251).all()
            assert path.exists()
        assert os.listdir(path.parent) == []


def test_a_frame_whose_writer_was_killed_in_the_middle_is_never_seen(path: Path, start: Start, line: Line) -> None:
    writer = start("write_half", path, 3, 5)
    assert line(writer) == "half"
    with FrameRingReader(path) as reader:
        newest = reader.newest_frame()
        assert newest is not None
        kill(writer)
        assert newest.sequence == 4
        assert (newest.copy().data == 4).all()
        assert reader.next_frame() is None
        assert not reader.writer_alive()
        # the slots of 2 .. 4 remain; that of 2 is the one that was being written
        again = [reader_at(path, sequence) for sequence in (2, 3, 4)]
        assert again == [4, 3, 4]


def reader_at(path: Path, sequence: int) -> int | None:
    """Which frame a reader gets that has read everything before this one."""
    reader = FrameRingReader(path)
    reader._cursor = sequence
    frame = reader.next_frame()
    reader._detach()
    return frame and frame.sequence


def test_a_writer_that_starts_again_is_followed(path: Path, start: Start, line: Line, tell: Tell) -> None:
    reader = FrameRingReader(path, "front")
    epochs, told = [], []
    with reader:
        for _ in range(2):
            writer = start("write_some", path, 4, 3)
            assert line(writer) == "made"
            tell(writer)
            assert line(writer) == "written"
            kill(writer)
            for _ in range(3):
                frame = reader.next_frame(60)
                assert frame is not None
                told.append((frame.sequence, frame.missed))
                epochs.append(frame.epoch)
            assert reader.next_frame() is None
        with FrameRingWriter(path, "front", payload_bytes=99, slots=2) as own:
            assert reader.next_frame() is None
            assert reader.epoch == own.epoch > epochs[-1]
    assert told == [(0, 0), (1, 0), (2, 0)] * 2
    assert len(set(epochs)) == 2
    assert epochs == sorted(epochs)
    assert not path.exists()


def test_several_readers_get_every_frame(path: Path, start: Start, line: Line, tell: Tell) -> None:
    readers = [start("read", path, 5) for _ in range(3)]
    assert [line(reader) for reader in readers] == ["ready"] * 3
    writer = start("write_some", path, 5, 5)
    assert line(writer) == "made"
    tell(writer)
    for reader in readers:
        assert [line(reader) for _ in range(5)] == [f"{sequence} 0" for sequence in range(5)]
    tell(writer)
    assert [line(writer), line(writer)] == ["written", "closed"]
    for reader in readers:
        tell(reader)
        assert reader.wait() == 0
    assert not path.exists()


def test_readers_that_hang_or_are_killed_do_not_matter(
    path: Path, start: Start, line: Line, numbered: Callable[..., Frame]
) -> None:
    with FrameRingWriter(path, "front", payload_bytes=192, slots=3) as writer, FrameRingReader(path) as other:
        writer.write(numbered(0))
        holders = [start("hold", path) for _ in range(2)]
        assert [line(holder) for holder in holders] == ["holding 0"] * 2
        holders[0].send_signal(signal.SIGSTOP)
        for sequence in range(1, 10):
            assert writer.write(numbered(sequence)) == sequence
            frame = other.newest_frame()
            assert frame is not None
            assert frame.sequence == sequence
        for holder in holders:
            kill(holder)
        writer.write(numbered(10))
        frame = other.next_frame()
        assert frame is not None
        assert (frame.copy().data == 10).all()
        assert os.listdir(path.parent) == ["ring"]
    assert os.listdir(path.parent) == []


def test_another_process_cannot_write_too(path: Path, start: Start, line: Line) -> None:
    with FrameRingWriter(path, "front", payload_bytes=192):
        text = line(start("try_to_write", path))
        assert text == f"EndpointError: {path}: ring in use: another writer has it"
    assert line(start("try_to_write", path)) == "made"


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in C++, compiled."""
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    program = tmp_path_factory.mktemp("driver") / "frame_ring_writer"
    warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
    subprocess.run([COMPILER, "-std=c++17", "-O2", *warnings, "-o", program, DRIVER], check=True)
    return program


def test_a_driver_in_cpp_is_read(path: Path, start: Start, line: Line, driver: Path) -> None:
    with FrameRingReader(path, "front main") as reader:
        process = start(path, "front main", 50, 30, 7, 0, command=(driver,))
        y, x = np.indices((30, 50))
        for sequence in range(7):
            frame = reader.next_frame(60)
            assert frame is not None
            own = frame.copy()
            np.testing.assert_array_equal(own.data[..., 0], x + sequence)
            np.testing.assert_array_equal(own.data[..., 1], y)
            assert (own.data[..., 2] == sequence).all()
            assert (frame.sequence, frame.missed, frame.data.strides[0]) == (sequence, 0, 192)
        assert line(process) == "done"
        assert reader.next_frame() is None
        assert reader.writer_alive()
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
        assert not path.exists()
        assert reader.next_frame() is None
        assert not reader.attached


@pytest.mark.parametrize("pixel_format", ["nv12", "yuyv"])
def test_yuv_of_a_driver_in_cpp_is_read(path: Path, start: Start, driver: Path, pixel_format: str) -> None:
    with FrameRingReader(path, "front") as reader:
        start(path, "front", 50, 30, 7, 0, pixel_format, command=(driver,))
        y, x = np.indices((30, 50))
        for sequence in range(7):
            frame = reader.next_frame(60)
            assert frame is not None
            own = frame.copy()
            assert (own.pixel_format, own.size, frame.sequence) == (pixel_format, (50, 30), sequence)
            colour = np.where(x % 2, sequence, y)
            if pixel_format == "nv12":
                np.testing.assert_array_equal(own.array[:30], x + sequence)
                np.testing.assert_array_equal(own.array[30:], colour[::2])
            else:
                np.testing.assert_array_equal(own.array, np.stack((x + sequence, colour), axis=-1))


def test_drivers_in_cpp_that_are_killed_leave_nothing(path: Path, start: Start, line: Line, driver: Path) -> None:
    with FrameRingReader(path) as reader:
        for _ in range(10):
            process = start(path, "front", 64, 48, 10**9, 0, command=(driver,))
            assert reader.next_frame(60) is not None
            assert reader.writer_alive()
            kill(process)
            assert not reader.writer_alive()
            while (frame := reader.next_frame()) is not None:
                assert (frame.copy().data[..., 2] == frame.sequence % 256).all()
            assert os.listdir(path.parent) == ["ring"]
    assert os.listdir(path.parent) == []


def test_drivers_in_cpp_keep_to_one_writer(path: Path, start: Start, driver: Path) -> None:
    arguments = [str(path), "front", "64", "48", "1", "0"]
    with FrameRingWriter(path, "front", payload_bytes=192):
        done = subprocess.run([driver, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, f"{path}: another writer has this ring\n")
    path.write_text("my dear diary")
    done = subprocess.run([driver, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert path.read_text() == "my dear diary"
