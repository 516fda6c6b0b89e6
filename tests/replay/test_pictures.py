"""Pictures of a replay: everything in its place, files whole at any time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from octobev.errors import InvalidArgument, RecordingError
from octobev.fusion.geometry import Arm, Intersection, LayoutGeometry, Polyline
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.replay.bev_picture import (
    DIVIDER_LINE,
    EDGE_LINE,
    INTERSECTION_LINE,
    bev_outputs,
    bev_panels,
    draw_bev,
    draw_truth,
    legend_of,
)
from octobev.replay.drawing import CLASS_COLOURS, HATCH, UNOBSERVED, WARNING, BevView, Tile, class_colour
from octobev.replay.drive import GroundTruth
from octobev.replay.gif import GrowingGif
from octobev.replay.pictures import PictureWriter, draw_camera, draw_detections, draw_step, overlay
from octobev.runtime.frames import Frame, FrameSet, PixelFormat
from octobev.runtime.predictions import (
    BevTensor,
    CameraOutput,
    Detections,
    OccupancyGrid,
    Predictions,
    Provenance,
    RoadLayout,
    StateStatus,
)

GRID = BevGrid(-10.0, 30.0, -12.0, 12.0, 0.5)
VIEW = BevView(GRID, 10.0)
LENS = Intrinsics(160, 90, 100.0, 100.0, 79.5, 44.5)
CLASSES = ("drivable", "lane_divider", "road_edge", "crosswalk", "intersection")
START_NS = 1_700_000_000_000_000_000


def looking(yaw_deg: float) -> Pose:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    return Pose.planar(0, 0, math.radians(yaw_deg)) @ Pose(matrix)


RIG = Rig(
    tuple(Camera(n, LENS, looking(yaw)) for n, yaw in {"front": 0, "left": 90, "right": -90, "rear": 180}.items())
)


def block_at(x: float, y: float, half: float = 1.0) -> np.ndarray:
    return (np.abs(GRID.centres() - (x, y)) < half).all(axis=-1)


def layout(**blocks: np.ndarray) -> RoadLayout:
    probability = np.zeros((len(CLASSES), *GRID.shape), dtype=np.float32)
    for name, cells in blocks.items():
        probability[CLASSES.index(name)][cells] = 1.0
    return RoadLayout(GRID, CLASSES, probability, np.ones(GRID.shape, np.bool_), np.ones(GRID.shape, np.uint64))


def occupancy(cells: np.ndarray) -> OccupancyGrid:
    log_odds = np.where(cells, 5.0, -5.0).astype(np.float32)
    seen = np.ones(GRID.shape, np.uint64)
    return OccupancyGrid(GRID, log_odds, np.ones(GRID.shape, np.bool_), seen, half_life_s=2.0)


def predictions(timestamp_ns: int = START_NS, **changes: Any) -> Predictions:
    absent = changes.get("absences", {})
    values: dict[str, Any] = {
        "timestamp_ns": timestamp_ns,
        "sequence": 0,
        "cameras": RIG.names,
        "camera_mask": np.array([name not in absent for name in RIG.names]),
        "camera_age_ns": np.full(len(RIG), 12_000_000, dtype=np.int64),
        "absences": {},
        "bev": {"road_layout": layout(drivable=block_at(20, 6)), "occupancy": occupancy(block_at(5, -8))},
        "camera_outputs": {},
        "invalid": {},
        "state": StateStatus(False, "first set", 0),
        "provenance": Provenance("b", "0" * 64, "1" * 64, (), (), 1),
    }
    return Predictions(**(values | changes))


def frame_set(timestamp_ns: int = START_NS, absences: dict[str, str] | None = None, fill: int = 60) -> FrameSet:
    image = np.full((90, 160, 3), fill, dtype=np.uint8)
    frames = tuple(Frame(name, timestamp_ns, image) for name in RIG.names if name not in (absences or {}))
    return FrameSet(timestamp_ns, frames, absences=absences or {})


def truth(timestamp_ns: int = START_NS) -> GroundTruth:
    layers = {
        "drivable": block_at(20, 6).astype(np.uint8),
        "visible": (GRID.centres()[..., 0] > 0).astype(np.uint8),
    }
    return GroundTruth(timestamp_ns, GRID, layers)


def where(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Middle (u, v) of the pixels of a colour."""
    rows, columns = np.nonzero(np.abs(picture.astype(int) - colour).max(axis=-1) <= 3)
    assert len(rows) > 20, "the colour is not there"
    return float(np.median(columns)), float(np.median(rows))


