/* CRC-32 of zlib, PNG and Ethernet by carry-less multiplication.
 *
 * V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009. The CRC of a
 * message is its remainder modulo P, as polynomials over GF(2), lowest power in the highest bit. So a block of 128 bits
 * may be moved D bits on, towards the end of the message, when it is multiplied by x^D mod P: its two halves times one
 * 32-bit constant each, added (XOR) to what stands there. That is done for several blocks side by side, because each
 * step has to wait for the one before, until one block and less than a stride are left; these go through a table.
 *
 * There is no plain form here: without the instruction zlib's own CRC-32 is as fast as portable code gets, and
 * crc32.pyx takes it.
 */
#ifndef OCTOBEV_CRC32_H
#define OCTOBEV_CRC32_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#define OCTOBEV_FOLDS 1
#endif

#ifdef OCTOBEV_FOLDS
#include <immintrin.h>

#define POLYNOMIAL 0xEDB88320u
#define LANES 4

static uint32_t crc_table[256];
static int wide_folds;
static __m128i fold_block, fold_narrow, fold_wide; /* by one block, by LANES of 16 bytes, by LANES of 64 bytes */

/* x^bits mod P; one place to the left, because the product of two reflected halves lies one bit too low. */
static uint64_t power_of_x(int bits)
{
    uint32_t remainder = 0x80000000u;
    while (bits-- > 0)
        remainder = (remainder >> 1) ^ (remainder & 1 ? POLYNOMIAL : 0);
    return (uint64_t)remainder << 1;
}

/* What moves 128 bits on by so many bits: the first 64 of them have 64 more to go than the last, and 32 of that shift
   are in the CRC itself, which is taken of the message times x^32. */
static __m128i fold_by(int bits)
{
    return _mm_set_epi64x((long long)power_of_x(bits - 32), (long long)power_of_x(bits + 32));
}

/* Once, before anything else. Whether the processor has the instruction. */
static int prepare_folding(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t remainder = byte;
        for (int bit = 0; bit < 8; bit++)
            remainder = (remainder >> 1) ^ (remainder & 1 ? POLYNOMIAL : 0);
        crc_table[byte] = remainder;
    }
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("pclmul") || !__builtin_cpu_supports("sse4.1"))
        return 0;
    fold_block = fold_by(128);
    fold_narrow = fold_by(128 * LANES);
    fold_wide = fold_by(512 * LANES);
    wide_folds = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
    return 1;
}

static uint32_t crc_by_byte(uint32_t crc, const uint8_t *data, size_t length)
{
    while (length--)
        crc = (crc >> 8) ^ crc_table[(crc ^ *data++) & 255];
    return crc;
}

__attribute__((target("pclmul,sse4.1"))) static __m128i folded(__m128i block, __m128i by, __m128i onto)
{
    __m128i first = _mm_clmulepi64_si128(block, by, 0x00), last = _mm_clmulepi64_si128(block, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(first, last), onto);
}

/* At least LANES blocks of 16 bytes. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t crc_narrow(uint32_t crc, const uint8_t *data, size_t length)
{
    const size_t stride = 16 * LANES;
    __m128i lanes[LANES];
    uint8_t left[16];
    for (int i = 0; i < LANES; i++)
        lanes[i] = _mm_loadu_si128((const __m128i *)(data + 16 * i));
    lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128((int)crc));
    for (data += stride, length -= stride; length >= stride; data += stride, length -= stride)
        for (int i = 0; i < LANES; i++)
            lanes[i] = folded(lanes[i], fold_narrow, _mm_loadu_si128((const __m128i *)(data + 16 * i)));
    for (int i = 1; i < LANES; i++)
        lanes[0] = folded(lanes[0], fold_block, lanes[i]);
    _mm_storeu_si128((__m128i *)left, lanes[0]);
    return crc_by_byte(crc_by_byte(0, left, sizeof left), data, length);
}

/* The same with four blocks to a register; at least LANES registers of 64 bytes. */
__attribute__((target("avx512f,vpclmulqdq,pclmul,sse4.1"))) static uint32_t crc_wide(uint32_t crc, const uint8_t *data,
                                                                                   size_t length)
{
    const size_t stride = 64 * LANES;
    const __m512i by = _mm512_broadcast_i32x4(fold_wide);
    __m512i lanes[LANES];
    uint8_t left[64 * LANES];
    for (int i = 0; i < LANES; i++)
        lanes[i] = _mm512_loadu_si512(data + 64 * i);
    lanes[0] = _mm512_xor_si512(lanes[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
    for (data += stride, length -= stride; length >= stride; data += stride, length -= stride)
        for (int i = 0; i < LANES; i++) {
            __m512i first = _mm512_clmulepi64_epi128(lanes[i], by, 0x00);
            __m512i last = _mm512_clmulepi64_epi128(lanes[i], by, 0x11);
            __m512i onto = _mm512_loadu_si512(data + 64 * i);
            lanes[i] = _mm512_xor_si512(_mm512_xor_si512(first, last), onto);
        }
    for (int i = 0; i < LANES; i++)
        _mm512_storeu_si512(left + 64 * i, lanes[i]);
    crc = crc_narrow(0, left, sizeof left);
    return length >= 16 * LANES ? crc_narrow(crc, data, length) : crc_by_byte(crc, data, length);
}

/* Go on with the CRC `crc`, that of what came before. */
static uint32_t crc_folding(uint32_t crc, const uint8_t *data, size_t length)
{
    crc = ~crc;
    if (wide_folds && length >= 64 * LANES)
        crc = crc_wide(crc, data, length);
    else if (length >= 16 * LANES)
        crc = crc_narrow(crc, data, length);
    else
        crc = crc_by_byte(crc, data, length);
    return ~crc;
}

#else

static int prepare_folding(void) { return 0; }

static uint32_t crc_folding(uint32_t crc, const uint8_t *data, size_t length)
{
    (void)data, (void)length;
    return crc;
}

#endif

#endif
