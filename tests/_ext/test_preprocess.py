"""Resize and remap against plain NumPy and OpenCV, in every layout and for every kind of stride."""

import ctypes
import mmap
import sys

import cv2
import numpy as np
import pytest
from octobev._ext import preprocess


def picture(height=37, width=53, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height, width):
    small = picture(12, 16).astype(np.float32)
    return np.clip(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def axis_matrix(samples, extent, start, length, sampling):
    """What each output sample of an axis is a sum of, float64 [samples, extent]."""
    matrix = np.zeros((samples, extent))
    for index in range(samples):
        if sampling == "bilinear":
            position = start + (index + 0.5) * length / samples - 0.5
            position = min(max(position, start), max(start + length - 1, start))
            position = min(max(position, 0.0), extent - 1.0)
            pixel = min(int(position), max(extent - 2, 0))
            matrix[index, pixel] += 1 - (position - pixel)
            matrix[index, min(pixel + 1, extent - 1)] += position - pixel
        else:
            low, high = start + index * length / samples, start + (index + 1) * length / samples
            for pixel in range(extent):
                matrix[index, pixel] = max(min(high, pixel + 1) - max(low, pixel), 0) / (high - low)
    return matrix


def resized(image, shape, crop=None, sampling="bilinear"):
    """The reference: float64 [h, w, channels], in the order of the source."""
    image = image.reshape(*image.shape[:2], -1).astype(np.float64)
    left, top, width, height = (0, 0, image.shape[1], image.shape[0]) if crop is None else crop
    rows = axis_matrix(shape[0], image.shape[0], top, height, sampling)
    columns = axis_matrix(shape[1], image.shape[1], left, width, sampling)
    return np.einsum("yr,rcn,xc->yxn", rows, image, columns, optimize=True)


def remapped(image, map_x, map_y, fill=(0, 0, 0)):
    """The reference: float64 [h, w, channels]; outside gives fill."""
    image = image.reshape(*image.shape[:2], -1).astype(np.float64)
    height, width = image.shape[:2]
    inside = (map_x >= -0.5) & (map_x < width - 0.5) & (map_y >= -0.5) & (map_y < height - 0.5)
    x = np.clip(np.where(inside, map_x, 0).astype(np.float64), 0, width - 1)
    y = np.clip(np.where(inside, map_y, 0).astype(np.float64), 0, height - 1)
    x0, y0 = np.minimum(x.astype(int), max(width - 2, 0)), np.minimum(y.astype(int), max(height - 2, 0))
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    a, b = (x - x0)[..., None], (y - y0)[..., None]
    above = image[y0, x0] * (1 - a) + image[y0, x1] * a
    below = image[y1, x0] * (1 - a) + image[y1, x1] * a
    return np.where(inside[..., None], above * (1 - b) + below * b, fill)


YUV_TO_BGR = {"nv12": cv2.COLOR_YUV2BGR_NV12, "yuyv": cv2.COLOR_YUV2BGR_YUY2}


def yuv_noise(yuv, height, width, seed=0):
    """Any bytes at all, also colours that no RGB has."""
    shape = (height * 3 // 2, width) if yuv == "nv12" else (height, width, 2)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def empty(shape, layout="nhwc", dtype=np.float32, channels=3):
    full = (channels, *shape) if layout == "nchw" else (*shape, channels)
    return np.full(full, 99 if dtype == np.uint8 else np.nan, dtype)


def in_layout(values, layout):
    return np.moveaxis(values, -1, 0) if layout == "nchw" else values


SIZES = [(37, 53), (18, 26), (11, 13), (96, 130), (1, 1), (1, 70), (50, 1), (5, 3)]


@pytest.mark.parametrize("sampling", ["bilinear", "area"])
@pytest.mark.parametrize("shape", SIZES)
def test_resize_equals_reference(shape, sampling):
    image, out = picture(), empty(shape)
    preprocess.resize(image, out, sampling=sampling, layout="nhwc")
    np.testing.assert_allclose(out, resized(image, shape, sampling=sampling), atol=1e-4)


@pytest.mark.parametrize("sampling", ["bilinear", "area"])
@pytest.mark.parametrize(
    "crop", [(0, 0, 53, 37), (5, 7, 30, 20), (0.25, 1.75, 40.5, 33.3), (52, 36, 1, 1), (10.2, 3.1, 0.5, 0.3)]
)
def test_crop_equals_reference(crop, sampling):
    image, out = picture(), empty((14, 22))
    preprocess.resize(image, out, crop, sampling=sampling, layout="nhwc")
    np.testing.assert_allclose(out, resized(image, (14, 22), crop, sampling), atol=1e-4)


@pytest.mark.parametrize("size", [(320, 192), (640, 480), (1280, 960), (1600, 1000), (333, 217)])
def test_bilinear_equals_opencv(size):
    image, out = smooth(960, 1280), empty(size[::-1], dtype=np.uint8)
    preprocess.resize(image, out, layout="nhwc")
    assert cv2.absdiff(out, cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)).max() <= 1


def test_bilinear_crop_equals_opencv_on_the_crop():
    image, out = smooth(240, 320), empty((60, 100), dtype=np.uint8)
    preprocess.resize(image, out, (40, 30, 150, 120), layout="nhwc")
    assert cv2.absdiff(out, cv2.resize(image[30:150, 40:190], (100, 60), interpolation=cv2.INTER_LINEAR)).max() <= 1


@pytest.mark.parametrize("size", [(320, 192), (640, 480), (400, 300), (333, 217)])
def test_area_equals_opencv(size):
    image, out = smooth(960, 1280), empty(size[::-1], dtype=np.uint8)
    preprocess.resize(image, out, sampling="area", layout="nhwc")
    assert cv2.absdiff(out, cv2.resize(image, size, interpolation=cv2.INTER_AREA)).max() <= 1


def test_hand_computed_samples():
    image = np.zeros((1, 4, 3), np.uint8)
    image[0, :, 0] = 10, 20, 40, 80
    out = empty((1, 2))
    preprocess.resize(image, out, layout="nhwc")  # centres at 0.5 and 2.5
    assert out[0, :, 0].tolist() == [15, 60]
    preprocess.resize(image, out, (0.5, 0, 3, 1), sampling="area", layout="nhwc")  # 0.5 .. 2 and 2 .. 3.5
    np.testing.assert_allclose(out[0, :, 0], [(5 + 20) / 1.5, (40 + 40) / 1.5], rtol=1e-6)


def arrangements():
    base = np.random.default_rng(5).integers(0, 256, (80, 120, 4), dtype=np.uint8)
    return {
        "whole": np.ascontiguousarray(base[:37, :53, :3]),
        "rows with padding": np.ascontiguousarray(base[..., :3])[:37, 5:58],
        "every other row": np.ascontiguousarray(base[..., :3])[:74:2, :53],
        "upside down": np.ascontiguousarray(base[..., :3])[36::-1, :53],
        "mirrored": np.ascontiguousarray(base[..., :3])[:37, 52::-1],
        "every other pixel": np.ascontiguousarray(base[..., :3])[:37, :106:2],
        "channels reversed": np.ascontiguousarray(base[..., :3])[:37, :53, ::-1],
        "of four channels": base[:37, :53, :3],
        "of four channels, last three": base[:37, :53, 1:],
        "of four channels, reversed": base[:37, :53, 2::-1],
        "planes": np.ascontiguousarray(base[:37, :53, :3].transpose(2, 0, 1)).transpose(1, 2, 0),
        "all turned": np.ascontiguousarray(base[:53, :37, :3]).transpose(1, 0, 2)[::-1, ::-1, ::-1],
        "one row for all": np.broadcast_to(base[:1, :53, :3], (37, 53, 3)),
        "grey": np.ascontiguousarray(base[:37, :53, 0]),
        "grey, strided": base[36::-1, 52::-1, 1],
    }


def exact_means(image, shape, crop, sampling):
    """Sums of the boxes that whole ratios give, and how many pixels each has; whole numbers, [h, w, 3]."""
    left, top, width, height = crop
    sums = image.astype(np.int64)
    pixels = 1
    for axis, (start, length) in enumerate(((top, height), (left, width))):
        ratio = length // shape[axis]
        first, count = (0, ratio) if sampling == "area" else ((ratio - 1) // 2, 2 - ratio % 2)
        at = start + first + ratio * np.arange(shape[axis])
        sums = sum(sums.take(at + i, axis=axis) for i in range(count))
        pixels *= count
    return sums, pixels


@pytest.fixture(params=[True, False], ids=["dots where there are", "no dots"])
def summed(request, monkeypatch):
    """With and without dot products of bytes, which not every processor has."""
    monkeypatch.setattr(preprocess, "MAY_DOT", request.param)


@pytest.mark.usefixtures("summed")
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("sampling", ["bilinear", "area"])
@pytest.mark.parametrize("ratio", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (2, 7), (16, 16), (17, 16), (1, 300)])
def test_whole_ratios_are_rounded_exact_means(ratio, sampling, layout):
    across, down = ratio
    image = picture(13 * down + 3, 70 * across + 5, seed=across)
    image[2:40, :200] = np.where(image[2:40, :200] > 127, 255, 254)  # the greatest sums
    crop, shape = (4, 1, 70 * across, 13 * down), (13, 70)
    sums, pixels = exact_means(image, shape, crop, sampling)
    out, floats = empty(shape, layout, np.uint8), empty(shape, layout)
    preprocess.resize(image, out, crop, sampling=sampling, layout=layout, num_threads=2)
    wanted = in_layout((2 * sums + pixels) // (2 * pixels), layout)
    if pixels <= 256:  # ties go up
        np.testing.assert_array_equal(out, wanted)
    else:
        assert np.abs(out.astype(int) - wanted).max() <= 1
    numbers = {"scale": [0.5] * 3, "offset": [-3.0] * 3}
    preprocess.resize(image, floats, crop, sampling=sampling, layout=layout, swap_rb=True, **numbers)
    np.testing.assert_allclose(floats, in_layout(sums[..., ::-1] / pixels * 0.5 - 3, layout), atol=1e-4)


@pytest.mark.usefixtures("summed")
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("sampling", ["bilinear", "area"])
@pytest.mark.parametrize("name", arrangements())
def test_whole_ratios_with_any_strides(name, sampling, dtype):
    image = arrangements()[name]
    colours = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    for crop, shape in (((1, 0, 52, 36), (9, 13)), ((0, 1, 51, 36), (12, 17)), ((0.5, 0, 52, 37), (37, 52))):
        out = empty((shape[0] + 3, shape[1] + 4), dtype=dtype)
        inset = (1, 2, shape[1], shape[0])
        preprocess.resize(image, out, crop, sampling=sampling, layout="nhwc", inset=inset, fill=[7.0] * 3)
        wanted = np.full(out.shape, 7.0)
        wanted[2:-1, 1:-3] = resized(np.ascontiguousarray(colours), shape, crop, sampling)
        assert np.abs(out - wanted).max() <= (0.5001 if dtype == np.uint8 else 1e-4)


@pytest.mark.parametrize("swap_rb", [False, True])
@pytest.mark.parametrize("name", arrangements())
def test_any_strides_give_the_same(name, swap_rb):
    image = arrangements()[name]
    colours = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    colours = np.ascontiguousarray(colours[..., ::-1] if swap_rb else colours)
    map_x, map_y = maps((20, 30), image.shape)
    for sampling in ("bilinear", "area"):
        out = empty((17, 31))
        preprocess.resize(image, out, sampling=sampling, layout="nhwc", swap_rb=swap_rb)
        np.testing.assert_allclose(out, resized(colours, (17, 31), sampling=sampling), atol=1e-4)
    out = empty((20, 30))
    preprocess.remap(image, out, map_x, map_y, layout="nhwc", swap_rb=swap_rb)
    np.testing.assert_allclose(out, remapped(colours, map_x, map_y), atol=1e-3)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("swap_rb", [False, True])
def test_normalisation_is_in_the_order_of_the_output(layout, swap_rb):
    image, out = picture(), empty((9, 14), layout)
    scale, offset = np.array([0.5, 2.0, 3.0], np.float32), np.array([1.0, -2.0, 0.25], np.float32)
    preprocess.resize(image, out, layout=layout, swap_rb=swap_rb, scale=scale, offset=offset)
    colours = resized(image, (9, 14))[..., ::-1] if swap_rb else resized(image, (9, 14))
    np.testing.assert_allclose(out, in_layout(colours * scale + offset, layout), atol=1e-3)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_bytes_are_rounded_to_nearest(layout):
    image, out = picture(), empty((20, 33), layout, np.uint8)
    preprocess.resize(image, out, layout=layout, swap_rb=True)
    wanted = in_layout(resized(image, (20, 33))[..., ::-1], layout)
    assert np.abs(out - wanted).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_grey_gives_one_channel_or_three(layout, dtype):
    grey = picture()[..., 1]
    one, three = empty((12, 19), layout, dtype, channels=1), empty((12, 19), layout, dtype)
    preprocess.resize(grey, one, layout=layout)
    preprocess.resize(grey, three, layout=layout, swap_rb=True)
    assert np.abs(one - in_layout(resized(grey, (12, 19)), layout)).max() <= (0.5001 if dtype == np.uint8 else 1e-4)
    np.testing.assert_array_equal(three, np.repeat(one, 3, axis=0 if layout == "nchw" else 2))
    scaled = empty((12, 19), layout, channels=1)
    preprocess.resize(grey, scaled, layout=layout, scale=[2.0], offset=[1.0], fill=[7.0], inset=(1, 0, 18, 12))
    assert (in_layout(scaled, "nchw")[..., 0] if layout == "nhwc" else scaled[0])[0, 0] == 15


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_inset_is_surrounded_by_fill(dtype, layout):
    image, out = picture(), empty((30, 40), layout, dtype)
    scale = None if dtype == np.uint8 else np.array([0.1, 0.2, 0.3], np.float32)
    preprocess.resize(image, out, layout=layout, inset=(3, 5, 21, 17), fill=[10.0, 20.0, 30.0], scale=scale)
    wanted = np.broadcast_to(np.array([10.0, 20.0, 30.0]), (30, 40, 3)).copy()
    wanted[5:22, 3:24] = resized(image, (17, 21))
    wanted *= 1 if scale is None else scale
    assert np.abs(out - in_layout(wanted, layout)).max() <= (0.5001 if dtype == np.uint8 else 1e-3)


def maps(shape, image_shape, margin=3.0):
    y, x = np.meshgrid(
        np.linspace(-margin, image_shape[0] - 1 + margin, shape[0]),
        np.linspace(-margin, image_shape[1] - 1 + margin, shape[1]),
        indexing="ij",
    )
    return (x + 0.7 * np.sin(y)).astype(np.float32), (y + 0.4 * np.cos(x)).astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 61), (1, 1), (7, 130)])
