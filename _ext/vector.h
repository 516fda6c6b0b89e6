/* Portable vector code for the kernels' inner loops.
 *
 * OCTOBEV_CLONES before a function compiles it for several levels of x86-64 and picks one when the module is loaded
 * (GCC on Linux with glibc). Elsewhere it is nothing and the compiler's default target is used. Contraction of
 * multiply-add is off for all kernels, so every level gives the same bits.
 *
 * f16 and f4 are 16 and 4 floats side by side (GCC and Clang); without them the loops are plain C. Defining
 * OCTOBEV_PORTABLE leaves both out.
 */
#ifndef OCTOBEV_VECTOR_H
#define OCTOBEV_VECTOR_H

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
#define OCTOBEV_PREFETCH(address) __builtin_prefetch(address)
#elif defined(_MSC_VER)
#define OCTOBEV_INLINE static __forceinline
#define OCTOBEV_PREFETCH(address) ((void)0)
#else
#define OCTOBEV_INLINE static inline
#define OCTOBEV_PREFETCH(address) ((void)0)
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
typedef float f4 __attribute__((vector_size(16), aligned(4), may_alias));
#endif
#endif

/* to[c][r] = from[r][c] for `rows` x `columns` floats; strides in floats. */
OCTOBEV_INLINE void transpose(const float *OCTOBEV_RESTRICT from, ptrdiff_t from_stride, float *OCTOBEV_RESTRICT to,
                              ptrdiff_t to_stride, ptrdiff_t rows, ptrdiff_t columns)
{
    ptrdiff_t r, c, c4 = 0;
#ifdef OCTOBEV_VECTORS
    ptrdiff_t r4 = rows & ~(ptrdiff_t)3;
    c4 = columns & ~(ptrdiff_t)3;
    for (c = 0; c < c4; c += 4) {
        for (r = 0; r < r4; r += 4) {
            const float *source = from + r * from_stride + c;
            float *target = to + c * to_stride + r;
            f4 a = *(const f4 *)source, b = *(const f4 *)(source + from_stride);
            f4 d = *(const f4 *)(source + 2 * from_stride), e = *(const f4 *)(source + 3 * from_stride);
            f4 ad_low = __builtin_shufflevector(a, d, 0, 4, 1, 5), ad_high = __builtin_shufflevector(a, d, 2, 6, 3, 7);
            f4 be_low = __builtin_shufflevector(b, e, 0, 4, 1, 5), be_high = __builtin_shufflevector(b, e, 2, 6, 3, 7);
            *(f4 *)target = __builtin_shufflevector(ad_low, be_low, 0, 4, 1, 5);
            *(f4 *)(target + to_stride) = __builtin_shufflevector(ad_low, be_low, 2, 6, 3, 7);
            *(f4 *)(target + 2 * to_stride) = __builtin_shufflevector(ad_high, be_high, 0, 4, 1, 5);
            *(f4 *)(target + 3 * to_stride) = __builtin_shufflevector(ad_high, be_high, 2, 6, 3, 7);
        }
        for (r = r4; r < rows; r++)
            for (ptrdiff_t i = c; i < c + 4; i++)
                to[i * to_stride + r] = from[r * from_stride + i];
    }
#endif
    for (c = c4; c < columns; c++)
        for (r = 0; r < rows; r++)
            to[c * to_stride + r] = from[r * from_stride + c];
}

#endif
