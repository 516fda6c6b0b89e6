"""Drives in nuScenes' table directories: `v1.0-*/*.json` with `samples/` and `sweeps/` beside it.

Tables: https://www.nuscenes.org/nuscenes#data-format. One scene is one drive. Cameras are named as their channels in
lower case (`cam_front`). Quaternions are w, x, y, z in the tables and stamps are microseconds; both end here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CalibrationError, DriveError, MissingFile, RigError, expected
from ..fusion.lens import Intrinsics
from ..fusion.pose import Pose
from ..fusion.rig import Camera, Rig
from ..runtime.frames import Frame
from .drive import Drive, DriveStep, Losses
from .foxglove import image_format
from .sets import check_window, group_frames, skew_for_period, window
from .tables import Row, read_rows, rows_by_token, value


@dataclass(frozen=True, slots=True, order=True)
class _Image:
    """One camera row of sample_data."""

    timestamp_ns: int
    camera: str
    file: str
    pose_token: str
    calibration_token: str
    size: tuple[int, int]


def is_nuscenes(path: Path) -> bool:
    """Whether a directory is, or holds, a directory of nuScenes tables."""
    return (path / "sample_data.json").is_file() or bool(_versions(path))


class NuScenesDrive(Drive):
    """One scene of a nuScenes directory.

    Memory is that of one scene's rows (twenty seconds), whatever the size of the tables.

    Parameters
    ----------
    path : the directory of the tables, or the one above; `#scene-0061` behind it names the scene where there are
        several
    max_skew_s, cameras, rig : see :func:`octobev.open_drive`

    Raises
    ------
    MissingFile, DriveError, CalibrationError, RigError
        Tables missing or contradicting each other, several scenes and none named; with file and token.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_skew_s: float | None = None,
        cameras: Sequence[str] | None = None,
        rig: Rig | None = None,
    ) -> None:
        folder, _, wanted = str(path).partition("#")
        self._tables = _tables(Path(folder))
        self._root = self._tables.parent
        self.losses = Losses()
        scene = self._find_scene(wanted)
        self.name = value(scene, "name", str, self._tables / "scene.json")
        calibrations = self._camera_calibrations()
        self._images = self._find_images(value(scene, "token", str, self._tables / "scene.json"), calibrations)
        if not self._images:
            raise DriveError(expected(f"{self._tables}: {self.name}", "a scene with camera images", "one without"))
        self._poses = self._find_poses()
        whole = self._build_rig(calibrations) if rig is None else rig
        self.rig = whole if cameras is None else whole.select(cameras)
        self._images = [image for image in self._images if image.camera in self.rig]
        if not self._images:
            raise RigError(expected(f"{self._tables}: rig", "of cameras that the scene has", ", ".join(whole.names)))
        self._calibration_of = {image.camera: image.calibration_token for image in reversed(self._images)}
        skew_s = skew_for_period(self._period_s()) if max_skew_s is None else max_skew_s
        self._max_skew_ns = round(skew_s * 1e9)

    @property
    def length_hint(self) -> int | None:
        """Images of the busiest camera."""
        names = [image.camera for image in self._images]
        return max(map(names.count, set(names)))

    def steps(self, *, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[DriveStep]:
        """Iterate over the steps."""
        check_window(start_s, duration_s)
        losses = self.losses = Losses()
        return window(self._steps(losses), start_s, duration_s)

    def _steps(self, losses: Losses) -> Iterator[DriveStep]:
        for frame_set in group_frames(self._frames(losses), self.rig.names, self._max_skew_ns, losses):
            yield DriveStep(frame_set)

    def _frames(self, losses: Losses) -> Iterator[Frame]:
        calibrations = dict(self._calibration_of)
        for image in self._images:
            if calibrations[image.camera] != image.calibration_token:
                calibrations[image.camera] = image.calibration_token
                losses.add("calibration changed")
            data = self._read(image.file)
            pixel_format = image_format(data)
            if pixel_format is None:
                losses.add("image is neither JPEG nor PNG" if data else "image cannot be read")
                continue
            yield Frame(image.camera, image.timestamp_ns, data, pixel_format, self._poses.get(image.pose_token))

    def _read(self, file: str) -> bytes:
        """Bytes of an image; empty when there is none, or when its name leads out of the data set."""
        path = Path(file)
        if path.is_absolute() or ".." in path.parts:
            return b""
        try:
            return (self._root / path).read_bytes()
        except (OSError, ValueError):  # ValueError: a null character in the name
            return b""

    def _find_scene(self, wanted: str) -> Row:
        scenes = list(read_rows(self._tables / "scene.json"))
        names = [str(scene.get("name")) for scene in scenes]
        if not wanted and len(scenes) == 1:
            return scenes[0]
        if wanted not in names:
            known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            got = repr(wanted) if wanted else f"none; write {self._root}#{names[0]}" if names else "none"
            raise DriveError(expected(f"{self._tables}: scene", f"one of {known}", got))
        return scenes[names.index(wanted)]

    def _camera_calibrations(self) -> dict[str, tuple[str, Row]]:
        """Calibration token -> camera name, row; of cameras only."""
        sensors = rows_by_token(self._tables / "sensor.json")
        channels = {
            token: value(row, "channel", str, self._tables / "sensor.json").lower()
            for token, row in sensors.items()
            if row.get("modality") == "camera"
        }
        path = self._tables / "calibrated_sensor.json"
        rows = ((value(row, "token", str, path), value(row, "sensor_token", str, path), row) for row in read_rows(path))
        return {token: (channels[sensor], row) for token, sensor, row in rows if sensor in channels}

    def _find_images(self, scene: str, calibrations: dict[str, tuple[str, Row]]) -> list[_Image]:
        samples = {
            row.get("token") for row in read_rows(self._tables / "sample.json") if row.get("scene_token") == scene
        }
        path = self._tables / "sample_data.json"
        images = []
        for row in read_rows(path):
            calibration = row.get("calibrated_sensor_token")
            if row.get("sample_token") in samples and calibration in calibrations:
                images.append(
                    _Image(
                        _time(row, path),
                        calibrations[calibration][0],
                        value(row, "filename", str, path),
                        value(row, "ego_pose_token", str, path),
                        calibration,
                        (value(row, "width", int, path), value(row, "height", int, path)),
                    )
                )
        return sorted(images)

    def _find_poses(self) -> dict[str, Pose]:
        path = self._tables / "ego_pose.json"
        rows = rows_by_token(path, {image.pose_token for image in self._images})
        return {token: _pose(row, path) for token, row in rows.items()}

    def _build_rig(self, calibrations: dict[str, tuple[str, Row]]) -> Rig:
        path = self._tables / "calibrated_sensor.json"
        cameras = {}
        for image in self._images:
            if image.camera not in cameras:
                row = calibrations[image.calibration_token][1]
                cameras[image.camera] = Camera(image.camera, _intrinsics(row, image.size, path), _pose(row, path))
        return Rig(tuple(cameras.values()), self.name)

    def _period_s(self) -> float | None:
        count = self.length_hint
        if count is None or count < 2:
            return None
        return (self._images[-1].timestamp_ns - self._images[0].timestamp_ns) / 1e9 / (count - 1)


def _time(row: Row, path: Path) -> int:
    timestamp_us = value(row, "timestamp", int, path)
    if not 0 <= timestamp_us < 2**63 // 1000:
        raise DriveError(expected(f"{path}: timestamp of {row.get('token')}", "microseconds since 1970", timestamp_us))
    return int(timestamp_us) * 1000


def _versions(path: Path) -> list[Path]:
    return sorted(folder for folder in path.glob("v1.0-*") if (folder / "sample_data.json").is_file())


def _tables(path: Path) -> Path:
    """Find the directory of the tables."""
    if (path / "sample_data.json").is_file():
        return path
    found = _versions(path)
    if not found:
        raise MissingFile(f"{path}: no v1.0-* directory with sample_data.json")
    if len(found) > 1:
        raise DriveError(expected(str(path), "one version of tables", ", ".join(folder.name for folder in found)))
    return found[0]


def _pose(row: Row, path: Path) -> Pose:
    """Read `target_from_source` of translation and rotation (w, x, y, z)."""
    translation, rotation = row.get("translation"), row.get("rotation")
    try:
        x, y, z = map(float, translation)  # type: ignore[arg-type]
        qw, qx, qy, qz = map(float, rotation)  # type: ignore[arg-type]
        return Pose.from_quaternion((x, y, z), (qx, qy, qz, qw))
    except (CalibrationError, TypeError, ValueError) as error:
        raise CalibrationError(f"{path}: {row.get('token')}: {error}") from error


def _intrinsics(row: Row, size: tuple[int, int], path: Path) -> Intrinsics:
    try:
        (fx, skew, cx), (below, fy, cy), last = row["camera_intrinsic"]
        if [skew, below, *last] != [0, 0, 0, 0, 1]:
            raise CalibrationError(expected("camera_intrinsic", "fx 0 cx, 0 fy cy, 0 0 1", row["camera_intrinsic"]))
        return Intrinsics(*size, float(fx), float(fy), float(cx), float(cy))
    except (CalibrationError, KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"{path}: {row.get('token')}: {error}") from error