@pytest.mark.parametrize("name", ["drivable", "lane_divider", "road_edge", "crosswalk"])
@pytest.mark.parametrize(("x", "y"), [(20.0, 6.0), (20.0, -6.0), (-6.0, 6.0), (-6.0, -6.0)])
def test_a_predicted_block_is_drawn_where_it_is(name: str, x: float, y: float) -> None:
    picture = draw_bev(VIEW, layout(**{name: block_at(x, y)}), None)
    u, v = where(picture, CLASS_COLOURS[name])
    np.testing.assert_allclose((u, v), VIEW.pixels(np.array([x, y])), atol=1.5)
    assert (u < VIEW.size[0] / 2) == (y > 0)
    assert (v < VIEW.size[1] / 2) == (x > 10)


def test_occupancy_is_drawn_over_the_road() -> None:
    picture = draw_bev(VIEW, layout(drivable=np.ones(GRID.shape, np.bool_)), occupancy(block_at(12, 4)))
    u, v = where(picture, CLASS_COLOURS["occupancy"])
    np.testing.assert_allclose((u, v), VIEW.pixels(np.array([12.0, 4.0])), atol=1.5)


def test_unseen_cells_are_hatched_and_remembered_ones_darker() -> None:
    observed = GRID.centres()[..., 1] > 0
    seen_now = np.where(GRID.centres()[..., 0] > 10, 1, 0).astype(np.uint64)
    everywhere = np.ones((1, *GRID.shape), dtype=np.float32)
    picture = draw_bev(VIEW, RoadLayout(GRID, ("drivable",), everywhere, observed, seen_now), None)
    unseen = {tuple(colour) for colour in picture[180:190, 150:220].reshape(-1, 3).tolist()}
    assert unseen == {UNOBSERVED, HATCH}
    new, remembered = picture[150, 20].astype(int), picture[330, 20].astype(int)
    np.testing.assert_allclose(new, CLASS_COLOURS["drivable"], atol=2)
    np.testing.assert_allclose(remembered, new * 0.72, atol=2)


def test_geometry_is_drawn_where_it_is() -> None:
    line = Polyline(np.array([(5.0, 3.05), (25.0, 3.05)]), 1.0)
    place = Intersection(
        np.array([(5.0, -8.0), (15.0, -8.0), (15.0, -2.0), (5.0, -2.0)]), (Arm(15.0, -5.0, 0.0, 6.0),), True, 1.0
    )
    plain = draw_bev(VIEW, layout(), None)
    for geometry, colour, on in (
        (LayoutGeometry(lane_dividers=(line,)), DIVIDER_LINE, (12.0, 3.0)),
        (LayoutGeometry(road_edges=(line,)), EDGE_LINE, (12.0, 3.0)),
        (LayoutGeometry(intersections=(place,)), INTERSECTION_LINE, (10.0, -8.0)),
        (LayoutGeometry(intersections=(place,)), INTERSECTION_LINE, (16.5, -5.0)),
    ):
        picture = draw_bev(VIEW, layout(), None, geometry)
        u, v = np.rint(VIEW.pixels(np.array(on))).astype(int)
        near = picture[v - 1 : v + 2, u - 1 : u + 2].reshape(-1, 3).astype(int)
        assert np.abs(near - colour).max(axis=1).min() < 100
        changed = np.argwhere((picture != plain).any(axis=2))
        assert len(changed) > 30
    assert (draw_bev(VIEW, layout(), None, LayoutGeometry()) == plain).all()


