from __future__ import annotations

import numpy as np
import pytest
from octobev.replay.markings import MarkingStyle, make_markings
from octobev.replay.roads import Profile, Road, RoadNetwork, arc_length, left_of, make_network, resample

PROFILE = Profile("collector", 1, 3.5, 0.0, 0.5, "solid", False, 11.0)


def straight_road(length_m: float = 60.0, trim_m: float = 10.0) -> Road:
    points = resample(np.array([[0.0, 0.0], [length_m, 0.0]]), 0.5)
    return Road(PROFILE, points, left_of(points), arc_length(points), (0, 1), (trim_m, trim_m), (True, False))


@pytest.mark.parametrize("seed", range(6))
def test_every_street_joins_two_intersections_of_three_or_more_arms(seed: int) -> None:
    network = make_network(np.random.default_rng(seed), 160.0)
    arms = [(arm.road, arm.end) for place in network.intersections for arm in place.arms]
    assert sorted(arms) == [(road, end) for road in range(len(network.roads)) for end in (0, 1)]
    assert min(len(place.arms) for place in network.intersections) >= 3
    assert all(end > begin for begin, end in (road.span_m for road in network.roads))


@pytest.mark.parametrize("seed", range(6))
def test_towns_stay_inside_their_square(seed: int) -> None:
    network = make_network(np.random.default_rng(seed), 160.0)
    reach = max(np.abs(road.points).max() + road.profile.half_width_m for road in network.roads)
    assert reach < 155.0


def test_equal_seeds_give_equal_towns_and_others_differ() -> None:
    first, again, other = (make_network(np.random.default_rng(seed), 160.0) for seed in (4, 4, 5))
    assert all(np.array_equal(a.points, b.points) for a, b in zip(first.roads, again.roads, strict=True))
    assert len(first.roads) != len(other.roads) or not np.array_equal(first.roads[0].points, other.roads[0].points)


def test_positive_offsets_lie_to_the_left() -> None:
    road = straight_road()
    assert road.at(30.0, 2.0) == pytest.approx([30.0, 2.0])
    assert road.heading_at(30.0) == pytest.approx(0.0)
    assert road.span_m == (10.0, 50.0)


def test_a_strip_has_the_area_of_its_rectangle() -> None:
    x, y = straight_road().strip(12.0, 20.0, -1.0, 3.0).T
    assert abs(0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) == pytest.approx(32.0)


def test_stop_lines_stand_before_traffic_that_keeps_to_the_right() -> None:
    road = straight_road()
    markings = make_markings(RoadNetwork((road,), (), ()), MarkingStyle(True, True, 3.0, 6.0))
    stop_lines = [line for line in markings.white if np.ptp(line[:, 1]) > 2.0 and np.ptp(line[:, 0]) < 0.5]
    assert len(stop_lines) == 2
    arriving_west, arriving_east = sorted(stop_lines, key=lambda line: line[:, 0].mean())
    assert arriving_west[:, 1].min() > 0  # heading -x: the right-hand side is +y
    assert arriving_east[:, 1].max() < 0


def test_dividers_end_before_crosswalks_and_are_half_a_metre_wide() -> None:
    markings = make_markings(RoadNetwork((straight_road(),), (), ()), MarkingStyle(True, True, 3.0, 6.0))
    (divider,) = markings.dividers
    (crosswalk,) = markings.crosswalks
    assert divider[:, 0].min() > crosswalk[:, 0].max()
    assert np.ptp(divider[:, 1]) == pytest.approx(0.5)
