# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Points into cameras: the sparse view matrix.

A row of the matrix belongs to a point, a column to a feature pixel, `camera * (h * w) + v * w + u`. A camera that sees
the point gives four entries, the bilinear weights of the feature pixels around the projection (clamped at the edges of
the feature map) times the camera's share; the shares of a row sum to 1.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

import numpy as np

from . import crew
from .border import require, require_finite, require_threads

ctypedef float float32_t
ctypedef double float64_t

cdef extern from *:
    """
    #ifdef _OPENMP
    #define OCTOBEV_OPENMP 1
    #else
    #define OCTOBEV_OPENMP 0
    #endif
    """
    const bint OCTOBEV_OPENMP

cdef extern from "project.h" nogil:
    const int TILE_POINTS, MAX_CAMERAS, LENS_PARAMETERS, KANNALA_BRANDT

    ctypedef struct Scene:
        const double* points
        const uint8_t* point_active
        ptrdiff_t count
        const double* camera_from_points
        const int32_t* lens_models
        const double* lens
        const double* limits
        const double* image_size
        const uint8_t* active
        ptrdiff_t cameras
        ptrdiff_t feature_width, feature_height
        double stride, border_px
        int by_resolution

    void find_cones(Scene* scene) noexcept

    ctypedef struct Matrix:
        const Scene* scene
        int32_t* indptr
        int32_t* indices
        float* weights
        float* depths
        uint64_t* seen_by
        ptrdiff_t capacity
        int64_t* ends

    void build_tile(void* job, ptrdiff_t tile) noexcept

cdef extern from "crew.h" nogil:
    ctypedef void (*CrewWork)(void* job, ptrdiff_t part) noexcept
    ctypedef void (*CrewRun)(int threads, ptrdiff_t parts, CrewWork work, void* job) noexcept

cdef CrewRun crew_run = <CrewRun> PyCapsule_GetPointer(crew.RUN, "octobev._ext.crew.run")


def openmp_enabled():
    """Whether the kernels were compiled with OpenMP; without it they run on one thread."""
    return bool(OCTOBEV_OPENMP)


