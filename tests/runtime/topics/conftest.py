from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from octobev import (
    BevGrid,
    Camera,
    CameraOutput,
    CorridorDirection,
    Detections,
    Intrinsics,
    LensModel,
    OccupancyGrid,
    Pose,
    Predictions,
    Rig,
    RoadLayout,
)
from octobev.runtime.predictions import BevTensor, Provenance, StateStatus

GRID = BevGrid(-1.0, 2.0, -1.0, 1.0, 0.5)  # 6 x 4 cells


@pytest.fixture
def make_predictions() -> Callable[..., Predictions]:
    """Two cameras of three, every kind of output; keyword arguments replace fields."""

    def make(sequence: int = 0, **changes: Any) -> Predictions:
        rng = np.random.default_rng(7 + sequence)
        observed = rng.random(GRID.shape) > 0.5
        seen_by = rng.integers(0, 2**63, GRID.shape, dtype=np.uint64)
        layout = RoadLayout(
            GRID,
            ("drivable", "edge"),
            rng.integers(0, 256, (2, *GRID.shape)).astype(np.float32) / np.float32(255),
            observed,
            seen_by,
        )
        occupancy = OccupancyGrid(GRID, rng.normal(0, 3, GRID.shape).astype(np.float32), observed, seen_by, 2.5)
        direction = CorridorDirection(
            GRID,
            rng.uniform(-1.5, 1.5, GRID.shape).astype(np.float32),
            rng.integers(0, 256, GRID.shape).astype(np.float32) / np.float32(255),
            observed,
            seen_by,
        )
        matrix = np.array([[0.25, 0, -0.375], [0, 0.25, -0.375], [0, 0, 1]])
        segmentation = rng.integers(0, 256, (2, 3, 5)).astype(np.float32) / np.float32(255)
        depth = rng.uniform(1, 50, (3, 5)).astype(np.float32)
        fields: dict[str, Any] = {
            "timestamp_ns": 1_700_000_000_000_000_000 + sequence * 100_000_000,
            "sequence": sequence,
            "cameras": ("front", "front_left", "rear"),
            "camera_mask": np.array([True, True, False]),
            "camera_age_ns": np.array([0, -12_000_000, 0]),
            "absences": {"rear": "no frame"},
            "bev": {"road_layout": layout, "occupancy": occupancy, "heat": BevTensor(GRID, rng.normal(size=(3, 2)))}
            | {"lanes": direction},
            "camera_outputs": {
                "lines": {"front": CameraOutput("front", "segmentation", segmentation, ("a", "b"), matrix)},
                "depth": {
                    "front": CameraOutput("front", "depth", depth, (), matrix),
                    "front_left": CameraOutput("front_left", "depth", depth + 1, (), matrix),
                },
                "trunk": {"front": CameraOutput("front", "features", depth.astype(np.float16), (), matrix)},
                "objects": {
                    "front": Detections(
                        "front",
                        ("car", "person"),
                        np.array([[1, 2, 30.25, 40], [-0.5, -0.5, 6, 7.5]], np.float32),
                        np.array([0.9, 0.4375], np.float32),
                        np.array([1, 0], np.uint16),
                    ),
                    "front_left": Detections(
                        "front_left",
                        ("car", "person"),
                        np.zeros((0, 4), np.float32),
                        np.zeros(0, np.float32),
                        np.zeros(0, np.uint16),
                    ),
                },
            },
            "invalid": {"corridor": "NaN in 3 of 9 values", "lines/front_left": "NaN in 1 of 30 values"},
            "state": StateStatus(False, "first set", 0),
            "provenance": Provenance("tiny", "ab" * 32, "cd" * 32, (("numpy", "2"),), (("net", ("CPU",)),), 1),
        }
        return Predictions(**(fields | changes))

    return make


@pytest.fixture
def rig() -> Rig:
    lens = Intrinsics(640, 480, 500.5, 501.25, 319.5, 239.5)
    fisheye = Intrinsics(640, 480, 300.0, 300.0, 320.0, 240.0, LensModel.KANNALA_BRANDT, (0.1, -0.01, 0.001, 0.0))
    return Rig(
        (
            Camera("front", lens, Pose.from_quaternion((1.5, 0.0, 1.2), (-0.5, 0.5, -0.5, 0.5))),
            Camera("rear", fisheye, Pose.from_quaternion((-1.0, 0.1, 1.0), (0.5, 0.5, -0.5, -0.5))),
        ),
        "car 7",
    )
