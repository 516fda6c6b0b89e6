from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera
from octobev.replay import world as world_module
from octobev.replay.bodies import VEHICLE
from octobev.replay.daylight import Daylight, make_daylight
from octobev.replay.ground import DRIVABLE, _patch
from octobev.replay.markings import LINE_M, MarkingStyle, make_markings
from octobev.replay.render import CLASSES, Renderer, View
from octobev.replay.rigs import reference_rig
from octobev.replay.roads import RoadNetwork
from octobev.replay.world import START_NS, World

SIZE = (640, 480)
NOW_NS = START_NS + 4_000_000_000


@pytest.fixture(scope="module")
def world() -> World:
    return World(3, 8.0)


@pytest.fixture(scope="module")
def renderer(world: World) -> Renderer:
    return Renderer(world, effects=False)


def camera(name: str) -> Camera:
    chosen = reference_rig()[name]
    return Camera(name, chosen.intrinsics.resized(*SIZE), chosen.ego_from_camera)


def view_of(renderer: Renderer, name: str) -> tuple[Camera, Pose, View]:
    chosen, pose = camera(name), renderer.world.ego_pose(NOW_NS)
    return chosen, pose, renderer.render(chosen, pose, NOW_NS, labels=True)


def pixels_of(chosen: Camera, world_from_ego: Pose, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    in_camera = (world_from_ego @ chosen.ego_from_camera).inverse().apply(points)
    pixels, valid = chosen.intrinsics.project(in_camera)
    return np.where(valid[:, None], np.round(pixels), 0).astype(int), valid


def line_points(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Middles of painted solid lines, world frame, and unit vectors across them."""
    points, across = [], []
    for road in world.network.roads:
        if road.profile.edge_line:
            begin, end = road.span_m[0] + 6, road.span_m[1] - 6
            for side in (-1, 1):
                offset = side * road.profile.lanes * road.profile.lane_m
                points.append(road.line(begin, end, offset))
                across.append(road.line(begin, end, offset + 1.0) - points[-1])
    return np.concatenate(points), np.concatenate(across)


@pytest.mark.parametrize("name", ["front_main", "front_wide", "left_pillar", "right_repeater", "rear"])
def test_painted_lines_are_in_the_image_where_geometry_says(world: World, renderer: Renderer, name: str) -> None:
    chosen, pose, view = view_of(renderer, name)
    points, across = line_points(world)
    near = np.linalg.norm(points - pose.translation_m[:2], axis=1) < 16
    points, across = points[near], across[near]
    offsets = np.arange(-0.6, 0.61, 0.05)
    profile = []
    for offset in offsets:
        spots = np.column_stack((points + offset * across, np.zeros(len(points))))
        pixels, valid = pixels_of(chosen, pose, spots)
        free = valid & (view.things[pixels[:, 1], pixels[:, 0]] == 0)
        profile.append(np.where(free, view.image[pixels[:, 1], pixels[:, 0]].mean(axis=1), np.nan))
    profile = np.array(profile)
    profile = profile[:, np.isfinite(profile).all(axis=0)]
    if profile.shape[1] < 8:
        pytest.skip("no solid line in this view")
    brightness = profile.mean(axis=1)
    weight = np.clip(brightness - (brightness.max() + np.median(brightness)) / 2, 0, None)  # not the curb beside it
    assert abs((weight * offsets).sum() / weight.sum()) < 0.06
    assert brightness.max() > 1.3 * np.percentile(brightness, 25)


def test_labels_of_the_ground_are_those_of_the_truth(world: World, renderer: Renderer) -> None:
    chosen, pose, view = view_of(renderer, "front_main")
    x, y = np.meshgrid(np.arange(7.0, 22.0, 0.4), np.arange(-4.0, 4.0, 0.4))
    ego = np.column_stack((x.ravel(), y.ravel(), np.zeros(x.size)))
    pixels, valid = pixels_of(chosen, pose, pose.apply(ego))
    column, row = pixels[valid].T
    free = view.things[row, column] == 0
    cells = np.floor((pose.apply(ego)[valid][free, :2] + 160) / 0.125).astype(int)
    expected = world.ground.classes[cells[:, 1], cells[:, 0]]
    assert free.sum() > 150
    assert (view.classes[row, column][free] == expected).mean() > 0.93  # pixels on borders may fall to either side
    assert len(set(expected.tolist())) > 1


def test_depth_puts_the_ground_at_height_zero(renderer: Renderer) -> None:
    chosen, pose, view = view_of(renderer, "front_wide")
    row, column = np.nonzero((view.things == 0) & np.isfinite(view.depth) & (view.depth < 30))
    rays, _ = chosen.intrinsics.unproject(np.column_stack((column, row)).astype(np.float64))
    points = rays / rays[:, 2:] * view.depth[row, column][:, None]
    heights = (pose @ chosen.ego_from_camera).apply(points)[:, 2]
    assert len(row) > 10_000
    assert np.abs(heights).max() < 0.02


def test_depth_of_things_lies_on_them(world: World, renderer: Renderer) -> None:
    chosen, pose, view = view_of(renderer, "left_pillar")
    row, column = np.nonzero(view.things > 0)
    rays, _ = chosen.intrinsics.unproject(np.column_stack((column, row)).astype(np.float64))
    points = (pose @ chosen.ego_from_camera).apply(rays / rays[:, 2:] * view.depth[row, column][:, None])
    inside = np.zeros(len(points), bool)
    for bodies in (world.standing, world.moving_bodies(NOW_NS)):
        for thing, centre, radius in zip(bodies.things, bodies.centres, bodies.radii, strict=True):
            own = view.things[row, column] == thing
            inside[own] |= np.linalg.norm(points[own, :2] - centre, axis=1) < radius + 0.3
    assert len(row) > 1000
    assert inside.mean() > 0.995


def test_things_on_the_left_are_on_the_left_of_the_image(world: World, renderer: Renderer) -> None:
    _, pose, view = view_of(renderer, "front_main")
    ego_from_world = pose.inverse()
    for bodies in (world.standing,):
        for thing, centre in zip(bodies.things, bodies.centres, strict=True):
            columns = np.nonzero(view.things == thing)[1]
            bearing = ego_from_world.apply(np.array([*centre, 0.0]))
            if len(columns) > 20 and abs(bearing[1]) > 4 and bearing[0] > 8:
                assert (columns.mean() < SIZE[0] / 2) == (bearing[1] > 0)


def test_sky_is_far_and_no_class(renderer: Renderer) -> None:
    _, _, view = view_of(renderer, "front_main")
    sky = np.isinf(view.depth)
    assert sky[:40].mean() > 0.3
    assert (view.classes[sky] == CLASSES.index("other")).all()
    things = view.things > 0
    cars = renderer.world.kinds[view.things] == VEHICLE
    assert cars.any()
    assert (view.classes[cars] == CLASSES.index("vehicle")).all()
    assert (view.classes[things & ~cars] == CLASSES.index("obstacle")).all()


def test_labels_do_not_change_the_picture(renderer: Renderer) -> None:
    chosen, pose, view = view_of(renderer, "rear")
    plain = renderer.render(chosen, pose, NOW_NS)
    assert np.array_equal(plain.image, view.image)
    assert plain.classes is None
    assert plain.depth is None


def test_each_camera_has_its_own_exposure(world: World) -> None:
    renderer = Renderer(world)
    pose = world.ego_pose(NOW_NS)
    first, again = (renderer.render(camera("front_main"), pose, NOW_NS).image for _ in range(2))
    assert np.array_equal(first, again)
    other = Camera("other", camera("front_main").intrinsics, camera("front_main").ego_from_camera)
    assert not np.array_equal(first, renderer.render(other, pose, NOW_NS).image)


@pytest.mark.parametrize("model", list(LensModel))
def test_every_lens_model_is_drawn(renderer: Renderer, model: LensModel) -> None:
    coefficients = {"pinhole": (), "brown_conrady": (-0.1, 0.01, 0, 0, 0), "kannala_brandt": (0.02, 0, 0, 0)}[model]
    lens = Intrinsics(160, 96, 90.0, 90.0, 79.5, 47.5, model, coefficients)
    view = renderer.render(
        Camera("any", lens, camera("front_main").ego_from_camera), renderer.world.ego_pose(NOW_NS), NOW_NS, labels=True
    )
    assert view.image.std() > 10
    assert {CLASSES.index("drivable"), CLASSES.index("obstacle")} <= set(np.unique(view.classes).tolist())


def test_a_mixed_line_is_solid_on_one_side_and_dashed_on_the_other(world: World) -> None:
    road = replace(world.network.roads[0], profile=replace(world.network.roads[0].profile, centre="mixed", lanes=1))
    markings = make_markings(RoadNetwork((road,), (), ()), MarkingStyle(True, True, 3.0, 6.0))
    length = road.span_m[1] - road.span_m[0]
    areas = [cv2.contourArea(outline.astype(np.float32)) / LINE_M for outline in markings.yellow]
    assert max(areas) > 0.7 * length
    assert sorted(areas)[-2] == pytest.approx(3.0, abs=0.1)
    assert len(areas) > length / 12
    dashed = np.concatenate(sorted(markings.yellow, key=len)[:-1])
    solid = max(markings.yellow, key=len)
    assert np.linalg.norm(solid[:, None] - dashed[None], axis=2).min() > 0.5 * LINE_M  # beside it, not on it


def test_repairs_are_seen_on_streets_only(world: World) -> None:
    look = np.full((5120, 5120, 3), 100, np.uint8)
    _patch(np.random.default_rng(0), look, world.network)
    repaired = cv2.resize((look != 100).any(axis=2).astype(np.uint8), (2560, 2560), interpolation=cv2.INTER_NEAREST)
    paved = world.ground.layers & DRIVABLE > 0
    assert 0.01 < repaired[paved].mean() < 0.2
    assert repaired[~paved].mean() < 1e-4


def wet_and_dry(monkeypatch: pytest.MonkeyPatch) -> tuple[View, View]:
    views = []
    for wet in (1.0, 0.0):

        def of_that_weather(rng: np.random.Generator, wet: float = wet) -> Daylight:
            return replace(make_daylight(rng), wet=wet)

        monkeypatch.setattr(world_module, "make_daylight", of_that_weather)
        town = World(3, 8.0)
        views.append(view_of(Renderer(town, effects=False), "front_main")[2])
    return views[0], views[1]


def test_a_wet_street_is_dark_nearby_and_mirrors_the_sky_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    wet, dry = wet_and_dry(monkeypatch)
    assert np.array_equal(wet.classes, dry.classes)
    street = wet.classes == CLASSES.index("drivable")
    near, far = street & (dry.depth < 7), street & (dry.depth > 25) & (dry.depth < 60)
    assert near.sum() > 5000 < far.sum() * 50
    ratio = [wet.image[part].mean() / dry.image[part].mean() for part in (near, far)]
    assert ratio[0] < 0.97
    assert ratio[1] > ratio[0] + 0.015


def test_markings_of_a_town_follow_its_style(world: World) -> None:
    plain = make_markings(world.network, MarkingStyle(False, True, 3.0, 6.0))
    yellow = make_markings(world.network, MarkingStyle(True, True, 3.0, 6.0))
    assert not plain.yellow
    assert len(yellow.yellow) + len(yellow.white) == len(plain.white)


def test_depth_of_a_long_wall_beside_the_camera_is_that_of_its_plane(world: World, renderer: Renderer) -> None:
    walls = world.standing
    house = int(
        np.argmax(
            np.where(walls.screens_m > 0, np.linalg.norm(walls.footprints[:, 0] - walls.footprints[:, 1], axis=1), 0)
        )
    )
    front, along = walls.footprints[house, :2].astype(np.float64), None
    along = (front[1] - front[0]) / np.linalg.norm(front[1] - front[0])
    outward = np.array([along[1], -along[0]])
    place = front.mean(axis=0) + 3.0 * outward
    pose = Pose.planar(*place, np.arctan2(-outward[1], -outward[0]))
    lens = Intrinsics(161, 97, 60.0, 60.0, 80.0, 48.0)
    ahead = Camera("ahead", lens, Pose(np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])))
    view = renderer.render(ahead, pose, NOW_NS, labels=True)
    assert view.things[48, 80] == walls.things[house]
    assert view.depth[40:56, 70:90] == pytest.approx(3.0, abs=0.05)
