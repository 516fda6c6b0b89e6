"""The header of a message: what docs/topics.md describes, as types.

Every key is always written; a reader ignores keys that it does not know.

What every message has several of (`gc=False`) is not followed by the garbage collector: it holds texts and numbers
only, which form no cycles.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

SCHEMA: Final = 1
"""Version of the wire format. It grows when a reader of the version before could misread a message."""

MAX_ARRAYS: Final = 16
MAX_AXES: Final = 8
MAX_HEADER_BYTES: Final = 65536
MAX_PART_BYTES: Final = 64 * 1024 * 1024
"""Largest part that publisher and subscriber accept, unless told otherwise."""

DTYPES: Final = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        "bool",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "float16",
        "float32",
        "float64",
    )
}
"""Element types on the wire, little-endian; a bool is one byte, 0 or 1."""

Text = Annotated[str, Meta(max_length=1024)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Nanoseconds = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Crc = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Length = Annotated[int, Meta(ge=0, le=2**31 - 1)]
ImageSize = Annotated[int, Meta(ge=1, le=65535)]
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
Counts = Annotated[dict[Text, Count], Meta(max_length=32)]


class ArrayHeader(msgspec.Struct, frozen=True, gc=False):
    """One array; its elements are the part at the same place in the list of arrays, in C order."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    dtype: str
    shape: Annotated[tuple[Length, ...], Meta(max_length=MAX_AXES)]


class GridHeader(msgspec.Struct, frozen=True, gc=False):
    """The rectangle that BEV arrays lie on, ego frame, metres."""

    x_min_m: float
    x_max_m: float
    y_min_m: float
    y_max_m: float
    resolution_m: float


class CameraHeader(msgspec.Struct, frozen=True, gc=False):
    """What one camera gave to the step; its place in the list is its bit in `seen_by`.

    level_deg : pitch and roll by which it was corrected, as `levelled` of
        :class:`octobev.runtime.predictions.Predictions`; None: it was not
    """

    name: Text
    used: bool
    age_ns: Nanoseconds | None
    reason: Text | None
    level_deg: tuple[Finite, Finite] | None = None


class StateHeader(msgspec.Struct, frozen=True, gc=False):
    """What became of an output's memory in the step, see :class:`octobev.runtime.predictions.StateStatus`."""

    carried: bool
    reset_reason: Text | None
    age_ns: Count
    restored: Text | None = None


class LensHeader(msgspec.Struct, frozen=True):
    """One camera of the rig: image size, lens and mounting (`ego_from_camera`, 4x4, row by row)."""

    name: Text
    width: ImageSize
    height: ImageSize
    fx: float
    fy: float
    cx: float
    cy: float
    model: str
    coefficients: Annotated[tuple[float, ...], Meta(max_length=8)]
    ego_from_camera: Annotated[tuple[float, ...], Meta(min_length=16, max_length=16)]


class RigHeader(msgspec.Struct, frozen=True):
    """The calibration."""

    name: Text
    cameras: Annotated[tuple[LensHeader, ...], Meta(min_length=1, max_length=64)]


class CameraHealthHeader(msgspec.Struct, frozen=True):
    """One camera of a live runtime, see :class:`octobev.runtime.live.health.CameraHealth`."""

    name: Text
    condition: Literal["ok", "late", "stale", "corrupt", "missing"]
    since_ns: Count
    rate_hz: Finite
    age_ns: Count | None
    skew_ns: Nanoseconds | None
    received: Count
    used: Count
    dropped: Counts
    corrupt: Count
    queued: Count
    reason: Text | None


class SpreadHeader(msgspec.Struct, frozen=True):
    """Percentiles of a duration, milliseconds."""

    count: Count
    p50_ms: Finite
    p99_ms: Finite
    max_ms: Finite


class StageHeader(msgspec.Struct, frozen=True):
    """How long one stage takes."""

    name: Text
    spread: SpreadHeader


class OutputHealthHeader(msgspec.Struct, frozen=True):
    """One output of a live runtime, see :class:`octobev.runtime.live.health.OutputHealth`."""

    name: Text
    computed: bool
    valid: bool
    reason: Text | None
    invalid: Count


class HealthHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a live runtime, see :class:`octobev.runtime.live.health.Health`.

    Its `timestamp_ns`, `rig_sha256` and `bundle_sha256` are those of the header that it is in.
    """

    uptime_ns: Count
    valid: bool
    reason: Text | None
    cameras: Annotated[tuple[CameraHealthHeader, ...], Meta(max_length=64)]
    stages: Annotated[tuple[StageHeader, ...], Meta(max_length=64)]
    latency: SpreadHeader | None
    outputs: Annotated[tuple[OutputHealthHeader, ...], Meta(max_length=1024)]
    sets: Count
    incomplete: Count
    overrun: Count
    deadline_misses: Count
    resets: Counts
    queues: Counts
    stalled: Annotated[dict[Text, Finite], Meta(max_length=32)]
    errors: Counts
    rss_bytes: Count | None
    threads: Count | None
    descriptors: Count | None
    subscriptions: Annotated[tuple[Text, ...], Meta(max_length=32)]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Second part of every message. Fields are described in docs/topics.md; `crc32` must stay the last."""

    schema: int = SCHEMA
    topic: Annotated[str, Meta(min_length=1, max_length=255)]
    kind: Annotated[str, Meta(min_length=1, max_length=64)]
    session: Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    sequence: Count
    timestamp_ns: Nanoseconds
    published_ns: Nanoseconds
    frame_id: Text
    valid: bool = True
    reason: Text | None = None
    arrays: Annotated[tuple[ArrayHeader, ...], Meta(max_length=MAX_ARRAYS)] = ()
    grid: GridHeader | None = None
    classes: Annotated[tuple[Text, ...], Meta(max_length=4096)] = ()
    half_life_s: float | None = None
    camera: Text | None = None
    pixels_from_image: Annotated[tuple[float, ...], Meta(min_length=9, max_length=9)] | None = None
    cameras: Annotated[tuple[CameraHeader, ...], Meta(max_length=64)] = ()
    state: StateHeader | None = None
    step: Count | None = None
    bundle_name: Text | None = None
    bundle_sha256: Text | None = None
    bundle_variant: Text | None = None
    rig_sha256: Text | None = None
    rig: RigHeader | None = None
    health: HealthHeader | None = None
    crc32: Crc = 0xFFFFFFFF
