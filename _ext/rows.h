/* Sampled rows, and how they become rows of the output: normalised, or rounded to bytes, in its layout. */
#ifndef OCTOBEV_ROWS_H
#define OCTOBEV_ROWS_H

#include "vector.h"

typedef struct {
    void *data;
    ptrdiff_t height, width, channels;
    int is_float, is_planar;
    int order[3]; /* channel of the source for each channel of the output */
    float scale[3], offset[3], fill[3];
} Output;

/* One row of samples for each channel of the source: whole numbers, `unit` for a pixel value of 1, at most 256; or,
 * when that is 0, floats. */
typedef struct {
    uint16_t *whole[3];
    float *channel[3];
    uint32_t unit;
} Samples;

/* ---- memory of a thread ---- */

/* Memory that is given away part by part; without a base only counted. */
typedef struct {
    uint8_t *base;
    ptrdiff_t used;
} Memory;

OCTOBEV_INLINE void *carve(Memory *memory, ptrdiff_t bytes)
{
    uint8_t *part = memory->base ? memory->base + memory->used : NULL;
    memory->used += (bytes + 63) & ~(ptrdiff_t)63; /* parts begin at cache lines, as the base does */
    return part;
}

OCTOBEV_INLINE Samples carve_samples(Memory *memory, ptrdiff_t width, uint32_t unit)
{
    Samples samples;
    memset(&samples, 0, sizeof samples);
    samples.unit = unit;
    for (int c = 0; c < 3; c++) {
        samples.whole[c] = unit ? (uint16_t *)carve(memory, 2 * width) : NULL;
        samples.channel[c] = unit ? NULL : (float *)carve(memory, 4 * width);
    }
    return samples;
}

OCTOBEV_INLINE Samples samples_from(const Samples *samples, ptrdiff_t x)
{
    Samples rest = *samples;
    for (int c = 0; c < 3; c++)
        rest.channel[c] += x;
    return rest;
}

/* ---- output ---- */

OCTOBEV_INLINE uint8_t rounded(float value)
{
    return (uint8_t)(int32_t)((value < 0 ? 0 : value > 255 ? 255 : value) + 0.5f);
}

/* Channel c of a row: every `step`th number from `at` on. */
OCTOBEV_INLINE void write_floats(const Output *out, ptrdiff_t c, ptrdiff_t at, ptrdiff_t step, ptrdiff_t width,
                                 const Samples *samples)
{
    const float *OCTOBEV_RESTRICT from = samples->channel[out->order[c]];
    const float scale = out->scale[c], offset = out->offset[c];
    float *floats = (float *)out->data + at;
    uint8_t *bytes = (uint8_t *)out->data + at;
    if (out->is_float)
        for (ptrdiff_t x = 0; x < width; x++)
            floats[x * step] = from[x] * scale + offset;
    else
        for (ptrdiff_t x = 0; x < width; x++)
            bytes[x * step] = rounded(from[x]);
}

/* 2^16 / units, rounded up. A table, as GCC multiplies 16 bits by 16, twice as many at a time, where it sees that both
 * are no more; of a quotient it does not see it. */
enum { SHORT_UNITS = 16 };
static const uint16_t short_parts[SHORT_UNITS + 1] = {0,    0,    32768, 21846, 16384, 13108, 10923, 9363, 8192,
                                                      7282, 6554, 5958,  5462,  5042,  4682,  4370,  4096};

/* Bytes are the nearest, the upper one of two as near: (n + unit / 2) / unit, rounded down; as a product this is exact
 * for all n up to 255 * unit: with 24 bits behind the point, or with 16 up to SHORT_UNITS. */
OCTOBEV_INLINE void write_means(const uint16_t *OCTOBEV_RESTRICT sums, uint32_t unit, ptrdiff_t step, ptrdiff_t width,
                                uint8_t *bytes)
{
    if (unit > 1 && unit <= SHORT_UNITS) {
        const uint16_t half = (uint16_t)(unit / 2), part = short_parts[unit];
        for (ptrdiff_t x = 0; x < width; x++) {
            const uint16_t sum = (uint16_t)(sums[x] + half), mean = (uint16_t)((uint32_t)sum * part >> 16);
            bytes[x * step] = (uint8_t)mean;
        }
    } else {
        const uint32_t half = unit / 2, part = ((1 << 24) + unit - 1) / unit;
        for (ptrdiff_t x = 0; x < width; x++)
            bytes[x * step] = (uint8_t)((sums[x] + half) * part >> 24);
    }
}

/* The same as write_floats of whole numbers. */
OCTOBEV_INLINE void write_whole(const Output *out, ptrdiff_t c, ptrdiff_t at, ptrdiff_t step, ptrdiff_t width,
                                const Samples *samples)
{
    const uint16_t *OCTOBEV_RESTRICT from = samples->whole[out->order[c]];
    const float scale = out->scale[c] / (float)samples->unit, offset = out->offset[c];
    float *floats = (float *)out->data + at;
    if (!out->is_float)
        write_means(from, samples->unit, step, width, (uint8_t *)out->data + at);
    else
        for (ptrdiff_t x = 0; x < width; x++)
            floats[x * step] = (float)(int32_t)from[x] * scale + offset;
}

OCTOBEV_INLINE void write_channel(const Output *out, ptrdiff_t c, ptrdiff_t at, ptrdiff_t step, ptrdiff_t width,
                                  const Samples *samples)
{
    if (out->is_float && step == 1) /* the same columns a few rows on */
        for (ptrdiff_t x = 0; x < width; x += 16)
            OCTOBEV_PREFETCH((float *)out->data + at + x + 4 * width);
    if (samples->unit)
        write_whole(out, c, at, step, width, samples);
    else
        write_floats(out, c, at, step, width, samples);
}

/* Writes samples to columns first .. first + width of one row of the output. */
OCTOBEV_INLINE void write_row(const Output *out, ptrdiff_t row, ptrdiff_t first, ptrdiff_t width,
                              const Samples *samples)
{
    const ptrdiff_t channels = out->channels;
    for (ptrdiff_t c = 0; c < channels; c++) {
        if (out->is_planar || channels == 1) /* a step that the compiler knows */
            write_channel(out, c, (c * out->height + row) * out->width + first, 1, width, samples);
        else
            write_channel(out, c, (row * out->width + first) * 3 + c, 3, width, samples);
    }
}

/* Fills columns first .. last of one row. */
OCTOBEV_INLINE void fill_row(const Output *out, ptrdiff_t row, ptrdiff_t first, ptrdiff_t last)
{
    for (ptrdiff_t c = 0; c < out->channels; c++) {
        ptrdiff_t step = out->is_planar ? 1 : out->channels;
        ptrdiff_t at = out->is_planar ? (c * out->height + row) * out->width : row * out->width * out->channels + c;
        const float value = out->fill[c] * out->scale[c] + out->offset[c];
        for (ptrdiff_t x = first; x < last; x++) {
            if (out->is_float)
                ((float *)out->data)[at + x * step] = value;
            else
                ((uint8_t *)out->data)[at + x * step] = rounded(out->fill[c]);
        }
    }
}

#endif
