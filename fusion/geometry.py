"""Road layout as geometry: lines, corridors and intersections in metres instead of cells.

Everything lies on the ground in the ego frame (x forward, y left, metres). Directions are angles from x towards y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected


@dataclass(frozen=True, slots=True, eq=False)
class Polyline:
    """A line on the ground.

    points_xy : float64 [n, 2] with n of 2 or more, metres; of a closed line the last point is the first
    confidence : 0..1, mean of the class probability along the line; where a gap was bridged it counts as 0
    """

    points_xy: NDArray[np.float64]
    confidence: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "points_xy", _points("points of a line", self.points_xy, 2))
        _check_confidence(self.confidence)

    @property
    def length_m(self) -> float:
        """Length along the line."""
        return float(np.linalg.norm(np.diff(self.points_xy, axis=0), axis=1).sum())

    @property
    def closed(self) -> bool:
        """Whether the line ends where it begins."""
        return bool((self.points_xy[0] == self.points_xy[-1]).all())


@dataclass(frozen=True, slots=True, eq=False)
class Corridor:
    """A stretch of road between intersections: its centre line, and how wide the road is there.

    points_xy : float64 [n, 2] with n of 2 or more, metres
    width_m : float64 [n], width of the road at each point
    direction_rad : float64 [n], direction of the road at each point, -pi/2..pi/2: which way one drives it is not said
    confidence : 0..1, mean of the probability of drivable space along the centre line
    """

    points_xy: NDArray[np.float64]
    width_m: NDArray[np.float64]
    direction_rad: NDArray[np.float64]
    confidence: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "points_xy", _points("points of a corridor", self.points_xy, 2))
        for name in ("width_m", "direction_rad"):
            values = _frozen(getattr(self, name))
            if values.shape != (len(self.points_xy),) or not np.isfinite(values).all():
                raise InvalidArgument(expected(name, f"{len(self.points_xy)} finite numbers", f"{values.shape}"))
            object.__setattr__(self, name, values)
        if not (self.width_m > 0).all():
            raise InvalidArgument(expected("width_m", "positive", self.width_m.min()))
        _check_confidence(self.confidence)


@dataclass(frozen=True, slots=True)
class Arm:
    """Where a road leaves an intersection.

    x_m, y_m : middle of the opening
    direction_rad : direction in which the road leads away, -pi..pi
    width_m : width of the opening
    """

    x_m: float
    y_m: float
    direction_rad: float
    width_m: float

    def __post_init__(self) -> None:
        values = (self.x_m, self.y_m, self.direction_rad, self.width_m)
        if not all(np.isfinite(values)) or self.width_m <= 0:
            raise InvalidArgument(expected("arm", "finite, its width positive", values))


@dataclass(frozen=True, slots=True, eq=False)
class Intersection:
    """A place where roads meet.

    outline_xy : float64 [n, 2] with n of 3 or more, metres, counter-clockwise; the last point is not the first
    arms : counter-clockwise around the outline
    whole : the outline lies inside the observed part of the grid; otherwise there may be more of it, and more arms
    confidence : 0..1, mean of the class probability inside the outline
    """

    outline_xy: NDArray[np.float64]
    arms: tuple[Arm, ...]
    whole: bool
    confidence: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "outline_xy", _points("outline of an intersection", self.outline_xy, 3))
        object.__setattr__(self, "arms", tuple(self.arms))
        _check_confidence(self.confidence)

    @property
    def area_m2(self) -> float:
        """Area inside the outline."""
        x, y = self.outline_xy.T
        return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2

    @property
    def centre_xy(self) -> NDArray[np.float64]:
        """Centroid of the outline's area, float64 [2]."""
        points, after = self.outline_xy, np.roll(self.outline_xy, -1, axis=0)
        cross = points[:, 0] * after[:, 1] - after[:, 0] * points[:, 1]
        if not cross.sum() > 0:
            return np.asarray(points.mean(axis=0))
        return np.asarray(((points + after) * cross[:, None]).sum(axis=0) / (3 * cross.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class LayoutGeometry:
    """The road layout as lines and areas; longer lines and larger areas come first."""

    lane_dividers: tuple[Polyline, ...] = ()
    road_edges: tuple[Polyline, ...] = ()
    corridors: tuple[Corridor, ...] = ()
    intersections: tuple[Intersection, ...] = ()


def _points(what: str, points: NDArray[np.float64], least: int) -> NDArray[np.float64]:
    array = _frozen(points)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) < least or not np.isfinite(array).all():
        raise InvalidArgument(expected(what, f"{least} or more finite x, y", f"{array.shape}"))
    return array


def _frozen(values: NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _check_confidence(confidence: float) -> None:
    if not 0.0 <= confidence <= 1.0:
        raise InvalidArgument(expected("confidence", "0 to 1", confidence))