def test_ground_truth_is_drawn_like_a_prediction() -> None:
    picture = draw_truth(VIEW, truth())
    np.testing.assert_allclose(where(picture, CLASS_COLOURS["drivable"]), VIEW.pixels(np.array([20.0, 6.0])), atol=1.5)
    assert picture[390, 10].sum() < picture[250, 10].sum()


def test_grids_that_do_not_fit_are_refused() -> None:
    other = BevView(BevGrid(0, 10, 0, 10, 1.0), 10.0)
    with pytest.raises(InvalidArgument, match="one or more on"):
        draw_bev(other, layout(), None)
    with pytest.raises(InvalidArgument, match="one or more on"):
        draw_bev(VIEW, None, None)
    with pytest.raises(InvalidArgument, match="grid of the ground truth must be of the extent"):
        draw_truth(other, truth())


def test_outputs_of_other_names_are_found() -> None:
    step = predictions(
        bev={"raw": BevTensor(GRID, np.zeros(3)), "roads": layout(), "things": occupancy(block_at(0, 5))}
    )
    found = bev_outputs(step)
    assert found == (step.bev["roads"], step.bev["things"])
    assert bev_outputs(predictions(bev={})) == (None, None)


def test_legend_leaves_out_what_says_nothing() -> None:
    names = [name for name, _ in legend_of(["background", "lane_divider", "drivable", "tram"])]
    assert names == ["tram", "drivable", "lane divider"]


def detections(*boxes: tuple[float, ...], classes: tuple[str, ...] = ("vehicle", "pedestrian")) -> Detections:
    """Boxes with scores 0.9, 0.8, ...; of the classes in turn."""
    count = len(boxes)
    scores = (0.9 - 0.1 * np.arange(count)).astype(np.float32)
    return Detections(
        "front", classes, np.array(boxes, np.float32).reshape(-1, 4), scores, np.arange(count, dtype=np.uint16) % 2
    )


def test_boxes_are_drawn_where_they_are_in_the_colours_of_their_classes() -> None:
    """The picture has three times the pixels of the image: edges of pixel areas lie on edges of pixel areas."""
    picture = np.full((270, 480, 3), 60, np.uint8)
    scaling = np.array([[1 / 3, 0, 1 / 6 - 0.5], [0, 1 / 3, 1 / 6 - 0.5], [0, 0, 1]])
    draw_detections(picture, detections((20, 30, 60, 70), (99.5, 9.5, 103.5, 19.5)), scaling)
    for name, (left, top, right, bottom) in {"vehicle": (61, 91, 181, 211), "pedestrian": (300, 30, 312, 60)}.items():
        colour = class_colour(name)
        assert (picture[top + 3 : bottom - 3, [left, right]] == colour).all()
        assert (picture[bottom, left : right + 1] == colour).all()
        inside = picture[top + 3 : bottom - 3, left + 3 : right - 3]
        assert (inside == 60).all()
    assert (picture[:5] == 60).all()
    assert (picture[220:] == 60).all()


def test_the_best_box_is_drawn_on_top() -> None:
    picture = np.full((90, 160, 3), 60, np.uint8)
    draw_detections(picture, detections((20, 30, 32, 70), (20, 30, 32, 70)), np.eye(3))
    assert (picture[65, 20] == class_colour("vehicle")).all()


def test_of_texts_in_one_place_only_the_best_is_written() -> None:
    one, two = np.full((90, 160, 3), 60, np.uint8), np.full((90, 160, 3), 60, np.uint8)
    draw_detections(one, detections((20, 30, 60, 70)), np.eye(3))
    draw_detections(two, detections((20, 30, 60, 70), (20, 30, 60, 70)), np.eye(3))
    np.testing.assert_array_equal(one, two)
    assert (one[20:28, 20:60] != 60).any()


