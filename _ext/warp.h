/* Inner loops of warp.pyx. Positions are in cell indices, whole numbers at cell centres. */
#ifndef OCTOBEV_WARP_H
#define OCTOBEV_WARP_H

#include "vector.h"

#define WARP_CELLS 1024       /* at most, of the target in a part */
#define WARP_PLANES 4         /* sampled together; of eight, cells drive each other out of the first cache */
#define WARP_VALUES (1 << 18) /* for each thread: sampled in the time that a helper takes to wake up */
#define MASK_CELLS 32

typedef struct {
    ptrdiff_t nx, ny;               /* of the source */
    ptrdiff_t target_nx, target_ny; /* of the target */
    ptrdiff_t planes;
    double source_from_target[6]; /* two rows of three */
    float fill;
    const float *source;
    float *out;
} Warp;

/* Where some cells of the target lie, which are neighbours in memory: found out once for all planes.
 *
 * A cell reads a square of four cells of the source, of which `cell` is the first. The four are always in the source,
 * but one without weight does not count, whatever it holds. */
typedef struct {
    int count;
    int32_t cell[WARP_CELLS];
    float weight[4][WARP_CELLS]; /* of the corners (0, 0), (0, 1), (1, 0), (1, 1) */
    float rest[WARP_CELLS];      /* what the fill adds */
} WarpTaps;

/* Cell that starts the pair of cells around a position; the pair lies in the source where that has two cells. */
OCTOBEV_INLINE int32_t pair_at(double position, double last)
{
    double inside = position > 0 ? position : 0.0;
    return (int32_t)(inside < last ? inside : last);
}

/* Bilinear weight of the cell at `cell` for a sample at `position`. */
OCTOBEV_INLINE float hat(double position, double cell)
{
    double nearness = 1 - fabs(position - cell);
    return (float)(nearness > 0 ? nearness : 0.0);
}

/* Cells of row i from column `first` on. No choices, so that it is done side by side. */
OCTOBEV_INLINE void find_taps(const Warp *warp, ptrdiff_t i, int32_t first, int32_t count, WarpTaps *taps, int at)
{
    const double *m = warp->source_from_target;
    const double m00_i = m[0] * (double)i, m01 = m[1], m02 = m[2], m10_i = m[3] * (double)i, m11 = m[4], m12 = m[5];
    const double last_x = warp->nx > 2 ? (double)(warp->nx - 2) : 0.0;
    const double last_y = warp->ny > 2 ? (double)(warp->ny - 2) : 0.0;
    const float along = warp->ny > 1, across = warp->nx > 1, fill = warp->fill; /* is there a second cell? */
    const int32_t ny = (int32_t)warp->ny;
    int32_t *OCTOBEV_RESTRICT cell = taps->cell + at;
    float *OCTOBEV_RESTRICT w00 = taps->weight[0] + at, *OCTOBEV_RESTRICT w01 = taps->weight[1] + at;
    float *OCTOBEV_RESTRICT w10 = taps->weight[2] + at, *OCTOBEV_RESTRICT w11 = taps->weight[3] + at;
    float *OCTOBEV_RESTRICT rests = taps->rest + at;
    for (int32_t k = 0; k < count; k++) {
        double x = m00_i + m01 * (double)(first + k) + m02;
        double y = m10_i + m11 * (double)(first + k) + m12;
        int32_t cx = pair_at(x, last_x), cy = pair_at(y, last_y);
        float x0 = hat(x, cx), x1 = hat(x, cx + 1.0) * across;
        float y0 = hat(y, cy), y1 = hat(y, cy + 1.0) * along;
        float rest = 1 - (x0 + x1) * (y0 + y1);
        cell[k] = cx * ny + cy;
        w00[k] = x0 * y0;
        w01[k] = x0 * y1;
        w10[k] = x1 * y0;
        w11[k] = x1 * y1;
        rests[k] = rest > 0 ? rest * fill : 0.0f;
    }
}

#ifdef OCTOBEV_VECTORS
/* Small rotations leave neighbours neighbours: where eight cells of the target, from `at` on, read eight squares in a
 * row, they are a strip, sampled by loading each corner of all squares at once. */
typedef struct {
    int32_t at, cell;
    f8 weight[4], rest;
} WarpStrip;

/* Other cells are taken in fours, square by square. */
typedef struct {
    int32_t at, cell[4];
    f4 weight[4], rest;
} WarpFour;

/* In the order in which they are sampled, so that reading them passes through the first cache, where a table for each
 * corner would meet the planes in the same lines. Some cells are in two, and get the same value twice. */
typedef struct {
    int strips, fours;
    WarpStrip strip[WARP_CELLS / 4]; /* nine squares in a row are two */
    WarpFour four[WARP_CELLS / 4 + 1];
} WarpPlan;

