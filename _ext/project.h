/* Inner loops of project.pyx: a tile of points into every camera, all lens models. */
#ifndef OCTOBEV_PROJECT_H
#define OCTOBEV_PROJECT_H

#include <math.h>

#include "crew.h"
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
    double cones[MAX_CAMERAS][2]; /* see find_cone */
} Scene;

/* One array for each coordinate; NaN for points that do not count, which no camera sees. */
typedef struct {
    double x[TILE_POINTS], y[TILE_POINTS], z[TILE_POINTS];
    double centre[3], radius; /* of a sphere around all of them */
} TilePoints;

/* A tile in one camera: network pixels, depth along the optical axis, and share (0: not seen). Points are brought into
 * the camera frame in double precision; what follows has single precision, which is good to 1e-4 of a pixel. */
typedef struct {
    float u[TILE_POINTS], v[TILE_POINTS], depth[TILE_POINTS], share[TILE_POINTS];
} TileView;

OCTOBEV_INLINE float least(float a, float b) { return a < b ? a : b; }
OCTOBEV_INLINE float greatest(float a, float b) { return a > b ? a : b; }

/* Angle of (lateral >= 0, z) from the z axis, 0..pi. Abramowitz and Stegun 4.4.49, error below 3e-7 rad. */
OCTOBEV_INLINE float axis_angle(float lateral, float z)
{
    float height = fabsf(z);
    float low = least(lateral, height), high = greatest(lateral, height);
    float t = low / greatest(high, 1e-30f), t2 = t * t;
    float series = 0.0429096138f + t2 * (-0.0161657367f + t2 * 0.0028662257f);
    series = 0.1065626393f + t2 * (-0.0752896400f + t2 * series);
    series = 1.0f + t2 * (-0.3333314528f + t2 * (0.1999355085f + t2 * (-0.1420889944f + t2 * series)));
    float angle = t * series;
    angle = lateral > height ? 1.5707963267948966f - angle : angle;
    return z < 0 ? 3.141592653589793f - angle : angle;
}

/* One coordinate of the tile in a camera frame; `m`: its row of camera_from_points. */
OCTOBEV_INLINE void bring_into_camera(const double *m, const TilePoints *OCTOBEV_RESTRICT points,
                                      float *OCTOBEV_RESTRICT coordinate)
{
    const double mx = m[0], my = m[1], mz = m[2], offset = m[3];
    for (int i = 0; i < TILE_POINTS; i++)
        coordinate[i] = (float)(mx * points->x[i] + my * points->y[i] + mz * points->z[i] + offset);
}

/* Projects a tile, which lies at x, y and view->depth in the camera frame, its lens model known to the compiler. */
OCTOBEV_INLINE void project_as(const int model, const Scene *scene, ptrdiff_t camera, const float *OCTOBEV_RESTRICT xs,
                               const float *OCTOBEV_RESTRICT ys, TileView *OCTOBEV_RESTRICT view)
{
    const double *lens = scene->lens + camera * LENS_PARAMETERS;
    const float limit = (float)scene->limits[camera], width = (float)scene->image_size[2 * camera],
                height = (float)scene->image_size[2 * camera + 1];
    const float fx = (float)lens[0], fy = (float)lens[1], cx = (float)lens[2], cy = (float)lens[3];
    const float c0 = (float)lens[4], c1 = (float)lens[5], c2 = (float)lens[6], c3 = (float)lens[7];
    const float c4 = (float)lens[8], c5 = (float)lens[9], c6 = (float)lens[10], c7 = (float)lens[11];
    const int by_resolution = scene->by_resolution;
    const float border = (float)scene->border_px, per_border = border > 0 ? 1.0f / border : 0.0f;
    for (int i = 0; i < TILE_POINTS; i++) {
        float x = xs[i], y = ys[i], z = view->depth[i], distance = z;
        int seen;
        if (model == KANNALA_BRANDT) {
            float lateral = sqrtf(x * x + y * y), angle = axis_angle(lateral, z), a2 = angle * angle;
            float radius = angle * (1 + a2 * (c0 + a2 * (c1 + a2 * (c2 + a2 * c3))));
            float scale = radius / greatest(lateral, 1e-30f);
            distance = sqrtf(x * x + y * y + z * z);
            seen = (angle <= limit) & ((lateral > 0) | (z > 0));
            x *= scale;
            y *= scale;
        } else {
            float inverse = 1.0f / z;
            x *= inverse;
            y *= inverse;
            float r2 = x * x + y * y;
            seen = (z > 0) & (r2 <= limit * limit);
            if (model == BROWN_CONRADY) { /* k1 k2 p1 p2 k3 k4 k5 k6 */
                float radial = (1 + r2 * (c0 + r2 * (c1 + r2 * c4))) / (1 + r2 * (c5 + r2 * (c6 + r2 * c7)));
                float xy2 = 2 * x * y, x2 = x * x, y2 = y * y;
                x = x * radial + c2 * xy2 + c3 * (r2 + 2 * x2);
                y = y * radial + c2 * (r2 + 2 * y2) + c3 * xy2;
            }
        }
        float u = fx * x + cx, v = fy * y + cy;
        float inside = least(least(u + 0.5f, width - 0.5f - u), least(v + 0.5f, height - 0.5f - v));
        seen &= (u >= -0.5f) & (v >= -0.5f) & (u < width - 0.5f) & (v < height - 0.5f);
        float share = border > 0 ? least(1.0f, inside * per_border) : 1.0f;
        share *= by_resolution ? fx / greatest(distance, 1e-6f) : 1.0f;
        view->u[i] = u;
        view->v[i] = v;
        view->share[i] = seen & (share > 0) ? share : 0.0f;
    }
}

