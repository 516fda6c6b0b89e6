/* Inner loops of lift_levels.pyx: a sparse matrix times features, levels of 8 bits in and out, in whole numbers between.
 *
 * Where the processor has the instructions, one puts the levels of two pixels side by side as numbers of 16 bits
 * (AVX-512 VBMI), and one adds their products with two weights to sixteen sums (VNNI). Elsewhere it is plain C. Sums are
 * whole numbers, so they are the same, in whatever order they are added.
 */
#ifndef OCTOBEV_LIFT_LEVELS_H
#define OCTOBEV_LIFT_LEVELS_H

#include "byte_dots.h"
#include "crew.h"

enum {
    FIXED_ONE = 32767,   /* what stands for a weight of 1 */
    LEVEL_ROWS = 512,    /* of a part: some five microseconds */
    LEVEL_CHANNELS = 64, /* that are summed at once */
    LEVEL_LANES = 16,    /* sums of a vector */
    LEVEL_AHEAD = 16,    /* entries between those that are summed and those whose features are fetched */
};

/* A matrix, the features that it is multiplied with, and what they become. */
typedef struct {
    const int32_t *indptr, *indices; /* [rows + 1], [entries] */
    const int16_t *weights;          /* [entries], in units of 1 / FIXED_ONE */
    ptrdiff_t rows, entries, pixels;
    const uint8_t *features; /* [pixels][channels] */
    ptrdiff_t channels;
    int zero;     /* the level of features that stands for 0 */
    float factor; /* levels of the output in a unit of the sums */
    int out_zero; /* the level of the output that stands for 0 */
    int dots;     /* whether to use instructions for it, which are there */
    uint8_t *out; /* [rows][channels] */
    int faulty;   /* set when a row or an entry points to what is not there */
} LevelLift;

/* Weights 0 .. 1 as whole numbers; returns how many are none, among them NaN. */
OCTOBEV_CLONES
static ptrdiff_t fix_weights(const float *weights, ptrdiff_t count, int16_t *OCTOBEV_RESTRICT fixed)
{
    ptrdiff_t wrong = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        const int sound = weights[i] >= 0 && weights[i] <= 1;
        wrong += !sound;
        fixed[i] = (int16_t)(int32_t)((sound ? weights[i] : 0.0f) * FIXED_ONE + 0.5f);
    }
    return wrong;
}

/* The nearest level, of two that are as near the even one, as level_of in lift.h. */
OCTOBEV_INLINE uint8_t level_of_sum(int32_t sum, const LevelLift *lift)
{
    union {
        float value;
        int32_t bits;
    } rounded;
    const float low = (float)-lift->out_zero, high = (float)(255 - lift->out_zero);
    float steps = (float)sum * lift->factor;
    steps = steps > low ? steps : low;
    steps = steps < high ? steps : high;
    rounded.value = steps + 12582912.0f;
    return (uint8_t)(rounded.bits - 0x4b400000 + lift->out_zero);
}

/* `width` channels of a row from `begin` on, in plain C; returns 0 where an entry points to what is not there. */
OCTOBEV_INLINE int lift_level_row(const LevelLift *lift, ptrdiff_t row, ptrdiff_t begin, ptrdiff_t width)
{
    uint32_t sums[LEVEL_CHANNELS] = {0}, weight_sum = 0; /* without a sign, as these may run over */
    const ptrdiff_t first = lift->indptr[row], last = lift->indptr[row + 1];
    if (first < 0 || first > last || last > lift->entries)
        return 0;
    for (ptrdiff_t k = first; k < last; k++) {
        const uint32_t pixel = (uint32_t)lift->indices[k];
        const int32_t weight = lift->weights[k];
        if (pixel >= lift->pixels)
            return 0;
        const uint8_t *levels = lift->features + (ptrdiff_t)pixel * lift->channels + begin;
        for (ptrdiff_t c = 0; c < width; c++)
            sums[c] += (uint32_t)(weight * levels[c]);
        weight_sum += (uint32_t)weight;
    }
    for (ptrdiff_t c = 0; c < width; c++)
        lift->out[row * lift->channels + begin + c] = level_of_sum((int32_t)(sums[c] - (uint32_t)lift->zero * weight_sum), lift);
    return 1;
}

#ifdef OCTOBEV_DOTS

