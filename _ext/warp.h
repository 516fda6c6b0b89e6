/* Inner loops of warp.pyx. Positions are in cell indices, whole numbers at cell centres. */
#ifndef OCTOBEV_WARP_H
#define OCTOBEV_WARP_H

#include "vector.h"

#define WARP_LANES 16 /* planes that are sampled together: a cell of them is one cache line */
#define WARP_CELLS 16
#define MASK_CELLS 32

typedef struct {
    ptrdiff_t nx, ny;               /* of the source */
    ptrdiff_t target_nx, target_ny; /* of the target */
    ptrdiff_t planes;
    double source_from_target[6]; /* two rows of three */
    float fill;
    const float *source;
    float *out;
    float *cells; /* room for the source cell by cell, see warp_room */
} Warp;

/* Where some cells of the target lie: the four source cells around each, their weights, and what the fill adds. */
typedef struct {
    int32_t cell[4][WARP_CELLS];
    float weight[4][WARP_CELLS];
    float rest[WARP_CELLS];
} WarpTaps;

/* Cell that starts the pair of cells around a position; the pair lies in the source where that has two cells. */
OCTOBEV_INLINE int32_t pair_at(double position, ptrdiff_t extent)
{
    double last = extent > 2 ? (double)(extent - 2) : 0.0;
    double inside = position > 0 ? (position < last ? position : last) : 0.0;
    return (int32_t)inside;
}

/* Bilinear weight of the cell at `cell` for a sample at `position`. */
OCTOBEV_INLINE float hat(double position, double cell)
{
    double distance = fabs(position - cell);
    return distance < 1 ? (float)(1 - distance) : 0.0f;
}

/* A cell without weight does not count, whatever it holds: the cell behind the last one, which holds zeros, stands in. */
OCTOBEV_INLINE void find_taps(const Warp *warp, ptrdiff_t i, ptrdiff_t first, WarpTaps *OCTOBEV_RESTRICT taps)
{
    const double *m = warp->source_from_target;
    const ptrdiff_t ny = warp->ny;
    const int32_t along = ny > 1, across = warp->nx > 1 ? (int32_t)ny : 0;
    const int32_t nothing = (int32_t)(warp->nx * ny);
    const float fill = warp->fill;
    for (int k = 0; k < WARP_CELLS; k++) {
        double x = m[0] * (double)i + m[1] * (double)(first + k) + m[2];
        double y = m[3] * (double)i + m[4] * (double)(first + k) + m[5];
        int32_t cx = pair_at(x, warp->nx), cy = pair_at(y, ny);
        float x0 = hat(x, cx), x1 = across ? hat(x, cx + 1.0) : 0.0f;
        float y0 = hat(y, cy), y1 = along ? hat(y, cy + 1.0) : 0.0f;
        int32_t cell = cx * (int32_t)ny + cy;
        float w00 = x0 * y0, w01 = x0 * y1, w10 = x1 * y0, w11 = x1 * y1, rest = 1 - (x0 + x1) * (y0 + y1);
        taps->weight[0][k] = w00;
        taps->weight[1][k] = w01;
        taps->weight[2][k] = w10;
        taps->weight[3][k] = w11;
        taps->cell[0][k] = w00 > 0 ? cell : nothing;
        taps->cell[1][k] = w01 > 0 ? cell + along : nothing;
        taps->cell[2][k] = w10 > 0 ? cell + across : nothing;
        taps->cell[3][k] = w11 > 0 ? cell + across + along : nothing;
        taps->rest[k] = rest > 0 ? rest * fill : 0.0f;
    }
}

