# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""BEV rasters under ego-motion."""

from cython.parallel cimport prange
from libc.math cimport floor
from libc.stdint cimport uint8_t

ctypedef float float32_t

import numpy as np

from .border import require, require_apart, require_finite, require_threads


cdef inline float _sample(const float32_t[:, :, ::1] s, Py_ssize_t c, Py_ssize_t i, Py_ssize_t j, float fill) noexcept nogil:
    if i < 0 or j < 0 or i >= s.shape[1] or j >= s.shape[2]:
        return fill
    return s[c, i, j]


def warp_planes(const float32_t[:, :, ::1] source not None, const double[:, :] source_from_target not None,
                float32_t[:, :, ::1] out not None, float fill=0.0, int num_threads=1):
    cdef Py_ssize_t i, j, c, i0, j0
    cdef double x, y
    cdef float a, b
    cdef int threads = require_threads(num_threads)
    cdef const double[:, :] m = source_from_target
    require(m.shape[0] == 2 and m.shape[1] == 3, "source_from_target", "of shape (2, 3)", (m.shape[0], m.shape[1]))
    require(bool(np.isfinite(source_from_target).all()), "source_from_target", "finite", np.asarray(source_from_target).tolist())
    require(out.shape[0] == source.shape[0], "out", f"{source.shape[0]} planes", out.shape[0])
    require_apart("out", out.base, source.base)
    for i in prange(out.shape[1], nogil=True, num_threads=threads, schedule="static"):
        for j in range(out.shape[2]):
            x = m[0, 0] * i + m[0, 1] * j + m[0, 2]
            y = m[1, 0] * i + m[1, 1] * j + m[1, 2]
            x = min(max(x, -2.0), source.shape[1] + 1.0)
            y = min(max(y, -2.0), source.shape[2] + 1.0)
            i0 = <Py_ssize_t>floor(x)
            j0 = <Py_ssize_t>floor(y)
            a = <float>(x - i0)
            b = <float>(y - j0)
            for c in range(out.shape[0]):
                out[c, i, j] = ((1 - a) * ((1 - b) * _sample(source, c, i0, j0, fill) + b * _sample(source, c, i0, j0 + 1, fill))
                                + a * ((1 - b) * _sample(source, c, i0 + 1, j0, fill) + b * _sample(source, c, i0 + 1, j0 + 1, fill)))


def warp_mask(const uint8_t[:, ::1] source not None, const double[:, :] source_from_target not None,
              uint8_t[:, ::1] out not None, int num_threads=1):
    cdef Py_ssize_t i, j
    cdef double x, y
    cdef int threads = require_threads(num_threads)
    cdef const double[:, :] m = source_from_target
    require(m.shape[0] == 2 and m.shape[1] == 3, "source_from_target", "of shape (2, 3)", (m.shape[0], m.shape[1]))
    require(bool(np.isfinite(source_from_target).all()), "source_from_target", "finite", np.asarray(source_from_target).tolist())
    require_apart("out", out.base, source.base)
    for i in prange(out.shape[0], nogil=True, num_threads=threads, schedule="static"):
        for j in range(out.shape[1]):
            x = floor(m[0, 0] * i + m[0, 1] * j + m[0, 2] + 0.5)
            y = floor(m[1, 0] * i + m[1, 1] * j + m[1, 2] + 0.5)
            if x >= 0 and y >= 0 and x < source.shape[0] and y < source.shape[1]:
                out[i, j] = source[<Py_ssize_t>x, <Py_ssize_t>y]
            else:
                out[i, j] = 0
