# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Evidence into log-odds (Moravec and Elfes 1985; Thrun, Burgard and Fox 2005, chapter 9)."""

from cython.parallel cimport prange
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t

import numpy as np

from .border import require, require_apart, require_finite, require_threads

ctypedef float float32_t

cdef extern from "occupancy.h" nogil:
    ctypedef struct Evidence:
        ptrdiff_t rows, classes
        float* log_odds
        uint8_t* observed
        const float* probability
        const float* mass
        const float* gain
        const float* prior_logit
        float decay, limit, min_mass

    void update_rows(const Evidence* evidence, ptrdiff_t first, ptrdiff_t last) noexcept

cdef enum:
    BLOCK_ROWS = 256


def update_log_odds(
    float32_t[:, ::1] log_odds not None,           # INOUT [rows, classes], natural logarithm of the odds
    uint8_t[::1] observed not None,                # INOUT [rows], set to 1 where there was evidence
    const float32_t[:, ::1] probability not None,  # IN [rows, classes], sums of weight * p over the samples of a row
    const float32_t[::1] mass not None,            # IN [rows], sums of the weights
    const float32_t[::1] gain not None,            # IN [rows], weight of a row's evidence; not positive: none
    const float32_t[::1] prior_logit not None,     # IN [classes], what no evidence would say
    double decay,
    double limit,
    double min_mass,
    int num_threads=1,
):
    """Let old evidence fade and add new.

    `log_odds *= decay` everywhere. Where `mass > min_mass`, with p = probability / mass clipped to 1e-4 .. 1 - 1e-4,
    `log_odds += gain * mass * (logit(p) - prior_logit)`. The result is clipped to `-limit .. limit`. Values that are no
    numbers are no evidence; log-odds that are no number begin again at 0.
    """
    cdef ptrdiff_t rows = log_odds.shape[0], classes = log_odds.shape[1], block
    cdef int threads = require_threads(num_threads)
    for what, length in (("observed", observed.shape[0]), ("mass", mass.shape[0]), ("gain", gain.shape[0])):
        require(length == rows, what, f"of length {rows}", length)
    require(prior_logit.shape[0] == classes, "prior_logit", f"of length {classes}", prior_logit.shape[0])
    require(bool(np.isfinite(prior_logit).all()), "prior_logit", "finite", np.asarray(prior_logit).tolist())
    require(
        probability.shape[0] == rows and probability.shape[1] == classes, "probability",
        f"of shape ({rows}, {classes})", (probability.shape[0], probability.shape[1]),
    )
    require(0 <= decay <= 1, "decay", "between 0 and 1", decay)
    require(require_finite("limit", limit) > 0, "limit", "positive", limit)
    require(require_finite("min_mass", min_mass) >= 0, "min_mass", "not negative", min_mass)
    require_apart("log_odds", log_odds.base, probability.base, mass.base, gain.base, prior_logit.base)
    if rows == 0 or classes == 0:
        return
    cdef Evidence evidence = Evidence(
        rows, classes, &log_odds[0, 0], &observed[0], &probability[0, 0], &mass[0], &gain[0], &prior_logit[0],
        <float> decay, <float> limit, <float> min_mass,
    )
    for block in prange((rows + BLOCK_ROWS - 1) // BLOCK_ROWS, nogil=True, num_threads=threads, schedule="static"):
        update_rows(&evidence, block * BLOCK_ROWS, min(rows, (block + 1) * BLOCK_ROWS))