def build(
    const float64_t[:, ::1] points not None,                  # IN [points, 3], NaN: seen by no camera
    const float64_t[:, :, ::1] camera_from_points not None,   # IN [cameras, 3, 4]
    const int32_t[::1] lens_models not None,                  # IN [cameras], LensModel.code
    const float64_t[:, ::1] lens not None,                    # IN [cameras, 12], fx fy cx cy, coefficients
    const float64_t[::1] limits not None,                     # IN [cameras], Intrinsics.limit
    const float64_t[:, ::1] image_size not None,              # IN [cameras, 2], width and height, network pixels
    const uint8_t[::1] active not None,                       # IN [cameras], 0: takes no part
    Py_ssize_t feature_width,
    Py_ssize_t feature_height,
    double stride,
    *,
    str weighting="resolution",
    double border_px=0.0,
    const uint8_t[::1] point_active=None,                     # IN [points], 0: row stays empty
    int32_t[::1] indptr not None,                             # OUT [points + 1]
    int32_t[::1] indices not None,                            # OUT [capacity]
    float32_t[::1] weights not None,                          # OUT [capacity]
    float32_t[::1] depths not None,                           # OUT [capacity], along the optical axis, metres
    uint64_t[::1] seen_by not None,                           # OUT [points], bit i: camera i has a share
    int num_threads=1,
):
    """Build the matrix.

    A camera's share of a point is the same for all cameras ("uniform") or its pixels per metre there, fx / depth
    ("resolution"; Kannala-Brandt: fx / distance), times a ramp from 0 at the image border to 1 at `border_px`.

    Returns the number of entries. When that is more than the shortest of `indices`, `weights` and `depths` can hold,
    only the first rows were written, besides `indptr` and `seen_by`, and the caller comes again with longer ones.
    """
    cdef ptrdiff_t count = points.shape[0], cameras = camera_from_points.shape[0]
    cdef int threads = require_threads(num_threads)
    require(points.shape[1] == 3, "points", "of shape (points, 3)", (count, points.shape[1]))
    _check_cameras(camera_from_points, lens_models, lens, limits, image_size, active)
    require(feature_width >= 1 and feature_height >= 1, "feature size", "positive", f"{feature_width}x{feature_height}")
    require(
        cameras * feature_width * feature_height < 2**31, "feature pixels", "fewer than 2**31",
        cameras * feature_width * feature_height,
    )
    require(require_finite("stride", stride) > 0, "stride", "positive", stride)
    require(weighting in ("uniform", "resolution"), "weighting", "'uniform' or 'resolution'", repr(weighting))
    require(require_finite("border_px", border_px) >= 0, "border_px", "not negative", border_px)
    require(
        point_active is None or point_active.shape[0] == count, "point_active", f"of length {count}",
        None if point_active is None else point_active.shape[0],
    )
    require(indptr.shape[0] == count + 1, "indptr", f"of length {count + 1}", indptr.shape[0])
    require(seen_by.shape[0] == count, "seen_by", f"of length {count}", seen_by.shape[0])
    indptr[0] = 0
    if count == 0 or cameras == 0:
        indptr[:] = 0
        seen_by[:] = 0
        return 0
    cdef const uint8_t* wanted = NULL
    if point_active is not None:
        wanted = &point_active[0]
    cdef Scene scene = Scene(
        &points[0, 0], wanted, count,
        &camera_from_points[0, 0, 0], &lens_models[0], &lens[0, 0], &limits[0], &image_size[0, 0], &active[0], cameras,
        feature_width, feature_height, stride, border_px, weighting == "resolution",
    )
    cdef ptrdiff_t tiles = (count + TILE_POINTS - 1) // TILE_POINTS
    cdef int64_t[::1] ends = np.full(tiles, -1, np.int64)
    cdef Matrix matrix = Matrix(
        &scene, &indptr[0], NULL, NULL, NULL, &seen_by[0],
        min(indices.shape[0], weights.shape[0], depths.shape[0]), &ends[0],
    )
    if matrix.capacity:
        matrix.indices, matrix.weights, matrix.depths = &indices[0], &weights[0], &depths[0]
    with nogil:
        find_cones(&scene)
        crew_run(threads, tiles, build_tile, &matrix)
    cdef int64_t entries = ends[tiles - 1]
    require(entries < <int64_t> 2**31, "entries of the matrix", "fewer than 2**31", entries)
    return entries


def _check_cameras(
    const float64_t[:, :, ::1] camera_from_points, const int32_t[::1] lens_models, const float64_t[:, ::1] lens,
    const float64_t[::1] limits, const float64_t[:, ::1] image_size, const uint8_t[::1] active,
):
    cdef Py_ssize_t n = camera_from_points.shape[0]
    require(n <= MAX_CAMERAS, "cameras", f"at most {MAX_CAMERAS}", n)
    require(
        camera_from_points.shape[1] == 3 and camera_from_points.shape[2] == 4, "camera_from_points",
        "of shape (cameras, 3, 4)", (n, camera_from_points.shape[1], camera_from_points.shape[2]),
    )
    require(lens_models.shape[0] == n, "lens_models", f"of length {n}", lens_models.shape[0])
    require(
        lens.shape[0] == n and lens.shape[1] == LENS_PARAMETERS, "lens", f"of shape ({n}, {LENS_PARAMETERS})",
        (lens.shape[0], lens.shape[1]),
    )
    require(limits.shape[0] == n, "limits", f"of length {n}", limits.shape[0])
    require(
        image_size.shape[0] == n and image_size.shape[1] == 2, "image_size", f"of shape ({n}, 2)",
        (image_size.shape[0], image_size.shape[1]),
    )
    require(active.shape[0] == n, "active", f"of length {n}", active.shape[0])
    for what, values in (("camera_from_points", camera_from_points), ("lens", lens), ("image_size", image_size)):
        require(bool(np.isfinite(values).all()), what, "finite", "NaN or infinity")
    require(not np.isnan(limits).any(), "limits", "numbers", "NaN")
    models = np.asarray(lens_models)
    require(
        bool(((models >= 0) & (models <= KANNALA_BRANDT)).all()), "lens_models", f"between 0 and {KANNALA_BRANDT}",
        models.tolist(),
    )
