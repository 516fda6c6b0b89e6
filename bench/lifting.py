"""Rows about the view transform: the lift of features against other ways, and what a new matrix costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fusion.pose import Pose
from ..fusion.view import FeatureCamera
from .agreement import check_close
from .material import CHANNELS, Material
from .peers.lifts import csr_lift_scipy, csr_lift_torch, grid_sample_lift
from .row import Figures
from .spread import take_turns, wall_ms

_ROUNDS = 40


def lift_vs_scipy(material: Material) -> Figures:
    """Against the product of scipy's CSR matrix."""
    return _lift(material, "scipy CSR", csr_lift_scipy(material.view), _ROUNDS)


def lift_vs_torch_csr(material: Material) -> Figures:
    """Against the product of torch's CSR matrix."""
    return _lift(material, "torch CSR", csr_lift_torch(material.view, material.threads), _ROUNDS)


def lift_vs_grid_sample(material: Material) -> Figures:
    """Against torch's grid_sample, every point in every camera."""
    lift = grid_sample_lift(
        material.view,
        material.points,
        material.feature_cameras,
        material.feature_shape,
        material.stride,
        material.threads,
    )
    return _lift(material, "torch grid_sample", lift, 12)


def _lift(
    material: Material, name: str, peer: Callable[[NDArray[np.float32]], NDArray[np.float32]], rounds: int
) -> Figures:
    view, features = material.view, material.features
    out = np.empty((view.cells, view.heights * CHANNELS), np.float32)

    def ours() -> None:
        view.lift(features, out, material.threads)

    ours()
    check_close(name, peer(features).reshape(out.shape), out, 1e-3)
    turns = take_turns({"octobev": wall_ms(ours), name: wall_ms(lambda: peer(features))}, material.rounds(rounds))
    size = f"{view.rows} points x {view.pixels} pixels, {len(view.indices)} entries, {CHANNELS} channels"
    return Figures(turns.ratio(name, "octobev"), turns.spreads(), (size,))


def transform_build_ms(material: Material) -> Figures:
    """Build the matrix anew, each camera at another pose; and again for another calibration."""
    builder = material.view_builder()
    mountings = [_turned(material.feature_cameras, 0.001 * number) for number in range(2)]
    moves = [0]

    def poses() -> Any:
        moves[0] += 1
        return [Pose.planar(0.001 * moves[0] + 0.05 * camera, 0.0, 0.0) for camera in range(len(material.rig))]

    def rebuilt(change: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            change()
            return builder.build(poses(), num_threads=material.threads)

        return run

    sides = {
        "new poses": wall_ms(rebuilt(lambda: None)),
        "new calibration": wall_ms(rebuilt(lambda: builder.recalibrate(mountings[moves[0] % 2]))),
    }
    turns = take_turns(sides, material.rounds(_ROUNDS))
    slower = max(sides, key=lambda side: turns[side].median)
    view = builder.build(poses())
    size = f"{view.rows} points, {len(view.indices)} entries; the slower of both counts"
    return Figures(turns[slower], turns.spreads(), (size,))


def _turned(cameras: tuple[FeatureCamera, ...], yaw_rad: float) -> list[FeatureCamera]:
    turn = Pose.planar(0.0, 0.0, yaw_rad)
    return [FeatureCamera(camera.intrinsics, turn @ camera.ego_from_camera) for camera in cameras]
