"""Prediction value types: shapes, access and digest."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.grid import BevGrid
from octobev.runtime.predictions import (
    BevTensor,
    CameraOutput,
    CameraPredictions,
    CorridorDirection,
    Detections,
    OccupancyGrid,
    Predictions,
    Provenance,
    RoadLayout,
    StateStatus,
)
from octobev.runtime.stages import StageSpan

GRID = BevGrid(0, 4, -1, 1, 1.0)
SEEN = np.ones(GRID.shape, dtype=np.bool_)
BITS = np.ones(GRID.shape, dtype=np.uint64)


def layout(fill: float = 0.5) -> RoadLayout:
    probability = np.full((2, *GRID.shape), fill, dtype=np.float32)
    probability[1] *= 0.5
    return RoadLayout(GRID, ("drivable", "crosswalk"), probability, SEEN, BITS)


def occupancy(log_odds: float = 0.0) -> OccupancyGrid:
    return OccupancyGrid(GRID, np.full(GRID.shape, log_odds, dtype=np.float32), SEEN, BITS, half_life_s=2.0)


def predictions(**changes: Any) -> Predictions:
    depth = CameraOutput("left", "depth", np.ones((2, 3), np.float32), (), np.eye(3))
    values: dict[str, Any] = {
        "timestamp_ns": 1_000,
        "sequence": 0,
        "cameras": ("left", "right"),
        "camera_mask": np.array([True, False]),
        "camera_age_ns": np.array([5, 0], dtype=np.int64),
        "absences": {"right": "dropped"},
        "bev": {"road_layout": layout(), "occupancy": occupancy()},
        "camera_outputs": {"depth": {"left": depth}},
        "invalid": {},
        "state": StateStatus(False, "first set", 0),
        "provenance": Provenance("b", "0" * 64, "1" * 64, (), (), 1),
    }
    return Predictions(**(values | changes))


def digest(value: Predictions) -> str:
    sha256 = hashlib.sha256()
    value.digest_into(sha256)
    return sha256.hexdigest()


def test_a_class_is_had_by_name() -> None:
    assert layout(0.5)["crosswalk"][0, 0] == pytest.approx(0.25)
    with pytest.raises(InvalidArgument, match="class must be one of drivable, crosswalk, got kerb"):
        layout()["kerb"]


def test_probability_of_log_odds_by_hand() -> None:
    assert occupancy(0.0).probability[0, 0] == 0.5
    assert occupancy(float(np.log(3.0))).probability[0, 0] == pytest.approx(0.75)
    assert occupancy(-1000.0).probability[0, 0] == 0.0
    assert occupancy(1000.0).probability[0, 0] == 1.0
    assert occupancy().probability.dtype == np.float32


def test_outputs_by_name_and_kind() -> None:
    step = predictions()
    assert step.road_layout is step.bev["road_layout"]
    assert step.occupancy is step.bev["occupancy"]
    raw = predictions(bev={"road_layout": BevTensor(GRID, np.zeros(3))})
    assert raw.road_layout is None
    assert raw.occupancy is None


def test_topics_of_outputs() -> None:
    assert [topic for topic, _ in predictions().outputs()] == ["road_layout", "occupancy", "camera/left/depth"]


def test_maps_are_copied_and_read_only() -> None:
    invalid: dict[str, str] = {}
    step = predictions(invalid=invalid)
    invalid["occupancy"] = "NaN"
    assert not step.invalid
    with pytest.raises(TypeError, match="does not support item assignment"):
        step.bev["x"] = layout()  # type: ignore[index]


def test_digest_follows_the_arrays_and_not_the_clock() -> None:
    same = predictions(
        spans=(StageSpan("lift", (), "main", 0, 3),), bev={"occupancy": occupancy(), "road_layout": layout()}
    )
    assert digest(predictions()) == digest(same)
    assert digest(predictions()) != digest(predictions(timestamp_ns=1_001))
    assert digest(predictions()) != digest(predictions(camera_mask=np.array([True, True])))
    assert digest(predictions()) != digest(predictions(bev={"road_layout": layout(0.501), "occupancy": occupancy()}))
    assert digest(predictions()) != digest(predictions(bev={"road_layout": layout()}))


def test_digest_follows_detections() -> None:
    def found(score: float, count: int = 1) -> Predictions:
        boxes = np.ones((count, 4), np.float32)
        scores = np.full(count, score, np.float32)
        objects = Detections("left", ("car",), boxes, scores, np.zeros(count, np.uint16))
        return predictions(camera_outputs={"objects": {"left": objects}})

    assert [topic for topic, _ in found(0.5).outputs()][-1] == "camera/left/objects"
    assert digest(found(0.5)) == digest(found(0.5))
    assert len({digest(found(0.5)), digest(found(0.25)), digest(found(0.5, 0)), digest(predictions())}) == 4


def test_digest_of_strided_and_empty_arrays() -> None:
    values = np.arange(12.0).reshape(3, 4)
    assert digest(predictions(bev={"x": BevTensor(GRID, values.T)})) == digest(
        predictions(bev={"x": BevTensor(GRID, np.ascontiguousarray(values.T))})
    )
    assert digest(predictions(bev={"x": BevTensor(GRID, np.zeros((0, 4)))}))
    assert digest(predictions(bev={"x": BevTensor(GRID, np.float32(1.0).reshape(()))}))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "probability",
            np.zeros((1, 4, 2), np.float32),
            r"probability must be float32 \(2, 4, 2\), got float32 \(1, 4",
        ),
        ("probability", np.zeros((2, 4, 2)), r"probability must be float32 \(2, 4, 2\), got float64"),
        ("observed", np.ones((4, 2), np.uint8), r"observed must be bool \(4, 2\), got uint8 \(4, 2\)"),
        ("seen_by", np.ones((2, 4), np.uint64), r"seen_by must be uint64 \(4, 2\), got uint64 \(2, 4\)"),
    ],
)
def test_layout_arrays_fit_the_grid(field: str, value: np.ndarray, message: str) -> None:
    arrays = {"probability": np.zeros((2, 4, 2), np.float32), "observed": SEEN, "seen_by": BITS} | {field: value}
    with pytest.raises(InvalidArgument, match=message):
        RoadLayout(GRID, ("a", "b"), **arrays)


@pytest.mark.parametrize(
    ("log_odds", "observed", "message"),
    [
        (np.zeros((4, 2)), SEEN, r"log_odds must be float32 \(4, 2\), got float64 \(4, 2\)"),
        (np.zeros((4, 2), np.float32), SEEN[:3], r"observed must be bool \(4, 2\), got bool \(3, 2\)"),
    ],
)
def test_occupancy_arrays_fit_the_grid(log_odds: np.ndarray, observed: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        OccupancyGrid(GRID, log_odds, observed, BITS, 1.0)


def test_camera_arrays_fit_the_cameras() -> None:
    with pytest.raises(InvalidArgument, match=r"camera_mask must be bool \(2,\), got bool \(1,\)"):
        predictions(camera_mask=np.array([True]))
    with pytest.raises(InvalidArgument, match=r"camera_age_ns must be int64 \(2,\), got int32 \(2,\)"):
        predictions(camera_age_ns=np.zeros(2, np.int32))


def direction(angle_rad: float) -> CorridorDirection:
    filled = np.full(GRID.shape, angle_rad, np.float32)
    observed = SEEN.copy()
    observed[0, 0] = False
    return CorridorDirection(GRID, filled, np.full(GRID.shape, 0.5, np.float32), observed, BITS)


def test_a_layout_goes_with_the_direction_of_its_own_network() -> None:
    first, second = direction(0.1), direction(0.2)
    step = predictions(
        bev={"a": first, "road_layout": layout(), "b": second, "cast": layout()},
        networks={"a": "front", "road_layout": "topdown", "b": "topdown"},
    )
    assert step.direction_of("road_layout") is second
    assert step.direction_of("cast") is None


def test_geometry_takes_the_direction_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(RoadLayout, "geometry", lambda _, direction_rad: given.append(direction_rad))
    predictions(bev={"road_layout": layout(), "direction": direction(0.25)}).geometry_of()
    predictions().geometry_of()
    assert given[1] is None
    assert np.isnan(given[0][0, 0])
    assert (given[0].ravel()[1:] == np.float32(0.25)).all()


def test_geometry_is_that_of_a_road_layout() -> None:
    with pytest.raises(InvalidArgument, match="road layout must be one of road_layout, got occupancy"):
        predictions().geometry_of("occupancy")


def test_direction_is_known_where_observed_and_sure_enough() -> None:
    found = direction(0.25)
    assert np.isfinite(found.known_rad(0.5)).sum() == found.observed.sum()
    assert not np.isfinite(found.known_rad(0.6)).any()


@pytest.mark.parametrize("shape", [(1, *GRID.shape), (3, *GRID.shape)])
def test_belief_has_a_plane_for_each_class(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="belief must be"):
        RoadLayout(GRID, ("a", "b"), layout().probability, SEEN, BITS, np.zeros(shape, np.float32))


def test_resets_name_each_reason_once() -> None:
    lost, back = StateStatus(False, "gap of 2.000 s", 0), StateStatus(True, None, 5, "NaN")
    value = predictions(state=lost, states={"a": lost, "b": back, "c": back})
    assert value.resets == ("gap of 2.000 s", "NaN; back to the last good state")
    assert value.state_of("b") == back
    assert value.state_of("camera output") == lost


def test_camera_outputs_are_made_once_and_when_asked_for() -> None:
    asked = []

    def make(name: str) -> dict[str, CameraOutput]:
        asked.append(name)
        return {"left": CameraOutput("left", "raw", np.ones(3), (), np.eye(3))}

    given = CameraPredictions({"one": make, "depth": {}, "two": make})
    whole = predictions(camera_outputs=given)
    assert (len(given), list(given), "one" in given, "three" in given) == (3, ["one", "depth", "two"], True, False)
    assert asked == []
    assert given["two"]["left"] is whole.camera_outputs["two"]["left"]
    assert asked == ["two"]
    assert [topic for topic, _ in whole.outputs() if topic.startswith("camera")] == [
        "camera/left/one",
        "camera/left/two",
    ]
    assert asked == ["two", "one"]
    with pytest.raises(KeyError, match="three"):
        given["three"]


def test_camera_outputs_are_not_changed_by_whoever_gave_them() -> None:
    mine: dict[str, Any] = {"depth": {}}
    whole = predictions(camera_outputs=mine)
    mine["more"] = {}
    assert whole.camera_outputs == {"depth": {}}
