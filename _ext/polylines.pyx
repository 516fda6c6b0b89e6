# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""From a mask to lines one cell wide, from those to chains of cells, and from many points to few.

Cells touch their eight neighbours. Nothing here depends on anything but the arguments and the order of the cells.
"""

from libc.math cimport sqrt
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t

from .border import require

ctypedef double float64_t

cdef ptrdiff_t[8] DI = [1, 1, 0, -1, -1, -1, 0, 1]  # neighbours in a circle; even ones share a side with the cell
cdef ptrdiff_t[8] DJ = [0, 1, 1, 1, 0, -1, -1, -1]


def thin(
    uint8_t[:, ::1] mask not None,  # INOUT [nx, ny], 0 or 1
):
    """Thin a mask to its skeleton, in place: lines one cell wide, connected as the mask was.

    Cells of the border are peeled off from four sides in turn as long as they are *simple* (without them what is
    connected stays connected; Yokoi's number is 1) and do not end a line.
    """
    cdef ptrdiff_t nx = mask.shape[0], ny = mask.shape[1]
    cdef ptrdiff_t i, j, side
    cdef bint changed = True
    if nx == 0 or ny == 0:
        return
    with nogil:
        for i in range(nx):
            for j in range(ny):
                mask[i, j] = mask[i, j] != 0
        while changed:
            changed = False
            for side in range(0, 8, 2):
                # 2 marks what lay open to this side before anything was peeled off from it
                for i in range(nx):
                    for j in range(ny):
                        if mask[i, j] and not _at(mask, i + DI[side], j + DJ[side]):
                            mask[i, j] = 2
                for i in range(nx):
                    for j in range(ny):
                        if mask[i, j] == 2:
                            mask[i, j] = 1
                            if _removable(mask, i, j):
                                mask[i, j] = 0
                                changed = True


def trace(
    const uint8_t[:, ::1] skeleton not None,  # IN [nx, ny], thinned
    int32_t[:, ::1] nodes not None,           # OUT [nx, ny], number of the cell's junction from 1, 0: none
    int32_t[:, ::1] cells not None,           # OUT [cells of the skeleton or more, 2]
    int32_t[:, ::1] chains not None,          # OUT [cells of the skeleton or more, 4]
):
    """Follow a skeleton from junction to junction.

    A junction is a group of touching cells with three or more neighbours each. Every other cell belongs to one chain.
    Row k of `chains` is (first, stop, from, to): its cells are `cells[first:stop]` in order; it begins at junction
    `from` and ends at junction `to`, 0 where a line ends freely, -1 both for a ring.

    Returns
    -------
    junctions, chains : how many there are
    """
    cdef ptrdiff_t nx = skeleton.shape[0], ny = skeleton.shape[1]
    cdef ptrdiff_t i, j, count = 0
    cdef Walk walk
    shape = (nodes.shape[0], nodes.shape[1])
    require(shape == (nx, ny), "nodes", f"of shape {(nx, ny)}", shape)
    require(cells.shape[1] == 2, "columns of cells", "2", cells.shape[1])
    require(chains.shape[1] == 4, "columns of chains", "4", chains.shape[1])
    for i in range(nx):
        for j in range(ny):
            count += skeleton[i, j] != 0
    require(cells.shape[0] >= count, "rows of cells", f"at least {count}", cells.shape[0])
    require(chains.shape[0] >= count, "rows of chains", f"at least {count}", chains.shape[0])
    if count == 0:
        nodes[:, :] = 0
        return 0, 0
    with nogil:
        walk.cells = walk.chains = walk.junctions = 0
        _number_junctions(skeleton, nodes, cells, &walk)
        for i in range(nx):
            for j in range(ny):
                if skeleton[i, j] and nodes[i, j] == 0 and _unvisited(skeleton, nodes, i, j, NULL, NULL) <= 1:
                    _follow(skeleton, nodes, cells, chains, i, j, False, &walk)
        for i in range(nx):
            for j in range(ny):
                if skeleton[i, j] and nodes[i, j] == 0:
                    _follow(skeleton, nodes, cells, chains, i, j, True, &walk)
        for i in range(nx):
            for j in range(ny):
                if nodes[i, j] < 0:
                    nodes[i, j] = 0
    return walk.junctions, walk.chains


def simplify(
    const float64_t[:, ::1] points not None,  # IN [n, 2]
    double tolerance,
    uint8_t[::1] keep not None,               # OUT [n], 1 where a point is needed
    int32_t[::1] stack not None,              # scratch, [2 n or more]
):
    """Choose the points of a line that are enough to stay within `tolerance` of all (Douglas and Peucker 1973)."""
    cdef ptrdiff_t n = points.shape[0], first, last, k, farthest, top = 0
    cdef double distance, most
    require(points.shape[1] == 2, "columns of points", "2", points.shape[1])
    require(keep.shape[0] == n, "length of keep", f"{n}", keep.shape[0])
    require(stack.shape[0] >= 2 * n, "length of stack", f"at least {2 * n}", stack.shape[0])
    require(tolerance >= 0, "tolerance", "0 or more", tolerance)
    if n == 0:
        return
    with nogil:
        for k in range(n):
            keep[k] = 0
        keep[0] = keep[n - 1] = 1
        stack[0], stack[1] = 0, n - 1
        top = 2
        while top > 0:
            top -= 2
            first, last = stack[top], stack[top + 1]
            most, farthest = tolerance, 0
            for k in range(first + 1, last):
                distance = _distance(points, k, first, last)
                if distance > most:
                    most, farthest = distance, k
            if farthest > 0:
                keep[farthest] = 1
                stack[top], stack[top + 1] = first, farthest
                stack[top + 2], stack[top + 3] = farthest, last
                top += 4


def length(
    const float64_t[:, :] points not None,  # IN [n, 2]
):
    """Length of a line, as float."""
    cdef double total = 0
    cdef ptrdiff_t k
    require(points.shape[1] == 2, "columns of points", "2", points.shape[1])
    with nogil:
        for k in range(points.shape[0] - 1):
            total += _step(points, k)
    return total


def first_beyond(
    const float64_t[:, :] points not None,  # IN [n, 2]
    double distance,
):
    """Index of the first point of a line that is so far from its beginning or farther; -1 where none is."""
    cdef ptrdiff_t k, found = -1
    cdef double x, y
    require(points.shape[1] == 2, "columns of points", "2", points.shape[1])
    with nogil:
        for k in range(points.shape[0]):
            x, y = points[k, 0] - points[0, 0], points[k, 1] - points[0, 1]
            if sqrt(x * x + y * y) >= distance:
                found = k
                break
    return found


def even(
    const float64_t[:, :] points not None,  # IN [n, 2], n of 2 or more
    float64_t[:, ::1] out not None,         # OUT [m, 2], m of 2 or more
):
    """Points in equal steps along a line, from its first point to its last."""
    cdef ptrdiff_t n = points.shape[0], m = out.shape[0], k = 0, i
    cdef double total, at, before = 0, step, share
    require(n >= 2, "points", "2 or more", n)
    require(m >= 2, "rows of out", "2 or more", m)
    require(points.shape[1] == 2, "columns of points", "2", points.shape[1])
    require(out.shape[1] == 2, "columns of out", "2", out.shape[1])
    total = length(points)
    with nogil:
        step = _step(points, 0)
        for i in range(m):
            at = total * i / (m - 1)
            while k < n - 2 and before + step <= at:
                before += step
                k += 1
                step = _step(points, k)
            share = min((at - before) / step, 1.0) if step > 0 else 0.0
            out[i, 0] = points[k, 0] + share * (points[k + 1, 0] - points[k, 0])
            out[i, 1] = points[k, 1] + share * (points[k + 1, 1] - points[k, 1])
        out[m - 1, 0], out[m - 1, 1] = points[n - 1, 0], points[n - 1, 1]


def smooth(
    const float64_t[:, ::1] points not None,  # IN [n, 2], n of 3 or more
    bint closed,                              # the last point is the first
    float64_t[:, ::1] out not None,           # OUT [n, 2]
):
    """Binomial mean of five neighbours along a line; a line that is not closed is mirrored in its ends, which stay."""
    cdef ptrdiff_t n = points.shape[0], i, k
    cdef double[5] weight = [1.0 / 16, 4.0 / 16, 6.0 / 16, 4.0 / 16, 1.0 / 16]
    cdef double total
    cdef int axis, shift
    require(n >= 3, "points", "3 or more", n)
    require(points.shape[1] == 2, "columns of points", "2", points.shape[1])
    require((out.shape[0], out.shape[1]) == (n, 2), "out", f"of shape {(n, 2)}", (out.shape[0], out.shape[1]))
    with nogil:
        for i in range(n):
            for axis in range(2):
                total = 0
                for shift in range(-2, 3):
                    k = i + shift
                    if 0 <= k < n:
                        total += weight[shift + 2] * points[k, axis]
                    elif closed:
                        total += weight[shift + 2] * points[k + n - 1 if k < 0 else k - n + 1, axis]
                    elif k < 0:
                        total += weight[shift + 2] * (2 * points[0, axis] - points[-k, axis])
                    else:
                        total += weight[shift + 2] * (2 * points[n - 1, axis] - points[2 * (n - 1) - k, axis])
                out[i, axis] = total


cdef struct Walk:
    ptrdiff_t cells
    ptrdiff_t chains
    ptrdiff_t junctions


cdef inline uint8_t _at(const uint8_t[:, ::1] mask, ptrdiff_t i, ptrdiff_t j) noexcept nogil:
    if i < 0 or j < 0 or i >= mask.shape[0] or j >= mask.shape[1]:
        return 0
    return mask[i, j]


cdef bint _removable(const uint8_t[:, ::1] mask, ptrdiff_t i, ptrdiff_t j) noexcept nogil:
    """Whether a cell is simple and has two or more neighbours."""
    cdef bint[8] there
    cdef int neighbours = 0, crossings = 0
    cdef ptrdiff_t k
    for k in range(8):
        there[k] = _at(mask, i + DI[k], j + DJ[k]) != 0
        neighbours += there[k]
    for k in range(0, 8, 2):
        crossings += (not there[k]) and (there[k + 1] or there[(k + 2) % 8])
    return neighbours >= 2 and crossings == 1


cdef void _number_junctions(
    const uint8_t[:, ::1] skeleton, int32_t[:, ::1] nodes, int32_t[:, ::1] stack, Walk* walk
) noexcept nogil:
    """Number groups of touching cells that have three or more neighbours; `stack` is scratch."""
    cdef ptrdiff_t i, j, a, b, k, top
    cdef int neighbours
    for i in range(skeleton.shape[0]):
        for j in range(skeleton.shape[1]):
            nodes[i, j] = 0
            if skeleton[i, j]:
                neighbours = 0
                for k in range(8):
                    neighbours += _at(skeleton, i + DI[k], j + DJ[k]) != 0
                if neighbours >= 3:
                    nodes[i, j] = -2
    for i in range(skeleton.shape[0]):
        for j in range(skeleton.shape[1]):
            if nodes[i, j] != -2:
                continue
            walk.junctions += 1
            nodes[i, j] = <int32_t>walk.junctions
            stack[0, 0], stack[0, 1] = <int32_t>i, <int32_t>j
            top = 1
            while top > 0:
                top -= 1
                a, b = stack[top, 0], stack[top, 1]
                for k in range(8):
                    if _at(skeleton, a + DI[k], b + DJ[k]) and nodes[a + DI[k], b + DJ[k]] == -2:
                        nodes[a + DI[k], b + DJ[k]] = <int32_t>walk.junctions
                        stack[top, 0], stack[top, 1] = <int32_t>(a + DI[k]), <int32_t>(b + DJ[k])
                        top += 1


cdef int _unvisited(
    const uint8_t[:, ::1] skeleton,
    const int32_t[:, ::1] nodes,
    ptrdiff_t i,
    ptrdiff_t j,
    ptrdiff_t* next_i,
    ptrdiff_t* next_j,
) noexcept nogil:
    """How many neighbours belong to no junction and no chain yet; the first of them, if asked for."""
    cdef ptrdiff_t k, a, b
    cdef int count = 0
    for k in range(8):
        a, b = i + DI[k], j + DJ[k]
        if _at(skeleton, a, b) and nodes[a, b] == 0:
            if count == 0 and next_i != NULL:
                next_i[0], next_j[0] = a, b
            count += 1
    return count


cdef int32_t _junction_beside(
    const uint8_t[:, ::1] skeleton, const int32_t[:, ::1] nodes, ptrdiff_t i, ptrdiff_t j, int32_t but
) noexcept nogil:
    """Number of a junction that touches the cell, other than `but`; 0 for none."""
    cdef ptrdiff_t k, a, b
    for k in range(8):
        a, b = i + DI[k], j + DJ[k]
        if _at(skeleton, a, b) and nodes[a, b] > 0 and nodes[a, b] != but:
            return nodes[a, b]
    return 0


cdef void _follow(
    const uint8_t[:, ::1] skeleton,
    int32_t[:, ::1] nodes,  # -1 marks cells of chains
    int32_t[:, ::1] cells,
    int32_t[:, ::1] chains,
    ptrdiff_t i,
    ptrdiff_t j,
    bint ring,
    Walk* walk,
) noexcept nogil:
    cdef ptrdiff_t first = walk.cells
    cdef int32_t begin = _junction_beside(skeleton, nodes, i, j, 0)
    cdef bint more = True
    while more:
        nodes[i, j] = -1
        cells[walk.cells, 0], cells[walk.cells, 1] = <int32_t>i, <int32_t>j
        walk.cells += 1
        more = _unvisited(skeleton, nodes, i, j, &i, &j) > 0
    chains[walk.chains, 0], chains[walk.chains, 1] = <int32_t>first, <int32_t>walk.cells
    chains[walk.chains, 2] = -1 if ring else begin
    # a single cell has both ends in one place
    chains[walk.chains, 3] = (
        -1 if ring else _junction_beside(skeleton, nodes, i, j, begin if walk.cells == first + 1 else 0)
    )
    walk.chains += 1


cdef inline double _step(const float64_t[:, :] points, ptrdiff_t k) noexcept nogil:
    """Distance from point k to the one after it."""
    cdef double x = points[k + 1, 0] - points[k, 0], y = points[k + 1, 1] - points[k, 1]
    return sqrt(x * x + y * y)


cdef inline double _distance(
    const float64_t[:, ::1] points, ptrdiff_t k, ptrdiff_t first, ptrdiff_t last
) noexcept nogil:
    """Distance of point k from the segment between two others."""
    cdef double dx = points[last, 0] - points[first, 0], dy = points[last, 1] - points[first, 1]
    cdef double x = points[k, 0] - points[first, 0], y = points[k, 1] - points[first, 1]
    cdef double square = dx * dx + dy * dy
    cdef double t = 0.0
    if square > 0:
        t = min(max((x * dx + y * dy) / square, 0.0), 1.0)
    x -= t * dx
    y -= t * dy
    return sqrt(x * x + y * y)