def test_boxes_that_leave_the_picture_and_no_boxes() -> None:
    picture = np.full((90, 160, 3), 60, np.uint8)
    draw_detections(picture, detections(), np.eye(3))
    assert (picture == 60).all()
    draw_detections(picture, detections((-0.5, -0.5, 159.5, 89.5)), np.eye(3))
    assert (picture[89] == class_colour("vehicle")).all()
    assert (picture[30:80, [0, 159]] == class_colour("vehicle")).all()


def test_detections_are_drawn_into_the_camera_and_named_in_the_legend() -> None:
    step = predictions(camera_outputs={"objects": {"front": detections((40, 20, 120, 70))}})
    picture = draw_camera(Tile(RIG["front"], 0, 0, 320, 180), frame_set(), step)
    assert (picture[100, [80, 240]] == class_colour("vehicle")).all()
    plain = draw_step(RIG, frame_set(), predictions())
    whole = draw_step(RIG, frame_set(), step)
    legend = slice(-116, None)
    assert not (plain[legend] == class_colour("pedestrian")).all(axis=-1).any()
    assert (whole[legend] == class_colour("pedestrian")).all(axis=-1).any()


def segmentation(cells: np.ndarray, pixels_from_image: np.ndarray) -> CameraOutput:
    values = np.stack([cells, ~cells]).astype(np.float32)
    return CameraOutput("front", "segmentation", values, ("road_edge", "background"), pixels_from_image)


@pytest.mark.parametrize("letterbox", [0, 10])
def test_segmentation_lies_exactly_over_the_image(letterbox: int) -> None:
    # the network saw the 160x90 image as 40x(22.5) pixels, below a band of fill
    cells = np.zeros((45, 40), dtype=np.bool_)
    cells[letterbox + 10 : letterbox + 16, 20:30] = True
    pixels_from_image = np.array([[0.25, 0, 0.125 - 0.5], [0, 0.25, 0.125 - 0.5 + letterbox], [0, 0, 1]])
    picture = np.zeros((180, 320, 3), dtype=np.uint8)
    image_from_picture = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    overlay(picture, segmentation(cells, pixels_from_image), image_from_picture)
    rows, columns = np.nonzero(picture.max(axis=-1) > 60)
    # cells 20..29 x 10..15 of the image quarter are pixels 80..119 x 40..63 of the image: twice that in the picture
    assert columns.min() == pytest.approx(160, abs=2)
    assert columns.max() == pytest.approx(239, abs=2)
    assert rows.min() == pytest.approx(80, abs=2)
    assert rows.max() == pytest.approx(127, abs=2)


def test_segmentation_stays_in_its_place_in_a_small_tile() -> None:
    mask = np.zeros((90, 160), dtype=np.bool_)
    mask[76:90, 101:121] = True
    step = predictions(camera_outputs={"segmentation": {"front": segmentation(mask, np.eye(3))}})
    picture = draw_camera(Tile(RIG["front"], 0, 0, 80, 45), frame_set(fill=0), step)
    red = picture[36:, :, 2].sum(axis=0).astype(float)  # below the name
    # pixels 101..120 of the image, whose middle is 110.5: (110.5 + 0.5) / 2 - 0.5 in the tile
    assert (red * np.arange(80)).sum() / red.sum() == pytest.approx(55.0, abs=0.1)


def test_depth_is_drawn_near_red_and_far_blue() -> None:
    depth = np.full((9, 16), 3.0, dtype=np.float32)
    depth[:, 8:] = 60.0
    depth[0] = np.nan
    output = CameraOutput("front", "depth", depth, (), np.diag([0.1, 0.1, 1.0]))
    picture = np.full((90, 160, 3), 50, dtype=np.uint8)
    overlay(picture, output, np.eye(3))
    near, far = picture[60, 30].astype(int), picture[60, 130].astype(int)
    assert near[2] > near[0]
    assert far[0] > far[2]
    untouched = np.full((4, 4, 3), 50, np.uint8)
    overlay(untouched, CameraOutput("front", "raw", np.ones((2, 2)), (), np.eye(3)), np.eye(3))
    assert (untouched == 50).all()


