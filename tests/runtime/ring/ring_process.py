"""What the tests run in other processes: `python ring_process.py WHAT RING ...`. They talk through pipes, in lines."""

from __future__ import annotations

import sys

import numpy as np
from octobev.errors import OctobevError
from octobev.fusion.pose import Pose
from octobev.runtime.frames import Frame
from octobev.runtime.ring.reader import FrameRingReader
from octobev.runtime.ring.writer import FrameRingWriter


def say(*words: object) -> None:
    print(*words, flush=True)


def numbered(sequence: int, side: int) -> Frame:
    """A frame that says everywhere which one it is."""
    image = np.full((side, side, 3), sequence % 251, np.uint8)
    return Frame("front", sequence, image, world_from_ego=Pose.planar(sequence, -sequence, 0))


def write_for_ever(ring: str, slots: int, side: int) -> None:
    """Write as fast as possible, until somebody kills this process."""
    with FrameRingWriter(ring, "front", payload_bytes=side * side * 3, slots=slots) as writer:
        sequence = 0
        while True:
            writer.write(numbered(sequence, side))
            sequence += 1
            if sequence == slots:
                say("full")


def write_half(ring: str, slots: int, whole: int) -> None:
    """Write so many frames, then stop in the middle of the next one's pixels, for ever."""
    writer = FrameRingWriter(ring, "front", payload_bytes=8 * 8 * 3, slots=slots)
    for sequence in range(whole):
        writer.write(numbered(sequence, 8))

    def copy_half(to: np.ndarray, data: np.ndarray) -> None:
        to[:4] = data[:4]
        say("half")
        sys.stdin.read()

    np.copyto = copy_half
    writer.write(numbered(whole, 8))


def write_some(ring: str, slots: int, frames: int) -> None:
    """Write so many frames and close when told to."""
    with FrameRingWriter(ring, "front", payload_bytes=8 * 8 * 3, slots=slots) as writer:
        say("made")
        sys.stdin.readline()
        for sequence in range(frames):
            writer.write(numbered(sequence, 8))
        say("written")
        sys.stdin.readline()
    say("closed")


def try_to_write(ring: str) -> None:
    """Try to become the writer."""
    try:
        FrameRingWriter(ring, "front", payload_bytes=192).close()
        say("made")
    except OctobevError as error:
        say(f"{type(error).__name__}: {error}")


def read(ring: str, frames: int) -> None:
    """Wait for so many frames in order and tell their numbers."""
    with FrameRingReader(ring, "front") as reader:
        say("ready")
        for _ in range(frames):
            frame = reader.next_frame(60)
            assert frame is not None
            own = frame.copy()
            assert (own.data == frame.sequence % 251).all()
            say(frame.sequence, frame.missed)
        sys.stdin.readline()


def hold(ring: str) -> None:
    """Take a frame and hold it."""
    reader = FrameRingReader(ring)
    frame = reader.newest_frame(60)
    assert frame is not None
    say("holding", frame.sequence)
    sys.stdin.read()


if __name__ == "__main__":
    what, ring, *numbers = sys.argv[1:]
    globals()[what](ring, *map(int, numbers))
