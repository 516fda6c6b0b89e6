# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Decoded images into network inputs: crop, resize or remap, colour order, normalisation and layout in one pass.

Images are uint8 [height, width, 3] or [height, width] (one channel, which stands for all), any strides; or YUV, whose
pixels are turned into BGR first, each as cv2.cvtColor does (BT.601, limited range; two or four pixels share a colour):
`yuv="nv12"` [height * 3 / 2, width], `yuv="yuyv"` [height, width, 2], any row stride, height (NV12) and width even.

Outputs are
[channels, height, width] ("nchw") or [height, width, channels] ("nhwc"), C-contiguous: float32 holds
`value * scale[c] + offset[c]` with c in the order of the output, uint8 the value rounded to nearest.
"""

from cython.parallel cimport prange, threadid
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc

import math

import numpy as np

from .border import require, require_apart, require_threads

ctypedef float float32_t

cdef extern from "preprocess.h" nogil:
    ctypedef struct Image:
        const uint8_t* data
        ptrdiff_t height, width
        ptrdiff_t row_stride, pixel_stride, channel_stride
        const uint8_t* chroma
        int chroma_shift

    ctypedef struct Output:
        void* data
        ptrdiff_t height, width, channels
        int is_float, is_planar
        int order[3]
        float scale[3]
        float offset[3]
        float fill[3]

    ctypedef struct Resize:
        Image image
        Output out
        int by_area, is_packed
        int may_dot
        double left, top, crop_width, crop_height
        ptrdiff_t inset_x, inset_y, inset_width, inset_height
        ptrdiff_t first, count
        ptrdiff_t scratch_bytes
        uint8_t* scratch

    ctypedef struct Remap:
        Image image
        Output out
        const float* map_x
        const float* map_y
        ptrdiff_t scratch_bytes
        uint8_t* scratch

    ptrdiff_t CACHE_LINE
    uint8_t* at_cache_line(void* memory) noexcept
    int has_dots() noexcept
    ptrdiff_t resize_bytes(Resize* plan) noexcept
    void resize_tables(Resize* plan, uint8_t* memory) noexcept
    void resize_row(const Resize* plan, ptrdiff_t row, int thread) noexcept
    ptrdiff_t remap_bytes(const Remap* plan) noexcept
    void remap_row(const Remap* plan, ptrdiff_t row, int thread) noexcept

MAY_DOT = True
"""Whether `resize` sums small boxes by dot products of bytes where the processor has them; the same to the bit."""


def resize(
    image not None,      # IN uint8, see the module
    out not None,        # OUT uint8 or float32, see the module
    crop=None,
    *,
    yuv=None,
    str sampling="bilinear",
    str layout="nchw",
    bint swap_rb=False,
    scale=None,
    offset=None,
    inset=None,
    fill=None,
    int num_threads=1,
):
    """Resize a crop of an image.

    `crop` is left, top, width, height in source pixels (fractions allowed; pixel i covers i to i + 1), None the whole
    image. Its area is mapped to the area of `inset`, x, y, width, height in output pixels, None the whole output; what
    lies around the inset gets `fill`, in raw pixel values and output order. "bilinear" samples as cv2.INTER_LINEAR does
    on the crop, "area" averages the exact box that an output pixel covers, as cv2.INTER_AREA does when shrinking.
    """
    cdef const uint8_t[:, :, :] pixels = _three_axes(image, yuv)
    cdef Resize plan
    cdef ptrdiff_t row, tables
    cdef int threads = require_threads(num_threads)
    require(sampling in ("bilinear", "area"), "sampling", "'bilinear' or 'area'", repr(sampling))
    plan.is_packed = _describe(pixels, yuv, &plan.image, &swap_rb)
    _output(out, layout, swap_rb, plan.image.channel_stride != 0, scale, offset, fill, &plan.out)
    require_apart("out", out, image)
    plan.by_area = sampling == "area"
    plan.may_dot = MAY_DOT and has_dots()
    plan.left, plan.top, plan.crop_width, plan.crop_height = _crop(crop, plan.image.width, plan.image.height)
    plan.inset_x, plan.inset_y, plan.inset_width, plan.inset_height = _inset(inset, plan.out.width, plan.out.height)
    if plan.out.width == 0 or plan.out.height == 0:
        return
    plan.first = max(0, <ptrdiff_t> math.floor(plan.left) - 1)
    plan.count = min(<ptrdiff_t> math.ceil(plan.left + plan.crop_width) + 1, plan.image.width) - plan.first
    if plan.image.chroma != NULL:  # whole pairs of columns
        plan.count += plan.first & 1
        plan.first -= plan.first & 1
        plan.count += plan.count & 1
    tables = resize_bytes(&plan)
    cdef void* memory = malloc(CACHE_LINE + tables + threads * plan.scratch_bytes)
    if memory == NULL:
        raise MemoryError(f"no memory for the rows of a {plan.out.width}x{plan.out.height} image")
    plan.scratch = at_cache_line(memory) + tables
    with nogil:
        resize_tables(&plan, at_cache_line(memory))
        for row in prange(plan.out.height, num_threads=threads, schedule="static"):
            resize_row(&plan, row, threadid())
        free(memory)


def remap(
    image not None,                         # IN uint8, see the module
    out not None,                           # OUT uint8 or float32, see the module
    const float32_t[:, ::1] map_x not None,  # IN [out height, out width], source pixels
    const float32_t[:, ::1] map_y not None,  # IN
    *,
    yuv=None,
    str layout="nchw",
    bint swap_rb=False,
    scale=None,
    offset=None,
    fill=None,
    int num_threads=1,
):
    """Sample an image at the positions of two maps, bilinear.

    Pixel centres are whole numbers, (0, 0) the top left one. Positions in the image, from -0.5 up to but not including
    size - 0.5, are clamped to its pixel centres; all others, NaN too, get `fill`, in raw pixel values and output order.
    """
    cdef const uint8_t[:, :, :] pixels = _three_axes(image, yuv)
    cdef Remap plan
    cdef ptrdiff_t row
    cdef int threads = require_threads(num_threads)
    _describe(pixels, yuv, &plan.image, &swap_rb)
    _output(out, layout, swap_rb, plan.image.channel_stride != 0, scale, offset, fill, &plan.out)
    require_apart("out", out, image, map_x.base, map_y.base)
    for what, shape in (("map_x", (map_x.shape[0], map_x.shape[1])), ("map_y", (map_y.shape[0], map_y.shape[1]))):
        require(
            shape == (plan.out.height, plan.out.width), what, f"of shape ({plan.out.height}, {plan.out.width})", shape
        )
    if plan.out.width == 0 or plan.out.height == 0:
        return
    plan.map_x, plan.map_y = &map_x[0, 0], &map_y[0, 0]
    plan.scratch_bytes = remap_bytes(&plan)
    cdef void* memory = malloc(CACHE_LINE + threads * plan.scratch_bytes)
    if memory == NULL:
        raise MemoryError(f"no memory for the rows of a {plan.out.width}x{plan.out.height} image")
    plan.scratch = at_cache_line(memory)
    with nogil:
        for row in prange(plan.out.height, num_threads=threads, schedule="static"):
            remap_row(&plan, row, threadid())
        free(memory)


def _three_axes(image, yuv):
    """The image as [rows, columns, bytes of a pixel], of the shape that its kind has."""
    require(yuv is None or yuv in ("nv12", "yuyv"), "yuv", "None, 'nv12' or 'yuyv'", repr(yuv))
    shape = image.shape
    if yuv is None:
        wanted, fits = "(height, width, 3) or (height, width)", image.ndim == 2 or (image.ndim == 3 and shape[2] == 3)
    elif yuv == "nv12":
        wanted = "(height * 3 / 2, width), height and width even"
        fits = image.ndim == 2 and shape[0] % 3 == 0 and shape[1] % 2 == 0
    else:
        wanted = "(height, width, 2), width even"
        fits = image.ndim == 3 and shape[2] == 2 and shape[1] % 2 == 0
    require(fits, "image", f"of shape {wanted}", shape)
    require(0 not in shape, "image", "not empty", shape)
    pixels = image[:, :, None] if image.ndim == 2 else image
    beside = yuv is None or (image.strides[1] == pixels.shape[2] and image.strides[image.ndim - 1] == 1)
    require(beside, "image", "with the bytes of a row side by side", f"strides {image.strides}")
    return pixels


cdef bint _describe(const uint8_t[:, :, :] pixels, yuv, Image* image, bint* swap_rb):
    """Fills `image`; returns whether its rows must be packed before pixels can be loaded four bytes at a time.

    Channels that run backwards are read forwards and swapped instead.
    """
    cdef const uint8_t* data = &pixels[0, 0, 0]
    cdef ptrdiff_t rows = pixels.shape[0], stride = pixels.strides[0], channel = 0
    if yuv == "nv12":
        rows = rows // 3 * 2
        image[0] = Image(data, rows, pixels.shape[1], stride, 1, 1, data + rows * stride, 1)
        return True
    if yuv == "yuyv":
        image[0] = Image(data, rows, pixels.shape[1], stride, 2, 1, data + 1, 0)
        return True
    if pixels.shape[2] == 3:
        channel = pixels.strides[2]
    if channel == -1:
        data -= 2
        channel = 1
        swap_rb[0] = not swap_rb[0]
    image[0] = Image(data, rows, pixels.shape[1], stride, pixels.strides[1], channel, NULL, 0)
    return channel != 1 or pixels.strides[1] not in (3, 4)


cdef int _output(
    out, str layout, bint swap_rb, bint is_colour, scale, offset, fill, Output* plan
) except -1:
    """Fills `plan`, whose pointer lives as long as the caller's `out`."""
    cdef float32_t[:, :, ::1] floats
    cdef uint8_t[:, :, ::1] bytes_
    cdef int c
    require(layout in ("nchw", "nhwc"), "layout", "'nchw' or 'nhwc'", repr(layout))
    require(out.dtype in (np.float32, np.uint8), "out", "float32 or uint8", out.dtype)
    require(out.ndim == 3, "out", "of three axes", out.shape)
    plan.is_float = out.dtype == np.float32
    plan.is_planar = layout == "nchw"
    plan.channels, plan.height, plan.width = out.shape if plan.is_planar else (out.shape[2], *out.shape[:2])
    require(
        plan.channels == 3 or (plan.channels == 1 and not is_colour), "channels of out",
        "3" if is_colour else "3 or 1", plan.channels,
    )
    require(
        plan.is_float or (scale is None and offset is None), "scale and offset", "None for a uint8 output", "numbers"
    )
    scales, offsets, fills = (
        _per_channel(what, values, plan.channels, default)
        for what, values, default in (("scale", scale, 1.0), ("offset", offset, 0.0), ("fill", fill, 0.0))
    )
    for c in range(plan.channels):
        plan.order[c] = 2 - c if swap_rb and is_colour else c
        plan.scale[c], plan.offset[c], plan.fill[c] = scales[c], offsets[c], fills[c]
    plan.data = NULL
    if out.size == 0:
        return 0
    if plan.is_float:
        floats = out
        plan.data = &floats[0, 0, 0]
    else:
        bytes_ = out
        plan.data = &bytes_[0, 0, 0]
    return 0


