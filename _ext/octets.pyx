# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Probabilities as they are published: one byte each."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t

from .border import require

ctypedef float float32_t

cdef extern from "octets.h" nogil:
    int _to_octets "to_octets"(const float* probability, uint8_t* octets, ptrdiff_t count) noexcept


def to_octets(
    const float32_t[::1] probability not None,  # IN
    uint8_t[::1] octets not None,               # OUT, as long: probability * 255, rounded to the nearest, to even
):
    """Round probabilities to 0 .. 255, and tell whether all of them go there.

    That is so from half a step below 0 to half a step above 1. Where some do not, or are no numbers, `octets` holds
    nothing of use.
    """
    cdef ptrdiff_t count = probability.shape[0]
    require(octets.shape[0] == count, "octets", f"of length {count}", octets.shape[0])
    if count == 0:
        return True
    return bool(_to_octets(&probability[0], &octets[0], count))
