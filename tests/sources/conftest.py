"""Small videos, drives and recording receivers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from octobev.runtime.frames import Frame

WIDTH, HEIGHT = 64, 48
RATE_HZ = 25


def grey_of(index: int) -> int:
    """What shade the image of a test video has, all over."""
    return 40 + 20 * (index % 8)


@pytest.fixture
def make_video() -> Callable[..., Path]:
    """Write a video whose images are grey, each of another shade."""

    def make(path: Path, frames: int = 5, codec: str = "mpeg4", rate_hz: int = RATE_HZ) -> Path:
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate_hz)
            stream.width, stream.height = WIDTH, HEIGHT
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for index in range(frames):
                image = np.full((HEIGHT, WIDTH, 3), grey_of(index), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            container.mux(stream.encode())
        return path

    return make


class Receiver:
    """Takes frames from any thread, as a live runtime does, and keeps them."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._changed = threading.Condition()

    def __call__(self, frame: Frame) -> None:
        with self._changed:
            self.frames.append(frame)
            self._changed.notify_all()

    def wait(self, count: int, camera: str | None = None) -> None:
        """Wait until so many frames have come, of one camera or of all."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(camera)) >= count, 60)

    def of(self, camera: str | None) -> list[Frame]:
        """Frames of one camera, or of all."""
        return [frame for frame in self.frames if camera in (None, frame.camera)]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()
