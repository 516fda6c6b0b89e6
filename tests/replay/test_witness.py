from dataclasses import replace

import cv2
import numpy as np
import pytest
from octobev.fusion.grid import BevGrid
from octobev.fusion.layout import RoadLayout
from octobev.fusion.occupancy import OccupancyGrid
from octobev.fusion.pose import Pose
from octobev.replay.witness import Witness
from octobev.runtime.frames import Frame, PixelFormat
from octobev.runtime.predictions import CameraOutput, Predictions, Provenance, StateStatus
from octobev.runtime.topics.publisher import Publisher
from octobev.runtime.topics.subscriber import Subscriber

MS = 1_000_000
T0 = 1_700_000_000_000_000_000
GRID = BevGrid(-20.0, 20.0, -20.0, 20.0, 0.5)
SIZE = (64, 48)
AHEAD, BEHIND = (60, 40), (10, 40)
"""Cells 10 m before and 15 m behind the ego; both cameras of the rig look ahead."""


def jpeg():
    return cv2.imencode(".jpg", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))[1].tobytes()


def occupancy(observed=(AHEAD,), seen=((AHEAD, 1),), value=0.5):
    masks = np.zeros(GRID.shape, np.bool_), np.zeros(GRID.shape, np.uint64)
    for cell in observed:
        masks[0][cell] = True
    for cell, bits in seen:
        masks[1][cell] = bits
    return OccupancyGrid(GRID, np.full(GRID.shape, value, np.float32), *masks, 1.0)


def predictions(number=0, used=(True, False), ages_ms=(0, 0), carried=False, bev=None, **changes):
    made = Predictions(
        timestamp_ns=T0 + number * 100 * MS,
        sequence=number,
        cameras=("front", "left"),
        camera_mask=np.array(used),
        camera_age_ns=np.array(ages_ms, dtype=np.int64) * MS,
        absences={},
        bev={"occupancy": occupancy()} if bev is None else bev,
        camera_outputs={},
        invalid={},
        state=StateStatus(carried, None if carried else "first set", 0),
        provenance=Provenance("b", "0", "0", (), (), 1),
    )
    return replace(made, **changes)


@pytest.fixture
def witness(make_rig):
    """Four sets of both cameras and their poses, 5 m apart, were submitted."""
    witness = Witness(make_rig("front", "left", width=SIZE[0], height=SIZE[1]))
    for number in range(4):
        witness.posed(T0 + number * 100 * MS, Pose.planar(5.0 * number, 0, 0))
        for camera in ("front", "left"):
            witness.submitted(Frame(camera, T0 + number * 100 * MS, jpeg(), PixelFormat.JPEG))
    return witness


def test_what_a_camera_has_seen_is_no_invention(witness):
    assert witness.inventions(predictions()) == []


def test_remembered_ground_is_no_invention(witness):
    """What lay 10 m ahead lies 5 m behind three sets later."""
    behind = (30, 40)
    witness.inventions(predictions(0))
    for number in (1, 2):
        assert witness.inventions(predictions(number, carried=True)) == []
    assert witness.inventions(predictions(3, carried=True, bev={"occupancy": occupancy([behind], [])})) == []


def test_remembered_ground_after_a_reset_is_one(witness):
    behind = {"occupancy": occupancy([(20, 40)], [])}
    witness.inventions(predictions(0))
    assert witness.inventions(predictions(1, bev=behind)) == [
        "occupancy: 1 cells observed that no camera sees, with nothing carried over"
    ]
    assert witness.inventions(predictions(2, carried=True, bev=behind)) == [
        "occupancy: 1 cells observed that no camera has seen since the last reset"
    ]


def test_predictions_that_say_that_nothing_came_reset_nothing(witness):
    witness.inventions(predictions(0))
    witness.inventions(predictions(1, used=(False, False), bev={}))
    assert witness.inventions(predictions(2, carried=True, bev={"occupancy": occupancy([(40, 40)], [])})) == []


def layout(value):
    observed, seen = np.zeros(GRID.shape, np.bool_), np.zeros(GRID.shape, np.uint64)
    return {"road": RoadLayout(GRID, ("drivable",), np.full((1, *GRID.shape), value, np.float32), observed, seen)}


VALUES = CameraOutput("left", "raw", np.zeros(3), (), np.eye(3))


@pytest.mark.parametrize(
    ("changes", "invention"),
    [
        ({"bev": {"occupancy": occupancy([BEHIND], [])}}, "occupancy: 1 cells observed that no camera sees"),
        ({"bev": {"occupancy": occupancy([BEHIND], [(BEHIND, 1)])}}, "cells seen by front that are out of its sight"),
        ({"bev": {"occupancy": occupancy([AHEAD], [(AHEAD, 3)])}}, "cells seen by left, which was not used"),
        ({"bev": {"occupancy": occupancy(value=np.nan)}}, "occupancy: log_odds is not finite"),
        ({"bev": layout(1.5)}, "road: probability is outside of 0..1"),
        ({"used": (False, False)}, "outputs without any camera"),
        ({"ages_ms": (7, 0)}, "front used at a time at which it gave no frame"),
        ({"timestamp_ns": T0 + 50 * MS, "ages_ms": (50, 0)}, "no frame was submitted at this instant"),
        ({"camera_outputs": {"raw": {"left": VALUES}}}, "camera/left/raw of a camera that was not used"),
    ],
)
def test_inventions_are_found(witness, changes, invention):
    assert any(invention in found for found in witness.inventions(predictions(**changes)))


def test_sequence_has_no_gap_and_no_repetition(witness):
    witness.inventions(predictions(0))
    assert witness.inventions(predictions(2)) == ["number 2 after 0"]
    assert witness.inventions(predictions(2)) == ["number 2 after 2"]


def test_use_of_a_frame_that_cannot_be_read_is_found(witness):
    at_ns = T0 + 400 * MS
    witness.submitted(Frame("front", at_ns, jpeg()[:50], PixelFormat.JPEG))
    found = witness.inventions(predictions(4))
    assert "front used although its frame cannot be read" in found
    witness.submitted(Frame("front", at_ns, jpeg(), PixelFormat.JPEG))
    assert "front used although its frame cannot be read" not in witness.inventions(predictions(4))


def test_messages_are_checked(witness, tmp_path):
    endpoint = f"ipc://{tmp_path}/topic"
    with Publisher(endpoint) as publisher, Subscriber(endpoint, ["occupancy"]) as subscriber:
        assert publisher.wait_for_subscription("occupancy", 30)

        def found(made):
            publisher.publish(made)
            return witness.forgeries(subscriber.receive(30))

        assert found(predictions()) == []
        assert found(predictions(ages_ms=(7, 0))) == ["front used at a time at which it gave no frame"]
        assert found(predictions(used=(False, False))) == ["occupancy: valid without any camera"]
        assert found(predictions(used=(False, False), bev={}, invalid={"occupancy": "nothing came"})) == []
        late = predictions(timestamp_ns=T0 + 50 * MS, ages_ms=(50, 0))
        assert found(late) == ["occupancy: no frame was submitted at its instant"]
