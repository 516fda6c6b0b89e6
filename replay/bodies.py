"""Things that stand or drive in the synthetic town: small polygon models of cars, houses, trees and street furniture.

A model's own frame has x forward, y left, z up, and its origin on the ground in the middle of its footprint.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bgr = Sequence[float] | Array

CORNERS = 6
"""Corners per polygon; shorter polygons repeat their last corner."""

KINDS: Final = ("nothing", "other", "vehicle", "pedestrian")
"""What a thing is, by number; 0 where there is none."""

OTHER, VEHICLE, PEDESTRIAN = 1, 2, 3


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A convex-ish solid: polygons in the order in which they may be painted once those facing away are left out.

    polygons : float64 [n, CORNERS, 3], metres, counter-clockwise seen from outside
    bgr : float64 [n, 3], 0..255 as painted
    detail : bool [n], lies on another polygon (a window, a lamp)
    footprint : float64 [4, 2], rectangle on the ground, counter-clockwise
    glow : bool [n], shines by itself
    screen_m : height up to which nothing can be seen through any part of the footprint
    kind : number of one of :data:`KINDS`
    """

    polygons: Array
    bgr: Array
    detail: NDArray[np.bool_]
    footprint: Array
    glow: NDArray[np.bool_]
    screen_m: float = 0.0
    kind: int = OTHER

    @property
    def normals(self) -> Array:
        """Unit vectors outwards, float64 [n, 3]."""
        p = self.polygons
        normal = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
        return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12))


class Sculptor:
    """Collects polygons into a :class:`Model`."""

    def __init__(self) -> None:
        self._polygons: list[Array] = []
        self._bgr: list[Array] = []
        self._detail: list[bool] = []
        self._glow: list[bool] = []

    def polygon(self, corners: Array, bgr: Bgr, *, detail: bool = False, glow: bool = False) -> None:
        """Add one flat convex polygon of 3 to :data:`CORNERS` corners."""
        padded = np.empty((CORNERS, 3))
        padded[: len(corners)] = corners
        padded[len(corners) :] = corners[-1]
        self._polygons.append(padded)
        self._bgr.append(np.asarray(bgr, np.float64))
        self._detail.append(detail)
        self._glow.append(glow)

    def block(
        self,
        low: tuple[float, float, float, float],
        z_m: tuple[float, float],
        bgr: Bgr,
        high: tuple[float, float, float, float] | None = None,
        *,
        top: Bgr | None = None,
        bottom: bool = False,
    ) -> list[Array]:
        """Add a box or a frustum from rectangle `low` to rectangle `high`, each (x0, x1, y0, y1).

        Returns its sides (front, left, back, right), each [4, 3]: lower left, lower right, upper right, upper left as
        seen from outside.
        """
        high = high or low
        rings = []
        for (x0, x1, y0, y1), z in ((low, z_m[0]), (high, z_m[1])):
            rings.append(np.array([[x1, y0, z], [x1, y1, z], [x0, y1, z], [x0, y0, z]]))
        sides = []
        for i in range(4):
            j = (i + 1) % 4
            sides.append(np.array([rings[0][i], rings[0][j], rings[1][j], rings[1][i]]))
            self.polygon(sides[-1], bgr)
        self.polygon(rings[1], top if top is not None else bgr)
        if bottom:
            self.polygon(rings[0][::-1], np.asarray(bgr) * 0.6)
        return sides

    def on(self, side: Array, u: tuple[float, float], v: tuple[float, float], bgr: Bgr, *, glow: bool = False) -> None:
        """Add a rectangle on a side of a block, in fractions of its width and height."""
        s, t = np.array((u[0], u[1], u[1], u[0]))[:, None], np.array((v[0], v[0], v[1], v[1]))[:, None]
        corners = (1 - t) * ((1 - s) * side[0] + s * side[1]) + t * ((1 - s) * side[3] + s * side[2])
        self.polygon(corners, bgr, detail=True, glow=glow)

    def model(self, footprint: tuple[float, float, float, float], screen_m: float = 0.0, kind: int = OTHER) -> Model:
        """The finished model; `footprint` is (x0, x1, y0, y1)."""
        x0, x1, y0, y1 = footprint
        return Model(
            np.array(self._polygons),
            np.array(self._bgr),
            np.array(self._detail),
            np.array([[x1, y0], [x1, y1], [x0, y1], [x0, y0]]),
            np.array(self._glow),
            screen_m,
            kind,
        )


