# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Top-down rasters under ego-motion.

`source_from_target` is an affine map of cell indices, [2, 3]: the centre of target cell (i, j) lies at
`source_from_target @ (i, j, 1)` of the source, whole numbers being cell centres.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from cython.parallel cimport prange
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t

import numpy as np

from . import crew
from .border import require, require_apart, require_finite, require_threads

ctypedef float float32_t
ctypedef double float64_t

cdef extern from "crew.h" nogil:
    ctypedef void (*CrewWork)(void* job, ptrdiff_t part) noexcept
    ctypedef void (*CrewRun)(int threads, ptrdiff_t parts, CrewWork work, void* job) noexcept

cdef extern from "warp.h" nogil:
    ctypedef struct Warp:
        ptrdiff_t nx, ny
        ptrdiff_t target_nx, target_ny
        ptrdiff_t planes
        double source_from_target[6]
        float fill
        const float* source
        float* out

    ptrdiff_t warp_parts(const Warp* warp) noexcept
    int warp_threads(const Warp* warp, int threads) noexcept
    void warp_part(void* job, ptrdiff_t part) noexcept
    void warp_mask_row(const Warp* warp, const uint8_t* source, uint8_t* out, ptrdiff_t i) noexcept

cdef CrewRun crew_run = <CrewRun> PyCapsule_GetPointer(crew.RUN, "octobev._ext.crew.run")


def warp_planes(
    const float32_t[:, :, ::1] source not None,         # IN [planes, nx, ny]
    const float64_t[:, :] source_from_target not None,  # IN [2, 3]
    float32_t[:, :, ::1] out not None,                  # OUT [planes, nx of the target, ny of the target]
    float fill=0.0,
    int num_threads=1,
):
    """Sample every plane, bilinear; cells outside of the source count as `fill`.

    Of `num_threads` so many take part as come in time to help: one for each 2**18 values.
    """
    cdef Warp warp
    cdef int threads = require_threads(num_threads)
    require(out.shape[0] == source.shape[0], "planes of out", f"{source.shape[0]}", out.shape[0])
    require_finite("fill", fill)
    require_apart("out", out.base, source.base)
    _describe(source_from_target, source.shape[1], source.shape[2], out.shape[1], out.shape[2], &warp)
    warp.planes, warp.fill = source.shape[0], fill
    if out.shape[0] == 0 or out.shape[1] == 0 or out.shape[2] == 0:
        return
    if warp.nx == 0 or warp.ny == 0:
        out[:, :, :] = fill
        return
    warp.source, warp.out = &source[0, 0, 0], &out[0, 0, 0]
    with nogil:
        crew_run(warp_threads(&warp, threads), warp_parts(&warp), warp_part, &warp)


def warp_mask(
    const uint8_t[:, ::1] source not None,              # IN [nx, ny]
    const float64_t[:, :] source_from_target not None,  # IN [2, 3]
    uint8_t[:, ::1] out not None,                       # OUT [nx of the target, ny of the target]
    int num_threads=1,
):
    """Take the nearest cell; 0 outside of the source."""
    cdef Warp warp
    cdef ptrdiff_t i
    cdef int threads = require_threads(num_threads)
    require_apart("out", out.base, source.base)
    _describe(source_from_target, source.shape[0], source.shape[1], out.shape[0], out.shape[1], &warp)
    if out.shape[0] == 0 or out.shape[1] == 0:
        return
    if warp.nx == 0 or warp.ny == 0:
        out[:, :] = 0
        return
    for i in prange(warp.target_nx, nogil=True, num_threads=threads, schedule="static"):
        warp_mask_row(&warp, &source[0, 0], &out[0, 0], i)


cdef int _describe(
    const float64_t[:, :] matrix, ptrdiff_t nx, ptrdiff_t ny, ptrdiff_t target_nx, ptrdiff_t target_ny, Warp* warp
) except -1:
    cdef int row, column
    shape = (matrix.shape[0], matrix.shape[1])
    require(shape == (2, 3), "source_from_target", "of shape (2, 3)", shape)
    require(bool(np.isfinite(matrix).all()), "source_from_target", "finite", np.asarray(matrix).tolist())
    require(nx * ny < 2**31, "cells of source", "fewer than 2**31", nx * ny)
    warp.nx, warp.ny, warp.target_nx, warp.target_ny = nx, ny, target_nx, target_ny
    for row in range(2):
        for column in range(3):
            warp.source_from_target[3 * row + column] = matrix[row, column]
    return 0
