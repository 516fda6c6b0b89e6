"""Lifts of features to points of the ground with SciPy and PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...fusion.view import FeatureCamera, ViewTransform

Lift = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Features, float32 [pixels, C], to float32 [points, C]."""


def csr_lift_scipy(view: ViewTransform) -> Lift:
    """The matrix in SciPy; it has no threads."""
    from scipy.sparse import csr_array

    matrix = csr_array((view.weights, view.indices, view.indptr), shape=(view.rows, view.pixels))

    def lift(features: NDArray[np.float32]) -> NDArray[np.float32]:
        lifted: NDArray[np.float32] = matrix @ features
        return lifted

    return lift


def csr_lift_torch(view: ViewTransform, threads: int) -> Lift:
    """The matrix in PyTorch."""
    torch = load_torch(threads)
    parts = [torch.from_numpy(part.copy()) for part in (view.indptr, view.indices, view.weights)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that sparse tensors are in beta
        matrix = torch.sparse_csr_tensor(*parts, (view.rows, view.pixels))

    def lift(features: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            lifted: NDArray[np.float32] = (matrix @ torch.from_numpy(features)).numpy()
        return lifted

    return lift


def grid_sample_lift(
    view: ViewTransform,
    points: NDArray[np.float64],
    cameras: Sequence[FeatureCamera],
    shape: tuple[int, int],
    stride: float,
    threads: int,
) -> Lift:
    """Every point sampled in every camera's map by grid_sample, then the weighted sum over cameras.

    Where points fall and how much each camera counts are worked out once, as for a rig that stands still.

    Parameters
    ----------
    view : says how much each camera counts at a point
    points : float64 [cells, heights, 3], metres
    shape, stride : of the feature maps
    """
    torch = load_torch(threads)
    count, pixels = len(cameras), shape[0] * shape[1]
    row_of = np.repeat(np.arange(view.rows), np.diff(view.indptr))
    shares = np.zeros((count, view.rows), np.float32)
    np.add.at(shares, (view.indices // pixels, row_of), view.weights)
    places = np.stack([_places(points.reshape(-1, 3), camera, shape, stride) for camera in cameras])
    grid = torch.from_numpy(places[:, None].astype(np.float32))  # [cameras, 1, points, 2]
    weights = torch.from_numpy(shares)

    def lift(features: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            maps = torch.from_numpy(features).reshape(count, *shape, -1).permute(0, 3, 1, 2).contiguous()
            lifted: Any = torch.zeros((maps.shape[1], view.rows))
            for camera in range(count):  # less memory than all at once, and faster
                sampled = torch.nn.functional.grid_sample(
                    maps[camera : camera + 1], grid[camera : camera + 1], "bilinear", "border", align_corners=False
                )
                lifted.addcmul_(sampled[0, :, 0], weights[camera])
            rows: NDArray[np.float32] = lifted.T.contiguous().numpy()
        return rows

    return lift


def load_torch(threads: int) -> Any:
    """Import PyTorch, set to this many threads."""
    import torch

    torch.set_num_threads(threads)
    return torch


def _places(
    points: NDArray[np.float64], camera: FeatureCamera, shape: tuple[int, int], stride: float
) -> NDArray[np.float64]:
    """Where points lie in a map, float64 [points, 2], -1..1 between its outer edges; what is not seen lies at 0."""
    pixels, seen = camera.intrinsics.project(camera.ego_from_camera.inverse().apply(points))
    places: NDArray[np.float64] = 2.0 * (pixels + 0.5) / (stride * np.array([shape[1], shape[0]])) - 1.0
    places[~seen] = 0.0
    return places
