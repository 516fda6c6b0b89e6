/* Rows of preprocess.pyx: sampled, then written. */
#ifndef OCTOBEV_PREPROCESS_H
#define OCTOBEV_PREPROCESS_H

#include "area.h"
#include "bilinear.h"
#include "boxes.h"
#include "dots.h"

/* Where the first cache line begins of memory that has CACHE_LINE bytes more for this. */
static uint8_t *at_cache_line(void *memory)
{
    return (uint8_t *)(((uintptr_t)memory + CACHE_LINE - 1) & ~(uintptr_t)(CACHE_LINE - 1));
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
    int has_boxes;          /* samples are means of boxes, neither weighted nor placed */
    Boxes box_columns, box_rows;
    int may_dot; /* whether the processor has what sum_dots needs */
    int by_dots; /* boxes: they are so small that it sums them */
    Dots dots;
    Places places; /* of bilinear samples, without those things that a row has of its own */
    Taps columns;  /* of area */
    ptrdiff_t scratch_bytes; /* for each thread */
    uint8_t *scratch;
} Resize;

/* Scratch memory of one thread. */
typedef struct {
    Samples samples;
    Places places; /* bilinear: of the row */
    uint8_t *packed; /* bilinear: two packed lines; area and boxes: one; boxes by dots: those of a row */
    uint16_t *whole; /* boxes: sums of lines; area: of lines that weigh the same, of all lines, weights of lines */
    float *sums, *weights;
    uint64_t *words; /* boxes: sums of each */
} ResizeScratch;

OCTOBEV_INLINE ptrdiff_t source_step(const Resize *plan)
{
    return plan->is_packed ? PACKED_BYTES : plan->image.pixel_stride;
}

OCTOBEV_INLINE uint32_t box_pixels(const Resize *plan)
{
    return (uint32_t)(plan->box_columns.count * plan->box_rows.count);
}

/* How many lines of boxes are packed before they are summed. */
OCTOBEV_INLINE ptrdiff_t packed_lines(const Resize *plan) { return plan->by_dots ? plan->box_rows.count : 1; }

OCTOBEV_INLINE ResizeScratch carve_resize(const Resize *plan, Memory *memory)
{
    const ptrdiff_t width = plan->inset_width, row = plan->count * source_step(plan) + 4;
    ResizeScratch own;
    memset(&own, 0, sizeof own);
    own.samples = carve_samples(memory, width, plan->has_boxes ? box_pixels(plan) : 0);
    if (plan->has_boxes) {
        own.whole = (uint16_t *)carve(memory, plan->by_dots ? 0 : 2 * row);
        own.words = (uint64_t *)carve(memory, plan->by_dots ? 0 : 8 * width);
        own.packed = (uint8_t *)carve(memory, plan->is_packed ? packed_lines(plan) * row : 0);
    } else if (plan->by_area) {
        own.whole = (uint16_t *)carve(memory, 2 * row);
        own.sums = (float *)carve(memory, 4 * row);
        own.weights = (float *)carve(memory, 4 * ((ptrdiff_t)plan->crop_height + 4));
        own.packed = (uint8_t *)carve(memory, row);
    } else {
        own.places = plan->places;
        own.places.down = (float *)carve(memory, 4 * width);
        own.packed = (uint8_t *)carve(memory, plan->is_packed ? 2 * PACKED_BYTES * plan->count : 0);
    }
    return own;
}

OCTOBEV_INLINE void carve_tables(Resize *plan, Memory *memory)
{
    const ptrdiff_t width = plan->inset_width;
    if (plan->has_boxes)
        return;
    if (plan->by_area) {
        plan->columns.first = (ptrdiff_t *)carve(memory, 8 * width);
        plan->columns.count = (ptrdiff_t *)carve(memory, 8 * width);
        plan->columns.weight = (ptrdiff_t *)carve(memory, 8 * width);
        plan->columns.weights = (float *)carve(memory, 4 * (plan->count + 3 * width));
    } else {
        plan->places.place = (ptrdiff_t *)carve(memory, 8 * width);
        plan->places.right = (float *)carve(memory, 4 * width);
    }
}

/* Bytes of the tables; sets has_boxes, by_dots and the bytes of the scratch memory of one thread. */
static ptrdiff_t resize_bytes(Resize *plan)
{
    Memory tables = {NULL, 0}, scratch = {NULL, 0};
    Boxes *columns = &plan->box_columns, *rows = &plan->box_rows;
    plan->has_boxes = find_boxes(plan->left, plan->crop_width, plan->inset_width, plan->by_area, columns) &&
                      find_boxes(plan->top, plan->crop_height, plan->inset_height, plan->by_area, rows) &&
                      columns->count * rows->count <= BOX_PIXELS;
    plan->by_dots = plan->may_dot && plan->has_boxes && (!plan->is_packed || rows->count <= BOX_STEP) &&
                    find_dots(columns, source_step(plan), &plan->dots);
    carve_tables(plan, &tables);
    carve_resize(plan, &scratch);
    plan->scratch_bytes = scratch.used;
    return tables.used;
}

