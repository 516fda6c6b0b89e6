"""Road network of the synthetic town: a warped grid of roads, their lanes, and the intersections between them.

World frame: x east, y north, metres; traffic keeps to the right. A lateral offset is positive to the left of the
direction in which a road's points run.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ring import ring_outline

Array = NDArray[np.float64]

STEP_M = 0.5
"""Distance between the points of a centre line."""

CROSSWALK_M = (0.6, 3.6)
"""Where a crosswalk begins and ends, measured outwards from its intersection."""

RING_M = 6.5
"""Width of the road around the island of a roundabout."""

_FLARE_M = 6.0
_ROUNDABOUTS = 0.3

STOP_LINE_M = 4.6
"""Distance of a stop line from its intersection."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Cross section of a road, the same on both sides of the centre line.

    lanes : driving lanes per direction
    parking_m : width of a strip for parked cars at the curb, 0 for none
    gutter_m : asphalt between the outermost lane (or the parking strip) and the curb
    centre : marking between the directions: `double`, `solid`, `dashed`, `mixed` (a solid line beside a dashed one) or
        `none`
    edge_line : whether the outermost lane has a solid white line on its right
    """

    kind: str
    lanes: int
    lane_m: float
    parking_m: float
    gutter_m: float
    centre: str
    edge_line: bool
    speed_mps: float

    @property
    def half_width_m(self) -> float:
        """Distance from the centre line to the curb."""
        return self.lanes * self.lane_m + self.parking_m + self.gutter_m


@dataclass(frozen=True, slots=True, eq=False)
class Road:
    """A stretch of road between two intersections.

    points : float64 [n, 2], centre line in steps of about :data:`STEP_M`, from intersection `ends[0]` to `ends[1]`
    left : float64 [n, 2], unit vectors to the left of the direction of the points
    arc_m : float64 [n], distance along the centre line
    trim_m : how much of the line's beginning and end lies inside the intersections
    """

    profile: Profile
    points: Array
    left: Array
    arc_m: Array
    ends: tuple[int, int]
    trim_m: tuple[float, float]
    crosswalks: tuple[bool, bool] = (False, False)

    @property
    def span_m(self) -> tuple[float, float]:
        """Begin and end of the road proper, between its intersections."""
        return self.trim_m[0], float(self.arc_m[-1]) - self.trim_m[1]

    def line(self, begin_m: float, end_m: float, offset_m: float = 0.0) -> Array:
        """Points of the line at a lateral offset from `begin_m` to `end_m` along the centre line, float64 [k, 2]."""
        if end_m <= begin_m:
            return np.empty((0, 2))
        count = max(int(np.ceil((end_m - begin_m) / STEP_M)), 1) + 1
        return self.at(np.linspace(begin_m, end_m, count), offset_m)

    def at(self, arc_m: Array | float, offset_m: Array | float = 0.0) -> Array:
        """Points at positions along the centre line and lateral offsets, float64 [..., 2]."""
        arc, offset = np.broadcast_arrays(np.asarray(arc_m, np.float64), np.asarray(offset_m, np.float64))
        columns = [
            np.interp(arc, self.arc_m, self.points[:, i]) + offset * np.interp(arc, self.arc_m, self.left[:, i])
            for i in (0, 1)
        ]
        return np.stack(columns, axis=-1)

    def strip(self, begin_m: float, end_m: float, low_m: float, high_m: float) -> Array:
        """Outline of the strip between two lateral offsets, float64 [k, 2]; empty when `end_m <= begin_m`."""
        return np.concatenate((self.line(begin_m, end_m, low_m), self.line(begin_m, end_m, high_m)[::-1]))

    def heading_at(self, arc_m: float) -> float:
        """Direction of the points at a position along the centre line, radians."""
        left = [np.interp(arc_m, self.arc_m, self.left[:, i]) for i in (0, 1)]
        return float(np.arctan2(-left[0], left[1]))


@dataclass(frozen=True, slots=True)
class Arm:
    """Where a road meets an intersection: its end 0 (first point) or 1 (last point)."""

    road: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Intersection:
    """A place where three or more roads meet.

    arms : counter-clockwise
    outline : float64 [k, 2], the area between the arms, corners rounded
    island_m : radius of the island of a roundabout around the centre, 0 for other intersections
    """

    centre: Array
    arms: tuple[Arm, ...]
    outline: Array
    island_m: float = 0.0

    @property
    def island(self) -> Array:
        """Outline of the island, float64 [k, 2]; empty where there is none."""
        angles = np.linspace(0, 2 * np.pi, 73)[:-1] if self.island_m > 0 else np.empty(0)
        return np.asarray(self.centre + self.island_m * np.stack((np.cos(angles), np.sin(angles)), axis=-1))


@dataclass(frozen=True, slots=True, eq=False)
class ParkingLot:
    """Stalls on both sides of an aisle (a road of kind `aisle`), between two positions along it."""

    road: int
    span_m: tuple[float, float]
    half_width_m: float
    stall_m: float


@dataclass(frozen=True, slots=True, eq=False)
class RoadNetwork:
    """Roads, the intersections between them, and the parking lots along aisles."""

    roads: tuple[Road, ...]
    intersections: tuple[Intersection, ...]
    lots: tuple[ParkingLot, ...]


def make_network(rng: np.random.Generator, half_extent_m: float) -> RoadNetwork:
    """Lay out a town that fits a square of `half_extent_m` around the origin."""
    positions, edges = _grid(rng, half_extent_m - 40.0)
    aisles = _add_aisles(rng, positions, edges)
    warp = _Warp(rng)
    chains = _chains(positions, edges, aisles)
    junctions = sorted({chain[0] for chain in chains} | {chain[-1] for chain in chains})
    number = {node: index for index, node in enumerate(junctions)}
    roads = []
    for chain in chains:
        is_aisle = frozenset(chain[:2]) in aisles
        profile = _aisle_profile() if is_aisle else _street_profile(rng, len(chain) > 2)
        points, left, arc = _centre_line(np.array([positions[node] for node in chain]), warp)
        roads.append(Road(profile, points, left, arc, (number[chain[0]], number[chain[-1]]), (0.0, 0.0)))
    roads, intersections = _join(rng, roads, len(junctions))
    lots = tuple(_lot(rng, index, road) for index, road in enumerate(roads) if road.profile.kind == "aisle")
    return RoadNetwork(tuple(roads), tuple(intersections), lots)


def _grid(rng: np.random.Generator, reach_m: float) -> tuple[list[Array], set[frozenset[int]]]:
    """Nodes of a jittered grid and its edges, some of them removed; no dead end and no bridge remains."""
    columns, rows = ((4, 4), (4, 4), (3, 4), (4, 3))[int(rng.integers(4))]
    xs, ys = np.linspace(-reach_m, reach_m, columns), np.linspace(-reach_m, reach_m, rows)
    inner = 0.11 * 2 * reach_m / max(columns - 1, rows - 1)
    positions = [np.array([x, y]) + rng.uniform(-inner, inner, 2) for y in ys for x in xs]
    edges = {frozenset((r * columns + c, r * columns + c + 1)) for r in range(rows) for c in range(columns - 1)}
    edges |= {frozenset((r * columns + c, (r + 1) * columns + c)) for r in range(rows - 1) for c in range(columns)}
    order = sorted(tuple(sorted(edge)) for edge in edges)
    removals = int(rng.integers(0, 1 + len(order) // 6))
    for index in rng.permutation(len(order)):
        if removals == 0:
            break
        fewer = edges - {frozenset(order[index])}
        if _bridgeless(len(positions), fewer):
            edges, removals = fewer, removals - 1
    return positions, edges


def _bridgeless(nodes: int, edges: set[frozenset[int]]) -> bool:
    return all(_connected(nodes, edges - {edge}) for edge in edges)


def _connected(nodes: int, edges: set[frozenset[int]]) -> bool:
    reached, frontier = {0}, [0]
    while frontier:
        node = frontier.pop()
        for edge in edges:
            if node in edge:
                (other,) = edge - {node}
                if other not in reached:
                    reached.add(other)
                    frontier.append(other)
    return len(reached) == nodes


def _add_aisles(rng: np.random.Generator, positions: list[Array], edges: set[frozenset[int]]) -> set[frozenset[int]]:
    """Cut one or two blocks in two by the aisle of a parking lot; `positions` and `edges` are extended in place."""
    pairs = []
    ordered = sorted(tuple(sorted(edge)) for edge in edges)
    for (a, b), (c, d) in itertools.combinations(ordered, 2):
        middles = (positions[a] + positions[b]) / 2, (positions[c] + positions[d]) / 2
        closes = frozenset((a, c)) in edges and frozenset((b, d)) in edges
        if closes and len({a, b, c, d}) == 4 and 55.0 < np.linalg.norm(middles[0] - middles[1]) < 140.0:
            pairs.append(((a, b), (c, d)))
    aisles: set[frozenset[int]] = set()
    used: set[int] = set()
    wanted = int(rng.integers(1, 3))
    for index in rng.permutation(len(pairs)):
        corners = {*pairs[index][0], *pairs[index][1]}
        if len(aisles) == wanted or len(used & corners) > 1:
            continue
        used |= corners
        fraction = rng.uniform(0.42, 0.58)
        ends = []
        for a, b in pairs[index]:
            positions.append((1 - fraction) * positions[a] + fraction * positions[b])
            node = len(positions) - 1
            edges.remove(frozenset((a, b)))
            edges |= {frozenset((a, node)), frozenset((node, b))}
            ends.append(node)
        edges.add(frozenset(ends))
        aisles.add(frozenset(ends))
    return aisles


def _chains(positions: list[Array], edges: set[frozenset[int]], aisles: set[frozenset[int]]) -> list[tuple[int, ...]]:
    """Runs of nodes between junctions: nodes of degree two become bends of one road."""
    neighbours: dict[int, list[int]] = {node: [] for node in range(len(positions))}
    for edge in sorted(tuple(sorted(edge)) for edge in edges):
        neighbours[edge[0]].append(edge[1])
        neighbours[edge[1]].append(edge[0])
    chains = set()
    for start in (node for node, near in neighbours.items() if len(near) > 2):
        for second in neighbours[start]:
            chain = [start, second]
            while len(neighbours[chain[-1]]) == 2:
                chain.append(next(node for node in neighbours[chain[-1]] if node != chain[-2]))
            chains.add(min(tuple(chain), tuple(chain[::-1])))
    return sorted(chains)


class _Warp:
    """A smooth displacement of the plane that bends straight streets."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.amplitude_m = rng.uniform(1.5, 6.0)
        self.wave = rng.uniform(2 * np.pi / 170, 2 * np.pi / 105, (2, 2)) * rng.choice([-1, 1], (2, 2)) * [1, 0.4]
        self.phase = rng.uniform(0, 2 * np.pi, 2)

    def __call__(self, points: Array) -> Array:
        x, y = points[:, 0], points[:, 1]
        moved_x = x + self.amplitude_m * np.sin(self.wave[0, 0] * y + self.wave[0, 1] * x + self.phase[0])
        moved_y = y + self.amplitude_m * np.sin(self.wave[1, 0] * x + self.wave[1, 1] * y + self.phase[1])
        return np.stack((moved_x, moved_y), axis=-1)


