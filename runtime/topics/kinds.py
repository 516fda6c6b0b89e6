"""Kinds of content, as headers call them. docs/topics.md says what each holds."""

from __future__ import annotations

from typing import Final

ROAD_LAYOUT: Final = "road_layout"
LAYOUT_GEOMETRY: Final = "layout_geometry"
OCCUPANCY: Final = "occupancy"
DIRECTION: Final = "direction"
BEV_RAW: Final = "bev_raw"

BELIEF: Final = "belief"
"""What a network says of all cells, observed or not."""

OCCUPIED: Final = "occupied"
"""The class of an occupancy grid's belief."""

BEV: Final = frozenset({ROAD_LAYOUT, LAYOUT_GEOMETRY, OCCUPANCY, DIRECTION, BEV_RAW, BELIEF})
"""Kinds that lie on a grid."""

SEGMENTATION: Final = "segmentation"
DEPTH: Final = "depth"

CAMERA_ARRAY: Final = (SEGMENTATION, DEPTH, "features", "raw")
"""Per-camera outputs that are a single array."""

DETECTIONS: Final = "detections"
RIG: Final = "rig"
HEALTH: Final = "health"

UNKNOWN: Final = "unknown"
"""Of an output that has never been valid since its publisher started."""