/* Row i of up to WARP_LANES planes. `cells` holds the source cell by cell, [nx * ny + 1][WARP_LANES], the last all 0. */
OCTOBEV_INLINE void warp_row(const Warp *warp, const float *OCTOBEV_RESTRICT cells, ptrdiff_t lanes,
                             float *OCTOBEV_RESTRICT out, ptrdiff_t i)
{
    const ptrdiff_t plane = warp->target_nx * warp->target_ny;
    float sampled[WARP_CELLS * WARP_LANES];
    WarpTaps taps;
    for (ptrdiff_t first = 0; first < warp->target_ny; first += WARP_CELLS) {
        ptrdiff_t left = warp->target_ny - first, count = left < WARP_CELLS ? left : WARP_CELLS;
        find_taps(warp, i, first, &taps);
        for (ptrdiff_t k = 0; k < count; k++) {
            float *to = sampled + k * WARP_LANES;
            const float *a = cells + (ptrdiff_t)taps.cell[0][k] * WARP_LANES;
            const float *b = cells + (ptrdiff_t)taps.cell[1][k] * WARP_LANES;
            const float *c = cells + (ptrdiff_t)taps.cell[2][k] * WARP_LANES;
            const float *d = cells + (ptrdiff_t)taps.cell[3][k] * WARP_LANES;
            const float wa = taps.weight[0][k], wb = taps.weight[1][k], wc = taps.weight[2][k], wd = taps.weight[3][k];
            const float rest = taps.rest[k];
#ifdef OCTOBEV_VECTORS
            *(f16 *)to = wa * *(const f16 *)a + wb * *(const f16 *)b + wc * *(const f16 *)c + wd * *(const f16 *)d + rest;
#else
            for (int lane = 0; lane < WARP_LANES; lane++)
                to[lane] = wa * a[lane] + wb * b[lane] + wc * c[lane] + wd * d[lane] + rest;
#endif
        }
        transpose(sampled, WARP_LANES, out + i * warp->target_ny + first, plane, count, lanes);
    }
}

static ptrdiff_t warp_parts(const Warp *warp) { return (warp->planes + WARP_LANES - 1) / WARP_LANES; }

/* Floats of a part's room: [nx * ny + 1][WARP_LANES], the last cell all 0. */
static ptrdiff_t warp_room(const Warp *warp) { return (warp->nx * warp->ny + 1) * WARP_LANES; }

/* WARP_LANES planes, or what is left: turned into cells, sampled, turned back. Planes are read and written in long
 * runs, which costs half of picking four values of each plane for each cell when they come from memory. */
OCTOBEV_CLONES
static void warp_planes_part(void *job, ptrdiff_t part)
{
    const Warp *warp = (const Warp *)job;
    const ptrdiff_t first = part * WARP_LANES, plane = warp->nx * warp->ny;
    const ptrdiff_t lanes = warp->planes - first < WARP_LANES ? warp->planes - first : WARP_LANES;
    float *cells = warp->cells + part * warp_room(warp);
    memset(cells + plane * WARP_LANES, 0, WARP_LANES * sizeof(float));
    if (lanes < WARP_LANES)
        memset(cells, 0, (size_t)plane * WARP_LANES * sizeof(float));
    transpose(warp->source + first * plane, plane, cells, WARP_LANES, lanes, plane);
    for (ptrdiff_t i = 0; i < warp->target_nx; i++)
        warp_row(warp, cells, lanes, warp->out + first * warp->target_nx * warp->target_ny, i);
}

/* Nearest cell; halves go up. First where some cells lie, which takes no choice and is done side by side, then what is
 * there. `half` is what makes rounding down rounding to the nearest. */
OCTOBEV_CLONES
static void warp_mask_row(const Warp *warp, const uint8_t *OCTOBEV_RESTRICT source, uint8_t *OCTOBEV_RESTRICT out,
                          ptrdiff_t i, double half)
{
    const double *m = warp->source_from_target;
    const double nx = (double)warp->nx, ny = (double)warp->ny;
    uint8_t *row = out + i * warp->target_ny;
    int32_t cells[MASK_CELLS];
    for (ptrdiff_t first = 0; first < warp->target_ny; first += MASK_CELLS) {
        ptrdiff_t left = warp->target_ny - first, count = left < MASK_CELLS ? left : MASK_CELLS;
        for (int k = 0; k < MASK_CELLS; k++) {
            double x = floor(m[0] * (double)i + m[1] * (double)(int32_t)(first + k) + m[2] + half);
            double y = floor(m[3] * (double)i + m[4] * (double)(int32_t)(first + k) + m[5] + half);
            int inside = (x >= 0) & (y >= 0) & (x < nx) & (y < ny);
            cells[k] = (int32_t)(inside ? x * ny + y : -1.0);
        }
        for (ptrdiff_t k = 0; k < count; k++)
            row[first + k] = cells[k] < 0 ? 0 : source[cells[k]];
    }
}

#endif
