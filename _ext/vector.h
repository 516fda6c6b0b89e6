/* Portable vector code for the kernels' inner loops.
 *
 * OCTOBEV_CLONES before a function compiles it for several levels of x86-64 and picks one when the module is loaded
 * (GCC on Linux with glibc). Elsewhere it is nothing and the compiler's default target is used. Contraction of
 * multiply-add is off for all kernels, so every level gives the same bits.
 *
 * f16, f8, f4, f2 are so many floats side by side, i8 and i4 whole numbers (GCC and Clang); without them loops are
 * plain C. Defining OCTOBEV_PORTABLE leaves them out.
 */
#ifndef OCTOBEV_VECTOR_H
#define OCTOBEV_VECTOR_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__x86_64__) && defined(__GLIBC__) && \
    !defined(OCTOBEV_PORTABLE)
#define OCTOBEV_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define OCTOBEV_CLONES
#endif

#if defined(__GNUC__)
#define OCTOBEV_INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define OCTOBEV_INLINE static __forceinline
#else
#define OCTOBEV_INLINE static inline
#endif

/* Asks for a cache line before it is needed, into the second cache, whose queue is longer; any address may be named. */
#if defined(__GNUC__)
#define OCTOBEV_PREFETCH(address) __builtin_prefetch(address, 0, 2)
#else
#define OCTOBEV_PREFETCH(address) ((void)(address))
#endif

#if defined(_MSC_VER)
#define OCTOBEV_RESTRICT __restrict
#else
#define OCTOBEV_RESTRICT restrict
#endif

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector) && __has_builtin(__builtin_convertvector) && !defined(OCTOBEV_PORTABLE)
#define OCTOBEV_VECTORS 1
typedef float f16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef float f8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float f4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef float f2 __attribute__((vector_size(8), aligned(4), may_alias));
typedef int32_t i8 __attribute__((vector_size(32)));
typedef int32_t i4 __attribute__((vector_size(16)));
#endif
#endif

#ifdef OCTOBEV_VECTORS
/* Four rows of four columns: column i goes to columns[i]. */
OCTOBEV_INLINE void transpose_lines(f4 a, f4 b, f4 c, f4 d, f4 *columns)
{
    f4 ac_low = __builtin_shufflevector(a, c, 0, 4, 1, 5), ac_high = __builtin_shufflevector(a, c, 2, 6, 3, 7);
    f4 bd_low = __builtin_shufflevector(b, d, 0, 4, 1, 5), bd_high = __builtin_shufflevector(b, d, 2, 6, 3, 7);
    columns[0] = __builtin_shufflevector(ac_low, bd_low, 0, 4, 1, 5);
    columns[1] = __builtin_shufflevector(ac_low, bd_low, 2, 6, 3, 7);
    columns[2] = __builtin_shufflevector(ac_high, bd_high, 0, 4, 1, 5);
    columns[3] = __builtin_shufflevector(ac_high, bd_high, 2, 6, 3, 7);
}

OCTOBEV_INLINE void transpose_4x4(const float *from, ptrdiff_t stride, f4 *columns)
{
    transpose_lines(*(const f4 *)from, *(const f4 *)(from + stride), *(const f4 *)(from + 2 * stride),
                    *(const f4 *)(from + 3 * stride), columns);
}
#endif

/* to[c][r] = from[r][c] for `rows` x `columns` floats, strides in floats; whole cache lines of `to` at a time. */
OCTOBEV_INLINE void transpose(const float *OCTOBEV_RESTRICT from, ptrdiff_t from_stride, float *OCTOBEV_RESTRICT to,
                              ptrdiff_t to_stride, ptrdiff_t rows, ptrdiff_t columns)
{
    ptrdiff_t r, c, rows_done = 0;
#ifdef OCTOBEV_VECTORS
    ptrdiff_t columns_by_4 = columns & ~(ptrdiff_t)3;
    rows_done = rows & ~(ptrdiff_t)15;
    for (r = 0; r < rows_done; r += 16) {
        for (c = 0; c < columns_by_4; c += 4) {
            f4 lines[4][4];
            for (int quarter = 0; quarter < 4; quarter++)
                transpose_4x4(from + (r + 4 * quarter) * from_stride + c, from_stride, lines[quarter]);
            for (int line = 0; line < 4; line++)
                for (int quarter = 0; quarter < 4; quarter++)
                    *(f4 *)(to + (c + line) * to_stride + r + 4 * quarter) = lines[quarter][line];
        }
        for (; c < columns; c++)
            for (int i = 0; i < 16; i++)
                to[c * to_stride + r + i] = from[(r + i) * from_stride + c];
    }
#endif
    for (c = 0; c < columns; c++)
        for (r = rows_done; r < rows; r++)
            to[c * to_stride + r] = from[r * from_stride + c];
}

/* exp(x) for -87 <= x <= 0, error below 2 units in the last place. Cephes expf (Moshier 1992). */
OCTOBEV_INLINE float exp_negative(float x)
{
    float power = (float)(int32_t)(x * 1.44269504088896341f - 0.5f); /* towards zero: nearest, as x <= 0 */
    float r = x - power * 0.693359375f + power * 2.12194440e-4f;
    float series = 1.9875691500e-4f;
    series = series * r + 1.3981999507e-3f;
    series = series * r + 8.3334519073e-3f;
    series = series * r + 4.1665795894e-2f;
    series = series * r + 1.6666665459e-1f;
    series = series * r + 5.0000001201e-1f;
    union {
        int32_t bits;
        float value;
    } scale;
    scale.bits = ((int32_t)power + 127) << 23;
    return (series * r * r + r + 1.0f) * scale.value;
}

/* log(x) for normal x > 0, error below 2 units in the last place. Cephes logf (Moshier 1992). */
OCTOBEV_INLINE float log_positive(float x)
{
    union {
        float value;
        int32_t bits;
    } mantissa;
    mantissa.value = x;
    int32_t exponent = (mantissa.bits >> 23) - 126;
    mantissa.bits = (mantissa.bits & 0x007fffff) | 0x3f000000; /* 0.5 .. 1 */
    int small = mantissa.value < 0.707106781186547524f;
    float power = (float)(exponent - small);
    float r = (small ? mantissa.value + mantissa.value : mantissa.value) - 1.0f;
    float series = 7.0376836292e-2f;
    series = series * r - 1.1514610310e-1f;
    series = series * r + 1.1676998740e-1f;
    series = series * r - 1.2420140846e-1f;
    series = series * r + 1.4249322787e-1f;
    series = series * r - 1.6668057665e-1f;
    series = series * r + 2.0000714765e-1f;
    series = series * r - 2.4999993993e-1f;
    series = series * r + 3.3333331174e-1f;
    float r2 = r * r;
    float low = series * r * r2 - 2.12194440e-4f * power - 0.5f * r2;
    return r + low + 0.693359375f * power;
}

#endif
