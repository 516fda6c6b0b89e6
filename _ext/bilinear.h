/* Bilinear sampling of a row. The pixels that each sample lies between are copied out side by side, the upper pair and
 * the lower pair; then many samples at once are blended, a channel at a time, into planes. Lines and pixels that no
 * sample needs are neither read nor converted.
 */
#ifndef OCTOBEV_BILINEAR_H
#define OCTOBEV_BILINEAR_H

#include "pixels.h"
#include "rows.h"

/* Where the samples of a row lie: the left upper of their four pixels, and the ways from it to the right and down in
 * pixels, 0 .. 1. `place` is that pixel's distance, in bytes, from the line that it is counted from; of YUV `column`
 * and `line` count instead. */
typedef struct {
    int32_t *column, *line;
    ptrdiff_t *place;
    float *right, *down;
} Places;

enum {
    PAIR_BYTES = 8, /* of two pixels of three or four bytes each */
    BLOCK = 64      /* samples that are copied, then blended: few, so that one block's copies overlap another's sums */
};

/* The pixels around the samples of a block: a pair above each, and one below. */
typedef struct {
    uint32_t pairs[2][BLOCK * PAIR_BYTES / 4];
} Neighbours;

OCTOBEV_INLINE Places places_from(const Places *places, ptrdiff_t x)
{
    Places rest = *places;
    rest.column += places->column ? x : 0;
    rest.line += places->line ? x : 0;
    rest.place += x;
    rest.right += x;
    rest.down += x;
    return rest;
}

/* ---- pairs ---- */

/* Whether a pixel and its right neighbour can be copied as they are. */
OCTOBEV_INLINE int has_plain_pairs(const Image *image)
{
    return !image->chroma && image->channel_stride == 1 && image->width > 1 &&
           (image->pixel_stride == 3 || image->pixel_stride == 4);
}

/* Copies the pairs that begin at from + place[x]. All PAIR_BYTES of a pair are read at once, though those behind its
 * second pixel mean nothing, unless they are not before `end`.
 *
 * Where samples are far apart, no hardware foresees which lines come next: the same pairs `ahead` bytes on are asked
 * for now, if that is not 0. This halves the time for images that are not in the nearest caches. */
OCTOBEV_INLINE void copy_pairs(const uint8_t *from, const uint8_t *end, ptrdiff_t ahead, const ptrdiff_t *place,
                               ptrdiff_t step, ptrdiff_t count, uint32_t *OCTOBEV_RESTRICT pairs)
{
    const ptrdiff_t room = end - from - PAIR_BYTES;
    int fits = 1; /* asked once for the block: a comparison for each pair costs a third more */
    for (ptrdiff_t at = place[0]; ahead && at <= place[count - 1]; at += CACHE_LINE)
        OCTOBEV_PREFETCH(from + at + ahead);
    for (ptrdiff_t x = 0; x < count; x++)
        fits &= place[x] <= room;
    if (fits)
        for (ptrdiff_t x = 0; x < count; x++)
            memcpy(pairs + 2 * x, from + place[x], PAIR_BYTES);
    else
        for (ptrdiff_t x = 0; x < count; x++)
            memcpy(pairs + 2 * x, from + place[x], place[x] <= room ? PAIR_BYTES : (size_t)step + 3);
}

/* Pairs of packed pixels, from channels at any distance; `step` 0: the image is one pixel wide. */
OCTOBEV_INLINE void pack_pairs(const uint8_t *from, const ptrdiff_t *place, ptrdiff_t step, ptrdiff_t channel,
                               ptrdiff_t count, uint32_t *OCTOBEV_RESTRICT pairs)
{
    for (ptrdiff_t x = 0; x < count; x++) {
        const uint8_t *left = from + place[x], *right = left + step;
        pairs[2 * x] = packed_pixel(left[0], left[channel], left[2 * channel]);
        pairs[2 * x + 1] = packed_pixel(right[0], right[channel], right[2 * channel]);
    }
}

/* Pairs of packed pixels of YUV, `lower` lines below the samples' lines. */
OCTOBEV_INLINE void convert_pairs(const Image *image, ptrdiff_t step, const Places *places, int lower, ptrdiff_t count,
                                  uint32_t *OCTOBEV_RESTRICT pairs)
{
    const ptrdiff_t stride = image->row_stride, last = image->height - 1;
    const int shift = image->chroma_shift;
    uint8_t luma[2 * BLOCK], blue[2 * BLOCK], red[2 * BLOCK];
    for (ptrdiff_t i = 0; i < count; i++) {
        const ptrdiff_t x = places->column[i], across = (x & 1) * 2 * step;
        const ptrdiff_t y = places->line[i] + lower < last ? places->line[i] + lower : last;
        const uint8_t *left = image->data + y * stride + x * step;
        const uint8_t *colour = image->chroma + (y >> shift) * stride + (x & ~(ptrdiff_t)1) * step;
        luma[2 * i] = left[0];
        luma[2 * i + 1] = left[step];
        blue[2 * i] = colour[0];
        blue[2 * i + 1] = colour[across];
        red[2 * i] = colour[step];
        red[2 * i + 1] = colour[across + step];
    }
    for (ptrdiff_t at = 0; at < 2 * count; at++)
        pairs[at] = bgr_pixel(luma[at], blue[at], red[at]);
}

