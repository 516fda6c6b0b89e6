# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""What the processor says that it can do, where the operating system has no words for it."""

cdef extern from "cpu_features.h":
    int vnni_bits() nogil


def int8_dot_products():
    """Names of the x86 extensions that multiply and add bytes (`avx512_vnni`, `avx_vnni`), as Linux calls them.

    Empty on other processors.
    """
    cdef int bits = vnni_bits()
    return tuple(name for bit, name in ((1, "avx512_vnni"), (2, "avx_vnni")) if bits & bit)
