"""The view transform: one sparse matrix from feature pixels of all cameras to points of the bird's-eye view.

A row belongs to one point (a cell at one height) and holds the bilinear weights of the feature pixels that see it, over
all cameras, with sum 1. Columns are feature pixels: `camera * (h * w) + v * w + u`. Feature pixel coordinates of stride
s follow from network pixels by `u_f = (u + 0.5) / s - 0.5`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._ext import lift, lift_levels
from ..errors import InvalidArgument, expected
from .lens import Intrinsics
from .levels import Levels
from .pose import Pose

ArrayT = TypeVar("ArrayT", bound=NDArray[Any])

_CACHE_LINE: Final = 64


@dataclass(frozen=True, slots=True)
class FeatureCamera:
    """A camera as its network sees it.

    Parameters
    ----------
    intrinsics : of the network's input image (after crop and resize), pixels
    ego_from_camera : mounting; maps the optical camera frame to the ego frame
    """

    intrinsics: Intrinsics
    ego_from_camera: Pose


@dataclass(frozen=True, slots=True, eq=False)
class ViewTransform:
    """A sparse matrix in compressed rows, `points x feature pixels`; row = cell * heights + height.

    indptr : int32 [rows + 1]
    indices : int32 [entries], feature pixel of each entry
    weights : float32 [entries], 0..1; a row that some camera sees sums to 1, others are empty
    depth_m : float32 [entries], distance of the point along the optical axis of the camera of each entry
    seen_by : uint64 [cells], bit i set when camera i sees the cell at one height or more
    heights : points of each cell
    pixels : number of columns, feature pixels of all cameras together

    The arrays are read-only and belong to this object alone.
    """

    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]
    depth_m: NDArray[np.float32]
    seen_by: NDArray[np.uint64]
    heights: int
    pixels: int

    @property
    def rows(self) -> int:
        """Number of points."""
        return len(self.indptr) - 1

    @property
    def cells(self) -> int:
        """Number of cells: rows / heights."""
        return len(self.seen_by)

    def lift(
        self,
        features: NDArray[np.float32],
        out: NDArray[Any] | None = None,
        num_threads: int = 1,
        levels: Levels | None = None,
    ) -> NDArray[Any]:
        """Sample features at every point, one row a cell.

        Parameters
        ----------
        features : float32 [pixels, C], C-contiguous
        out : [cells, heights * C] to write to, C-contiguous, float32, or uint8 where `levels` are given; allocated when
            None
        num_threads : threads of the kernel; the result is the same to the bit for any number
        levels : write the nearest of these levels; None: the sums themselves

        Returns
        -------
        float32 or uint8 [cells, heights * C]; 0, or the level of 0, where no camera sees the point
        """
        self._check_features(features)
        channels = features.shape[1]
        out = _checked_out(out, (self.cells, self.heights * channels), levels)
        rows = out.reshape(self.rows, channels)
        if levels is None:
            lift.lift_rows(self.indptr, self.indices, self.weights, features, rows, num_threads)
        else:
            scale, zero = levels.scale, levels.zero_point
            lift.lift_row_levels(self.indptr, self.indices, self.weights, features, rows, scale, zero, num_threads)
        return out

    def lift_planes(
        self,
        features: NDArray[np.float32],
        out: NDArray[Any] | None = None,
        num_threads: int = 1,
        levels: Levels | None = None,
    ) -> NDArray[Any]:
        """Sample features at every point, one plane a height and channel: what a network with NCHW input wants.

        Parameters
        ----------
        features, num_threads, levels : as of :meth:`lift`
        out : [heights * C, cells] to write to, C-contiguous, float32, or uint8 where `levels` are given; allocated when
            None

        Returns
        -------
        float32 or uint8 [heights * C, cells], plane = height * C + channel; 0, or the level of 0, where no camera sees
        the point
        """
        self._check_features(features)
        out = _checked_out(out, (self.heights * features.shape[1], self.cells), levels)
        matrix, heights = (self.indptr, self.indices, self.weights), self.heights
        if levels is None:
            lift.lift_planes(*matrix, features, heights, out, num_threads)
        else:
            scale, zero = levels.scale, levels.zero_point
            lift.lift_plane_levels(*matrix, features, heights, out, scale, zero, num_threads)
        return out

    def fix_weights(self, out: NDArray[np.int16]) -> None:
        """Write the weights as :meth:`lift_levels` takes them, in whole numbers, to memory at least as long."""
        lift_levels.fixed_weights(self.weights, out)

    def lift_levels(
        self,
        features: NDArray[np.uint8],
        feature_levels: Levels,
        fixed_weights: NDArray[np.int16],
        out: NDArray[np.uint8],
        levels: Levels,
        num_threads: int = 1,
    ) -> None:
        """Do what :meth:`lift` does with features in levels, all in whole numbers: a quarter of the memory to read.

        Weights are rounded to 1 / 32767, so that a level in some thousand is the next one.

        Parameters
        ----------
        features : uint8 [pixels, C], C-contiguous
        feature_levels : what they stand for
        fixed_weights : what :meth:`fix_weights` gave
        out : uint8 [cells, heights * C] to write to, C-contiguous
        levels, num_threads : as of :meth:`lift`
        """
        self._check_features(features)
        channels = features.shape[1]
        rows = _checked_out(out, (self.cells, self.heights * channels), levels).reshape(self.rows, channels)
        lift_levels.lift_levels(
            self.indptr,
            self.indices,
            fixed_weights,
            features,
            feature_levels.scale,
            feature_levels.zero_point,
            rows,
            levels.scale,
            levels.zero_point,
            num_threads,
        )

    def mass(self, num_threads: int = 1) -> NDArray[np.float32]:
        """Sum of each row's weights, float32 [rows]: 1 where a camera sees the point, 0 elsewhere."""
        mass = np.empty(self.rows, dtype=np.float32)
        lift.row_mass(self.indptr, self.weights, mass, num_threads)
        return mass

    def depth_weighted(
        self,
        depth_map_m: NDArray[np.float32],
        *,
        sigma_m: float,
        sigma_relative: float,
        num_threads: int = 1,
    ) -> tuple[ViewTransform, NDArray[np.float32]]:
        """The same matrix with each entry weighted by how well its pixel's depth agrees with the point's.

        Weights become `w * exp(-0.5 * ((depth_map - d) / (sigma_m + sigma_relative * d))**2)`, as in Lift, Splat, Shoot
        (Philion and Fidler 2020) with a normal distribution in place of depth bins. They are not normalised again.

        Parameters
        ----------
        depth_map_m : float32 [pixels], depth along the optical axis seen by each feature pixel; entries of pixels
            without a finite positive depth get weight 0
        sigma_m, sigma_relative : standard deviation, metres, and its growth with depth

        Returns
        -------
        view : the weighted matrix, sharing everything but its weights with this one
        mass : float32 [rows], sum of each row's new weights, 0..1
        """
        weights = np.empty(len(self.weights), dtype=np.float32)
        mass = np.empty(self.rows, dtype=np.float32)
        lift.depth_weights(
            self.indptr,
            self.indices,
            self.weights,
            self.depth_m,
            depth_map_m,
            sigma_m,
            sigma_relative,
            weights,
            mass,
            num_threads,
        )
        return replace(self, weights=frozen(weights)), mass

    def _check_features(self, features: NDArray[Any]) -> None:
        if features.ndim != 2 or len(features) != self.pixels:
            raise InvalidArgument(expected("features", f"of shape ({self.pixels}, channels)", features.shape))


def frozen(array: ArrayT) -> ArrayT:
    """Make an array read-only; returns it."""
    array.flags.writeable = False
    return array


def aligned_zeros(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Memory for features, zeros of this shape, C-contiguous, that starts on a cache line.

    Where a pixel's channels fill whole cache lines, a lift reads a fifth fewer of them from here than from what NumPy
    allocates, whose large arrays start a quarter of a line late.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _CACHE_LINE, dtype=np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def _checked_out(out: NDArray[Any] | None, shape: tuple[int, int], levels: Levels | None) -> NDArray[Any]:
    """Make the memory that is to be written to, or check what was given."""
    dtype: np.dtype[Any] = np.dtype(np.float32 if levels is None else np.uint8)
    if out is None:
        return np.empty(shape, dtype=dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise InvalidArgument(
            expected("out", f"C-contiguous {dtype} of shape {shape}", f"{out.dtype} of shape {out.shape}")
        )
    return out
