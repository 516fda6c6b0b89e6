/* Inner loop of octets.pyx. */
#ifndef OCTOBEV_OCTETS_H
#define OCTOBEV_OCTETS_H

#include "vector.h"

/* Adding it leaves no room for a fraction: the sum is rounded to the nearest, to even, and its low bits are the integer. */
#define NO_FRACTION 8388608.0f /* 2^23 */

/* octets[i] = probability[i] * 255, rounded, 0..255. Whether all were within low .. high; NaN is not. */
OCTOBEV_CLONES static int to_octets(const float *OCTOBEV_RESTRICT probability, uint8_t *OCTOBEV_RESTRICT octets,
                                    ptrdiff_t count, float low, float high)
{
    int32_t astray = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        union {
            float value;
            int32_t bits;
        } rounded;
        float p = probability[i];
        float scaled = p * 255.0f;
        astray |= !((p >= low) & (p <= high));
        scaled = scaled > 0.0f ? scaled : 0.0f;
        scaled = scaled < 255.0f ? scaled : 255.0f;
        rounded.value = scaled + NO_FRACTION;
        octets[i] = (uint8_t)rounded.bits;
    }
    return !astray;
}

#endif
