"""The geometry of a road layout as a scene that viewers show."""

import numpy as np
import pytest
from foxglove_schemas_protobuf.LinePrimitive_pb2 import LinePrimitive
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from octobev.fusion.geometry import Arm, Corridor, Intersection, LayoutGeometry, Polyline
from octobev.replay.scenes import encode_scene

TIME_NS = 1_700_000_000_000_000_007
LINE = Polyline(np.array([(0.0, 1.5), (4.0, 1.5), (9.0, 2.0)]), 0.5)
ROAD = Corridor(np.array([(0.0, 0.0), (8.0, 1.0)]), np.array([7.0, 7.25]), np.zeros(2), 1.0)
PLACE = Intersection(np.array([(0.0, 0.0), (8.0, 0.0), (8.0, 8.0)]), (Arm(8.0, 4.0, np.pi / 2, 6.0),), True, 0.9)


def entities(geometry):
    scene = SceneUpdate()
    scene.ParseFromString(encode_scene(TIME_NS, "base_link", geometry))
    assert all(entity.timestamp.ToNanoseconds() == TIME_NS for entity in scene.entities)
    assert all(entity.frame_id == "base_link" for entity in scene.entities)
    return {entity.id: entity for entity in scene.entities}


def points(line):
    return [(point.x, point.y) for point in line.points]


def test_lines_are_strips_in_metres():
    found = entities(LayoutGeometry((LINE,), (LINE, LINE), (), ()))
    assert [len(entity.lines) for entity in found.values()] == [1, 2, 0, 0]
    line = found["lane_divider"].lines[0]
    assert line.type == LinePrimitive.LINE_STRIP
    assert points(line) == [(0.0, 1.5), (4.0, 1.5), (9.0, 2.0)]
    assert line.pose.orientation.w == 1
    assert not line.scale_invariant


def test_less_likely_lines_are_fainter():
    sure = Polyline(LINE.points_xy, 1.0)
    lines = entities(LayoutGeometry((sure, LINE)))["lane_divider"].lines
    assert [line.color.a for line in lines] == pytest.approx([1.0, 0.65])


def test_corridors_say_how_wide_they_are():
    entity = entities(LayoutGeometry(corridors=(ROAD,)))["corridor"]
    assert points(entity.lines[0]) == [(0.0, 0.0), (8.0, 1.0)]
    texts = {pair.key: pair.value for pair in entity.metadata}
    assert texts == {"0.confidence": "1.000", "0.width_m": "7.000 7.250"}


def test_intersections_are_loops_with_an_arrow_along_each_arm():
    entity = entities(LayoutGeometry(intersections=(PLACE,)))["intersection"]
    assert entity.lines[0].type == LinePrimitive.LINE_LOOP
    assert points(entity.lines[0]) == [(0.0, 0.0), (8.0, 0.0), (8.0, 8.0)]
    (arrow,) = entity.arrows
    assert (arrow.pose.position.x, arrow.pose.position.y) == (8.0, 4.0)
    turn = arrow.pose.orientation
    assert (turn.x, turn.y, turn.z, turn.w) == pytest.approx((0, 0, np.sqrt(0.5), np.sqrt(0.5)))


def test_a_kind_without_shapes_is_there_to_clear_the_viewer():
    found = entities(LayoutGeometry())
    assert list(found) == ["lane_divider", "road_edge", "corridor", "intersection"]
    assert not any(len(entity.lines) + len(entity.arrows) for entity in found.values())


def test_equal_geometries_give_equal_bytes():
    geometry = LayoutGeometry((LINE,), (), (ROAD,), (PLACE,))
    assert encode_scene(1, "a", geometry) == encode_scene(1, "a", geometry)