def _centre_line(nodes: Array, warp: _Warp) -> tuple[Array, Array, Array]:
    """Line through nodes, bends rounded, warped, in equal steps: points, unit vectors to the left, arc lengths."""
    pieces = [nodes[:1]]
    for before, corner, after in zip(nodes[:-2], nodes[1:-1], nodes[2:], strict=True):
        into, out = before - corner, after - corner
        tangent_m = min(0.45 * np.linalg.norm(into), 0.45 * np.linalg.norm(out), 26.0)
        start, stop = corner + into * tangent_m / np.linalg.norm(into), corner + out * tangent_m / np.linalg.norm(out)
        t = np.linspace(0, 1, 60)[:, None]
        # a cubic whose handles reach 0.56 of the way to the corner is nearly a circular arc for right angles
        near, far = start + 0.56 * (corner - start), stop + 0.56 * (corner - stop)
        pieces.append((1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * near + 3 * (1 - t) * t**2 * far + t**3 * stop)
    pieces.append(nodes[-1:])
    points = resample(warp(resample(np.concatenate(pieces), STEP_M)), STEP_M)
    left, arc = left_of(points), arc_length(points)
    return points, left, arc


def arc_length(points: Array) -> Array:
    """Distance along a polyline at each of its points, float64 [n]."""
    return np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))))


