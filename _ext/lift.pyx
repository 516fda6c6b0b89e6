# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Sparse matrix times features."""

cimport cython
from cython.parallel cimport prange
from libc.math cimport exp, isfinite
from libc.stdint cimport int32_t

ctypedef float float32_t

from .border import require, require_apart, require_finite, require_threads


cdef int _check_matrix(const int32_t[::1] indptr, const int32_t[::1] indices, Py_ssize_t values, Py_ssize_t columns) except -1:
    cdef Py_ssize_t i, n = indptr.shape[0] - 1
    require(n >= 0, "indptr", "of length rows + 1", indptr.shape[0])
    require(indptr[0] == 0, "indptr", "starting at 0", indptr[0])
    for i in range(n):
        if indptr[i + 1] < indptr[i]:
            require(False, "indptr", "non-decreasing", f"a step back at row {i}")
    require(indptr[n] <= indices.shape[0], "indices", f"at least {indptr[n]} entries", indices.shape[0])
    require(indptr[n] <= values, "weights", f"at least {indptr[n]} entries", values)
    for i in range(indptr[n]):
        if indices[i] < 0 or indices[i] >= columns:
            require(False, "indices", f"between 0 and {columns - 1}", f"{indices[i]} at entry {i}")
    return 0


def lift_rows(const int32_t[::1] indptr not None, const int32_t[::1] indices not None, const float32_t[::1] weights not None,
              const float32_t[:, ::1] features not None, float32_t[:, ::1] out not None, int num_threads=1):
    cdef Py_ssize_t r, k, c, n = indptr.shape[0] - 1, channels = features.shape[1]
    cdef int threads = require_threads(num_threads)
    _check_matrix(indptr, indices, weights.shape[0], features.shape[0])
    require(out.shape[0] == n and out.shape[1] == channels, "out", f"of shape ({n}, {channels})", (out.shape[0], out.shape[1]))
    require_apart("out", out.base, features.base)
    for r in prange(n, nogil=True, num_threads=threads, schedule="static"):
        for c in range(channels):
            out[r, c] = 0
        for k in range(indptr[r], indptr[r + 1]):
            for c in range(channels):
                out[r, c] = out[r, c] + weights[k] * features[indices[k], c]


def lift_planes(const int32_t[::1] indptr not None, const int32_t[::1] indices not None, const float32_t[::1] weights not None,
                const float32_t[:, ::1] features not None, Py_ssize_t heights, float32_t[:, ::1] out not None, int num_threads=1):
    cdef Py_ssize_t cell, h, k, c, n = indptr.shape[0] - 1, channels = features.shape[1]
    cdef int threads = require_threads(num_threads)
    _check_matrix(indptr, indices, weights.shape[0], features.shape[0])
    require(heights >= 1 and n % heights == 0, "heights", f"a divisor of {n} rows", heights)
    cdef Py_ssize_t cells = n // heights
    require(out.shape[0] == heights * channels and out.shape[1] == cells, "out", f"of shape ({heights * channels}, {cells})", (out.shape[0], out.shape[1]))
    require_apart("out", out.base, features.base)
    for cell in prange(cells, nogil=True, num_threads=threads, schedule="static"):
        for h in range(heights):
            for c in range(channels):
                out[h * channels + c, cell] = 0
            for k in range(indptr[cell * heights + h], indptr[cell * heights + h + 1]):
                for c in range(channels):
                    out[h * channels + c, cell] = out[h * channels + c, cell] + weights[k] * features[indices[k], c]


def depth_weights(const int32_t[::1] indptr not None, const int32_t[::1] indices not None, const float32_t[::1] weights not None,
                  const float32_t[::1] depths not None, const float32_t[::1] depth_map not None, double sigma_m, double sigma_relative,
                  float32_t[::1] out_weights not None, float32_t[::1] mass not None, int num_threads=1):
    cdef Py_ssize_t r, k, n = indptr.shape[0] - 1
    cdef int threads = require_threads(num_threads)
    cdef double d, m, s
    _check_matrix(indptr, indices, weights.shape[0], depth_map.shape[0])
    require(mass.shape[0] == n, "mass", f"of length {n}", mass.shape[0])
    require(depths.shape[0] >= indptr[n], "depths", f"at least {indptr[n]} entries", depths.shape[0])
    require(out_weights.shape[0] >= indptr[n], "out_weights", f"at least {indptr[n]} entries", out_weights.shape[0])
    require(sigma_m >= 0 and sigma_relative >= 0 and sigma_m + sigma_relative > 0, "sigma_m and sigma_relative", "not negative, one of them positive", (sigma_m, sigma_relative))
    for r in prange(n, nogil=True, num_threads=threads, schedule="static"):
        mass[r] = 0
        for k in range(indptr[r], indptr[r + 1]):
            m = depth_map[indices[k]]
            d = depths[k]
            if isfinite(m) and m > 0 and d > 0:
                s = (m - d) / (sigma_m + sigma_relative * d)
                out_weights[k] = weights[k] * exp(-0.5 * s * s)
            else:
                out_weights[k] = 0
            mass[r] = mass[r] + out_weights[k]


def row_mass(const int32_t[::1] indptr not None, const float32_t[::1] weights not None, float32_t[::1] mass not None, int num_threads=1):
    cdef Py_ssize_t r, k, n = indptr.shape[0] - 1
    cdef int threads = require_threads(num_threads)
    require(n >= 0 and mass.shape[0] == n, "mass", f"of length {n}", mass.shape[0])
    require(indptr[n] <= weights.shape[0], "weights", f"at least {indptr[n]} entries", weights.shape[0])
    for r in prange(n, nogil=True, num_threads=threads, schedule="static"):
        mass[r] = 0
        for k in range(indptr[r], indptr[r + 1]):
            mass[r] = mass[r] + weights[k]


def planes_to_rows(const float32_t[:, ::1] planes not None, float32_t[:, ::1] rows not None, int num_threads=1):
    cdef Py_ssize_t p, c, channels = planes.shape[0], pixels = planes.shape[1]
    cdef int threads = require_threads(num_threads)
    require(rows.shape[0] == pixels and rows.shape[1] == channels, "rows", f"of shape ({pixels}, {channels})", (rows.shape[0], rows.shape[1]))
    require_apart("rows", rows.base, planes.base)
    for p in prange(pixels, nogil=True, num_threads=threads, schedule="static"):
        for c in range(channels):
            rows[p, c] = planes[c, p]
