/* Inner loops of preprocess.pyx: rows of pixels sampled, then normalised and written in the layout of the output.
 *
 * A sampled row is `float pixels[width][4]`, channels in the order of the source; the fourth is not used.
 */
#ifndef OCTOBEV_PREPROCESS_H
#define OCTOBEV_PREPROCESS_H

#include "vector.h"

typedef struct {
    const uint8_t *data;
    ptrdiff_t height, width;
    ptrdiff_t row_stride, pixel_stride, channel_stride; /* bytes; channel stride 0: one channel stands for three */
} Image;

typedef struct {
    void *data;
    ptrdiff_t height, width, channels;
    int is_float, is_planar;
    int order[3]; /* channel of the source for each channel of the output */
    float scale[3], offset[3], fill[3];
} Output;

/* Where a row of samples lies between its pixels: first byte of the left upper pixel, way to the right. */
typedef struct {
    ptrdiff_t *place;
    float *right;
} Taps;

/* Which pixels a row of boxes covers: pixels first .. first + count, their weights from `weights` on. */
typedef struct {
    ptrdiff_t *first, *count, *weight;
    float *weights;
} Boxes;

/* ---- source rows ---- */

/* Three bytes side by side for each pixel of a row. */
OCTOBEV_CLONES
static void pack_row(const Image *image, ptrdiff_t row, ptrdiff_t first, ptrdiff_t count, uint8_t *OCTOBEV_RESTRICT to)
{
    const ptrdiff_t step = image->pixel_stride, channel = image->channel_stride;
    const uint8_t *from = image->data + row * image->row_stride + first * step;
    for (ptrdiff_t x = 0; x < count; x++, from += step, to += 3) {
        to[0] = from[0];
        to[1] = from[channel];
        to[2] = from[2 * channel];
    }
}

/* ---- bilinear ---- */

OCTOBEV_INLINE void blend_pixel(const uint8_t *upper, ptrdiff_t right, ptrdiff_t down, float wx, float wy, float *out)
{
    for (int c = 0; c < 3; c++) {
        const uint8_t *p = upper + c;
        float a = p[0], b = p[right], d = p[down], e = p[down + right];
        float above = a + wx * (b - a), below = d + wx * (e - d);
        out[c] = above + wy * (below - above);
    }
    out[3] = 0;
}

#ifdef OCTOBEV_VECTORS
typedef uint32_t u4 __attribute__((vector_size(16)));
typedef uint8_t b16 __attribute__((vector_size(16)));
typedef uint16_t h16 __attribute__((vector_size(32)));
typedef int32_t i16 __attribute__((vector_size(64)));

OCTOBEV_INLINE uint32_t load_pixel(const uint8_t *pixel)
{
    uint32_t bytes;
    memcpy(&bytes, pixel, 4);
    return bytes;
}

/* Four pixels of four bytes each; widened by a factor of two at a time, which compilers have instructions for. */
#define LOAD_PIXELS(base, place)                                                                                      \
    __builtin_convertvector(                                                                                          \
        __builtin_convertvector(                                                                                      \
            __builtin_convertvector((b16)(u4){load_pixel((base) + (place)[0]), load_pixel((base) + (place)[1]),       \
                                              load_pixel((base) + (place)[2]), load_pixel((base) + (place)[3])},      \
                                    h16),                                                                             \
            i16),                                                                                                     \
        f16)

/* Each of four weights four times. */
#define SPREAD(w) __builtin_shufflevector(w, w, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)
#endif

/* pixels[x] = blend of the pixel at base + place[x], its neighbours `right` and `down` bytes away and the one across.
 * No byte at or after `end` is read. */