def resample(points: Array, step_m: float) -> Array:
    """The same polyline in equal steps of about `step_m`."""
    arc = arc_length(points)
    positions = np.linspace(0, arc[-1], max(round(arc[-1] / step_m), 1) + 1)
    return np.stack([np.interp(positions, arc, points[:, i]) for i in (0, 1)], axis=-1)


def left_of(points: Array) -> Array:
    """Unit vectors to the left of a polyline's direction at each of its points."""
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    return np.stack((-along[:, 1], along[:, 0]), axis=-1)


def _street_profile(rng: np.random.Generator, bends: bool) -> Profile:
    kind = rng.choice(["residential", "collector", "arterial"], p=[0.36, 0.36, 0.28])
    if kind == "residential":
        return Profile("residential", 1, rng.uniform(3.0, 3.3), rng.choice([0.0, 2.2]), 0.35, "dashed", False, 8.5)
    if kind == "collector":
        centre = rng.choice(["double", "solid", "dashed", "mixed"])
        return Profile("collector", 1, rng.uniform(3.3, 3.7), 0.0, rng.uniform(0.5, 1.5), str(centre), True, 11.0)
    return Profile("arterial", 2, rng.uniform(3.1, 3.4), 0.0, 0.5, "double", bool(rng.random() < 0.6), 13.5)


