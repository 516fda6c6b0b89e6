"""The file of a frame ring: who may make it, who may read it, and who removes it.

One rule makes this safe without a lock that could be left behind: **the name of a ring is changed only by who holds
the exclusive `flock` of the file that has it**. A writer holds that of its own ring as long as it lives; the kernel
releases it when the writer dies, however it dies.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..._ext import seqlock
from ...errors import EndpointError, FrameRingError, InvalidArgument, MissingDependency, expected
from .layout import HEAD_OFFSET, MAGIC, PAGE_BYTES, RingHeader

try:
    import fcntl
except ImportError as error:  # Windows
    raise MissingDependency("frame rings need flock, which this operating system has not") from error

SHARED_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - the system's shared memory; files there are opened with care
NAME_PREFIX: Final = "octobev-"
READABLE_MODES: Final = (0o600, 0o640, 0o644)

_PATIENCE_S: Final = 0.5
"""How long a writer tries for a lock that a reader may hold for some microseconds."""

_MAGIC_WORD: Final = int.from_bytes(MAGIC, "little")
_HEAD_WORD: Final = HEAD_OFFSET // 8


class Ring:
    """A mapped ring: its header, its words for ordered access, its memory.

    Views of the memory keep the mapping alive, also after :meth:`close`.
    """

    def __init__(self, file: FileIO, header: RingHeader, memory: mmap.mmap) -> None:
        self.file = file
        self.header = header
        self.memory: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
        self.words: NDArray[np.uint64] = self.memory.view(np.uint64)

    def head(self) -> int:
        """How many frames were written so far."""
        return seqlock.load_acquire(self.words, _HEAD_WORD)

    def set_head(self, count: int) -> None:
        """Show one more frame, and wake those who wait for it."""
        seqlock.store_release(self.words, _HEAD_WORD, count)
        seqlock.wake(self.words, _HEAD_WORD)

    def wait(self, count: int, seconds: float) -> None:
        """Wait until the head is no longer `count`, or for no reason, at most so long."""
        seqlock.wait_while(self.words, _HEAD_WORD, count, int(seconds * 1e9))

    def removed(self) -> bool:
        """Whether the ring has lost its name: closed by its writer, replaced, or deleted."""
        return os.fstat(self.file.fileno()).st_nlink == 0

    def close(self) -> None:
        """Give up the file. The mapping ends with its last view."""
        self.file.close()


def ring_path(ring: str | os.PathLike[str]) -> Path:
    """The file of a ring: of `front`, `/dev/shm/octobev-front`; a path with a slash stays what it is."""
    text = os.fspath(ring)
    if os.sep in text:
        return Path(text)
    if not text or text.startswith(".") or "\0" in text:
        raise InvalidArgument(expected("name of a ring", "a file name or a path", repr(text)))
    folder = SHARED_FOLDER if SHARED_FOLDER.is_dir() else Path(tempfile.gettempdir())
    return folder / f"{NAME_PREFIX}{text}"


def create_ring(path: Path, header: RingHeader, mode: int) -> Ring:
    """Make a ring and take its lock; what a dead writer left at the same place is removed.

    Raises
    ------
    EndpointError
        A living writer has this ring, or there is no permission or no memory for it.
    FrameRingError
        Something that is no ring has this name.
    """
    if mode not in READABLE_MODES:
        raise InvalidArgument(expected("mode of a ring", "0600, 0640 or 0644", f"{mode:04o}"))
    refuse_big_endian()
    file = _create_locked(path)
    try:
        os.fchmod(file.fileno(), mode)
        _allocate(file, header.file_bytes, path)
        memory = mmap.mmap(file.fileno(), header.file_bytes)
        ring = Ring(file, header, memory)
        packed = header.pack()
        memory[len(MAGIC) : len(MAGIC) + len(packed)] = packed
        seqlock.store_release(ring.words, 0, _MAGIC_WORD)
    except BaseException as error:
        remove_locked(path, file)
        file.close()
        if isinstance(error, OSError) and not isinstance(error, EndpointError):
            raise EndpointError(f"{path}: cannot make the ring: {error.strerror}") from error
        raise
    return ring


def open_ring(path: Path, writer_uid: int | None) -> Ring | None:
    """Map a ring for reading; None where there is none, or none that is ready.

    Raises
    ------
    EndpointError
        No permission to read it, or others than its owner may write to it, or its owner is not to be trusted.
    FrameRingError
        Not a ring, or one of another version, or damaged.
    """
    refuse_big_endian()
    try:
        file = _open(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EndpointError(f"{path}: cannot read the ring: {error.strerror}") from error
    try:
        ring = _map(path, file, writer_uid)
    except BaseException:
        file.close()
        raise
    if ring is None:
        file.close()
    return ring


def has_writer(file: FileIO) -> bool:
    """Whether a living process holds the lock of a ring."""
    with _locked(file) as locked:
        return not locked


def remove_abandoned(path: Path) -> bool:
    """Remove the file of a ring whose writer died. Return whether there was one and it is gone.

    A ring with a living writer, and whatever is no ring, stays.
    """
    try:
        file = _open(path)
    except OSError:
        return False
    with file, _locked(file) as locked:
        return locked and _is_ring(file) and remove_locked(path, file)


def refuse_big_endian() -> None:
    """Raise where the processor could not share a ring with a little-endian one."""
    if sys.byteorder != "little":
        raise EndpointError("frame rings need a little-endian processor")


def remove_locked(path: Path, file: FileIO) -> bool:
    """Remove a file that this process has locked, unless its name is already another file's; say whether it is gone."""
    try:
        if not os.path.samestat(os.lstat(path), os.fstat(file.fileno())):
            return False
        path.unlink()
    except OSError:  # gone already, or somebody else's in a sticky folder
        return False
    return True


