"""The view transform and the carried state in PyTorch: what the runtime computes, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ext import lift as kernel
from ..errors import InvalidArgument, expected
from ..fusion.grid import BevGrid
from ..fusion.pose import Pose
from ..fusion.state import planar_motion, source_from_target_cells
from ..fusion.view import ViewTransform
from .net import Tensor, functional, torch


def lift_rows(views: list[ViewTransform], features: Tensor, threads: int = 1) -> Tensor:
    """Sample features of each set at every point of its own view transform.

    The forward pass is :meth:`~octobev.fusion.view.ViewTransform.lift`, number for number; the backward pass is the
    same kernel over the transposed matrix. Both are in float32 whatever autocast says.

    Parameters
    ----------
    views : one a set, all of the same cells and heights
    features : [pixels of all views one after another, C]

    Returns
    -------
    float32 [sets, cells, heights * C]
    """
    pixels = sum(view.pixels for view in views)
    if features.dim() != 2 or len(features) != pixels:
        raise InvalidArgument(expected("features", f"[{pixels}, C]", tuple(features.shape)))
    lifted: Tensor = _Lift.apply(features, views, threads)
    return lifted


class _Lift(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    @staticmethod
    def forward(context: Any, features: Tensor, views: list[ViewTransform], threads: int) -> Tensor:
        context.views, context.threads, context.dtype = views, threads, features.dtype
        rows = features.detach().to(torch.float32).contiguous().numpy()
        ends = np.cumsum([view.pixels for view in views])[:-1]
        parts = zip(views, np.split(rows, ends), strict=True)
        return torch.stack([torch.from_numpy(view.lift(part, num_threads=threads)) for view, part in parts])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        channels = gradients[0].shape[2] // context.views[0].heights
        out = np.empty((sum(view.pixels for view in context.views), channels), dtype=np.float32)
        first = 0
        for view, gradient in zip(context.views, gradients[0], strict=True):
            points = gradient.to(torch.float32).contiguous().numpy().reshape(view.rows, -1)
            part = out[first : first + view.pixels]
            kernel.lift_rows(*transposed(view), points, part, context.threads)
            first += view.pixels
        return torch.from_numpy(out).to(context.dtype), None, None


def transposed(view: ViewTransform) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """The matrix with rows and columns exchanged: indptr int32 [pixels + 1], indices int32 and weights float32."""
    narrow = np.uint16 if view.pixels <= 1 << 16 else np.int32  # NumPy sorts 16 bits by radix, ten times faster
    order = np.argsort(view.indices.astype(narrow), kind="stable")
    row_of = np.repeat(np.arange(view.rows, dtype=np.int32), np.diff(view.indptr))
    indptr = np.zeros(view.pixels + 1, dtype=np.int32)
    np.cumsum(np.bincount(view.indices, minlength=view.pixels), out=indptr[1:])
    return indptr, row_of[order], view.weights[order]


def carry_states(states: Tensor, grid: BevGrid, before_from_now: list[Pose]) -> Tensor:
    """Bring states of the ego frame before into the ego frame now, as the runtime does it.

    The same bilinear sampling as :func:`octobev.fusion.state.carry_raster`, what comes in over the edge being 0, with
    gradients with respect to the states.

    Parameters
    ----------
    states : float32 [B, C, nx, ny] on `grid`
    before_from_now : ego-motion of each; only its planar part is used
    """
    origin = (grid.x_min_m, grid.y_min_m)
    sizes = np.array(grid.shape, dtype=np.float64)
    nx, ny = grid.shape
    i, j = np.meshgrid(np.arange(nx), np.arange(ny), indexing="ij")
    target = np.stack((i, j, np.ones_like(i)), axis=-1).astype(np.float64)
    places = []
    for motion in before_from_now:
        cells = target @ source_from_target_cells(origin, origin, grid.resolution_m, planar_motion(motion)).T
        # grid_sample counts from -1 to 1 between the outer edges, the last axis first
        places.append((2.0 * cells + 1.0) / sizes - 1.0)
    where = torch.from_numpy(np.stack(places)[..., ::-1].astype(np.float32))
    with torch.autocast("cpu", enabled=False):
        return functional.grid_sample(states.to(torch.float32), where, "bilinear", "zeros", align_corners=False)
