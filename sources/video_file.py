"""Frames of a video file, played at its own pace."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import closing
from typing import Final

from ..errors import SourceError
from ..runtime.frames import Frame
from .address import FileAddress
from .back_off import BackOff
from .playback import Pace
from .video import VideoImage, images_of, open_video

_DEFAULT_PERIOD_NS: Final = 40_000_000


class FileSource:
    """A video file. Its first frame is at the start of the pace; files of one rig must begin at the same instant.

    Capture times are exact relative to each other: the start of the pace plus the file's own times.

    Parameters
    ----------
    camera : its name in the rig
    address : the file
    pace : shared by all that is played
    """

    finite: Final = True
    back_off: Final = BackOff()

    def __init__(self, camera: str, address: FileAddress, pace: Pace) -> None:
        self.cameras = (camera,)
        self._address = address
        self._pace = pace

    def __str__(self) -> str:
        return str(self._address)

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        """See :class:`~octobev.sources.feed.CameraSource`."""
        begin_ns = 0
        while True:
            last_ns, period_ns = None, _DEFAULT_PERIOD_NS
            with closing(self._timed_images()) as images:
                for elapsed_ns, image in images:
                    if last_ns is not None and elapsed_ns > last_ns:
                        period_ns = elapsed_ns - last_ns
                    last_ns = elapsed_ns
                    if not self._pace.wait(begin_ns + elapsed_ns, stop):
                        return
                    timestamp_ns = self._pace.wall_ns(begin_ns + elapsed_ns)
                    yield Frame(self.cameras[0], timestamp_ns, image.data, image.pixel_format)
            if last_ns is None:
                raise SourceError("no image in the file")
            if not self._address.loop:
                return
            begin_ns += last_ns + period_ns

    def _timed_images(self) -> Generator[tuple[int, VideoImage], None, None]:
        """Images with their time since the first."""
        first_ns = None
        with (
            open_video(f"file:{os.fspath(self._address.path)}", options={"protocol_whitelist": "file"}) as container,
            closing(images_of(container)) as images,
        ):
            for image in images:
                if image is None:
                    continue
                if image.presented_ns is None:
                    raise SourceError("the file has no times: a container such as mp4, mkv or avi has them")
                first_ns = image.presented_ns if first_ns is None else first_ns
                yield image.presented_ns - first_ns, image
