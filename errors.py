"""Every error that Octobev raises on purpose.

Each is an :class:`OctobevError` and the matching builtin, so callers may catch either. Messages follow one form:
"{what} must be {expected}, got {actual}", with the place (file, camera, timestamp, path inside the manifest) in front.
"""

from __future__ import annotations

import os


class OctobevError(Exception):
    """Base of all errors raised by Octobev."""


class InvalidArgument(OctobevError, ValueError):
    """A caller passed a value that the function does not accept."""


class MissingFile(OctobevError, FileNotFoundError):
    """A file or directory named by the user is not there."""


class CalibrationError(OctobevError, ValueError):
    """Intrinsics, mounting or pose that no real camera can have."""


class RigError(OctobevError, ValueError):
    """A rig that contradicts itself, its file format or the bundle that uses it."""


class ImageError(OctobevError, ValueError):
    """An image that cannot be decoded or is not what its frame declares."""


class BundleError(OctobevError, ValueError):
    """A model bundle whose manifest, files or networks are not what they declare."""


class ProfileError(OctobevError, ValueError):
    """A profile of a machine that cannot be read or written."""


class NetworkError(OctobevError, RuntimeError):
    """A network that failed while it ran."""


class DriveError(OctobevError, ValueError):
    """A recorded drive that cannot be read."""


class RecordingError(OctobevError, OSError):
    """A recording that cannot be written."""


class WireError(OctobevError, ValueError):
    """A received message that is not a valid Octobev message."""


class TopicError(OctobevError, ValueError):
    """A topic name that is not valid or not published."""


class EndpointError(OctobevError, OSError):
    """An endpoint that cannot be bound or connected: in use, not there, not permitted."""


class TopicTimeout(OctobevError, TimeoutError):
    """No message arrived in time."""


class KeyFileError(OctobevError, ValueError):
    """A file or directory of CURVE keys that is not what it must be, or that others can read or write."""


class FrameRingError(OctobevError, ValueError):
    """A file that is not a frame ring, or a ring that contradicts itself."""


class FrameOverwritten(OctobevError, RuntimeError):
    """The writer of a frame ring reused the slot of a frame that was still being read."""


class SourceError(OctobevError, OSError):
    """A camera's source that cannot be opened or read now."""


class BenchError(OctobevError, RuntimeError):
    """A measurement that would mean nothing: a peer that gives something else, a program that fails."""


class MissingDependency(OctobevError, ImportError):
    """An optional or system library is missing; the message says how to install it."""


def expected(what: str, must_be: str, actual: object) -> str:
    """Return the message "{what} must be {must_be}, got {actual}"."""
    return f"{what} must be {must_be}, got {actual}"


def unwritable(path: str | os.PathLike[str], error: OSError, *, folder: bool = False) -> str:
    """Return why a file (or a folder) cannot be written: what stands in its way, or else what the system says."""
    place = os.fspath(path)
    parent = os.path.dirname(place) or os.curdir
    above = parent
    while not os.path.exists(above) and os.path.dirname(above) not in ("", above):
        above = os.path.dirname(above)
    if os.path.exists(above) and not os.path.isdir(above):
        return expected(f"{place}: {above}", "a folder", "a file")
    if folder and os.path.exists(place) and not os.path.isdir(place):
        return expected(place, "a folder", "a file")
    if not folder and os.path.isdir(place):
        return expected(place, "a file", "a folder")
    if not folder and not os.path.exists(parent):
        return expected(f"{place}: {parent}", "a folder", "nothing of that name")
    if isinstance(error, FileExistsError):
        return f"{place}: exists already; --force overwrites it"
    return f"{place}: cannot be written: {error.strerror or error}"