/* lift_level_row for `count` rows and at most LEVEL_LANES * `vectors` channels, whose sums stay in registers. */
DOTS_TARGET OCTOBEV_INLINE int lift_level_dots(const int vectors, const LevelLift *lift, ptrdiff_t row,
                                               ptrdiff_t count, ptrdiff_t begin, ptrdiff_t width)
{
    const LevelLift job = *lift;
    const uint8_t *features = job.features + begin;
    const size_t rest = (size_t)(width - LEVEL_LANES * (vectors - 1)); /* channels of the last vector */
    const __mmask64 loaded = ~0ull >> (64 - width), low_bytes = 0x5555555555555555ull;
    const __m512i ones = _mm512_set1_epi16(1), zero = _mm512_set1_epi32(job.zero);
    const __m512i out_zero = _mm512_set1_epi32(job.out_zero);
    const __m512 factor = _mm512_set1_ps(job.factor), low = _mm512_set1_ps((float)-job.out_zero),
                 high = _mm512_set1_ps((float)(255 - job.out_zero));
    __m512i places[4]; /* the bytes of two pixels that go to a vector: of the first 0 .. 63, of the second 64 .. 127 */
    for (int i = 0; i < vectors; i++) {
        int32_t pairs[LEVEL_LANES];
        for (int lane = 0; lane < LEVEL_LANES; lane++)
            pairs[lane] = (LEVEL_LANES * i + lane) | (64 + LEVEL_LANES * i + lane) << 16;
        places[i] = _mm512_loadu_si512(pairs);
    }
    for (ptrdiff_t stop = row + count; row < stop; row++) {
        const ptrdiff_t first = job.indptr[row], last = job.indptr[row + 1];
        if (first < 0 || first > last || last > job.entries)
            return 0;
        const ptrdiff_t ahead = last + LEVEL_AHEAD < job.entries ? LEVEL_AHEAD : 0;
        __m512i sums[4], weight_sums = _mm512_setzero_si512();
        for (int i = 0; i < vectors; i++)
            sums[i] = _mm512_setzero_si512();
        for (ptrdiff_t k = first; k < last; k += 2) {
            const int two = k + 1 < last; /* else the last entry once more, without weight */
            const uint32_t one = (uint32_t)job.indices[k], other = (uint32_t)job.indices[k + two];
            int32_t weights = (uint16_t)job.weights[k];
            if (one >= job.pixels || other >= job.pixels)
                return 0;
            /* of two entries one is enough: they are neighbours in a row of an image, nearly always */
            __builtin_prefetch(features + (ptrdiff_t)job.indices[k + ahead] * job.channels);
            if (two)
                memcpy(&weights, job.weights + k, sizeof weights);
            const __m512i pair = _mm512_set1_epi32(weights);
            const __m512i a = _mm512_maskz_loadu_epi8(loaded, features + (ptrdiff_t)one * job.channels);
            const __m512i b = _mm512_maskz_loadu_epi8(loaded, features + (ptrdiff_t)other * job.channels);
            for (int i = 0; i < vectors; i++)
                sums[i] = _mm512_dpwssd_epi32(sums[i], _mm512_maskz_permutex2var_epi8(low_bytes, a, places[i], b), pair);
            weight_sums = _mm512_dpwssd_epi32(weight_sums, pair, ones);
        }
        weight_sums = _mm512_mullo_epi32(weight_sums, zero);
        for (int i = 0; i < vectors; i++) {
            __m512 steps = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums[i], weight_sums)), factor);
            steps = _mm512_min_ps(_mm512_max_ps(steps, low), high);
            const __m512i levels = _mm512_add_epi32(_mm512_cvtps_epi32(steps), out_zero); /* to even, as numbers round */
            const __m128i bytes = _mm512_cvtepi32_epi8(levels);
            uint8_t *out = job.out + row * job.channels + begin + LEVEL_LANES * i;
            if (i + 1 < vectors || rest == LEVEL_LANES)
                _mm_storeu_si128((__m128i *)out, bytes);
            else
                memcpy(out, &bytes, rest);
        }
    }
    return 1;
}

DOTS_TARGET static int lift_level_rows_dots(const LevelLift *lift, ptrdiff_t row, ptrdiff_t count, ptrdiff_t begin,
                                            ptrdiff_t width)
{
    switch ((width + LEVEL_LANES - 1) / LEVEL_LANES) {
    case 1:
        return lift_level_dots(1, lift, row, count, begin, width);
    case 2:
        return lift_level_dots(2, lift, row, count, begin, width);
    case 3:
        return lift_level_dots(3, lift, row, count, begin, width);
    default:
        return lift_level_dots(4, lift, row, count, begin, width);
    }
}

#else

static int lift_level_rows_dots(const LevelLift *lift, ptrdiff_t row, ptrdiff_t count, ptrdiff_t begin, ptrdiff_t width)
{
    (void)lift, (void)row, (void)count, (void)begin, (void)width;
    return 0;
}

#endif

OCTOBEV_CLONES
static int lift_level_rows_plain(const LevelLift *lift, ptrdiff_t row, ptrdiff_t count, ptrdiff_t begin, ptrdiff_t width)
{
    for (ptrdiff_t stop = row + count; row < stop; row++)
        if (!lift_level_row(lift, row, begin, width))
            return 0;
    return 1;
}

/* Rows LEVEL_ROWS * part and on; the first that is wrong ends the part. */
static void lift_levels_part(void *job, ptrdiff_t part)
{
    LevelLift *lift = (LevelLift *)job;
    const ptrdiff_t first = part * LEVEL_ROWS, left = lift->rows - first, count = left < LEVEL_ROWS ? left : LEVEL_ROWS;
    for (ptrdiff_t begin = 0; begin < lift->channels; begin += LEVEL_CHANNELS) {
        const ptrdiff_t more = lift->channels - begin, width = more < LEVEL_CHANNELS ? more : LEVEL_CHANNELS;
        if (!(lift->dots ? lift_level_rows_dots : lift_level_rows_plain)(lift, first, count, begin, width)) {
            crew_raise(&lift->faulty);
            return;
        }
    }
}

#endif