OCTOBEV_INLINE void blend_row(const uint8_t *base, const uint8_t *end, const ptrdiff_t *place, ptrdiff_t right,
                              ptrdiff_t down, const float *wx, const float *wy, ptrdiff_t width,
                              float *OCTOBEV_RESTRICT pixels)
{
    ptrdiff_t x = 0;
#ifdef OCTOBEV_VECTORS
    const ptrdiff_t room = end - base - right - (down > 0 ? down : 0) - 4;
    for (; x + 4 <= width; x += 4) {
        const ptrdiff_t *at = place + x;
        if (at[0] > room || at[1] > room || at[2] > room || at[3] > room) {
            for (ptrdiff_t i = x; i < x + 4; i++)
                blend_pixel(base + place[i], right, down, wx[i], wy[i], pixels + 4 * i);
            continue;
        }
        f16 a = LOAD_PIXELS(base, at), b = LOAD_PIXELS(base + right, at);
        f16 d = LOAD_PIXELS(base + down, at), e = LOAD_PIXELS(base + down + right, at);
        f4 ways_right = *(const f4 *)(wx + x), ways_down = *(const f4 *)(wy + x);
        f16 across = SPREAD(ways_right), along = SPREAD(ways_down);
        f16 above = a + across * (b - a), below = d + across * (e - d);
        *(f16 *)(pixels + 4 * x) = above + along * (below - above);
    }
#endif
    for (; x < width; x++)
        blend_pixel(base + place[x], right, down, wx[x], wy[x], pixels + 4 * x);
}

/* Position of output sample `index` in a source of `extent` pixels, clamped to the crop and to the source. */
OCTOBEV_INLINE double sample_position(ptrdiff_t index, ptrdiff_t samples, double start, double length, double extent)
{
    double low = start > 0 ? start : 0, high = start + length - 1 < extent - 1 ? start + length - 1 : extent - 1;
    double position = start + ((double)index + 0.5) * length / (double)samples - 0.5;
    if (high < low)
        high = low = 0.5 * (low + high) < 0 ? 0 : 0.5 * (low + high) > extent - 1 ? extent - 1 : 0.5 * (low + high);
    return position < low ? low : position > high ? high : position;
}

/* The pixel at or before a position that has a neighbour after it, where there is one; and the way to that neighbour. */
OCTOBEV_INLINE ptrdiff_t split_position(double position, ptrdiff_t extent, float *way)
{
    ptrdiff_t pixel = (ptrdiff_t)position;
    if (pixel > extent - 2)
        pixel = extent > 1 ? extent - 2 : 0;
    *way = (float)(position - (double)pixel);
    return pixel;
}

/* ---- area ---- */

/* First pixel, number of pixels and weights of the box that output sample `index` averages. */
OCTOBEV_INLINE ptrdiff_t box_of(ptrdiff_t index, ptrdiff_t samples, double start, double length, ptrdiff_t extent,
                                ptrdiff_t *first, float *weights)
{
    double low = start + (double)index * length / (double)samples;
    double high = start + (double)(index + 1) * length / (double)samples;
    ptrdiff_t pixel = (ptrdiff_t)low, count = 0;
    *first = pixel = pixel > extent - 1 ? extent - 1 : pixel;
    for (; pixel < extent && (count == 0 || (double)pixel < high); pixel++) {
        double left = (double)pixel > low ? (double)pixel : low;
        double right = (double)(pixel + 1) < high ? (double)(pixel + 1) : high;
        weights[count++] = (float)((right - left) / (high - low));
    }
    return count;
}

/* sums[i] = sums[i] + weight * bytes[i], or without the first term. */
OCTOBEV_CLONES
static void add_row(const uint8_t *OCTOBEV_RESTRICT bytes, float weight, ptrdiff_t length, int is_first,
                    float *OCTOBEV_RESTRICT sums)
{
    if (is_first)
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] = weight * (float)bytes[i];
    else
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] += weight * (float)bytes[i];
}

/* pixels[x] = weighted sum over the box of x; `sums` has `step` floats a pixel and one more at its end. */
OCTOBEV_CLONES
static void average_row(const float *sums, ptrdiff_t step, const Boxes *boxes, ptrdiff_t width,
                        float *OCTOBEV_RESTRICT pixels)
{
    for (ptrdiff_t x = 0; x < width; x++) {
        const float *from = sums + boxes->first[x] * step, *weights = boxes->weights + boxes->weight[x];
        const ptrdiff_t count = boxes->count[x];
#ifdef OCTOBEV_VECTORS
        f4 sum = {0};
        for (ptrdiff_t i = 0; i < count; i++)
            sum += weights[i] * *(const f4 *)(from + i * step);
        *(f4 *)(pixels + 4 * x) = sum;
#else
        for (int c = 0; c < 3; c++) {
            float sum = 0;
            for (ptrdiff_t i = 0; i < count; i++)
                sum += weights[i] * from[i * step + c];
            pixels[4 * x + c] = sum;
        }
        pixels[4 * x + 3] = 0;
#endif
    }
}