OCTOBEV_INLINE double clamped(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

/* Where a bilinear sample lies, clamped to the crop and to the source: its pixel, and the way from it to the next one,
 * which is there unless the source has but one. */
OCTOBEV_INLINE ptrdiff_t bilinear_place(ptrdiff_t index, ptrdiff_t samples, double start, double length,
                                        ptrdiff_t extent, float *way)
{
    double position = start + ((double)index + 0.5) * length / (double)samples - 0.5;
    double last = start + length - 1 > start ? start + length - 1 : start;
    position = clamped(clamped(position, start, last), 0, (double)(extent - 1));
    ptrdiff_t pixel = (ptrdiff_t)position;
    if (pixel > 0 && pixel == extent - 1)
        pixel--;
    *way = (float)(position - (double)pixel);
    return pixel;
}

static void resize_tables(Resize *plan, uint8_t *base)
{
    Memory memory = {base, 0};
    Taps *taps = &plan->columns;
    carve_tables(plan, &memory);
    for (ptrdiff_t x = 0, used = 0; !plan->has_boxes && x < plan->inset_width; x++) {
        if (plan->by_area) {
            taps->weight[x] = used;
            taps->count[x] = area_taps(x, plan->inset_width, plan->left, plan->crop_width, plan->image.width,
                                       &taps->first[x], taps->weights + used);
            taps->first[x] -= plan->first;
            used += taps->count[x];
        } else {
            const ptrdiff_t column = bilinear_place(x, plan->inset_width, plan->left, plan->crop_width,
                                                    plan->image.width, &plan->places.right[x]);
            plan->places.place[x] = plan->is_packed ? (column - plan->first) * PACKED_BYTES
                                                    : column * plan->image.pixel_stride;
        }
    }
}

OCTOBEV_INLINE void resize_row_bilinear(const Resize *plan, ptrdiff_t y, const ResizeScratch *own)
{
    const ptrdiff_t rows = plan->inset_height, stride = plan->image.row_stride;
    const ptrdiff_t later = y + 2 < rows ? y + 2 : rows - 1; /* the next row but one: memory takes that long */
    const int skips_lines = plan->crop_height >= 2 * (double)rows;
    float way;
    const ptrdiff_t later_line = bilinear_place(later, rows, plan->top, plan->crop_height, plan->image.height, &way);
    const ptrdiff_t line = bilinear_place(y, rows, plan->top, plan->crop_height, plan->image.height, &way);
    for (ptrdiff_t x = 0; x < plan->inset_width; x++)
        own->places.down[x] = way;
    if (plan->is_packed) {
        const Image lines = {own->packed, 2, plan->count, PACKED_BYTES * plan->count, PACKED_BYTES, 1, NULL, 0};
        const ptrdiff_t below = line + 1 < plan->image.height ? line + 1 : line;
        pack_row(&plan->image, line, plan->first, plan->count, (uint32_t *)own->packed);
        pack_row(&plan->image, below, plan->first, plan->count, (uint32_t *)(own->packed + lines.row_stride));
        sample_row(&lines, own->packed, 0, &own->places, plan->inset_width, &own->samples);
        return;
    }
    sample_row(&plan->image, plan->image.data + line * stride, skips_lines ? (later_line - line) * stride : 0,
               &own->places, plan->inset_width, &own->samples);
}

OCTOBEV_INLINE const uint8_t *source_row(const Resize *plan, ptrdiff_t row, uint8_t *packed)
{
    if (!plan->is_packed)
        return plan->image.data + row * plan->image.row_stride + plan->first * plan->image.pixel_stride;
    pack_row(&plan->image, row, plan->first, plan->count, (uint32_t *)packed);
    return packed;
}

/* Lines that weigh the same are added up as whole numbers, at most so many that 16 bits hold them. */
OCTOBEV_INLINE void resize_row_area(const Resize *plan, ptrdiff_t y, const ResizeScratch *own)
{
    const ptrdiff_t step = source_step(plan), length = (plan->count - 1) * step + 3;
    ptrdiff_t first;
    const ptrdiff_t rows = area_taps(y, plan->inset_height, plan->top, plan->crop_height, plan->image.height, &first,
                                     own->weights);
    for (ptrdiff_t i = 0, begin = 0; i < rows; i++) {
        add_bytes(source_row(plan, first + i, own->packed), length, i == begin, own->whole);
        if (i + 1 == rows || own->weights[i + 1] != own->weights[i] || i + 1 - begin == 257) {
            add_weighted(own->whole, own->weights[i], length, begin == 0, own->sums);
            begin = i + 1;
        }
    }
    own->sums[length] = 0;
    sum_pixels(own->sums, step, &plan->columns, plan->inset_width, &own->samples);
}

OCTOBEV_INLINE void sum_row_by_dots(const Resize *plan, ptrdiff_t line, ptrdiff_t before, const ResizeScratch *own)
{
    const ptrdiff_t rows = plan->box_rows.count, width = plan->inset_width, stride = plan->image.row_stride;
    const ptrdiff_t packed_stride = plan->count * PACKED_BYTES;
    if (!plan->is_packed) {
        sum_dots(&plan->dots, source_row(plan, line, NULL) + before, stride, rows, plan->box_rows.step * stride, width,
                 &own->samples);
        return;
    }
    for (ptrdiff_t i = 0; i < rows; i++)
        source_row(plan, line + i, own->packed + i * packed_stride);
    sum_dots(&plan->dots, own->packed + before, packed_stride, rows, 0, width, &own->samples);
}

/* Lines are summed from the column on where the first box begins. */
OCTOBEV_INLINE void resize_row_boxes(const Resize *plan, ptrdiff_t y, const ResizeScratch *own)
{
    const Boxes *rows = &plan->box_rows, *columns = &plan->box_columns;
    const ptrdiff_t pixel = source_step(plan), stride = plan->image.row_stride, line = rows->first + y * rows->step;
    const ptrdiff_t length = ((plan->inset_width - 1) * columns->step + columns->count - 1) * pixel + 3;
    const ptrdiff_t before = (columns->first - plan->first) * pixel;
    if (plan->by_dots) {
        sum_row_by_dots(plan, line, before, own);
        return;
    }
    if (plan->is_packed)
        for (ptrdiff_t i = 0; i < rows->count; i++)
            add_bytes(source_row(plan, line + i, own->packed) + before, length, i == 0, own->whole);
    else
        add_lines_ahead(source_row(plan, line, NULL) + before, stride, rows->count, rows->step * stride, length,
                        own->whole);
    own->whole[length] = own->whole[length + 1] = 0; /* are read, but count for nothing */
    sum_boxes(own->whole, pixel, columns, plan->inset_width, own->words, &own->samples);
}

OCTOBEV_CLONES
static void resize_row(const Resize *plan, ptrdiff_t row, int thread)
{
    Memory memory = {plan->scratch + thread * plan->scratch_bytes, 0};
    const ResizeScratch own = carve_resize(plan, &memory);
    const ptrdiff_t y = row - plan->inset_y, end = plan->inset_x + plan->inset_width;
    if (y < 0 || y >= plan->inset_height) {
        fill_row(&plan->out, row, 0, plan->out.width);
        return;
    }
    if (plan->has_boxes)
        resize_row_boxes(plan, y, &own);
    else if (plan->by_area)
        resize_row_area(plan, y, &own);
    else
        resize_row_bilinear(plan, y, &own);
    fill_row(&plan->out, row, 0, plan->inset_x);
    write_row(&plan->out, row, plan->inset_x, plan->inset_width, &own.samples);
    fill_row(&plan->out, row, end, plan->out.width);
}

/* ---- remap ---- */

typedef struct {
    Image image;
    Output out;
    const float *map_x, *map_y; /* [height][width] of the output, pixels of the source */
    ptrdiff_t scratch_bytes;
    uint8_t *scratch;
} Remap;

/* Scratch memory of one thread. */
typedef struct {
    Samples samples;
    Places places;
    uint8_t *outside; /* whether a position is outside of the image */
} RemapScratch;

OCTOBEV_INLINE RemapScratch carve_remap(const Remap *plan, Memory *memory)
{
    const ptrdiff_t width = plan->out.width;
    RemapScratch own;
    own.samples = carve_samples(memory, width, 0);
    own.places.column = (int32_t *)carve(memory, 4 * width);
    own.places.line = (int32_t *)carve(memory, 4 * width);
    own.places.place = (ptrdiff_t *)carve(memory, 8 * width);
    own.places.right = (float *)carve(memory, 4 * width);
    own.places.down = (float *)carve(memory, 4 * width);
    own.outside = (uint8_t *)carve(memory, width);
    return own;
}

static ptrdiff_t remap_bytes(const Remap *plan)
{
    Memory memory = {NULL, 0};
    carve_remap(plan, &memory);
    return memory.used;
}

/* Returns whether some position of the row is outside (or NaN). */
OCTOBEV_INLINE int locate_row(const Remap *plan, ptrdiff_t row, const RemapScratch *own)
{
    const Image *image = &plan->image;
    const Places *places = &own->places;
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
        places->right[i] = x - (float)column;
        places->down[i] = y - (float)line;
        own->outside[i] = !inside;
        any |= !inside;
    }
    for (ptrdiff_t i = 0; i < plan->out.width; i++)
        places->place[i] = places->line[i] * image->row_stride + places->column[i] * image->pixel_stride;
    return any;
}

OCTOBEV_CLONES
static void remap_row(const Remap *plan, ptrdiff_t row, int thread)
{
    const ptrdiff_t width = plan->out.width;
    Memory memory = {plan->scratch + thread * plan->scratch_bytes, 0};
    const RemapScratch own = carve_remap(plan, &memory);
    const int any = locate_row(plan, row, &own);
    sample_row(&plan->image, plan->image.data, 0, &own.places, width, &own.samples);
    for (ptrdiff_t c = 0; any && c < plan->out.channels; c++)
        for (ptrdiff_t x = 0; x < width; x++)
            if (own.outside[x])
                own.samples.channel[plan->out.order[c]][x] = plan->out.fill[c];
    write_row(&plan->out, row, 0, width, &own.samples);
}

#endif
