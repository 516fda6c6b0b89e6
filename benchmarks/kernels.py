"""The kernels against what one would use instead: `python benchmarks/kernels.py [--threads N] [--rounds N]`.

Both sides of a row are run in turns (A B A B ...), so that a busy machine slows both down; times are medians in
milliseconds, the last column is the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from octobev._ext import lift, occupancy, preprocess, project, warp
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.view import FeatureCamera, ViewTransform
from octobev.fusion.view_builder import ViewBuilder, grid_points
from scipy.sparse import csr_array

GRID = BevGrid(-24.0, 40.0, -24.0, 24.0, 0.5)
HEIGHTS_M = (0.0, 0.6, 1.5, 3.0)
FEATURE_SHAPE, STRIDE, CHANNELS = (48, 80), 4.0, 64


@dataclass(frozen=True, slots=True)
class Match:
    """One kernel and one other way to do the same."""

    name: str
    kernel: Callable[[], object]
    rival_name: str
    rival: Callable[[], object]


def surround() -> list[FeatureCamera]:
    """Eight cameras of 320x192 pixels, 1.6 m above the ground, evenly spread."""
    lens = Intrinsics(320, 192, 180.0, 180.0, 159.5, 95.5)
    cameras = []
    for index in range(8):
        yaw = 2 * np.pi * index / 8
        matrix = np.eye(4)
        matrix[:3, 0] = np.sin(yaw), -np.cos(yaw), 0
        matrix[:3, 1] = 0, 0, -1
        matrix[:3, 2] = np.cos(yaw), np.sin(yaw), 0
        matrix[:3, 3] = 1.0, 0.0, 1.6
        cameras.append(FeatureCamera(lens, Pose(matrix)))
    return cameras


def numpy_projection(points: NDArray[np.float64], cameras: list[FeatureCamera]) -> list[Any]:
    """The projections alone, without weights or matrix."""
    return [camera.intrinsics.project(camera.ego_from_camera.inverse().apply(points)) for camera in cameras]


def view_matches(threads: int) -> Iterator[Match]:
    """Build the matrix and lift with it."""
    points, cameras, moves = grid_points(GRID, HEIGHTS_M), surround(), [0]
    flat = points.reshape(-1, 3)
    builder = ViewBuilder(
        points, cameras, FEATURE_SHAPE, STRIDE, resolution_m=GRID.resolution_m, border_px=8.0, tolerance_cells=0.0
    )

    def build() -> ViewTransform:
        moves[0] += 1
        return builder.build([Pose.planar(0.01 * moves[0], 0.0, 0.0)] * 8, num_threads=threads)

    view = build()
    size = f"{view.rows} points, 8 cameras, {len(view.indices)} entries"
    yield Match(f"view matrix: {size}", build, "NumPy, projections only", lambda: numpy_projection(flat, cameras))
    features = np.random.default_rng(0).random((view.pixels, CHANNELS)).astype(np.float32)
    rows = np.empty((view.cells, view.heights * CHANNELS), np.float32)
    planes = np.empty((view.heights * CHANNELS, view.cells), np.float32)
    matrix = csr_array((view.weights, view.indices, view.indptr), shape=(view.rows, view.pixels))
    yield Match(
        f"lift to rows, {CHANNELS} channels",
        lambda: view.lift(features, rows, threads),
        "scipy CSR",
        lambda: matrix @ features,
    )
    yield Match(
        f"lift to planes, {CHANNELS} channels",
        lambda: view.lift_planes(features, planes, threads),
        "scipy CSR, transposed",
        lambda: np.ascontiguousarray((matrix @ features).reshape(view.cells, -1).T),
    )
    depth_map = np.random.default_rng(1).uniform(1, 40, view.pixels).astype(np.float32)
    weights, mass = np.empty_like(view.weights), np.empty(view.rows, np.float32)
    yield Match(
        "depth weights",
        lambda: lift.depth_weights(
            view.indptr, view.indices, view.weights, view.depth_m, depth_map, 0.5, 0.1, weights, mass, threads
        ),
        "NumPy, without row sums",
        lambda: (
            view.weights * np.exp(-0.5 * ((depth_map[view.indices] - view.depth_m) / (0.5 + 0.1 * view.depth_m)) ** 2)
        ),
    )
    maps, map_rows = features[:3840].T.copy(), np.empty((3840, CHANNELS), np.float32)
    yield Match(
        "feature planes to rows, one camera",
        lambda: lift.planes_to_rows(maps, map_rows, threads),
        "NumPy",
        lambda: np.copyto(map_rows, maps.T),
    )


def image_matches(threads: int) -> Iterator[Match]:
    """Image 1280x960 to network input 320x192, RGB, normalised, NCHW."""
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8), (1280, 960))
    out, scale = np.empty((3, 192, 320), np.float32), np.full(3, 1 / 255, np.float32)
    map_x, map_y = np.meshgrid(np.linspace(0, 1279, 320, dtype=np.float32), np.linspace(0, 959, 192, dtype=np.float32))
    map_x = np.ascontiguousarray(map_x + 5 * np.sin(map_y / 50), dtype=np.float32)
    map_y = np.ascontiguousarray(map_y)

    def usual(small: NDArray[np.uint8]) -> NDArray[np.float32]:
        rgb = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.float32)
        return np.ascontiguousarray((rgb * scale).transpose(2, 0, 1))

    for sampling, flag in (("bilinear", cv2.INTER_LINEAR), ("area", cv2.INTER_AREA)):
        yield Match(
            f"resize, {sampling}, 1280x960 -> 320x192 float NCHW",
            lambda sampling=sampling: preprocess.resize(  # type: ignore[misc]
                image, out, sampling=sampling, swap_rb=True, scale=scale, num_threads=threads
            ),
            "cv2.resize, cvtColor, float, transpose",
            lambda flag=flag: usual(cv2.resize(image, (320, 192), interpolation=flag)),  # type: ignore[misc]
        )
    yield Match(
        "resize, bilinear, the same",
        lambda: preprocess.resize(image, out, swap_rb=True, scale=scale, num_threads=threads),
        "cv2.dnn.blobFromImage",
        lambda: cv2.dnn.blobFromImage(image, 1 / 255, (320, 192), swapRB=True),
    )
    yield from yuv_matches(image, (map_x, map_y), scale, threads)
    yield Match(
        "remap -> 320x192 float NCHW",
        lambda: preprocess.remap(image, out, map_x, map_y, swap_rb=True, scale=scale, num_threads=threads),
        "cv2.remap, cvtColor, float, transpose",
        lambda: usual(cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR)),
    )


def yuv_matches(
    image: NDArray[np.uint8],
    maps: tuple[NDArray[np.float32], NDArray[np.float32]],
    scale: NDArray[np.float32],
    threads: int,
) -> Iterator[Match]:
    """The same from NV12 and YUYV, against OpenCV's conversion and the same kernel on its BGR."""
    height, width = image.shape[:2]
    planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
    pairs = planes[height:].reshape(2, -1).T.reshape(height // 2, width)
    out = np.empty((3, 192, 320), np.float32)
    for yuv, pixels, code in (
        ("nv12", np.concatenate((planes[:height], pairs)), cv2.COLOR_YUV2BGR_NV12),
        ("yuyv", cv2.cvtColor(image, cv2.COLOR_BGR2YUV_YUY2), cv2.COLOR_YUV2BGR_YUY2),
    ):

        def resize(pixels: NDArray[np.uint8], sampling: str, yuv: str | None = None) -> None:
            preprocess.resize(pixels, out, yuv=yuv, sampling=sampling, swap_rb=True, scale=scale, num_threads=threads)

        def remap(pixels: NDArray[np.uint8], yuv: str | None = None) -> None:
            preprocess.remap(pixels, out, *maps, yuv=yuv, swap_rb=True, scale=scale, num_threads=threads)

        for sampling in ("bilinear", "area"):
            yield Match(
                f"resize, {sampling}, from {yuv}",
                lambda pixels=pixels, sampling=sampling, yuv=yuv: resize(pixels, sampling, yuv),  # type: ignore[misc]
                "cv2.cvtColor, then the same kernel",
                lambda pixels=pixels, sampling=sampling, code=code: resize(  # type: ignore[misc]
                    cv2.cvtColor(pixels, code), sampling
                ),
            )
        yield Match(
            f"remap from {yuv}",
            lambda pixels=pixels, yuv=yuv: remap(pixels, yuv),  # type: ignore[misc]
            "cv2.cvtColor, then the same kernel",
            lambda pixels=pixels, code=code: remap(cv2.cvtColor(pixels, code)),  # type: ignore[misc]
        )


def state_matches(threads: int) -> Iterator[Match]:
    """Carry a state of 64 planes, and add evidence to 12,288 cells of four classes."""
    rng = np.random.default_rng(0)
    source = rng.random((64, 96, 64), np.float32)
    out = np.empty_like(source)
    motion = Pose.planar(1.3, -0.7, 0.05).matrix[:2, [0, 1, 3]]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    swapped = np.ascontiguousarray(motion[::-1][:, [1, 0, 2]])  # OpenCV counts columns first
    yield Match(
        "warp, 64 planes of 96x64",
        lambda: warp.warp_planes(source, motion, out, num_threads=threads),
        "cv2.warpAffine, plane by plane",
        lambda: [cv2.warpAffine(plane, swapped, (64, 96), flags=flags) for plane in source],
    )
    log_odds, observed = rng.normal(size=(GRID.cells, 4)).astype(np.float32), np.zeros(GRID.cells, np.uint8)
    mass = rng.random(GRID.cells, np.float32)
    probability = rng.random((GRID.cells, 4), np.float32) * mass[:, None]
    gain, prior = np.ones(GRID.cells, np.float32), np.zeros(4, np.float32)

    def numpy_update() -> NDArray[np.float32]:
        p = np.clip(probability / mass[:, None], 1e-4, 1 - 1e-4)
        change = (gain * mass)[:, None] * (np.log(p / (1 - p)) - prior)
        return np.clip(log_odds * 0.9 + np.where(mass[:, None] > 0.05, change, 0), -8, 8)

    yield Match(
        f"log-odds, {GRID.cells} cells, 4 classes",
        lambda: occupancy.update_log_odds(
            log_odds, observed, probability, mass, gain, prior, 0.9, 8.0, 0.05, num_threads=threads
        ),
        "NumPy",
        numpy_update,
    )


def milliseconds(run: Callable[[], object]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    print(f"threads {options.threads}, OpenMP {project.openmp_enabled()}, medians of {options.rounds} rounds, ms\n")
    print(f"{'kernel':68}{'ms':>8}  {'instead':40}{'ms':>8}{'ratio':>8}")
    for matches in (view_matches, image_matches, state_matches):
        for match in matches(options.threads):
            match.kernel(), match.rival()
            pairs = [(milliseconds(match.kernel), milliseconds(match.rival)) for _ in range(options.rounds)]
            kernel, rival = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = statistics.median(b / a for a, b in pairs)
            print(f"{match.name:68}{kernel:8.3f}  {match.rival_name:40}{rival:8.3f}{ratio:7.1f}x")


if __name__ == "__main__":
    main()