/* Cosine and sine of an angle from the optical axis beyond which a camera sees nothing: that of the farthest corner of its
 * image, or the end of its lens model. With Brown-Conrady, whose corners have no closed form, all that is ahead. */
static void find_cone(const Scene *scene, ptrdiff_t camera, double *cone)
{
    const double *lens = scene->lens + camera * LENS_PARAMETERS, *size = scene->image_size + 2 * camera;
    double x = fmax(lens[2] + 0.5, size[0] - 0.5 - lens[2]) / lens[0];
    double y = fmax(lens[3] + 0.5, size[1] - 0.5 - lens[3]) / lens[1], corner = hypot(x, y);
    double widest = 1.5707963267948966;
    if (scene->lens_models[camera] == PINHOLE) {
        widest = atan(corner);
    } else if (scene->lens_models[camera] == KANNALA_BRANDT) {
        double low = 0, high = fmin(scene->limits[camera], 3.141592653589793);
        for (int step = 0; step < 50; step++) { /* the radius grows with the angle up to the limit */
            double angle = 0.5 * (low + high), a2 = angle * angle;
            if (angle * (1 + a2 * (lens[4] + a2 * (lens[5] + a2 * (lens[6] + a2 * lens[7])))) < corner)
                low = angle;
            else
                high = angle;
        }
        widest = high;
    }
    widest = fmin(widest + 1e-4, 3.141592653589793); /* more than the projection's own error */
    cone[0] = cos(widest);
    cone[1] = sin(widest);
}

static void find_cones(Scene *scene)
{
    for (ptrdiff_t camera = 0; camera < scene->cameras; camera++)
        find_cone(scene, camera, scene->cones[camera]);
}

/* Whether no point of the tile lies in the camera's cone: the sphere around them is beyond its surface. */
OCTOBEV_INLINE int looks_away(const Scene *scene, ptrdiff_t camera, const TilePoints *points)
{
    const double *m = scene->camera_from_points + camera * 12, *c = points->centre, *cone = scene->cones[camera];
    double x = m[0] * c[0] + m[1] * c[1] + m[2] * c[2] + m[3], y = m[4] * c[0] + m[5] * c[1] + m[6] * c[2] + m[7];
    double z = m[8] * c[0] + m[9] * c[1] + m[10] * c[2] + m[11];
    return sqrt(x * x + y * y) * cone[0] - z * cone[1] > points->radius * 1.001 + 1e-6;
}

