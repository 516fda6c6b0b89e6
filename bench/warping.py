"""The row about a bird's-eye-view state carried under ego-motion."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from ..fusion.pose import Pose
from ..fusion.state import carry_raster, source_from_target_cells
from .agreement import check_close
from .material import CHANNELS, Material
from .peers.warps import remap_planes, warp_affine_planes
from .row import Figures
from .spread import take_turns, wall_ms

_ROUNDS = 60
_TOLERANCE = 0.05
"""OpenCV computes places in steps of 1/32 cell."""


def warp_vs_opencv(material: Material) -> Figures:
    """Against OpenCV plane by plane, the faster of warpAffine and remap."""
    cv2.setNumThreads(material.threads)
    grid = material.bundle.manifest.grid.scaled(2)
    state = np.random.default_rng(0).random((CHANNELS, *grid.shape), dtype=np.float32)
    out, motion = np.empty_like(state), Pose.planar(1.3, -0.7, 0.05)
    origin = (grid.x_min_m, grid.y_min_m)
    matrix = source_from_target_cells(origin, origin, grid.resolution_m, motion)

    def ours() -> None:
        carry_raster(state, grid, motion, out, material.threads)

    ours()
    peers: dict[str, Callable[[], object]] = {
        "cv2.warpAffine": lambda: warp_affine_planes(state, matrix),
        "cv2.remap": lambda: remap_planes(state, matrix),
    }
    inside = (slice(None), slice(8, -8), slice(8, -8))
    for name, warped in (("cv2.warpAffine", warp_affine_planes), ("cv2.remap", remap_planes)):
        check_close(name, warped(state, matrix)[inside], out[inside], _TOLERANCE)
    turns = take_turns(
        {"octobev": wall_ms(ours)} | {name: wall_ms(run) for name, run in peers.items()}, material.rounds(_ROUNDS)
    )
    best = min(peers, key=lambda name: turns[name].median)
    note = f"{CHANNELS} planes of {grid.shape[0]}x{grid.shape[1]} cells, {best} counts"
    return Figures(turns.ratio(best, "octobev"), turns.spreads(), (note,))
