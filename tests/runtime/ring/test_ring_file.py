"""Whose a ring is, who may read it, and who removes it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from octobev import FrameRingReader, FrameRingWriter
from octobev.errors import EndpointError, FrameRingError, InvalidArgument
from octobev.runtime.frames import Frame
from octobev.runtime.ring import file as ring_file
from octobev.runtime.ring.file import SHARED_FOLDER, remove_abandoned, ring_path
from octobev.runtime.ring.layout import MAGIC, PAGE_BYTES

FRAME = Frame("front", 5, np.zeros((8, 8, 3), np.uint8))


def writer(path: Path | str, mode: int = 0o600) -> FrameRingWriter:
    return FrameRingWriter(path, "front", payload_bytes=192, slots=3, mode=mode)


@pytest.fixture
def abandoned(path: Path) -> Path:
    """A ring whose writer is dead: nobody has its lock."""
    with writer(path) as ring:
        ring.write(FRAME)
        content = path.read_bytes()
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers who try once."""
    monkeypatch.setattr(ring_file, "_PATIENCE_S", 0.0)


def test_a_name_is_a_file_in_shared_memory() -> None:
    name = f"test-{uuid.uuid4().hex}"
    folder = SHARED_FOLDER if SHARED_FOLDER.is_dir() else ring_path(name).parent
    with writer(name) as ring, FrameRingReader(name) as reader:
        assert ring.path == reader.path == folder / f"octobev-{name}"
        ring.write(FRAME)
        assert reader.next_frame() is not None
    assert not ring.path.exists()


def test_the_examples_of_the_document_run_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Path(__file__).parents[3] / "docs" / "frame-ring.md"
    driver, runtime = re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}

    def camera() -> Iterator[tuple[int, Any]]:
        yield 5, np.full((960, 1280, 3), 7, np.uint8)
        exec(runtime, names)

    monkeypatch.setattr(ring_file, "SHARED_FOLDER", tmp_path)
    exec(driver, {"camera": camera()})
    assert (names["mean"], names["own"].timestamp_ns) == (7, 5)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a\0b"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidArgument, match="name of a ring must be a file name or a path, got"):
        ring_path(name)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_the_file_has_its_mode_whatever_the_umask_says(path: Path, mode: int) -> None:
    before = os.umask(0o777)
    try:
        ring = writer(path, mode)
    finally:
        os.umask(before)
    with ring, FrameRingReader(path) as reader:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert reader.attached


@pytest.mark.parametrize("mode", [0o660, 0o666, 0o400, 0o700, 0])
def test_other_modes_are_refused(path: Path, mode: int) -> None:
    with pytest.raises(InvalidArgument, match=f"mode of a ring must be 0600, 0640 or 0644, got {mode:04o}"):
        writer(path, mode)
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_ring_that_others_may_write_is_not_read(path: Path, mode: int) -> None:
    with writer(path):
        path.chmod(mode)
        with pytest.raises(EndpointError, match=r"ring must be writable for its owner only, got -rw"):
            FrameRingReader(path)


def test_a_ring_of_somebody_else_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.geteuid()
    with writer(path):
        with pytest.raises(EndpointError, match=f"owner of the ring must be user {me + 1}, got user {me}"):
            FrameRingReader(path, writer_uid=me + 1)
        FrameRingReader(path, writer_uid=me).close()
        if me:
            monkeypatch.setattr(os, "geteuid", lambda: me + 1)
            with pytest.raises(EndpointError, match=f"owner of the ring must be user 0 or user {me + 1}"):
                FrameRingReader(path)


