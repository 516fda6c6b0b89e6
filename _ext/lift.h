/* Inner loops of lift.pyx. A matrix is three arrays, see lift.pyx; `features` has `channels` floats a row. */
#ifndef OCTOBEV_LIFT_H
#define OCTOBEV_LIFT_H

#include "vector.h"

#define LIFT_BATCH 4096
#define DEPTH_BATCH 256

/* First entry that is no column of the matrix, -1 when all are. */
OCTOBEV_CLONES
static ptrdiff_t first_outside(const int32_t *indices, ptrdiff_t entries, ptrdiff_t columns)
{
    uint32_t limit = columns > INT32_MAX ? (uint32_t)INT32_MAX + 1 : (uint32_t)columns;
    for (ptrdiff_t start = 0; start < entries; start += LIFT_BATCH) {
        ptrdiff_t stop = entries - start < LIFT_BATCH ? entries : start + LIFT_BATCH;
        uint32_t outside = 0;
        for (ptrdiff_t k = start; k < stop; k++)
            outside |= (uint32_t)indices[k] >= limit;
        for (ptrdiff_t k = start; outside && k < stop; k++)
            if ((uint32_t)indices[k] >= limit)
                return k;
    }
    return -1;
}

/* First row that ends before it starts, -1 when none does. */
OCTOBEV_CLONES
static ptrdiff_t first_step_back(const int32_t *indptr, ptrdiff_t rows)
{
    for (ptrdiff_t start = 0; start < rows; start += LIFT_BATCH) {
        ptrdiff_t stop = rows - start < LIFT_BATCH ? rows : start + LIFT_BATCH;
        uint32_t back = 0;
        for (ptrdiff_t row = start; row < stop; row++)
            back |= indptr[row + 1] < indptr[row];
        for (ptrdiff_t row = start; back && row < stop; row++)
            if (indptr[row + 1] < indptr[row])
                return row;
    }
    return -1;
}

/* out[c] = sum of weights[k] * features[indices[k]][c], added in the order of k, for one row of the matrix and `channels`
 * channels; `stride` floats lie between the features of two pixels. */
OCTOBEV_INLINE void lift_row(const int32_t *indices, const float *weights, ptrdiff_t first, ptrdiff_t last,
                             const float *features, ptrdiff_t stride, ptrdiff_t channels, float *OCTOBEV_RESTRICT out)
{
    ptrdiff_t c = 0, k;
#ifdef OCTOBEV_VECTORS
    for (; c + 64 <= channels; c += 64) {
        f16 sum0 = {0}, sum1 = {0}, sum2 = {0}, sum3 = {0};
        for (k = first; k < last; k++) {
            const float *pixel = features + (ptrdiff_t)indices[k] * stride + c;
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
            sum += weights[k] * *(const f16 *)(features + (ptrdiff_t)indices[k] * stride + c);
        *(f16 *)(out + c) = sum;
    }
    for (; c + 4 <= channels; c += 4) {
        f4 sum = {0};
        for (k = first; k < last; k++)
            sum += weights[k] * *(const f4 *)(features + (ptrdiff_t)indices[k] * stride + c);
        *(f4 *)(out + c) = sum;
    }
#endif
    for (; c < channels; c++) {
        float sum = 0;
        for (k = first; k < last; k++)
            sum += weights[k] * features[(ptrdiff_t)indices[k] * stride + c];
        out[c] = sum;
    }
}

OCTOBEV_CLONES
static void lift_rows_block(const int32_t *indptr, const int32_t *indices, const float *weights, const float *features,
                            ptrdiff_t channels, float *out, ptrdiff_t first_row, ptrdiff_t last_row)
{
    for (ptrdiff_t row = first_row; row < last_row; row++)
        lift_row(indices, weights, indptr[row], indptr[row + 1], features, channels, channels, out + row * channels);
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
        for (ptrdiff_t c = 0; c < channels; c += LIFT_CHANNELS) {
            ptrdiff_t width = channels - c < LIFT_CHANNELS ? channels - c : LIFT_CHANNELS;
            float *planes = out + (height * channels + c) * cells + first_cell;
            for (ptrdiff_t cell = first_cell; cell < last_cell; cell++) {
                ptrdiff_t row = cell * heights + height;
                lift_row(indices, weights, indptr[row], indptr[row + 1], features + c, channels, width,
                         rows[cell - first_cell]);
            }
            transpose(rows[0], LIFT_CHANNELS, planes, cells, last_cell - first_cell, width);
        }
    }
}

/* Entries are weighted first, a batch at a time, and summed after, in the order of their rows. */
OCTOBEV_CLONES
static void depth_weights_block(const int32_t *indptr, const int32_t *indices, const float *weights,
                                const float *depths, const float *depth_map, float sigma_m, float sigma_relative,
                                float *OCTOBEV_RESTRICT out_weights, float *OCTOBEV_RESTRICT mass,
                                ptrdiff_t first_row, ptrdiff_t last_row)
{
    float seen[DEPTH_BATCH], exponent[DEPTH_BATCH], share[DEPTH_BATCH];
    const ptrdiff_t last = indptr[last_row];
    for (ptrdiff_t start = indptr[first_row]; start < last; start += DEPTH_BATCH) {
        const ptrdiff_t count = last - start < DEPTH_BATCH ? last - start : DEPTH_BATCH;
        for (ptrdiff_t k = 0; k < count; k++)
            seen[k] = depth_map[indices[start + k]];
        for (ptrdiff_t k = 0; k < count; k++) {
            float depth = depths[start + k], deviation = (seen[k] - depth) / (sigma_m + sigma_relative * depth);
            int counts = (seen[k] > 0) & (seen[k] <= FLT_MAX) & (depth > 0);
            float power = -0.5f * deviation * deviation;
            exponent[k] = power > -87.0f ? power : -87.0f;
            share[k] = counts & (power > -87.0f) ? 1.0f : 0.0f;
        }
        for (ptrdiff_t k = 0; k < count; k++)
            share[k] *= exp_negative(exponent[k]);
        for (ptrdiff_t k = 0; k < count; k++)
            out_weights[start + k] = weights[start + k] * share[k];
    }
    for (ptrdiff_t row = first_row; row < last_row; row++) {
        float sum = 0;
        for (ptrdiff_t k = indptr[row]; k < indptr[row + 1]; k++)
            sum += out_weights[k];
        mass[row] = sum;
    }
}

OCTOBEV_CLONES
static void row_mass_block(const int32_t *indptr, const float *weights, float *OCTOBEV_RESTRICT mass,
                           ptrdiff_t first_row, ptrdiff_t last_row)
{
    for (ptrdiff_t row = first_row; row < last_row; row++) {
        float sum = 0;
        for (ptrdiff_t k = indptr[row]; k < indptr[row + 1]; k++)
            sum += weights[k];
        mass[row] = sum;
    }
}

OCTOBEV_CLONES
static void planes_to_rows_block(const float *planes, ptrdiff_t channels, ptrdiff_t pixels, float *rows,
                                 ptrdiff_t first, ptrdiff_t last)
{
    transpose(planes + first, pixels, rows + first * channels, channels, channels, last - first);
}

#endif
