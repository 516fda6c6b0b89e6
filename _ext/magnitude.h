/* Inner loops of magnitude.pyx: floating-point numbers read as the bits that they are.
 *
 * Without its sign bit the pattern of a number grows with its magnitude: finite, then infinity, then NaN. So one pass
 * over whole numbers, which compilers vectorise, finds out what would take three over floating-point ones.
 */
#ifndef OCTOBEV_MAGNITUDE_H
#define OCTOBEV_MAGNITUDE_H

#include "vector.h"

#if defined(__GNUC__)
#define OCTOBEV_ALIAS __attribute__((may_alias))
#define OCTOBEV_UNUSED __attribute__((unused)) /* not every kernel needs every width */
#else
#define OCTOBEV_ALIAS
#define OCTOBEV_UNUSED
#endif

typedef OCTOBEV_ALIAS uint16_t half_bits;
typedef OCTOBEV_ALIAS uint32_t float_bits;
typedef OCTOBEV_ALIAS uint64_t double_bits;

/* The largest pattern without its sign bit, and in the first bit of `any` whether a sign bit is set. */
#define OCTOBEV_MAGNITUDE(name, bits_t, word_t)                                                      \
    OCTOBEV_CLONES OCTOBEV_UNUSED                                                                    \
    static word_t name(const bits_t *numbers, ptrdiff_t count, word_t *any)                          \
    {                                                                                                \
        const word_t sign = (word_t)((word_t)1 << (8 * sizeof(word_t) - 1)), others = (word_t)~sign; \
        word_t largest = 0, all = 0;                                                                 \
        for (ptrdiff_t i = 0; i < count; i++) {                                                      \
            word_t number = numbers[i], magnitude = (word_t)(number & others);                       \
            all = (word_t)(all | number);                                                            \
            largest = magnitude > largest ? magnitude : largest;                                     \
        }                                                                                            \
        *any = (word_t)(all & sign);                                                                 \
        return largest;                                                                              \
    }

OCTOBEV_MAGNITUDE(magnitude_16, half_bits, uint16_t)
OCTOBEV_MAGNITUDE(magnitude_32, float_bits, uint32_t)
OCTOBEV_MAGNITUDE(magnitude_64, double_bits, uint64_t)

/* What the bits of a number that is not negative stand for. */
OCTOBEV_INLINE double half_of_bits(uint16_t bits)
{
    int exponent = bits >> 10;
    double fraction = bits & 1023;
    if (exponent == 31)
        return fraction > 0 ? NAN : INFINITY;
    return exponent == 0 ? ldexp(fraction, -24) : ldexp(fraction + 1024, exponent - 25);
}

OCTOBEV_INLINE double float_of_bits(uint32_t bits)
{
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

OCTOBEV_INLINE double double_of_bits(uint64_t bits)
{
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

#endif
