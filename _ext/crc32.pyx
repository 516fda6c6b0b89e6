# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""The checksum of messages: zlib's CRC-32, several times as fast where the processor multiplies without carry."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t

import zlib

cdef extern from "crc32.h" nogil:
    bint prepare_folding() noexcept
    uint32_t crc_folding(uint32_t crc, const uint8_t* data, size_t length) noexcept

cdef bint _folds = prepare_folding()


def crc32(data, uint32_t value=0):
    """CRC-32 of contiguous bytes, as `zlib.crc32` gives it; `value` is that of the bytes before."""
    cdef Py_buffer view
    cdef uint32_t crc
    if not _folds:
        return zlib.crc32(data, value)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    crc = crc_folding(value, <const uint8_t*> view.buf, <size_t> view.len)
    PyBuffer_Release(&view)
    return crc
