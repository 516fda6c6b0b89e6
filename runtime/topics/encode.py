"""Predictions and the rig as messages: which topics there are, and what goes into each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...fusion.grid import BevGrid
from ...fusion.rig import Rig
from ..live.health import Health
from ..predictions import (
    BevOutput,
    CameraOutput,
    CameraPrediction,
    CorridorDirection,
    Detections,
    OccupancyGrid,
    Predictions,
    RoadLayout,
)
from . import geometry, health_header, kinds, rig_header
from .header import CameraHeader, GridHeader, Header, StateHeader
from .names import HEALTH, RIG, camera_topic
from .wire import Buffer, pack

EGO_FRAME = "ego"

_RANGE_TOLERANCE = 1e-3
"""By how much a probability may leave 0..1 through rounding before it is taken for a fault."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a message stands in its stream: session, sequence number on its topic, wall clock of publication."""

    session: str
    sequence: int
    published_ns: int


@dataclass(frozen=True, slots=True)
class Content:
    """What one message says: kind, arrays and the header fields of that kind, or why there is nothing."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class GeometryOf:
    """The geometry of the road layout called `name`, which is computed when it is encoded."""

    predictions: Predictions
    name: str
    layout: RoadLayout


@dataclass(frozen=True, slots=True)
class BeliefOf:
    """What a network says of every cell, those among them that nobody observed."""

    output: RoadLayout | OccupancyGrid


Publishable = BevOutput | CameraPrediction | GeometryOf | BeliefOf
"""What a topic carries when it is valid."""


def geometry_topic(output: str) -> str:
    """Topic of the geometry of a road layout."""
    return f"{output}_geometry"


def belief_topic(output: str) -> str:
    """Topic of what a network says of all cells, for a road layout or an occupancy grid."""
    return f"{output}_belief"


def topics_of(predictions: Predictions) -> dict[str, Publishable | str]:
    """Every topic that these predictions are published on, with its output or the reason why that is not valid.

    Each road layout has a second topic for its geometry, and what a network gave has one for its belief, unless an
    output of the bundle is called so.
    """
    topics: dict[str, Publishable | str] = {}
    for name, output in predictions.bev.items():
        if isinstance(output, RoadLayout):
            topics[geometry_topic(name)] = GeometryOf(predictions, name, output)
        if isinstance(output, RoadLayout | OccupancyGrid) and output.belief is not None:
            topics[belief_topic(name)] = BeliefOf(output)
    topics |= dict(predictions.outputs())
    for key, reason in predictions.invalid.items():
        name, _, camera = key.partition("/")
        topics[camera_topic(camera, name) if camera else name] = reason
    return topics


def kind_of(output: Publishable) -> str:
    """Kind of an output as it is called on the wire."""
    if isinstance(output, GeometryOf):
        return kinds.LAYOUT_GEOMETRY
    if isinstance(output, BeliefOf):
        return kinds.BELIEF
    if isinstance(output, RoadLayout):
        return "road_layout"
    if isinstance(output, OccupancyGrid):
        return "occupancy"
    if isinstance(output, CorridorDirection):
        return "direction"
    return output.kind if isinstance(output, CameraPrediction) else "bev_raw"


def encode_output(
    topic: str, output: Publishable | str, predictions: Predictions, stamp: Stamp, *, kind: str
) -> list[Buffer]:
    """Make the message of one output.

    An output that is a reason, or that holds NaN, infinity or a probability outside 0..1, becomes a message that is not
    valid and has no arrays. `kind` is what the topic carries when it is valid, or "unknown".
    """
    content = _content(output) if not isinstance(output, str) else Content(kind, reason=output or "no reason given")
    if content.reason is not None and topic.startswith("camera/"):
        content.fields["camera"] = topic.split("/")[1]
    header = Header(
        topic=topic,
        kind=content.kind,
        session=stamp.session,
        sequence=stamp.sequence,
        timestamp_ns=predictions.timestamp_ns,
        published_ns=stamp.published_ns,
        frame_id=content.fields.get("camera") or EGO_FRAME,
        valid=content.reason is None,
        reason=_short(content.reason),
        cameras=_cameras(predictions),
        state=_state(predictions, topic),
        step=predictions.sequence,
        bundle_name=predictions.provenance.bundle_name,
        bundle_sha256=predictions.provenance.bundle_sha256,
        bundle_variant=predictions.provenance.variant,
        rig_sha256=predictions.provenance.rig_sha256,
        **content.fields,
    )
    return pack(header, content.arrays)


def encode_rig(rig: Rig, rig_sha256: str, stamp: Stamp) -> list[Buffer]:
    """Make the message of the calibration; its `timestamp_ns` is the time of publication."""
    header = Header(
        topic=RIG,
        kind=kinds.RIG,
        session=stamp.session,
        sequence=stamp.sequence,
        timestamp_ns=stamp.published_ns,
        published_ns=stamp.published_ns,
        frame_id=EGO_FRAME,
        rig_sha256=rig_sha256,
        rig=rig_header.to_header(rig),
    )
    return pack(header, {})


def encode_health(health: Health, stamp: Stamp) -> list[Buffer]:
    """Make the message of a live runtime's state. What would be too long for it is cut, see docs/topics.md.

    Raises
    ------
    InvalidArgument
        Numbers that no reader would take (negative counts, NaN), or more outputs than a header holds.
    """
    header = Header(
        topic=HEALTH,
        kind=kinds.HEALTH,
        session=stamp.session,
        sequence=stamp.sequence,
        timestamp_ns=health.timestamp_ns,
        published_ns=stamp.published_ns,
        frame_id=EGO_FRAME,
        bundle_sha256=health.bundle_sha256,
        rig_sha256=health.rig_sha256,
        health=health_header.to_header(health),
    )
    return pack(header, {})


def _content(output: Publishable) -> Content:
    kind = kind_of(output)
    if isinstance(output, GeometryOf):
        if (fault := _fault(output.layout.arrays(), "probability")) is not None:
            return Content(kind, reason=fault)
        arrays = geometry.to_arrays(output.predictions.geometry_of(output.name))
        return Content(kind, {"grid": _grid(output.layout.grid)}, arrays)
    if isinstance(output, BeliefOf):
        return _belief(output.output)
    arrays = dict(output.arrays())
    if isinstance(output, Detections):
        return Content(kind, {"classes": output.classes, "camera": output.camera}, arrays)
    if isinstance(output, CameraOutput):
        fields: dict[str, Any] = {
            "classes": output.classes,
            "camera": output.camera,
            "pixels_from_image": tuple(np.asarray(output.pixels_from_image, dtype=np.float64).ravel().tolist()),
        }
        probability = "values" if kind == "segmentation" else None
    else:
        fields = {"grid": _grid(output.grid)}
        probability = {"road_layout": "probability", "direction": "confidence"}.get(kind)
    if (fault := _fault(arrays, probability)) is not None:
        return Content(kind, reason=fault)
    if isinstance(output, RoadLayout):
        fields["classes"] = output.classes
    if isinstance(output, OccupancyGrid):
        fields["half_life_s"] = output.half_life_s if np.isfinite(output.half_life_s) else None
        arrays = {"probability": _octets(output.probability), **arrays}
    if probability is not None:
        arrays[probability] = _octets(arrays[probability])
    return Content(kind, fields, arrays)


def _belief(output: RoadLayout | OccupancyGrid) -> Content:
    belief = np.empty((0, *output.grid.shape), np.float32) if output.belief is None else output.belief
    planes = belief.reshape(-1, *output.grid.shape)
    if (fault := _fault({"probability": planes}, "probability")) is not None:
        return Content(kinds.BELIEF, reason=fault)
    classes = output.classes if isinstance(output, RoadLayout) else (kinds.OCCUPIED,)
    arrays = {"probability": _octets(planes), "observed": output.observed}
    return Content(kinds.BELIEF, {"grid": _grid(output.grid), "classes": classes}, arrays)


def _fault(arrays: Mapping[str, NDArray[Any]], probability: str | None) -> str | None:
    """What makes arrays unfit to be published, one of which may be a probability; None: nothing."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"{name} holds NaN or infinity"
    if probability is None or not arrays[probability].size:
        return None
    low, high = arrays[probability].min(), arrays[probability].max()
    if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
        return f"{probability} leaves 0..1: {low:g} to {high:g}"
    return None


