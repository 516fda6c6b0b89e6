"""Frames of a V4L2 device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Final

from ..runtime.frames import Frame
from .address import DeviceAddress
from .back_off import BackOff
from .capture_clock import Instant, Rising
from .video import images_of, open_video


class DeviceSource:
    """A camera of this machine.

    Capture times are the driver's: for uvcvideo the arrival of the frame's first packet, for most others the end of its
    transfer; where the driver gives none that can be, the time when it was read. A device that falls silent without an
    error keeps its thread in the driver.

    Parameters
    ----------
    camera : its name in the rig
    address : which device, and what is asked of it
    now : both clocks of this machine
    open_container : in place of `av.open`
    """

    finite: Final = False
    back_off: Final = BackOff(longest_s=1.0)

    def __init__(
        self,
        camera: str,
        address: DeviceAddress,
        *,
        now: Callable[[], Instant] = Instant.now,
        open_container: Callable[..., Any] | None = None,
    ) -> None:
        self.cameras = (camera,)
        self._address = address
        self._now = now
        self._open_container = open_container

    def __str__(self) -> str:
        return str(self._address)

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        """See :class:`~octobev.sources.feed.CameraSource`."""
        rising = Rising()
        with (
            open_video(
                self._address.path,
                container_format="v4l2",
                options=self._address.driver_options,
                open_container=self._open_container,
            ) as container,
            closing(images_of(container)) as images,
        ):
            for image in images:
                if stop.is_set():
                    return
                if image is not None:
                    timestamp_ns = self._now().wall_of_kernel(image.presented_ns)
                    yield Frame(self.cameras[0], rising(timestamp_ns), image.data, image.pixel_format)
