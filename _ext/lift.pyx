# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Sparse matrix times features.

A matrix is three arrays in compressed rows: row r has the entries `indptr[r]` to `indptr[r + 1]`, each a column
(`indices`, a feature pixel) and a weight. Features are rows of channels, one a pixel.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from cython.parallel cimport prange
from libc.float cimport FLT_MAX
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t

from . import crew
from .border import require, require_apart, require_finite, require_threads

ctypedef float float32_t

cdef extern from "crew.h" nogil:
    ctypedef void (*CrewWork)(void* job, ptrdiff_t part) noexcept
    ctypedef void (*CrewRun)(int threads, ptrdiff_t parts, CrewWork work, void* job) noexcept

cdef extern from "lift.h" nogil:
    const int LIFT_ROWS, LIFT_CELLS

    ctypedef struct Lift:
        const int32_t* indptr
        const int32_t* indices
        const float* weights
        ptrdiff_t rows, entries, pixels
        const float* features
        ptrdiff_t channels, heights
        float* out
        uint8_t* levels
        float level_step
        int zero_level
        int faulty

    void lift_rows_part(void* job, ptrdiff_t part) noexcept
    void lift_level_rows_part(void* job, ptrdiff_t part) noexcept
    void lift_planes_part(void* job, ptrdiff_t part) noexcept
    ptrdiff_t first_outside(const int32_t* indices, ptrdiff_t entries, ptrdiff_t columns) noexcept
    ptrdiff_t first_step_back(const int32_t* indptr, ptrdiff_t rows) noexcept
    void depth_weights_block(
        const int32_t* indptr, const int32_t* indices, const float* weights, const float* depths,
        const float* depth_map, float sigma_m, float sigma_relative, float* out_weights, float* mass,
        ptrdiff_t first_row, ptrdiff_t last_row,
    ) noexcept
    void row_mass_block(
        const int32_t* indptr, const float* weights, float* mass, ptrdiff_t first_row, ptrdiff_t last_row,
    ) noexcept
    void planes_to_rows_block(
        const float* planes, ptrdiff_t channels, ptrdiff_t pixels, float* rows, ptrdiff_t first, ptrdiff_t last,
    ) noexcept

cdef enum:
    BLOCK_ROWS = 64

cdef CrewRun crew_run = <CrewRun> PyCapsule_GetPointer(crew.RUN, "octobev._ext.crew.run")


