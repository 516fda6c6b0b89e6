/* Inner loops of preprocess.pyx: rows of pixels sampled, then normalised and written in the layout of the output.
 *
 * A sampled row is `float pixels[width][4]`, channels in the order of the source; the fourth is not used.
 */
#ifndef OCTOBEV_PREPROCESS_H
#define OCTOBEV_PREPROCESS_H

#include "pixels.h"

typedef struct {
    void *data;
    ptrdiff_t height, width, channels;
    int is_float, is_planar;
    int order[3]; /* channel of the source for each channel of the output */
    float scale[3], offset[3], fill[3];
} Output;

/* What each output sample of an axis is a weighted sum of: pixels first .. first + count, weights from `weight` on. */
typedef struct {
    ptrdiff_t *first, *count, *weight;
    float *weights;
} Taps;

/* ---- taps of one axis ---- */

OCTOBEV_INLINE double clamped(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

/* Bilinear: the pixels on both sides of the sample's position, which is clamped to the crop and to the source. */
OCTOBEV_INLINE ptrdiff_t bilinear_taps(ptrdiff_t index, ptrdiff_t samples, double start, double length,
                                       ptrdiff_t extent, ptrdiff_t *first, float *weights)
{
    double position = start + ((double)index + 0.5) * length / (double)samples - 0.5;
    double last = start + length - 1 > start ? start + length - 1 : start;
    position = clamped(clamped(position, start, last), 0, (double)(extent - 1));
    ptrdiff_t pixel = (ptrdiff_t)position;
    *first = pixel;
    weights[1] = (float)(position - (double)pixel);
    weights[0] = 1 - weights[1];
    return weights[1] > 0 ? 2 : 1;
}

/* Area: the pixels that the sample's box covers, each weighted by how much of the box it is. */
OCTOBEV_INLINE ptrdiff_t area_taps(ptrdiff_t index, ptrdiff_t samples, double start, double length, ptrdiff_t extent,
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

/* ---- weighted sums of rows, then of pixels ---- */

/* sums[i] = upper_weight * upper[i] + lower_weight * lower[i], added to what is there unless it is the first. */
OCTOBEV_INLINE void add_rows(const uint8_t *OCTOBEV_RESTRICT upper, float upper_weight,
                             const uint8_t *OCTOBEV_RESTRICT lower, float lower_weight, ptrdiff_t length, int is_first,
                             float *OCTOBEV_RESTRICT sums)
{
    if (is_first)
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] = upper_weight * (float)upper[i] + lower_weight * (float)lower[i];
    else
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] += upper_weight * (float)upper[i] + lower_weight * (float)lower[i];
}

OCTOBEV_INLINE void add_row(const uint8_t *OCTOBEV_RESTRICT bytes, float weight, ptrdiff_t length, int is_first,
                            float *OCTOBEV_RESTRICT sums)
{
    if (is_first)
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] = weight * (float)bytes[i];
    else
        for (ptrdiff_t i = 0; i < length; i++)
            sums[i] += weight * (float)bytes[i];
}

