/* Inner loops of project.pyx: a tile of points into every camera, all lens models. */
#ifndef OCTOBEV_PROJECT_H
#define OCTOBEV_PROJECT_H

#include <math.h>

#include "vector.h"

#define TILE_POINTS 64
#define MAX_CAMERAS 64
#define LENS_PARAMETERS 12 /* fx fy cx cy, then the coefficients in OpenCV's order */

enum lens_model { PINHOLE = 0, BROWN_CONRADY = 1, KANNALA_BRANDT = 2 };

/* What to project: pointers to the arrays that project.pyx checked, C-contiguous. */
typedef struct {
    const double *points;             /* [count][3] */
    const uint8_t *point_active;      /* [count], or NULL for all */
    ptrdiff_t count;
    const double *camera_from_points; /* [cameras][3][4] */
    const int32_t *lens_models;       /* [cameras] */
    const double *lens;               /* [cameras][LENS_PARAMETERS] */
    const double *limits;             /* [cameras] */
    const double *image_size;         /* [cameras][2], width and height */
    const uint8_t *active;            /* [cameras] */
    ptrdiff_t cameras;
    ptrdiff_t feature_width, feature_height;
    double stride, border_px;
    int by_resolution;
} Scene;

/* One array for each coordinate; NaN for points that do not count, which no camera sees. */
typedef struct {
    double x[TILE_POINTS], y[TILE_POINTS], z[TILE_POINTS];
} TilePoints;

/* A tile in one camera: network pixels, depth along the optical axis, and share (0: not seen). */
typedef struct {
    double u[TILE_POINTS], v[TILE_POINTS], depth[TILE_POINTS], share[TILE_POINTS];
} TileView;

OCTOBEV_INLINE double least(double a, double b) { return a < b ? a : b; }
OCTOBEV_INLINE double greatest(double a, double b) { return a > b ? a : b; }

/* Angle of (lateral >= 0, z) from the z axis, 0..pi. Abramowitz and Stegun 4.4.49, error below 2e-8 rad. */
OCTOBEV_INLINE double axis_angle(double lateral, double z)
{
    double height = fabs(z);
    double low = least(lateral, height), high = greatest(lateral, height);
    double t = low / greatest(high, 1e-300), t2 = t * t;
    double series = 0.0429096138 + t2 * (-0.0161657367 + t2 * 0.0028662257);
    series = 0.1065626393 + t2 * (-0.0752896400 + t2 * series);
    series = 1.0 + t2 * (-0.3333314528 + t2 * (0.1999355085 + t2 * (-0.1420889944 + t2 * series)));
    double angle = t * series;
    angle = lateral > height ? 1.5707963267948966 - angle : angle;
    return z < 0 ? 3.141592653589793 - angle : angle;
}

/* Projects a tile into one camera, its lens model known to the compiler. */
OCTOBEV_INLINE void project_as(const int model, const Scene *scene, ptrdiff_t camera,
                               const TilePoints *OCTOBEV_RESTRICT points, TileView *OCTOBEV_RESTRICT view)
{
    const double *m = scene->camera_from_points + camera * 12, *lens = scene->lens + camera * LENS_PARAMETERS;
    const double limit = scene->limits[camera], width = scene->image_size[2 * camera],
                 height = scene->image_size[2 * camera + 1];
    const double fx = lens[0], fy = lens[1], cx = lens[2], cy = lens[3];
    const double c0 = lens[4], c1 = lens[5], c2 = lens[6], c3 = lens[7], c4 = lens[8], c5 = lens[9], c6 = lens[10],
                 c7 = lens[11];
    const int by_resolution = scene->by_resolution;
    const double border = scene->border_px, per_border = border > 0 ? 1.0 / border : 0.0;
    for (int i = 0; i < TILE_POINTS; i++) {
        double px = points->x[i], py = points->y[i], pz = points->z[i];
        double x = m[0] * px + m[1] * py + m[2] * pz + m[3];
        double y = m[4] * px + m[5] * py + m[6] * pz + m[7];
        double z = m[8] * px + m[9] * py + m[10] * pz + m[11];
        double distance = z;
        int seen;
        if (model == KANNALA_BRANDT) {
            double lateral = sqrt(x * x + y * y), angle = axis_angle(lateral, z), a2 = angle * angle;
            double radius = angle * (1 + a2 * (c0 + a2 * (c1 + a2 * (c2 + a2 * c3))));
            double scale = radius / greatest(lateral, 1e-300);
            distance = sqrt(x * x + y * y + z * z);
            seen = (angle <= limit) & ((lateral > 0) | (z > 0));
            x *= scale;
            y *= scale;
        } else {
            double inverse = 1.0 / z;
            x *= inverse;
            y *= inverse;
            double r2 = x * x + y * y;
            seen = (z > 0) & (r2 <= limit * limit);
            if (model == BROWN_CONRADY) { /* k1 k2 p1 p2 k3 k4 k5 k6 */
                double radial = (1 + r2 * (c0 + r2 * (c1 + r2 * c4))) / (1 + r2 * (c5 + r2 * (c6 + r2 * c7)));
                double xy2 = 2 * x * y, x2 = x * x, y2 = y * y;
                x = x * radial + c2 * xy2 + c3 * (r2 + 2 * x2);
                y = y * radial + c2 * (r2 + 2 * y2) + c3 * xy2;
            }
        }
        double u = fx * x + cx, v = fy * y + cy;
        double inside = least(least(u + 0.5, width - 0.5 - u), least(v + 0.5, height - 0.5 - v));
        seen &= (u >= -0.5) & (v >= -0.5) & (u < width - 0.5) & (v < height - 0.5);
        double share = border > 0 ? least(1.0, inside * per_border) : 1.0;
        share *= by_resolution ? fx / greatest(distance, 1e-6) : 1.0;
        view->u[i] = u;
        view->v[i] = v;
        view->depth[i] = z;
        view->share[i] = seen & (share > 0) ? share : 0.0;
    }
}

