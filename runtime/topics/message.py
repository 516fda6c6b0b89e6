"""A received message: its header, its arrays, and ways to what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import InvalidArgument, expected
from ...fusion.grid import BevGrid
from . import kinds
from .header import GridHeader, Header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...fusion.geometry import LayoutGeometry
    from ...fusion.rig import Rig
    from ..live.health import Health
    from ..predictions import BevTensor, CameraOutput, CorridorDirection, Detections, OccupancyGrid, RoadLayout


@lru_cache(maxsize=64)
def grid_of(header: GridHeader) -> BevGrid:
    """Make the grid that a header states; most messages state the same one.

    Raises
    ------
    InvalidArgument
        It is not finite, empty, or not a whole number of cells.
    """
    return BevGrid(**msgspec.structs.asdict(header))


class Message(msgspec.Struct, frozen=True, eq=False):
    """One message of a topic, checked.

    The types of its content (:class:`~octobev.RoadLayout`, ...) are imported when a message is first asked for one:
    a process that subscribes and reads arrays does without.

    header : everything but the arrays
    arrays : name -> read-only array, as on the wire (probabilities are uint8, 0..255)
    size_bytes : of all parts together
    received_ns : wall clock when a subscriber took it, nanoseconds since the epoch; None when decoded otherwise
    """

    header: Header
    arrays: Mapping[str, NDArray[Any]]
    size_bytes: int
    received_ns: int | None = None

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self.header.topic

    @property
    def kind(self) -> str:
        """What the content is: road_layout, layout_geometry, occupancy, direction, segmentation, detections, ..."""
        return self.header.kind

    @property
    def valid(self) -> bool:
        """Whether there is content; if not, `reason` says why."""
        return self.header.valid

    @property
    def reason(self) -> str | None:
        """Why the output is not valid; None when it is."""
        return self.header.reason

    @property
    def timestamp_ns(self) -> int:
        """The instant that the content is about, nanoseconds since the epoch."""
        return self.header.timestamp_ns

    @property
    def sequence(self) -> int:
        """Number of the message on its topic and session, from 0."""
        return self.header.sequence

    @property
    def session(self) -> str:
        """Which run of the publisher this is from, 32 hexadecimal digits."""
        return self.header.session

    @property
    def grid(self) -> BevGrid | None:
        """The grid of BEV arrays, otherwise None."""
        return None if self.header.grid is None else grid_of(self.header.grid)

    def road_layout(self) -> RoadLayout:
        """The road layout; probability is float32, the uint8 of the wire divided by 255."""
        from . import content

        return content.road_layout(self.require(kinds.ROAD_LAYOUT))

    def layout_geometry(self) -> LayoutGeometry:
        """The geometry of a road layout; numbers as on the wire, float32."""
        from . import geometry

        return geometry.from_arrays(self.require(kinds.LAYOUT_GEOMETRY).arrays)

    def occupancy(self) -> OccupancyGrid:
        """The occupancy grid, exactly as published."""
        from . import content

        return content.occupancy(self.require(kinds.OCCUPANCY))

    def belief(self) -> NDArray[np.float32]:
        """What the network says of every cell, float32 [classes, nx, ny], 0..1; the classes are those of the header."""
        from . import content

        return content.probability(self.require(kinds.BELIEF))

    def direction(self) -> CorridorDirection:
        """The corridor direction; confidence is float32, the uint8 of the wire divided by 255."""
        from . import content

        return content.direction(self.require(kinds.DIRECTION))

    def bev_tensor(self) -> BevTensor:
        """A raw top-down output."""
        from . import content

        return content.bev_tensor(self.require(kinds.BEV_RAW))

    def camera_output(self) -> CameraOutput:
        """A per-camera output; a segmentation's probabilities are float32, the uint8 of the wire divided by 255."""
        from . import content

        return content.camera_output(self.require(*kinds.CAMERA_ARRAY))

    def detections(self) -> Detections:
        """The objects found in a camera's image, exactly as published."""
        from . import content

        return content.detections(self.require(kinds.DETECTIONS))

    def rig(self) -> Rig:
        """The calibration."""
        from . import rig_header

        return rig_header.from_header(self.require(kinds.RIG).header)

    def health(self) -> Health:
        """The state of a live runtime."""
        from . import health_header

        return health_header.from_header(self.require(kinds.HEALTH).header)

    def require(self, *wanted: str) -> Message:
        """Return the message if it is valid and of one of these kinds.

        Raises
        ------
        InvalidArgument
            It is not.
        """
        if self.kind not in wanted:
            raise InvalidArgument(expected(f"kind of {self.topic}", " or ".join(wanted), self.kind))
        if not self.valid:
            raise InvalidArgument(expected(f"message of {self.topic}", "valid", f"one that is not: {self.reason}"))
        return self
