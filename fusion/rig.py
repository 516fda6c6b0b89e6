"""A camera rig: names, intrinsics and mountings, and its file `rig.toml`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError, MissingFile, RigError, expected
from .lens import Intrinsics, LensModel
from .pose import Pose
from .toml_text import LARGEST_FILE, parse_toml
from .whole_file import whole_file

MAX_CAMERAS: Final = 64
"""Most cameras of a rig: which cameras saw a cell is a 64-bit mask."""


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """One camera of a rig.

    Parameters
    ----------
    name : unique in its rig; letters, digits, `_`, `-` and `.` (it becomes part of topic names)
    intrinsics : image size and lens
    ego_from_camera : mounting; maps the optical camera frame (x right, y down, z forward) to the ego frame
    """

    name: str
    intrinsics: Intrinsics
    ego_from_camera: Pose

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "_-." for c in self.name):
            raise RigError(expected("camera name", "made of letters, digits, '_', '-' and '.'", repr(self.name)))


@dataclass(frozen=True, slots=True, eq=False)
class Rig:
    """The cameras of one vehicle, in a fixed order.

    Raises
    ------
    RigError
        No camera, more than :data:`MAX_CAMERAS`, or two of one name.
    """

    cameras: tuple[Camera, ...]
    name: str = "rig"

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if not 1 <= len(self.cameras) <= MAX_CAMERAS:
            raise RigError(expected("cameras of a rig", f"1 to {MAX_CAMERAS}", len(self.cameras)))
        names = [camera.name for camera in self.cameras]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RigError(expected("camera names", "unique", f"{', '.join(twice)} more than once"))

    @property
    def names(self) -> tuple[str, ...]:
        """Camera names in order."""
        return tuple(camera.name for camera in self.cameras)

    def __len__(self) -> int:
        return len(self.cameras)

    def __iter__(self) -> Iterator[Camera]:
        return iter(self.cameras)

    def __getitem__(self, name: str) -> Camera:
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise RigError(expected("camera", f"one of {', '.join(self.names)}", name))

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def bits_of(self, names: Sequence[str], bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Translate camera masks: bit i stood for `names[i]`, and shall stand for camera i of this rig."""
        if tuple(names) == self.names:
            return bits
        translated = np.zeros_like(bits)
        for i, name in enumerate(names):
            translated |= (bits >> np.uint64(i) & np.uint64(1)) << np.uint64(self.names.index(name))
        return translated

    def select(self, names: Iterable[str]) -> Rig:
        """Return the rig of only these cameras, in this rig's order."""
        wanted = set(names)
        if unknown := sorted(wanted - set(self.names)):
            raise RigError(expected("camera", f"one of {', '.join(self.names)}", ", ".join(unknown)))
        return Rig(tuple(camera for camera in self.cameras if camera.name in wanted), self.name)


def read_rig(path: str | Path) -> Rig:
    """Read `rig.toml`.

    Raises
    ------
    MissingFile, RigError, CalibrationError
        With the file and the path inside it.
    """
    return _decode_rig(_read_toml(Path(path)), str(path))


def read_rig_sources(path: str | Path) -> dict[str, str]:
    """Read what each camera of `rig.toml` names as its `source`; cameras without are left out.

    The source is no part of the calibration: neither a :class:`Rig` nor its hash knows it.

    Raises
    ------
    MissingFile, RigError, CalibrationError
        As :func:`read_rig`.
    """
    document = _read_toml(Path(path))
    names = _decode_rig(document, str(path)).names
    return {name: entry["source"] for name, entry in zip(names, document["cameras"], strict=True) if "source" in entry}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return parse_toml(file.read(LARGEST_FILE + 1))
    except FileNotFoundError as error:
        raise MissingFile(f"{path}: no such rig file") from error
    except OSError as error:
        raise RigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RigError(f"{path}: not a TOML file: {error}") from error


def write_rig(rig: Rig, path: str | Path, sources: Mapping[str, str] | None = None) -> None:
    """Write `rig.toml`, readable by :func:`read_rig` to the last bit; the file is there whole or as it was.

    Parameters
    ----------
    sources : camera -> its `source`, see :func:`read_rig_sources`; None: none
    """
    with whole_file(Path(path)) as part:
        part.write_text(encode_rig(rig, sources), encoding="utf-8")


def rig_sha256(rig: Rig) -> str:
    """SHA-256 of what :func:`write_rig` writes: two rigs of one hash are the same to the last bit."""
    return hashlib.sha256(encode_rig(rig).encode()).hexdigest()


