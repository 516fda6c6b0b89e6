/* The x86 instructions cpuid and xgetbv, for GCC, Clang and MSVC; all zeros where the processor is another. */
#ifndef OCTOBEV_CPU_FEATURES_H
#define OCTOBEV_CPU_FEATURES_H

#include <stdint.h>

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <intrin.h>

static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4])
{
    __cpuidex((int *)registers, (int)leaf, (int)subleaf);
}

static uint64_t enabled_states(void) { return _xgetbv(0); }

#elif defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4])
{
    __cpuid_count(leaf, subleaf, registers[0], registers[1], registers[2], registers[3]);
}

static uint64_t enabled_states(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

#else

static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4])
{
    (void)leaf, (void)subleaf;
    registers[0] = registers[1] = registers[2] = registers[3] = 0;
}

static uint64_t enabled_states(void) { return 0; }

#endif

/* 1 for AVX-512 VNNI, 2 for AVX-VNNI, added up; only what the operating system lets programs use.
   Bits: Intel, Software Developer's Manual, volume 2, CPUID; volume 1, 13.3 (states). */
static int vnni_bits(void)
{
    uint32_t r[4];
    cpuid(0, 0, r);
    if (r[0] < 7)
        return 0;
    cpuid(1, 0, r);
    if (!(r[2] >> 27 & 1)) /* OSXSAVE: xgetbv may be asked */
        return 0;
    uint64_t states = enabled_states();
    cpuid(7, 0, r);
    uint32_t subleaves = r[0];
    int bits = (states & 0xE6) == 0xE6 && (r[2] >> 11 & 1);
    if (subleaves >= 1 && (states & 0x06) == 0x06) {
        cpuid(7, 1, r);
        bits |= (int)(r[0] >> 4 & 1) << 1;
    }
    return bits;
}

#endif
