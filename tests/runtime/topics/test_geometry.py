"""The geometry of a road layout on the wire: round trips, and messages that no geometry can be."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from octobev import BevGrid, Predictions, RoadLayout
from octobev.errors import InvalidArgument, OctobevError, WireError
from octobev.fusion.geometry import Arm, Corridor, Intersection, LayoutGeometry, Polyline
from octobev.runtime.topics import geometry as wire_geometry
from octobev.runtime.topics.encode import Stamp, encode_output
from octobev.runtime.topics.message import Message
from octobev.runtime.topics.outlets import topics_of
from octobev.runtime.topics.wire import decode

Make = Callable[..., Predictions]

LINE = Polyline(np.array([(0.0, 1.5), (4.0, 1.5), (9.0, 2.25)]), 0.75)
RING = Polyline(np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 0.0)]), 0.5)
ROAD = Corridor(np.array([(0.0, 0.0), (8.0, 1.0)]), np.array([7.0, 7.5]), np.array([0.125, -0.25]), 1.0)
CROSSING = Intersection(
    np.array([(0.0, 0.0), (8.0, 0.0), (8.0, 8.0), (0.0, 8.0)]),
    (Arm(8.0, 4.0, 0.5, 6.0), Arm(4.0, 8.0, 1.5, 5.0)),
    True,
    0.875,
)
CUT_OFF = Intersection(np.array([(20.0, 0.0), (28.0, 0.0), (28.0, 8.0)]), (), False, 0.625)
FULL = LayoutGeometry((LINE, RING), (RING,), (ROAD, ROAD), (CROSSING, CUT_OFF))


def plain(geometry: LayoutGeometry) -> Any:
    """Every number of a geometry, to be compared."""
    lines = [
        [(line.points_xy.tolist(), line.confidence, line.closed) for line in part]
        for part in (geometry.lane_dividers, geometry.road_edges)
    ]
    roads = [
        (road.points_xy.tolist(), road.width_m.tolist(), road.direction_rad.tolist(), road.confidence)
        for road in geometry.corridors
    ]
    places = [(p.outline_xy.tolist(), p.arms, p.whole, p.confidence) for p in geometry.intersections]
    return lines, roads, places


@pytest.mark.parametrize(
    "geometry", [FULL, LayoutGeometry(), LayoutGeometry((LINE,)), LayoutGeometry(intersections=(CUT_OFF,))]
)
def test_round_trip(geometry: LayoutGeometry) -> None:
    arrays = wire_geometry.to_arrays(geometry)
    assert len(arrays) <= 16
    assert plain(wire_geometry.from_arrays(arrays)) == plain(geometry)


def test_shapes_beyond_the_limit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_geometry, "MAX_SHAPES", 1)
    kept = wire_geometry.from_arrays(wire_geometry.to_arrays(FULL))
    assert plain(kept) == plain(LayoutGeometry((LINE,), (RING,), (ROAD,), (CROSSING,)))


def road_layout() -> RoadLayout:
    """A road 8 m wide with a divider in its middle, and an intersection at its end."""
    grid = BevGrid(-8.0, 24.0, -10.0, 10.0, 0.5)
    x, y = np.moveaxis(grid.centres(), -1, 0)
    drivable, divider = np.abs(y) < 4, (np.abs(y - 0.25) < 0.25) & (x < 10)
    planes = np.stack([drivable, divider, np.abs(np.abs(y) - 4) < 0.5, drivable & (x > 12) & (x < 20)])
    classes = ("drivable", "lane_divider", "road_edge", "intersection")
    observed = np.ones(grid.shape, np.bool_)
    return RoadLayout(grid, classes, planes.astype(np.float32), observed, observed.astype(np.uint64))


def message_of(predictions: Predictions, topic: str = "road_layout_geometry") -> Message:
    stamp = Stamp("0123456789abcdef" * 2, 5, 1_700_000_000_050_000_000)
    return decode(encode_output(topic, topics_of(predictions)[topic], predictions, stamp, kind="unknown"))


def test_a_road_layout_has_its_geometry_on_a_topic_of_its_own(make_predictions: Make) -> None:
    layout = road_layout()
    message = message_of(make_predictions(bev={"front_layout": layout}), "front_layout_geometry")
    assert (message.kind, message.header.frame_id, message.header.step) == ("layout_geometry", "ego", 0)
    assert message.grid == layout.grid
    expected, received = layout.geometry(), message.layout_geometry()
    assert [len(part) for part in (received.lane_dividers, received.road_edges)] == [1, 2]
    assert [len(part) for part in (received.corridors, received.intersections)] == [1, 1]
    for before, after in zip(
        expected.lane_dividers + expected.road_edges, received.lane_dividers + received.road_edges, strict=True
    ):
        np.testing.assert_allclose(after.points_xy, before.points_xy, atol=1e-5)
    np.testing.assert_allclose(received.corridors[0].width_m, expected.corridors[0].width_m, atol=1e-5)
    assert len(received.intersections[0].arms) == len(expected.intersections[0].arms) == 2
    with pytest.raises(InvalidArgument, match="kind of front_layout_geometry must be road_layout, got layout_geometry"):
        message.road_layout()


def test_an_output_of_that_name_takes_the_topic(make_predictions: Make) -> None:
    predictions = make_predictions()
    named = {"road_layout": predictions.bev["road_layout"], "road_layout_geometry": predictions.bev["heat"]}
    assert message_of(make_predictions(bev=named)).kind == "bev_raw"


def test_a_layout_that_cannot_be_has_no_geometry(make_predictions: Make) -> None:
    layout = road_layout()
    layout.probability[0, 0, 0] = np.nan
    message = message_of(make_predictions(bev={"road_layout": layout}))
    assert not message.valid
    assert message.reason == "probability holds NaN or infinity"
    with pytest.raises(InvalidArgument, match="message of road_layout_geometry must be valid"):
        message.layout_geometry()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"road_edge_points": None}, "arrays of a layout_geometry must be with road_edge_points, got lane_divider"),
        ({"road_edge_points": np.zeros((4, 3), np.float32)}, r"road_edge_points must be float32 \(n, 2\), got"),
        ({"road_edge_points": np.zeros((4, 2))}, r"road_edge_points must be float32 \(n, 2\), got float64 \(4, 2\)"),
        ({"road_edge_points": np.full((4, 2), np.nan, np.float32)}, "points of a line must be 2 or more finite x, y"),
        ({"road_edge_starts": np.array([0, 3], np.uint32)}, r"road_edge_starts must be rising from 0 to 4, got \[0, 3"),
        ({"road_edge_starts": np.array([1, 4], np.uint32)}, r"road_edge_starts must be rising from 0 to 4, got \[1, 4"),
        ({"road_edge_starts": np.zeros(0, np.uint32)}, r"road_edge_starts must be rising from 0 to 4, got \[\]"),
        ({"road_edge_starts": np.array([0, 3, 2, 4], np.uint32)}, "road_edge_starts must be rising from 0 to 4"),
        ({"road_edge_starts": np.array([0, 4], np.int32)}, r"road_edge_starts must be uint32 \(n\), got int32"),
        ({"road_edge_starts": np.array([0, 2**32 - 1], np.uint32)}, "road_edge_starts must be rising from 0 to 4"),
        ({"road_edge_starts": np.zeros(5000, np.uint32)}, "road_edge_starts must be at most 4097 numbers, got 5000"),
        ({"road_edge_starts": np.array([0, 1, 4], np.uint32)}, r"road_edge_confidence must be float32 \(2\), got"),
        ({"road_edge_points": np.full((4, 2), 0x7FA00000, np.uint32).view(np.float32)}, "2 or more finite x, y"),
        ({"road_edge_confidence": np.array([1.5], np.float32)}, "confidence must be 0 to 1, got 1.5"),
        ({"road_edge_confidence": np.array([np.nan], np.float32)}, "confidence must be 0 to 1, got nan"),
        ({"corridor_points": np.zeros((4, 4), np.float32)}, "width_m must be positive, got 0"),
        ({"intersection_whole": np.ones(1, np.bool_)}, r"intersection_whole must be bool \(2\), got bool \(1,\)"),
        ({"intersection_starts": np.array([0, 5, 7], np.uint32)}, "outline of an intersection must be 3 or more"),
        ({"arm_starts": np.array([0, 2], np.uint32)}, "arm_starts must be 3 numbers, got 2"),
        ({"arms": np.zeros((2, 4), np.float32)}, "arm must be finite, its width positive"),
        ({"arms": np.float32(1)}, r"array arms must be float32 \(n, 4\), got float32 \(\)"),
        ({"arms": np.zeros((70000, 4), np.float32)}, "arms must be at most 65536, got 70000"),
    ],
)
def test_arrays_that_are_no_geometry(changes: dict[str, Any], match: str) -> None:
    arrays = {name: array for name, array in (wire_geometry.to_arrays(FULL) | changes).items() if array is not None}
    with pytest.raises((WireError, InvalidArgument), match=match):
        wire_geometry.from_arrays(arrays)


def test_what_is_no_geometry_is_no_message(make_predictions: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = wire_geometry.to_arrays(FULL) | {"arms": np.zeros((2, 4), np.float32)}
    monkeypatch.setattr(wire_geometry, "to_arrays", lambda _: arrays)
    with pytest.raises(WireError, match="topic road_layout_geometry, sequence 5: arm must be finite"):
        message_of(make_predictions())


def test_mutated_arrays_give_errors_of_ours_or_a_geometry() -> None:
    rng = random.Random(11)
    originals = wire_geometry.to_arrays(FULL)
    accepted = refused = 0
    for _ in range(3000):
        arrays = {name: array.copy() for name, array in originals.items()}
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(list(arrays))
            octets = bytearray(arrays[name].tobytes())
            at = rng.randrange(len(octets))
            octets[at] = rng.randrange(2) if arrays[name].dtype == np.bool_ else rng.randrange(256)
            arrays[name] = np.frombuffer(bytes(octets), arrays[name].dtype).reshape(arrays[name].shape)
        try:
            geometry = wire_geometry.from_arrays(arrays)
        except OctobevError:
            refused += 1
            continue
        accepted += 1
        assert all(np.isfinite(line.points_xy).all() for line in geometry.lane_dividers + geometry.road_edges)
    assert accepted > 100
    assert refused > 100