OCTOBEV_INLINE void add_strip(WarpPlan *plan, const WarpTaps *taps, int at)
{
    WarpStrip *strip = &plan->strip[plan->strips++];
    strip->at = at;
    strip->cell = taps->cell[at];
    for (int corner = 0; corner < 4; corner++)
        strip->weight[corner] = *(const f8 *)(taps->weight[corner] + at);
    strip->rest = *(const f8 *)(taps->rest + at);
}

/* For the cells first .. last; the last four may reach back. */
OCTOBEV_INLINE void add_fours(WarpPlan *plan, const WarpTaps *taps, int first, int last)
{
    for (int t = first; t < last; t += 4) {
        WarpFour *four = &plan->four[plan->fours++];
        const int at = t + 4 <= taps->count ? t : taps->count - 4;
        four->at = at;
        memcpy(four->cell, taps->cell + at, sizeof(four->cell));
        for (int corner = 0; corner < 4; corner++)
            four->weight[corner] = *(const f4 *)(taps->weight[corner] + at);
        four->rest = *(const f4 *)(taps->rest + at);
    }
}

/* Strips where squares lie in a row, the last of a row reaching back; fours for what is between. */
OCTOBEV_INLINE void make_plan(WarpPlan *plan, const WarpTaps *taps)
{
    int done = 0, end;
    plan->strips = plan->fours = 0;
    for (int begin = 0; begin < taps->count; begin = end) {
        for (end = begin + 1; end < taps->count && taps->cell[end] == taps->cell[end - 1] + 1;)
            end++;
        if (end - begin < 8)
            continue;
        add_fours(plan, taps, done, begin);
        for (int t = begin; t < end; t += 8)
            add_strip(plan, taps, t + 8 <= end ? t : end - 8);
        done = end;
    }
    add_fours(plan, taps, done, taps->count);
}

/* A strip of some planes. Hardware does not foresee that the next planes are read and written at the same place: it is
 * asked for here. */
OCTOBEV_INLINE void sample_strip(const Warp *warp, const WarpStrip *strip, const float *source, float *out, int planes)
{
    const ptrdiff_t along = warp->ny > 1, across = warp->nx > 1 ? warp->ny : 0;
    const ptrdiff_t source_plane = warp->nx * warp->ny, out_plane = warp->target_nx * warp->target_ny;
    const f8 wa = strip->weight[0], wb = strip->weight[1], wc = strip->weight[2], wd = strip->weight[3];
    const f8 rest = strip->rest;
    const i8 counts_a = wa > 0, counts_b = wb > 0, counts_c = wc > 0, counts_d = wd > 0;
    source += strip->cell;
    out += strip->at;
    for (int plane = 0; plane < planes; plane++, source += source_plane, out += out_plane) {
        OCTOBEV_PREFETCH(source + planes * source_plane);
        OCTOBEV_PREFETCH(out + planes * out_plane);
        f8 a = (f8)((i8)*(const f8 *)source & counts_a);
        f8 b = (f8)((i8)*(const f8 *)(source + along) & counts_b);
        f8 c = (f8)((i8)*(const f8 *)(source + across) & counts_c);
        f8 d = (f8)((i8)*(const f8 *)(source + across + along) & counts_d);
        *(f8 *)out = wa * a + wb * b + wc * c + wd * d + rest;
    }
}

/* The corners of a square of the source, whose two lines are `across` apart. */
OCTOBEV_INLINE f4 square(const float *first, ptrdiff_t across)
{
    return __builtin_shufflevector(*(const f2 *)first, *(const f2 *)(first + across), 0, 1, 2, 3);
}

/* Four cells of some planes; the source has two columns at least. */
OCTOBEV_INLINE void sample_four(const Warp *warp, const WarpFour *four, const float *source, float *out, int planes)
{
    const ptrdiff_t across = warp->nx > 1 ? warp->ny : 0;
    const ptrdiff_t source_plane = warp->nx * warp->ny, out_plane = warp->target_nx * warp->target_ny;
    const f4 wa = four->weight[0], wb = four->weight[1], wc = four->weight[2], wd = four->weight[3];
    const f4 rest = four->rest;
    const i4 counts_a = wa > 0, counts_b = wb > 0, counts_c = wc > 0, counts_d = wd > 0;
    const int32_t *cell = four->cell;
    out += four->at;
    for (int plane = 0; plane < planes; plane++, source += source_plane, out += out_plane) {
        f4 corners[4];
        OCTOBEV_PREFETCH(source + planes * source_plane + cell[0]);
        OCTOBEV_PREFETCH(out + planes * out_plane);
        transpose_lines(square(source + cell[0], across), square(source + cell[1], across),
                        square(source + cell[2], across), square(source + cell[3], across), corners);
        f4 a = (f4)((i4)corners[0] & counts_a), b = (f4)((i4)corners[1] & counts_b);
        f4 c = (f4)((i4)corners[2] & counts_c), d = (f4)((i4)corners[3] & counts_d);
        *(f4 *)out = wa * a + wb * b + wc * c + wd * d + rest;
    }
}

