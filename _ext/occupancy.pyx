# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Evidence into log-odds."""

from cython.parallel cimport prange
from libc.math cimport log
from libc.stdint cimport uint8_t

ctypedef float float32_t

from .border import require, require_apart, require_finite, require_threads


def update_log_odds(float32_t[:, ::1] log_odds not None, uint8_t[::1] observed not None, const float32_t[:, ::1] probability not None,
                    const float32_t[::1] mass not None, const float32_t[::1] gain not None, const float32_t[::1] prior_logit not None,
                    double decay, double limit, double min_mass, int num_threads=1):
    cdef Py_ssize_t r, c, rows = log_odds.shape[0], classes = log_odds.shape[1]
    cdef double p, v
    cdef int threads = require_threads(num_threads)
    require(observed.shape[0] == rows, "observed", f"of length {rows}", observed.shape[0])
    require(mass.shape[0] == rows, "mass", f"of length {rows}", mass.shape[0])
    require(gain.shape[0] == rows, "gain", f"of length {rows}", gain.shape[0])
    require(prior_logit.shape[0] == classes, "prior_logit", f"of length {classes}", prior_logit.shape[0])
    require(probability.shape[0] == rows and probability.shape[1] == classes, "probability", f"of shape ({rows}, {classes})", (probability.shape[0], probability.shape[1]))
    require(0 <= decay <= 1, "decay", "between 0 and 1", decay)
    require(limit > 0, "limit", "positive", limit)
    require(min_mass >= 0, "min_mass", "not negative", min_mass)
    for r in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        for c in range(classes):
            v = log_odds[r, c] * decay
            if mass[r] > min_mass:
                p = probability[r, c] / mass[r]
                if p == p:
                    p = min(max(p, 1e-4), 1 - 1e-4)
                    v = v + gain[r] * mass[r] * (log(p / (1 - p)) - prior_logit[c])
                    observed[r] = 1
            log_odds[r, c] = min(max(v, -limit), limit)
