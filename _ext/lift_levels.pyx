# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Sparse matrix times features in levels of 8 bits, written in levels of 8 bits.

A matrix is three arrays in compressed rows, as in lift.pyx, its weights whole numbers. Level l of an array stands for
`(l - zero) * scale`.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.float cimport FLT_MAX
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int16_t, int32_t, uint8_t

from . import crew
from .border import require, require_apart, require_threads

ctypedef float float32_t

cdef extern from "crew.h" nogil:
    ctypedef void (*CrewWork)(void* job, ptrdiff_t part) noexcept
    ctypedef void (*CrewRun)(int threads, ptrdiff_t parts, CrewWork work, void* job) noexcept

cdef extern from "lift_levels.h" nogil:
    const int FIXED_ONE, LEVEL_ROWS

    ctypedef struct LevelLift:
        const int32_t* indptr
        const int32_t* indices
        const int16_t* weights
        ptrdiff_t rows, entries, pixels
        const uint8_t* features
        ptrdiff_t channels
        int zero
        float factor
        int out_zero
        int dots
        uint8_t* out
        int faulty

    int has_dots() noexcept
    ptrdiff_t fix_weights(const float* weights, ptrdiff_t count, int16_t* fixed) noexcept
    void lift_levels_part(void* job, ptrdiff_t part) noexcept

cdef CrewRun crew_run = <CrewRun> PyCapsule_GetPointer(crew.RUN, "octobev._ext.crew.run")


def is_quick():
    """Whether the processor has instructions for it; without them, a lift of floats is quicker."""
    return has_dots() != 0


def fixed_weights(
    const float32_t[::1] weights not None,     # IN [entries], 0..1
    int16_t[::1] out not None,                 # OUT, at least as long
):
    """Round weights to the whole numbers that :func:`lift_levels` takes: 32767 stands for 1."""
    cdef ptrdiff_t count = weights.shape[0], wrong
    require(out.shape[0] >= count, "out", f"at least {count} long", out.shape[0])
    if count == 0:
        return
    with nogil:
        wrong = fix_weights(&weights[0], count, &out[0])
    require(wrong == 0, "weights", "0..1", f"{wrong} others")


def lift_levels(
    const int32_t[::1] indptr not None,        # IN [rows + 1]
    const int32_t[::1] indices not None,       # IN [entries]
    const int16_t[::1] weights not None,       # IN [entries], of fixed_weights; those of a row add up to 200 at most
    const uint8_t[:, ::1] features not None,   # IN [pixels, channels]
    double scale,
    int zero_point,
    uint8_t[:, ::1] out not None,              # OUT [rows, channels]
    double out_scale,
    int out_zero_point,
    int num_threads=1,
    bint plain=False,
):
    """Write `out[r] = round(sum over the row's entries of weight * feature / out_scale) + out_zero_point`, in 0..255.

    A weight is rounded to 1 / 32767 beforehand, the sum to float32, halves of levels to even. `plain`: without special
    instructions; the result is the same.
    """
    cdef ptrdiff_t rows = indptr.shape[0] - 1
    cdef int threads = require_threads(num_threads)
    require(rows >= 0, "indptr", "of length rows + 1", indptr.shape[0])
    require(indptr[0] == 0, "indptr", "starting at 0", indptr[0])
    cdef ptrdiff_t entries = indptr[rows], entry
    require(indices.shape[0] >= entries, "indices", f"at least {entries} long", indices.shape[0])
    require(weights.shape[0] >= entries, "weights", f"at least {entries} long", weights.shape[0])
    require(
        out.shape[0] == rows and out.shape[1] == features.shape[1], "out", f"of shape ({rows}, {features.shape[1]})",
        (out.shape[0], out.shape[1]),
    )
    require(0 <= zero_point <= 255, "zero_point", "0..255", zero_point)
    require(0 <= out_zero_point <= 255, "out_zero_point", "0..255", out_zero_point)
    cdef float factor = <float> (scale / (FIXED_ONE * out_scale)) if scale > 0 and out_scale > 0 else 0
    require(0 < factor <= FLT_MAX, "scale and out_scale", "positive, their ratio finite in float32", (scale, out_scale))
    require_apart("out", out.base, features.base)
    if rows == 0 or features.shape[1] == 0:
        return
    if entries == 0:
        _check_rows(indptr)
        out[:, :] = out_zero_point
        return
    require(features.shape[0] > 0, "features", "one a column", "none")
    cdef LevelLift job = LevelLift(
        &indptr[0], &indices[0], &weights[0], rows, entries, features.shape[0], &features[0, 0], features.shape[1],
        zero_point, factor, out_zero_point, has_dots() and not plain, &out[0, 0], False,
    )
    with nogil:
        crew_run(threads, (rows + LEVEL_ROWS - 1) // LEVEL_ROWS, lift_levels_part, &job)
    if job.faulty:
        _check_rows(indptr)
        for entry in range(entries):
            require(
                0 <= indices[entry] < features.shape[0], "indices", f"columns below {features.shape[0]}",
                f"{indices[entry]} at {entry}",
            )


cdef int _check_rows(const int32_t[::1] indptr) except -1:
    """Refuse rows of which one ends before it starts."""
    cdef ptrdiff_t row
    for row in range(indptr.shape[0] - 1):
        require(indptr[row] <= indptr[row + 1], "indptr", "non-decreasing", f"a step back after row {row}")
    return 0
