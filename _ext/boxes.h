/* Samples that are plain means: where a resize has a whole ratio, area averages whole pixels, and a bilinear sample lies
 * on a pixel or right in the middle between two, on both axes. All is done with whole numbers: lines are added up, then
 * the pixels of a box, its channels side by side in one word; the one rounding is that of the output.
 */
#ifndef OCTOBEV_BOXES_H
#define OCTOBEV_BOXES_H

#include "area.h"

/* Sample i of an axis is the mean of the pixels first + i * step .. + count. */
typedef struct {
    ptrdiff_t first, step, count;
} Boxes;

enum {
    BOX_PIXELS = 256, /* of both axes: 16 bits hold their sum */
    BOX_STEP = 16,    /* bilinear: farther apart, too much is added up that no sample needs */
    CHUNK = 128       /* bytes of a line that are added up at a time */
};

/* Whether the samples of an axis are such means; `boxes` then says of which pixels. */
OCTOBEV_INLINE int find_boxes(double start, double length, ptrdiff_t samples, int by_area, Boxes *boxes)
{
    const ptrdiff_t step = (ptrdiff_t)(length / (double)samples);
    const double middle = start + (double)(step - 1) / 2; /* of the first sample */
    if (step < 1 || (double)(step * samples) != length)
        return 0;
    boxes->step = step;
    boxes->first = (ptrdiff_t)(by_area ? start : middle);
    if (by_area) {
        boxes->count = step;
        return (double)boxes->first == start;
    }
    boxes->count = (double)boxes->first == middle ? 1 : 2;
    return step <= BOX_STEP && (boxes->count == 1 || (double)boxes->first + 0.5 == middle);
}

/* sums[i] = sum over `count` lines of their bytes i. */
OCTOBEV_INLINE void add_lines(const uint8_t *lines, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t length,
                              uint16_t *OCTOBEV_RESTRICT sums)
{
    const uint8_t *first = lines, *second = lines + stride, *third = second + stride, *fourth = third + stride;
    if (count == 2)
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] = (uint16_t)(first[i] + second[i]);
    else if (count == 4)
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] = (uint16_t)(first[i] + second[i] + third[i] + fourth[i]);
    else
        for (ptrdiff_t line = 0; line < count; line++)
            add_bytes(lines + line * stride, length, line == 0, sums);
}

/* The same, bit by bit: what is needed `ahead` bytes on is asked for now, little at a time, as queues to memory are
 * short. */
OCTOBEV_INLINE void add_lines_ahead(const uint8_t *lines, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t ahead,
                                    ptrdiff_t length, uint16_t *OCTOBEV_RESTRICT sums)
{
    for (ptrdiff_t at = 0; at < length; at += CHUNK) {
        for (ptrdiff_t line = 0; line < count; line++)
            for (ptrdiff_t i = 0; i < CHUNK; i += CACHE_LINE)
                OCTOBEV_PREFETCH(lines + at + i + line * stride + ahead);
        if (at + CHUNK <= length) /* a length that the compiler knows */
            add_lines(lines + at, stride, count, CHUNK, sums + at);
        else
            add_lines(lines + at, stride, count, length - at, sums + at);
    }
}

/* The sums of four neighbouring bytes in one word: words are added as all four at once, as none exceeds 16 bits. */
OCTOBEV_INLINE uint64_t four_sums(const uint16_t *sums)
{
    uint64_t word;
    memcpy(&word, sums, sizeof word);
    return word;
}

OCTOBEV_INLINE uint16_t sum_of(uint64_t word, int channel)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (uint16_t)(word >> (48 - 16 * channel));
#else
    return (uint16_t)(word >> 16 * channel);
#endif
}

#ifdef OCTOBEV_VECTORS
typedef uint16_t u16x8 __attribute__((vector_size(16), aligned(2), may_alias));
#endif

/* The sum of four neighbouring pixels of three channels: twelve numbers, and two behind them are read, too. */
OCTOBEV_INLINE uint64_t four_pixels(const uint16_t *sums)
{
#ifdef OCTOBEV_VECTORS
    const u16x8 pairs = *(const u16x8 *)sums + *(const u16x8 *)(sums + 6); /* pixels 0 and 2, behind them 1 and 3 */
    const u16x8 all = pairs + __builtin_shufflevector(pairs, pairs, 3, 4, 5, 6, 7, 7, 7, 7);
    uint64_t word;
    memcpy(&word, &all, sizeof word);
    return word;
#else
    return four_sums(sums) + four_sums(sums + 3) + four_sums(sums + 6) + four_sums(sums + 9);
#endif
}

/* words[x] = sums over the `count` pixels of a box, each `pixel` sums wide; boxes are `step` pixels apart. */
OCTOBEV_INLINE void add_pixels(const uint16_t *sums, ptrdiff_t pixel, ptrdiff_t step, ptrdiff_t count, ptrdiff_t width,
                               uint64_t *OCTOBEV_RESTRICT words)
{
    for (ptrdiff_t x = 0; x < width; x++) {
        const uint16_t *from = sums + x * step * pixel;
        uint64_t word = four_sums(from);
        for (ptrdiff_t i = 1; i < count; i++)
            word += four_sums(from + i * pixel);
        words[x] = word;
    }
}

/* From the sums of lines to those of boxes, a plane for each channel. Two numbers behind the last pixel are read, too. */
OCTOBEV_INLINE void sum_boxes(const uint16_t *sums, ptrdiff_t pixel, const Boxes *boxes, ptrdiff_t width,
                              uint64_t *OCTOBEV_RESTRICT words, const Samples *samples)
{
    if (pixel == 3 && boxes->count == 2) /* counts that the compiler knows */
        add_pixels(sums, 3, boxes->step, 2, width, words);
    else if (pixel == 3 && boxes->count == 4)
        for (ptrdiff_t x = 0; x < width; x++)
            words[x] = four_pixels(sums + x * boxes->step * 3);
    else
        add_pixels(sums, pixel, boxes->step, boxes->count, width, words);
    for (int c = 0; c < 3; c++) {
        uint16_t *OCTOBEV_RESTRICT to = samples->whole[c];
        for (ptrdiff_t x = 0; x < width; x++)
            to[x] = sum_of(words[x], c);
    }
}

#endif
