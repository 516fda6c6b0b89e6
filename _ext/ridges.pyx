# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Ridges of a smoothed raster: which cells bend down like a line, and the way from a cell to the crest.

Places are in cells, whole numbers being cell centres. octobev.fusion.ridges has the mathematics.
"""

from libc.math cimport atan2, cos, isfinite, log, rint, sin, sqrt
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t

from .border import require

ctypedef float float32_t
ctypedef double float64_t

cdef extern from "math.h" nogil:
    float sqrtf(float)

cdef double FLOOR = 1e-3  # added before the logarithm
cdef double FLAT = 1e-6   # a ridge bends down at least so much
cdef double QUARTER_TURN = 1.5707963267948966


def find(
    const float32_t[:, ::1] values not None,    # IN [nx, ny]
    const uint8_t[:, ::1] observed not None,    # IN [nx, ny]
    const float32_t[:, ::1] smoothed not None,  # IN [nx + 2, ny + 2], a border of one cell around the grid
    float threshold,
    float least_height,                         # of the smoothed raster, relative to the strength
    float least_bend,                           # across the line, relative to the smoothed raster
    float32_t[:, ::1] strength not None,        # OUT [nx, ny], largest observed value within one cell; 0: not observed
    uint8_t[:, ::1] ridge not None,             # OUT [nx, ny], 1 where the raster bends down like a line, otherwise 0
):
    """Find the cells of ridges whose strength comes to a threshold.

    What bends down at the rim of an area is taken away again: there the way to the crest leads out of the ridge.
    """
    cdef ptrdiff_t nx = values.shape[0], ny = values.shape[1], i, j, a, b
    cdef float highest, inner
    cdef ptrdiff_t[2] at
    _require_shape("observed", observed.shape[0], observed.shape[1], nx, ny)
    _require_shape("smoothed", smoothed.shape[0], smoothed.shape[1], nx + 2, ny + 2)
    _require_shape("strength", strength.shape[0], strength.shape[1], nx, ny)
    _require_shape("ridge", ridge.shape[0], ridge.shape[1], nx, ny)
    with nogil:
        for i in range(nx):
            for j in range(ny):
                highest = 0
                if observed[i, j]:
                    for a in range(max(i - 1, 0), min(i + 2, nx)):
                        for b in range(max(j - 1, 0), min(j + 2, ny)):
                            if observed[a, b] and values[a, b] > highest:
                                highest = values[a, b]
                strength[i, j] = highest
                inner = smoothed[i + 1, j + 1]
                ridge[i, j] = (
                    highest >= threshold
                    and inner >= least_height * highest
                    and _lowest_bend(smoothed, i, j) < -least_bend * inner
                )
        for i in range(nx):
            for j in range(ny):
                if ridge[i, j] == 1:
                    _climb(smoothed, i, j, nx, ny, at)
                    if ridge[at[0], at[1]] == 0 and strength[at[0], at[1]] > 0:
                        ridge[i, j] = 2  # still a ridge for those that lead here
        for i in range(nx):
            for j in range(ny):
                if ridge[i, j] == 2:
                    ridge[i, j] = 0


def crest(
    const float32_t[:, ::1] smoothed not None,  # IN [nx + 2, ny + 2]
    const int32_t[:, ::1] cells not None,       # IN [n, 2], on the grid
    float64_t[:, ::1] points not None,          # OUT [n, 2]
):
    """Points of the crest near cells: at most 2.5 cells from them along each axis."""
    cdef ptrdiff_t nx = smoothed.shape[0] - 2, ny = smoothed.shape[1] - 2, n = cells.shape[0], k
    cdef ptrdiff_t[2] at
    cdef double[2] way
    require(nx >= 0 and ny >= 0, "smoothed", "of 2 x 2 cells or more", (smoothed.shape[0], smoothed.shape[1]))
    _require_shape("cells", cells.shape[0], cells.shape[1], n, 2)
    _require_shape("points", points.shape[0], points.shape[1], n, 2)
    for k in range(n):
        require(0 <= cells[k, 0] < nx and 0 <= cells[k, 1] < ny, "cells", "on the grid", (cells[k, 0], cells[k, 1]))
    with nogil:
        for k in range(n):
            _climb(smoothed, cells[k, 0], cells[k, 1], nx, ny, at)
            _to_crest(smoothed, at[0], at[1], way)
            points[k, 0] = at[0] + min(max(way[0], -0.5), 0.5)
            points[k, 1] = at[1] + min(max(way[1], -0.5), 0.5)


cdef int _require_shape(str what, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t nx, ptrdiff_t ny) except -1:
    require((rows, columns) == (nx, ny), what, f"of shape {(nx, ny)}", (rows, columns))
    return 0


cdef inline float _lowest_bend(const float32_t[:, ::1] v, ptrdiff_t i, ptrdiff_t j) noexcept nogil:
    """Lowest eigenvalue of the Hessian in cell (i, j), which is (i + 1, j + 1) of the smoothed raster."""
    cdef float doubled = 2 * v[i + 1, j + 1]
    cdef float xx = v[i + 2, j + 1] - doubled + v[i, j + 1]
    cdef float yy = v[i + 1, j + 2] - doubled + v[i + 1, j]
    cdef float xy = (v[i + 2, j + 2] - v[i + 2, j] - v[i, j + 2] + v[i, j]) / 4
    cdef float half = (xx - yy) / 2
    return (xx + yy) / 2 - sqrtf(half * half + xy * xy)


cdef void _climb(
    const float32_t[:, ::1] smoothed, ptrdiff_t i, ptrdiff_t j, ptrdiff_t nx, ptrdiff_t ny, ptrdiff_t* at
) noexcept nogil:
    """The cell that the way up leads to in two steps of at most a cell along each axis."""
    cdef double[2] way
    cdef int _step
    at[0], at[1] = i, j
    for _step in range(2):
        _to_crest(smoothed, at[0], at[1], way)
        at[0] = min(max(at[0] + <ptrdiff_t>rint(way[0]), 0), nx - 1)
        at[1] = min(max(at[1] + <ptrdiff_t>rint(way[1]), 0), ny - 1)


cdef void _to_crest(const float32_t[:, ::1] smoothed, ptrdiff_t i, ptrdiff_t j, double* way) noexcept nogil:
    """Way from a cell's centre to the crest, at most one cell long; none where the raster is not finite."""
    cdef double[3][3] v
    cdef double gx, gy, xx, yy, xy, half, bend, angle, normal_x, normal_y, length
    cdef ptrdiff_t a, b
    for a in range(3):
        for b in range(3):
            v[a][b] = log(<double>smoothed[i + a, j + b] + FLOOR)
    gx, gy = (v[2][1] - v[0][1]) / 2, (v[1][2] - v[1][0]) / 2
    xx, yy = v[2][1] - 2 * v[1][1] + v[0][1], v[1][2] - 2 * v[1][1] + v[1][0]
    xy = (v[2][2] - v[2][0] - v[0][2] + v[0][0]) / 4
    half = (xx - yy) / 2
    bend = min((xx + yy) / 2 - sqrt(half * half + xy * xy), -FLAT)
    angle = atan2(2 * xy, xx - yy) / 2 + QUARTER_TURN
    normal_x, normal_y = cos(angle), sin(angle)
    length = -(gx * normal_x + gy * normal_y) / bend
    if not isfinite(length):
        way[0] = way[1] = 0
        return
    length = min(max(length, -1.0), 1.0)
    way[0], way[1] = length * normal_x, length * normal_y
