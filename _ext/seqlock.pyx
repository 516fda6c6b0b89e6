# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Words in memory shared with another process: ordered loads and stores, and waiting for a change.

Plain reads and writes of Python, NumPy or `struct` have no order that another processor could rely on: an Arm core may
show the new sequence number before the data that it speaks for. These functions have one; `seqlock.h` says which.
"""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint64_t

from .border import require

cdef extern from "seqlock.h" nogil:
    uint64_t _load_acquire "load_acquire"(const uint64_t* word) noexcept
    uint64_t _load_after_reads "load_after_reads"(const uint64_t* word) noexcept
    void _store_release "store_release"(uint64_t* word, uint64_t value) noexcept
    void _store_before_writes "store_before_writes"(uint64_t* word, uint64_t value) noexcept
    void _wait_while "wait_while"(const uint64_t* word, uint64_t seen, int64_t timeout_ns) noexcept
    void _wake "wake"(const uint64_t* word) noexcept


cdef ptrdiff_t _inside(ptrdiff_t index, ptrdiff_t length) except -1:
    require(0 <= index < length, "index", f"within 0 .. {length - 1}", index)
    return index


def load_acquire(
    const uint64_t[::1] words not None,  # IN, may be mapped for reading only
    ptrdiff_t index,
):
    """Read a word; what the caller reads afterwards is at least as new as what was released with this value."""
    return _load_acquire(&words[_inside(index, words.shape[0])])


def load_after_reads(
    const uint64_t[::1] words not None,  # IN
    ptrdiff_t index,
):
    """Read a word after everything that the caller has read before.

    The value tells whether that was whole: it is the old one only if no write behind a later value was seen.
    """
    return _load_after_reads(&words[_inside(index, words.shape[0])])


def store_release(
    uint64_t[::1] words not None,  # OUT
    ptrdiff_t index,
    uint64_t value,
):
    """Write a word after everything that the caller has written before."""
    _store_release(&words[_inside(index, words.shape[0])], value)


def store_before_writes(
    uint64_t[::1] words not None,  # OUT
    ptrdiff_t index,
    uint64_t value,
):
    """Write a word before everything that the caller writes afterwards."""
    _store_before_writes(&words[_inside(index, words.shape[0])], value)


def wait_while(
    const uint64_t[::1] words not None,  # IN
    ptrdiff_t index,
    uint64_t seen,
    int64_t timeout_ns,
):
    """Wait, without the interpreter lock, as long as a word is `seen`, at most `timeout_ns`.

    It may return early for no reason: look at the word again. On Linux the thread sleeps until :func:`wake`; elsewhere
    it looks every millisecond.
    """
    cdef const uint64_t* word = &words[_inside(index, words.shape[0])]
    with nogil:
        _wait_while(word, seen, timeout_ns)


def wake(
    const uint64_t[::1] words not None,  # IN
    ptrdiff_t index,
):
    """Wake whoever waits for a word, in whichever process; does not wait for them."""
    _wake(&words[_inside(index, words.shape[0])])