_PAINTS = (
    (232, 234, 234), (205, 207, 208), (150, 152, 154), (92, 94, 96), (36, 36, 38), (24, 24, 26), (120, 62, 34),
    (62, 36, 26), (34, 34, 150), (30, 44, 112), (72, 84, 58), (168, 188, 200), (60, 120, 170), (150, 140, 90),
)  # fmt: skip
_WALLS = (
    (150, 175, 190), (175, 190, 200), (120, 135, 165), (90, 105, 150), (165, 165, 160), (130, 150, 160),
    (190, 200, 206), (105, 120, 135), (140, 160, 140),
)  # fmt: skip
_ROOFS = ((70, 80, 130), (70, 72, 78), (60, 70, 95), (90, 95, 105))
_GLASS, _RUBBER = (52, 44, 38), (22, 22, 22)


def _wheels(s: Sculptor, places_m: Sequence[float], half_width_m: float, radius_m: float) -> None:
    angles = np.radians(np.arange(0, 360, 60) + 30)
    for x in places_m:
        for side in (-1, 1):
            for radius, bgr in ((radius_m, _RUBBER), (0.55 * radius_m, (130, 130, 132))):
                y = side * (half_width_m + (0.012 if bgr is _RUBBER else 0.02))
                ring = [(x + radius * np.cos(a), y, radius_m + radius * np.sin(a)) for a in angles]
                s.polygon(np.array(ring if side < 0 else ring[::-1]), bgr, detail=True)


def car(rng: np.random.Generator, lights: bool = False) -> list[Model]:
    """A car, hatchback, estate or van of random size and paint."""
    kind = str(rng.choice(["sedan", "hatch", "suv", "van"], p=[0.34, 0.28, 0.28, 0.10]))
    length, width, height = {
        "sedan": (4.65, 1.82, 1.44), "hatch": (4.1, 1.76, 1.5), "suv": (4.6, 1.88, 1.68), "van": (5.2, 1.98, 2.1),
    }[kind]  # fmt: skip
    length, width, height = (np.array((length, width, height)) * rng.uniform(0.96, 1.05, 3)).tolist()
    belt = {"sedan": 0.64, "hatch": 0.62, "suv": 0.6, "van": 0.52}[kind] * height
    back, front, back_top, front_top = {
        "sedan": (-0.40, 0.22, -0.24, 0.05), "hatch": (-0.48, 0.23, -0.40, 0.06),
        "suv": (-0.49, 0.24, -0.43, 0.09), "van": (-0.495, 0.38, -0.47, 0.24),
    }[kind]  # fmt: skip
    paint = np.array(_PAINTS[int(rng.integers(len(_PAINTS)))]) * rng.uniform(0.92, 1.05)
    half_l, half_w = length / 2, width / 2
    s = Sculptor()
    s.block((-half_l + 0.08, half_l - 0.08, -half_w + 0.1, half_w - 0.1), (0.14, 0.3), (18, 18, 18))
    body = s.block(
        (-half_l, half_l, -half_w, half_w),
        (0.26, belt),
        paint,
        (-half_l + 0.05, half_l - 0.12, -half_w + 0.03, half_w - 0.03),
    )
    _wheels(s, (-0.31 * length, 0.31 * length), half_w, 0.33 if kind != "suv" else 0.37)
    _car_lights(s, body, lights)
    inset = 0.13 if kind != "van" else 0.07
    cabin = s.block(
        (back * length, front * length, -half_w + 0.05, half_w - 0.05),
        (belt, height),
        paint,
        (back_top * length, front_top * length, -half_w + inset + 0.05, half_w - inset - 0.05),
    )
    s.on(cabin[0], (0.07, 0.93), (0.08, 0.9), _GLASS)
    s.on(cabin[2], (0.1, 0.9), (0.15, 0.86), _GLASS)
    for side in (cabin[1], cabin[3]):
        if kind == "van":
            s.on(side, *(((0.05, 0.3), (0.35, 0.88)) if side is cabin[1] else ((0.70, 0.95), (0.35, 0.88))), _GLASS)
        else:
            s.on(side, (0.08, 0.49), (0.1, 0.86), _GLASS)
            s.on(side, (0.53, 0.92), (0.1, 0.86), _GLASS)
    return [s.model((-half_l, half_l, -half_w, half_w), kind=VEHICLE)]


