/* Averages over the boxes that the pixels of the output cover: lines are added up first, then columns. */
#ifndef OCTOBEV_AREA_H
#define OCTOBEV_AREA_H

#include "pixels.h"
#include "rows.h"

/* What each sample of an axis is a weighted sum of: pixels first .. first + count, weights from `weight` on. */
typedef struct {
    ptrdiff_t *first, *count, *weight;
    float *weights;
} Taps;

/* The pixels that a sample's box covers, each weighted by how much of the box it is. */
OCTOBEV_INLINE ptrdiff_t area_taps(ptrdiff_t index, ptrdiff_t samples, double start, double length, ptrdiff_t extent,
                                   ptrdiff_t *first, float *weights)
{
    double low = start + (double)index * length / (double)samples;
    double high = start + (double)(index + 1) * length / (double)samples;
    ptrdiff_t pixel = (ptrdiff_t)low, count = 0;
    *first = pixel = pixel > extent - 1 ? extent - 1 : pixel;
    for (; pixel < extent && (count == 0 || (double)pixel < high); pixel++) {
        double left = (double)pixel > low ? (double)pixel : low;
        double right = (double)(pixel + 1) < high ? (double)(pixel + 1) : high;
        weights[count++] = (float)((right - left) / (high - low));
    }
    return count;
}

/* sums[i] += bytes[i]; the first line is not added to what is there. */
OCTOBEV_INLINE void add_bytes(const uint8_t *OCTOBEV_RESTRICT bytes, ptrdiff_t length, int is_first,
                              uint16_t *OCTOBEV_RESTRICT sums)
{
    if (is_first)
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] = bytes[i];
    else
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] = (uint16_t)(sums[i] + bytes[i]);
}

/* sums[i] += weight * whole[i], likewise. */
OCTOBEV_INLINE void add_weighted(const uint16_t *OCTOBEV_RESTRICT whole, float weight, ptrdiff_t length, int is_first,
                                 float *OCTOBEV_RESTRICT sums)
{
    if (is_first)
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] = weight * (float)(int32_t)whole[i];
    else
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] += weight * (float)(int32_t)whole[i];
}

/* samples[x] = weighted sum over the taps of x; `sums` has `step` floats a pixel and one more at its end. */
OCTOBEV_INLINE void sum_pixels(const float *sums, ptrdiff_t step, const Taps *taps, ptrdiff_t width,
                               const Samples *samples)
{
    for (ptrdiff_t x = 0; x < width; x++) {
        const float *from = sums + taps->first[x] * step, *weights = taps->weights + taps->weight[x];
        const ptrdiff_t count = taps->count[x];
#ifdef OCTOBEV_VECTORS
        f4 sum = weights[0] * *(const f4 *)from;
        for (ptrdiff_t i = 1; i < count; i++)
            sum += weights[i] * *(const f4 *)(from + i * step);
        for (int c = 0; c < 3; c++)
            samples->channel[c][x] = sum[c];
#else
        for (int c = 0; c < 3; c++) {
            float sum = weights[0] * from[c];
            for (ptrdiff_t i = 1; i < count; i++)
                sum += weights[i] * from[i * step + c];
            samples->channel[c][x] = sum;
        }
#endif
    }
}

#endif
