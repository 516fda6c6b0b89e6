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
        self._crossing_s: list[tuple[float, float]] = []
        self._clocks: list[tuple[float, float, float]] = []
        for road in network.roads:
            if road.profile.kind != "aisle":
                self._people_along(rng, road)
                for end in (0, 1):
                    if road.crosswalks[end] and rng.random() < _CROSSERS:
                        self._person_across(rng, road, end)

    def poses(self, time_s: float) -> Array:
        """(x, y, yaw) of everybody, float64 [n, 3]."""
        return np.array([self._pose(person, time_s) for person in range(len(self.models))]).reshape(-1, 3)

    def on_crosswalks(self, time_s: float) -> Array:
        """Where people are and will shortly be who are crossing a street at a time, float64 [k, 2]."""
        spots = []
        for person, (begin_s, end_s) in enumerate(self._crossing_s):
            walked_s, onward = self._walked(person, time_s)
            ahead = (begin_s - walked_s, end_s - walked_s) if onward else (walked_s - end_s, walked_s - begin_s)
            if ahead[0] < FORESIGHT_S[2] and ahead[1] > 0:
                spots += [self._pose(person, time_s + later)[:2] for later in FORESIGHT_S]
        return np.array(spots).reshape(-1, 2)

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
        self._crossing_s.append((crossing_m[0] / speed, crossing_m[1] / speed))
        self._clocks.append((float(rng.uniform(0, 200)), float(rng.uniform(*_PAUSE_S)), float(arc[-1] / speed)))

    def _walked(self, person: int, time_s: float) -> tuple[float, bool]:
        """How far along the path, in seconds from its beginning, and whether on the way to its end."""
        offset, pause, duration = self._clocks[person]
        phase = (time_s + offset) % (2 * (duration + pause))
        if phase < duration + pause:
            return min(phase, duration), True
        return max(2 * duration + pause - phase, 0.0), False

    def _pose(self, person: int, time_s: float) -> tuple[float, float, float]:
        line, times = self._paths[person]
        walked, onward = self._walked(person, time_s)
        x, y = (float(np.interp(walked, times, line[:, i])) for i in (0, 1))
        near, far = max(walked - 0.3, 0.0), min(walked + 0.3, float(times[-1]))
        dx, dy = (float(np.interp(far, times, line[:, i]) - np.interp(near, times, line[:, i])) for i in (0, 1))
        return x, y, float(np.arctan2(dy, dx)) + (0.0 if onward else np.pi)
