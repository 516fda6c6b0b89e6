"""The picture of a rig: the ground grid in every image, all images cast to the ground, and who sees what of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..fusion.grid import BevGrid
from ..fusion.lens import Intrinsics
from ..fusion.pose import Pose
from ..fusion.rig import Rig
from ..fusion.rig_check import Coverage, Finding, Severity, measure_coverage, view_angles_deg
from ..runtime.frames import FrameSet
from ..runtime.images import load_opencv
from .drawing import (
    ERROR,
    FORWARD_AXIS,
    GOOD,
    LEFT_AXIS,
    MUTED,
    PANEL,
    TEXT,
    WARNING,
    BevView,
    Colour,
    Picture,
    Tile,
    arrange_cameras,
    canvas,
    draw_ego,
    draw_hatching,
    draw_legend,
    draw_plate,
    draw_ranges,
    draw_text,
    frame_picture,
    paste,
    polyline,
    wrap,
)
from .mosaic import make_mosaic, set_from_ego, views_of

cv2: Any = load_opencv()

MOSAIC_GRID: Final = BevGrid(-20.0, 40.0, -25.0, 25.0, 0.05)
_MARGIN: Final = 16
_HEADER: Final = 56
_TILES_WIDTH: Final = 1500
_TILES_HEIGHT: Final = 620
_MANY_TILES_HEIGHT: Final = 900
_COVERAGE_SIDE: Final = 380
_MOST_ROWS: Final = 12
_COARSER: Final = 5
_GRID_EVERY_M: Final = 5
_GRID_REACH_M: Final = 40
_HORIZON: Final[Colour] = (250, 206, 124)
_COUNT_COLOURS: Final = (None, (92, 70, 44), (140, 150, 60), (120, 200, 150), (150, 235, 230))


def draw_rig(
    rig: Rig, findings: Sequence[Finding], coverage: Coverage, frame_set: FrameSet | None = None, title: str = ""
) -> Picture:
    """Draw everything that an eye needs to judge a calibration.

    Parameters
    ----------
    rig : the cameras
    findings, coverage : what the checks gave; listed and drawn
    frame_set : images to draw into; None: the ground grid alone, on empty tiles
    title : heading; empty for the rig's name

    Returns
    -------
    uint8 [H, W, 3] BGR
    """
    box_height = _TILES_HEIGHT if len(rig) <= 6 else _MANY_TILES_HEIGHT
    tiles = arrange_cameras(rig, _MARGIN, _HEADER, _TILES_WIDTH, box_height, 10)
    below = max(tile.top + tile.height for tile in tiles) + _MARGIN
    height = below + 44 + _COVERAGE_SIDE + _MARGIN
    view = BevView.fitted(MOSAIC_GRID, 10_000, height - _HEADER - _MARGIN)
    mosaic_left = _MARGIN * 2 + _TILES_WIDTH
    picture = canvas(mosaic_left + view.size[0] + _MARGIN, height)
    draw_text(picture, title or rig.name, (_MARGIN, 37), size=22, weight=600)
    legend = [("ego x forward", FORWARD_AXIS), ("ego y left", LEFT_AXIS), ("ground every 5 m", TEXT)]
    draw_legend(picture, [*legend, ("range", WARNING), ("horizon", _HORIZON)], mosaic_left - 575, 23, 570)
    for tile in tiles:
        paste(picture, _draw_tile(tile, frame_set, findings), tile.left, tile.top)
    _draw_coverage(picture, coverage, _MARGIN, below)
    left, right = _MARGIN * 2 + _COVERAGE_SIDE, mosaic_left - _MARGIN
    top = _draw_mountings(picture, rig, left, below, right)
    _draw_findings(picture, findings, left, top, right)
    heading = "every pixel cast to the ground" if frame_set else "cameras that see the ground (no images)"
    draw_text(picture, heading, (mosaic_left, 37), size=16, colour=MUTED)
    paste(picture, _draw_mosaic(view, rig, frame_set), mosaic_left, _HEADER)
    return picture


def ground_lines(
    lens: Intrinsics, camera_from_set: Pose, every_m: float = _GRID_EVERY_M, reach_m: float = _GRID_REACH_M
) -> list[tuple[str, float, NDArray[np.float64]]]:
    """Project the ground grid into an image.

    Returns
    -------
    lines : (axis, position in metres, pixels [n, 2]); axis "x": a line of constant x, axis "y": of constant y; pixels
        outside the image are NaN
    """
    along = np.arange(-reach_m, reach_m + 1e-9, 0.1)
    lines = []
    for position in np.arange(-reach_m, reach_m + 1e-9, every_m):
        fixed = np.full_like(along, position)
        for axis, columns in (("x", (fixed, along)), ("y", (along, fixed))):
            points = np.stack((*columns, np.zeros_like(along)), axis=-1)
            lines.append((axis, float(position), lens.project(camera_from_set.apply(points))[0]))
    return lines


def horizon_line(lens: Intrinsics, camera_from_set: Pose) -> NDArray[np.float64]:
    """Project the directions that are level in the ego frame, pixels [n, 2], NaN outside the image."""
    turn = np.linspace(-np.pi, np.pi, 3601)
    level = np.stack((np.cos(turn), np.sin(turn), np.zeros_like(turn)), axis=-1)
    pixels = lens.project(level @ camera_from_set.rotation.T)[0]
    return np.roll(pixels, -int(np.argmin(np.isfinite(pixels).all(axis=1))), axis=0)


def _draw_tile(tile: Tile, frame_set: FrameSet | None, findings: Sequence[Finding]) -> Picture:
    camera = tile.camera
    frame = frame_set.frame(camera.name) if frame_set else None
    picture, note = canvas(tile.width, tile.height, PANEL), None
    if frame is not None:
        try:
            picture = frame_picture(frame, camera, tile.width, tile.height)
        except ImageError as error:
            note = str(error)
    elif frame_set is not None:
        note = f"absent: {frame_set.absences.get(camera.name, 'no frame in this set')}"
    set_from_camera = (set_from_ego(frame_set, camera.name) if frame_set else Pose.identity()) @ camera.ego_from_camera
    if set_from_camera.translation_m[2] > 0:
        _draw_ground(picture, camera.intrinsics.resized(tile.width, tile.height), set_from_camera)
    if note is not None:
        for i, line in enumerate(wrap(note, tile.width - 40)):
            draw_text(picture, line, (tile.width / 2, tile.height / 2 + 20 * i), colour=WARNING, align="centre")
    wrong = [finding for finding in findings if finding.camera == camera.name]
    colour = TEXT if not wrong else ERROR if wrong[0].severity is Severity.ERROR else WARNING
    draw_plate(picture, camera.name, (8, 8), colour=colour, weight=600)
    if wrong:
        cv2.rectangle(picture, (0, 0), (tile.width - 1, tile.height - 1), colour, 2)
        draw_plate(picture, ", ".join(finding.check for finding in wrong), (8, 38), size=13, colour=colour)
    return picture


def _draw_ground(picture: Picture, lens: Intrinsics, set_from_camera: Pose) -> None:
    camera_from_set = set_from_camera.inverse()
    lines = ground_lines(lens, camera_from_set)
    overlay = picture.copy()
    for _, _, pixels in lines:
        polyline(overlay, pixels, TEXT, 1)
    picture[:] = cv2.addWeighted(overlay, 0.55, picture, 0.45, 0)
    for axis, position, pixels in lines:
        if position == 0.0:
            polyline(picture, pixels, LEFT_AXIS if axis == "x" else FORWARD_AXIS, 2)
    polyline(picture, horizon_line(lens, camera_from_set), _HORIZON, 1)
    _draw_range_labels(picture, lens, set_from_camera)


def _draw_range_labels(picture: Picture, lens: Intrinsics, set_from_camera: Pose) -> None:
    """Rings of 5, 10, 20, 30 m around the ego origin are labelled where the camera looks."""
    camera_from_set = set_from_camera.inverse()
    forward = set_from_camera.rotation[:, 2]
    azimuth = np.arctan2(forward[1], forward[0])
    turn = np.linspace(-np.pi, np.pi, 721)
    lowest = picture.shape[0] - 8.0
    for radius in (5.0, 10.0, 20.0, 30.0):
        ring = radius * np.stack((np.cos(turn), np.sin(turn), np.zeros_like(turn)), axis=-1)
        polyline(picture, lens.project(camera_from_set.apply(ring))[0], WARNING, 1)
        point = radius * np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        (u, v), valid = lens.project(camera_from_set.apply(point))
        if valid and 16 < u < lens.width - 16 and v + 20 < lowest:
            lowest = float(v)
            draw_plate(picture, f"{radius:g} m", (round(u), round(v) + 2), size=11, colour=WARNING, align="centre")


def _draw_mosaic(view: BevView, rig: Rig, frame_set: FrameSet | None) -> Picture:
    if frame_set is None:
        return _draw_counts(view, measure_coverage(rig, view.grid.scaled(_COARSER)).count)
    usable = []
    for camera in rig:
        try:
            usable += list(views_of(frame_set, rig.select([camera.name])))
        except ImageError:
            continue  # its tile says so
    mosaic = make_mosaic(usable, view.grid)
    picture = np.asarray(view.raster(mosaic.picture, smooth=True), dtype=np.uint8)
    draw_hatching(picture, np.asarray(view.raster(mosaic.count)) == 0)
    draw_ranges(picture, view)
    draw_ego(picture, view)
    return picture


def _draw_coverage(picture: Picture, coverage: Coverage, left: int, top: int) -> None:
    draw_text(picture, "cameras that see the ground", (left, top + 22), size=16, colour=MUTED)
    view = BevView.fitted(coverage.grid, _COVERAGE_SIDE, _COVERAGE_SIDE)
    paste(picture, _draw_counts(view, coverage.count), left, top + 36)


def _draw_counts(view: BevView, count: NDArray[np.uint8]) -> Picture:
    panel = canvas(*view.size)
    cameras = np.asarray(view.raster(count))
    draw_hatching(panel, cameras == 0)
    for number, colour in enumerate(_COUNT_COLOURS):
        if colour is not None:
            panel[cameras >= number] = colour
    draw_ranges(panel, view)
    draw_ego(panel, view)
    return panel


def _draw_mountings(picture: Picture, rig: Rig, left: int, top: int, right: int) -> int:
    """Write a table of where the cameras sit and look; return the y below it."""
    entries = list(zip(("nobody", "1 camera", "2", "3", "4 or more"), _COUNT_COLOURS, strict=True))
    draw_legend(picture, entries, left, top + 10, right - left)
    columns = ("x", "y", "height", "yaw", "pitch", "roll", "field of view")
    positions = [left + 250 + 95 * i for i in range(6)] + [left + 870]
    v = top + 58
    for name, u in zip(columns, positions, strict=True):
        draw_text(picture, name, (u, v), size=13, colour=MUTED, align="right")
    for camera in list(rig)[:_MOST_ROWS]:
        v += 20
        x, y, z = camera.ego_from_camera.translation_m
        angles = view_angles_deg(camera.ego_from_camera)
        values = [f"{value:.2f} m" for value in (x, y, z)] + [f"{round(value, 1) + 0.0:.1f}°" for value in angles]
        values.append("{:.0f}° x {:.0f}°".format(*camera.intrinsics.fov_deg))
        draw_text(picture, camera.name, (left, v), size=14, weight=500)
        for value, u in zip(values, positions, strict=True):
            draw_text(picture, value, (u, v), size=14, align="right")
    return v + 22


def _draw_findings(picture: Picture, findings: Sequence[Finding], left: int, top: int, right: int) -> None:
    v = top + 12
    if not findings:
        draw_text(picture, "No findings", (left, v), colour=GOOD, weight=600)
        return
    v -= 4
    for i, finding in enumerate(findings):
        lines = wrap(f"{finding.camera or 'rig'}: {finding.message}", right - left - 14, 14)
        if v + 19 * len(lines) > picture.shape[0] - 24:
            draw_text(picture, f"and {len(findings) - i} more", (left + 14, v), size=14, colour=MUTED)
            return
        colour = ERROR if finding.severity is Severity.ERROR else WARNING
        cv2.rectangle(picture, (left, v - 12), (left + 4, v + 19 * len(lines) - 16), colour, -1)
        for line in lines:
            draw_text(picture, line, (left + 14, v), size=14)
            v += 19
        v += 8
