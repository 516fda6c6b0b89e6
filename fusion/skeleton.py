"""Skeletons of ridges as chains of points: what is one line, and where lines meet.

The ridges are thinned to a skeleton, which says what is connected to what; where a line runs is read from the crest of
the ridge. Side branches that are too short to be lines are cut off. At a junction the two branches that continue each
other most straightly are one line, and so on; a branch that continues none ends there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .._ext import polylines as kernel
from .ridges import RidgeField

Points = NDArray[np.float64]

End = tuple[int, int]
"""One end of a chain: number of the chain, and 0 for its beginning or 1 for its end."""

STRAIGHT: Final = float(np.cos(np.radians(40.0)))
"""Branches of a junction are one line when they turn by less than this."""

TANGENT_CELLS: Final = 6.0
"""The direction of an end is that of so much of the line."""

BLURRED_CELLS: Final = 1.5
"""Around a junction the ridges of its branches run into each other: points nearer than this are left out."""

_REACHES: Final = np.arange(0.25, 6.0, 0.25)
"""How far free ends are drawn on at most, cells."""

_BRIDGE: Final = 3
"""Junctions with so few cells or less between them are one: thinning makes two of a crossing."""


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A line in cells: whole numbers are cell centres.

    points : float64 [n, 2], n of 1 or more; of a closed chain the last is the first
    junctions : number of the junction at which it begins and ends; 0: it ends freely
    """

    points: Points
    junctions: tuple[int, int] = (0, 0)
    closed: bool = False

    @property
    def length(self) -> float:
        """Length in cells."""
        return kernel.length(self.points)

    def reversed(self) -> Chain:
        """The same chain, from its end to its beginning."""
        return Chain(self.points[::-1], self.junctions[::-1], self.closed)

    def tangent(self) -> Points:
        """Unit vector in which the chain leaves its first point, float64 [2]; 0 of a single point."""
        way = self.points[kernel.first_beyond(self.points, TANGENT_CELLS)] - self.points[0]
        length = math.hypot(*way)
        return np.asarray(way / length if length > 0 else way)


def follow_ridges(field: RidgeField, spur_cells: float) -> list[Chain]:
    """Follow the ridges of a field: one chain for each line.

    Parameters
    ----------
    spur_cells : branches of a junction that are shorter are cut off
    """
    skeleton = field.ridge.copy()
    kernel.thin(skeleton)
    room = int(np.count_nonzero(skeleton))
    nodes = np.empty(skeleton.shape, np.int32)
    cells, table = np.empty((room, 2), np.int32), np.empty((room, 4), np.int32)
    junctions, count = kernel.trace(skeleton, nodes, cells, table)
    crest = field.crest(cells[: table[:count, 1].max(initial=0)])
    rings, chains = [], []
    for first, stop, begin, end in table[:count].tolist():
        points = crest[first:stop]
        if begin < 0:
            rings.append(Chain(np.concatenate((points, points[:1])), closed=True))
        else:
            chains.append(Chain(points, (begin, end)))
    places = _centres(nodes, junctions)
    whole = _passing(_without_spurs(chains, spur_cells))
    chains, places = _without_bridges([chain for chain in whole if not chain.closed], places)
    rings += [chain for chain in whole if chain.closed]
    return [_straight_ends(chain, field.ridge) for chain in rings + _joined(chains, places)]


def _centres(nodes: NDArray[np.int32], junctions: int) -> Points:
    """Mean cell of each junction, float64 [junctions + 1, 2]; the first stands for none."""
    i, j = np.nonzero(nodes)
    number = nodes[i, j]
    count = np.maximum(np.bincount(number, minlength=junctions + 1), 1)
    sums = [np.bincount(number, weights=axis, minlength=junctions + 1) for axis in (i, j)]
    return np.stack(sums, axis=-1) / count[:, None]


def _without_bridges(chains: list[Chain], places: Points) -> tuple[list[Chain], Points]:
    """Make one junction of two that a very short chain connects."""
    one = np.arange(len(places))
    for chain in chains:
        begin, end = one[chain.junctions[0]], one[chain.junctions[1]]
        if begin and end and begin != end and len(chain.points) <= _BRIDGE:
            one[one == max(begin, end)] = min(begin, end)
    merged = places.copy()
    for number in np.unique(one):
        merged[number] = places[one == number].mean(axis=0)
    kept = [
        Chain(chain.points, (int(one[chain.junctions[0]]), int(one[chain.junctions[1]])))
        for chain in chains
        if not (chain.junctions[0] != chain.junctions[1] and 0 != one[chain.junctions[0]] == one[chain.junctions[1]])
    ]
    return kept, merged


def _without_spurs(chains: list[Chain], spur_cells: float) -> list[Chain]:
    """Cut off short branches with a free end, the shortest first, as long as two others are left at the junction."""
    branches: dict[int, int] = {}
    for chain in chains:
        for junction in chain.junctions:
            branches[junction] = branches.get(junction, 0) + 1
    kept = []
    for chain in sorted(chains, key=lambda chain: chain.length):
        begin, end = chain.junctions
        loose = begin != end and 0 in (begin, end)
        tiny_loop = begin == end != 0 and chain.length < 2 * spur_cells
        if (loose and chain.length < spur_cells and branches[begin or end] > 2) or tiny_loop:
            branches[begin] -= 1
            branches[end] -= 1
        else:
            kept.append(chain)
    return kept


def _passing(chains: list[Chain]) -> list[Chain]:
    """Put chains together where no third one is left at a junction."""
    partner: dict[End, End] = {}
    for pair in _ends_at(chains).values():
        if len(pair) == 2:
            partner[pair[0]], partner[pair[1]] = pair[1], pair[0]
    return [in_a_row(chains, run, ring) for run, ring in runs_of(len(chains), partner)]