def _car_lights(s: Sculptor, body: list[Array], lit: bool) -> None:
    front, back = body[0], body[2]
    lamp = (225, 240, 245) if lit else (200, 205, 208)
    tail = (40, 40, 235) if lit else (34, 30, 150)
    for u in ((0.04, 0.24), (0.76, 0.96)):
        s.on(front, u, (0.5, 0.76), lamp, glow=lit)
        s.on(back, u, (0.52, 0.84), tail, glow=lit)
    s.on(front, (0.3, 0.7), (0.12, 0.62), (30, 30, 30))
    s.on(front, (0.38, 0.62), (0.16, 0.32), (215, 220, 220))
    s.on(back, (0.38, 0.62), (0.4, 0.6), (215, 220, 220))
    s.on(back, (0.0, 1.0), (0.0, 0.2), (40, 40, 40))


def truck(rng: np.random.Generator) -> list[Model]:
    """A truck: the cab, and the box behind it."""
    length, width, height = rng.uniform(6.5, 9.0), 2.4, rng.uniform(2.9, 3.5)
    half_l, half_w = length / 2, width / 2
    split = half_l - 2.1
    paint = np.array(_PAINTS[int(rng.integers(len(_PAINTS)))])
    cargo_bgr = np.array([(228, 230, 232), (200, 196, 186), (150, 110, 70), (70, 90, 170)][int(rng.integers(4))])
    cab = Sculptor()
    cab.block((split + 0.02, half_l - 0.1, -half_w + 0.2, half_w - 0.2), (0.25, 0.6), (25, 25, 25))
    sides = cab.block(
        (split + 0.02, half_l, -half_w + 0.06, half_w - 0.06),
        (0.5, 2.6),
        paint,
        (split + 0.02, half_l - 0.25, -half_w + 0.1, half_w - 0.1),
    )
    cab.on(sides[0], (0.06, 0.94), (0.5, 0.9), _GLASS)
    for side, u in ((sides[1], (0.1, 0.6)), (sides[3], (0.4, 0.9))):
        cab.on(side, u, (0.5, 0.88), _GLASS)
    for u in ((0.05, 0.22), (0.78, 0.95)):
        cab.on(sides[0], u, (0.1, 0.22), (210, 215, 218))
    _wheels(cab, (half_l - 1.0,), half_w - 0.06, 0.48)
    box = Sculptor()
    box.block((-half_l + 0.2, split - 0.02, -half_w + 0.3, half_w - 0.3), (0.4, 0.95), (28, 28, 28))
    _wheels(box, (-half_l + 1.2, -half_l + 2.3), half_w - 0.04, 0.48)
    sides = box.block((-half_l, split - 0.02, -half_w, half_w), (0.95, height), cargo_bgr)
    box.on(sides[2], (0.49, 0.51), (0.02, 0.98), cargo_bgr * 0.5)
    for u in ((0.02, 0.12), (0.88, 0.98)):
        box.on(sides[2], u, (0.0, 0.06), (40, 40, 200))
    for side in (sides[1], sides[3]):
        box.on(side, (0.25, 0.75), (0.35, 0.65), np.roll(cargo_bgr, 1) * 0.7)
    return [
        cab.model((split, half_l, -half_w, half_w), kind=VEHICLE),
        box.model((-half_l, split, -half_w, half_w), kind=VEHICLE),
    ]


def building(rng: np.random.Generator, length_m: float, depth_m: float) -> list[Model]:
    """A house with a gable roof or a block with a flat one; windows in every wall."""
    wall = np.array(_WALLS[int(rng.integers(len(_WALLS)))]) * rng.uniform(0.85, 1.08)
    floors = int(rng.integers(1, 3)) if length_m < 13 else int(rng.integers(2, 6))
    height = 3.0 * floors + 0.4
    half_l, half_d = length_m / 2, depth_m / 2
    s = Sculptor()
    roof = np.array(_ROOFS[int(rng.integers(len(_ROOFS)))]) * rng.uniform(0.8, 1.1)
    sides = s.block((-half_l, half_l, -half_d, half_d), (0, height), wall, top=roof)
    if length_m < 14 and rng.random() < 0.8:
        _gable(s, half_l, half_d, height, roof, wall)
    glass = np.array((88, 76, 64)) * rng.uniform(0.7, 1.5)
    frame = wall * 1.15 if rng.random() < 0.5 else wall * 0.6
    pitch = rng.uniform(2.6, 4.2)
    for index, side in enumerate(sides):
        extent = depth_m if index in (0, 2) else length_m
        columns = max(int(extent / pitch), 1)
        width = rng.uniform(0.4, 0.62) / columns
        s.on(side, (0, 1), (0, 0.5 / height), wall * 0.6)
        for floor in range(floors):
            low, high = (3.0 * floor + 1.0) / height, (3.0 * floor + 2.45) / height
            for column in range(columns):
                middle = (column + 0.5) / columns
                if floor == 0 and column == columns // 2 and index % 2 == 1:
                    s.on(side, (middle - 0.5 / extent, middle + 0.5 / extent), (0, 2.1 / height), frame * 0.5)
                else:
                    s.on(side, (middle - width / 2, middle + width / 2), (low, high), glass)
    return [s.model((-half_l, half_l, -half_d, half_d), height)]