OCTOBEV_INLINE void sample_planes(const Warp *warp, const WarpPlan *plan, const float *source, float *out, int planes)
{
    for (int s = 0; s < plan->strips; s++)
        sample_strip(warp, &plan->strip[s], source, out, planes);
    for (int f = 0; f < plan->fours; f++)
        sample_four(warp, &plan->four[f], source, out, planes);
}
#endif

/* One plane cell by cell: the same in plain C. */
OCTOBEV_INLINE void sample_cells(const Warp *warp, const WarpTaps *taps, const float *source, float *out)
{
    const ptrdiff_t along = warp->ny > 1, across = warp->nx > 1 ? warp->ny : 0;
    for (int t = 0; t < taps->count; t++) {
        const float *first = source + taps->cell[t];
        const float wa = taps->weight[0][t], wb = taps->weight[1][t], wc = taps->weight[2][t], wd = taps->weight[3][t];
        const float a = wa > 0 ? first[0] : 0, b = wb > 0 ? first[along] : 0;
        const float c = wc > 0 ? first[across] : 0, d = wd > 0 ? first[across + along] : 0;
        out[t] = wa * a + wb * b + wc * c + wd * d + taps->rest[t];
    }
}

/* The target in parts of cells that are neighbours in memory, all about as long. */
static ptrdiff_t warp_parts(const Warp *warp)
{
    return (warp->target_nx * warp->target_ny + WARP_CELLS - 1) / WARP_CELLS;
}

/* How many of some threads are worth it. */
static int warp_threads(const Warp *warp, int threads)
{
    const ptrdiff_t worth = warp->planes * warp->target_nx * warp->target_ny / WARP_VALUES;
    return worth < threads ? (int)(worth > 1 ? worth : 1) : threads;
}

/* The first cell of a part. */
OCTOBEV_INLINE ptrdiff_t part_begin(const Warp *warp, ptrdiff_t part)
{
    const ptrdiff_t cells = warp->target_nx * warp->target_ny, parts = warp_parts(warp), longer = cells % parts;
    return part * (cells / parts) + (part < longer ? part : longer);
}

/* Where all cells of a part lie is found out once, then plane after plane is sampled there. */
OCTOBEV_CLONES
static void warp_part(void *job, ptrdiff_t part)
{
    const Warp *warp = (const Warp *)job;
    const ptrdiff_t source_plane = warp->nx * warp->ny, out_plane = warp->target_nx * warp->target_ny;
    const ptrdiff_t first = part_begin(warp, part), end = part_begin(warp, part + 1);
    const float *source = warp->source;
    float *out = warp->out + first;
    ptrdiff_t plane = 0;
    WarpTaps taps;
    taps.count = (int)(end - first);
    for (ptrdiff_t at = first; at < end;) {
        ptrdiff_t i = at / warp->target_ny, j = at % warp->target_ny;
        ptrdiff_t left = end - at, row = warp->target_ny - j, count = left < row ? left : row;
        find_taps(warp, i, (int32_t)j, (int32_t)count, &taps, (int)(at - first));
        at += count;
    }
#ifdef OCTOBEV_VECTORS
    if (warp->ny > 1 && taps.count >= 4) {
        WarpPlan plan;
        make_plan(&plan, &taps);
        for (; plane + WARP_PLANES <= warp->planes; plane += WARP_PLANES)
            sample_planes(warp, &plan, source + plane * source_plane, out + plane * out_plane, WARP_PLANES);
        for (; plane < warp->planes; plane++)
            sample_planes(warp, &plan, source + plane * source_plane, out + plane * out_plane, 1);
    }
#endif
    for (; plane < warp->planes; plane++)
        sample_cells(warp, &taps, source + plane * source_plane, out + plane * out_plane);
}

/* Nearest cell; halves go up. First where some cells lie, which takes no choice and is done side by side, then what is
 * there. */
OCTOBEV_CLONES
static void warp_mask_row(const Warp *warp, const uint8_t *OCTOBEV_RESTRICT source, uint8_t *OCTOBEV_RESTRICT out,
                          ptrdiff_t i)
{
    const double *m = warp->source_from_target;
    const double nx = (double)warp->nx, ny = (double)warp->ny;
    uint8_t *row = out + i * warp->target_ny;
    int32_t cells[MASK_CELLS];
    for (ptrdiff_t first = 0; first < warp->target_ny; first += MASK_CELLS) {
        ptrdiff_t left = warp->target_ny - first, count = left < MASK_CELLS ? left : MASK_CELLS;
        for (int k = 0; k < MASK_CELLS; k++) {
            double x = floor(m[0] * (double)i + m[1] * (double)(int32_t)(first + k) + m[2] + 0.5);
            double y = floor(m[3] * (double)i + m[4] * (double)(int32_t)(first + k) + m[5] + 0.5);
            int inside = (x >= 0) & (y >= 0) & (x < nx) & (y < ny);
            cells[k] = (int32_t)(inside ? x * ny + y : -1.0);
        }
        for (ptrdiff_t k = 0; k < count; k++)
            row[first + k] = cells[k] < 0 ? 0 : source[cells[k]];
    }
}

#endif