def _aisle_profile() -> Profile:
    return Profile("aisle", 1, 3.1, 0.0, 0.15, "none", False, 5.5)


def _lot(rng: np.random.Generator, index: int, road: Road) -> ParkingLot:
    begin, end = road.span_m
    stall_m = rng.uniform(2.5, 2.8)
    stalls = int((end - begin - 14.0) // stall_m)
    middle = (begin + end) / 2
    half_m = max(stalls, 0) * stall_m / 2
    return ParkingLot(index, (middle - half_m, middle + half_m), road.profile.half_width_m + 5.2, stall_m)


def _join(rng: np.random.Generator, roads: list[Road], count: int) -> tuple[list[Road], list[Intersection]]:
    """Cut the roads back where they meet and lay an intersection into each gap."""
    trims = [[0.0, 0.0] for _ in roads]
    crosswalks = [[False, False] for _ in roads]
    arms_of: list[list[Arm]] = []
    islands: list[float] = []
    for node in range(count):
        arms = [Arm(i, end) for i, road in enumerate(roads) for end in (0, 1) if road.ends[end] == node]
        arms.sort(key=lambda arm: _outward_angle(roads[arm.road], arm.end, 8.0))
        arms_of.append(arms)
        corner_m = rng.uniform(5.5, 8.0)
        islands.append(_island(rng, roads, arms))
        for arm in arms:
            setback = islands[-1] + RING_M + _FLARE_M if islands[-1] > 0 else _setback(roads, arms, arm, corner_m)
            trims[arm.road][arm.end] = setback
        walks = rng.random() < 0.8 and all(roads[arm.road].profile.kind != "aisle" for arm in arms)
        for arm in arms:
            crosswalks[arm.road][arm.end] = bool(walks and rng.random() < 0.85)
    joined = []
    for road, trim, walks_ in zip(roads, trims, crosswalks, strict=True):
        limit = 0.42 * float(road.arc_m[-1])
        ends = (min(trim[0], limit), min(trim[1], limit))
        joined.append(Road(road.profile, road.points, road.left, road.arc_m, road.ends, ends, (walks_[0], walks_[1])))
    intersections = [
        _roundabout(joined, arms, island_m) if island_m > 0 else _intersection(joined, arms)
        for arms, island_m in zip(arms_of, islands, strict=True)
    ]
    return joined, intersections


def _island(rng: np.random.Generator, roads: list[Road], arms: list[Arm]) -> float:
    """Radius of the island where the arms shall meet in a roundabout, 0 where they shall not."""
    island_m = rng.uniform(5.0, 8.0)
    wanted = rng.random() < _ROUNDABOUTS
    angles = np.array([_outward_angle(roads[arm.road], arm.end, 15.0) for arm in arms])
    apart = np.diff(np.append(angles, angles[0] + 2 * np.pi)).min()
    room = min(0.4 * float(roads[arm.road].arc_m[-1]) for arm in arms) > island_m + RING_M + _FLARE_M
    streets = all(roads[arm.road].profile.kind != "aisle" for arm in arms)
    return float(island_m) if wanted and streets and room and apart > np.radians(55) else 0.0


def _outward_angle(road: Road, end: int, distance_m: float) -> float:
    total = float(road.arc_m[-1])
    node, away = road.at(0.0 if end == 0 else total), road.at(distance_m if end == 0 else total - distance_m)
    return float(np.arctan2(away[1] - node[1], away[0] - node[0]))


def _setback(roads: list[Road], arms: list[Arm], arm: Arm, corner_m: float) -> float:
    """How far from the node the arm's edges are clear of its neighbours', plus room for a rounded corner."""
    own = roads[arm.road].profile.half_width_m
    angle = _outward_angle(roads[arm.road], arm.end, 12.0)
    setback = 2.0
    for other in arms:
        if other == arm:
            continue
        width = roads[other.road].profile.half_width_m
        between = abs((_outward_angle(roads[other.road], other.end, 12.0) - angle + np.pi) % (2 * np.pi) - np.pi)
        if between < np.radians(160):
            between = max(between, np.radians(30))
            clear = (width + own * np.cos(between)) / np.sin(between)
            setback = max(setback, clear + corner_m / np.tan(between / 2))
    return setback


def cross_section(road: Road, end: int) -> tuple[Array, Array]:
    """Where an intersection ends and the road begins: centre of the line across, and the unit vector outwards."""
    arc = road.span_m[end]
    heading = road.heading_at(arc) + (0.0 if end == 0 else np.pi)
    return road.at(arc), np.array([np.cos(heading), np.sin(heading)])


def _intersection(roads: list[Road], arms: list[Arm]) -> Intersection:
    sections = [cross_section(roads[arm.road], arm.end) for arm in arms]
    widths = [roads[arm.road].profile.half_width_m for arm in arms]
    outline: list[Array] = []
    for index in range(len(arms)):
        (here, out), (there, out_next) = sections[index], sections[(index + 1) % len(arms)]
        left, left_next = np.array([-out[1], out[0]]), np.array([-out_next[1], out_next[0]])
        outline.append(here - widths[index] * left)
        start, stop = here + widths[index] * left, there - widths[(index + 1) % len(arms)] * left_next
        outline.append(start)
        outline.extend(_corner(start, -out, stop, -out_next))
    return Intersection(np.mean([here for here, _ in sections], axis=0), tuple(arms), np.array(outline))


def _roundabout(roads: list[Road], arms: list[Arm], island_m: float) -> Intersection:
    """A ring around an island; every arm widens into it."""
    first = roads[arms[0].road]
    centre = first.at(0.0 if arms[0].end == 0 else float(first.arc_m[-1]))
    ends = [(*cross_section(roads[arm.road], arm.end), roads[arm.road].profile.half_width_m) for arm in arms]
    return Intersection(centre, tuple(arms), ring_outline(centre, island_m + RING_M, ends), island_m)


def _corner(start: Array, into: Array, stop: Array, into_stop: Array) -> list[Array]:
    """Rounded curb from one arm's edge to the next one's; empty where the two run into each other straight."""
    determinant = into[0] * into_stop[1] - into[1] * into_stop[0]
    if abs(determinant) < np.sin(np.radians(14)):
        return []
    gap = stop - start
    leg = (gap[0] * into_stop[1] - gap[1] * into_stop[0]) / determinant
    leg_stop = (gap[0] * into[1] - gap[1] * into[0]) / determinant
    if leg < 0.3 or leg_stop < 0.3:
        return []
    corner = start + leg * into
    radius = min(leg, leg_stop, 9.0)
    begin, end = corner - radius * into, corner - radius * into_stop
    t = np.linspace(0, 1, 12)[:, None]
    return list((1 - t) ** 2 * begin + 2 * (1 - t) * t * corner + t**2 * end)
