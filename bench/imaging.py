"""Rows about the way from a decoded frame to a network's input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._ext import preprocess
from .agreement import check_close
from .material import Material
from .peers.images import blob_inputs, exact_bilinear, usual_input
from .row import Figures
from .spread import take_turns, wall_ms

T = TypeVar("T")

WIDTH: Final = 320
HEIGHT: Final = 192
LSB: Final = 1.0 / 255.0

_ROUNDS = 40
_CROP: Final = (0.0, 96.0, 1280.0, 768.0)


def preprocess_vs_user(material: Material) -> Figures:
    """Against cv2.resize, cvtColor, float and transposition, camera by camera."""
    frames = _frames(material)
    return _preprocess(material, "cv2", lambda: [usual_input(frame, (WIDTH, HEIGHT)) for frame in frames])


def preprocess_vs_blob(material: Material) -> Figures:
    """Against cv2.dnn.blobFromImages of all cameras."""
    frames = _frames(material)
    return _preprocess(material, "blobFromImages", lambda: blob_inputs(frames, (WIDTH, HEIGHT)))


def preprocess_vs_bandwidth(material: Material) -> Figures:
    """What the reference bundle has done, area sampling to bytes, against a read of the pixels; other ways, too."""
    frames, outs = _frames(material), _outs(material, np.uint8)
    needed = [_rows_read(frame) for frame in frames]
    whole = [frame.reshape(-1) for frame in frames]
    with ThreadPoolExecutor(material.threads) as pool:
        ours = _ours(material, pool, "area", outs)
        ours()
        for frame, own in zip(frames, outs, strict=True):
            check_close("octobev, against exact means", own, _means(frame), 0.5001)
        sides = {
            "read of all": _shared_out(pool, material.threads, _read, whole),
            "area to bytes": ours,
            "area to floats": _ours(material, pool, "area", _outs(material)),
            "read of every other pair of rows": _shared_out(pool, material.threads, _read, needed),
            "bilinear to bytes": _ours(material, pool, "bilinear", _outs(material, np.uint8)),
            "bilinear to floats": _ours(material, pool, "bilinear", _outs(material)),
        }
        turns = take_turns({name: wall_ms(run) for name, run in sides.items()}, material.rounds(_ROUNDS))
    spreads = turns.spreads()
    for name in ("area to floats", "bilinear to bytes", "bilinear to floats"):
        read = "read of all" if name.startswith("area") else "read of every other pair of rows"
        spreads[f"{name}, x"] = turns.ratio(read, name)
    megabytes = sum(pixels.nbytes for pixels in whole) / 1e6
    note = f"eight frames, {megabytes:.1f} MB, read at {megabytes / turns['read of all'].median:.1f} GB/s"
    return Figures(turns.ratio("read of all", "area to bytes"), spreads, (note,))


def _preprocess(material: Material, name: str, peer: Callable[[], Iterable[NDArray[np.float32]]]) -> Figures:
    cv2.setNumThreads(material.threads)
    outs = _outs(material)
    with ThreadPoolExecutor(material.threads) as pool:
        ours = _ours(material, pool, "bilinear", outs)
        ours()
        theirs = peer()
        for frame, own, other in zip(_frames(material), outs, theirs, strict=True):
            exact = exact_bilinear(frame, (WIDTH, HEIGHT))
            check_close("octobev, against exact bilinear sampling", own, exact, LSB * 1.001)
            check_close(name, other, exact, LSB * 1.001)
        turns = take_turns({"octobev": wall_ms(ours), name: wall_ms(peer)}, material.rounds(_ROUNDS))
    return Figures(
        turns.ratio(name, "octobev"),
        turns.spreads(),
        ("eight frames, 1280x768 -> 320x192 RGB, float, NCHW, bilinear; both within 1 LSB of exact sampling",),
    )


def _ours(
    material: Material,
    pool: ThreadPoolExecutor,
    sampling: str,
    outs: Sequence[NDArray[Any]],
) -> Callable[[], object]:
    """All cameras, shared out among the threads as the runtime does it; floats are 0..1."""
    scale = np.full(3, LSB, np.float32) if outs[0].dtype.kind == "f" else None
    work = list(zip(material.decoded[0], outs, strict=True))

    def resize(pair: tuple[NDArray[np.uint8], NDArray[Any]]) -> None:
        preprocess.resize(pair[0], pair[1], _CROP, sampling=sampling, swap_rb=True, scale=scale)

    return _shared_out(pool, material.threads, resize, work)


def _outs(material: Material, dtype: DTypeLike = np.float32) -> list[NDArray[Any]]:
    """Images that the network reads, one a camera."""
    return [np.empty((3, HEIGHT, WIDTH), dtype) for _ in material.rig]


def _shared_out(
    pool: ThreadPoolExecutor, threads: int, do: Callable[[T], object], work: Sequence[T]
) -> Callable[[], object]:
    """Every thread its share of the work."""
    shares = [work[first::threads] for first in range(threads)]
    return lambda: list(pool.map(lambda share: [do(piece) for piece in share], shares))


def _frames(material: Material) -> list[NDArray[np.uint8]]:
    """The part of each frame that the network sees."""
    x, y, width, height = map(int, _CROP)
    return [frame[y : y + height, x : x + width] for frame in material.decoded[0]]


def _means(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Means of its boxes of pixels, float64 [3, 192, 320], RGB."""
    boxes = frame.reshape(HEIGHT, frame.shape[0] // HEIGHT, WIDTH, frame.shape[1] // WIDTH, 3)
    means: NDArray[np.float64] = boxes.mean(axis=(1, 3))
    return means[..., ::-1].transpose(2, 0, 1)


def _rows_read(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The rows that bilinear sampling at 4:1 takes pixels from, uint8 [192, 2 * 3840], the frame's own memory."""
    row = frame[0].size
    return frame.reshape(HEIGHT, -1)[:, row : 3 * row]


def _read(pixels: NDArray[np.uint8]) -> None:
    """Read memory as fast as NumPy can: of its reductions this one came nearest to the memory's bandwidth."""
    np.maximum.reduce(pixels, axis=None)