def _create_locked(path: Path) -> FileIO:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        remove_abandoned(path)
        try:
            file = _open(path, "r+", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError as error:
            if time.monotonic() > deadline:
                raise _taken(path) from error
            time.sleep(0.001)
            continue
        except OSError as error:
            raise EndpointError(f"{path}: cannot make the ring: {error.strerror}") from error
        # Between these two lines somebody may have taken the unlocked file for one that was left behind.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink:
                return file
        file.close()


def _taken(path: Path) -> EndpointError | FrameRingError:
    """Why a name cannot be had."""
    try:
        with _open(path) as file:
            if not _is_ring(file):
                return FrameRingError(f"{path}: " + expected("file", "a frame ring or not there", "something else"))
            owner, alive = os.fstat(file.fileno()).st_uid, has_writer(file)
    except OSError as error:
        return EndpointError(f"{path}: cannot make the ring: it exists, and: {error.strerror}")
    if owner != os.geteuid() and not alive:
        return EndpointError(f"{path}: " + expected("ring", f"that of user {os.geteuid()}", f"that of user {owner}"))
    return EndpointError(f"{path}: ring in use: another writer has it")


def _open(path: Path, mode: str = "r", flags: int = os.O_RDONLY) -> FileIO:
    # Not blocking: somebody might have put a pipe there.
    return FileIO(path, mode, opener=lambda name, _: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))


@contextlib.contextmanager
def _locked(file: FileIO) -> Iterator[bool]:
    """Hold the lock of a file if it is free; say whether it was."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _is_ring(file: FileIO) -> bool:
    """Whether a file is a ring or the beginning of one: its writer may have died before the magic number was there."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return False
    start = os.pread(file.fileno(), len(MAGIC), 0)
    return start == MAGIC or not any(start)


def _allocate(file: FileIO, size: int, path: Path) -> None:
    """Get the memory now: a write to memory that is not there would kill the process (SIGBUS)."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        raise EndpointError(
            f"{path}: no room for a ring of {size / 1e6:.1f} MB: {error.strerror} (containers often have 64 MB of"
            " shared memory: docker run --shm-size)"
        ) from error


def _map(path: Path, file: FileIO, writer_uid: int | None) -> Ring | None:
    status = os.fstat(file.fileno())
    trusted = {os.geteuid(), 0} if writer_uid is None else {writer_uid}
    if not _is_ring(file):
        raise FrameRingError(f"{path}: " + expected("file", "a frame ring", "something else"))
    if status.st_uid not in trusted:
        users = " or ".join(map(str, sorted(trusted)))
        raise EndpointError(f"{path}: " + expected("owner of the ring", f"user {users}", f"user {status.st_uid}"))
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise EndpointError(
            f"{path}: " + expected("ring", "writable for its owner only", stat.filemode(status.st_mode))
        )
    if status.st_size < PAGE_BYTES:
        return None
    memory = mmap.mmap(file.fileno(), status.st_size, access=mmap.ACCESS_READ)
    words = np.frombuffer(memory, np.uint64, PAGE_BYTES // 8)
    if seqlock.load_acquire(words, 0) != _MAGIC_WORD:
        return None
    return Ring(file, RingHeader.unpack(memory[:PAGE_BYTES], status.st_size, str(path)), memory)
