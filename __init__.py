"""Octobev: surround cameras in, bird's-eye-view road layout and occupancy out.

Names are loaded on first use (PEP 562): a subscriber process pays for neither onnxruntime nor OpenCV.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# ONNX Runtime from 1.32 on reports its use to Microsoft unless this is set before it is loaded, see docs/security.md
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "BevGrid": ".fusion.grid",
    "Bundle": ".runtime.bundle",
    "Camera": ".fusion.rig",
    "CameraOutput": ".runtime.predictions",
    "CorridorDirection": ".runtime.predictions",
    "Detections": ".runtime.predictions",
    "Frame": ".runtime.frames",
    "FrameRingReader": ".runtime.ring.reader",
    "FrameRingWriter": ".runtime.ring.writer",
    "FrameSet": ".runtime.frames",
    "Intrinsics": ".fusion.lens",
    "LensModel": ".fusion.lens",
    "LiveRuntime": ".runtime.live.runtime",
    "LiveSettings": ".runtime.live.settings",
    "OccupancyGrid": ".runtime.predictions",
    "OctobevError": ".errors",
    "PixelFormat": ".runtime.frames",
    "Pose": ".fusion.pose",
    "Predictions": ".runtime.predictions",
    "Publisher": ".runtime.topics.publisher",
    "PublisherKeys": ".runtime.topics.keys",
    "Rig": ".fusion.rig",
    "RoadLayout": ".runtime.predictions",
    "Runtime": ".runtime.engine",
    "Subscriber": ".runtime.topics.subscriber",
    "SubscriberKeys": ".runtime.topics.keys",
    "Trajectory": ".fusion.pose",
    "ViewBuilder": ".fusion.view_builder",
    "ViewTransform": ".fusion.view",
    "open_bundle": ".runtime.bundle",
    "open_drive": ".replay.open",
    "read_rig": ".fusion.rig",
    "write_rig": ".fusion.rig",
}

__all__ = ["__version__", *sorted(_HOME)]

if TYPE_CHECKING:
    from .errors import OctobevError as OctobevError
    from .fusion.grid import BevGrid as BevGrid
    from .fusion.lens import Intrinsics as Intrinsics
    from .fusion.lens import LensModel as LensModel
    from .fusion.pose import Pose as Pose
    from .fusion.pose import Trajectory as Trajectory
    from .fusion.rig import Camera as Camera
    from .fusion.rig import Rig as Rig
    from .fusion.rig import read_rig as read_rig
    from .fusion.rig import write_rig as write_rig
    from .fusion.view import ViewTransform as ViewTransform
    from .fusion.view_builder import ViewBuilder as ViewBuilder
    from .replay.open import open_drive as open_drive
    from .runtime.bundle import Bundle as Bundle
    from .runtime.bundle import open_bundle as open_bundle
    from .runtime.engine import Runtime as Runtime
    from .runtime.frames import Frame as Frame
    from .runtime.frames import FrameSet as FrameSet
    from .runtime.frames import PixelFormat as PixelFormat
    from .runtime.live.runtime import LiveRuntime as LiveRuntime
    from .runtime.live.settings import LiveSettings as LiveSettings
    from .runtime.predictions import CameraOutput as CameraOutput
    from .runtime.predictions import CorridorDirection as CorridorDirection
    from .runtime.predictions import Detections as Detections
    from .runtime.predictions import OccupancyGrid as OccupancyGrid
    from .runtime.predictions import Predictions as Predictions
    from .runtime.predictions import RoadLayout as RoadLayout
    from .runtime.ring.reader import FrameRingReader as FrameRingReader
    from .runtime.ring.writer import FrameRingWriter as FrameRingWriter
    from .runtime.topics.keys import PublisherKeys as PublisherKeys
    from .runtime.topics.keys import SubscriberKeys as SubscriberKeys
    from .runtime.topics.publisher import Publisher as Publisher
    from .runtime.topics.subscriber import Subscriber as Subscriber


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