/* Whether some point of the tile may be in front of the camera; saves most of the work for cameras that look away. */
OCTOBEV_INLINE int in_front(const Scene *scene, ptrdiff_t camera, const TilePoints *points)
{
    const double *m = scene->camera_from_points + camera * 12;
    int any = scene->lens_models[camera] == KANNALA_BRANDT;
    for (int i = 0; i < TILE_POINTS; i++)
        any |= m[8] * points->x[i] + m[9] * points->y[i] + m[10] * points->z[i] + m[11] > 0;
    return any;
}

OCTOBEV_INLINE void project_tile(const Scene *scene, ptrdiff_t camera, const TilePoints *points, TileView *view)
{
    switch (scene->lens_models[camera]) {
    case KANNALA_BRANDT:
        project_as(KANNALA_BRANDT, scene, camera, points, view);
        break;
    case BROWN_CONRADY:
        project_as(BROWN_CONRADY, scene, camera, points, view);
        break;
    default:
        project_as(PINHOLE, scene, camera, points, view);
    }
}

/* Returns whether any point of the tile counts. */
OCTOBEV_INLINE int load_tile(const Scene *scene, ptrdiff_t first, TilePoints *points)
{
    int any = 0;
    for (ptrdiff_t i = 0; i < TILE_POINTS; i++) {
        ptrdiff_t p = first + i;
        int counts = p < scene->count && (scene->point_active == NULL || scene->point_active[p]);
        any |= counts;
        points->x[i] = counts ? scene->points[3 * p] : NAN;
        points->y[i] = counts ? scene->points[3 * p + 1] : NAN;
        points->z[i] = counts ? scene->points[3 * p + 2] : NAN;
    }
    return any;
}

/* First pass: which cameras see each point of the tile, and how many entries its row needs. */
OCTOBEV_CLONES
static void count_tile(const Scene *scene, ptrdiff_t tile, uint64_t *seen_by, int32_t *entries)
{
    ptrdiff_t first = tile * TILE_POINTS;
    ptrdiff_t length = scene->count - first < TILE_POINTS ? scene->count - first : TILE_POINTS;
    uint64_t seen[TILE_POINTS] = {0};
    TilePoints points;
    if (load_tile(scene, first, &points)) {
        for (ptrdiff_t camera = 0; camera < scene->cameras; camera++) {
            TileView view;
            if (!scene->active[camera] || !in_front(scene, camera, &points))
                continue;
            project_tile(scene, camera, &points, &view);
            for (int i = 0; i < TILE_POINTS; i++)
                seen[i] |= (uint64_t)(view.share[i] > 0) << camera;
        }
    }
    for (ptrdiff_t i = 0; i < length; i++) {
        uint64_t mask = seen[i], pairs, fours, bytes;
        pairs = mask - ((mask >> 1) & 0x5555555555555555u);
        fours = (pairs & 0x3333333333333333u) + ((pairs >> 2) & 0x3333333333333333u);
        bytes = (fours + (fours >> 4)) & 0x0f0f0f0f0f0f0f0fu;
        seen_by[first + i] = mask;
        entries[first + i] = 4 * (int32_t)((bytes * 0x0101010101010101u) >> 56);
    }
}

