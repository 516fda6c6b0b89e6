/* Inner loops of warp.pyx. Positions are in cell indices, whole numbers at cell centres. */
#ifndef OCTOBEV_WARP_H
#define OCTOBEV_WARP_H

#include "vector.h"

#define WARP_CELLS 64
#define WARP_ROWS 4 /* of a part: some ten microseconds with 64 planes of 64 cells */

typedef struct {
    ptrdiff_t nx, ny;               /* of the source */
    ptrdiff_t target_nx, target_ny; /* of the target */
    ptrdiff_t planes;
    double source_from_target[6]; /* two rows of three */
    float fill;
    const float *source;
    float *out;
} Warp;

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

/* A cell without weight does not count, whatever it holds. */
OCTOBEV_INLINE float weighted(float weight, float value) { return weight > 0 ? weight * value : 0.0f; }

/* Cells first .. last (at most WARP_CELLS) of row i of every plane. */
OCTOBEV_INLINE void warp_cells(const Warp *warp, const float *OCTOBEV_RESTRICT source, float *OCTOBEV_RESTRICT out,
                               ptrdiff_t i, ptrdiff_t first, ptrdiff_t last)
{
    const double *m = warp->source_from_target;
    const ptrdiff_t ny = warp->ny, count = last - first;
    const int32_t along = ny > 1, across = warp->nx > 1 ? (int32_t)ny : 0;
    int32_t cell[WARP_CELLS];
    float w00[WARP_CELLS], w01[WARP_CELLS], w10[WARP_CELLS], w11[WARP_CELLS], rest[WARP_CELLS];
    for (ptrdiff_t k = 0; k < count; k++) {
        double x = m[0] * (double)i + m[1] * (double)(first + k) + m[2];
        double y = m[3] * (double)i + m[4] * (double)(first + k) + m[5];
        int32_t cx = pair_at(x, warp->nx), cy = pair_at(y, ny);
        float x0 = hat(x, cx), x1 = across ? hat(x, cx + 1.0) : 0.0f;
        float y0 = hat(y, cy), y1 = along ? hat(y, cy + 1.0) : 0.0f;
        cell[k] = cx * (int32_t)ny + cy;
        w00[k] = x0 * y0;
        w01[k] = x0 * y1;
        w10[k] = x1 * y0;
        w11[k] = x1 * y1;
        rest[k] = weighted(1 - (x0 + x1) * (y0 + y1), warp->fill);
    }
    for (ptrdiff_t plane = 0; plane < warp->planes; plane++) {
        const float *s = source + plane * warp->nx * ny;
        float *to = out + (plane * warp->target_nx + i) * warp->target_ny + first;
        for (ptrdiff_t k = 0; k < count; k++) {
            const float *at = s + cell[k];
            to[k] = weighted(w00[k], at[0]) + weighted(w01[k], at[along]) + weighted(w10[k], at[across])
                + weighted(w11[k], at[across + along]) + rest[k];
        }
    }
}

/* Rows WARP_ROWS * part and on of every plane. */
OCTOBEV_CLONES
static void warp_planes_part(void *job, ptrdiff_t part)
{
    const Warp *warp = (const Warp *)job;
    ptrdiff_t i = part * WARP_ROWS, rows = warp->target_nx - i < WARP_ROWS ? warp->target_nx - i : WARP_ROWS;
    for (ptrdiff_t last = i + rows; i < last; i++) {
        for (ptrdiff_t first = 0; first < warp->target_ny; first += WARP_CELLS) {
            ptrdiff_t left = warp->target_ny - first;
            warp_cells(warp, warp->source, warp->out, i, first, first + (left < WARP_CELLS ? left : WARP_CELLS));
        }
    }
}

/* Nearest cell; halves go up. */
static void warp_mask_row(const Warp *warp, const uint8_t *OCTOBEV_RESTRICT source, uint8_t *OCTOBEV_RESTRICT out,
                          ptrdiff_t i)
{
    const double *m = warp->source_from_target;
    for (ptrdiff_t j = 0; j < warp->target_ny; j++) {
        double x = floor(m[0] * (double)i + m[1] * (double)j + m[2] + 0.5);
        double y = floor(m[3] * (double)i + m[4] * (double)j + m[5] + 0.5);
        int inside = x >= 0 && y >= 0 && x < (double)warp->nx && y < (double)warp->ny;
        out[i * warp->target_ny + j] = inside ? source[(ptrdiff_t)x * warp->ny + (ptrdiff_t)y] : 0;
    }
}

#endif
