# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Smoothing of rasters that were not observed everywhere."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t

from .border import require, require_apart

ctypedef float float32_t


def smooth(
    const float32_t[:, ::1] values not None,   # IN [nx, ny]
    const uint8_t[:, ::1] observed not None,   # IN [nx, ny]
    const float32_t[::1] taps not None,        # IN [2 r + 1], positive; the same along both axes
    float32_t[:, :, ::1] scratch not None,     # scratch, [2, nx + 1, ny + 2]
    float32_t[:, ::1] out not None,            # OUT [nx + 2, ny + 2], a border of one cell around the grid
):
    """Weighted mean of the observed cells around each cell; 0 where there is none within reach of the taps."""
    cdef ptrdiff_t nx = values.shape[0], ny = values.shape[1]
    cdef ptrdiff_t reach = taps.shape[0] // 2
    cdef ptrdiff_t i
    _require_shape("observed", (observed.shape[0], observed.shape[1]), (nx, ny))
    _require_shape("scratch", (scratch.shape[0], scratch.shape[1], scratch.shape[2]), (2, nx + 1, ny + 2))
    _require_shape("out", (out.shape[0], out.shape[1]), (nx + 2, ny + 2))
    require(taps.shape[0] % 2 == 1, "number of taps", "odd", taps.shape[0])
    require_apart("out", out.base, values.base, scratch.base)
    with nogil:
        for i in range(nx):
            _along_row(values, observed, taps, reach, i, scratch)
        for i in range(nx + 2):
            _across_rows(taps, reach, i, nx, scratch, out)


def _require_shape(what, shape, wanted):
    require(shape == wanted, what, f"of shape {wanted}", shape)


cdef void _along_row(
    const float32_t[:, ::1] values,
    const uint8_t[:, ::1] observed,
    const float32_t[::1] taps,
    ptrdiff_t reach,
    ptrdiff_t i,
    float32_t[:, :, ::1] scratch,
) noexcept nogil:
    """Sums along y of row i: values to scratch[0, i], weights to scratch[1, i]."""
    cdef ptrdiff_t ny = values.shape[1], j, k, shift
    cdef float32_t tap
    for j in range(ny + 2):
        scratch[0, i, j] = scratch[1, i, j] = 0
    for k in range(2 * reach + 1):
        tap, shift = taps[k], k - reach
        # column j of the sums stands for cell j - 1, and takes cell j - 1 + shift
        for j in range(max(1 - shift, 0), min(ny + 1 - shift, ny + 2)):
            if observed[i, j - 1 + shift]:
                scratch[0, i, j] += tap * values[i, j - 1 + shift]
                scratch[1, i, j] += tap


cdef void _across_rows(
    const float32_t[::1] taps,
    ptrdiff_t reach,
    ptrdiff_t i,
    ptrdiff_t nx,
    float32_t[:, :, ::1] scratch,
    float32_t[:, ::1] out,
) noexcept nogil:
    """Row i of the output, which stands for row i - 1 of the grid; the last row of scratch holds the weights."""
    cdef ptrdiff_t width = out.shape[1], j, k, row
    cdef float32_t tap
    for j in range(width):
        out[i, j] = scratch[1, nx, j] = 0
    for k in range(2 * reach + 1):
        tap, row = taps[k], i - 1 + k - reach
        if row < 0 or row >= nx:
            continue
        for j in range(width):
            out[i, j] += tap * scratch[0, row, j]
            scratch[1, nx, j] += tap * scratch[1, row, j]
    for j in range(width):
        out[i, j] = out[i, j] / scratch[1, nx, j] if scratch[1, nx, j] > 0 else 0
