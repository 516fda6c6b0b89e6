"""Detections as annotations of an image in the Foxglove schemas."""

from __future__ import annotations

from typing import Any, Final

from foxglove_schemas_protobuf.Color_pb2 import Color
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Point2_pb2 import Point2
from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation
from google.protobuf.timestamp_pb2 import Timestamp

from ..runtime.detections import Detections
from .drawing import BACKGROUND, TEXT, Colour, class_colour

_THICKNESS_PX: Final = 2.0
_FONT_PX: Final = 12.0
_PLATE_OPACITY: Final = 0.7


def encode_annotations(timestamp_ns: int, detections: Detections) -> bytes:
    """Encode detections as ImageAnnotations: a closed outline and a text such as `vehicle 0.87` for each, best first.

    The schema counts pixels from the corner of the top-left pixel, so everything lies half a pixel further than in
    :class:`Detections`. Without detections the message is empty: a viewer then shows none.

    Parameters
    ----------
    timestamp_ns : when the image was taken; viewers match annotations and image by it
    """
    stamp = Timestamp(seconds=timestamp_ns // 1_000_000_000, nanos=timestamp_ns % 1_000_000_000)
    message = ImageAnnotations()
    text_colour, plate_colour = _colour(TEXT), _colour(BACKGROUND, _PLATE_OPACITY)
    found = zip(detections.names, detections.scores.tolist(), (detections.boxes + 0.5).tolist(), strict=True)
    for name, score, (left, top, right, bottom) in found:
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        message.points.add(
            timestamp=stamp,
            type=PointsAnnotation.LINE_LOOP,
            points=[Point2(x=x, y=y) for x, y in corners],
            outline_color=_colour(class_colour(name) or TEXT),
            thickness=_THICKNESS_PX,
        )
        message.texts.add(
            timestamp=stamp,
            position=Point2(x=left, y=top),
            text=f"{name} {score:.2f}",
            font_size=_FONT_PX,
            text_color=text_colour,
            background_color=plate_colour,
        )
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _colour(colour: Colour, opacity: float = 1.0) -> Any:
    blue, green, red = (value / 255 for value in colour)
    return Color(r=red, g=green, b=blue, a=opacity)