def _gable(s: Sculptor, half_l: float, half_d: float, eaves: float, roof: Array, wall: Array) -> None:
    ridge, x = eaves + 0.62 * half_d, half_l
    s.polygon(np.array([(x, -half_d, eaves), (x, half_d, eaves), (x, 0, ridge)]), wall)
    s.polygon(np.array([(-x, half_d, eaves), (-x, -half_d, eaves), (-x, 0, ridge)]), wall)
    s.polygon(np.array([(x, half_d, eaves), (-x, half_d, eaves), (-x, 0, ridge), (x, 0, ridge)]), roof)
    s.polygon(np.array([(-x, -half_d, eaves), (x, -half_d, eaves), (x, 0, ridge), (-x, 0, ridge)]), roof)


def _ring(radius: float, z: float) -> Array:
    angles = np.radians(np.arange(6) * 60)
    return np.stack((radius * np.cos(angles), radius * np.sin(angles), np.full(6, z)), axis=-1)


def _rings(s: Sculptor, rings: Sequence[Array], bgr: Array, rng: np.random.Generator) -> None:
    """Skin between hexagonal rings, from the lowest to the highest, every facet of a slightly different tone."""
    s.polygon(rings[0][::-1], bgr * 0.55)
    for low, high in itertools.pairwise(rings):
        for i in range(6):
            j = (i + 1) % 6
            s.polygon(np.array([low[i], low[j], high[j], high[i]]), bgr * rng.uniform(0.86, 1.14))
    s.polygon(rings[-1], bgr * 1.08)


def tree(rng: np.random.Generator) -> list[Model]:
    """A tree with a round or a pointed crown."""
    s = Sculptor()
    green = np.array([(36, 82, 58), (42, 96, 78), (34, 74, 44), (52, 104, 98)][int(rng.integers(4))]) * rng.uniform(
        0.85, 1.15
    )
    if rng.random() < 0.3:
        radius, height = rng.uniform(1.0, 1.5), rng.uniform(5, 8)
        s.block((-0.15, 0.15, -0.15, 0.15), (0, 0.6), (48, 62, 78))
        levels = (0.5, 0.55 * height, height)
        rings = [_ring(radius * k, z) for k, z in zip((1, 0.55, 0.05), levels, strict=True)]
        _rings(s, rings, green * 0.8, rng)
        return [s.model((-0.75 * radius, 0.75 * radius, -0.75 * radius, 0.75 * radius))]
    stem, radius = rng.uniform(2.2, 3.2), rng.uniform(1.5, 2.8)
    girth = rng.uniform(0.14, 0.26)
    s.block((-girth, girth, -girth, girth), (0, stem + 0.5), (52, 66, 84))
    height = radius * rng.uniform(1.6, 2.2)
    shape = ((0.55, 0.0), (0.93, 0.22), (1.0, 0.48), (0.78, 0.78), (0.35, 1.0))
    _rings(s, [_ring(radius * k * rng.uniform(0.95, 1.05), stem + height * z) for k, z in shape], green, rng)
    return [s.model((-girth - 0.05, girth + 0.05, -girth - 0.05, girth + 0.05))]


def hedge(rng: np.random.Generator, length_m: float) -> list[Model]:
    """A clipped hedge, in segments of different tone."""
    s = Sculptor()
    green, height = np.array((40, 84, 62)) * rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.7)
    sides = s.block((-length_m / 2, length_m / 2, -0.4, 0.4), (0, height), green, top=green * 1.15)
    for side in (sides[1], sides[3]):
        for u in np.arange(0, 1, 0.8 / length_m):
            tone = green * rng.uniform(0.8, 1.15)
            s.on(side, (u, min(u + 0.8 / length_m, 1.0)), (0.0, rng.uniform(0.75, 0.97)), tone)
    return [s.model((-length_m / 2, length_m / 2, -0.4, 0.4))]


