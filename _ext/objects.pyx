# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Objects out of heat maps: where the heat is largest, and which boxes say the same as a better one."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint8_t

from .border import require

ctypedef float float32_t
ctypedef double float64_t


def find_peaks(
    const float32_t[:, :, :] heat not None,  # IN [classes, h, w], any strides
    float32_t threshold,
    int64_t[:, ::1] places not None,         # OUT [3, most]: class, row, column of each peak
    float32_t[::1] scores not None,          # OUT [most]: its heat
):
    """Find pixels whose heat is above a threshold and the largest of the 3 x 3 around them, in their own class.

    They come in the order of class, row, column; of equal neighbours the first one is a peak. Returns how many there
    are. No two peaks touch, so a peak for every 2 x 2 pixels of each class is room enough.
    """
    cdef ptrdiff_t classes = heat.shape[0], h = heat.shape[1], w = heat.shape[2], c, v, u, found = 0
    cdef ptrdiff_t room = classes * ((h + 1) // 2) * ((w + 1) // 2)
    require(places.shape[0] == 3 and places.shape[1] >= room, "places", f"of shape (3, {room} or more)", places.shape)
    require(scores.shape[0] >= room, "length of scores", f"at least {room}", scores.shape[0])
    with nogil:
        for c in range(classes):
            for v in range(h):
                for u in range(w):
                    if heat[c, v, u] > threshold and _is_peak(heat, c, v, u):
                        places[0, found] = c
                        places[1, found] = v
                        places[2, found] = u
                        scores[found] = heat[c, v, u]
                        found += 1
    return found


cdef bint _is_peak(const float32_t[:, :, :] heat, ptrdiff_t c, ptrdiff_t v, ptrdiff_t u) noexcept nogil:
    """Whether a pixel is above the four neighbours that come before it and not below those that come after it."""
    cdef ptrdiff_t dv, du, last_v = heat.shape[1] - 1, last_u = heat.shape[2] - 1
    cdef float32_t own = heat[c, v, u]
    for dv in range(-1, 2):
        for du in range(-1, 2):
            if v + dv < 0 or v + dv > last_v or u + du < 0 or u + du > last_u or (dv == 0 and du == 0):
                continue
            if dv < 0 or (dv == 0 and du < 0):
                if not own > heat[c, v + dv, u + du]:
                    return False
            elif not own >= heat[c, v + dv, u + du]:
                return False
    return True


def suppress(
    const float64_t[:, :] boxes not None,   # IN [n, 4], x_min, y_min, x_max, y_max, the best first, any strides
    const int64_t[:] class_ids not None,    # IN [n]
    double max_overlap,                     # intersection over union
    uint8_t[::1] stays not None,            # OUT [n]
):
    """Say of each box whether it stays: whether no better box of its class that stays overlaps it by more."""
    cdef ptrdiff_t n = boxes.shape[0], i, j
    require(boxes.shape[1] == 4, "boxes", "of four numbers", boxes.shape)
    require(class_ids.shape[0] == n and stays.shape[0] == n, "class_ids and stays", f"of length {n}", class_ids.shape)
    with nogil:
        for i in range(n):
            stays[i] = 1
            for j in range(i):
                if stays[j] and class_ids[j] == class_ids[i] and _overlap(boxes, i, j, max_overlap):
                    stays[i] = 0
                    break


cdef bint _overlap(const float64_t[:, :] boxes, ptrdiff_t i, ptrdiff_t j, double limit) noexcept nogil:
    cdef double width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
    cdef double height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
    cdef double shared = max(width, 0.0) * max(height, 0.0)
    return shared > limit * (_area(boxes, i) + _area(boxes, j) - shared)


cdef double _area(const float64_t[:, :] boxes, ptrdiff_t i) noexcept nogil:
    return (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