/* ---- output rows ---- */

OCTOBEV_INLINE uint8_t rounded(float value)
{
    return (uint8_t)(int32_t)((value < 0 ? 0 : value > 255 ? 255 : value) + 0.5f);
}

/* Writes sampled pixels to columns first .. first + width of one row of the output. */
OCTOBEV_INLINE void write_row(const Output *out, ptrdiff_t row, ptrdiff_t first, ptrdiff_t width,
                              float *OCTOBEV_RESTRICT pixels)
{
    const ptrdiff_t channels = out->channels;
    if (out->is_planar) {
        for (ptrdiff_t c = 0; c < channels; c++) {
            const ptrdiff_t at = (c * out->height + row) * out->width + first;
            const float *from = pixels + out->order[c];
            const float scale = out->scale[c], offset = out->offset[c];
            if (out->is_float) {
                float *to = (float *)out->data + at;
                for (ptrdiff_t x = 0; x < width; x++)
                    to[x] = from[4 * x] * scale + offset;
            } else {
                uint8_t *to = (uint8_t *)out->data + at;
                for (ptrdiff_t x = 0; x < width; x++)
                    to[x] = rounded(from[4 * x]);
            }
        }
        return;
    }
    const ptrdiff_t at = (row * out->width + first) * channels;
    for (ptrdiff_t c = 0; c < channels; c++) {
        const float *from = pixels + out->order[c];
        const float scale = out->scale[c], offset = out->offset[c];
        if (out->is_float) {
            float *to = (float *)out->data + at + c;
            for (ptrdiff_t x = 0; x < width; x++)
                to[x * channels] = from[4 * x] * scale + offset;
        } else {
            uint8_t *to = (uint8_t *)out->data + at + c;
            for (ptrdiff_t x = 0; x < width; x++)
                to[x * channels] = rounded(from[4 * x]);
        }
    }
}

/* Fills columns first .. last of one row. */
OCTOBEV_INLINE void fill_row(const Output *out, ptrdiff_t row, ptrdiff_t first, ptrdiff_t last)
{
    for (ptrdiff_t c = 0; c < out->channels; c++) {
        ptrdiff_t step = out->is_planar ? 1 : out->channels;
        ptrdiff_t at = out->is_planar ? (c * out->height + row) * out->width : row * out->width * out->channels + c;
        const float value = out->fill[c] * out->scale[c] + out->offset[c];
        for (ptrdiff_t x = first; x < last; x++) {
            if (out->is_float)
                ((float *)out->data)[at + x * step] = value;
            else
                ((uint8_t *)out->data)[at + x * step] = rounded(out->fill[c]);
        }
    }
}

/* ---- resize ---- */

/* Everything that is the same for all rows. Tables and scratch memory are carved out of one allocation. */
typedef struct {
    Image image;
    Output out;
    int by_area, is_packed; /* is_packed: rows go through pack_row first */
    double left, top, crop_width, crop_height;
    ptrdiff_t inset_x, inset_y, inset_width, inset_height;
    ptrdiff_t first, count; /* columns of the source that are read */
    Taps taps;
    Boxes boxes;
    ptrdiff_t scratch_bytes; /* for each thread */
    uint8_t *scratch;
} Resize;

OCTOBEV_INLINE ptrdiff_t aligned(ptrdiff_t bytes) { return (bytes + 63) & ~(ptrdiff_t)63; }

/* Bytes of the tables, and of the scratch memory of one thread. */
static ptrdiff_t resize_bytes(Resize *plan)
{
    const ptrdiff_t width = plan->inset_width, step = plan->is_packed ? 3 : plan->image.pixel_stride;
    plan->scratch_bytes = aligned(16 * width) + aligned(4 * width) + 2 * aligned(3 * plan->count + 4)
        + aligned(4 * (plan->count * step + 4)) + aligned(4 * ((ptrdiff_t)plan->crop_height + 4));
    return aligned(8 * width) * 4 + aligned(4 * (plan->count + 3 * width)) + aligned(4 * width);
}