def test_no_permission_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(EndpointError, match="cannot read the ring: Permission denied"):
        FrameRingReader(path)
    with pytest.raises(EndpointError, match="cannot make the ring: Permission denied"):
        writer(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none" / "ring"
    with FrameRingReader(path) as reader:
        assert reader.next_frame() is None
    with pytest.raises(EndpointError, match="cannot make the ring: No such file or directory"):
        writer(path)


def test_no_room_is_said_at_once_and_nothing_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(EndpointError, match=r"no room for a ring of 0.0 MB: No space left .*docker run --shm-size"):
        writer(path)
    assert not path.exists()


def test_a_ring_has_one_writer(path: Path, impatient: None) -> None:
    with writer(path) as ring, FrameRingReader(path) as reader:
        with pytest.raises(EndpointError, match="ring in use: another writer has it"):
            writer(path)
        ring.write(FRAME)
        assert reader.next_frame() is not None
        assert reader.writer_alive()
    writer(path).close()


def test_the_ring_of_a_dead_writer_is_replaced(abandoned: Path) -> None:
    with FrameRingReader(abandoned) as reader:
        old = reader.next_frame()
        assert not reader.writer_alive()
        with writer(abandoned) as ring:
            ring.write(FRAME)
            new = reader.next_frame()
            assert reader.writer_alive()
    assert old is not None
    assert new is not None
    assert old.epoch < new.epoch == ring.epoch
    assert not abandoned.exists()


def test_the_ring_of_a_dead_writer_goes_with_its_reader(abandoned: Path) -> None:
    FrameRingReader(abandoned).close()
    assert not abandoned.exists()


def test_the_ring_of_a_living_writer_stays(path: Path) -> None:
    with writer(path) as ring:
        FrameRingReader(path).close()
        assert not remove_abandoned(path)
        assert path.exists()
        ring.write(FRAME)


@pytest.mark.parametrize("content", [b"", bytes(8), bytes(PAGE_BYTES), bytes(3 * PAGE_BYTES)])
def test_what_a_writer_left_that_died_while_it_made_a_ring(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    with FrameRingReader(path) as reader:
        assert reader.next_frame() is None
        assert not reader.attached
        with writer(path) as ring:
            ring.write(FRAME)
            assert reader.next_frame() is not None
    path.write_bytes(content)
    path.chmod(0o600)
    FrameRingReader(path).close()
    assert not path.exists()


@pytest.mark.parametrize("content", [b"OCTORIN", b"my dear diary", b"my dear diary" * 1000])
def test_what_is_no_ring_stays(path: Path, content: bytes, impatient: None) -> None:
    path.write_bytes(content)
    with pytest.raises(FrameRingError, match="file must be a frame ring, got something else"):
        FrameRingReader(path)
    with pytest.raises(FrameRingError, match="file must be a frame ring or not there, got something else"):
        writer(path)
    assert not remove_abandoned(path)
    assert path.read_bytes() == content


def test_pipes_and_folders_are_no_rings(tmp_path: Path, impatient: None) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FrameRingError, match="file must be a frame ring, got something else"):
        FrameRingReader(tmp_path / "pipe")
    with pytest.raises(FrameRingError, match="file must be a frame ring or not there"):
        writer(tmp_path / "pipe")
    with pytest.raises(EndpointError, match="cannot read the ring: Is a directory"):
        FrameRingReader(tmp_path / "folder")
    with pytest.raises(EndpointError, match="cannot make the ring: it exists, and: Is a directory"):
        writer(tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


def test_links_are_not_followed(path: Path, tmp_path: Path, impatient: None) -> None:
    with writer(path):
        link = tmp_path / "link"
        link.symlink_to(path)
        with pytest.raises(EndpointError, match="cannot read the ring: Too many levels of symbolic links"):
            FrameRingReader(link)
        with pytest.raises(EndpointError, match="cannot make the ring: it exists, and: Too many levels"):
            writer(link)


def test_an_old_ring_of_somebody_else_is_named(
    abandoned: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    me = os.geteuid()
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(EndpointError, match=f"ring must be that of user {me + 1}, got that of user {me}"):
        writer(abandoned)


@pytest.mark.parametrize(
    ("offset", "kind", "value", "message"),
    [
        (8, "<I", 2, "version of the ring must be 1, got 2"),
        (48, "<I", 4, "damaged header: sizes"),
        (24, "<Q", 2**63, "damaged header: sizes"),
    ],
)
def test_rings_of_another_version_and_damaged_ones_are_refused(
    path: Path, offset: int, kind: str, value: int, message: str
) -> None:
    with writer(path), FrameRingReader(path) as early:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(struct.pack(kind, value))
        with pytest.raises(FrameRingError, match=message):
            FrameRingReader(path)
        assert early.next_frame() is None


def test_a_ring_that_was_cut_is_refused(abandoned: Path) -> None:
    os.truncate(abandoned, PAGE_BYTES)
    with pytest.raises(FrameRingError, match="damaged header: sizes"):
        FrameRingReader(abandoned)
    assert abandoned.read_bytes()[:8] == MAGIC


def test_a_ring_of_another_camera_is_refused(path: Path) -> None:
    with FrameRingReader(path, "rear") as waiting, writer(path):
        with pytest.raises(FrameRingError, match="camera must be rear, got 'front'"):
            FrameRingReader(path, "rear")
        with pytest.raises(FrameRingError, match="camera must be rear, got 'front'"):
            waiting.next_frame()
        FrameRingReader(path, "front").close()


def test_a_writer_whose_ring_was_deleted_says_so(path: Path) -> None:
    with writer(path) as ring, FrameRingReader(path) as reader:
        path.unlink()
        with pytest.raises(EndpointError, match=r"somebody deleted it .* make a new writer"):
            ring.write(FRAME)
        with writer(path) as new:
            ring.close()
            assert path.exists()  # it is the new writer's now
            new.write(FRAME)
            frame = reader.next_frame()
        assert frame is not None
        assert frame.epoch == new.epoch


def test_a_forked_writer_refuses_and_leaves_the_ring_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.getpid()
    ring = writer(path)
    monkeypatch.setattr(os, "getpid", lambda: mine + 1)
    with pytest.raises(EndpointError, match=f"process must be {mine}, which made the writer, got {mine + 1}"):
        ring.write(FRAME)
    ring.close()
    assert path.exists()


def test_a_new_file_that_was_taken_for_an_old_one_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A reader that closes comes between the making of the file and its lock.
    real, removed = fcntl.flock, []

    def late(file: Any, operation: int) -> None:
        if not removed and file.mode == "rb+":
            removed.append(remove_abandoned(path))
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with writer(path) as ring:
        assert removed == [True]
        ring.write(FRAME)
        with FrameRingReader(path) as reader:
            assert reader.next_frame() is not None


def test_a_lock_that_a_reader_holds_for_a_moment_is_waited_for(
    abandoned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The moment ends at the third try.
    tries = []

    def busy(file: Any, operation: int, real: Callable[..., None] = fcntl.flock) -> None:
        tries.append(operation)
        if len(tries) < 3:
            raise BlockingIOError
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", busy)
    with writer(abandoned) as ring:
        assert len(tries) > 3
        ring.write(FRAME)
