"""Which topics predictions are published on, and where in them each topic's output stands.

That is the same for one set after another, until an output becomes invalid, a camera falls out or other outputs are
asked for. So it is worked out once for all predictions of one form.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Final

from ...errors import TopicError, expected
from ..predictions import (
    BevOutput,
    CameraPrediction,
    CorridorDirection,
    OccupancyGrid,
    Predictions,
    RoadLayout,
)
from . import kinds
from .names import RESERVED, camera_topic, check_topic, topic_part

GEOMETRY_SUFFIX: Final = "_geometry"
BELIEF_SUFFIX: Final = "_belief"


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


@dataclass(frozen=True, slots=True)
class Outlet:
    """One topic and its output.

    part : first part of its messages
    kind : of the output when it is valid, else None
    output, camera : names of the output and, where it is of one camera, of that
    invalid : key of :attr:`~octobev.Predictions.invalid` that says why there is no output; None: there is one
    """

    topic: str
    part: bytes
    kind: str | None
    output: str
    camera: str | None = None
    invalid: str | None = None

    def of(self, predictions: Predictions) -> Publishable | str:
        """The output in predictions of this form, or the reason why it is not valid."""
        if self.invalid is not None:
            return predictions.invalid[self.invalid]
        if self.camera is not None:
            return predictions.camera_outputs[self.output][self.camera]
        output = predictions.bev[self.output]
        if self.kind == kinds.LAYOUT_GEOMETRY and isinstance(output, RoadLayout):
            return GeometryOf(predictions, self.output, output)
        if self.kind == kinds.BELIEF and isinstance(output, RoadLayout | OccupancyGrid):
            return BeliefOf(output)
        return output


def geometry_topic(output: str) -> str:
    """Topic of the geometry of a road layout."""
    return output + GEOMETRY_SUFFIX


def belief_topic(output: str) -> str:
    """Topic of what a network says of all cells, for a road layout or an occupancy grid."""
    return output + BELIEF_SUFFIX


def kind_of(output: Publishable) -> str:
    """Kind of an output as it is called on the wire."""
    if isinstance(output, GeometryOf):
        return kinds.LAYOUT_GEOMETRY
    if isinstance(output, BeliefOf):
        return kinds.BELIEF
    if isinstance(output, RoadLayout):
        return kinds.ROAD_LAYOUT
    if isinstance(output, OccupancyGrid):
        return kinds.OCCUPANCY
    if isinstance(output, CorridorDirection):
        return kinds.DIRECTION
    return output.kind if isinstance(output, CameraPrediction) else kinds.BEV_RAW


def topics_of(predictions: Predictions) -> dict[str, Publishable | str]:
    """Every topic that predictions are published on, with its output or the reason why that is not valid."""
    return {outlet.topic: outlet.of(predictions) for outlet in outlets_of(predictions)}


def form_of(predictions: Predictions) -> tuple[list[Any], ...]:
    """What decides on which topics predictions are published, to be compared with that of others."""
    bev, cameras = predictions.bev, predictions.camera_outputs
    return (
        list(predictions.cameras),
        list(bev),
        [type(output) for output in bev.values()],
        [getattr(output, "belief", None) is None for output in bev.values()],
        list(cameras),
        [list(by_camera) for by_camera in cameras.values()],
        [output.kind for by_camera in cameras.values() for output in by_camera.values()],
        list(predictions.invalid),
    )


def outlets_of(predictions: Predictions, before: Container[str] = ()) -> tuple[Outlet, ...]:
    """Every topic of predictions of this form.

    Each road layout has a second topic for its geometry, and what a network gave has one for its belief, unless an
    output of the bundle is called so. When a layout is not valid, they say so too.

    Parameters
    ----------
    before : topics that once were valid: others of an output that is not valid need not say so

    Raises
    ------
    TopicError
        An output with a name that topics may not have.
    """
    found: dict[str, Outlet] = {}

    def add(topic: str, *where: Any, **more: Any) -> None:
        if topic in RESERVED:
            raise TopicError(expected("output name", f"none of {', '.join(sorted(RESERVED))}", topic))
        found[topic] = Outlet(check_topic(topic), topic_part(topic), *where, **more)

    for name, output in predictions.bev.items():
        if isinstance(output, RoadLayout):
            add(geometry_topic(name), kinds.LAYOUT_GEOMETRY, name)
        if isinstance(output, RoadLayout | OccupancyGrid) and output.belief is not None:
            add(belief_topic(name), kinds.BELIEF, name)
    for name, output in predictions.bev.items():
        add(name, kind_of(output), name)
    for name, by_camera in predictions.camera_outputs.items():
        for camera in predictions.cameras:
            if camera in by_camera:
                add(camera_topic(camera, name), by_camera[camera].kind, name, camera)
    for key in predictions.invalid:
        name, _, camera = key.partition("/")
        add(camera_topic(camera, name) if camera else name, None, name, camera or None, invalid=key)
    for name in predictions.invalid:
        for topic in (geometry_topic(name), belief_topic(name)):
            if topic in before and topic not in found:
                add(topic, None, name, invalid=name)
    return tuple(found.values())


class OutletBook:
    """Topics of one publisher: which there are, who wants them, and how often each was published.

    Not safe to use from several threads at once.
    """

    def __init__(self) -> None:
        self.outlets: tuple[Outlet, ...] = ()
        self._form: tuple[list[Any], ...] | None = None
        self._published = 0
        self._numbers: dict[str, int] = {}
        self._kinds: dict[str, str] = {}
        self._prefixes: frozenset[bytes] | None = None
        self._wanted: tuple[Outlet, ...] = ()

    def note(self, predictions: Predictions) -> None:
        """Count predictions that are about to be published, as one more on each of their topics."""
        form = form_of(predictions)
        if form != self._form:
            self._turn_to(outlets_of(predictions, self._kinds))
            self._form = form
        self._published += 1

    def wanted(self, prefixes: frozenset[bytes]) -> tuple[Outlet, ...]:
        """Outlets of the latest predictions whose topics begin with one of these."""
        if prefixes != self._prefixes:
            begins = tuple(prefixes)
            self._wanted = tuple(outlet for outlet in self.outlets if outlet.part.startswith(begins))
            self._prefixes = prefixes
        return self._wanted

    def sequence(self, topic: str) -> int:
        """Number of the latest predictions on one of their topics, from 0."""
        return self._numbers.get(topic, 0) + self._published - 1

    def kind(self, topic: str) -> str:
        """What a topic carries when it is valid."""
        return self._kinds.get(topic, kinds.UNKNOWN)

    def _turn_to(self, outlets: tuple[Outlet, ...]) -> None:
        for outlet in self.outlets:
            self._numbers[outlet.topic] = self._numbers.get(outlet.topic, 0) + self._published
        self._published = 0
        self.outlets = outlets
        self._kinds.update((outlet.topic, outlet.kind) for outlet in outlets if outlet.kind is not None)
        self._prefixes = None
