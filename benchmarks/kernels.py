"""Kernels that `octobev bench` has no row for: `python benchmarks/kernels.py [--threads N] [--rounds N]`.

Both sides of a row are run in turns (A B A B ...), so that a busy machine slows both down; times are medians in
milliseconds, the last column is the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from octobev._ext import lift, occupancy, preprocess, project
from octobev.bench.material import CHANNELS, Material
from octobev.bench.spread import take_turns, wall_ms
from octobev.fusion.pose import Pose
from octobev.fusion.view import FeatureCamera, ViewTransform
from scipy.sparse import csr_array


@dataclass(frozen=True, slots=True)
class Match:
    """One kernel and one other way to do the same."""

    name: str
    kernel: Callable[[], object]
    rival_name: str
    rival: Callable[[], object]


def numpy_projection(points: NDArray[np.float64], cameras: tuple[FeatureCamera, ...]) -> list[Any]:
    """The projections alone, without weights or matrix."""
    return [camera.intrinsics.project(camera.ego_from_camera.inverse().apply(points)) for camera in cameras]


def view_matches(material: Material) -> Iterator[Match]:
    """Build the matrix, and what is done with it besides the lift to rows."""
    threads, cameras, moves = material.threads, material.feature_cameras, [0]
    flat = material.points.reshape(-1, 3)
    builder = material.view_builder()

    def build() -> ViewTransform:
        moves[0] += 1
        return builder.build([Pose.planar(0.01 * moves[0], 0.0, 0.0)] * 8, num_threads=threads)

    view = build()
    size = f"{view.rows} points, 8 cameras, {len(view.indices)} entries"
    yield Match(f"view matrix: {size}", build, "NumPy, projections only", lambda: numpy_projection(flat, cameras))
    features = material.features
    planes = np.empty((view.heights * CHANNELS, view.cells), np.float32)
    matrix = csr_array((view.weights, view.indices, view.indptr), shape=(view.rows, view.pixels))
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


def image_matches(material: Material) -> Iterator[Match]:
    """Image 1280x960 to network input 320x192, RGB, normalised, NCHW."""
    threads, image = material.threads, material.decoded[0][0]
    out, scale = np.empty((3, 192, 320), np.float32), np.full(3, 1 / 255, np.float32)
    map_x, map_y = np.meshgrid(np.linspace(0, 1279, 320, dtype=np.float32), np.linspace(0, 959, 192, dtype=np.float32))
    map_x = np.ascontiguousarray(map_x + 5 * np.sin(map_y / 50), dtype=np.float32)
    map_y = np.ascontiguousarray(map_y)

    def usual(small: NDArray[np.uint8]) -> NDArray[np.float32]:
        rgb = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.float32)
        return np.ascontiguousarray((rgb * scale).transpose(2, 0, 1))

    yield Match(
        "resize, area, 1280x960 -> 320x192 float NCHW",
        lambda: preprocess.resize(image, out, sampling="area", swap_rb=True, scale=scale, num_threads=threads),
        "cv2.resize, cvtColor, float, transpose",
        lambda: usual(cv2.resize(image, (320, 192), interpolation=cv2.INTER_AREA)),
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


def state_matches(material: Material) -> Iterator[Match]:
    """Add evidence to the cells of the grid, four classes."""
    threads, cells, rng = material.threads, material.bundle.manifest.grid.cells, np.random.default_rng(0)
    log_odds, observed = rng.normal(size=(cells, 4)).astype(np.float32), np.zeros(cells, np.uint8)
    mass = rng.random(cells, np.float32)
    probability = rng.random((cells, 4), np.float32) * mass[:, None]
    gain, prior = np.ones(cells, np.float32), np.zeros(4, np.float32)

    def numpy_update() -> NDArray[np.float32]:
        p = np.clip(probability / mass[:, None], 1e-4, 1 - 1e-4)
        change = (gain * mass)[:, None] * (np.log(p / (1 - p)) - prior)
        return np.clip(log_odds * 0.9 + np.where(mass[:, None] > 0.05, change, 0), -8, 8)

    yield Match(
        f"log-odds, {cells} cells, 4 classes",
        lambda: occupancy.update_log_odds(
            log_odds, observed, probability, mass, gain, prior, 0.9, 8.0, 0.05, num_threads=threads
        ),
        "NumPy",
        numpy_update,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    print(f"threads {options.threads}, OpenMP {project.openmp_enabled()}, medians of {options.rounds} rounds, ms\n")
    print(f"{'kernel':68}{'ms':>8}  {'instead':40}{'ms':>8}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        material = Material(Path(folder), threads=options.threads)
        for matches in (view_matches, image_matches, state_matches):
            for match in matches(material):
                sides = {"kernel": wall_ms(match.kernel), "rival": wall_ms(match.rival)}
                turns = take_turns(sides, options.rounds, settle_s=0.0)
                kernel, rival, ratio = turns["kernel"], turns["rival"], turns.ratio("rival", "kernel")
                times = f"{kernel.median:8.3f}  {match.rival_name:40}{rival.median:8.3f}"
                print(f"{match.name:68}{times}{ratio.median:7.1f}x")


if __name__ == "__main__":
    main()
