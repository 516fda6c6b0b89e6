"""The sources of a rig: which camera takes which, made, started, watched and ended together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ..errors import InvalidArgument, MissingFile, RigError, expected
from ..fusion.rig import Rig, read_rig_sources
from ..replay.drive import Drive
from ..replay.open import open_drive
from ..runtime.frames import Frame
from .address import Address, DeviceAddress, DriveAddress, FileAddress, RingAddress, StreamAddress, parse_address
from .device import DeviceSource
from .drive_player import DriveSource
from .feed import CameraSource, Feed
from .frame_ring import RingSource
from .playback import Pace
from .state import SourceCondition, SourceState
from .stream import StreamSource
from .video import load_av
from .video_file import FileSource


def read_addresses(path: str | Path) -> dict[str, Address]:
    """Read the sources that the cameras of `rig.toml` name; relative paths begin at its folder.

    Raises
    ------
    MissingFile, RigError, CalibrationError
        As :func:`octobev.read_rig`, and for a source that cannot be read, with file and camera.
    """
    addresses = {}
    for camera, text in read_rig_sources(path).items():
        try:
            addresses[camera] = parse_address(text, Path(path).parent)
        except InvalidArgument as error:
            raise RigError(f"{path}: camera {camera}: {error}") from None
    return addresses


def make_sources(
    rig: Rig,
    addresses: Mapping[str, Address],
    *,
    open_drive: Callable[[str], Drive] = open_drive,
) -> list[CameraSource]:
    """Make the sources of a rig; cameras that name the same drive share one.

    Parameters
    ----------
    rig : whose cameras are fed
    addresses : camera -> its source; cameras without one are never fed
    open_drive : opens what a `drive:` names

    Raises
    ------
    RigError
        A camera that is not in the rig or not in its drive, or no camera with a source.
    MissingFile, DriveError
        A file or drive that is not there.
    MissingDependency
        A device, stream or file without PyAV.
    """
    if unknown := sorted(set(addresses) - set(rig.names)):
        raise RigError(expected("camera with a source", f"one of {', '.join(rig.names)}", ", ".join(unknown)))
    if not addresses:
        raise RigError(expected("rig", "one whose cameras name a source", "none that does"))
    for camera, address in addresses.items():
        if isinstance(address, FileAddress) and not Path(address.path).is_file():
            raise MissingFile(f"camera {camera}: {address.path}: no such file")
    if any(isinstance(address, DeviceAddress | StreamAddress | FileAddress) for address in addresses.values()):
        load_av()
    named_drives = dict.fromkeys(address for address in addresses.values() if isinstance(address, DriveAddress))
    drives = {address: open_drive(address.path) for address in named_drives}
    pace = Pace()
    sources: list[CameraSource] = []
    for address, drive in drives.items():
        cameras = [camera for camera, named in addresses.items() if named == address]
        if missing := [camera for camera in cameras if camera not in drive.rig]:
            names = ", ".join(drive.rig.names)
            raise RigError(f"{address}: " + expected("camera", f"one of {names}", ", ".join(missing)))
        sources.append(DriveSource(cameras, address, drive, pace))
    for camera, named in addresses.items():
        match named:
            case DeviceAddress():
                sources.append(DeviceSource(camera, named))
            case StreamAddress():
                sources.append(StreamSource(camera, named))
            case FileAddress():
                sources.append(FileSource(camera, named, pace))
            case RingAddress():
                sources.append(RingSource(camera, named))
    return sources


class RigSources:
    """Reads sources, each on its own thread, from :meth:`start` to :meth:`close`.

    Parameters
    ----------
    sources : see :func:`make_sources`
    submit : takes each frame, from several threads: `LiveRuntime.submit_frame`
    ended : called, on a thread of a source, when the last one has ended by itself
    """

    def __init__(
        self,
        sources: Iterable[CameraSource],
        submit: Callable[[Frame], object],
        *,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self._ended = ended
        self.feeds: Final = tuple(Feed(source, submit, changed=self._look) for source in sources)
        self._over = threading.Event()

    def start(self) -> None:
        """Begin."""
        for feed in self.feeds:
            feed.start()

    def states(self) -> dict[str, SourceState]:
        """How each camera's source is doing; cameras of one drive share its state."""
        return {camera: state for feed in self.feeds for state in (feed.state,) for camera in feed.source.cameras}

    def wait_ended(self, timeout_s: float) -> bool:
        """Wait until all have ended by themselves; False when they have not."""
        return self._over.wait(timeout_s)

    def close(self, timeout_s: float = 0.8) -> tuple[str, ...]:
        """End all, and wait for them so long in all.

        Returns
        -------
        The threads that are still in a call of a library or driver. They hand nothing on any more, and end with it.
        """
        for feed in self.feeds:
            feed.stop()
        deadline = time.monotonic() + timeout_s
        return tuple(f.thread_name for f in self.feeds if not f.join(max(0.0, deadline - time.monotonic())))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> None:
        if all(feed.state.condition is SourceCondition.ENDED for feed in self.feeds):
            self._over.set()
            self._ended()
