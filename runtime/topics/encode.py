"""Predictions, the rig and the health as messages: what goes into each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._ext.octets import to_octets
from ...fusion.grid import BevGrid
from ...fusion.rig import Rig
from ..live.health import Health
from ..predictions import CameraOutput, Detections, OccupancyGrid, Predictions, RoadLayout
from . import geometry, health_header, kinds, rig_header
from .header import CameraHeader, GridHeader, Header, StateHeader
from .names import HEALTH, RIG
from .outlets import BELIEF_SUFFIX, GEOMETRY_SUFFIX, BeliefOf, GeometryOf, Publishable, kind_of
from .wire import Buffer, pack

EGO_FRAME = "ego"


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


class Common:
    """The part of the headers that all messages of a set share, made when the first one asks for it."""

    def __init__(self, predictions: Predictions) -> None:
        self.predictions = predictions

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Header fields by name."""
        predictions, provenance = self.predictions, self.predictions.provenance
        return {
            "timestamp_ns": predictions.timestamp_ns,
            "cameras": _cameras(predictions),
            "step": predictions.sequence,
            "bundle_name": provenance.bundle_name,
            "bundle_sha256": provenance.bundle_sha256,
            "bundle_variant": provenance.variant,
            "rig_sha256": provenance.rig_sha256,
        }


def encode_output(
    topic: str,
    output: Publishable | str,
    predictions: Predictions,
    stamp: Stamp,
    *,
    kind: str,
    common: Common | None = None,
) -> list[Buffer]:
    """Make the message of one output.

    An output that is a reason, or that holds NaN, infinity or a probability outside 0..1, becomes a message that is not
    valid and has no arrays.

    Parameters
    ----------
    kind : what the topic carries when it is valid, or "unknown"
    common : of the same predictions, when several of their outputs are encoded
    """
    content = _content(output) if not isinstance(output, str) else Content(kind, reason=output or "no reason given")
    if content.reason is not None and topic.startswith("camera/"):
        content.fields["camera"] = topic.split("/")[1]
    header = Header(
        topic=topic,
        kind=content.kind,
        session=stamp.session,
        sequence=stamp.sequence,
        published_ns=stamp.published_ns,
        frame_id=content.fields.get("camera") or EGO_FRAME,
        valid=content.reason is None,
        reason=_short(content.reason),
        state=_state(predictions, topic),
        **(common or Common(predictions)).fields,
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
        if isinstance(octets := _octets("probability", output.layout.probability), str):
            return Content(kind, reason=octets)
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
        probability = "values" if kind == kinds.SEGMENTATION else None
    else:
        fields = {"grid": _grid(output.grid)}
        probability = {kinds.ROAD_LAYOUT: "probability", kinds.DIRECTION: "confidence"}.get(kind)
    if (fault := _not_finite(arrays, but=probability)) is not None:
        return Content(kind, reason=fault)
    if isinstance(output, RoadLayout):
        fields["classes"] = output.classes
    if isinstance(output, OccupancyGrid):
        fields["half_life_s"] = output.half_life_s if math.isfinite(output.half_life_s) else None
        arrays, probability = {"probability": output.probability, **arrays}, "probability"
    if probability is not None:
        if isinstance(octets := _octets(probability, arrays[probability]), str):
            return Content(kind, reason=octets)
        arrays[probability] = octets
    return Content(kind, fields, arrays)


def _belief(output: RoadLayout | OccupancyGrid) -> Content:
    belief = np.empty((0, *output.grid.shape), np.float32) if output.belief is None else output.belief
    if isinstance(octets := _octets("probability", belief.reshape(-1, *output.grid.shape)), str):
        return Content(kinds.BELIEF, reason=octets)
    classes = output.classes if isinstance(output, RoadLayout) else (kinds.OCCUPIED,)
    arrays = {"probability": octets, "observed": output.observed}
    return Content(kinds.BELIEF, {"grid": _grid(output.grid), "classes": classes}, arrays)


def _not_finite(arrays: Mapping[str, NDArray[Any]], *, but: str | None = None) -> str | None:
    """What makes arrays, except one, unfit to be published; None: nothing."""
    for name, array in arrays.items():
        if name != but and array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"{name} holds NaN or infinity"
    return None


def _octets(name: str, probability: NDArray[Any]) -> NDArray[np.uint8] | str:
    """Round 0..1 to 0..255; or say what makes the array unfit to be published."""
    plain = np.ascontiguousarray(probability, dtype=np.float32)
    octets = np.empty(probability.shape, np.uint8)
    if to_octets(plain.reshape(-1), octets.reshape(-1)):
        return octets
    return _not_finite({name: plain}) or f"{name} leaves 0..1: {plain.min():g} to {plain.max():g}"


def _grid(grid: BevGrid) -> GridHeader:
    return GridHeader(grid.x_min_m, grid.x_max_m, grid.y_min_m, grid.y_max_m, grid.resolution_m)


def _cameras(predictions: Predictions) -> tuple[CameraHeader, ...]:
    absences: Mapping[str, str] = predictions.absences
    return tuple(
        CameraHeader(name, True, age_ns, None, predictions.levelled.get(name))
        if used
        else CameraHeader(name, False, None, _short(absences.get(name, "not used")))
        for name, used, age_ns in zip(
            predictions.cameras, predictions.camera_mask.tolist(), predictions.camera_age_ns.tolist(), strict=True
        )
    )


def _state(predictions: Predictions, topic: str) -> StateHeader:
    """State of the network or cast-out behind a topic."""
    names = (topic, topic.removesuffix(GEOMETRY_SUFFIX), topic.removesuffix(BELIEF_SUFFIX))
    status = next((predictions.states[name] for name in names if name in predictions.states), predictions.state)
    return StateHeader(status.carried, _short(status.reset_reason), status.age_ns, _short(status.restored))


def _short(text: str | None) -> str | None:
    """Cut a reason to the 1024 characters that a header takes."""
    return text if text is None or len(text) <= 1024 else text[:1021] + "..."
