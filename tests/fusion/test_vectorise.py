"""Corridors, intersections and the whole geometry of hand-made layouts."""

import numpy as np
import pytest
from octobev import BevGrid, RoadLayout
from octobev.errors import InvalidArgument
from octobev.fusion.corridors import CorridorRules, find_corridors
from octobev.fusion.geometry import LayoutGeometry
from octobev.fusion.intersections import IntersectionRules, find_intersections

GRID = BevGrid(-24.0, 40.0, -24.0, 24.0, 0.5)
X, Y = np.moveaxis(GRID.centres(), -1, 0)
EVERYWHERE = np.ones(GRID.shape, np.bool_)
TURNED = np.degrees(2) + np.array([-90, 0, 90, 180])
ROAD = "drivable", "lane_divider", "road_edge", "intersection"


def inside(depth_m):
    """Share of each cell inside of a border at a distance, positive inside."""
    return np.clip(depth_m / GRID.resolution_m + 0.5, 0, 1).astype(np.float32)


def strip(distance, width_m):
    return inside(width_m / 2 - np.abs(distance))


def crossing():
    """Two roads, 7 m and 10 m wide, that cross at (8, 1); the intersection reaches 2 m into the arms."""
    along, across = strip(Y - 1, 7.0), strip(X - 8, 10.0)
    place = np.minimum(np.maximum(along, across), np.minimum(strip(X - 8, 14.0), strip(Y - 1, 11.0)))
    return np.maximum(along, across), place


def layout_of(**planes):
    probability = np.stack([planes.get(name, np.zeros(GRID.shape)) for name in ROAD]).astype(np.float32)
    return RoadLayout(GRID, ROAD, probability, EVERYWHERE, np.ones(GRID.shape, np.uint64))


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("angle_deg", [0, 20, 65, 90, -40])
def test_a_straight_road_is_a_corridor(angle_deg, given):
    angle = np.radians(angle_deg)
    road = strip(-np.sin(angle) * X + np.cos(angle) * Y - 0.8, 8.3)
    direction = np.full(GRID.shape, angle, np.float32) if given else None
    (corridor,) = find_corridors(GRID, road, EVERYWHERE, direction_rad=direction)
    off = corridor.points_xy @ (-np.sin(angle), np.cos(angle)) - 0.8
    assert np.abs(off).max() < 0.15
    np.testing.assert_allclose(corridor.width_m, 8.3, atol=0.15)
    turned = (corridor.direction_rad - angle + np.pi / 2) % np.pi - np.pi / 2
    assert np.abs(np.degrees(turned)).max() < 2
    assert (np.abs(corridor.direction_rad) <= np.pi / 2).all()
    assert corridor.confidence == pytest.approx(1, abs=0.02)


def test_a_curved_road_keeps_its_width():
    road = strip(np.hypot(X - 8, Y + 25) - 25, 7.0)
    (corridor,) = find_corridors(GRID, road, EVERYWHERE)
    off = np.hypot(*(corridor.points_xy - (8, -25)).T) - 25
    assert np.abs(off).max() < 0.3
    np.testing.assert_allclose(corridor.width_m, 7.0, atol=0.3)


def test_corridors_end_at_intersections():
    drivable, place = crossing()
    corridors = find_corridors(GRID, drivable, EVERYWHERE, place)
    widths = sorted(round(float(np.median(corridor.width_m))) for corridor in corridors)
    assert widths == [7, 7, 10, 10]
    for corridor in corridors:
        away = np.abs(corridor.points_xy - (8, 1)) - (7, 5.5)
        assert away.max(axis=1).min() > -0.6, "no corridor inside of the intersection"


def test_a_road_whose_side_nobody_saw_is_no_corridor():
    road = strip(Y - 0.8, 8.0)
    assert find_corridors(GRID, road, Y < 3) == ()
    assert len(find_corridors(GRID, road, Y < 6)) == 1


def test_widths_that_no_road_has_are_no_corridors():
    road = strip(Y - 0.8, 8.0)
    assert find_corridors(GRID, road, EVERYWHERE, rules=CorridorRules(width_m=(9.0, 20.0))) == ()
    assert find_corridors(GRID, road, EVERYWHERE, rules=CorridorRules(width_m=(3.0, 7.0))) == ()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_and_everything_have_no_corridors_and_no_arms(value):
    raster = np.full(GRID.shape, value, np.float32)
    assert find_corridors(GRID, raster, EVERYWHERE) == ()
    places = find_intersections(GRID, raster, raster, EVERYWHERE)
    assert len(places) == value
    assert all(not place.whole and place.arms == () for place in places)


@pytest.mark.parametrize("given", [True, False])
def test_a_crossing_has_four_arms(given):
    drivable, place = crossing()
    direction = np.where(np.abs(Y - 1) < 3.5, 0, np.pi / 2).astype(np.float32) if given else None
    (found,) = find_intersections(GRID, place, drivable, EVERYWHERE, direction)
    np.testing.assert_allclose(found.centre_xy, (8, 1), atol=0.1)
    assert found.area_m2 == pytest.approx(14 * 7 + 10 * 11 - 10 * 7, rel=0.04)
    assert found.whole
    assert found.confidence > 0.9
    arms = sorted(found.arms, key=lambda arm: (arm.direction_rad + 2) % (2 * np.pi))
    np.testing.assert_allclose([np.degrees(arm.direction_rad + 2) % 360 for arm in arms], TURNED, atol=3)
    np.testing.assert_allclose([arm.width_m for arm in arms], [10, 7, 10, 7], atol=1.5)
    places = [(arm.x_m, arm.y_m) for arm in arms]
    np.testing.assert_allclose(places, [(8, -4.5), (15, 1), (8, 6.5), (1, 1)], atol=0.5)