def _per_channel(str what, values, Py_ssize_t channels, double default):
    if values is None:
        return [default] * channels
    numbers = np.asarray(values, dtype=np.float32)
    require(numbers.shape == (channels,), what, f"of shape ({channels},)", numbers.shape)
    floats = numbers.tolist()
    require(all(map(math.isfinite, floats)), what, "finite", floats)
    return floats


def _crop(crop, Py_ssize_t width, Py_ssize_t height):
    if crop is None:
        return 0.0, 0.0, float(width), float(height)
    left, top, crop_width, crop_height = map(float, crop)
    tolerance = 1e-6
    require(
        all(map(math.isfinite, (left, top, crop_width, crop_height))) and crop_width > 0 and crop_height > 0
        and left >= -tolerance and top >= -tolerance
        and left + crop_width <= width + tolerance and top + crop_height <= height + tolerance,
        "crop (left, top, width, height)", f"a rectangle inside the {width}x{height} image", crop,
    )
    left, top = max(left, 0.0), max(top, 0.0)
    return left, top, min(crop_width, width - left), min(crop_height, height - top)


def _inset(inset, Py_ssize_t width, Py_ssize_t height):
    if inset is None:
        return 0, 0, width, height
    x, y, inset_width, inset_height = inset
    require(
        x >= 0 and y >= 0 and inset_width >= 1 and inset_height >= 1
        and x + inset_width <= width and y + inset_height <= height,
        "inset (x, y, width, height)", f"a rectangle inside the {width}x{height} output", inset,
    )
    return x, y, inset_width, inset_height