@pytest.mark.parametrize("source", [(37, 53), (1, 1), (1, 9), (9, 1), (2, 2)])
def test_remap_equals_reference(source, shape):
    image, out = picture(*source), empty(shape)
    map_x, map_y = maps(shape, source)
    preprocess.remap(image, out, map_x, map_y, layout="nhwc", fill=[1.0, 2.0, 3.0])
    np.testing.assert_allclose(out, remapped(image, map_x, map_y, (1, 2, 3)), atol=1e-3)


def at_the_end_of_memory(image):
    """A copy whose last byte is the last one before memory that must not be read (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.PAGESIZE
    size = -(-image.nbytes // page) * page
    memory = np.frombuffer(mmap.mmap(-1, size + page), np.uint8)
    assert libc.mprotect(ctypes.c_void_p(memory.ctypes.data + size), ctypes.c_size_t(page), 0) == 0
    copy = memory[size - image.nbytes : size].reshape(image.shape)
    copy[:] = image
    return copy


@pytest.mark.skipif(sys.platform != "linux", reason="protects memory")
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(37, 53), (1, 2), (2, 2), (3, 1)])
def test_nothing_behind_the_image_is_read(size, channels):
    """What is read there ends the process."""
    noise = np.random.default_rng(3).integers(0, 256, (*size, channels), dtype=np.uint8)
    image = at_the_end_of_memory(noise)[..., channels - 3 :]
    map_x, map_y = maps((20, 30), size, margin=0.0)
    for sampling in ("bilinear", "area"):
        out = empty((17, 61))
        preprocess.resize(image, out, sampling=sampling, layout="nhwc")
        np.testing.assert_allclose(out, resized(image, (17, 61), sampling=sampling), atol=1e-4)
    out = empty((20, 30))
    preprocess.remap(image, out, map_x, map_y, layout="nhwc")
    np.testing.assert_allclose(out, remapped(image, map_x, map_y), atol=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="protects memory")
@pytest.mark.usefixtures("summed")
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 5, 6])
def test_whole_ratios_of_any_width_read_nothing_behind_the_image(ratio, channels):
    """Boxes are summed several at a time; the last ones may be fewer."""
    for width in range(1, 19):
        noise = np.random.default_rng(width).integers(0, 256, (2 * ratio, width * ratio, channels), dtype=np.uint8)
        image = at_the_end_of_memory(noise)[..., channels - 3 :]
        for sampling in ("bilinear", "area"):
            out = empty((2, width), dtype=np.uint8)
            preprocess.resize(image, out, sampling=sampling, layout="nhwc")
            sums, pixels = exact_means(image, (2, width), (0, 0, width * ratio, 2 * ratio), sampling)
            np.testing.assert_array_equal(out, (2 * sums + pixels) // (2 * pixels))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_remap_layouts(dtype, layout):
    image, out = picture(), empty((20, 31), layout, dtype)
    map_x, map_y = maps((20, 31), image.shape)
    preprocess.remap(image, out, map_x, map_y, layout=layout, swap_rb=True, fill=[9.0, 8.0, 7.0])
    wanted = remapped(image, map_x, map_y, (7, 8, 9))[..., ::-1]
    assert np.abs(out - in_layout(wanted, layout)).max() <= (0.501 if dtype == np.uint8 else 1e-3)


def test_remap_of_grey_to_one_channel():
    grey, out = picture()[..., 2], empty((20, 31), "nchw", channels=1)
    map_x, map_y = maps((20, 31), grey.shape)
    preprocess.remap(grey, out, map_x, map_y, fill=[50.0], scale=[2.0], offset=[1.0])
    np.testing.assert_allclose(out[0], remapped(grey, map_x, map_y, (50,))[..., 0] * 2 + 1, atol=1e-3)


def test_remap_equals_opencv():
    image, out = smooth(240, 320), empty((100, 150), dtype=np.uint8)
    map_x, map_y = maps((100, 150), image.shape, margin=-2.0)
    preprocess.remap(image, out, map_x, map_y, layout="nhwc")
    assert cv2.absdiff(out, cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR)).max() <= 1


def test_positions_that_are_no_numbers_get_fill():
    image, out = picture(), empty((1, 6))
    map_x = np.array([[np.nan, 0, np.inf, -np.inf, 3e38, -0.5]], np.float32)
    map_y = np.array([[0, np.nan, 0, 0, -3e38, -0.5]], np.float32)
    preprocess.remap(image, out, map_x, map_y, layout="nhwc", fill=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(out[0, :5], np.broadcast_to([1.0, 2.0, 3.0], (5, 3)))
    np.testing.assert_array_equal(out[0, 5], image[0, 0])


@pytest.mark.parametrize("is_noise", [False, True])
@pytest.mark.parametrize("yuv", YUV_TO_BGR)
@pytest.mark.parametrize("shape", [*SIZES, (36, 52), (72, 104), (9, 13)])
def test_yuv_is_what_opencv_makes_of_it(yuv, shape, is_noise, yuv_of):
    """To the bit: the pixels that are sampled are those of cv2.cvtColor."""
    image = yuv_noise(yuv, 36, 52) if is_noise else yuv_of(smooth(36, 52), yuv)
    colours = cv2.cvtColor(image, YUV_TO_BGR[yuv])
    for crop in (None, (5, 7, 30, 20), (0.25, 1.75, 40.5, 33.3), (51, 35, 1, 1), (10.2, 3.1, 0.5, 0.3), (1, 1, 50, 34)):
        for sampling in ("bilinear", "area"):
            direct, wanted = empty(shape), empty(shape)
            preprocess.resize(image, direct, crop, yuv=yuv, sampling=sampling, layout="nhwc", swap_rb=True)
            preprocess.resize(colours, wanted, crop, sampling=sampling, layout="nhwc", swap_rb=True)
            np.testing.assert_array_equal(direct, wanted)
    direct, wanted = empty(shape, "nchw"), empty(shape, "nchw")
    map_x, map_y = maps(shape, colours.shape)
    preprocess.remap(image, direct, map_x, map_y, yuv=yuv, fill=[1.0, 2.0, 3.0])
    preprocess.remap(colours, wanted, map_x, map_y, fill=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(direct, wanted)


@pytest.mark.parametrize(
    ("yuv", "size"), [("nv12", (2, 2)), ("nv12", (2, 40)), ("nv12", (20, 2)), ("yuyv", (1, 2)), ("yuyv", (1, 30))]
)
def test_smallest_yuv_images(yuv, size):
    image = yuv_noise(yuv, *size)
    colours = cv2.cvtColor(np.repeat(image, 2, axis=0), YUV_TO_BGR[yuv])[:1] if size[0] == 1 else None
    colours = cv2.cvtColor(image, YUV_TO_BGR[yuv]) if colours is None else colours
    for kind in ("bilinear", "area", "remap"):
        direct, wanted = empty((7, 11)), empty((7, 11))
        for pixels, out, how in ((image, direct, yuv), (colours, wanted, None)):
            if kind == "remap":
                preprocess.remap(pixels, out, *maps((7, 11), colours.shape), yuv=how, layout="nhwc")
            else:
                preprocess.resize(pixels, out, yuv=how, sampling=kind, layout="nhwc")
        np.testing.assert_array_equal(direct, wanted)


def test_hand_computed_yuv():
    """Black, white, and the red of ITU-R BT.601: Y 81, U 90, V 240."""
    row = np.array([[[16, 128], [235, 128], [81, 90], [81, 240]]], np.uint8)
    out = empty((1, 4), dtype=np.uint8)
    preprocess.resize(row, out, yuv="yuyv", layout="nhwc", swap_rb=True)
    assert out[0, :2].tolist() == [[0, 0, 0], [255, 255, 255]]
    np.testing.assert_allclose(out[0, 2:], np.broadcast_to([255, 0, 0], (2, 3)), atol=1)


@pytest.mark.parametrize("yuv", YUV_TO_BGR)
def test_rows_of_yuv_may_have_gaps(yuv):
    image = yuv_noise(yuv, 36, 52)
    wide = np.full((image.shape[0], 64, *image.shape[2:]), 77, np.uint8)
    wide[:, 4:56] = image
    tall = np.repeat(image, 2, axis=0)
    for view in (wide[:, 4:56], tall[::2], np.ascontiguousarray(image[::-1])[::-1]):
        for kind in ("area", "remap"):
            direct, wanted = empty((17, 31)), empty((17, 31))
            for pixels, out in ((view, direct), (image, wanted)):
                if kind == "remap":
                    preprocess.remap(pixels, out, *maps((17, 31), (36, 52)), yuv=yuv, layout="nhwc")
                else:
                    preprocess.resize(pixels, out, yuv=yuv, sampling=kind, layout="nhwc")
            np.testing.assert_array_equal(direct, wanted)


@pytest.mark.parametrize(
    ("image", "yuv", "match"),
    [
        (np.zeros((6, 4), np.uint8), "yuv420", "yuv must be None, 'nv12' or 'yuyv', got 'yuv420'"),
        (
            np.zeros((6, 5), np.uint8),
            "nv12",
            r"image must be of shape \(height \* 3 / 2, width\), .* even",
        ),
        (np.zeros((7, 4), np.uint8), "nv12", r"image must be of shape \(height \* 3 / 2, width\).*, got \(7, 4\)"),
        (np.zeros((6, 4, 1), np.uint8), "nv12", r"image must be of shape \(height \* 3 / 2, width\)"),
        (np.zeros((0, 4), np.uint8), "nv12", "image must be not empty"),
        (np.zeros((6, 5, 2), np.uint8), "yuyv", r"image must be of shape \(height, width, 2\), width even"),
        (np.zeros((6, 8), np.uint8), "yuyv", r"image must be of shape \(height, width, 2\)"),
        (np.zeros((6, 8, 3), np.uint8), "yuyv", r"image must be of shape \(height, width, 2\)"),
        (np.zeros((6, 8), np.uint8)[:, ::2], "nv12", "image must be with the bytes of a row side by side"),
        (np.zeros((6, 8, 2), np.uint8)[:, ::2], "yuyv", "image must be with the bytes of a row side by side"),
        (np.zeros((6, 8, 2), np.uint8)[..., ::-1], "yuyv", "image must be with the bytes of a row side by side"),
    ],
)
def test_wrong_yuv_images_are_refused(image, yuv, match):
    with pytest.raises(ValueError, match=match):
        preprocess.resize(image, np.zeros((3, 4, 4), np.float32), yuv=yuv)
    still = np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match=match):
        preprocess.remap(image, np.zeros((3, 4, 4), np.float32), still, still, yuv=yuv)


@pytest.mark.parametrize("yuv", YUV_TO_BGR)
def test_yuv_has_colour(yuv):
    with pytest.raises(ValueError, match="channels of out must be 3, got 1"):
        preprocess.resize(yuv_noise(yuv, 6, 8), np.zeros((1, 4, 4), np.float32), yuv=yuv)


@pytest.mark.parametrize("yuv", [None, *YUV_TO_BGR])
@pytest.mark.parametrize("num_threads", [2, 4])
def test_threads_change_no_bit(num_threads, yuv):
    image = picture(90, 130) if yuv is None else yuv_noise(yuv, 90, 130)
    map_x, map_y = maps((41, 67), (90, 130))
    for view in (image, image[:, ::-1]) if yuv is None else (image,):
        for kind in ("bilinear", "area", "remap"):
            one, many = empty((41, 67), "nchw"), empty((41, 67), "nchw")
            for out, threads in ((one, 1), (many, num_threads)):
                if kind == "remap":
                    preprocess.remap(view, out, map_x, map_y, yuv=yuv, num_threads=threads)
                else:
                    preprocess.resize(view, out, yuv=yuv, sampling=kind, num_threads=threads)
            np.testing.assert_array_equal(one, many)


def test_read_only_images_are_read():
    image, out = picture(), empty((5, 6))
    image.flags.writeable = False
    preprocess.resize(image, out, layout="nhwc")
    preprocess.remap(image, out, *maps((5, 6), image.shape), layout="nhwc")
    assert np.isfinite(out).all()


def test_outputs_without_pixels():
    for shape in ((0, 5), (5, 0)):
        preprocess.resize(picture(), empty(shape), layout="nhwc")
        nothing = np.zeros(shape, np.float32)
        preprocess.remap(picture(), empty(shape), nothing, nothing, layout="nhwc")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"image": np.zeros((4, 4, 4), np.uint8)}, r"image must be of shape \(height, width, 3\) or"),
        ({"image": np.zeros(4, np.uint8)}, r"image must be of shape \(height, width, 3\) or"),
        ({"image": np.zeros((0, 4, 3), np.uint8)}, "image must be not empty"),
        ({"image": np.zeros((4, 4, 3), np.float32)}, "Buffer dtype mismatch"),
        ({"out": np.zeros((3, 4, 4))}, "out must be float32 or uint8, got float64"),
        ({"out": np.zeros((4, 4), np.float32)}, "out must be of three axes"),
        ({"out": np.zeros((1, 4, 4), np.float32)}, "channels of out must be 3, got 1"),
        ({"out": np.zeros((4, 4, 4), np.float32)}, "channels of out must be 3, got 4"),
        ({"image": np.zeros((4, 4), np.uint8), "out": np.zeros((2, 4, 4), np.uint8)}, "channels of out must be 3 or 1"),
        ({"out": np.zeros((3, 4, 8), np.float32)[..., ::2]}, "not C-contiguous"),
        ({"layout": "chw"}, "layout must be 'nchw' or 'nhwc', got 'chw'"),
        ({"scale": [1.0, 2.0]}, r"scale must be of shape \(3,\), got \(2,\)"),
        ({"offset": [1.0, np.nan, 0.0]}, "offset must be finite"),
        ({"fill": [1.0]}, r"fill must be of shape \(3,\), got \(1,\)"),
        ({"out": np.zeros((3, 4, 4), np.uint8), "scale": [1, 1, 1]}, "scale and offset must be None for a uint8"),
        ({"num_threads": 0}, "num_threads must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(changes, match):
    given = {"image": picture(), "out": np.zeros((3, 4, 4), np.float32)} | changes
    with pytest.raises(ValueError, match=match):
        preprocess.resize(**given)
    still = np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match=match):
        preprocess.remap(**given, map_x=still, map_y=still)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sampling": "cubic"}, "sampling must be 'bilinear' or 'area', got 'cubic'"),
        ({"crop": (0, 0, 54, 37)}, r"crop \(left, top, width, height\) must be a rectangle inside the 53x37 image"),
        ({"crop": (-1, 0, 5, 5)}, "crop .* must be a rectangle inside"),
        ({"crop": (0, 0, 0, 5)}, "crop .* must be a rectangle inside"),
        ({"crop": (0, np.nan, 5, 5)}, "crop .* must be a rectangle inside"),
        ({"inset": (0, 0, 5, 4)}, r"inset \(x, y, width, height\) must be a rectangle inside the 4x4 output"),
        ({"inset": (-1, 0, 2, 2)}, "inset .* must be a rectangle inside"),
        ({"inset": (0, 0, 0, 2)}, "inset .* must be a rectangle inside"),
    ],
)
def test_wrong_resizes_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        preprocess.resize(picture(), np.zeros((3, 4, 4), np.float32), **changes)


def test_wrong_maps_are_refused():
    out, still = np.zeros((3, 4, 4), np.float32), np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match=r"map_x must be of shape \(4, 4\), got \(4, 5\)"):
        preprocess.remap(picture(), out, np.zeros((4, 5), np.float32), still)
    with pytest.raises(ValueError, match=r"map_y must be of shape \(4, 4\), got \(3, 4\)"):
        preprocess.remap(picture(), out, still, still[1:])
    with pytest.raises(TypeError, match="map_x"):
        preprocess.remap(picture(), out, None, still)


def test_work_in_place_is_refused():
    image = picture()
    with pytest.raises(ValueError, match="out must be memory of its own"):
        preprocess.resize(image, image, layout="nhwc")
    with pytest.raises(TypeError, match="image"):
        preprocess.resize(None, image)