static void resize_tables(Resize *plan, uint8_t *memory)
{
    const ptrdiff_t width = plan->inset_width, step = plan->is_packed ? 3 : plan->image.pixel_stride;
    ptrdiff_t used = 0;
    plan->taps.place = (ptrdiff_t *)memory;
    plan->boxes.first = (ptrdiff_t *)(memory + aligned(8 * width));
    plan->boxes.count = (ptrdiff_t *)(memory + 2 * aligned(8 * width));
    plan->boxes.weight = (ptrdiff_t *)(memory + 3 * aligned(8 * width));
    plan->taps.right = (float *)(memory + 4 * aligned(8 * width));
    plan->boxes.weights = (float *)(memory + 4 * aligned(8 * width) + aligned(4 * width));
    for (ptrdiff_t x = 0; x < width; x++) {
        if (plan->by_area) {
            plan->boxes.weight[x] = used;
            plan->boxes.count[x] = box_of(x, width, plan->left, plan->crop_width, plan->image.width,
                                          &plan->boxes.first[x], plan->boxes.weights + used);
            plan->boxes.first[x] -= plan->first;
            used += plan->boxes.count[x];
        } else {
            double position = sample_position(x, width, plan->left, plan->crop_width, (double)plan->image.width);
            ptrdiff_t pixel = split_position(position, plan->image.width, &plan->taps.right[x]);
            plan->taps.place[x] = (pixel - plan->first) * step;
        }
    }
}

OCTOBEV_INLINE void bilinear_row(const Resize *plan, ptrdiff_t y, uint8_t *scratch, float *pixels)
{
    const Image *image = &plan->image;
    const ptrdiff_t width = plan->inset_width, packed_stride = aligned(3 * plan->count + 4);
    float *wy = (float *)scratch, way;
    uint8_t *packed = scratch + aligned(4 * width);
    double position = sample_position(y, plan->inset_height, plan->top, plan->crop_height, (double)image->height);
    ptrdiff_t row = split_position(position, image->height, &way), has_next = image->height > 1;
    ptrdiff_t across = image->width > 1;
    for (ptrdiff_t x = 0; x < width; x++)
        wy[x] = way;
    if (plan->is_packed) {
        pack_row(image, row, plan->first, plan->count, packed);
        if (has_next)
            pack_row(image, row + 1, plan->first, plan->count, packed + packed_stride);
        blend_row(packed, packed + 2 * packed_stride, plan->taps.place, 3 * across, packed_stride * has_next,
                  plan->taps.right, wy, width, pixels);
        return;
    }
    const ptrdiff_t last_row = image->row_stride > 0 ? image->height - 1 : 0;
    const uint8_t *end = image->data + last_row * image->row_stride + (image->width - 1) * image->pixel_stride + 3;
    const uint8_t *base = image->data + row * image->row_stride + plan->first * image->pixel_stride;
    blend_row(base, end, plan->taps.place, across * image->pixel_stride, has_next * image->row_stride,
              plan->taps.right, wy, width, pixels);
}

OCTOBEV_INLINE void area_row(const Resize *plan, ptrdiff_t y, uint8_t *scratch, float *pixels)
{
    const Image *image = &plan->image;
    const ptrdiff_t step = plan->is_packed ? 3 : image->pixel_stride;
    const ptrdiff_t length = (plan->count - 1) * step + 3;
    float *sums = (float *)scratch;
    float *weights = (float *)(scratch + aligned(4 * (plan->count * step + 4)));
    uint8_t *packed = scratch + aligned(4 * (plan->count * step + 4)) + aligned(4 * ((ptrdiff_t)plan->crop_height + 4));
    ptrdiff_t first, count;
    count = box_of(y, plan->inset_height, plan->top, plan->crop_height, image->height, &first, weights);
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint8_t *bytes = image->data + (first + i) * image->row_stride + plan->first * step;
        if (plan->is_packed) {
            pack_row(image, first + i, plan->first, plan->count, packed);
            bytes = packed;
        }
        add_row(bytes, weights[i], length, i == 0, sums);
    }
    sums[length] = 0;
    average_row(sums, step, &plan->boxes, plan->inset_width, pixels);
}