def _octets(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round 0..1 to 0..255."""
    scaled = probability * np.float32(255)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, 255, out=scaled)
    return scaled.astype(np.uint8)


def _grid(grid: BevGrid) -> GridHeader:
    return GridHeader(grid.x_min_m, grid.x_max_m, grid.y_min_m, grid.y_max_m, grid.resolution_m)


def _cameras(predictions: Predictions) -> tuple[CameraHeader, ...]:
    absences: Mapping[str, str] = predictions.absences
    return tuple(
        CameraHeader(name, True, age_ns, None)
        if used
        else CameraHeader(name, False, None, _short(absences.get(name, "not used")))
        for name, used, age_ns in zip(
            predictions.cameras, predictions.camera_mask.tolist(), predictions.camera_age_ns.tolist(), strict=True
        )
    )


def _state(predictions: Predictions, topic: str) -> StateHeader:
    """State of the network or cast-out behind a topic."""
    output_of = {derived(name): name for name in predictions.states for derived in (geometry_topic, belief_topic)}
    status = predictions.state_of(topic if topic in predictions.states else output_of.get(topic, topic))
    return StateHeader(status.carried, _short(status.reset_reason), status.age_ns, _short(status.restored))


def _short(text: str | None) -> str | None:
    """Cut a reason to the 1024 characters that a header takes."""
    return text if text is None or len(text) <= 1024 else text[:1021] + "..."
