"""People who walk in the synthetic town: along the sidewalks, and over crosswalks."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from . import bodies
from .bodies import Model
from .roads import CROSSWALK_M, Road, RoadNetwork, arc_length

Array = NDArray[np.float64]

BEHIND_CURB_M: Final = (1.1, 1.35)
"""Where people walk on a sidewalk: between the lamp posts and the trees."""

FORESIGHT_S: Final = (0.0, 0.8, 1.6, 2.4, 3.2)
"""How far ahead drivers foresee where somebody walks."""

_SPEED_MPS: Final = (1.0, 1.6)
_SPACING_M: Final = 45.0
_CROSSERS: Final = 0.45
_PAUSE_S: Final = (1.0, 6.0)
_TRACK_STEP_S: Final = 0.2


class Pedestrians:
    """Everybody walks a path to and fro, with a rest at both ends.

    Parameters
    ----------
    rng : decides who walks where

    Attributes
    ----------
    models : the parts of each person
    """

    def __init__(self, rng: np.random.Generator, network: RoadNetwork) -> None:
        self.models: list[list[Model]] = []
        self._paths: list[tuple[Array, Array]] = []
        self._crossings: list[tuple[float, float]] = []
        self._rests: list[tuple[float, float, float]] = []
        for road in network.roads:
            if road.profile.kind != "aisle":
                self._people_along(rng, road)
                for end in (0, 1):
                    if road.crosswalks[end] and rng.random() < _CROSSERS:
                        self._person_across(rng, road, end)
        self._crossing_s = np.array(self._crossings).reshape(-1, 2).T
        self._clocks = np.array(self._rests).reshape(-1, 3).T
        steps = int(max([times[-1] for _, times in self._paths], default=0.0) / _TRACK_STEP_S) + 3
        self._tracks = np.array([_track(*path, steps) for path in self._paths]).reshape(-1, steps, 3)

    def poses(self, time_s: float) -> Array:
        """(x, y, yaw) of everybody, float64 [n, 3]."""
        return self._poses(time_s, np.arange(len(self.models)))

    def on_crosswalks(self, time_s: float) -> Array:
        """Where people are and will shortly be who are crossing a street at a time, float64 [k, 2]."""
        walked_s, onward = self._walked(time_s, np.arange(len(self.models)))
        begin_s, end_s = self._crossing_s
        until_begin = np.where(onward, begin_s - walked_s, walked_s - end_s)
        until_end = np.where(onward, end_s - walked_s, walked_s - begin_s)
        crossing = np.flatnonzero((until_begin < FORESIGHT_S[2]) & (until_end > 0))
        if not len(crossing):
            return np.empty((0, 2))
        spots = [self._poses(time_s + later, crossing)[:, :2] for later in FORESIGHT_S]
        return np.stack(spots, axis=1).reshape(-1, 2)

    def _people_along(self, rng: np.random.Generator, road: Road) -> None:
        begin, end = road.span_m[0] + 2.0, road.span_m[1] - 2.0
        for side in (-1, 1):
            for _ in range(rng.poisson(max(end - begin, 0.0) / _SPACING_M)):
                start = rng.uniform(begin, end)
                stop = float(np.clip(start + rng.choice((-1, 1)) * rng.uniform(15.0, 60.0), begin, end))
                if abs(stop - start) > 4.0:
                    offset = side * (road.profile.half_width_m + rng.uniform(*BEHIND_CURB_M))
                    line = road.line(min(start, stop), max(start, stop), offset)
                    self._add(rng, line, (np.inf, np.inf))

    def _person_across(self, rng: np.random.Generator, road: Road, end: int) -> None:
        inward = 1.0 if end == 0 else -1.0
        at = road.span_m[end] + inward * (np.mean(CROSSWALK_M) + rng.uniform(-0.8, 0.8))
        kerb = road.profile.half_width_m
        offset = kerb + rng.uniform(*BEHIND_CURB_M)
        reach = min(rng.uniform(6.0, 20.0), 0.4 * (road.span_m[1] - road.span_m[0]))
        begin, stop = sorted((float(at), float(at + inward * reach)))
        first, last = road.line(begin, stop, offset), road.line(begin, stop, -offset)
        if end == 0:  # from afar to the crosswalk, and away from it on the other side
            first = first[::-1]
        else:
            last = last[::-1]
        across = road.at(np.full(3, at), np.array([kerb, 0.0, -kerb]))
        line = np.concatenate((first, across, last))
        arc = arc_length(line)
        self._add(rng, line, (float(arc[len(first)]), float(arc[len(first) + 2])))

    def _add(self, rng: np.random.Generator, line: Array, crossing_m: tuple[float, float]) -> None:
        speed = rng.uniform(*_SPEED_MPS)
        arc = arc_length(line)
        self.models.append(bodies.person(rng, stride=True))
        self._paths.append((line, arc / speed))
        self._crossings.append((crossing_m[0] / speed, crossing_m[1] / speed))
        self._rests.append((float(rng.uniform(0, 200)), float(rng.uniform(*_PAUSE_S)), float(arc[-1] / speed)))

    def _walked(self, time_s: float, people: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
        """How far along their paths, in seconds from the beginning, and whether on the way to the end."""
        offset, pause, duration = self._clocks[:, people]
        phase = (time_s + offset) % (2 * (duration + pause))
        onward = phase < duration + pause
        back = np.maximum(2 * duration + pause - phase, 0.0)
        return np.where(onward, np.minimum(phase, duration), back), onward

    def _poses(self, time_s: float, people: NDArray[np.int64]) -> Array:
        walked, onward = self._walked(time_s, people)
        place = np.minimum(walked / _TRACK_STEP_S, self._tracks.shape[1] - 1.001)
        index = place.astype(np.int64)
        here, ahead = self._tracks[people, index], self._tracks[people, index + 1]
        poses: Array = here + (ahead - here) * (place - index)[:, None]
        poses[:, 2] = here[:, 2] + np.where(onward, 0.0, np.pi)
        return poses


def _track(line: Array, times: Array, steps: int) -> Array:
    """(x, y, heading) every :data:`_TRACK_STEP_S` along a path [n, 2] walked at these times [n]; float64 [steps, 3]."""
    at = np.arange(steps) * _TRACK_STEP_S
    x, y = (np.interp(at, times, line[:, i]) for i in (0, 1))
    far = np.minimum(at + 0.3, times[-1])
    near = np.minimum(np.maximum(at - 0.3, 0.0), far - 0.1)
    dx, dy = (np.interp(far, times, line[:, i]) - np.interp(near, times, line[:, i]) for i in (0, 1))
    return np.stack((x, y, np.arctan2(dy, dx)), axis=-1)