/* pixels[x] = weighted sum over the taps of x; `sums` has `step` floats a pixel and one more at its end. */
OCTOBEV_INLINE void sum_pixels(const float *sums, ptrdiff_t step, const Taps *taps, ptrdiff_t width,
                               float *OCTOBEV_RESTRICT pixels)
{
    for (ptrdiff_t x = 0; x < width; x++) {
        const float *from = sums + taps->first[x] * step, *weights = taps->weights + taps->weight[x];
        const ptrdiff_t count = taps->count[x];
#ifdef OCTOBEV_VECTORS
        f4 sum = weights[0] * *(const f4 *)from;
        for (ptrdiff_t i = 1; i < count; i++)
            sum += weights[i] * *(const f4 *)(from + i * step);
        *(f4 *)(pixels + 4 * x) = sum;
#else
        for (int c = 0; c < 3; c++) {
            float sum = weights[0] * from[c];
            for (ptrdiff_t i = 1; i < count; i++)
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
    int by_area, is_packed; /* is_packed: rows go through pack_row first, always those of YUV */
    double left, top, crop_width, crop_height;
    ptrdiff_t inset_x, inset_y, inset_width, inset_height;
    ptrdiff_t first, count; /* columns of the source that are read */
    Taps columns;
    ptrdiff_t scratch_bytes; /* for each thread */
    uint8_t *scratch;
} Resize;

OCTOBEV_INLINE ptrdiff_t aligned(ptrdiff_t bytes) { return (bytes + 63) & ~(ptrdiff_t)63; }

OCTOBEV_INLINE ptrdiff_t source_step(const Resize *plan) { return plan->is_packed ? PACKED_BYTES : plan->image.pixel_stride; }

OCTOBEV_INLINE ptrdiff_t resize_taps(const Resize *plan, int vertical, ptrdiff_t index, ptrdiff_t *first,
                                     float *weights)
{
    ptrdiff_t samples = vertical ? plan->inset_height : plan->inset_width;
    ptrdiff_t extent = vertical ? plan->image.height : plan->image.width;
    double start = vertical ? plan->top : plan->left, length = vertical ? plan->crop_height : plan->crop_width;
    if (plan->by_area)
        return area_taps(index, samples, start, length, extent, first, weights);
    return bilinear_taps(index, samples, start, length, extent, first, weights);
}

/* Bytes of the tables; sets the scratch memory of one thread: pixels, row sums, weights of rows, two packed rows. */
static ptrdiff_t resize_bytes(Resize *plan)
{
    const ptrdiff_t width = plan->inset_width, row = plan->count * source_step(plan) + 4;
    plan->scratch_bytes = aligned(16 * width) + aligned(4 * row) + aligned(4 * ((ptrdiff_t)plan->crop_height + 4))
        + 2 * aligned(row);
    return 3 * aligned(8 * width) + aligned(4 * (plan->count + 3 * width));
}

static void resize_tables(Resize *plan, uint8_t *memory)
{
    const ptrdiff_t width = plan->inset_width;
    Taps *columns = &plan->columns;
    ptrdiff_t used = 0;
    columns->first = (ptrdiff_t *)memory;
    columns->count = (ptrdiff_t *)(memory + aligned(8 * width));
    columns->weight = (ptrdiff_t *)(memory + 2 * aligned(8 * width));
    columns->weights = (float *)(memory + 3 * aligned(8 * width));
    for (ptrdiff_t x = 0; x < width; x++) {
        columns->weight[x] = used;
        columns->count[x] = resize_taps(plan, 0, x, &columns->first[x], columns->weights + used);
        columns->first[x] -= plan->first;
        used += plan->by_area ? columns->count[x] : 2;
    }
}

OCTOBEV_INLINE const uint8_t *source_row(const Resize *plan, ptrdiff_t row, uint8_t *packed)
{
    if (!plan->is_packed)
        return plan->image.data + row * plan->image.row_stride + plan->first * plan->image.pixel_stride;
    pack_row(&plan->image, row, plan->first, plan->count, (uint32_t *)packed);
    return packed;
}

OCTOBEV_CLONES
static void resize_row(const Resize *plan, ptrdiff_t row, int thread)
{
    const ptrdiff_t y = row - plan->inset_y, width = plan->inset_width, step = source_step(plan);
    const ptrdiff_t length = (plan->count - 1) * step + 3;
    uint8_t *scratch = plan->scratch + thread * plan->scratch_bytes;
    float *pixels = (float *)scratch, *sums = (float *)(scratch + aligned(16 * width));
    float *weights = (float *)((uint8_t *)sums + aligned(4 * (plan->count * step + 4)));
    uint8_t *packed = (uint8_t *)weights + aligned(4 * ((ptrdiff_t)plan->crop_height + 4));
    uint8_t *second = packed + aligned(plan->count * step + 4);
    ptrdiff_t first, i;
    if (y < 0 || y >= plan->inset_height) {
        fill_row(&plan->out, row, 0, plan->out.width);
        return;
    }
    const ptrdiff_t rows = resize_taps(plan, 1, y, &first, weights);
    for (i = 0; i + 2 <= rows; i += 2)
        add_rows(source_row(plan, first + i, packed), weights[i], source_row(plan, first + i + 1, second),
                 weights[i + 1], length, i == 0, sums);
    if (i < rows)
        add_row(source_row(plan, first + i, packed), weights[i], length, i == 0, sums);
    sums[length] = 0;
    sum_pixels(sums, step, &plan->columns, width, pixels);
    fill_row(&plan->out, row, 0, plan->inset_x);
    write_row(&plan->out, row, plan->inset_x, width, pixels);
    fill_row(&plan->out, row, plan->inset_x + width, plan->out.width);
}

/* ---- remap ---- */

typedef struct {
    Image image; /* YUV, or channels side by side: pixel stride 3 or 4, channel stride 1 */
    Output out;
    const float *map_x, *map_y; /* [height][width] of the output, pixels of the source */
    ptrdiff_t scratch_bytes;
    uint8_t *scratch;
} Remap;

/* Where the samples of a row lie between their pixels: the left upper pixel and its byte, ways to the right and down
 * (each four times, for four channels), and whether the position is outside of the image. */
typedef struct {
    int32_t *column, *line;
    ptrdiff_t *place;
    float *right, *down;
    uint8_t *outside;
} Places;

/* The pixels around the samples of a row, four for each: left and right above, left and right below. */
typedef struct {
    uint8_t *luma, *blue, *red;
    uint32_t *bgr;
} Corners;

/* Scratch memory of one thread: sampled pixels, places, and of YUV corners. */
static ptrdiff_t remap_bytes(const Remap *plan)
{
    const ptrdiff_t width = plan->out.width;
    return 3 * aligned(16 * width) + aligned(8 * width) + 2 * aligned(4 * width) + aligned(width) +
           (plan->image.chroma ? aligned(16 * width) + 3 * aligned(4 * width) : 0);
}

/* Returns whether some position of the row is outside (or NaN). */
OCTOBEV_INLINE int locate_row(const Remap *plan, ptrdiff_t row, const Places *places)
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
        places->column[i] = column;
        places->line[i] = line;
        for (int c = 0; c < 4; c++) {
            places->right[4 * i + c] = x - (float)column;
            places->down[4 * i + c] = y - (float)line;
        }
        places->outside[i] = !inside;
        any |= !inside;
    }
    return any;
}

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
#endif

