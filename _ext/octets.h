/* Inner loop of octets.pyx. */
#ifndef OCTOBEV_OCTETS_H
#define OCTOBEV_OCTETS_H

#include "vector.h"

/* 1.5 * 2^23. Added to a number of less than 2^22 it leaves no room for a fraction: the sum is rounded to the nearest
 * integer, to even, and that is the difference of its bits and these. What is larger, infinite or no number ends far
 * away from 0 .. 255. */
#define NO_FRACTION 12582912.0f
#define NO_FRACTION_BITS 0x4B400000

/* octets[i] = probability[i] * 255, rounded. Whether all were within 0 .. 255 then. */
OCTOBEV_CLONES static int to_octets(const float *OCTOBEV_RESTRICT probability, uint8_t *OCTOBEV_RESTRICT octets,
                                    ptrdiff_t count)
{
    uint32_t any = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        union {
            float value;
            uint32_t bits;
        } sum;
        sum.value = probability[i] * 255.0f + NO_FRACTION;
        uint32_t rounded = sum.bits - NO_FRACTION_BITS;
        any |= rounded;
        octets[i] = (uint8_t)rounded;
    }
    return any <= 255;
}

#endif
