"""Writing a frame ring: what a camera driver does."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Final

import numpy as np

from ..._ext import seqlock
from ...errors import EndpointError, InvalidArgument, expected
from ..frames import Frame
from .file import Ring, create_ring, remove_locked, ring_path
from .layout import PAGE_BYTES, RingHeader, SlotHeader

_LOCK_BYTES: Final = 8


class FrameRingWriter:
    """The one writer of a ring of frames in shared memory.

    It never waits for readers: the oldest frame is overwritten, whoever reads it. Of one thread; not to be used after a
    fork. Use it as a context manager, or :meth:`close` it; when the process dies instead, whoever comes next, writer
    or reader, removes what is left. docs/frame-ring.md says everything about the memory.

    Parameters
    ----------
    ring : name of the ring (`front` is the file `/dev/shm/octobev-front`), or the path of its file
    camera : name of the camera
    payload_bytes : size of the largest image
    slots
        How many frames the ring holds. A frame can be read for at least `slots - 1` frame periods after it was written.
    mode : permissions of the file: 0600, or 0640 or 0644 for readers that are other users

    Raises
    ------
    EndpointError
        Another writer has the ring, or there is no permission or no memory for it.
    FrameRingError
        A file that is no ring has its name.
    InvalidArgument
        A camera, a size or a mode that no ring can have.
    """

    def __init__(
        self,
        ring: str | os.PathLike[str],
        camera: str,
        *,
        payload_bytes: int,
        slots: int = 8,
        mode: int = 0o600,
    ) -> None:
        self.path: Final = ring_path(ring)
        self._header = RingHeader(camera, slots, payload_bytes, time.time_ns(), os.getpid())
        self._ring: Ring | None = create_ring(self.path, self._header, mode)
        self._sequence = 0

    @property
    def camera(self) -> str:
        """Name of the camera."""
        return self._header.camera

    @property
    def epoch(self) -> int:
        """What tells this writer from others that had the same ring before or will have it."""
        return self._header.epoch

    def write(self, frame: Frame) -> int:
        """Copy a frame into the ring and wake the readers that wait. Return its sequence number, from 0.

        Raises
        ------
        InvalidArgument
            A frame of another camera, or one that is too large, or the writer is closed.
        EndpointError
            The process is a fork of the one that made the writer, or somebody deleted the ring: nobody will see what is
            written here. Make a new writer.
        """
        ring = self._own_ring()
        header = SlotHeader.of(frame, self._sequence)
        if frame.camera != self.camera:
            raise InvalidArgument(f"ring {self.path}: " + expected("camera of a frame", self.camera, frame.camera))
        if header.payload_bytes > self._header.payload_bytes:
            raise InvalidArgument(
                f"ring {self.path}: "
                + expected("frame", f"at most {self._header.payload_bytes} bytes", header.payload_bytes)
            )
        offset = self._header.slot_offset(self._sequence)
        packed = np.frombuffer(header.pack(), np.uint8)
        payload = ring.memory[offset + PAGE_BYTES : offset + PAGE_BYTES + header.payload_bytes]
        seqlock.store_before_writes(ring.words, offset // 8, 2 * self._sequence + 1)
        ring.memory[offset + _LOCK_BYTES : offset + _LOCK_BYTES + packed.size] = packed
        np.copyto(header.pixels(payload), frame.array)
        seqlock.store_release(ring.words, offset // 8, 2 * self._sequence + 2)
        self._sequence += 1
        ring.set_head(self._sequence)
        return self._sequence - 1

    def close(self) -> None:
        """Remove the ring's name and its lock. Readers keep what they have and wait for the next writer."""
        ring, self._ring = self._ring, None
        if ring is None:
            return
        if os.getpid() == self._header.writer_pid:
            remove_locked(self.path, ring.file)
        ring.close()

    def __enter__(self) -> FrameRingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _own_ring(self) -> Ring:
        if self._ring is None:
            raise InvalidArgument(f"ring {self.path}: " + expected("writer", "open", "a closed one"))
        if os.getpid() != self._header.writer_pid:
            raise EndpointError(
                f"ring {self.path}: "
                + expected("process", f"{self._header.writer_pid}, which made the writer", os.getpid())
            )
        if self._ring.removed():
            raise EndpointError(
                f"ring {self.path}: somebody deleted it (systemd's RemoveIPC does when its user logs out):"
                " make a new writer"
            )
        return self._ring