/* pixels[x] = blend of the pixel at base + place[x], its neighbours `right` and `down` bytes away and the one across.
 * No byte at or after `end` is read. */
OCTOBEV_INLINE void blend_row(const uint8_t *base, const uint8_t *end, const Places *places, ptrdiff_t right,
                              ptrdiff_t down, ptrdiff_t width, float *OCTOBEV_RESTRICT pixels)
{
    const ptrdiff_t *place = places->place;
    const float *ways_right = places->right, *ways_down = places->down;
    ptrdiff_t x = 0;
#ifdef OCTOBEV_VECTORS
    const ptrdiff_t room = end - base - right - (down > 0 ? down : 0) - 4;
    for (; x + 4 <= width; x += 4) {
        const ptrdiff_t *at = place + x;
        if (at[0] > room || at[1] > room || at[2] > room || at[3] > room) {
            for (ptrdiff_t i = x; i < x + 4; i++)
                blend_pixel(base + place[i], right, down, ways_right[4 * i], ways_down[4 * i], pixels + 4 * i);
            continue;
        }
        f16 a = LOAD_PIXELS(base, at), b = LOAD_PIXELS(base + right, at);
        f16 d = LOAD_PIXELS(base + down, at), e = LOAD_PIXELS(base + down + right, at);
        f16 across = *(const f16 *)(ways_right + 4 * x), along = *(const f16 *)(ways_down + 4 * x);
        f16 above = a + across * (b - a), below = d + across * (e - d);
        *(f16 *)(pixels + 4 * x) = above + along * (below - above);
    }
#else
    (void)end;
#endif
    for (; x < width; x++)
        blend_pixel(base + place[x], right, down, ways_right[4 * x], ways_down[4 * x], pixels + 4 * x);
}

