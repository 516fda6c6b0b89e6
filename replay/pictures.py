"""Pictures of a replay: every camera with its predictions, and the bird's-eye view beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, RecordingError, unwritable
from ..fusion.grid import BevGrid
from ..fusion.rig import Rig
from ..runtime.frames import FrameSet
from ..runtime.images import load_opencv
from ..runtime.predictions import CameraOutput, Detections, Predictions
from .bev_picture import BevPanel, bev_outputs, bev_panels, draw_bev, draw_truth, legend_of
from .drawing import (
    BACKGROUND,
    ERROR,
    GOOD,
    LINE,
    MUTED,
    PANEL,
    TEXT,
    WARNING,
    BevView,
    Colour,
    Picture,
    Tile,
    arrange_cameras,
    blend,
    canvas,
    class_colour,
    draw_legend,
    draw_plate,
    draw_text,
    frame_picture,
    paste,
    plate_size,
    text_width,
    wrap,
    write_png,
)
from .drive import GroundTruth
from .gif import GrowingGif

cv2: Any = load_opencv()

_MARGIN: Final = 16
_HEADER: Final = 56
_INFO: Final = 116
_GAP: Final = 8
_LEAST_TILES_HEIGHT: Final = 400
_WIDTH: Final = 1600
_WIDTH_WITH_TRUTH: Final = 2000
_BEV_BOX: Final = (620, 800)
_BEV_BOX_WITH_TRUTH: Final = (560, 740)
_OVERLAY: Final = 0.55
_NEAR_M: Final = 3.0
_LABEL_SIZE: Final = 10
_LABEL_MARGIN: Final = 3
_LEAST_LABELLED: Final = 20
"""Narrowest box that is labelled, pixels of the picture: smaller ones would vanish behind their text."""

_MOVING_WIDTH: Final = 960
_MOVING_PERIOD_NS: Final = 100_000_000


class PictureWriter:
    """Writes a PNG of every step and one GIF of them all; usable in a `with`.

    Both are whole files after every step. The GIF has at most ten pictures per second of the drive.

    Parameters
    ----------
    directory : made when missing; pictures of an earlier replay in it are overwritten
    rig : cameras to draw, in their places
    title : heading of every picture

    Raises
    ------
    RecordingError
        The directory or a file in it cannot be written.
    """

    def __init__(self, directory: str | Path, rig: Rig, *, title: str = "octobev") -> None:
        self.directory = Path(directory)
        self._rig, self._title = rig, title
        self._layout: _Layout | None = None
        self._last_moving_ns: int | None = None
        self._first_ns = 0
        self.count = 0
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(unwritable(directory, error, folder=True)) from error
        self._gif = GrowingGif(self.directory / "replay.gif")

    def add(self, frame_set: FrameSet, predictions: Predictions, truth: GroundTruth | None = None) -> Path:
        """Draw a step and write it; return the path of the PNG."""
        if self._layout is None:
            self._layout = _Layout(self._rig, predictions, truth)
            self._first_ns = frame_set.timestamp_ns
        since_s = (frame_set.timestamp_ns - self._first_ns) / 1e9
        picture = self._layout.draw(f"{self._title}   +{since_s:.2f} s", frame_set, predictions, truth)
        path = self.directory / f"{self.count:06d}.png"
        write_png(path, picture)
        self.count += 1
        last_ns = self._last_moving_ns
        if last_ns is None or abs(frame_set.timestamp_ns - last_ns) >= _MOVING_PERIOD_NS * 0.9:
            height = round(picture.shape[0] * _MOVING_WIDTH / picture.shape[1])
            small = cv2.resize(picture, (_MOVING_WIDTH, height), interpolation=cv2.INTER_AREA)
            self._gif.add(small, frame_set.timestamp_ns)
            self._last_moving_ns = frame_set.timestamp_ns
        return path

    def close(self) -> None:
        """Close the GIF."""
        self._gif.close()

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def draw_step(rig: Rig, frame_set: FrameSet, predictions: Predictions, truth: GroundTruth | None = None) -> Picture:
    """Draw one step, uint8 [H, W, 3] BGR; the same as a first picture of :class:`PictureWriter`."""
    return _Layout(rig, predictions, truth).draw("octobev", frame_set, predictions, truth)


class _Layout:
    """Where everything stands; chosen from the first step and then kept, so that all pictures have one size."""

    def __init__(self, rig: Rig, predictions: Predictions, truth: GroundTruth | None) -> None:
        self.rig = rig
        self.with_truth = truth is not None
        grid = _grid_of(predictions, truth)
        self.view: BevView | None = None
        self.panels = len(bev_panels(predictions))
        self.width = _WIDTH_WITH_TRUTH if self.with_truth else _WIDTH
        panels_left = self.width
        box = _BEV_BOX_WITH_TRUTH if self.with_truth else _BEV_BOX
        if grid is not None:
            self.view = BevView.fitted(grid, *box)
            panel_width = self.view.size[0] + _MARGIN
            panels_left -= panel_width * (2 if self.with_truth else 1)
            self.width += panel_width * (self.panels - 1)
        self.panels_left = panels_left
        panel_height = self.view.size[1] if self.view else box[1]
        tiles_width = panels_left - 2 * _MARGIN
        tiles_height = max(panel_height - _INFO, _LEAST_TILES_HEIGHT)
        self.tiles = arrange_cameras(rig, _MARGIN, _HEADER, tiles_width, tiles_height, _GAP)
        self.below_tiles = max(tile.top + tile.height for tile in self.tiles) + _MARGIN
        self.height = max(_HEADER + panel_height, self.below_tiles + _INFO - _MARGIN) + _MARGIN

    def draw(self, title: str, frame_set: FrameSet, predictions: Predictions, truth: GroundTruth | None) -> Picture:
        picture = canvas(self.width, self.height)
        draw_text(picture, title, (_MARGIN, 37), size=22, weight=600)
        right = self.panels_left - _MARGIN if self.view else self.width - _MARGIN
        draw_text(picture, _clock(frame_set.timestamp_ns), (right, 37), size=15, colour=MUTED, align="right")
        for tile in self.tiles:
            paste(picture, draw_camera(tile, frame_set, predictions), tile.left, tile.top)
        self._draw_panels(picture, predictions, truth)
        self._draw_info(picture, predictions)
        return picture

    def _draw_panels(self, picture: Picture, predictions: Predictions, truth: GroundTruth | None) -> None:
        if self.view is None:
            return
        left = self.panels_left
        for panel in bev_panels(predictions)[: self.panels]:
            draw_text(picture, panel.title.replace("_", " "), (left, 37), size=16, colour=MUTED)
            paste(picture, _draw_panel(self.view, panel, predictions), left, _HEADER)
            left += self.view.size[0] + _MARGIN
        if self.with_truth:
            left = self.panels_left + self.panels * (self.view.size[0] + _MARGIN)
            draw_text(picture, "ground truth", (left, 37), size=16, colour=MUTED)
            if truth is not None:
                paste(picture, draw_truth(self.view, truth), left, _HEADER)
            else:
                paste(picture, canvas(*self.view.size, PANEL), left, _HEADER)

    def _draw_info(self, picture: Picture, predictions: Predictions) -> None:
        left, right = _MARGIN, self.panels_left - _MARGIN
        top = self.below_tiles
        cv2.line(picture, (left, top - 4), (right, top - 4), LINE, 1)
        layout, occupancy = bev_outputs(predictions)
        classes = [*(layout.classes if layout else ()), *(["occupancy"] if occupancy else ())]
        entries = legend_of(classes)
        shown = {colour for _, colour in entries}
        named = [o for by_camera in predictions.camera_outputs.values() for o in by_camera.values() if o.classes]
        entries += [e for e in legend_of(name for output in named for name in output.classes) if e[1] not in shown]
        if classes:
            entries.append(("never seen", None))
        v = draw_legend(picture, entries, left, top + 10, right - left, size=14) + 16
        for string, colour in _status(predictions):
            if left + text_width(string, 14) > right and left > _MARGIN:
                left, v = _MARGIN, v + 22
            for line in wrap(string, right - _MARGIN, 14)[:2]:
                draw_text(picture, line, (left, v), size=14, colour=colour)
            left += text_width(string, 14) + 28


def _draw_panel(view: BevView, panel: BevPanel, predictions: Predictions) -> Picture:
    layout = panel.layout if panel.layout is not None and panel.layout.grid == view.grid else None
    occupancy = panel.occupancy if panel.occupancy is not None and panel.occupancy.grid == view.grid else None
    if layout is None and occupancy is None:
        picture = canvas(*view.size, PANEL)
        draw_text(picture, "no prediction", (view.size[0] / 2, 60), colour=WARNING, align="centre")
        return picture
    geometry = predictions.geometry_of(panel.layout_name) if layout is not None and panel.layout_name else None
    return draw_bev(view, layout, occupancy, geometry)


def draw_camera(tile: Tile, frame_set: FrameSet, predictions: Predictions) -> Picture:
    """Draw the tile of one camera: its image with the predictions over it, or why there is none."""
    camera = tile.camera
    frame = frame_set.frame(camera.name)
    reason = predictions.absences.get(camera.name) or frame_set.absences.get(camera.name) or "no frame in this set"
    used = camera.name in predictions.cameras and bool(predictions.camera_mask[predictions.cameras.index(camera.name)])
    picture = None
    if frame is not None:
        try:
            picture = frame_picture(frame, camera, tile.width, tile.height)
        except ImageError as error:
            reason = str(error)
    if picture is None:
        return _draw_absent(tile, f"absent: {reason}")
    if not used:
        picture = (picture * 0.35).astype(np.uint8)
        _write_centred(picture, f"not used: {reason}")
    image_from_tile = _scaling(camera.intrinsics.width / tile.width, camera.intrinsics.height / tile.height)
    outputs = [by_camera[camera.name] for by_camera in predictions.camera_outputs.values() if camera.name in by_camera]
    kind = "segmentation" if any(output.kind == "segmentation" for output in outputs) else "depth"
    for output in outputs:
        if isinstance(output, CameraOutput) and output.kind == kind:
            overlay(picture, output, image_from_tile)
    for output in outputs:
        if isinstance(output, Detections):
            draw_detections(picture, output, image_from_tile)
    draw_plate(picture, camera.name, (8, 8), weight=600)
    if used:
        age_ms = predictions.camera_age_ns[predictions.cameras.index(camera.name)] / 1e6
        if abs(age_ms) >= 0.5:
            draw_plate(picture, f"{-age_ms:+.0f} ms", (tile.width - 8, 8), size=12, colour=MUTED, align="right")
    return picture


def overlay(picture: Picture, output: CameraOutput, image_from_picture: NDArray[np.float64]) -> None:
    """Lay the prediction of a camera over its image, exactly where it belongs.

    Parameters
    ----------
    picture : drawn into
    output : segmentation (its classes in their colours, by probability) or depth (near red, far blue); nothing is
        drawn for other kinds
    image_from_picture : float64 [3, 3], pixel coordinates of `picture` to those of the camera's full image
    """
    size = (picture.shape[1], picture.shape[0])
    values_from_picture = output.pixels_from_image @ image_from_picture
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    if output.kind == "segmentation":
        for name, probability in zip(output.classes, output.values, strict=True):
            colour = class_colour(name)
            if colour is not None:
                plane = np.ascontiguousarray(probability, dtype=np.float32)
                alpha = cv2.warpPerspective(plane, values_from_picture, size, flags=flags, borderValue=0)
                blend(picture, colour, np.clip((alpha - 0.2) / 0.6, 0.0, 1.0) * np.float32(_OVERLAY))
    elif output.kind == "depth":
        depth = np.ascontiguousarray(output.values, dtype=np.float32)
        nearness = np.where(np.isfinite(depth) & (depth > 0), 255.0 * _NEAR_M / np.maximum(depth, _NEAR_M), 0.0)
        plane = cv2.warpPerspective(nearness.astype(np.float32), values_from_picture, size, flags=flags, borderValue=0)
        colours = cv2.applyColorMap(np.rint(plane).astype(np.uint8), cv2.COLORMAP_TURBO)
        known = (plane > 0)[..., None]
        picture[:] = np.where(known, cv2.addWeighted(picture, 1 - _OVERLAY, colours, _OVERLAY, 0), picture)


def draw_detections(picture: Picture, detections: Detections, image_from_picture: NDArray[np.float64]) -> None:
    """Draw the boxes of a camera's objects over its image, in the colours of their classes, the best on top.

    Class and score stand above a box, the best first, where the box is not too small and no other text is in the way.
    """
    scale, offset = image_from_picture.diagonal()[:2], image_from_picture[:2, 2]
    limits = np.array([picture.shape[1], picture.shape[0]]) - 1
    corners = np.clip(np.rint((detections.boxes.reshape(-1, 2, 2) - offset) / scale), 0, limits).astype(int).tolist()
    colours = [class_colour(name) or TEXT for name in detections.names]
    for (low, high), colour in reversed(list(zip(corners, colours, strict=True))):
        cv2.rectangle(picture, low, high, BACKGROUND, 3)
        cv2.rectangle(picture, low, high, colour, 1)
    free = np.ones(picture.shape[:2], dtype=np.bool_)
    texts = [f"{name} {score:.2f}" for name, score in zip(detections.names, detections.scores.tolist(), strict=True)]
    for ((left, top), (right, _)), colour, text in zip(corners, colours, texts, strict=True):
        width, height = plate_size(text, _LABEL_SIZE, margin=_LABEL_MARGIN)
        corner = (max(min(left, picture.shape[1] - width), 0), max(top - height - 1, 0))
        place = free[corner[1] : corner[1] + height, corner[0] : corner[0] + width]
        if right - left >= _LEAST_LABELLED and place.all():
            place[:] = False
            draw_plate(picture, text, corner, size=_LABEL_SIZE, colour=colour, margin=_LABEL_MARGIN)


def _scaling(x: float, y: float) -> NDArray[np.float64]:
    """Pixel coordinates scaled by areas: the centre of the first pixel is at half its width."""
    return np.array([[x, 0.0, 0.5 * x - 0.5], [0.0, y, 0.5 * y - 0.5], [0.0, 0.0, 1.0]])


def _draw_absent(tile: Tile, reason: str) -> Picture:
    picture = canvas(tile.width, tile.height, PANEL)
    cv2.rectangle(picture, (0, 0), (tile.width - 1, tile.height - 1), LINE, 1)
    _write_centred(picture, reason)
    draw_plate(picture, tile.camera.name, (8, 8), weight=600, colour=MUTED)
    return picture


def _write_centred(picture: Picture, string: str) -> None:
    lines = wrap(string, picture.shape[1] - 32)
    for i, line in enumerate(lines):
        v = picture.shape[0] / 2 + 20 * (i - (len(lines) - 1) / 2) + 5
        draw_text(picture, line, (picture.shape[1] / 2, v), colour=WARNING, align="centre")


def _status(predictions: Predictions) -> list[tuple[str, Colour]]:
    used = int(predictions.camera_mask.sum())
    state = predictions.state
    lines: list[tuple[str, Colour]] = [
        (f"{used} of {len(predictions.cameras)} cameras", GOOD if used == len(predictions.cameras) else WARNING)
    ]
    if state.carried:
        lines.append((f"state carried for {state.age_ns / 1e9:.1f} s", MUTED))
    else:
        lines.append((f"state new: {state.reset_reason or 'nothing is carried'}", MUTED))
    if predictions.levelled:
        largest = max(abs(angle) for tilt in predictions.levelled.values() for angle in tilt)
        lines.append((f"{len(predictions.levelled)} cameras levelled, by up to {largest:.2f} deg", MUTED))
    lines += [(f"{name} withheld: {reason}", ERROR) for name, reason in predictions.invalid.items()]
    return lines


def _grid_of(predictions: Predictions, truth: GroundTruth | None) -> BevGrid | None:
    layout, occupancy = bev_outputs(predictions)
    for output in (layout, occupancy, truth):
        if output is not None:
            return output.grid
    return None


def _clock(timestamp_ns: int) -> str:
    try:
        moment = datetime.fromtimestamp(timestamp_ns // 1_000_000_000, UTC)
    except (OverflowError, OSError, ValueError):
        return f"{timestamp_ns} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{timestamp_ns // 1_000_000 % 1000:03d} UTC"
