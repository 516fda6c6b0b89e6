/* Inner loops of outputs.pyx. */
#ifndef OCTOBEV_OUTPUTS_H
#define OCTOBEV_OUTPUTS_H

#include "magnitude.h"
#include "vector.h"

#define PLANES_TILE 256 /* rows read several times while they are in the first cache */

/* planes[c][r] = rows[r][c] for all of `count` rows. Four columns at a time; where the last ones are fewer, four that
 * end with them, some of which are written twice: half the time of one by one. Returns the largest pattern without its
 * sign bit and sets `any`, as magnitude_32 does: what is read from memory once serves both. */
OCTOBEV_CLONES
static uint32_t rows_to_planes_measured(const float *rows, ptrdiff_t count, ptrdiff_t channels, float *planes,
                                        uint32_t *any)
{
    const ptrdiff_t fours = channels & ~(ptrdiff_t)3, last = channels < 4 ? 0 : channels - 4;
    uint32_t largest = 0;
    *any = 0;
    for (ptrdiff_t first = 0; first < count; first += PLANES_TILE) {
        const ptrdiff_t tile = count - first < PLANES_TILE ? count - first : PLANES_TILE;
        const float *from = rows + first * channels;
        uint32_t sign, magnitude = magnitude_32((const float_bits *)from, tile * channels, &sign);
        largest = magnitude > largest ? magnitude : largest;
        *any |= sign;
        for (ptrdiff_t c = 0; c < fours; c += 4)
            transpose(from + c, channels, planes + c * count + first, count, tile, 4);
        if (fours < channels)
            transpose(from + last, channels, planes + last * count + first, count, tile, channels - last);
    }
    return largest;
}

/* values[c][i] = 0 where nothing was observed[i]. */
OCTOBEV_CLONES
static void clear_unobserved_planes(float *OCTOBEV_RESTRICT values, const uint8_t *OCTOBEV_RESTRICT observed,
                                    ptrdiff_t channels, ptrdiff_t cells)
{
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t i = 0; i < cells; i++)
            values[c * cells + i] = observed[i] ? values[c * cells + i] : 0.0f;
}

/* Length of (x[i], y[i]), 1 at most, where observed[i]; 0 elsewhere. The squares of floats fit into doubles, which have
 * digits enough to round the root to the float that it is. */
OCTOBEV_CLONES
static void lengths_observed(const float *x, const float *y, const uint8_t *observed, ptrdiff_t cells,
                             float *OCTOBEV_RESTRICT out)
{
    for (ptrdiff_t i = 0; i < cells; i++) {
        const double a = x[i], b = y[i];
        const float length = (float)sqrt(a * a + b * b);
        out[i] = !observed[i] ? 0.0f : length > 1 ? 1.0f : length;
    }
}

/* p / (1 - p) in place of p, which is first clipped to least .. most. */
OCTOBEV_CLONES
static void odds_clipped(float *probability, ptrdiff_t count, float least, float most)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        const float p = probability[i] > least ? (probability[i] < most ? probability[i] : most) : least;
        probability[i] = p / (1 - p);
    }
}

#endif
