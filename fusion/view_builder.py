"""Builds the view transform, and builds it again when something moved."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._ext import project
from ..errors import InvalidArgument, expected
from .grid import BevGrid
from .pose import Pose
from .rig import MAX_CAMERAS, Rig
from .view import FeatureCamera, ViewTransform, frozen

WEIGHTINGS: Final = ("uniform", "resolution")
"""How cameras share a point: equally, or in proportion to the pixels per metre that they have there."""

_LENS_PARAMETERS: Final = 12
_ENTRIES_PER_SAMPLE: Final = 4
_LEVEL_M: Final = 1e-9  # a point that moves up or down by less does not
_ARRAYS_KEPT: Final = 10  # two views of five arrays: the caller's and the next


class ViewBuilder:
    """Builds the view transform, and builds it again only when something moved.

    Parameters
    ----------
    points : float64 [cells, heights, 3], metres, in the ego frame of the set ("points' frame")
    cameras : what each network input sees, in the order of the features
    feature_shape : height and width of the feature maps
    stride : network pixels per feature pixel
    resolution_m : cell size, the unit of `tolerance_cells`
    weighting : one of :data:`WEIGHTINGS`
    border_px : width of the ramp over which a camera's share falls to 0 at its image border, network pixels
    tolerance_cells : how far, in cells, a ground point may be displaced before the matrix is built again

    Attributes
    ----------
    builds : how often the matrix was built
    """

    def __init__(
        self,
        points: ArrayLike,
        cameras: Sequence[FeatureCamera],
        feature_shape: tuple[int, int],
        stride: float,
        *,
        resolution_m: float,
        weighting: str = "resolution",
        border_px: float = 0.0,
        tolerance_cells: float = 0.1,
    ) -> None:
        array = np.array(points, dtype=np.float64)
        if array.ndim != 3 or array.shape[1] < 1 or array.shape[2] != 3:
            raise InvalidArgument(expected("points", "of shape (cells, heights, 3)", array.shape))
        if not np.isfinite(array).all():
            raise InvalidArgument(expected("points", "finite", "NaN or infinity"))
        if weighting not in WEIGHTINGS:
            raise InvalidArgument(expected("weighting", f"one of {', '.join(WEIGHTINGS)}", repr(weighting)))
        for what, value in (("tolerance_cells", tolerance_cells), ("border_px", border_px)):
            if not (np.isfinite(value) and value >= 0):
                raise InvalidArgument(expected(what, "finite and not negative", value))
        for what, value in (("resolution_m", resolution_m), ("stride", stride), ("feature size", min(feature_shape))):
            if not (np.isfinite(value) and value > 0):
                raise InvalidArgument(expected(what, "positive", value))
        self.cells, self.heights = array.shape[:2]
        self.feature_shape = (int(feature_shape[0]), int(feature_shape[1]))
        self.stride = float(stride)
        self.weighting = weighting
        self.border_px = float(border_px)
        self.tolerance_m = tolerance_cells * resolution_m
        self.builds = 0
        self._points = np.ascontiguousarray(array.reshape(-1, 3))
        self._corners = _corners(self._points)
        self._entries = 2 * _ENTRIES_PER_SAMPLE * len(self._points)
        self._memory = _Memory()
        self._built: _Built | None = None
        self.cameras: tuple[FeatureCamera, ...] = ()
        self.recalibrate(cameras)

    @classmethod
    def for_grid(
        cls,
        grid: BevGrid,
        heights_m: Sequence[float],
        rig: Rig,
        feature_shape: tuple[int, int],
        stride: float,
        *,
        weighting: str = "resolution",
        border_px: float = 0.0,
        tolerance_cells: float = 0.1,
    ) -> Self:
        """A builder for the cells of a grid and a rig whose whole images fill the networks' inputs.

        The input size is the size of the feature maps times the stride; images are stretched to it.
        """
        height, width = (round(size * stride) for size in feature_shape)
        return cls(
            grid_points(grid, heights_m),
            [FeatureCamera(camera.intrinsics.resized(width, height), camera.ego_from_camera) for camera in rig],
            feature_shape,
            stride,
            resolution_m=grid.resolution_m,
            weighting=weighting,
            border_px=border_px,
            tolerance_cells=tolerance_cells,
        )

    @property
    def pixels(self) -> int:
        """Feature pixels of all cameras together: columns of the matrix."""
        return len(self.cameras) * self.feature_shape[0] * self.feature_shape[1]

    def recalibrate(self, cameras: Sequence[FeatureCamera]) -> None:
        """Take new intrinsics or mountings; the next :meth:`build` follows them.

        Raises
        ------
        InvalidArgument
            No camera, or more than :data:`~octobev.fusion.rig.MAX_CAMERAS`.
        """
        cameras = tuple(cameras)
        if not 1 <= len(cameras) <= MAX_CAMERAS:
            raise InvalidArgument(expected("cameras", f"1 to {MAX_CAMERAS}", len(cameras)))
        lenses = [camera.intrinsics for camera in cameras]
        if self._built is not None and lenses != [camera.intrinsics for camera in self.cameras]:
            self._built = None
        self.cameras = cameras
        self._camera_from_ego = [camera.ego_from_camera.inverse().matrix for camera in cameras]
        self._lens_models = np.array([lens.model.code for lens in lenses], dtype=np.int32)
        self._limits = np.array([lens.limit for lens in lenses], dtype=np.float64)
        self._image_size = np.array([(lens.width, lens.height) for lens in lenses], dtype=np.float64)
        self._lens = np.zeros((len(lenses), _LENS_PARAMETERS))
        for row, lens in zip(self._lens, lenses, strict=True):
            row[: 4 + len(lens.coefficients)] = (lens.fx, lens.fy, lens.cx, lens.cy, *lens.coefficients)

    def build(
        self,
        ego_moves: Sequence[Pose] | None = None,
        active: ArrayLike | None = None,
        point_active: ArrayLike | None = None,
        num_threads: int = 1,
    ) -> ViewTransform:
        """The matrix for cameras that fired while the ego was on its way.

        Parameters
        ----------
        ego_moves : one pose a camera, `ego_then_from_points`: maps the points' frame (the ego frame at the set's
            instant) to the ego frame at the moment that camera fired; None: nothing moved
        active : bool [cameras], cameras that take part; None: all
        point_active : bool or uint8 [cells], cells that are wanted; None: all
        num_threads : threads of the kernel; the result is the same to the bit for any number

        Returns
        -------
        ViewTransform
            The previous one when both masks are the same and no camera moved, against the pose that it was built for,
            by more than the tolerance on the ground; see :meth:`displacement_m`.
        """
        camera_from_points = self._compose(ego_moves)
        wanted = _Built(
            camera_from_points,
            _mask("active", active, len(self.cameras)),
            None if point_active is None else _mask("point_active", point_active, self.cells),
        )
        built = self._built
        if (
            built is None
            or not wanted.same_masks(built)
            or self._displacement_m(built, camera_from_points) > self.tolerance_m
        ):
            wanted.view = self._run(wanted, num_threads)
            self._built = built = wanted
        return built.view

    def warm(self, ego_moves: Sequence[Pose] | None = None) -> None:
        """Have the memory of a matrix ready, and build the next one as if there had been none."""
        self.build(ego_moves)
        self._built = None

    def displacement_m(self, ego_moves: Sequence[Pose] | None = None) -> float:
        """Bound on how far the present matrix is from the truth on the ground, metres; infinity before the first build.

        For each active camera let D be the rigid motion, in the points' frame, from the pose that the matrix was built
        for to the pose given, e(p) = D p - p the displacement of a point, c the camera's centre and h its height above
        the ground (z = 0). A pixel that was meant for p on the ground now looks at q = p + e; its ray meets the ground
        at `q_xy + (q_xy - c_xy) * e_z / (h - e_z)`. Hence, with a = max |e_xy|, b = max |e_z|, r = max |p_xy - c_xy|,
        the bound

            a + (r + a) * b / (h - b), infinity when b >= h.

        Each maximum is of a convex function over the box around all points, so it lies at one of the 8 corners.
        """
        return float("inf") if self._built is None else self._displacement_m(self._built, self._compose(ego_moves))

    def _displacement_m(self, built: _Built, camera_from_points: NDArray[np.float64]) -> float:
        """How far a matrix is from the truth with cameras at these places, see :meth:`displacement_m`."""
        active = built.active != 0
        if not active.any() or np.array_equal(built.camera_from_points, camera_from_points):
            return 0.0
        return float(_ground_displacements(self._corners, built.camera_from_points, camera_from_points)[active].max())

    def _compose(self, ego_moves: Sequence[Pose] | None) -> NDArray[np.float64]:
        """`camera_from_points` of every camera at its own time, float64 [cameras, 3, 4]."""
        if ego_moves is None:
            return np.array([matrix[:3] for matrix in self._camera_from_ego])
        if len(ego_moves) != len(self.cameras):
            raise InvalidArgument(expected("ego_moves", f"{len(self.cameras)} poses", len(ego_moves)))
        pairs = zip(self._camera_from_ego, ego_moves, strict=True)
        return np.array([camera_from_ego[:3] @ move.matrix for camera_from_ego, move in pairs])

    def _run(self, wanted: _Built, num_threads: int) -> ViewTransform:
        rows = len(self._points)
        height, width = self.feature_shape
        indptr = self._memory.take(rows + 1, np.int32)
        seen_by = self._memory.take(rows, np.uint64)
        point_active = None if wanted.point_active is None else np.repeat(wanted.point_active, self.heights)
        while True:
            indices = self._memory.take(self._entries, np.int32)
            weights = self._memory.take(self._entries, np.float32)
            depths = self._memory.take(self._entries, np.float32)
            entries = project.build(
                self._points,
                wanted.camera_from_points,
                self._lens_models,
                self._lens,
                self._limits,
                self._image_size,
                wanted.active,
                width,
                height,
                self.stride,
                weighting=self.weighting,
                border_px=self.border_px,
                point_active=point_active,
                indptr=indptr,
                indices=indices,
                weights=weights,
                depths=depths,
                seen_by=seen_by,
                num_threads=num_threads,
            )
            if entries <= self._entries:
                break
            self._entries = entries + entries // 8
        self.builds += 1
        cell_seen_by = seen_by[:: self.heights].copy()
        for height in range(1, self.heights):
            cell_seen_by |= seen_by[height :: self.heights]
        return ViewTransform(
            frozen(indptr[:]),
            frozen(indices[:entries]),
            frozen(weights[:entries]),
            frozen(depths[:entries]),
            frozen(cell_seen_by),
            self.heights,
            self.pixels,
        )


class _Built:
    """What the present matrix was built for."""

    def __init__(
        self,
        camera_from_points: NDArray[np.float64],
        active: NDArray[np.uint8],
        point_active: NDArray[np.uint8] | None,
    ) -> None:
        self.camera_from_points = camera_from_points
        self.active = active
        self.point_active = point_active
        self.view: ViewTransform

    def same_masks(self, other: _Built) -> bool:
        if not np.array_equal(self.active, other.active):
            return False
        if self.point_active is None or other.point_active is None:
            return self.point_active is other.point_active
        return np.array_equal(self.point_active, other.point_active)


class _Memory:
    """Arrays of past views, handed out again once nobody holds them: fresh pages cost as much as the kernel."""

    def __init__(self) -> None:
        self._arrays: list[NDArray[Any]] = []

    def take(self, length: int, dtype: type[np.generic]) -> NDArray[Any]:
        """An array that nobody else holds, its contents undefined."""
        for index in range(len(self._arrays)):
            fits = self._arrays[index].shape == (length,) and self._arrays[index].dtype == dtype
            if fits and _references(self._arrays, index) == _UNHELD:
                return self._arrays[index]
        array = np.empty(length, dtype=dtype)
        self._arrays = [*self._arrays[1 - _ARRAYS_KEPT :], array]
        return array


def _references(arrays: list[NDArray[Any]], index: int) -> int:
    return sys.getrefcount(arrays[index])


_UNHELD: Final = _references([np.empty(0)], 0)
"""Reference count of an array that only a list holds, as :func:`_references` sees it."""


def grid_points(grid: BevGrid, heights_m: Sequence[float]) -> NDArray[np.float64]:
    """Cell centres at several heights above the ground, float64 [cells, heights, 3], metres in the ego frame."""
    heights = np.asarray(heights_m, dtype=np.float64)
    if heights.ndim != 1 or len(heights) == 0 or not np.isfinite(heights).all():
        raise InvalidArgument(expected("heights_m", "one or more finite numbers", heights_m))
    points = np.empty((grid.cells, len(heights), 3))
    points[..., :2] = grid.centres().reshape(-1, 1, 2)
    points[..., 2] = heights
    return points


def _ground_displacements(
    corners: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bounds of :meth:`ViewBuilder.displacement_m`, [cameras]; both arrays are camera_from_points [cameras, 3, 4]."""
    rotation, translation = after[:, :, :3], after[:, :, 3:]
    in_cameras = corners @ before[:, :, :3].swapaxes(1, 2) + (before[:, :, 3:] - translation).swapaxes(1, 2)
    moved = in_cameras @ rotation - corners
    centre = -rotation.swapaxes(1, 2) @ translation
    sideways = np.hypot(moved[..., 0], moved[..., 1]).max(axis=1)
    upwards = np.abs(moved[..., 2]).max(axis=1)
    clearance = centre[:, 2, 0] - upwards
    reach = np.hypot(corners[:, 0] - centre[:, 0], corners[:, 1] - centre[:, 1]).max(axis=1)
    bounds = sideways + (reach + sideways) * upwards / np.where(clearance > 0, clearance, 1.0)
    return np.where(upwards < _LEVEL_M, sideways, np.where(clearance > 0, bounds, np.inf))


def _corners(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 8 corners of the box around points [n, 3]."""
    if len(points) == 0:
        return np.zeros((8, 3))
    low, high = points.min(axis=0), points.max(axis=0)
    return np.array([[(low, high)[i >> axis & 1][axis] for axis in range(3)] for i in range(8)])


def _mask(what: str, values: ArrayLike | None, length: int) -> NDArray[np.uint8]:
    if values is None:
        return np.ones(length, dtype=np.uint8)
    mask = np.array(values, dtype=np.bool_).astype(np.uint8)
    if mask.shape != (length,):
        raise InvalidArgument(expected(what, f"of shape ({length},)", mask.shape))
    return mask