/* Projects a tile into a camera. Returns 0, and nothing else, when the camera looks away from all of it. */
OCTOBEV_INLINE int project_tile(const Scene *scene, ptrdiff_t camera, const TilePoints *points, TileView *view)
{
    const double *m = scene->camera_from_points + camera * 12;
    float x[TILE_POINTS], y[TILE_POINTS];
    if (looks_away(scene, camera, points))
        return 0;
    bring_into_camera(m, points, x);
    bring_into_camera(m + 4, points, y);
    bring_into_camera(m + 8, points, view->depth);
    switch (scene->lens_models[camera]) {
    case KANNALA_BRANDT:
        project_as(KANNALA_BRANDT, scene, camera, x, y, view);
        break;
    case BROWN_CONRADY:
        project_as(BROWN_CONRADY, scene, camera, x, y, view);
        break;
    default:
        project_as(PINHOLE, scene, camera, x, y, view);
    }
    return 1;
}

/* Middle and half length of the range of some coordinates, leaving out what is not a number. */
OCTOBEV_INLINE double middle_of(const double *OCTOBEV_RESTRICT coordinates, double *half)
{
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < TILE_POINTS; i++) {
        low = coordinates[i] < low ? coordinates[i] : low;
        high = coordinates[i] > high ? coordinates[i] : high;
    }
    *half = 0.5 * (high - low);
    return 0.5 * (high + low);
}

/* Returns whether any point of the tile counts. */
OCTOBEV_INLINE int load_tile(const Scene *scene, ptrdiff_t first, TilePoints *points)
{
    int any = 0;
    double x, y, z;
    for (ptrdiff_t i = 0; i < TILE_POINTS; i++) {
        ptrdiff_t p = first + i;
        int counts = p < scene->count && (scene->point_active == NULL || scene->point_active[p]);
        any |= counts;
        points->x[i] = counts ? scene->points[3 * p] : NAN;
        points->y[i] = counts ? scene->points[3 * p + 1] : NAN;
        points->z[i] = counts ? scene->points[3 * p + 2] : NAN;
    }
    points->centre[0] = middle_of(points->x, &x);
    points->centre[1] = middle_of(points->y, &y);
    points->centre[2] = middle_of(points->z, &z);
    points->radius = sqrt(x * x + y * y + z * z);
    return any;
}

/* A tile in one camera, ready to be written: first feature pixel, position between its neighbours, share and depth. */
typedef struct {
    int32_t pixel[TILE_POINTS];
    float right[TILE_POINTS], down[TILE_POINTS], share[TILE_POINTS], depth[TILE_POINTS];
} TileSamples;

OCTOBEV_INLINE void sample_tile(const Scene *scene, ptrdiff_t camera, const TileView *OCTOBEV_RESTRICT view,
                                TileSamples *OCTOBEV_RESTRICT samples)
{
    const float per_stride = (float)(1.0 / scene->stride);
    const float u_last = (float)(scene->feature_width - 1), v_last = (float)(scene->feature_height - 1);
    const float u_low = greatest(u_last - 1, 0), v_low = greatest(v_last - 1, 0);
    const int32_t width = (int32_t)scene->feature_width;
    const int32_t base = (int32_t)(camera * scene->feature_height * scene->feature_width);
    for (int i = 0; i < TILE_POINTS; i++) {
        float u = least(greatest((view->u[i] + 0.5f) * per_stride - 0.5f, 0.0f), u_last);
        float v = least(greatest((view->v[i] + 0.5f) * per_stride - 0.5f, 0.0f), v_last);
        int32_t column = (int32_t)least(u, u_low), row = (int32_t)least(v, v_low);
        samples->pixel[i] = base + row * width + column;
        samples->right[i] = u - (float)column;
        samples->down[i] = v - (float)row;
        samples->share[i] = view->share[i];
        samples->depth[i] = view->depth[i];
    }
}

/* The matrix that is written, and how far it has come. */
typedef struct {
    const Scene *scene;
    int32_t *indptr; /* [count + 1] */
    int32_t *indices;
    float *weights, *depths;
    uint64_t *seen_by;
    ptrdiff_t capacity;
    int64_t *ends; /* [tiles], entries up to the end of each tile; below 0 while they are not known */
} Matrix;

