# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""The threads of the kernels: one crew for all of them, see crew.h."""

from cpython.pycapsule cimport PyCapsule_New
from libc.stddef cimport ptrdiff_t

cdef extern from "crew_run.h":
    void crew_run(int threads, ptrdiff_t parts, void (*work)(void*, ptrdiff_t) noexcept nogil, void* job) nogil

RUN = PyCapsule_New(<void*> crew_run, "octobev._ext.crew.run", NULL)
"""`crew_run`, for the other kernels."""
