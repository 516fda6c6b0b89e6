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

/* One row of samples for each channel of the source. */
typedef struct {
    float *channel[3];
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
    memory->used += (bytes + 63) & ~(ptrdiff_t)63; /* parts begin at cache lines, as far as the base does */
    return part;
}

OCTOBEV_INLINE Samples carve_samples(Memory *memory, ptrdiff_t width)
{
    Samples samples;
    for (int c = 0; c < 3; c++)
        samples.channel[c] = (float *)carve(memory, 4 * width);
    return samples;
}

OCTOBEV_INLINE Samples samples_from(const Samples *samples, ptrdiff_t x)
{
    const Samples rest = {{samples->channel[0] + x, samples->channel[1] + x, samples->channel[2] + x}};
    return rest;
}

/* ---- output ---- */

OCTOBEV_INLINE uint8_t rounded(float value)
{
    return (uint8_t)(int32_t)((value < 0 ? 0 : value > 255 ? 255 : value) + 0.5f);
}

/* One channel of a row: every `step`th number from `at` on. */
OCTOBEV_INLINE void write_channel(const Output *out, ptrdiff_t c, ptrdiff_t at, ptrdiff_t step, ptrdiff_t width,
                                  const float *OCTOBEV_RESTRICT from)
{
    const float scale = out->scale[c], offset = out->offset[c];
    if (out->is_float) {
        float *to = (float *)out->data + at;
        for (ptrdiff_t x = 0; step == 1 && x < width; x += 16) /* the same columns a few rows on */
            OCTOBEV_PREFETCH(to + x + 4 * width);
        for (ptrdiff_t x = 0; x < width; x++)
            to[x * step] = from[x] * scale + offset;
    } else {
        uint8_t *to = (uint8_t *)out->data + at;
        for (ptrdiff_t x = 0; x < width; x++)
            to[x * step] = rounded(from[x]);
    }
}

/* Writes samples to columns first .. first + width of one row of the output. */
OCTOBEV_INLINE void write_row(const Output *out, ptrdiff_t row, ptrdiff_t first, ptrdiff_t width,
                              const Samples *samples)
{
    const ptrdiff_t channels = out->channels;
    for (ptrdiff_t c = 0; c < channels; c++) {
        const float *from = samples->channel[out->order[c]];
        if (out->is_planar || channels == 1) /* a step that the compiler knows */
            write_channel(out, c, (c * out->height + row) * out->width + first, 1, width, from);
        else
            write_channel(out, c, (row * out->width + first) * 3 + c, 3, width, from);
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