OCTOBEV_CLONES
static void resize_row(const Resize *plan, ptrdiff_t row, int thread)
{
    uint8_t *scratch = plan->scratch + thread * plan->scratch_bytes;
    float *pixels = (float *)scratch;
    ptrdiff_t y = row - plan->inset_y, right = plan->inset_x + plan->inset_width;
    if (y < 0 || y >= plan->inset_height) {
        fill_row(&plan->out, row, 0, plan->out.width);
        return;
    }
    scratch += aligned(16 * plan->inset_width);
    if (plan->by_area)
        area_row(plan, y, scratch, pixels);
    else
        bilinear_row(plan, y, scratch, pixels);
    fill_row(&plan->out, row, 0, plan->inset_x);
    write_row(&plan->out, row, plan->inset_x, plan->inset_width, pixels);
    fill_row(&plan->out, row, right, plan->out.width);
}

/* ---- remap ---- */

typedef struct {
    Image image; /* channels side by side: pixel stride 3 or 4, channel stride 1 */
    Output out;
    const float *map_x, *map_y; /* [height][width] of the output, pixels of the source */
    ptrdiff_t scratch_bytes;
    uint8_t *scratch;
} Remap;

static ptrdiff_t remap_bytes(const Remap *plan)
{
    return aligned(16 * plan->out.width) + 2 * aligned(4 * plan->out.width) + aligned(8 * plan->out.width)
        + aligned(plan->out.width);
}

/* Positions of a row -> places and ways; outside[x] where the position is not in the image (or NaN). */
OCTOBEV_INLINE int locate_row(const Remap *plan, ptrdiff_t row, ptrdiff_t *place, float *wx, float *wy,
                              uint8_t *outside)
{
    const Image *image = &plan->image;
    const float *map_x = plan->map_x + row * plan->out.width, *map_y = plan->map_y + row * plan->out.width;
    const float x_end = (float)image->width - 0.5f, y_end = (float)image->height - 0.5f;
    const float x_last = (float)(image->width - 1), y_last = (float)(image->height - 1);
    const float x_low = x_last > 1 ? x_last - 1 : 0, y_low = y_last > 1 ? y_last - 1 : 0;
    int any = 0;
    for (ptrdiff_t i = 0; i < plan->out.width; i++) {
        float x = map_x[i], y = map_y[i];
        int inside = (x >= -0.5f) & (x < x_end) & (y >= -0.5f) & (y < y_end);
        x = inside ? x : 0;
        y = inside ? y : 0;
        x = x < 0 ? 0 : x > x_last ? x_last : x;
        y = y < 0 ? 0 : y > y_last ? y_last : y;
        int32_t column = (int32_t)(x < x_low ? x : x_low), line = (int32_t)(y < y_low ? y : y_low);
        place[i] = line * image->row_stride + column * image->pixel_stride;
        wx[i] = x - (float)column;
        wy[i] = y - (float)line;
        outside[i] = !inside;
        any |= !inside;
    }
    return any;
}

OCTOBEV_CLONES
static void remap_row(const Remap *plan, ptrdiff_t row, int thread)
{
    const ptrdiff_t width = plan->out.width;
    const Image *image = &plan->image;
    uint8_t *scratch = plan->scratch + thread * plan->scratch_bytes;
    float *pixels = (float *)scratch, *wx = (float *)(scratch + aligned(16 * width));
    float *wy = (float *)((uint8_t *)wx + aligned(4 * width));
    ptrdiff_t *place = (ptrdiff_t *)((uint8_t *)wy + aligned(4 * width));
    uint8_t *outside = (uint8_t *)place + aligned(8 * width);
    const ptrdiff_t last_row = image->row_stride > 0 ? image->height - 1 : 0;
    const uint8_t *end = image->data + last_row * image->row_stride + (image->width - 1) * image->pixel_stride + 3;
    int any = locate_row(plan, row, place, wx, wy, outside);
    blend_row(image->data, end, place, image->width > 1 ? image->pixel_stride : 0,
              image->height > 1 ? image->row_stride : 0, wx, wy, width, pixels);
    for (ptrdiff_t x = 0; any && x < width; x++)
        for (ptrdiff_t c = 0; outside[x] && c < plan->out.channels; c++)
            pixels[4 * x + plan->out.order[c]] = plan->out.fill[c];
    write_row(&plan->out, row, 0, width, pixels);
}

#endif