def test_an_absent_camera_says_why() -> None:
    tile = Tile(RIG["rear"], 0, 0, 320, 180)
    absent = draw_camera(tile, frame_set(absences={"rear": "dropped"}), predictions(absences={"rear": "dropped"}))
    present = draw_camera(tile, frame_set(), predictions())
    assert absent.shape == present.shape == (180, 320, 3)
    np.testing.assert_allclose(where(absent, WARNING), (160, 90), atol=12)
    assert (present[90:100, 150:170] == 60).all()


def test_a_frame_that_was_not_used_is_dimmed() -> None:
    tile = Tile(RIG["rear"], 0, 0, 320, 180)
    unused = draw_camera(tile, frame_set(), predictions(absences={"rear": "corrupt"}))
    assert unused[150, 10].tolist() == [21, 21, 21]


def test_an_undecodable_frame_is_absent() -> None:
    tile = Tile(RIG["rear"], 0, 0, 320, 180)
    frames = FrameSet(START_NS, (Frame("rear", START_NS, b"\xff\xd8 no image", PixelFormat.JPEG),))
    where(draw_camera(tile, frames, predictions()), WARNING)


@pytest.mark.parametrize("with_truth", [False, True])
def test_a_step_shows_cameras_and_predictions(with_truth: bool) -> None:
    picture = draw_step(RIG, frame_set(fill=77), predictions(), truth() if with_truth else None)
    assert picture.shape[1] == (2000 if with_truth else 1600)
    tiles = (picture == 77).all(axis=-1)
    assert tiles.sum() > 4 * 150 * 100
    u, v = where(picture[:, picture.shape[1] // 2 :], CLASS_COLOURS["occupancy"])
    assert v < picture.shape[0]
    assert u > 0


def test_another_network_has_a_panel_of_its_own() -> None:
    front = layout(lane_divider=block_at(12, 0))
    bev = predictions().bev | {"front_layout": front}
    networks = {"road_layout": "topdown", "occupancy": "topdown", "front_layout": "front"}
    step = predictions(bev=bev, networks=networks)
    assert [(panel.title, panel.layout_name) for panel in bev_panels(step)] == [
        ("prediction", "road_layout"),
        ("front", "front_layout"),
    ]
    one, two = draw_step(RIG, frame_set(), predictions()), draw_step(RIG, frame_set(), step)
    assert two.shape[1] - one.shape[1] == BevView.fitted(GRID, 620, 800).size[0] + 16
    u, _ = where(two, CLASS_COLOURS["lane_divider"])
    assert u > one.shape[1]


def test_layout_and_occupancy_of_two_networks_share_the_first_panel() -> None:
    (panel,) = bev_panels(predictions(networks={"road_layout": "a", "occupancy": "b"}))
    assert panel.layout is not None
    assert panel.occupancy is not None


def test_a_network_that_is_drawn_alone_is_the_prediction() -> None:
    step = predictions(bev={"front_layout": layout()}, networks={"front_layout": "front"})
    assert [(panel.title, panel.layout_name) for panel in bev_panels(step)] == [("prediction", "front_layout")]


@pytest.mark.parametrize("grid", [BevGrid(0, 10, -50, 50, 1.0), BevGrid(0, 200, -4, 4, 1.0), BevGrid(0, 1, 0, 1, 1.0)])
def test_grids_of_any_shape_leave_room_for_the_cameras(grid: BevGrid) -> None:
    ones = np.ones((1, *grid.shape), dtype=np.float32)
    roads = RoadLayout(grid, ("drivable",), ones, np.ones(grid.shape, np.bool_), np.ones(grid.shape, np.uint64))
    picture = draw_step(RIG, frame_set(fill=77), predictions(bev={"road_layout": roads}))
    assert picture.shape[1] == 1600
    assert (picture == 77).all(axis=-1).sum() > 4 * 200 * 100


def test_every_picture_of_a_replay_has_one_size(tmp_path: Path) -> None:
    steps = [
        predictions(),
        predictions(bev={}, invalid={"road_layout": "NaN in 4 of 10 values", "occupancy/front": "NaN"}),
        predictions(absences=dict.fromkeys(RIG.names, "dropped")),
    ]
    with PictureWriter(tmp_path, RIG) as writer:
        paths = [writer.add(frame_set(), step) for step in steps]
    assert [path.name for path in paths] == ["000000.png", "000001.png", "000002.png"]
    assert len({cv2.imread(str(path)).shape for path in paths}) == 1


def test_cameras_alone_are_drawn_without_a_birds_eye_view(tmp_path: Path) -> None:
    with PictureWriter(tmp_path, RIG) as writer:
        picture = cv2.imread(str(writer.add(frame_set(), predictions(bev={}))))
    assert ((picture == 60).all(axis=-1)).sum() > 4 * 300 * 150


def test_files_are_whole_after_every_step(tmp_path: Path) -> None:
    writer = PictureWriter(tmp_path / "deep" / "pictures", RIG)
    for i in range(3):
        path = writer.add(frame_set(START_NS + i * 200_000_000), predictions(START_NS + i * 200_000_000))
        assert cv2.imread(str(path)) is not None
        ok, animation = cv2.imreadanimation(str(writer.directory / "replay.gif"))
        assert ok
        assert len(animation.frames) == i + 1
    writer.close()
    assert {path.name for path in writer.directory.iterdir()} == {
        "000000.png",
        "000001.png",
        "000002.png",
        "replay.gif",
    }


def test_the_moving_picture_has_at_most_ten_pictures_a_second(tmp_path: Path) -> None:
    with PictureWriter(tmp_path, RIG) as writer:
        for i in range(5):
            writer.add(frame_set(START_NS + i * 50_000_000), predictions(START_NS + i * 50_000_000))
    ok, animation = cv2.imreadanimation(str(tmp_path / "replay.gif"))
    assert ok
    assert len(animation.frames) == 3


def test_a_gif_shows_what_was_added_for_as_long_as_it_took(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = []
    for colour in ((200, 40, 40), (30, 160, 60), (20, 30, 220)):
        picture = np.full((60, 90, 3), colour, dtype=np.uint8)
        picture[20:40, 30:60] = rng.integers(0, 255, (20, 30, 3))
        pictures.append(picture)
    with GrowingGif(tmp_path / "x.gif") as gif:
        for picture, time_ms in zip(pictures, (0, 100, 400), strict=True):
            gif.add(picture, time_ms * 1_000_000)
    ok, animation = cv2.imreadanimation(str(tmp_path / "x.gif"))
    assert ok
    assert list(animation.durations) == [100, 300, 300]
    for shown, picture in zip(animation.frames, pictures, strict=True):
        np.testing.assert_allclose(shown[5, 5, :3].astype(int), picture[5, 5], atol=8)


def test_gif_times_that_run_backwards_are_bounded(tmp_path: Path) -> None:
    picture = np.zeros((10, 10, 3), np.uint8)
    with GrowingGif(tmp_path / "x.gif") as gif:
        for time_s in (0, -5, 3600):
            gif.add(picture, time_s * 1_000_000_000)
    ok, animation = cv2.imreadanimation(str(tmp_path / "x.gif"))
    assert ok
    assert list(animation.durations) == [20, 2000, 2000]


def test_gif_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    with GrowingGif(tmp_path / "x.gif") as gif:
        gif.add(np.zeros((10, 10, 3), np.uint8), 0)
        with pytest.raises(RecordingError, match=r"picture size must be \(10, 10\) throughout, got \(12, 10\)"):
            gif.add(np.zeros((10, 12, 3), np.uint8), 1)


def test_a_gif_without_pictures_is_no_file(tmp_path: Path) -> None:
    with GrowingGif(tmp_path / "x.gif"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_directories_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordingError, match="file must be a folder, got a file"):
        PictureWriter(tmp_path / "file", RIG)
    with pytest.raises(RecordingError, match="file must be a folder, got a file"):
        PictureWriter(tmp_path / "file" / "below", RIG)
