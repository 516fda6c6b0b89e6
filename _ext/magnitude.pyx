# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""How large numbers are at most, in one pass: whether they are finite, and whether they may be probabilities."""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from .border import require

cdef extern from "magnitude.h" nogil:
    uint16_t magnitude_16(const void* numbers, ptrdiff_t count, uint16_t* any) noexcept
    uint32_t magnitude_32(const void* numbers, ptrdiff_t count, uint32_t* any) noexcept
    uint64_t magnitude_64(const void* numbers, ptrdiff_t count, uint64_t* any) noexcept
    double half_of_bits(uint16_t bits) noexcept
    double float_of_bits(uint32_t bits) noexcept
    double double_of_bits(uint64_t bits) noexcept

cdef enum:
    WORTH_A_SWITCH = 65536  # bytes; below, other threads would wait longer to be let in than for the answer


def magnitude(values not None):
    """Return the largest magnitude of floating-point numbers and whether any of them has a minus sign, -0 too.

    The magnitude is infinity if the largest is, NaN if there is a NaN, 0 for no numbers. `values`: C-contiguous, of any
    shape, of 16, 32 or 64 bits a number.
    """
    cdef Py_buffer view
    cdef double largest = 0
    cdef bint negative = False
    PyObject_GetBuffer(values, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    try:
        require(view.format in (b"e", b"f", b"d"), "values", "floating-point numbers", view.format.decode())
        if view.len >= WORTH_A_SWITCH:
            with nogil:
                _magnitude(&view, &largest, &negative)
        else:
            _magnitude(&view, &largest, &negative)
    finally:
        PyBuffer_Release(&view)
    return largest, negative


cdef void _magnitude(const Py_buffer* view, double* largest, bint* negative) noexcept nogil:
    cdef ptrdiff_t count = view.len // view.itemsize
    cdef uint16_t any_16
    cdef uint32_t any_32
    cdef uint64_t any_64
    if view.itemsize == 2:
        largest[0] = half_of_bits(magnitude_16(view.buf, count, &any_16))
        negative[0] = any_16 != 0
    elif view.itemsize == 4:
        largest[0] = float_of_bits(magnitude_32(view.buf, count, &any_32))
        negative[0] = any_32 != 0
    else:
        largest[0] = double_of_bits(magnitude_64(view.buf, count, &any_64))
        negative[0] = any_64 != 0
