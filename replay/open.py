"""One door to every format of drives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import DriveError, MissingFile, expected
from ..fusion.rig import Rig
from .drive import Drive


def open_drive(
    path: str | Path,
    *,
    max_skew_s: float | None = None,
    cameras: Sequence[str] | None = None,
    rig: Rig | None = None,
) -> Drive:
    """Open a recorded drive; the reader is chosen by what is there, not by the name.

    Parameters
    ----------
    path : an MCAP file, a directory of nuScenes tables (with `#scene-0061` behind it where it has several scenes), or
        a folder of images with `rig.toml`
    max_skew_s : most time between the first and the last frame of a set, seconds; None: 0.06, or three quarters of the
        cameras' period when that is known and less
    cameras : only these cameras, None for all
    rig : calibrations to use instead of the drive's own

    Raises
    ------
    MissingFile, DriveError, CalibrationError, RigError
        Nothing there, nothing that is a drive, or a drive whose cameras cannot be used.
    """
    text = str(path)
    if max_skew_s is not None and not 0 <= max_skew_s < float("inf"):
        raise DriveError(expected("max_skew_s", "seconds from 0 on", max_skew_s))
    if not text:
        raise DriveError(expected("drive", "a path", "an empty text"))
    folder = Path(text.partition("#")[0])
    if folder.is_dir() or (not Path(text).exists() and folder.exists()):
        from .nuscenes import NuScenesDrive, is_nuscenes

        if is_nuscenes(folder):
            return NuScenesDrive(text, max_skew_s=max_skew_s, cameras=cameras, rig=rig)
        from .folder import FolderDrive, is_folder

        if is_folder(folder):
            return FolderDrive(folder, max_skew_s=max_skew_s, cameras=cameras, rig=rig)
        raise DriveError(
            expected(text, "a folder with v1.0-* tables, or with images/ and rig.toml", "one with neither of them")
        )
    if not Path(text).exists():
        raise MissingFile(f"{text}: no such drive")
    from .mcap import McapDrive

    return McapDrive(path, max_skew_s=max_skew_s, cameras=cameras, rig=rig)
