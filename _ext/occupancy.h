/* Inner loop of occupancy.pyx. */
#ifndef OCTOBEV_OCCUPANCY_H
#define OCTOBEV_OCCUPANCY_H

#include "vector.h"

#define EVIDENCE_BATCH 1024
#define CLASSES_BATCH 256

typedef struct {
    ptrdiff_t rows, classes;
    float *log_odds;   /* [rows][classes] */
    uint8_t *observed; /* [rows] */
    const float *probability, *mass, *gain, *prior_logit;
    float decay, limit, min_mass;
} Evidence;

/* Rows first .. last, classes c .. c + width; all of one row, or few rows with all their classes: one stretch of memory.
 * What belongs to a row or a class is first laid out along that stretch. */
OCTOBEV_INLINE void update_stretch(const Evidence *evidence, ptrdiff_t first, ptrdiff_t last, ptrdiff_t c,
                                   ptrdiff_t width)
{
    float per_mass[EVIDENCE_BATCH], weight[EVIDENCE_BATCH], prior[EVIDENCE_BATCH];
    const ptrdiff_t start = first * evidence->classes + c, count = (last - first) * width;
    const float *probability = evidence->probability + start;
    const float decay = evidence->decay, limit = evidence->limit;
    float *OCTOBEV_RESTRICT log_odds = evidence->log_odds + start;
    ptrdiff_t i = 0;
    for (ptrdiff_t row = first; row < last; row++) {
        const float mass = evidence->mass[row];
        const int counts = (mass > evidence->min_mass) & (mass <= FLT_MAX);
        int seen = 0;
        for (ptrdiff_t k = 0; k < width; k++, i++) {
            per_mass[i] = counts ? 1 / mass : 0;
            weight[i] = counts ? mass * evidence->gain[row] : 0;
            prior[i] = evidence->prior_logit[c + k];
            seen |= probability[i] == probability[i];
        }
        if (counts & seen)
            evidence->observed[row] = 1;
    }
    for (i = 0; i < count; i++) {
        float p = probability[i] * per_mass[i];
        float clipped = p > 1e-4f ? (p < 1 - 1e-4f ? p : 1 - 1e-4f) : 1e-4f;
        float logit = log_positive(clipped / (1 - clipped));
        float before = log_odds[i] == log_odds[i] ? log_odds[i] * decay : 0;
        float change = (weight[i] > 0) & (p == p) ? weight[i] * (logit - prior[i]) : 0;
        float after = before + change;
        log_odds[i] = after > limit ? limit : after < -limit ? -limit : after;
    }
}

/* Rows first .. last. */
OCTOBEV_CLONES
static void update_rows(const Evidence *evidence, ptrdiff_t first, ptrdiff_t last)
{
    const ptrdiff_t classes = evidence->classes;
    const ptrdiff_t at_once = classes <= CLASSES_BATCH ? EVIDENCE_BATCH / classes : 1;
    for (ptrdiff_t row = first; row < last; row += at_once) {
        ptrdiff_t stop = row + at_once < last ? row + at_once : last;
        for (ptrdiff_t c = 0; c < classes; c += CLASSES_BATCH)
            update_stretch(evidence, row, stop, c, classes - c < CLASSES_BATCH ? classes - c : CLASSES_BATCH);
    }
}

#endif
