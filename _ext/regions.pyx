# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Regions of a raster: which cells are one region, where its outline runs, and how far its sides are.

Cells of a region touch along their sides. Places are in cells, whole numbers being cell centres.
"""

from libc.math cimport NAN, cos, fabs, isfinite, sin
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t

from .border import require

ctypedef float float32_t
ctypedef double float64_t

cdef ptrdiff_t[4] DI = [1, 0, -1, 0]
cdef ptrdiff_t[4] DJ = [0, 1, 0, -1]


def label(
    const uint8_t[:, ::1] mask not None,  # IN [nx, ny]
    int32_t[:, ::1] labels not None,      # OUT [nx, ny], number of the cell's region from 1, 0: none
    int32_t[:, ::1] stack not None,       # scratch, [nx * ny or more, 2]
):
    """Number the regions of a mask in the order of their first cells; returns how many there are."""
    cdef ptrdiff_t nx = mask.shape[0], ny = mask.shape[1]
    cdef ptrdiff_t i, j, a, b, k, top, i_popped, j_popped
    cdef int32_t count = 0
    _require_shape("labels", labels.shape[0], labels.shape[1], nx, ny)
    require(stack.shape[0] >= nx * ny, "rows of stack", f"at least {nx * ny}", stack.shape[0])
    require(stack.shape[1] == 2, "columns of stack", "2", stack.shape[1])
    with nogil:
        labels[:, :] = 0
        for i in range(nx):
            for j in range(ny):
                if mask[i, j] == 0 or labels[i, j] != 0:
                    continue
                count += 1
                labels[i, j] = count
                stack[0, 0], stack[0, 1] = <int32_t>i, <int32_t>j
                top = 1
                while top > 0:
                    top -= 1
                    i_popped, j_popped = stack[top, 0], stack[top, 1]
                    for k in range(4):
                        a, b = i_popped + DI[k], j_popped + DJ[k]
                        if a < 0 or b < 0 or a >= nx or b >= ny or mask[a, b] == 0 or labels[a, b] != 0:
                            continue
                        labels[a, b] = count
                        stack[top, 0], stack[top, 1] = <int32_t>a, <int32_t>b
                        top += 1
    return count


def outline(
    const float32_t[:, ::1] values not None,  # IN [nx, ny]
    const int32_t[:, ::1] labels not None,    # IN [nx, ny]
    int32_t region,
    double level,
    float64_t[:, ::1] points not None,        # OUT [n, 2], where the values cross the level
    int32_t[:, ::1] outside not None,         # OUT [n, 2], the cell beyond; may lie off the grid
):
    """Follow the outer border of a region counter-clockwise (x, the first index, forward; y to the left).

    There is one point for each pair of cells inside and outside: on the line between their centres, where the values,
    taken as linear, cross the level; half-way where they do not, or off the grid.

    Returns
    -------
    Number of points; -1 when there is no room for them all; 0 when there is no such region.
    """
    cdef ptrdiff_t nx = values.shape[0], ny = values.shape[1]
    cdef ptrdiff_t i, j, vi, vj, start_i = -1, start_j = -1, n = 0
    cdef int heading = 3
    _require_shape("labels", labels.shape[0], labels.shape[1], nx, ny)
    require(points.shape[1] == 2, "columns of points", "2", points.shape[1])
    require(outside.shape[1] == 2, "columns of outside", "2", outside.shape[1])
    require(outside.shape[0] == points.shape[0], "rows of outside", f"{points.shape[0]}", outside.shape[0])
    with nogil:
        for i in range(nx):
            for j in range(ny):
                if start_i < 0 and labels[i, j] == region:
                    start_i, start_j = i, j
        # corner (i, j) is that of cell (i, j) towards lower i and j; the region is to the left of every step
        vi, vj = start_i, start_j + 1
        while start_i >= 0:
            if n == points.shape[0]:
                n = -1
                break
            _cross(values, level, vi, vj, heading, &points[n, 0], &outside[n, 0])
            n += 1
            vi += DI[heading]
            vj += DJ[heading]
            if not _inside(labels, region, vi, vj, heading, True):
                heading = (heading + 1) % 4
            elif _inside(labels, region, vi, vj, heading, False):
                heading = (heading + 3) % 4
            if vi == start_i and vj == start_j + 1 and heading == 3:
                break
    return n


def centre(
    const float32_t[:, ::1] values not None,     # IN [nx, ny], the region is where they are at or above the level
    const uint8_t[:, ::1] observed not None,     # IN [nx, ny]
    const float32_t[:, ::1] direction not None,  # IN [nx, ny], radians; NaN: nothing is asked for this cell
    double level,
    double reach,
    double near,
    float32_t[:, ::1] offset not None,           # OUT [nx, ny], cells to the left of its direction
    float32_t[:, ::1] width not None,            # OUT [nx, ny], cells
):
    """For each cell, how far left of it the middle of its region is, and how wide the region is there.

    From the cell one goes to the left and to the right of its direction until the values cross the level. `offset` and
    `width` are NaN where the middle is more than `near` away, where a side is farther than `reach`, and where what is
    not observed comes before a side.
    """
    cdef ptrdiff_t nx = values.shape[0], ny = values.shape[1]
    cdef ptrdiff_t i, j
    _require_shape("observed", observed.shape[0], observed.shape[1], nx, ny)
    _require_shape("direction", direction.shape[0], direction.shape[1], nx, ny)
    _require_shape("offset", offset.shape[0], offset.shape[1], nx, ny)
    _require_shape("width", width.shape[0], width.shape[1], nx, ny)
    with nogil:
        for i in range(nx):
            for j in range(ny):
                _centre_of(values, observed, direction[i, j], level, reach, near, i, j, &offset[i, j], &width[i, j])


cdef int _require_shape(str what, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t nx, ptrdiff_t ny) except -1:
    require((rows, columns) == (nx, ny), what, f"of shape {(nx, ny)}", (rows, columns))
    return 0


cdef inline void _beside(
    ptrdiff_t vi, ptrdiff_t vj, int heading, bint left, ptrdiff_t* i, ptrdiff_t* j
) noexcept nogil:
    """The cell ahead of a corner, on one side of the heading."""
    cdef ptrdiff_t side_i = -DJ[heading] if left else DJ[heading]
    cdef ptrdiff_t side_j = DI[heading] if left else -DI[heading]
    i[0] = vi if DI[heading] + side_i > 0 else vi - 1
    j[0] = vj if DJ[heading] + side_j > 0 else vj - 1


cdef inline bint _inside(
    const int32_t[:, ::1] labels, int32_t region, ptrdiff_t vi, ptrdiff_t vj, int heading, bint left
) noexcept nogil:
    cdef ptrdiff_t i = 0, j = 0
    _beside(vi, vj, heading, left, &i, &j)
    return 0 <= i < labels.shape[0] and 0 <= j < labels.shape[1] and labels[i, j] == region


cdef void _cross(
    const float32_t[:, ::1] values,
    double level,
    ptrdiff_t vi,
    ptrdiff_t vj,
    int heading,
    float64_t* point,  # OUT [2]
    int32_t* outside,  # OUT [2]
) noexcept nogil:
    """Where the level is crossed between the cells to the left and to the right of a step."""
    cdef ptrdiff_t i = 0, j = 0, a = 0, b = 0
    cdef double t = 0.5
    _beside(vi, vj, heading, True, &i, &j)
    _beside(vi, vj, heading, False, &a, &b)
    if 0 <= a < values.shape[0] and 0 <= b < values.shape[1] and values[a, b] < level <= values[i, j]:
        t = (values[i, j] - level) / (values[i, j] - values[a, b])
    point[0], point[1] = i + t * (a - i), j + t * (b - j)
    outside[0], outside[1] = <int32_t>a, <int32_t>b


cdef inline double _sample(
    const float32_t[:, ::1] values, const uint8_t[:, ::1] observed, double x, double y
) noexcept nogil:
    """Bilinear value; NaN off the grid and in cells that are not observed."""
    cdef ptrdiff_t nx = values.shape[0], ny = values.shape[1]
    cdef ptrdiff_t i, j
    cdef double u, v
    if not (0 <= x <= nx - 1 and 0 <= y <= ny - 1) or not observed[<ptrdiff_t>(x + 0.5), <ptrdiff_t>(y + 0.5)]:
        return NAN
    i, j = min(<ptrdiff_t>x, max(nx - 2, 0)), min(<ptrdiff_t>y, max(ny - 2, 0))
    u, v = x - i, y - j
    if nx == 1 or ny == 1:
        return values[<ptrdiff_t>(x + 0.5), <ptrdiff_t>(y + 0.5)]
    return (1 - u) * ((1 - v) * values[i, j] + v * values[i, j + 1]) + u * (
        (1 - v) * values[i + 1, j] + v * values[i + 1, j + 1]
    )


cdef void _centre_of(
    const float32_t[:, ::1] values,
    const uint8_t[:, ::1] observed,
    double direction,
    double level,
    double reach,
    double near,
    ptrdiff_t i,
    ptrdiff_t j,
    float32_t* offset,
    float32_t* width,
) noexcept nogil:
    cdef double[2] side = [-1, -1]
    cdef double[2] before
    cdef double normal_i, normal_j, value
    cdef int step = 0, k, sign
    offset[0] = width[0] = NAN
    if not isfinite(direction) or not observed[i, j] or not values[i, j] >= level:
        return
    normal_i, normal_j = -sin(direction), cos(direction)
    before[0] = before[1] = values[i, j]
    while side[0] < 0 or side[1] < 0:
        step += 1
        if step > reach:
            return
        for k in range(2):
            if side[k] >= 0:
                if step - 1 - side[1 - k] > 2 * near and side[1 - k] >= 0:  # the middle is farther than that
                    return
                continue
            sign = 1 if k == 0 else -1
            value = _sample(values, observed, i + sign * step * normal_i, j + sign * step * normal_j)
            if not isfinite(value):
                return
            if value < level:
                side[k] = step - 1 + (before[k] - level) / (before[k] - value)
            before[k] = value
    if fabs(side[0] - side[1]) <= 2 * near:
        offset[0], width[0] = <float32_t>((side[0] - side[1]) / 2), <float32_t>(side[0] + side[1])