def test_arms_follow_the_outline_counter_clockwise():
    drivable, place = crossing()
    (found,) = find_intersections(GRID, place, drivable, EVERYWHERE)
    angles = [np.arctan2(arm.y_m - 1, arm.x_m - 8) for arm in found.arms]
    steps = (np.diff([*angles, angles[0]]) + 2 * np.pi) % (2 * np.pi)
    assert steps.sum() == pytest.approx(2 * np.pi)


def test_a_direction_that_is_given_turns_the_arm():
    drivable, place = crossing()
    slanted = np.full(GRID.shape, np.radians(15), np.float32)
    (found,) = find_intersections(GRID, place, drivable, EVERYWHERE, slanted)
    east = min(found.arms, key=lambda arm: abs(arm.direction_rad))
    assert np.degrees(east.direction_rad) == pytest.approx(15, abs=0.5)


@pytest.mark.parametrize("tip_m", [39.1, 39.2])
def test_the_opening_of_an_arm_may_bulge_to_the_border_of_the_grid(tip_m):
    """Two cells beyond the tip of the bulge the grid has ended; the opening goes on beside it."""
    drivable = strip(Y, 16.0)
    place = drivable * inside(tip_m - (Y / 2) ** 2 - X) * inside(X - 20)
    direction = np.full(GRID.shape, 0.3, np.float32)
    (found,) = find_intersections(GRID, place, drivable, EVERYWHERE, direction)
    directions = sorted(arm.direction_rad for arm in found.arms)
    assert directions == pytest.approx([0.3 - np.pi, 0.3], abs=1e-6)


def test_an_intersection_that_is_cut_off_is_not_whole():
    drivable, place = crossing()
    for observed in (X > 5, X < 14):
        (found,) = find_intersections(GRID, place * observed, drivable * observed, observed)
        assert not found.whole
        assert len(found.arms) == 3


def test_small_areas_are_no_intersections():
    place = strip(X - 8, 4.0) * strip(Y, 4.0)
    assert find_intersections(GRID, place, place, EVERYWHERE) == ()
    assert len(find_intersections(GRID, place, place, EVERYWHERE, rules=IntersectionRules(min_area_m2=5))) == 1


def test_geometry_of_a_layout():
    drivable, place = crossing()
    layout = layout_of(
        drivable=drivable,
        intersection=place,
        lane_divider=strip(Y - 1, 0.5) * (np.abs(X - 8) > 8),
        road_edge=np.maximum(strip(np.abs(Y - 1) - 3.5, 1.0) * (np.abs(X - 8) > 6), 0),
    )
    geometry = layout.geometry()
    assert [len(part) for part in (geometry.lane_dividers, geometry.road_edges)] == [2, 4]
    assert [len(part) for part in (geometry.corridors, geometry.intersections)] == [4, 1]


def test_geometry_is_the_same_again():
    noise = np.random.default_rng(3).random((len(ROAD), *GRID.shape)).astype(np.float32)
    layout = RoadLayout(GRID, ROAD, noise, EVERYWHERE, np.ones(GRID.shape, np.uint64))

    def bits(geometry: LayoutGeometry):
        lines = geometry.lane_dividers + geometry.road_edges + geometry.corridors
        return [line.points_xy.tobytes() for line in lines] + [p.outline_xy.tobytes() for p in geometry.intersections]

    assert bits(layout.geometry()) == bits(layout.geometry())


def test_classes_that_are_not_there_give_nothing():
    layout = RoadLayout(
        GRID, ("grass",), np.ones((1, *GRID.shape), np.float32), EVERYWHERE, np.ones(GRID.shape, np.uint64)
    )
    geometry = layout.geometry()
    assert (geometry.lane_dividers, geometry.road_edges, geometry.corridors, geometry.intersections) == ((),) * 4


def test_an_intersection_without_drivable_space_has_no_arms():
    _, place = crossing()
    layout = RoadLayout(GRID, ("intersection",), place[None].copy(), EVERYWHERE, np.ones(GRID.shape, np.uint64))
    (found,) = layout.geometry().intersections
    assert found.arms == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CorridorRules(threshold=0), "threshold must be more than 0 and at most 1, got 0"),
        (lambda: CorridorRules(width_m=(5.0, 4.0)), r"width_m must be positive and rising, got \(5.0, 4.0\)"),
        (lambda: CorridorRules(window_m=-1), "window_m must be finite and not negative, got -1"),
        (lambda: IntersectionRules(threshold=2), "threshold must be more than 0 and at most 1, got 2"),
        (lambda: IntersectionRules(min_area_m2=np.inf), "min_area_m2 must be finite and not negative, got inf"),
        (
            lambda: layout_of().geometry(np.zeros((2, 2), np.float32)),
            r"direction_rad must be float32 \(128, 96\), got float32 \(2, 2\)",
        ),
    ],
)
def test_rules_and_rasters_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()
