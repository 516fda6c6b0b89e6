/* Inner loops of lift.pyx. A matrix is three arrays, see lift.pyx; `features` has `channels` floats a row. */
#ifndef OCTOBEV_LIFT_H
#define OCTOBEV_LIFT_H

#include "crew.h"
#include "vector.h"

#define LIFT_BATCH 4096
#define LIFT_ROWS 512    /* of a part: some ten microseconds */
#define LIFT_CELLS 16    /* of a part, in planes: a cache line of each */
#define LIFT_CHANNELS 64 /* that are summed at once */
#define LIFT_SUMS 1024   /* that are rounded to levels together */
#define LIFT_AHEAD 16    /* entries between those that are summed and those whose features are fetched */
#define DEPTH_BATCH 256

OCTOBEV_INLINE ptrdiff_t least_of(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* A matrix and what it is multiplied with; `features` has `channels` floats a pixel. */
typedef struct {
    const int32_t *indptr, *indices; /* [rows + 1], [entries] */
    const float *weights;            /* [entries] */
    ptrdiff_t rows, entries, pixels;
    const float *features; /* [pixels][channels] */
    ptrdiff_t channels, heights;
    float *out;      /* sums, or NULL where these are wanted: */
    uint8_t *levels; /* round(sum / level_step) + zero_level, within 0 .. 255 */
    float level_step;
    int zero_level;
    int faulty; /* set when a row or an entry points to what is not there */
} Lift;

/* What the rounding of sums to levels reads, by value as LiftSource is. */
typedef struct {
    float step, low, high; /* low and high: what becomes the first and the last level, in levels from zero */
    int zero;
} LevelScale;

OCTOBEV_INLINE LevelScale level_scale(const Lift *lift)
{
    LevelScale scale = {lift->level_step, (float)-lift->zero_level, (float)(255 - lift->zero_level), lift->zero_level};
    return scale;
}

/* The nearest level, of two that are as near the even one: adding 1.5 * 2^23 leaves no bits below 1, and the sum is
 * rounded as every sum. NaN becomes level 0, as no comparison holds for it. */
OCTOBEV_INLINE uint8_t level_of(float value, LevelScale scale)
{
    union {
        float value;
        int32_t bits;
    } rounded;
    float steps = value / scale.step; /* as QuantizeLinear, to the bit: a factor would save little */
    steps = steps > scale.low ? steps : scale.low;
    steps = steps < scale.high ? steps : scale.high;
    rounded.value = steps + 12582912.0f;
    return (uint8_t)(rounded.bits - 0x4b400000 + scale.zero);
}

/* level_of for `count` values. Many at a time: what is left over of whole vectors is done one by one. */
OCTOBEV_INLINE void levels_of(const float *OCTOBEV_RESTRICT values, ptrdiff_t count, LevelScale scale,
                              uint8_t *OCTOBEV_RESTRICT levels)
{
    for (ptrdiff_t i = 0; i < count; i++)
        levels[i] = level_of(values[i], scale);
}

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

/* The parts of a matrix that the inner loop reads. They are kept apart from what it writes: by value, in registers. */
typedef struct {
    const int32_t *indices;
    const float *weights, *features;
    ptrdiff_t entries, stride; /* floats from one pixel to the next */
    uint32_t pixels;
} LiftSource;

OCTOBEV_INLINE LiftSource lift_source(const Lift *lift)
{
    uint32_t pixels = lift->pixels > INT32_MAX ? (uint32_t)INT32_MAX + 1 : (uint32_t)lift->pixels;
    LiftSource source = {lift->indices, lift->weights, lift->features, lift->entries, lift->channels, pixels};
    return source;
}

/* The features of an entry's pixel from `channel` on, or NULL where there is no such pixel. */
OCTOBEV_INLINE const float *pixel_of(LiftSource source, ptrdiff_t entry, ptrdiff_t channel)
{
    uint32_t pixel = (uint32_t)source.indices[entry];
    return pixel < source.pixels ? source.features + (ptrdiff_t)pixel * source.stride + channel : NULL;
}

#ifdef OCTOBEV_VECTORS
/* lift_row for 16 * `vectors` channels, at most 64: the sums stay in registers, so an entry is read once. */
OCTOBEV_INLINE int lift_vectors(const int vectors, LiftSource source, ptrdiff_t first, ptrdiff_t last,
                                ptrdiff_t channel, float *OCTOBEV_RESTRICT out)
{
    const ptrdiff_t ahead = last + LIFT_AHEAD < source.entries ? LIFT_AHEAD : 0;
    f16 sums[4] = {{0}, {0}, {0}, {0}};
    for (ptrdiff_t k = first; k < last; k++) {
        const float *pixel = pixel_of(source, k, channel);
        if (!pixel)
            return 0;
        __builtin_prefetch(source.features + (ptrdiff_t)source.indices[k + ahead] * source.stride + channel);
        for (int i = 0; i < vectors; i++)
            sums[i] += source.weights[k] * *(const f16 *)(pixel + 16 * i);
    }
    for (int i = 0; i < vectors; i++)
        *(f16 *)(out + 16 * i) = sums[i];
    return 1;
}
#endif

/* out[c] = sum of weight * feature over the entries first .. last of a row, added in their order, for `width` channels
 * from `begin` on. Entries are checked as they are read; returns 0 when one points to what is not there. */
OCTOBEV_INLINE int lift_row(LiftSource source, ptrdiff_t first, ptrdiff_t last, ptrdiff_t begin, ptrdiff_t width,
                            float *OCTOBEV_RESTRICT out)
{
    ptrdiff_t c = 0;
    int sound = first >= 0 && first <= last && last <= source.entries;
#ifdef OCTOBEV_VECTORS
    for (; sound && c + 64 <= width; c += 64)
        sound = lift_vectors(4, source, first, last, begin + c, out + c);
    for (; sound && c + 48 <= width; c += 48)
        sound = lift_vectors(3, source, first, last, begin + c, out + c);
    for (; sound && c + 16 <= width; c += 16)
        sound = lift_vectors(1, source, first, last, begin + c, out + c);
    for (; sound && c + 4 <= width; c += 4) {
        f4 sum = {0};
        for (ptrdiff_t k = first; k < last; k++) {
            const float *pixel = pixel_of(source, k, begin + c);
            if (!pixel)
                return 0;
            sum += source.weights[k] * *(const f4 *)pixel;
        }
        *(f4 *)(out + c) = sum;
    }
#endif
    for (; sound && c < width; c++) {
        float sum = 0;
        for (ptrdiff_t k = first; k < last; k++) {
            const float *pixel = pixel_of(source, k, begin + c);
            if (!pixel)
                return 0;
            sum += source.weights[k] * *pixel;
        }
        out[c] = sum;
    }
    return sound;
}

/* Rows LIFT_ROWS * part and on; the first that is wrong ends the part. */
OCTOBEV_CLONES
static void lift_rows_part(void *job, ptrdiff_t part)
{
    Lift *lift = (Lift *)job;
    const LiftSource source = lift_source(lift);
    const ptrdiff_t first = part * LIFT_ROWS, last = least_of(lift->rows, first + LIFT_ROWS), channels = lift->channels;
    const int32_t *indptr = lift->indptr;
    float *out = lift->out;
    for (ptrdiff_t row = first; row < last; row++) {
        if (!lift_row(source, indptr[row], indptr[row + 1], 0, channels, out + row * channels)) {
            crew_raise(&lift->faulty);
            return;
        }
    }
}

/* The same in levels: the sums of some rows lie in the first cache before they are rounded all together. */
OCTOBEV_CLONES
static void lift_level_rows_part(void *job, ptrdiff_t part)
{
    Lift *lift = (Lift *)job;
    const LiftSource source = lift_source(lift);
    const LevelScale scale = level_scale(lift);
    const ptrdiff_t first = part * LIFT_ROWS, last = least_of(lift->rows, first + LIFT_ROWS), channels = lift->channels;
    const ptrdiff_t wide = least_of(channels, LIFT_SUMS), together = wide < channels ? 1 : LIFT_SUMS / channels;
    const int32_t *indptr = lift->indptr;
    float sums[LIFT_SUMS];
    for (ptrdiff_t start = first; start < last; start += together) {
        const ptrdiff_t stop = least_of(last, start + together);
        for (ptrdiff_t c = 0; c < channels; c += wide) {
            const ptrdiff_t width = least_of(channels - c, wide);
            for (ptrdiff_t row = start; row < stop; row++) {
                if (!lift_row(source, indptr[row], indptr[row + 1], c, width, sums + (row - start) * width)) {
                    crew_raise(&lift->faulty);
                    return;
                }
            }
            levels_of(sums, (stop - start) * width, scale, lift->levels + start * channels + c);
        }
    }
}

/* Cells LIFT_CELLS * part and on, of every plane. */
OCTOBEV_CLONES
static void lift_planes_part(void *job, ptrdiff_t part)
{
    Lift *lift = (Lift *)job;
    const LiftSource source = lift_source(lift);
    const LevelScale scale = level_scale(lift);
    const ptrdiff_t heights = lift->heights, channels = lift->channels, cells = lift->rows / heights;
    const ptrdiff_t first = part * LIFT_CELLS, count = least_of(cells - first, LIFT_CELLS);
    const int32_t *indptr = lift->indptr;
    float rows[LIFT_CELLS][LIFT_CHANNELS], lines[LIFT_CHANNELS][LIFT_CELLS] = {{0}};
    uint8_t levels[LIFT_CHANNELS][LIFT_CELLS];
    for (ptrdiff_t height = 0; height < heights; height++) {
        for (ptrdiff_t c = 0; c < channels; c += LIFT_CHANNELS) {
            ptrdiff_t width = least_of(channels - c, LIFT_CHANNELS), start = (height * channels + c) * cells + first;
            for (ptrdiff_t cell = 0; cell < count; cell++) {
                ptrdiff_t row = (first + cell) * heights + height;
                if (!lift_row(source, indptr[row], indptr[row + 1], c, width, rows[cell])) {
                    crew_raise(&lift->faulty);
                    return;
                }
            }
            if (lift->out) {
                transpose(rows[0], LIFT_CHANNELS, lift->out + start, cells, count, width);
                continue;
            }
            transpose(rows[0], LIFT_CHANNELS, lines[0], LIFT_CELLS, count, width);
            levels_of(lines[0], width * LIFT_CELLS, scale, levels[0]);
            for (ptrdiff_t line = 0; line < width; line++)
                memcpy(lift->levels + start + line * cells, levels[line], (size_t)count);
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
