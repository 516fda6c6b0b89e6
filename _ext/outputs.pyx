# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""What is handed on of the numbers that a network gave: planes out of rows, and nothing where nobody looked."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t, uint32_t

from .border import require, require_apart

ctypedef float float32_t

cdef extern from "outputs.h" nogil:
    uint32_t rows_to_planes_measured(
        const float* rows, ptrdiff_t count, ptrdiff_t channels, float* planes, uint32_t* any,
    ) noexcept
    void clear_unobserved_planes(
        float* values, const uint8_t* observed, ptrdiff_t channels, ptrdiff_t cells,
    ) noexcept
    void lengths_observed(
        const float* x, const float* y, const uint8_t* observed, ptrdiff_t cells, float* out,
    ) noexcept
    void odds_clipped(float* probability, ptrdiff_t count, float least, float most) noexcept
    double float_of_bits(uint32_t bits) noexcept


def rows_to_planes(
    const float32_t[:, ::1] rows not None,  # IN [pixels, channels]
    float32_t[:, ::1] planes not None,      # OUT [channels, pixels]
):
    """Turn rows of channels into planes of pixels.

    Returns what :func:`octobev._ext.magnitude.magnitude` does: the largest magnitude among the numbers, and whether
    any of them has a minus sign.
    """
    cdef ptrdiff_t pixels = rows.shape[0], channels = rows.shape[1]
    cdef uint32_t largest, any_sign
    if planes.shape[0] != channels or planes.shape[1] != pixels:
        require(False, "planes", f"of shape {(channels, pixels)}", (planes.shape[0], planes.shape[1]))
    require_apart("planes", planes.base, rows.base)
    if pixels == 0 or channels == 0:
        return 0.0, False
    with nogil:
        largest = rows_to_planes_measured(&rows[0, 0], pixels, channels, &planes[0, 0], &any_sign)
    return float_of_bits(largest), any_sign != 0


def clear_unobserved(
    float32_t[:, :, ::1] values not None,     # INOUT [channels, nx, ny]
    const uint8_t[:, ::1] observed not None,  # IN [nx, ny]
):
    """Set the values of cells that were not observed to 0."""
    cdef ptrdiff_t channels = values.shape[0], nx = values.shape[1], ny = values.shape[2]
    _require_cells("observed", observed.shape[0], observed.shape[1], nx, ny)
    if channels == 0 or nx == 0 or ny == 0:
        return
    with nogil:
        clear_unobserved_planes(&values[0, 0, 0], &observed[0, 0], channels, nx * ny)


def lengths(
    const float32_t[:, :, ::1] vectors not None,  # IN [2, nx, ny], finite
    const uint8_t[:, ::1] observed not None,      # IN [nx, ny]
    float32_t[:, ::1] out not None,               # OUT [nx, ny]
):
    """Lengths of the vectors of observed cells, 1 at most; 0 elsewhere."""
    cdef ptrdiff_t nx = out.shape[0], ny = out.shape[1]
    require(vectors.shape[0] == 2, "vectors", "of two numbers", vectors.shape[0])
    _require_cells("vectors", vectors.shape[1], vectors.shape[2], nx, ny)
    _require_cells("observed", observed.shape[0], observed.shape[1], nx, ny)
    require_apart("out", out.base, vectors.base, observed.base)
    if nx == 0 or ny == 0:
        return
    with nogil:
        lengths_observed(&vectors[0, 0, 0], &vectors[1, 0, 0], &observed[0, 0], nx * ny, &out[0, 0])


def to_odds(
    float32_t[:, :, ::1] probability not None,  # INOUT [channels, nx, ny], finite
    float32_t least,
    float32_t most,
):
    """Make odds `p / (1 - p)` of probabilities, which are first clipped to `least .. most`, inside of 0..1."""
    cdef ptrdiff_t count = probability.shape[0] * probability.shape[1] * probability.shape[2]
    if not 0 <= least <= most < 1:
        require(False, "least and most", "0 <= least <= most < 1", (least, most))
    if count == 0:
        return
    with nogil:
        odds_clipped(&probability[0, 0, 0], count, least, most)


cdef int _require_cells(str what, ptrdiff_t nx, ptrdiff_t ny, ptrdiff_t wanted_nx, ptrdiff_t wanted_ny) except -1:
    if nx != wanted_nx or ny != wanted_ny:
        require(False, what, f"of {wanted_nx} x {wanted_ny} cells", f"{nx} x {ny}")
    return 0
