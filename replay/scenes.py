"""The geometry of a road layout as scenes of the Foxglove schemas."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from foxglove_schemas_protobuf.LinePrimitive_pb2 import LinePrimitive
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from ..fusion.geometry import Intersection, LayoutGeometry

_LIFT_M: Final = 0.05
"""Height above the ground, so that viewers show lines and not the grid that they lie in."""

_THICKNESS_M: Final = 0.15
_ARROW_M: Final = 4.0
_FAINTEST: Final = 0.3

_COLOURS: Final = {
    "lane_divider": (1.0, 0.82, 0.25),
    "road_edge": (1.0, 0.29, 0.24),
    "corridor": (0.49, 0.83, 0.99),
    "intersection": (0.25, 0.5, 0.91),
}
"""Red, green, blue, 0..1."""


def encode_scene(timestamp_ns: int, frame_id: str, geometry: LayoutGeometry) -> bytes:
    """Encode a geometry as SceneUpdate.

    There is one entity for each kind of shape, also when there is none of it: a viewer then removes those of the
    message before. Lines are strips, outlines loops, arms arrows. Opacity grows with confidence. What a line cannot
    show stands in the metadata of its entity, a text for each shape: `<k>.confidence`, of corridors `<k>.width_m` (a
    number for each point).
    """
    scene = SceneUpdate()
    for kind, lines in (("lane_divider", geometry.lane_dividers), ("road_edge", geometry.road_edges)):
        entity = _entity(scene, timestamp_ns, frame_id, kind)
        for number, line in enumerate(lines):
            _add_line(entity, kind, LinePrimitive.LINE_STRIP, line.points_xy, line.confidence)
            _add_text(entity, f"{number}.confidence", [line.confidence])
    entity = _entity(scene, timestamp_ns, frame_id, "corridor")
    for number, corridor in enumerate(geometry.corridors):
        _add_line(entity, "corridor", LinePrimitive.LINE_STRIP, corridor.points_xy, corridor.confidence)
        _add_text(entity, f"{number}.confidence", [corridor.confidence])
        _add_text(entity, f"{number}.width_m", corridor.width_m.tolist())
    entity = _entity(scene, timestamp_ns, frame_id, "intersection")
    for number, place in enumerate(geometry.intersections):
        _add_line(entity, "intersection", LinePrimitive.LINE_LOOP, place.outline_xy, place.confidence)
        _add_text(entity, f"{number}.confidence", [place.confidence])
        _add_arms(entity, place)
    data: bytes = scene.SerializeToString(deterministic=True)
    return data


def _entity(scene: Any, timestamp_ns: int, frame_id: str, kind: str) -> Any:
    stamp = Timestamp(seconds=timestamp_ns // 1_000_000_000, nanos=timestamp_ns % 1_000_000_000)
    return scene.entities.add(timestamp=stamp, frame_id=frame_id, id=kind, frame_locked=True)


def _add_line(entity: Any, kind: str, line_type: int, points_xy: NDArray[np.float64], confidence: float) -> None:
    line = entity.lines.add(type=line_type, thickness=_THICKNESS_M)
    line.pose.orientation.w = 1.0
    for x, y in points_xy.tolist():
        line.points.add(x=x, y=y, z=_LIFT_M)
    _colour(line.color, kind, confidence)


def _add_arms(entity: Any, place: Intersection) -> None:
    for arm in place.arms:
        arrow = entity.arrows.add(
            shaft_length=0.75 * _ARROW_M, shaft_diameter=0.3, head_length=0.25 * _ARROW_M, head_diameter=0.8
        )
        position, turn = arrow.pose.position, arrow.pose.orientation
        position.x, position.y, position.z = arm.x_m, arm.y_m, _LIFT_M
        turn.z, turn.w = float(np.sin(arm.direction_rad / 2)), float(np.cos(arm.direction_rad / 2))
        _colour(arrow.color, "intersection", place.confidence)


def _add_text(entity: Any, key: str, values: list[float]) -> None:
    entity.metadata.add(key=key, value=" ".join(f"{value:.3f}" for value in values))


def _colour(colour: Any, kind: str, confidence: float) -> None:
    colour.r, colour.g, colour.b = _COLOURS[kind]
    colour.a = _FAINTEST + (1 - _FAINTEST) * confidence