/* Number of bits that are set. */
OCTOBEV_INLINE int32_t bits_of(uint64_t mask)
{
    uint64_t pairs = mask - ((mask >> 1) & 0x5555555555555555u);
    uint64_t fours = (pairs & 0x3333333333333333u) + ((pairs >> 2) & 0x3333333333333333u);
    uint64_t bytes = (fours + (fours >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int32_t)((bytes * 0x0101010101010101u) >> 56);
}

/* Place of the lowest bit that is set. */
OCTOBEV_INLINE int lowest_bit(uint64_t mask) { return bits_of((mask & (~mask + 1)) - 1); }

/* Projects a tile into all cameras. `seen`: which see each point; `total`: the sum of their shares, 1 without any. */
OCTOBEV_INLINE void sample_cameras(const Scene *scene, ptrdiff_t first, uint64_t *OCTOBEV_RESTRICT seen,
                                   float *OCTOBEV_RESTRICT total, TileSamples *samples)
{
    TilePoints points;
    if (!load_tile(scene, first, &points))
        return;
    for (ptrdiff_t camera = 0; camera < scene->cameras; camera++) {
        TileView view;
        uint64_t anyone = 0;
        if (!scene->active[camera] || !project_tile(scene, camera, &points, &view))
            continue;
        for (int i = 0; i < TILE_POINTS; i++) {
            uint64_t sees = (uint64_t)(view.share[i] > 0) << camera;
            seen[i] |= sees;
            anyone |= sees;
        }
        if (!anyone)
            continue;
        sample_tile(scene, camera, &view, &samples[camera]);
        for (int i = 0; i < TILE_POINTS; i++)
            total[i] += samples[camera].share[i];
    }
    for (int i = 0; i < TILE_POINTS; i++)
        total[i] = total[i] > 0 ? total[i] : 1.0f;
}

/* Writes a point's row from `entry` on. */
OCTOBEV_INLINE void write_row(const Matrix *matrix, const TileSamples *samples, ptrdiff_t i, uint64_t seen, float total,
                              ptrdiff_t entry)
{
    const Scene *scene = matrix->scene;
    const int32_t right = scene->feature_width > 1, down = scene->feature_height > 1 ? (int32_t)scene->feature_width : 0;
    for (; seen; seen &= seen - 1) {
        const TileSamples *sample = samples + lowest_bit(seen);
        float a = sample->right[i], b = sample->down[i], share = sample->share[i] / total;
        int32_t pixel = sample->pixel[i];
        float upper = share * (1 - b), lower = share * b;
        int32_t *indices = matrix->indices + entry;
        float *weights = matrix->weights + entry, *depths = matrix->depths + entry;
        indices[0] = pixel;
        indices[1] = pixel + right;
        indices[2] = pixel + down;
        indices[3] = pixel + down + right;
        weights[0] = upper * (1 - a);
        weights[1] = upper * a;
        weights[2] = lower * (1 - a);
        weights[3] = lower * a;
        for (int neighbour = 0; neighbour < 4; neighbour++)
            depths[neighbour] = sample->depth[i];
        entry += 4;
    }
}

/* One tile of the matrix. Tiles are begun in their order, so whoever does the one before is at it or done: this one waits
 * for the number of entries before it, tells its own, and writes. Entries beyond the capacity are only counted. */
OCTOBEV_CLONES
static void build_tile(void *job, ptrdiff_t tile)
{
    const Matrix *matrix = (const Matrix *)job;
    const Scene *scene = matrix->scene;
    const ptrdiff_t first = tile * TILE_POINTS;
    const ptrdiff_t length = scene->count - first < TILE_POINTS ? scene->count - first : TILE_POINTS;
    uint64_t seen[TILE_POINTS] = {0};
    float total[TILE_POINTS] = {0};
    TileSamples samples[MAX_CAMERAS];
    sample_cameras(scene, first, seen, total, samples);
    int64_t entry = tile ? crew_await(&matrix->ends[tile - 1]) : 0, end = entry;
    for (ptrdiff_t i = 0; i < length; i++)
        end += 4 * bits_of(seen[i]);
    crew_tell(&matrix->ends[tile], end);
    for (ptrdiff_t i = 0; i < length; i++) {
        int32_t entries = 4 * bits_of(seen[i]);
        matrix->seen_by[first + i] = seen[i];
        if (entry + entries <= matrix->capacity)
            write_row(matrix, samples, i, seen[i], total[i], entry);
        entry += entries;
        matrix->indptr[first + i + 1] = (int32_t)entry;
    }
}

#endif
