/* Sums of small boxes of pixels by dot products of bytes, on x86-64 processors that have them (Intel from Ice Lake, AMD
 * from Zen 4 on): of each line, one instruction puts the bytes side by side that belong to one sum (AVX-512 VBMI), one
 * adds up four of them (AVX-512 VNNI, their product with ones). Elsewhere boxes.h adds up lines and then pixels; sums
 * are whole numbers, so they are the same.
 */
#ifndef OCTOBEV_DOTS_H
#define OCTOBEV_DOTS_H

#include "boxes.h"
#include "byte_dots.h"

enum {
    DOT_BYTES = 4,    /* whose sum an instruction makes */
    DOT_BOXES = 4,    /* that are summed from one load */
    DOT_LOAD = 64,    /* bytes */
    DOT_NUMBERS = 16, /* sums of an instruction: those of DOT_BOXES boxes for each channel, four are not used */
};

/* How boxes of a line become sums. */
typedef struct {
    uint8_t order[DOT_LOAD]; /* which byte of a load goes where */
    int8_t ones[DOT_LOAD];   /* 0 where boxes have fewer pixels than a dot has bytes */
    ptrdiff_t box, apart;    /* bytes of a box in a line, and from one box to the next */
} Dots;

/* Whether such boxes are small enough, pixels `pixel` bytes apart; `dots` then says how they are summed. */
static int find_dots(const Boxes *boxes, ptrdiff_t pixel, Dots *dots)
{
    dots->box = (boxes->count - 1) * pixel + 3;
    dots->apart = boxes->step * pixel;
    if (boxes->count > DOT_BYTES || (DOT_BOXES - 1) * dots->apart + dots->box > DOT_LOAD)
        return 0;
    for (int number = 0; number < DOT_NUMBERS; number++)
        for (int i = 0; i < DOT_BYTES; i++) {
            const int channel = number / DOT_BOXES, box = number % DOT_BOXES;
            const int is_summed = channel < 3 && i < boxes->count;
            dots->order[number * DOT_BYTES + i] = (uint8_t)(is_summed ? box * dots->apart + i * pixel + channel : 0);
            dots->ones[number * DOT_BYTES + i] = (int8_t)is_summed;
        }
    return 1;
}

#ifdef OCTOBEV_DOTS

/* The bytes of a load that the next so many boxes have; others are not read. */
DOTS_TARGET OCTOBEV_INLINE __mmask64 bytes_of(const Dots *dots, ptrdiff_t boxes)
{
    const ptrdiff_t loaded = boxes < DOT_BOXES ? boxes : DOT_BOXES;
    return boxes > 0 ? ~0ull >> (DOT_LOAD - ((loaded - 1) * dots->apart + dots->box)) : 0;
}

/* sums += of DOT_BOXES boxes those of one line. */
DOTS_TARGET OCTOBEV_INLINE __m512i add_dots(__m512i sums, const uint8_t *line, __mmask64 bytes, __m512i order,
                                            __m512i ones)
{
    return _mm512_dpbusd_epi32(sums, _mm512_permutexvar_epi8(order, _mm512_maskz_loadu_epi8(bytes, line)), ones);
}

/* Samples are the sums over `count` lines of boxes, twice DOT_BOXES at a time: some of the last ones beyond the width,
 * as memory for samples comes in whole cache lines. What is needed `ahead` bytes on is asked for now. */
DOTS_TARGET static void sum_dots(const Dots *dots, const uint8_t *lines, ptrdiff_t stride, ptrdiff_t count,
                                 ptrdiff_t ahead, ptrdiff_t width, const Samples *samples)
{
    const __m512i order = _mm512_loadu_si512(dots->order), ones = _mm512_loadu_si512(dots->ones);
    const ptrdiff_t more = DOT_BOXES * dots->apart; /* from one load to the next */
    __mmask64 bytes = bytes_of(dots, width), more_bytes = bytes_of(dots, width - DOT_BOXES);
    for (ptrdiff_t x = 0; x < width; x += 2 * DOT_BOXES) {
        const uint8_t *line = lines + x * dots->apart;
        __m512i sums = _mm512_setzero_si512(), more_sums = sums;
        if (width - x < 2 * DOT_BOXES) {
            bytes = bytes_of(dots, width - x);
            more_bytes = bytes_of(dots, width - x - DOT_BOXES);
        }
        for (ptrdiff_t i = 0; i < count; i++, line += stride) {
            OCTOBEV_PREFETCH(line + ahead);
            OCTOBEV_PREFETCH(line + ahead + more);
            sums = add_dots(sums, line, bytes, order, ones);
            more_sums = add_dots(more_sums, line + more, more_bytes, order, ones);
        }
        const __m512i channels = _mm512_packus_epi32(sums, more_sums); /* of 16 bits, a channel in each 128 */
        _mm_storeu_si128((__m128i *)(samples->whole[0] + x), _mm512_castsi512_si128(channels));
        _mm_storeu_si128((__m128i *)(samples->whole[1] + x), _mm512_extracti32x4_epi32(channels, 1));
        _mm_storeu_si128((__m128i *)(samples->whole[2] + x), _mm512_extracti32x4_epi32(channels, 2));
    }
}

#else

static void sum_dots(const Dots *dots, const uint8_t *lines, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t ahead,
                     ptrdiff_t width, const Samples *samples)
{
    (void)dots, (void)lines, (void)stride, (void)count, (void)ahead, (void)width, (void)samples;
}

#endif

#endif
