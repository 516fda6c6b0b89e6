# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Points into cameras: the sparse view matrix."""

from libc.math cimport atan2, floor, hypot, sqrt
from libc.stdint cimport int32_t, uint8_t, uint64_t

ctypedef float float32_t

import numpy as np

from .border import require, require_apart, require_finite, require_threads

cdef extern from *:
    """
    #ifdef _OPENMP
    static int octobev_openmp = 1;
    #else
    static int octobev_openmp = 0;
    #endif
    """
    int octobev_openmp


def openmp_enabled():
    return bool(octobev_openmp)


def build(const double[:, ::1] points not None, const double[:, :, ::1] camera_from_points not None, const int32_t[::1] lens_models not None,
          const double[:, ::1] lens not None, const double[::1] limits not None, const double[:, ::1] image_size not None,
          const uint8_t[::1] active not None, Py_ssize_t feature_width, Py_ssize_t feature_height, double stride, *,
          str weighting="resolution", double border_px=0.0, const uint8_t[::1] point_active=None,
          int32_t[::1] indptr not None, int32_t[::1] indices not None, float32_t[::1] weights not None, float32_t[::1] depths not None,
          uint64_t[::1] seen_by not None, int num_threads=1):
    cdef Py_ssize_t p, i, j, k = 0, q, n = camera_from_points.shape[0], count = points.shape[0]
    cdef double x, y, z, px, py, pz, r, r2, s, u, v, w, total, a, b, uf, vf, d
    cdef Py_ssize_t u0, v0, u1, v1, base
    cdef bint by_resolution, ok, fits = True
    cdef const double[:, :, ::1] T = camera_from_points
    require(points.shape[1] == 3, "points", "of shape (points, 3)", (points.shape[0], points.shape[1]))
    require(n <= 64, "cameras", "at most 64", n)
    require(T.shape[1] == 3 and T.shape[2] == 4, "camera_from_points", "of shape (cameras, 3, 4)", (T.shape[0], T.shape[1], T.shape[2]))
    require(lens_models.shape[0] == n, "lens_models", f"of length {n}", lens_models.shape[0])
    require(lens.shape[0] == n and lens.shape[1] == 12, "lens", f"of shape ({n}, 12)", (lens.shape[0], lens.shape[1]))
    require(limits.shape[0] == n, "limits", f"of length {n}", limits.shape[0])
    require(image_size.shape[0] == n and image_size.shape[1] == 2, "image_size", f"of shape ({n}, 2)", (image_size.shape[0], image_size.shape[1]))
    require(active.shape[0] == n, "active", f"of length {n}", active.shape[0])
    require(weighting in ("uniform", "resolution"), "weighting", "'uniform' or 'resolution'", repr(weighting))
    require(indptr.shape[0] == count + 1, "indptr", f"of length {count + 1}", indptr.shape[0])
    require(seen_by.shape[0] == count, "seen_by", f"of length {count}", seen_by.shape[0])
    require(point_active is None or point_active.shape[0] == count, "point_active", f"of length {count}", None if point_active is None else point_active.shape[0])
    require(feature_width >= 1 and feature_height >= 1, "feature shape", "positive", (feature_height, feature_width))
    by_resolution = weighting == "resolution"
    cdef Py_ssize_t cap = min(indices.shape[0], weights.shape[0], depths.shape[0])
    cdef double share[64]
    cdef double us[64]
    cdef double vs[64]
    cdef double zs[64]
    indptr[0] = 0
    for p in range(count):
        seen_by[p] = 0
        total = 0
        if point_active is None or point_active[p]:
            px = points[p, 0]
            py = points[p, 1]
            pz = points[p, 2]
            for i in range(n):
                share[i] = 0
                if not active[i]:
                    continue
                x = T[i, 0, 0] * px + T[i, 0, 1] * py + T[i, 0, 2] * pz + T[i, 0, 3]
                y = T[i, 1, 0] * px + T[i, 1, 1] * py + T[i, 1, 2] * pz + T[i, 1, 3]
                z = T[i, 2, 0] * px + T[i, 2, 1] * py + T[i, 2, 2] * pz + T[i, 2, 3]
                d = z
                if lens_models[i] == 2:
                    r = sqrt(x * x + y * y)
                    s = atan2(r, z)
                    ok = s <= limits[i] and (r > 0 or z > 0)
                    d = sqrt(x * x + y * y + z * z)
                    r2 = s * s
                    s = s * (1 + r2 * (lens[i, 4] + r2 * (lens[i, 5] + r2 * (lens[i, 6] + r2 * lens[i, 7])))) / max(r, 1e-300)
                    x = x * s
                    y = y * s
                else:
                    ok = z > 0 and sqrt(x * x + y * y) <= limits[i] * z
                    x = x / z
                    y = y / z
                    if lens_models[i] == 1:
                        r2 = x * x + y * y
                        s = (1 + r2 * (lens[i, 4] + r2 * (lens[i, 5] + r2 * lens[i, 8]))) / (1 + r2 * (lens[i, 9] + r2 * (lens[i, 10] + r2 * lens[i, 11])))
                        a = x * s + 2 * lens[i, 6] * x * y + lens[i, 7] * (r2 + 2 * x * x)
                        y = y * s + lens[i, 6] * (r2 + 2 * y * y) + 2 * lens[i, 7] * x * y
                        x = a
                u = lens[i, 0] * x + lens[i, 2]
                v = lens[i, 1] * y + lens[i, 3]
                if not (ok and u >= -0.5 and v >= -0.5 and u < image_size[i, 0] - 0.5 and v < image_size[i, 1] - 0.5):
                    continue
                w = lens[i, 0] / d if by_resolution else 1.0
                if border_px > 0:
                    w = w * min(1.0, min(min(u + 0.5, image_size[i, 0] - 0.5 - u), min(v + 0.5, image_size[i, 1] - 0.5 - v)) / border_px)
                if not w > 0:
                    continue
                share[i] = w
                us[i] = u
                vs[i] = v
                zs[i] = z
                total = total + w
                seen_by[p] |= (<uint64_t>1) << i
        if total > 0:
            for i in range(n):
                if share[i] == 0:
                    continue
                if k + 4 > cap:
                    fits = False
                    break
                uf = min(max((us[i] + 0.5) / stride - 0.5, 0.0), <double>(feature_width - 1))
                vf = min(max((vs[i] + 0.5) / stride - 0.5, 0.0), <double>(feature_height - 1))
                u0 = min(<Py_ssize_t>uf, max(feature_width - 2, 0))
                v0 = min(<Py_ssize_t>vf, max(feature_height - 2, 0))
                a = uf - u0
                b = vf - v0
                u1 = min(u0 + 1, feature_width - 1)
                v1 = min(v0 + 1, feature_height - 1)
                base = i * feature_height * feature_width
                w = share[i] / total
                indices[k] = base + v0 * feature_width + u0
                indices[k + 1] = base + v0 * feature_width + u1
                indices[k + 2] = base + v1 * feature_width + u0
                indices[k + 3] = base + v1 * feature_width + u1
                weights[k] = w * (1 - a) * (1 - b)
                weights[k + 1] = w * a * (1 - b)
                weights[k + 2] = w * (1 - a) * b
                weights[k + 3] = w * a * b
                for j in range(4):
                    depths[k + j] = zs[i]
                k += 4
        indptr[p + 1] = k
    require(fits, "indices, weights and depths", "long enough for every sample", cap)
    return k
