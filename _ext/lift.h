/* Inner loops of lift.pyx. A matrix is three arrays, see lift.pyx; `features` has `channels` floats a row. */
#ifndef OCTOBEV_LIFT_H
#define OCTOBEV_LIFT_H

#include "vector.h"

#define LIFT_AHEAD 8

/* out[c] = sum of weights[k] * features[indices[k]][c], added in the order of k, for one row of the matrix. */
OCTOBEV_INLINE void lift_row(const int32_t *indices, const float *weights, ptrdiff_t first, ptrdiff_t last,
                             const float *features, ptrdiff_t channels, float *OCTOBEV_RESTRICT out)
{
    ptrdiff_t c = 0, k;
#ifdef OCTOBEV_VECTORS
    for (; c + 64 <= channels; c += 64) {
        f16 sum0 = {0}, sum1 = {0}, sum2 = {0}, sum3 = {0};
        for (k = first; k < last; k++) {
            const float *pixel = features + (ptrdiff_t)indices[k] * channels + c;
            float weight = weights[k];
            sum0 += weight * *(const f16 *)pixel;
            sum1 += weight * *(const f16 *)(pixel + 16);
            sum2 += weight * *(const f16 *)(pixel + 32);
            sum3 += weight * *(const f16 *)(pixel + 48);
        }
        *(f16 *)(out + c) = sum0;
        *(f16 *)(out + c + 16) = sum1;
        *(f16 *)(out + c + 32) = sum2;
        *(f16 *)(out + c + 48) = sum3;
    }
    for (; c + 16 <= channels; c += 16) {
        f16 sum = {0};
        for (k = first; k < last; k++)
            sum += weights[k] * *(const f16 *)(features + (ptrdiff_t)indices[k] * channels + c);
        *(f16 *)(out + c) = sum;
    }
    for (; c + 4 <= channels; c += 4) {
        f4 sum = {0};
        for (k = first; k < last; k++)
            sum += weights[k] * *(const f4 *)(features + (ptrdiff_t)indices[k] * channels + c);
        *(f4 *)(out + c) = sum;
    }
#endif
    for (; c < channels; c++) {
        float sum = 0;
        for (k = first; k < last; k++)
            sum += weights[k] * features[(ptrdiff_t)indices[k] * channels + c];
        out[c] = sum;
    }
}

OCTOBEV_CLONES
static void lift_rows_block(const int32_t *indptr, const int32_t *indices, const float *weights, const float *features,
                            ptrdiff_t channels, float *out, ptrdiff_t first_row, ptrdiff_t last_row)
{
    for (ptrdiff_t row = first_row; row < last_row; row++)
        lift_row(indices, weights, indptr[row], indptr[row + 1], features, channels, out + row * channels);
}

#define LIFT_CELLS 16
#define LIFT_CHANNELS 64

/* Cells first_cell .. last_cell (at most LIFT_CELLS) of every plane. */
OCTOBEV_CLONES
static void lift_planes_block(const int32_t *indptr, const int32_t *indices, const float *weights,
                              const float *features, ptrdiff_t channels, ptrdiff_t heights, float *out,
                              ptrdiff_t cells, ptrdiff_t first_cell, ptrdiff_t last_cell)
{
    float rows[LIFT_CELLS][LIFT_CHANNELS];
    for (ptrdiff_t height = 0; height < heights; height++) {
        for (ptrdiff_t cell = first_cell; cell < last_cell; cell++) {
            ptrdiff_t row = cell * heights + height;
            lift_row(indices, weights, indptr[row], indptr[row + 1], features, channels, rows[cell - first_cell]);
        }
        transpose(rows[0], LIFT_CHANNELS, out + height * channels * cells + first_cell, cells, last_cell - first_cell,
                  channels);
    }
}

#endif