/* A tile in one camera, ready to be written: first feature pixel, position between its neighbours, share and depth. */
typedef struct {
    int32_t pixel[TILE_POINTS];
    float right[TILE_POINTS], down[TILE_POINTS], share[TILE_POINTS], depth[TILE_POINTS];
} TileSamples;

OCTOBEV_INLINE void sample_tile(const Scene *scene, ptrdiff_t camera, const TileView *OCTOBEV_RESTRICT view,
                                TileSamples *OCTOBEV_RESTRICT samples)
{
    const double per_stride = 1.0 / scene->stride;
    const double u_last = (double)(scene->feature_width - 1), v_last = (double)(scene->feature_height - 1);
    const double u_low = greatest(u_last - 1, 0), v_low = greatest(v_last - 1, 0);
    const int32_t width = (int32_t)scene->feature_width;
    const int32_t base = (int32_t)(camera * scene->feature_height * scene->feature_width);
    for (int i = 0; i < TILE_POINTS; i++) {
        double u = least(greatest((view->u[i] + 0.5) * per_stride - 0.5, 0.0), u_last);
        double v = least(greatest((view->v[i] + 0.5) * per_stride - 0.5, 0.0), v_last);
        int32_t column = (int32_t)least(u, u_low), row = (int32_t)least(v, v_low);
        samples->pixel[i] = base + row * width + column;
        samples->right[i] = (float)(u - column);
        samples->down[i] = (float)(v - row);
        samples->share[i] = (float)view->share[i];
        samples->depth[i] = (float)view->depth[i];
    }
}

/* Second pass: writes the rows of the tile at the places that the counts gave. */
OCTOBEV_CLONES
static void fill_tile(const Scene *scene, ptrdiff_t tile, const uint64_t *seen_by, const int32_t *indptr,
                      int32_t *OCTOBEV_RESTRICT indices, float *OCTOBEV_RESTRICT weights,
                      float *OCTOBEV_RESTRICT depths)
{
    ptrdiff_t first = tile * TILE_POINTS;
    ptrdiff_t length = scene->count - first < TILE_POINTS ? scene->count - first : TILE_POINTS;
    const int32_t right = scene->feature_width > 1, down = scene->feature_height > 1 ? (int32_t)scene->feature_width : 0;
    uint64_t anyone = 0;
    float total[TILE_POINTS] = {0};
    TileSamples samples[MAX_CAMERAS];
    TilePoints points;
    for (ptrdiff_t i = 0; i < length; i++)
        anyone |= seen_by[first + i];
    if (!anyone)
        return;
    load_tile(scene, first, &points);
    for (ptrdiff_t camera = 0; camera < scene->cameras; camera++) {
        TileView view;
        if (!(anyone >> camera & 1))
            continue;
        project_tile(scene, camera, &points, &view);
        sample_tile(scene, camera, &view, &samples[camera]);
        for (int i = 0; i < TILE_POINTS; i++)
            total[i] += samples[camera].share[i];
    }
    for (ptrdiff_t i = 0; i < length; i++) {
        ptrdiff_t entry = indptr[first + i];
        uint64_t left = seen_by[first + i];
        for (ptrdiff_t camera = 0; left; camera++, left >>= 1) {
            const TileSamples *sample = &samples[camera];
            if (!(left & 1))
                continue;
            float a = sample->right[i], b = sample->down[i];
            float share = total[i] > 0 ? sample->share[i] / total[i] : 0;
            int32_t pixel = sample->pixel[i];
            float upper = share * (1 - b), lower = share * b;
            indices[entry] = pixel;
            indices[entry + 1] = pixel + right;
            indices[entry + 2] = pixel + down;
            indices[entry + 3] = pixel + down + right;
            weights[entry] = upper * (1 - a);
            weights[entry + 1] = upper * a;
            weights[entry + 2] = lower * (1 - a);
            weights[entry + 3] = lower * a;
            for (int neighbour = 0; neighbour < 4; neighbour++)
                depths[entry + neighbour] = sample->depth[i];
            entry += 4;
        }
    }
}

#endif
