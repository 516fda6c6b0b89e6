"""Drawing primitives: forward is up, left is left, everything stays in its place."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from octobev.errors import ImageError, RecordingError
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.replay.drawing import (
    CLASS_COLOURS,
    EGO,
    HATCH,
    UNOBSERVED,
    BevView,
    arrange_cameras,
    blend,
    canvas,
    class_colour,
    draw_ego,
    draw_hatching,
    draw_legend,
    draw_plate,
    draw_text,
    frame_picture,
    grid_of_tiles,
    paste,
    polyline,
    rows_of_groups,
    text_width,
    wrap,
    write_png,
)
from octobev.runtime.frames import Frame, PixelFormat

GRID = BevGrid(-10.0, 30.0, -12.0, 12.0, 0.5)


def looking(yaw_deg: float) -> Pose:
    yaw = math.radians(yaw_deg)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    return Pose.planar(0, 0, yaw) @ Pose(matrix)


def rig_of(yaws: dict[str, float], width: int = 1600, height: int = 900) -> Rig:
    lens = Intrinsics(width, height, 900, 900, width / 2, height / 2)
    return Rig(tuple(Camera(name, lens, looking(yaw)) for name, yaw in yaws.items()))


def rows_of(rig: Rig, width: int = 1000, height: int = 600) -> list[list[str]]:
    rows: dict[int, list[tuple[int, str]]] = {}
    for tile in arrange_cameras(rig, 0, 0, width, height, 8):
        rows.setdefault(tile.top, []).append((tile.left, tile.camera.name))
    return [[name for _, name in sorted(row)] for _, row in sorted(rows.items())]


def test_forward_is_up_and_left_is_left() -> None:
    view = BevView(GRID, 10.0)
    assert view.size == (240, 400)
    np.testing.assert_allclose(view.pixels(np.array([30.0, 12.0])), (-0.5, -0.5))
    np.testing.assert_allclose(view.pixels(np.array([-10.0, -12.0])), (239.5, 399.5))
    (ahead_left,) = view.pixels(np.array([[20.0, 5.0]]))
    np.testing.assert_allclose(ahead_left, ((12 - 5) * 10 - 0.5, (30 - 20) * 10 - 0.5))


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("px_per_m", [10.0, 3.7, 1.0])
def test_a_raster_puts_a_block_of_cells_where_pixels_says(px_per_m: float, smooth: bool) -> None:
    view = BevView(GRID, px_per_m)
    values = np.zeros(GRID.shape, dtype=np.float32)
    block = (np.abs(GRID.centres() - (21.0, 7.0)) < 2.0).all(axis=-1)
    values[block] = 1.0
    picture = view.raster(values, smooth=smooth)
    assert picture.shape == view.size[::-1]
    v, u = np.indices(picture.shape)
    centre = (picture * u).sum() / picture.sum(), (picture * v).sum() / picture.sum()
    np.testing.assert_allclose(centre, view.pixels(np.array([21.0, 7.0])), atol=0.6)


def test_a_raster_keeps_channels() -> None:
    values = np.zeros((*GRID.shape, 3), dtype=np.uint8)
    values[-1, -1] = (1, 2, 3)  # farthest ahead, farthest left
    assert BevView(GRID, 4.0).raster(values)[0, 0].tolist() == [1, 2, 3]


def test_fitted_fills_the_box_in_one_direction() -> None:
    assert BevView.fitted(GRID, 240, 1000).px_per_m == pytest.approx(10.0)
    assert BevView.fitted(GRID, 1000, 400).px_per_m == pytest.approx(10.0)


def test_the_car_is_drawn_ahead_of_its_rear_axle() -> None:
    view = BevView(GRID, 10.0)
    picture = canvas(*view.size)
    draw_ego(picture, view)
    rows, columns = np.nonzero((picture == EGO).all(axis=-1))
    u, v = view.pixels(np.zeros(2))
    assert v - rows.min() == pytest.approx(38, abs=2)
    assert rows.max() - v == pytest.approx(10, abs=2)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(u, abs=1)


def test_hatching_stays_inside_its_mask() -> None:
    picture = canvas(40, 30, (9, 9, 9))
    mask = np.zeros((30, 40), dtype=np.bool_)
    mask[5:20, 10:30] = True
    draw_hatching(picture, mask)
    colours = {tuple(colour) for colour in picture[mask].tolist()}
    assert colours == {UNOBSERVED, HATCH}
    assert (picture[~mask] == 9).all()


def test_a_line_is_interrupted_where_points_are_missing() -> None:
    picture = canvas(100, 20, (0, 0, 0))
    points = np.stack((np.arange(0, 100, 1.0), np.full(100, 10.0)), axis=-1)
    points[40:60] = np.nan
    points[80, 0] = 1e9
    polyline(picture, points, (255, 255, 255))
    lit = picture[10, :, 0] > 0
    assert lit[:39].all()
    assert not lit[42:58].any()
    assert lit[62:78].all()
    polyline(picture, np.full((5, 2), np.nan), (255, 255, 255))


def test_blending_by_hand() -> None:
    picture = canvas(2, 1, (100, 0, 0))
    blend(picture, (200, 100, 0), np.array([[0.0, 0.5]], dtype=np.float32))
    assert picture.tolist() == [[[100, 0, 0], [150, 50, 0]]]


def test_paste_clips() -> None:
    picture = canvas(10, 10, (0, 0, 0))
    paste(picture, canvas(4, 4, (1, 1, 1)), -2, 8)
    paste(picture, canvas(4, 4, (1, 1, 1)), 20, 0)
    assert picture[8:, :2].all()
    assert picture.sum() == 2 * 2 * 3


def test_text_is_aligned() -> None:
    spans = {}
    for align in ("left", "centre", "right"):
        picture = canvas(300, 40, (0, 0, 0))
        draw_text(picture, "CAM_FRONT 10 m", (150, 28), align=align)  # type: ignore[arg-type]
        columns = np.nonzero(picture.any(axis=(0, 2)))[0]
        spans[align] = columns.min(), columns.max()
    assert spans["left"][0] >= 149
    assert spans["right"][1] <= 151
    assert abs(sum(spans["centre"]) / 2 - 150) < 4


def test_plates_at_the_edge_do_not_fail() -> None:
    picture = canvas(60, 40)
    for corner in ((-20, -5), (55, 35), (200, 200)):
        draw_plate(picture, "front", corner)


def test_wrapped_lines_fit_and_lose_nothing() -> None:
    message = "mounting must be in metres, within 30 of the ego origin, got 1700"
    lines = wrap(message, 150)
    assert len(lines) > 2
    assert " ".join(lines) == message
    assert all(text_width(line) <= 150 for line in lines)
    assert wrap("", 100) == []


def test_a_legend_breaks_lines_and_gives_its_end() -> None:
    picture = canvas(300, 200, (0, 0, 0))
    entries = [(f"class number {i}", (10, 200, 10)) for i in range(4)]
    bottom = draw_legend(picture, [*entries, ("never seen", None)], 10, 10, 200)
    assert bottom > 10 + 3 * 20
    assert not picture[bottom:].any()


def test_class_colours_are_stable_and_nothing_has_none() -> None:
    assert class_colour("drivable") == CLASS_COLOURS["drivable"]
    assert class_colour("background") is None
    assert class_colour("tram_track") == class_colour("tram_track") is not None
    main = ("drivable", "intersection", "crosswalk", "lane_divider", "road_edge", "occupancy")
    assert len({CLASS_COLOURS[name] for name in main}) == 6


@pytest.mark.parametrize(
    ("groups", "columns", "rows"),
    [([1, 2, 2, 1], 3, [3, 3]), ([1, 2, 2, 1], 2, [1, 2, 2, 1]), ([3, 2, 2, 1], 3, [3, 2, 3]), ([5], 2, [2, 2, 1])],
)
def test_rows_keep_groups_together(groups: list[int], columns: int, rows: list[int]) -> None:
    assert rows_of_groups(groups, columns) == rows


def test_tiles_are_as_large_as_the_box_allows() -> None:
    assert grid_of_tiles([1], 2.0, 400, 400, 10) == (1, 400)
    assert grid_of_tiles([3], 2.0, 620, 100, 10) == (3, 200)


def test_six_cameras_stand_as_the_driver_sees_them() -> None:
    rig = rig_of({"bl": 110, "b": 180, "fl": 55, "f": 0, "br": -110, "fr": -55})
    assert rows_of(rig) == [["fl", "f", "fr"], ["bl", "b", "br"]]


def test_eight_cameras_stand_as_the_driver_sees_them() -> None:
    yaws = {"main": 0, "wide": 0, "narrow": 0, "lp": 58, "rp": -58, "lr": 142, "rr": -142, "rear": 180}
    rig = rig_of(yaws, 1280, 960)
    assert rows_of(rig) == [["main", "wide", "narrow"], ["lp", "rp"], ["lr", "rear", "rr"]]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 11, 16, 64])
def test_any_number_of_cameras_has_its_place(count: int) -> None:
    rig = rig_of({f"c{i}": 360.0 * i / count for i in range(count)})
    tiles = arrange_cameras(rig, 10, 20, 900, 700, 8)
    assert sorted(tile.camera.name for tile in tiles) == sorted(rig.names)
    taken = np.zeros((720, 910), dtype=np.int64)
    assert min(tile.width for tile in tiles) > 60
    for tile in tiles:
        assert tile.left >= 10
        assert tile.top >= 20
        assert tile.left + tile.width <= 910
        assert tile.top + tile.height <= 722
        taken[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert taken.max() == 1


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_a_frame_of_any_format_becomes_bgr(
    pixel_format: PixelFormat, yuv_of: Callable[[np.ndarray, str], np.ndarray]
) -> None:
    image = np.zeros((90, 160, 3), dtype=np.uint8)
    image[:, 80:] = (200, 100, 50) if pixel_format is not PixelFormat.MONO8 else (120, 120, 120)
    data: np.ndarray | bytes = image
    if pixel_format is PixelFormat.RGB8:
        data = image[..., ::-1]
    elif pixel_format is PixelFormat.MONO8:
        data = image[..., 0]
    elif pixel_format.yuv:
        data = yuv_of(image, pixel_format)
    elif pixel_format.encoded:
        data = cv2.imencode(f".{pixel_format}", image)[1].tobytes()
    (camera,) = rig_of({"front": 0}, 160, 90)
    picture = frame_picture(Frame("front", 0, data, pixel_format), camera, 80, 45)
    assert picture.shape == (45, 80, 3)
    np.testing.assert_allclose(picture[20, 60].astype(int), image[0, -1], atol=6)
    assert not np.shares_memory(picture, image)


def test_a_frame_of_another_size_is_refused() -> None:
    (camera,) = rig_of({"front": 0}, 160, 90)
    with pytest.raises(ImageError, match="image size must be 160x90 as calibrated, got 80x90"):
        frame_picture(Frame("front", 0, np.zeros((90, 80, 3), np.uint8)), camera, 80, 45)


def test_png_files_are_whole_or_not_there(tmp_path: Path) -> None:
    picture = canvas(30, 20, (1, 2, 3))
    write_png(tmp_path / "x.png", picture)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "x.png")), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    with pytest.raises(RecordingError, match=r"y\.png: .*missing must be a folder, got nothing of that name"):
        write_png(tmp_path / "missing" / "y.png", picture)
