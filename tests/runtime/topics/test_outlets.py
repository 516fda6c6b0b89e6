"""Which topics there are, and how they are numbered while outputs come and go."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from octobev import Predictions
from octobev.errors import TopicError
from octobev.runtime.topics import kinds
from octobev.runtime.topics.outlets import BeliefOf, GeometryOf, OutletBook, outlets_of, topics_of

Make = Callable[..., Predictions]
EVERYTHING = frozenset({b""})


def numbers(book: OutletBook) -> dict[str, int]:
    return {outlet.topic: book.sequence(outlet.topic) for outlet in book.wanted(EVERYTHING)}


def without(predictions: Predictions, name: str, reason: str) -> Predictions:
    bev = {key: output for key, output in predictions.bev.items() if key != name}
    return dataclasses.replace(predictions, bev=bev, invalid={**predictions.invalid, name: reason})


def test_outlets_find_their_outputs(make_predictions: Make) -> None:
    predictions = make_predictions()
    topics = topics_of(predictions)
    assert topics["occupancy"] is predictions.bev["occupancy"]
    assert topics["camera/front/depth"] is predictions.camera_outputs["depth"]["front"]
    assert isinstance(topics["road_layout_geometry"], GeometryOf)
    layout = predictions.road_layout
    assert layout is not None
    believing = dataclasses.replace(layout, belief=np.zeros_like(layout.probability))
    topics = topics_of(make_predictions(bev={"road_layout": believing}))
    assert isinstance(topics["road_layout_belief"], BeliefOf)


def test_every_topic_counts_its_own_publications(make_predictions: Make) -> None:
    book = OutletBook()
    whole = make_predictions()
    for predictions in (whole, whole, without(whole, "heat", "NaN"), dataclasses.replace(whole, bev={})):
        book.note(predictions)
    assert "heat" not in numbers(book)
    assert numbers(book)["camera/front/depth"] == 3
    book.note(whole)
    assert (numbers(book)["heat"], numbers(book)["occupancy"], numbers(book)["camera/front/depth"]) == (3, 3, 4)


def test_kind_and_geometry_of_an_output_that_was_valid_before(make_predictions: Make) -> None:
    whole = make_predictions()
    broken = without(whole, "road_layout", "NaN")
    book = OutletBook()
    book.note(broken)
    assert "road_layout_geometry" not in numbers(book)
    assert book.kind("road_layout") == kinds.UNKNOWN
    book.note(whole)
    book.note(broken)
    assert book.kind("road_layout") == kinds.ROAD_LAYOUT
    outlet = next(outlet for outlet in book.outlets if outlet.topic == "road_layout_geometry")
    assert (outlet.of(broken), book.kind(outlet.topic)) == ("NaN", kinds.LAYOUT_GEOMETRY)
    assert outlet.of(without(whole, "road_layout", "another reason")) == "another reason"
    assert numbers(book)["road_layout_geometry"] == 1


def test_an_output_of_another_kind_is_noticed(make_predictions: Make) -> None:
    whole = make_predictions()
    book = OutletBook()
    book.note(whole)
    front = dataclasses.replace(whole.camera_outputs["trunk"]["front"], kind="raw")
    book.note(dataclasses.replace(whole, camera_outputs={**whole.camera_outputs, "trunk": {"front": front}}))
    assert book.kind("camera/front/trunk") == "raw"
    assert numbers(book)["camera/front/trunk"] == 1


def test_wanted_follows_subscriptions_and_outputs(make_predictions: Make) -> None:
    whole = make_predictions()
    book = OutletBook()
    book.note(whole)
    assert book.wanted(frozenset()) == ()
    assert [outlet.topic for outlet in book.wanted(frozenset({b"occupancy/"}))] == ["occupancy"]
    cameras = frozenset({b"camera/front/", b"heat/"})
    assert {outlet.topic for outlet in book.wanted(cameras)} == {
        "heat",
        *(f"camera/front/{name}" for name in ("lines", "depth", "trunk", "objects")),
    }
    book.note(dataclasses.replace(whole, bev={}))
    assert "heat" not in {outlet.topic for outlet in book.wanted(cameras)}


def test_names_that_topics_may_not_have_count_nothing(make_predictions: Make) -> None:
    whole = make_predictions()
    book = OutletBook()
    book.note(whole)
    for name, complaint in (("rig", "output name"), ("a b", "topic")):
        with pytest.raises(TopicError, match=complaint):
            book.note(dataclasses.replace(whole, bev={name: whole.bev["heat"]}))
    assert numbers(book)["occupancy"] == 0
    assert len(outlets_of(whole)) == len(book.outlets)