/* The corners of each place, converted, one after the other. */
OCTOBEV_INLINE void gather_corners(const Image *image, ptrdiff_t step, const Places *places, ptrdiff_t width,
                                   const Corners *corners)
{
    const ptrdiff_t stride = image->row_stride, last = image->height - 1;
    const int shift = image->chroma_shift;
    const uint8_t *data = image->data, *chroma = image->chroma;
    const int32_t *columns = places->column, *lines = places->line;
    uint8_t *OCTOBEV_RESTRICT luma = corners->luma, *OCTOBEV_RESTRICT blue = corners->blue;
    uint8_t *OCTOBEV_RESTRICT red = corners->red;
    for (ptrdiff_t i = 0; i < width; i++) {
        const ptrdiff_t x = columns[i], across = (x & 1) * 2 * step;
        for (int lower = 0; lower < 2; lower++, luma += 2, blue += 2, red += 2) {
            const ptrdiff_t y = lines[i] + lower < last ? lines[i] + lower : last;
            const uint8_t *left = data + y * stride + x * step;
            const uint8_t *pair = chroma + (y >> shift) * stride + (x & ~(ptrdiff_t)1) * step;
            luma[0] = left[0];
            luma[1] = left[step];
            blue[0] = pair[0];
            blue[1] = pair[across];
            red[0] = pair[step];
            red[1] = pair[across + step];
        }
    }
    for (ptrdiff_t at = 0; at < 4 * width; at++)
        corners->bgr[at] = bgr_pixel(corners->luma[at], corners->blue[at], corners->red[at]);
}

OCTOBEV_INLINE uint8_t *carve(uint8_t **memory, ptrdiff_t bytes)
{
    uint8_t *part = *memory;
    *memory += aligned(bytes);
    return part;
}

OCTOBEV_CLONES
static void remap_row(const Remap *plan, ptrdiff_t row, int thread)
{
    const ptrdiff_t width = plan->out.width;
    const Image *image = &plan->image;
    uint8_t *scratch = plan->scratch + thread * plan->scratch_bytes;
    float *pixels = (float *)carve(&scratch, 16 * width);
    Places places;
    places.right = (float *)carve(&scratch, 16 * width);
    places.down = (float *)carve(&scratch, 16 * width);
    places.place = (ptrdiff_t *)carve(&scratch, 8 * width);
    places.column = (int32_t *)carve(&scratch, 4 * width);
    places.line = (int32_t *)carve(&scratch, 4 * width);
    places.outside = carve(&scratch, width);
    const int any = locate_row(plan, row, &places);
    if (image->chroma) {
        Corners corners;
        corners.bgr = (uint32_t *)carve(&scratch, 16 * width);
        corners.luma = carve(&scratch, 4 * width);
        corners.blue = carve(&scratch, 4 * width);
        corners.red = carve(&scratch, 4 * width);
        if (image->pixel_stride == 1)
            gather_corners(image, 1, &places, width, &corners);
        else
            gather_corners(image, 2, &places, width, &corners);
        for (ptrdiff_t x = 0; x < width; x++)
            places.place[x] = 4 * PACKED_BYTES * x;
        const uint8_t *base = (const uint8_t *)corners.bgr;
        blend_row(base, base + 4 * PACKED_BYTES * width, &places, PACKED_BYTES, 2 * PACKED_BYTES, width, pixels);
    } else {
        const ptrdiff_t last_row = image->row_stride > 0 ? image->height - 1 : 0;
        const uint8_t *end = image->data + last_row * image->row_stride + (image->width - 1) * image->pixel_stride + 3;
        for (ptrdiff_t x = 0; x < width; x++)
            places.place[x] = places.line[x] * image->row_stride + places.column[x] * image->pixel_stride;
        blend_row(image->data, end, &places, image->width > 1 ? image->pixel_stride : 0,
                  image->height > 1 ? image->row_stride : 0, width, pixels);
    }
    for (ptrdiff_t x = 0; any && x < width; x++)
        for (ptrdiff_t c = 0; places.outside[x] && c < plan->out.channels; c++)
            pixels[4 * x + plan->out.order[c]] = plan->out.fill[c];
    write_row(&plan->out, row, 0, width, pixels);
}

#endif