def encode_rig(rig: Rig, sources: Mapping[str, str] | None = None) -> str:
    """Give the text of `rig.toml`, with the `source` of the cameras that have one."""
    lines = [
        "# Camera rig. Ego frame: x forward, y left, z up, metres, origin on the ground below the rear axle.",
        "# Camera frame: x right, y down, z forward. The columns of `rotation` are these axes in the ego frame;",
        "# `quaternion_xyzw = [x, y, z, w]` may stand in its place.",
        f"name = {_quote(rig.name)}",
    ]
    for camera in rig:
        lens, mounting = camera.intrinsics, camera.ego_from_camera
        lines += [
            "",
            "[[cameras]]",
            f"name = {_quote(camera.name)}",
            f"width = {lens.width}",
            f"height = {lens.height}",
            f"focal_px = {_numbers((lens.fx, lens.fy))}",
            f"principal_px = {_numbers((lens.cx, lens.cy))}",
            f"model = {_quote(lens.model.value)}",
            f"distortion = {_numbers(lens.coefficients)}",
            f"translation_m = {_numbers(mounting.translation_m)}",
            f"rotation = [{', '.join(_numbers(row) for row in mounting.rotation)}]",
        ]
        if sources is not None and camera.name in sources:
            lines.append(f"source = {_quote(sources[camera.name])}")
    return "\n".join(lines) + "\n"


def _numbers(values: Iterable[float]) -> str:
    return "[" + ", ".join(repr(float(value)) for value in values) + "]"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's escapes are those of JSON, and DEL


_CAMERA_KEYS: Final[dict[str, Any]] = {
    "name": str,
    "width": int,
    "height": int,
    "focal_px": 2,
    "principal_px": 2,
    "translation_m": 3,
}
_OPTIONAL_CAMERA_KEYS: Final = ("rotation", "quaternion_xyzw", "model", "distortion", "source")


def _decode_rig(document: dict[str, Any], where: str) -> Rig:
    if unknown := sorted(set(document) - {"name", "cameras"}):
        raise RigError(f"{where}: " + expected("keys", "name and cameras", ", ".join(unknown)))
    entries = document.get("cameras")
    if not isinstance(entries, list) or not entries:
        raise RigError(f"{where}: " + expected("cameras", "one or more [[cameras]] tables", repr(entries)))
    name = document.get("name", "rig")
    if not isinstance(name, str):
        raise RigError(f"{where}: " + expected("name", "a string", repr(name)))
    cameras = tuple(_decode_camera(entry, f"{where}: cameras[{index}]") for index, entry in enumerate(entries))
    try:
        return Rig(cameras, name)
    except RigError as error:
        raise RigError(f"{where}: {error}") from error


def _decode_camera(entry: object, where: str) -> Camera:
    if not isinstance(entry, dict):
        raise RigError(expected(where, "a table", repr(entry)))
    if unknown := sorted(set(entry) - set(_CAMERA_KEYS) - set(_OPTIONAL_CAMERA_KEYS)):
        raise RigError(
            f"{where}.{unknown[0]}: unknown key; known: {', '.join([*_CAMERA_KEYS, *_OPTIONAL_CAMERA_KEYS])}"
        )
    for key, kind in _CAMERA_KEYS.items():
        value = entry.get(key)
        if isinstance(kind, int):
            if not _is_numbers(value, kind):
                raise RigError(expected(f"{where}.{key}", f"{kind} numbers", repr(value)))
        elif not isinstance(value, kind) or isinstance(value, bool):
            raise RigError(expected(f"{where}.{key}", f"of type {kind.__name__}", repr(value)))
    if not isinstance(entry.get("source", ""), str):
        raise RigError(expected(f"{where}.source", "a string", repr(entry["source"])))
    try:
        return Camera(entry["name"], _decode_lens(entry, where), _decode_mounting(entry, where))
    except (CalibrationError, RigError) as error:
        if str(error).startswith(where):
            raise
        raise type(error)(f"{where} ({entry['name']}): {error}") from error


def _decode_lens(entry: dict[str, Any], where: str) -> Intrinsics:
    model = entry.get("model", "pinhole")
    if model not in list(LensModel):
        raise CalibrationError(expected(f"{where}.model", f"one of {', '.join(LensModel)}", repr(model)))
    distortion = entry.get("distortion", [])
    if not _is_numbers(distortion):
        raise RigError(expected(f"{where}.distortion", "a list of numbers", repr(distortion)))
    (fx, fy), (cx, cy) = entry["focal_px"], entry["principal_px"]
    return Intrinsics(
        entry["width"],
        entry["height"],
        float(fx),
        float(fy),
        float(cx),
        float(cy),
        LensModel(model),
        tuple(map(float, distortion)),
    )


def _decode_mounting(entry: dict[str, Any], where: str) -> Pose:
    rotation: Any = entry.get("rotation")
    quaternion: Any = entry.get("quaternion_xyzw")
    if (rotation is None) == (quaternion is None):
        raise RigError(expected(where, "given one of rotation and quaternion_xyzw", "both" if rotation else "neither"))
    if rotation is None:
        if not _is_numbers(quaternion, 4):
            raise RigError(expected(f"{where}.quaternion_xyzw", "4 numbers", repr(quaternion)))
        return Pose.from_quaternion(entry["translation_m"], quaternion)
    if not isinstance(rotation, list) or len(rotation) != 3 or not all(_is_numbers(row, 3) for row in rotation):
        raise RigError(expected(f"{where}.rotation", "3 rows of 3 numbers", repr(rotation)))
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = entry["translation_m"]
    return Pose(matrix)


def _is_numbers(value: object, count: int | None = None) -> bool:
    return isinstance(value, list) and (count is None or len(value) == count) and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)