def _joined(chains: list[Chain], places: Points) -> list[Chain]:
    """Put chains together that continue each other over a junction."""
    trimmed = [_trimmed(chain, places) for chain in chains]
    partner: dict[End, End] = {}
    places = places.copy()
    for junction, ends in _ends_at(chains).items():
        pairs = _pairs(trimmed, ends, places[junction])
        partner |= dict(pairs) | {b: a for a, b in pairs}
        if pairs:  # others end on the line that goes on
            places[junction] = _nearest_between(places[junction], *(trimmed[i].points[-s] for i, s in pairs[0]))
    return [_reaching(in_a_row(trimmed, run, ring), places) for run, ring in runs_of(len(chains), partner)]


def _ends_at(chains: Sequence[Chain]) -> dict[int, list[End]]:
    """Ends of chains by junction."""
    ends: dict[int, list[End]] = {}
    for index, chain in enumerate(chains):
        for side, junction in enumerate(chain.junctions):
            if junction:
                ends.setdefault(junction, []).append((index, side))
    return ends


def _trimmed(chain: Chain, places: Points) -> Chain:
    """Leave out the points that are too near to a junction, but for one."""
    keep = np.ones(len(chain.points), np.bool_)
    for junction in chain.junctions:
        if junction:
            keep &= np.linalg.norm(chain.points - places[junction], axis=1) >= BLURRED_CELLS
    if not keep.any():
        keep[len(keep) // 2] = True
    return Chain(chain.points[keep], chain.junctions)


def _pairs(chains: Sequence[Chain], ends: Sequence[End], place: Points) -> list[tuple[End, End]]:
    """Which ends at a junction continue each other: the straightest pair first. Two alone always do."""
    if len(ends) == 2:
        return [(ends[0], ends[1])]
    ways = np.array([_way_out(chains[index] if side == 0 else chains[index].reversed(), place) for index, side in ends])
    straight = -(ways @ ways.T)
    straight[np.tril_indices(len(ends))] = -2.0
    pairs = []
    while straight.max() >= STRAIGHT:
        a, b = divmod(int(straight.argmax()), len(ends))
        pairs.append((ends[a], ends[b]))
        straight[[a, b]] = -2.0
        straight[:, [a, b]] = -2.0
    return pairs


def _nearest_between(place: Points, a: Points, b: Points) -> Points:
    """The point of a segment that is nearest to a place."""
    square = float((b - a) @ (b - a))
    share = min(max(float((place - a) @ (b - a)) / square, 0.0), 1.0) if square > 0 else 0.0
    return np.asarray(a + share * (b - a))


def _way_out(chain: Chain, place: Points) -> Points:
    """Unit vector in which a chain leaves a junction."""
    return Chain(np.concatenate((place[None], chain.points))).tangent()


def runs_of(count: int, partner: dict[End, End]) -> list[tuple[list[End], bool]]:
    """Put chains in a row.

    Parameters
    ----------
    count : number of chains
    partner : end -> the end of a chain that it is joined with, both ways

    Returns
    -------
    Rows of chains, each given by the end at which it is entered, and whether the last leads back to the first.
    """
    runs, used = [], set()
    ends = [(index, side) for index in range(count) for side in (0, 1)]
    for start in [end for end in ends if end not in partner] + ends:
        run: list[End] = []
        at: End | None = start
        while at is not None and at[0] not in used:
            used.add(at[0])
            run.append(at)
            at = partner.get((at[0], 1 - at[1]))
        if run:
            runs.append((run, start in partner))
    return runs


def in_a_row(chains: Sequence[Chain], run: Sequence[End], ring: bool) -> Chain:
    """One chain of several; a ring is closed."""
    parts = [chains[index] if side == 0 else chains[index].reversed() for index, side in run]
    points = [part.points for part in parts]
    if ring:
        return Chain(np.concatenate((*points, points[0][:1])), closed=True)
    return Chain(np.concatenate(points), (parts[0].junctions[0], parts[-1].junctions[1]))


def _straight_ends(chain: Chain, ridge: NDArray[np.uint8]) -> Chain:
    """Draw free ends straight on to where the ridge ends: thinning shortens it, and its crest bends off there."""
    for _ in range(2):
        if not chain.closed and not chain.junctions[0] and len(chain.points) > 1:
            inner = chain.points[np.linalg.norm(chain.points - chain.points[0], axis=1) >= BLURRED_CELLS]
            inner = inner if len(inner) > 1 else chain.points
            way = -Chain(inner).tangent()
            ahead = inner[0] + _REACHES[:, None] * way
            i, j = np.rint(ahead).astype(np.int64).T
            on = (i >= 0) & (i < ridge.shape[0]) & (j >= 0) & (j < ridge.shape[1])
            on[on] = ridge[i[on], j[on]] != 0
            far = int(np.argmin(on)) if not on.all() else len(on)
            chain = Chain(np.concatenate((ahead[max(far - 1, 0)][None], inner)), chain.junctions)
        chain = chain.reversed()
    return chain


def _reaching(chain: Chain, places: Points) -> Chain:
    """Draw the chain straight on to the junctions at which it ends."""
    for _ in range(2):
        if chain.junctions[0] and not chain.closed:
            near, place = chain.points[0], places[chain.junctions[0]]
            way = -chain.tangent() if len(chain.points) > 1 else place - near
            tip = near + way * max(float((place - near) @ way), 0.0)
            chain = Chain(np.concatenate((tip[None], chain.points)), chain.junctions)
        chain = chain.reversed()
    return chain
