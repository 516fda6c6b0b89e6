# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Objects out of heat maps: where the heat is largest, and which boxes say the same as a better one."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint16_t
from libc.stdlib cimport free, malloc, qsort

from .border import require

ctypedef float float32_t
ctypedef double float64_t

cdef extern from "objects.h" nogil:
    bint any_above(const float* numbers, ptrdiff_t count, float threshold) noexcept

ctypedef struct Peak:
    float32_t score
    ptrdiff_t place  # in the order of class, row, column


def find_objects(
    const float32_t[:, :, :] heat not None,   # IN [classes, h, w], any strides
    const float32_t[:, :, :] sides not None,  # IN [4, h, w]: left, top, right, bottom; pixels of the image, any strides
    double stride,                            # pixels of the image from one of the maps to the next
    float32_t threshold,                      # 0 or more
    double max_overlap,                       # intersection over union
    float64_t[:, ::1] boxes not None,         # OUT [most, 4]: x_min, y_min, x_max, y_max, pixels of the image
    float32_t[::1] scores not None,           # OUT [most]
    uint16_t[::1] class_ids not None,         # OUT [most]
):
    """Find objects where the heat is above a threshold and the largest of the 3 x 3 around, in their own class.

    Of equal neighbours the first one, row by row, is a peak. Of all peaks only the best `most` count, the best score
    first, those of equal score in the order of class, row, column; sides below 0 are 0. Of these, an object stays when
    no better one of its class that stays overlaps it by more than `max_overlap`. Returns how many stay; what the
    arrays hold after them is of no use.
    """
    cdef ptrdiff_t classes = heat.shape[0], h = heat.shape[1], w = heat.shape[2], most = boxes.shape[0], found
    cdef ptrdiff_t room = classes * ((h + 1) // 2) * ((w + 1) // 2)  # no two peaks touch
    cdef Peak* peaks
    if sides.shape[0] != 4 or sides.shape[1] != h or sides.shape[2] != w:
        require(False, "sides", f"of shape {(4, h, w)}", (sides.shape[0], sides.shape[1], sides.shape[2]))
    require(classes <= 65536, "number of classes", "at most 65536", classes)
    require(boxes.shape[1] == 4, "boxes", "of four numbers", boxes.shape[1])
    if scores.shape[0] != most or class_ids.shape[0] != most:
        require(False, "scores and class_ids", f"of length {most}", (scores.shape[0], class_ids.shape[0]))
    peaks = <Peak*> malloc((room + 1) * sizeof(Peak))
    if peaks == NULL:
        raise MemoryError()
    with nogil:
        found = _find_peaks(heat, threshold, peaks)
        qsort(peaks, found, sizeof(Peak), _compare)
        found = min(found, most)
        _boxes_of_peaks(peaks, found, sides, stride, boxes, scores, class_ids)
        found = _unsuppressed(max_overlap, found, boxes, scores, class_ids)
    free(peaks)
    return found


cdef ptrdiff_t _find_peaks(const float32_t[:, :, :] heat, float32_t threshold, Peak* peaks) noexcept nogil:
    """Note all peaks; returns how many there are."""
    cdef ptrdiff_t classes = heat.shape[0], h = heat.shape[1], w = heat.shape[2], c, v, u, found = 0
    for c in range(classes):
        for v in range(h):
            if not _may_hold_peaks(heat, c, v, threshold):
                continue
            for u in range(w):
                if heat[c, v, u] > threshold and _is_peak(heat, c, v, u):
                    peaks[found] = Peak(heat[c, v, u], (c * h + v) * w + u)
                    found += 1
    return found


cdef int _compare(const void* first, const void* second) noexcept nogil:
    """The better score comes first, of equal ones the first place."""
    cdef Peak a = (<const Peak*> first)[0], b = (<const Peak*> second)[0]
    if a.score != b.score:
        return -1 if a.score > b.score else 1
    return -1 if a.place < b.place else 1


cdef bint _may_hold_peaks(
    const float32_t[:, :, :] heat, ptrdiff_t c, ptrdiff_t v, float32_t threshold
) noexcept nogil:
    """Whether there may be heat above a threshold in a row of a class; quick where its pixels, or all classes of each
    of them, lie next to each other.
    """
    cdef ptrdiff_t classes = heat.shape[0], w = heat.shape[2], number = sizeof(float32_t)
    if w == 0:
        return False
    if heat.strides[2] == number:
        return any_above(&heat[c, v, 0], w, threshold)
    if heat.strides[0] == number and heat.strides[2] == classes * number:
        return any_above(&heat[0, v, 0], w * classes, threshold)
    return True


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


cdef void _boxes_of_peaks(
    const Peak* peaks, ptrdiff_t count, const float32_t[:, :, :] sides, double stride, float64_t[:, ::1] boxes,
    float32_t[::1] scores, uint16_t[::1] class_ids,
) noexcept nogil:
    cdef ptrdiff_t h = sides.shape[1], w = sides.shape[2], i, u, v
    cdef double x, y
    for i in range(count):
        u, v = peaks[i].place % w, peaks[i].place // w % h
        x, y = (u + 0.5) * stride - 0.5, (v + 0.5) * stride - 0.5
        boxes[i, 0], boxes[i, 1] = x - max(sides[0, v, u], 0.0), y - max(sides[1, v, u], 0.0)
        boxes[i, 2], boxes[i, 3] = x + max(sides[2, v, u], 0.0), y + max(sides[3, v, u], 0.0)
        scores[i], class_ids[i] = peaks[i].score, <uint16_t> (peaks[i].place // w // h)


cdef ptrdiff_t _unsuppressed(
    double max_overlap, ptrdiff_t count, float64_t[:, ::1] boxes, float32_t[::1] scores, uint16_t[::1] class_ids,
) noexcept nogil:
    """Move the boxes that stay to the front; returns how many do."""
    cdef ptrdiff_t i, j, k, stay = 0
    for i in range(count):
        for j in range(stay):
            if class_ids[j] == class_ids[i] and _overlap(boxes, i, j, max_overlap):
                break
        else:
            for k in range(4):
                boxes[stay, k] = boxes[i, k]
            scores[stay], class_ids[stay] = scores[i], class_ids[i]
            stay += 1
    return stay


cdef bint _overlap(const float64_t[:, ::1] boxes, ptrdiff_t i, ptrdiff_t j, double limit) noexcept nogil:
    cdef double width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
    cdef double height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
    cdef double shared = max(width, 0.0) * max(height, 0.0)
    return shared > limit * (_area(boxes, i) + _area(boxes, j) - shared)


cdef double _area(const float64_t[:, ::1] boxes, ptrdiff_t i) noexcept nogil:
    return (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
