/* Whether the processor has dot products of bytes and of 16-bit numbers, and puts bytes anywhere in one instruction:
 * x86-64 with AVX-512 VNNI and VBMI (Intel from Ice Lake, AMD from Zen 4 on).
 */
#ifndef OCTOBEV_BYTE_DOTS_H
#define OCTOBEV_BYTE_DOTS_H

#include "vector.h"

#if defined(__x86_64__) && (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 8)) && !defined(OCTOBEV_PORTABLE)
#define OCTOBEV_DOTS 1
#include <immintrin.h>
#define DOTS_TARGET __attribute__((target("avx512f,avx512bw,avx512vbmi,avx512vnni")))
#endif

/* Whether functions of DOTS_TARGET may be called: the system, too, must let programs use these registers. */
static int has_dots(void)
{
#ifdef OCTOBEV_DOTS
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vnni");
#else
    return 0;
#endif
}

#endif
