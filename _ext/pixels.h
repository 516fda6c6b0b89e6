/* The pixels of an image, of any kind, as four bytes side by side: what bilinear.h and area.h sample. */
#ifndef OCTOBEV_PIXELS_H
#define OCTOBEV_PIXELS_H

#include "vector.h"

typedef struct {
    const uint8_t *data;
    ptrdiff_t height, width;
    ptrdiff_t row_stride, pixel_stride, channel_stride; /* bytes; channel stride 0: one channel stands for three */
    /* YUV: `data` is the luma, this the U that the first two columns share; V is one pixel stride behind it, the next U
     * two. NULL: not YUV. */
    const uint8_t *chroma;
    int chroma_shift; /* row of the chroma: row of the luma >> chroma_shift */
} Image;

#define CACHE_LINE 64
#define PACKED_BYTES 4 /* of a packed pixel: three channels, and one that is not used */

OCTOBEV_INLINE uint32_t packed_pixel(uint32_t first, uint32_t second, uint32_t third)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return first << 24 | second << 16 | third << 8;
#else
    return first | second << 8 | third << 16;
#endif
}

/* One past the last byte of an image that is not YUV. */
OCTOBEV_INLINE const uint8_t *image_end(const Image *image)
{
    const ptrdiff_t lines = image->row_stride > 0 ? image->height - 1 : 0;
    const ptrdiff_t columns = image->pixel_stride > 0 ? image->width - 1 : 0;
    const ptrdiff_t channels = image->channel_stride > 0 ? 2 : 0;
    return image->data + lines * image->row_stride + columns * image->pixel_stride + channels * image->channel_stride + 1;
}

OCTOBEV_INLINE uint32_t channel_of(int32_t value)
{
    const int32_t whole = value >> 20;
    return (uint32_t)(whole < 0 ? 0 : whole > 255 ? 255 : whole);
}

/* YUV as in ITU-R BT.601, limited range (Y 16..235, U and V 16..240), to BGR; the numbers are OpenCV's, 20 bits behind
 * the point, so every pixel is what cv2.cvtColor makes of it. */
OCTOBEV_INLINE uint32_t bgr_pixel(int32_t y, int32_t u, int32_t v)
{
    const int32_t luma = (y > 16 ? y - 16 : 0) * 1220542 + (1 << 19);
    const int32_t blue = 2116026 * (u - 128), green = -409993 * (u - 128) - 852492 * (v - 128);
    const int32_t red = 1673527 * (v - 128);
    return packed_pixel(channel_of(luma + blue), channel_of(luma + green), channel_of(luma + red));
}

/* Two pixels at a time, from the first of a pair on. */
OCTOBEV_INLINE void bgr_pairs(const uint8_t *luma, const uint8_t *chroma, ptrdiff_t step, ptrdiff_t count,
                              uint32_t *OCTOBEV_RESTRICT to)
{
    for (ptrdiff_t x = 0; x < count; x += 2) {
        const int32_t u = chroma[x * step], v = chroma[x * step + step];
        to[x] = bgr_pixel(luma[x * step], u, v);
        to[x + 1] = bgr_pixel(luma[x * step + step], u, v);
    }
}

/* Four bytes side by side for each pixel of a row. Of YUV `first` and `count` are even. */
OCTOBEV_CLONES
static void pack_row(const Image *image, ptrdiff_t row, ptrdiff_t first, ptrdiff_t count,
                     uint32_t *OCTOBEV_RESTRICT to)
{
    const ptrdiff_t step = image->pixel_stride, channel = image->channel_stride;
    const uint8_t *from = image->data + row * image->row_stride + first * step;
    if (image->chroma) {
        const uint8_t *chroma = image->chroma + (row >> image->chroma_shift) * image->row_stride + first * step;
        if (step == 1)
            bgr_pairs(from, chroma, 1, count, to);
        else
            bgr_pairs(from, from + 1, 2, count, to); /* YUYV: the compiler may know that they lie side by side */
        return;
    }
    if (channel == 0 && step == 1) {
        for (ptrdiff_t x = 0; x < count; x++)
            to[x] = packed_pixel(from[x], from[x], from[x]);
        return;
    }
    for (ptrdiff_t x = 0; x < count; x++, from += step)
        to[x] = packed_pixel(from[0], from[channel], from[2 * channel]);
}

#endif
