"""Drawing primitives that all pictures share: colours, text, tiles, and the bird's-eye view.

Pictures are uint8 [H, W, 3] BGR. In a bird's-eye view forward is up and left is left: BEV arrays are `[x, y]`, x
forward and y left, so picture row 0 is the farthest x and column 0 the farthest y.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError, unwritable
from ..fusion.grid import BevGrid
from ..fusion.rig import Camera, Rig
from ..fusion.rig_check import EGO_OUTLINE_M
from ..fusion.whole_file import whole_file
from ..runtime.frames import Frame
from ..runtime.images import bgr_of, load_opencv, reduction_for

cv2: Any = load_opencv()

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
"""Blue, green, red, 0..255."""


_PNG_FAST: Final = [int(cv2.IMWRITE_PNG_COMPRESSION), 2]


def _rgb(code: int) -> Colour:
    return code & 255, (code >> 8) & 255, code >> 16


BACKGROUND: Final = _rgb(0x0E1117)
PANEL: Final = _rgb(0x171B24)
LINE: Final = _rgb(0x2B3240)
TEXT: Final = _rgb(0xE8EBF1)
MUTED: Final = _rgb(0x8F99AB)
GOOD: Final = _rgb(0x4CC38A)
WARNING: Final = _rgb(0xF5B83D)
ERROR: Final = _rgb(0xFF5A4F)
FORWARD_AXIS: Final = _rgb(0xFF5A4F)
LEFT_AXIS: Final = _rgb(0x3DD68C)
EGO: Final = _rgb(0x7CD4FD)
UNOBSERVED: Final = _rgb(0x0A0C11)
HATCH: Final = _rgb(0x1C222D)
GROUND: Final = _rgb(0x232936)

CLASS_COLOURS: Final[dict[str, Colour]] = {
    "drivable": _rgb(0x747C8A),
    "intersection": _rgb(0x3F7FE8),
    "crosswalk": _rgb(0xF4F6FA),
    "lane_divider": _rgb(0xFFD23F),
    "road_edge": _rgb(0xFF4B3E),
    "occupancy": _rgb(0xF03CC8),
    "lane_marking": _rgb(0xFFD23F),
    "obstacle": _rgb(0xF03CC8),
}
"""Colour of each well-known class, in the order in which they are painted over each other."""

_OTHER_COLOURS: Final = tuple(map(_rgb, (0x2DD4BF, 0xFB923C, 0xA3E635, 0xA78BFA, 0x38BDF8, 0xF9A8D4)))
_NO_CLASS: Final = frozenset({"background", "none", "other", "unlabelled", "void", "sky"})


def class_colour(name: str) -> Colour | None:
    """Return the colour of a class, always the same for a name; None for a class that says "nothing"."""
    if name in _NO_CLASS:
        return None
    return CLASS_COLOURS.get(name, _OTHER_COLOURS[sum(name.encode()) % len(_OTHER_COLOURS)])


@lru_cache(maxsize=1)
def _font() -> Any:
    return cv2.FontFace("sans")


def text_width(string: str, size: int = 15, weight: int = 400) -> int:
    """Return the width of a line of text, pixels."""
    return int(cv2.getTextSize((0, 0), string, (0, 0), _font(), size, weight)[2])


def draw_text(
    picture: Picture,
    string: str,
    origin: tuple[float, float],
    *,
    size: int = 15,
    colour: Colour = TEXT,
    weight: int = 400,
    align: Literal["left", "centre", "right"] = "left",
) -> None:
    """Write a line of text into a picture; `origin` is on the base line, at the left, centre or right of the text."""
    x, y = origin
    if align != "left":
        x -= text_width(string, size, weight) * (0.5 if align == "centre" else 1.0)
    cv2.putText(picture, string, (round(x), round(y)), colour, _font(), size, weight)


def draw_plate(
    picture: Picture,
    string: str,
    corner: tuple[int, int],
    *,
    size: int = 14,
    colour: Colour = TEXT,
    weight: int = 500,
    align: Literal["left", "centre", "right"] = "left",
    margin: int = 7,
) -> None:
    """Write text on a dark translucent plate; `corner` is the plate's top left, top centre or top right."""
    width, height = plate_size(string, size, weight, margin)
    left = corner[0] - {"left": 0, "centre": width // 2, "right": width}[align]
    rows, columns = slice(max(corner[1], 0), corner[1] + height), slice(max(left, 0), left + width)
    picture[rows, columns] = (picture[rows, columns] * 0.3 + np.array(BACKGROUND) * 0.7).astype(np.uint8)
    origin = (left + margin, corner[1] + size + margin // 2)
    draw_text(picture, string, origin, size=size, colour=colour, weight=weight)


def plate_size(string: str, size: int = 14, weight: int = 500, margin: int = 7) -> tuple[int, int]:
    """Return width and height of a plate with text on it, pixels; `margin` is beside the text."""
    return text_width(string, size, weight) + 2 * margin, size + margin * 10 // 7


def wrap(string: str, width: int, size: int = 15) -> list[str]:
    """Break text at spaces into lines not wider than `width` pixels."""
    lines: list[str] = []
    for word in string.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def canvas(width: int, height: int, colour: Colour = BACKGROUND) -> Picture:
    """Return an empty picture."""
    return np.full((height, width, 3), colour, dtype=np.uint8)


def paste(picture: Picture, part: Picture, left: int, top: int) -> None:
    """Copy a picture into another, clipped at its edges."""
    height, width = picture.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + part.shape[1], width), min(top + part.shape[0], height)
    if x0 < x1 and y0 < y1:
        picture[y0:y1, x0:x1] = part[y0 - top : y1 - top, x0 - left : x1 - left]


def polyline(
    picture: Picture, points_uv: NDArray[np.float64], colour: Colour, thickness: int = 1, *, closed: bool = False
) -> None:
    """Draw an anti-aliased line through points [n, 2], pixel coordinates; it is interrupted at points that are NaN."""
    finite = np.max(np.abs(points_uv), axis=1) < 1e5  # False for NaN too
    for run in np.split(np.arange(len(points_uv)), np.flatnonzero(np.diff(finite)) + 1):
        if len(run) > 1 and finite[run[0]]:
            fixed = np.round(points_uv[run] * 16).astype(np.int32)
            cv2.polylines(
                picture, [fixed], closed and len(run) == len(points_uv), colour, thickness, cv2.LINE_AA, shift=4
            )


def blend(picture: Picture, colour: Colour, alpha: NDArray[np.float32]) -> None:
    """Mix a colour into a picture, `alpha` [H, W] 0..1."""
    weight = alpha[..., None]
    picture[:] = np.rint(picture * (1 - weight) + np.array(colour, dtype=np.float32) * weight).astype(np.uint8)


def frame_picture(frame: Frame, camera: Camera, width: int, height: int) -> Picture:
    """Give the image of a frame, resized to width x height, BGR, never the frame's own memory.

    Raises
    ------
    ImageError
        The image cannot be decoded or has not the size that its calibration says.
    """
    size = (camera.intrinsics.width, camera.intrinsics.height)
    pixels = bgr_of(frame, size, reduction_for(frame.pixel_format, size, (width, height)))
    shrinks = width < pixels.shape[1]
    sampling = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.array(cv2.resize(pixels, (width, height), interpolation=sampling))


@dataclass(frozen=True, slots=True)
class BevView:
    """Where metres of a grid are in a picture of it: forward up, left left, the grid fills the picture.

    Parameters
    ----------
    grid : the part of the ground that is shown
    px_per_m : scale
    """

    grid: BevGrid
    px_per_m: float

    @classmethod
    def fitted(cls, grid: BevGrid, width: int, height: int) -> BevView:
        """Return the largest view of a grid that fits into a box of pixels."""
        return cls(grid, min(width / (grid.y_max_m - grid.y_min_m), height / (grid.x_max_m - grid.x_min_m)))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return (
            max(round((self.grid.y_max_m - self.grid.y_min_m) * self.px_per_m), 1),
            max(round((self.grid.x_max_m - self.grid.x_min_m) * self.px_per_m), 1),
        )

    def pixels(self, points_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the pixel coordinates (u, v) [..., 2] of points [..., 2], metres in the ego frame."""
        points = np.asarray(points_xy, dtype=np.float64)
        from_far_left = np.array([self.grid.y_max_m, self.grid.x_max_m]) - points[..., ::-1]
        return from_far_left * self.px_per_m - 0.5

    def raster(self, values: NDArray[Any], *, smooth: bool = False) -> NDArray[Any]:
        """Turn an array [nx, ny] or [nx, ny, channels] of the grid into the picture's rows and columns."""
        turned = np.ascontiguousarray(values[::-1, ::-1])
        shrinking = self.size[0] < turned.shape[1]
        sampling = cv2.INTER_AREA if shrinking and smooth else cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
        return np.asarray(cv2.resize(turned, self.size, interpolation=sampling))


def draw_hatching(picture: Picture, mask: NDArray[np.bool_], *, spacing: int = 9) -> None:
    """Fill a mask [H, W] with the dark hatching of what nobody has seen."""
    rows, columns = mask.shape
    stripes = (np.arange(rows)[:, None] + np.arange(columns)) % spacing < 2
    picture[mask] = UNOBSERVED
    picture[mask & stripes] = HATCH


def draw_ego(picture: Picture, view: BevView) -> None:
    """Draw the car: outline, windscreen and an arrow forward."""
    x0, x1, y0, y1 = EGO_OUTLINE_M
    nose = 0.45
    outline = np.array(
        [[x0, y0], [x0, y1], [x1 - nose, y1], [x1, y1 - nose], [x1, y0 + nose], [x1 - nose, y0]], dtype=np.float64
    )
    corners = view.pixels(outline)
    cv2.fillPoly(picture, [np.round(corners * 16).astype(np.int32)], BACKGROUND, cv2.LINE_AA, shift=4)
    polyline(picture, corners, EGO, 2, closed=True)
    arrow = np.array([[x1 - 1.9, y1 - 0.4], [x1 - 1.0, 0.0], [x1 - 1.9, y0 + 0.4]])
    polyline(picture, view.pixels(arrow), EGO, 2)
    u, v = view.pixels(np.zeros(2)).tolist()
    cv2.circle(picture, (round(u), round(v)), 2, EGO, -1, cv2.LINE_AA)


def draw_ranges(picture: Picture, view: BevView, *, every_m: float = 10.0) -> None:
    """Draw range rings around the ego origin, with their radius in metres on the right-hand side."""
    turn = np.linspace(0, 2 * np.pi, 181)
    width, height = view.size
    overlay = picture.copy()
    radii = np.arange(every_m, view.grid.reach_m, every_m)
    for radius in radii:
        polyline(overlay, view.pixels(radius * np.stack((np.cos(turn), np.sin(turn)), axis=-1)), MUTED, 1, closed=True)
    picture[:] = cv2.addWeighted(overlay, 0.35, picture, 0.65, 0)
    right = -view.grid.y_min_m - 20 / view.px_per_m
    for radius in radii:
        beside = min(radius, right)
        u, v = view.pixels(np.array([np.sqrt(radius**2 - beside**2), -beside]))
        if 20 <= v < height - 10 and 16 <= u < width - 16:
            draw_plate(picture, f"{radius:g} m", (round(u), round(v) - 10), size=11, colour=MUTED, align="centre")


def draw_legend(
    picture: Picture, entries: Iterable[tuple[str, Colour | None]], left: int, top: int, width: int, *, size: int = 13
) -> int:
    """Draw coloured boxes with names, in lines; a colour of None is the hatching. Return the y below the last line."""
    u, v = left, top
    for name, colour in entries:
        step = size + 8 + text_width(name, size) + 18
        if u > left and u + step - 18 > left + width:
            u, v = left, v + size + 10
        box = picture[v : v + size, u : u + size]
        if colour is None:
            draw_hatching(box, np.ones(box.shape[:2], dtype=np.bool_), spacing=5)
            cv2.rectangle(picture, (u, v), (u + size - 1, v + size - 1), MUTED, 1)
        else:
            box[:] = colour
        draw_text(picture, name, (u + size + 7, v + size - 2), size=size, colour=TEXT)
        u += step
    return v + size + 10


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a camera's image stands in a picture, pixels."""

    camera: Camera
    left: int
    top: int
    width: int
    height: int


def arrange_cameras(rig: Rig, left: int, top: int, width: int, height: int, gap: int) -> tuple[Tile, ...]:
    """Place a tile for every camera in a box: front rows first, in each row from left to right as the driver sees them.

    Cameras that look to the two sides at the same angle stay in one row. Tiles are as large as the box allows, of one
    size, and their height fits their own image.
    """
    aspect = float(np.median([camera.intrinsics.width / camera.intrinsics.height for camera in rig]))
    by_angle = sorted(rig, key=_angle_off_forward)
    groups = [
        len(group)
        for group in np.split(
            np.arange(len(by_angle)), np.flatnonzero(np.diff([*map(_angle_off_forward, by_angle)]) > 15) + 1
        )
    ]
    columns, tile_width = grid_of_tiles(groups, aspect, width, height, gap)
    tile_height = round(tile_width / aspect)
    tiles: list[Tile] = []
    ordered = iter(by_angle)
    for row, count in enumerate(rows_of_groups(groups, columns)):
        cameras = sorted((next(ordered) for _ in range(count)), key=_leftness, reverse=True)
        row_left = left + (columns * (tile_width + gap) - count * (tile_width + gap)) // 2
        for column, camera in enumerate(cameras):
            x = row_left + column * (tile_width + gap)
            tiles.append(Tile(camera, x, top + row * (tile_height + gap), tile_width, tile_height))
    return tuple(tiles)


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture, whole or not at all.

    Raises
    ------
    RecordingError
        The file cannot be written.
    """
    try:
        with whole_file(path) as part:
            part.write_bytes(cv2.imencode(".png", picture, _PNG_FAST)[1].tobytes())
    except OSError as error:
        raise RecordingError(unwritable(path, error)) from error


def _angle_off_forward(camera: Camera) -> float:
    x, y, _ = camera.ego_from_camera.rotation[:, 2]
    return float(np.degrees(np.arctan2(abs(y), x)))


def _leftness(camera: Camera) -> float:
    return round(float(camera.ego_from_camera.rotation[1, 2]), 1)


def grid_of_tiles(groups: Sequence[int], aspect: float, width: int, height: int, gap: int) -> tuple[int, int]:
    """Choose how many tiles stand in a row.

    Parameters
    ----------
    groups : sizes of the groups that should not be torn apart, see :func:`rows_of_groups`
    aspect : width of a tile by its height
    width, height : the box to be filled, pixels

    Returns
    -------
    columns, tile_width : most tiles in a row, and the tile width that they leave
    """
    best = (1, 0)
    for columns in range(1, min(sum(groups), max(4, math.isqrt(2 * sum(groups)))) + 1):
        rows = len(rows_of_groups(groups, columns))
        tile_width = min((width - gap * (columns - 1)) // columns, int((height - gap * (rows - 1)) / rows * aspect))
        if tile_width >= best[1]:
            best = (columns, tile_width)
    return best


def rows_of_groups(groups: Sequence[int], columns: int) -> list[int]:
    """Fill rows of at most `columns` with groups, a group torn only when it is wider than a row; sizes of the rows."""
    rows: list[int] = [0]
    for group in groups:
        left = group
        if rows[-1] and rows[-1] + left > columns:
            rows.append(0)
        while left:
            taken = min(left, columns - rows[-1])
            if taken == 0:
                rows.append(0)
                continue
            rows[-1] += taken
            left -= taken
    return rows