def lamp_post(rng: np.random.Generator) -> list[Model]:
    """A street lamp whose arm points forward."""
    s = Sculptor()
    grey, height = np.array((112, 114, 116)) * rng.uniform(0.6, 1.2), rng.uniform(6.0, 8.0)
    s.block((-0.1, 0.1, -0.1, 0.1), (0, 0.8), grey * 0.9)
    s.block((-0.07, 0.07, -0.07, 0.07), (0.8, height), grey, (-0.05, 0.05, -0.05, 0.05))
    s.block((0.0, 1.7, -0.04, 0.04), (height - 0.1, height), grey, bottom=True)
    s.block((1.3, 2.0, -0.14, 0.14), (height - 0.02, height + 0.1), grey * 1.2, bottom=True)
    return [s.model((-0.15, 0.15, -0.15, 0.15))]


def traffic_light(rng: np.random.Generator) -> list[Model]:
    """A signal on a post; it faces forward."""
    s = Sculptor()
    height = rng.uniform(2.6, 3.2)
    s.block((-0.07, 0.07, -0.07, 0.07), (0, height), (70, 72, 70))
    head = s.block((-0.14, 0.16, -0.18, 0.18), (height, height + 0.95), (32, 34, 32), bottom=True)
    lit = int(rng.integers(3))
    for lamp, bgr in enumerate(((90, 200, 60), (40, 190, 230), (50, 50, 230))):
        v = (0.08 + 0.3 * lamp, 0.32 + 0.3 * lamp)
        s.on(head[0], (0.25, 0.75), v, np.array(bgr) * (1.0 if lamp == lit else 0.25), glow=lamp == lit)
    return [s.model((-0.15, 0.15, -0.15, 0.15))]


def sign(rng: np.random.Generator) -> list[Model]:
    """A traffic sign that faces forward."""
    s = Sculptor()
    s.block((-0.04, 0.04, -0.04, 0.04), (0, 2.2), (130, 132, 134))
    plate = s.block((0.04, 0.07, -0.32, 0.32), (2.1, 2.74), (150, 152, 154), bottom=True)
    colour, inner = [
        ((40, 40, 200), (235, 235, 235)),
        ((170, 90, 30), (235, 235, 235)),
        ((40, 190, 230), (30, 30, 30)),
    ][int(rng.integers(3))]
    s.on(plate[0], (0, 1), (0, 1), colour)
    s.on(plate[0], (0.2, 0.8), (0.35, 0.65), inner)
    return [s.model((-0.1, 0.1, -0.15, 0.15))]


def person(rng: np.random.Generator, stride: bool = False) -> list[Model]:
    """Somebody who stands, or takes a step."""
    s = Sculptor()
    height = rng.uniform(1.5, 1.9)
    trousers, coat = rng.uniform(25, 110, 3), rng.uniform(30, 220, 3)
    step = 0.22 if stride else 0.0
    for y, ahead in ((-0.16, step), (0.02, -step)):
        foot = (ahead - 0.1, ahead + 0.12, y, y + 0.14)
        s.block(foot, (0, 0.48 * height), trousers, (-0.09, 0.09, y, y + 0.14))
    for y, swing in ((-0.3, -step), (0.22, step)):  # arms
        hand = (swing - 0.06, swing + 0.06, y, y + 0.08)
        s.block(hand, (0.45 * height, 0.8 * height), coat * 0.85, (-0.06, 0.06, y, y + 0.08))
    s.block((-0.14, 0.14, -0.24, 0.24), (0.46 * height, 0.84 * height), coat, (-0.12, 0.12, -0.2, 0.2))
    s.block((-0.1, 0.1, -0.09, 0.09), (0.85 * height, height), (120, 150, 190), top=(40, 50, 60))
    return [s.model((-0.25, 0.25, -0.25, 0.25), kind=PEDESTRIAN)]


def cabinet(rng: np.random.Generator) -> list[Model]:
    """A bin or a utility box on the sidewalk."""
    s = Sculptor()
    bgr = np.array([(70, 95, 60), (120, 120, 118), (60, 62, 64), (110, 70, 40)][int(rng.integers(4))])
    x, y, z = rng.uniform(0.25, 0.6), rng.uniform(0.25, 0.4), rng.uniform(0.8, 1.4)
    sides = s.block((-x, x, -y, y), (0, z), bgr, top=bgr * 1.2)
    s.on(sides[0], (0.1, 0.9), (0.6, 0.9), bgr * 0.7)
    return [s.model((-x, x, -y, y))]