def lift_rows(
    const int32_t[::1] indptr not None,        # IN [rows + 1]
    const int32_t[::1] indices not None,       # IN [entries]
    const float32_t[::1] weights not None,     # IN [entries]
    const float32_t[:, ::1] features not None,  # IN [pixels, channels]
    float32_t[:, ::1] out not None,            # OUT [rows, channels]
    int num_threads=1,
):
    """Write `out[r] = sum over the row's entries of weight * features[column]`, added in their order."""
    cdef ptrdiff_t rows = indptr.shape[0] - 1
    cdef int threads = require_threads(num_threads)
    _check_lengths(indptr, indices, weights)
    _check_shape("out", out, rows, features.shape[1])
    require_apart("out", out.base, features.base)
    if rows == 0 or features.shape[1] == 0:
        return
    if not _has_entries(indptr, indices, weights, features):
        out[:, :] = 0
        return
    cdef Lift job = _lift(indptr, indices, weights, features)
    job.out = &out[0, 0]
    _run(&job, lift_rows_part, (rows + LIFT_ROWS - 1) // LIFT_ROWS, threads, indptr, indices, weights)


def lift_planes(
    const int32_t[::1] indptr not None,        # IN [cells * heights + 1], row = cell * heights + height
    const int32_t[::1] indices not None,       # IN [entries]
    const float32_t[::1] weights not None,     # IN [entries]
    const float32_t[:, ::1] features not None,  # IN [pixels, channels]
    Py_ssize_t heights,
    float32_t[:, ::1] out not None,            # OUT [heights * channels, cells], plane = height * channels + channel
    int num_threads=1,
):
    """Do what :func:`lift_rows` does and write it plane by plane, as a network with NCHW input wants it."""
    cdef ptrdiff_t rows = indptr.shape[0] - 1, cells, channels = features.shape[1]
    cdef int threads = require_threads(num_threads)
    _check_lengths(indptr, indices, weights)
    require(heights >= 1 and rows % heights == 0, "heights", f"a divisor of {rows} rows", heights)
    cells = rows // heights
    _check_shape("out", out, heights * channels, cells)
    require_apart("out", out.base, features.base)
    if rows == 0 or channels == 0:
        return
    if not _has_entries(indptr, indices, weights, features):
        out[:, :] = 0
        return
    cdef Lift job = _lift(indptr, indices, weights, features)
    job.out = &out[0, 0]
    job.heights = heights
    _run(&job, lift_planes_part, (cells + LIFT_CELLS - 1) // LIFT_CELLS, threads, indptr, indices, weights)


def lift_row_levels(
    const int32_t[::1] indptr not None,        # IN [rows + 1]
    const int32_t[::1] indices not None,       # IN [entries]
    const float32_t[::1] weights not None,     # IN [entries]
    const float32_t[:, ::1] features not None,  # IN [pixels, channels]
    uint8_t[:, ::1] out not None,              # OUT [rows, channels]
    double scale,
    int zero_point,
    int num_threads=1,
):
    """Do what :func:`lift_rows` does and write levels: `round(sum / scale) + zero_point`, within 0..255.

    Halves are rounded to even. A sum that is NaN becomes level 0.
    """
    cdef ptrdiff_t rows = indptr.shape[0] - 1
    cdef int threads = require_threads(num_threads)
    _check_lengths(indptr, indices, weights)
    _check_level_shape(out, rows, features.shape[1])
    cdef float step = _level_step(scale, zero_point)
    require_apart("out", out.base, features.base)
    if rows == 0 or features.shape[1] == 0:
        return
    if not _has_entries(indptr, indices, weights, features):
        out[:, :] = zero_point
        return
    cdef Lift job = _lift(indptr, indices, weights, features)
    job.levels = &out[0, 0]
    job.level_step = step
    job.zero_level = zero_point
    _run(&job, lift_level_rows_part, (rows + LIFT_ROWS - 1) // LIFT_ROWS, threads, indptr, indices, weights)


def lift_plane_levels(
    const int32_t[::1] indptr not None,        # IN [cells * heights + 1], row = cell * heights + height
    const int32_t[::1] indices not None,       # IN [entries]
    const float32_t[::1] weights not None,     # IN [entries]
    const float32_t[:, ::1] features not None,  # IN [pixels, channels]
    Py_ssize_t heights,
    uint8_t[:, ::1] out not None,              # OUT [heights * channels, cells], plane = height * channels + channel
    double scale,
    int zero_point,
    int num_threads=1,
):
    """Do what :func:`lift_row_levels` does and write it plane by plane."""
    cdef ptrdiff_t rows = indptr.shape[0] - 1, cells, channels = features.shape[1]
    cdef int threads = require_threads(num_threads)
    _check_lengths(indptr, indices, weights)
    require(heights >= 1 and rows % heights == 0, "heights", f"a divisor of {rows} rows", heights)
    cells = rows // heights
    _check_level_shape(out, heights * channels, cells)
    cdef float step = _level_step(scale, zero_point)
    require_apart("out", out.base, features.base)
    if rows == 0 or channels == 0:
        return
    if not _has_entries(indptr, indices, weights, features):
        out[:, :] = zero_point
        return
    cdef Lift job = _lift(indptr, indices, weights, features)
    job.heights = heights
    job.levels = &out[0, 0]
    job.level_step = step
    job.zero_level = zero_point
    _run(&job, lift_planes_part, (cells + LIFT_CELLS - 1) // LIFT_CELLS, threads, indptr, indices, weights)


def depth_weights(
    const int32_t[::1] indptr not None,        # IN [rows + 1]
    const int32_t[::1] indices not None,       # IN [entries]
    const float32_t[::1] weights not None,     # IN [entries]
    const float32_t[::1] depths not None,      # IN [entries], depth of the point, metres
    const float32_t[::1] depth_map not None,   # IN [pixels], depth seen by the pixel, metres
    double sigma_m,
    double sigma_relative,
    float32_t[::1] out_weights not None,       # OUT [entries]
    float32_t[::1] mass not None,              # OUT [rows], sums of the new weights
    int num_threads=1,
):
    """Weight entries by a normal distribution of depth.

    `out = weight * exp(-0.5 * ((seen - d) / (sigma_m + sigma_relative * d))**2)`; 0 where `seen` is not finite or not
    positive, or where d is not positive.
    """
    cdef ptrdiff_t rows, block
    cdef int threads = require_threads(num_threads)
    rows = _check_matrix(indptr, indices, weights, depth_map.shape[0])
    _check_length("depths", depths, indptr[rows])
    _check_length("out_weights", out_weights, indptr[rows])
    require(mass.shape[0] == rows, "mass", f"of length {rows}", mass.shape[0])
    require(
        require_finite("sigma_m", sigma_m) >= 0 and require_finite("sigma_relative", sigma_relative) >= 0
        and sigma_m + sigma_relative > 0,
        "sigma_m and sigma_relative", "not negative and not both 0", (sigma_m, sigma_relative),
    )
    if rows == 0:
        return
    if indptr[rows] == 0:
        mass[:] = 0
        return
    for block in prange((rows + BLOCK_ROWS - 1) // BLOCK_ROWS, nogil=True, num_threads=threads, schedule="static"):
        depth_weights_block(
            &indptr[0], &indices[0], &weights[0], &depths[0], &depth_map[0], <float> sigma_m, <float> sigma_relative,
            &out_weights[0], &mass[0], block * BLOCK_ROWS, min(rows, (block + 1) * BLOCK_ROWS),
        )


def row_mass(
    const int32_t[::1] indptr not None,        # IN [rows + 1]
    const float32_t[::1] weights not None,     # IN [entries]
    float32_t[::1] mass not None,              # OUT [rows]
    int num_threads=1,
):
    """Sum the weights of each row, in their order."""
    cdef ptrdiff_t rows = _check_rows(indptr), block
    cdef int threads = require_threads(num_threads)
    _check_length("weights", weights, indptr[rows])
    require(mass.shape[0] == rows, "mass", f"of length {rows}", mass.shape[0])
    if rows == 0:
        return
    if indptr[rows] == 0:
        mass[:] = 0
        return
    for block in prange((rows + BLOCK_ROWS - 1) // BLOCK_ROWS, nogil=True, num_threads=threads, schedule="static"):
        row_mass_block(&indptr[0], &weights[0], &mass[0], block * BLOCK_ROWS, min(rows, (block + 1) * BLOCK_ROWS))


def planes_to_rows(
    const float32_t[:, ::1] planes not None,   # IN [channels, pixels]
    float32_t[:, ::1] rows not None,           # OUT [pixels, channels]
    int num_threads=1,
):
    """Transpose feature maps into the rows that :func:`lift_rows` reads."""
    cdef ptrdiff_t channels = planes.shape[0], pixels = planes.shape[1], block
    cdef int threads = require_threads(num_threads)
    _check_shape("rows", rows, pixels, channels)
    require_apart("rows", rows.base, planes.base)
    if channels == 0 or pixels == 0:
        return
    for block in prange((pixels + BLOCK_ROWS - 1) // BLOCK_ROWS, nogil=True, num_threads=threads, schedule="static"):
        planes_to_rows_block(
            &planes[0, 0], channels, pixels, &rows[0, 0], block * BLOCK_ROWS, min(pixels, (block + 1) * BLOCK_ROWS)
        )


cdef bint _has_entries(
    const int32_t[::1] indptr, const int32_t[::1] indices, const float32_t[::1] weights,
    const float32_t[:, ::1] features,
) except -1:
    """Whether a matrix, of rows, has entries; one that has none is checked here, others while they are read."""
    if indptr[indptr.shape[0] - 1] > 0 and features.shape[0] > 0:
        return True
    _check_matrix(indptr, indices, weights, features.shape[0])
    return False


cdef int _run(
    Lift* job, CrewWork work, ptrdiff_t parts, int threads,
    const int32_t[::1] indptr, const int32_t[::1] indices, const float32_t[::1] weights,
) except -1:
    """Do the job of a matrix, and say what is wrong with it where something was."""
    with nogil:
        crew_run(threads, parts, work, job)
    if job.faulty:
        _check_matrix(indptr, indices, weights, job.pixels)
    return 0


cdef Lift _lift(
    const int32_t[::1] indptr, const int32_t[::1] indices, const float32_t[::1] weights,
    const float32_t[:, ::1] features,
):
    """The job of a matrix that has entries, without what it writes to; they are checked while it is done."""
    cdef ptrdiff_t rows = indptr.shape[0] - 1
    return Lift(
        &indptr[0], &indices[0], &weights[0], rows, indptr[rows], features.shape[0],
        &features[0, 0], features.shape[1], 1, NULL, NULL, 0, 0, False,
    )


cdef int _check_lengths(
    const int32_t[::1] indptr, const int32_t[::1] indices, const float32_t[::1] weights
) except -1:
    """What can be said of a matrix without reading it."""
    require(indptr.shape[0] >= 1, "indptr", "of length rows + 1", indptr.shape[0])
    require(indptr[0] == 0, "indptr", "starting at 0", indptr[0])
    cdef ptrdiff_t entries = indptr[indptr.shape[0] - 1]
    require(indices.shape[0] >= entries, "indices", f"at least {entries} long", indices.shape[0])
    return _check_length("weights", weights, entries)


cdef ptrdiff_t _check_rows(const int32_t[::1] indptr) except -1:
    """Number of rows of a matrix whose `indptr` is sound."""
    require(indptr.shape[0] >= 1, "indptr", "of length rows + 1", indptr.shape[0])
    require(indptr[0] == 0, "indptr", "starting at 0", indptr[0])
    cdef ptrdiff_t rows = indptr.shape[0] - 1, row
    with nogil:
        row = first_step_back(&indptr[0], rows)
    require(row < 0, "indptr", "non-decreasing", f"a step back after row {row}")
    return rows


cdef ptrdiff_t _check_matrix(
    const int32_t[::1] indptr, const int32_t[::1] indices, const float32_t[::1] weights, ptrdiff_t columns
) except -1:
    """Number of rows of a matrix that reads no column that is not there."""
    cdef ptrdiff_t rows = _check_rows(indptr), entry = -1, entries = indptr[rows]
    _check_lengths(indptr, indices, weights)
    if entries:
        with nogil:
            entry = first_outside(&indices[0], entries, columns)
    require(entry < 0, "indices", f"columns below {columns}", f"{indices[entry] if entry >= 0 else None} at {entry}")
    return rows


cdef int _check_length(str what, const float32_t[::1] values, ptrdiff_t entries) except -1:
    require(values.shape[0] >= entries, what, f"at least {entries} long", values.shape[0])
    return 0


cdef int _check_shape(str what, const float32_t[:, ::1] values, ptrdiff_t rows, ptrdiff_t columns) except -1:
    require(
        values.shape[0] == rows and values.shape[1] == columns, what, f"of shape ({rows}, {columns})",
        (values.shape[0], values.shape[1]),
    )
    return 0


cdef int _check_level_shape(const uint8_t[:, ::1] out, ptrdiff_t rows, ptrdiff_t columns) except -1:
    require(
        out.shape[0] == rows and out.shape[1] == columns, "out", f"of shape ({rows}, {columns})",
        (out.shape[0], out.shape[1]),
    )
    return 0


cdef float _level_step(double scale, int zero_point) except -1:
    """The scale of levels as QuantizeLinear has it, in float32."""
    cdef float step = <float> scale
    require(0 < step <= FLT_MAX, "scale", "positive and finite in float32", scale)
    require(0 <= zero_point <= 255, "zero_point", "0..255", zero_point)
    return step
