"""What networks say of cells that nobody observed, on a topic of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from octobev import Predictions
from octobev.errors import InvalidArgument, WireError
from octobev.runtime.predictions import OccupancyGrid, RoadLayout
from octobev.runtime.topics.encode import Stamp, encode_output
from octobev.runtime.topics.message import Message
from octobev.runtime.topics.outlets import BeliefOf, topics_of
from octobev.runtime.topics.publisher import Publisher
from octobev.runtime.topics.subscriber import Subscriber
from octobev.runtime.topics.wire import decode, pack

Make = Callable[..., Predictions]
WAIT_S = 10.0


@pytest.fixture
def believing(make_predictions: Make) -> Make:
    """Predictions whose layout and occupancy believe something everywhere, in steps of 1/255."""

    def make(sequence: int = 0) -> Predictions:
        made = make_predictions(sequence)
        rng = np.random.default_rng(sequence)
        layout, occupancy = made.bev["road_layout"], made.bev["occupancy"]
        assert isinstance(layout, RoadLayout)
        assert isinstance(occupancy, OccupancyGrid)
        shapes = layout.probability.shape, occupancy.grid.shape
        beliefs = [rng.integers(0, 256, shape) / np.float32(255) for shape in shapes]
        layout = dataclasses.replace(layout, belief=beliefs[0].astype(np.float32))
        occupancy = dataclasses.replace(occupancy, belief=beliefs[1].astype(np.float32))
        return make_predictions(sequence, bev=dict(made.bev) | {"road_layout": layout, "occupancy": occupancy})

    return make


def message_of(predictions: Predictions, topic: str) -> Message:
    stamp = Stamp("0123456789abcdef" * 2, 5, 1_700_000_000_050_000_000)
    return decode(encode_output(topic, topics_of(predictions)[topic], predictions, stamp, kind="unknown"))


def test_a_layout_has_its_belief_on_a_topic_of_its_own(believing: Make) -> None:
    made = believing()
    message = message_of(made, "road_layout_belief")
    assert (message.kind, message.header.classes, message.header.frame_id) == ("belief", ("drivable", "edge"), "ego")
    np.testing.assert_array_equal(message.belief(), made.bev["road_layout"].belief)
    np.testing.assert_array_equal(message.arrays["observed"], made.bev["road_layout"].observed)
    with pytest.raises(InvalidArgument, match="kind of road_layout_belief must be road_layout, got belief"):
        message.road_layout()


def test_the_belief_of_an_occupancy_grid_has_one_class(believing: Make) -> None:
    made = believing()
    message = message_of(made, "occupancy_belief")
    assert message.header.classes == ("occupied",)
    np.testing.assert_array_equal(message.belief()[0], made.bev["occupancy"].belief)


def test_what_was_cast_out_believes_nothing(make_predictions: Make) -> None:
    assert not [topic for topic in topics_of(make_predictions()) if topic.endswith("_belief")]


def test_an_output_of_that_name_takes_the_topic(believing: Make, make_predictions: Make) -> None:
    bev = dict(believing().bev)
    named = {"road_layout": bev["road_layout"], "road_layout_belief": bev["heat"]}
    assert message_of(make_predictions(bev=named), "road_layout_belief").kind == "bev_raw"


def test_a_belief_that_is_no_probability_is_not_sent(believing: Make) -> None:
    made = believing()
    made.bev["road_layout"].belief[0, 0, 0] = 3.0
    message = message_of(made, "road_layout_belief")
    assert not message.valid
    assert message.reason is not None
    assert message.reason.startswith("probability leaves 0..1")


def test_planes_must_be_as_many_as_classes(believing: Make) -> None:
    message = message_of(believing(), "road_layout_belief")
    with pytest.raises(WireError, match=r"array probability must be uint8 \(2, .*, got uint8 \(1,"):
        decode(pack(message.header, dict(message.arrays) | {"probability": message.arrays["probability"][:1]}))


def test_belief_is_encoded_only_for_who_listens_and_withheld_with_its_output(
    tmp_path: Path, believing: Make, make_predictions: Make
) -> None:
    endpoint = f"ipc://{tmp_path}/topics"
    with Publisher(endpoint) as publisher, Subscriber(endpoint, "occupancy_belief") as subscriber:
        assert publisher.wait_for_subscription("occupancy_belief", WAIT_S)
        assert publisher.publish(believing(0)) == 1
        assert subscriber.receive(WAIT_S).kind == "belief"
        heat = {"heat": believing(1).bev["heat"]}
        publisher.publish(make_predictions(1, bev=heat, invalid={"occupancy": "NaN"}))
        message = subscriber.receive(WAIT_S)
        assert (message.valid, message.reason, message.kind) == (False, "NaN", "belief")


def test_beliefs_are_not_among_the_arrays_that_are_sent_to_everybody(believing: Make) -> None:
    topics = topics_of(believing())
    assert isinstance(topics["road_layout_belief"], BeliefOf)
    assert "belief" not in message_of(believing(), "road_layout").arrays