/* ---- blending ---- */

/* A byte of a pair; words instead of bytes are loaded, of which compilers make vectors. */
OCTOBEV_INLINE float byte_of(const uint32_t *pair, int byte)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    const int shift = 24 - byte % 4 * 8;
#else
    const int shift = byte % 4 * 8;
#endif
    return (float)(int32_t)(pair[byte / 4] >> shift & 255);
}

OCTOBEV_INLINE float blend(const uint32_t *upper, const uint32_t *lower, int left, int right, float across, float down)
{
    const float a = byte_of(upper, left), b = byte_of(upper, right);
    const float c = byte_of(lower, left), d = byte_of(lower, right);
    const float above = a + across * (b - a), below = c + across * (d - c);
    return above + down * (below - above);
}

/* Blends pairs whose second pixel lies `step` bytes behind the first. */
OCTOBEV_INLINE void blend_block(const Neighbours *own, const Places *places, int step, ptrdiff_t count,
                              const Samples *samples)
{
    const uint32_t *upper = own->pairs[0], *lower = own->pairs[1];
    const float *across = places->right, *down = places->down;
    float *OCTOBEV_RESTRICT first = samples->channel[0], *OCTOBEV_RESTRICT second = samples->channel[1];
    float *OCTOBEV_RESTRICT third = samples->channel[2];
    for (ptrdiff_t x = 0; x < count; x++) {
        first[x] = blend(upper + 2 * x, lower + 2 * x, 0, step, across[x], down[x]);
        second[x] = blend(upper + 2 * x, lower + 2 * x, 1, step + 1, across[x], down[x]);
        third[x] = blend(upper + 2 * x, lower + 2 * x, 2, step + 2, across[x], down[x]);
    }
}

/* Pairs of a block, `lower` lines below the samples' lines; `from` is that line too. `ahead`: see copy_pairs.
 * `plain_step`: bytes between pixels that can be copied as they are, 0: they must be packed first. */
OCTOBEV_INLINE void pair_up(const Image *image, const uint8_t *from, ptrdiff_t ahead, const Places *places, int lower,
                            int plain_step, ptrdiff_t count, uint32_t *pairs)
{
    if (plain_step)
        copy_pairs(from, image_end(image), ahead, places->place, plain_step, count, pairs);
    else if (!image->chroma)
        pack_pairs(from, places->place, image->width > 1 ? image->pixel_stride : 0, image->channel_stride, count,
                   pairs);
    else if (image->pixel_stride == 1) /* steps that the compiler knows */
        convert_pairs(image, 1, places, lower, count, pairs);
    else
        convert_pairs(image, 2, places, lower, count, pairs);
}

OCTOBEV_INLINE void sample_block(const Image *image, const uint8_t *line, ptrdiff_t ahead, const Places *places,
                                 int plain_step, ptrdiff_t count, const Samples *samples)
{
    Neighbours own;
    pair_up(image, line, ahead, places, 0, plain_step, count, own.pairs[0]);
    pair_up(image, line + (image->height > 1 ? image->row_stride : 0), ahead, places, 1, plain_step, count,
            own.pairs[1]);
    blend_block(&own, places, plain_step ? plain_step : PACKED_BYTES, count, samples);
}

OCTOBEV_INLINE void sample_blocks(const Image *image, const uint8_t *line, ptrdiff_t ahead, const Places *places,
                                  int plain_step, ptrdiff_t width, const Samples *samples)
{
    for (ptrdiff_t x = 0; x < width; x += BLOCK) {
        const Places block = places_from(places, x);
        const Samples to = samples_from(samples, x);
        if (x + BLOCK <= width) /* a count that the compiler knows: loops without ends */
            sample_block(image, line, ahead, &block, plain_step, BLOCK, &to);
        else
            sample_block(image, line, ahead, &block, plain_step, width - x, &to);
    }
}

/* Samples a row, whose places are counted from `line`. `ahead`: see copy_pairs. */
OCTOBEV_INLINE void sample_row(const Image *image, const uint8_t *line, ptrdiff_t ahead, const Places *places,
                               ptrdiff_t width, const Samples *samples)
{
    if (has_plain_pairs(image) && image->pixel_stride == 3) /* steps that the compiler knows */
        sample_blocks(image, line, ahead, places, 3, width, samples);
    else if (has_plain_pairs(image))
        sample_blocks(image, line, ahead, places, 4, width, samples);
    else
        sample_blocks(image, line, ahead, places, 0, width, samples);
}

#endif
