# cython: language_level=3, wraparound=False, cdivision=True, embedsignature=True
"""Decoded images into network inputs."""

from libc.stdint cimport uint8_t

import numpy as np

from .border import require, require_threads


def _store(values, out, layout, scale, offset, box):
    x, y, w, h = box
    target = out if layout == "nhwc" else out.transpose(1, 2, 0)
    if out.dtype == np.uint8:
        target[y : y + h, x : x + w] = np.clip(np.floor(values + 0.5), 0, 255)
    else:
        target[y : y + h, x : x + w] = values * (1 if scale is None else scale) + (0 if offset is None else offset)


def _matrix(n_out, n_in, start, length, sampling):
    m = np.zeros((n_out, n_in), np.float32)
    for i in range(n_out):
        if sampling == "bilinear":
            s = min(max(start + (i + 0.5) * length / n_out - 0.5, start), max(start + length - 1, start))
            s = min(max(s, 0.0), n_in - 1.0)
            k = min(int(s), max(n_in - 2, 0))
            m[i, k] += 1 - (s - k)
            m[i, min(k + 1, n_in - 1)] += s - k
        else:
            a, b = start + i * length / n_out, start + (i + 1) * length / n_out
            for k in range(int(a), min(int(np.ceil(b)), n_in)):
                m[i, k] = max(min(b, k + 1) - max(a, k), 0) / (b - a)
    return m


def resize(image, out, crop=None, *, sampling="bilinear", layout="nchw", swap_rb=False, scale=None, offset=None, inset=None, fill=None, num_threads=1):
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    elif swap_rb:
        image = image[..., ::-1]
    h, w = out.shape[:2] if layout == "nhwc" else out.shape[1:]
    box = inset or (0, 0, w, h)
    left, top, width, height = crop or (0, 0, image.shape[1], image.shape[0])
    if inset:
        channels = out.shape[2] if layout == "nhwc" else out.shape[0]
        _store(np.broadcast_to(np.asarray(0 if fill is None else fill, np.float32), (h, w, channels)), out, layout, scale, offset, (0, 0, w, h))
    my = _matrix(box[3], image.shape[0], top, height, sampling)
    mx = _matrix(box[2], image.shape[1], left, width, sampling)
    values = np.tensordot(my, image.astype(np.float32), (1, 0))
    values = np.einsum("xk,ykc->yxc", mx, values, optimize=True)
    _store(values, out, layout, scale, offset, box)


def remap(image, out, map_x, map_y, *, layout="nchw", swap_rb=False, scale=None, offset=None, fill=None, num_threads=1):
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    elif swap_rb:
        image = image[..., ::-1]
    h, w = image.shape[:2]
    inside = (map_x >= -0.5) & (map_x < w - 0.5) & (map_y >= -0.5) & (map_y < h - 0.5)
    x = np.clip(np.where(inside, map_x, 0), 0, w - 1)
    y = np.clip(np.where(inside, map_y, 0), 0, h - 1)
    x0 = np.minimum(x.astype(int), max(w - 2, 0))
    y0 = np.minimum(y.astype(int), max(h - 2, 0))
    x1 = np.minimum(x0 + 1, w - 1)
    y1 = np.minimum(y0 + 1, h - 1)
    a = (x - x0)[..., None]
    b = (y - y0)[..., None]
    i = image.astype(np.float32)
    values = (i[y0, x0] * (1 - a) + i[y0, x1] * a) * (1 - b) + (i[y1, x0] * (1 - a) + i[y1, x1] * a) * b
    values = np.where(inside[..., None], values, 0 if fill is None else np.asarray(fill, np.float32))
    _store(values, out, layout, scale, offset, (0, 0, map_x.shape[1], map_x.shape[0]))
