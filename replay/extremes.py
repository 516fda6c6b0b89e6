"""The best and the worst sets of an evaluation, as pictures; memory does not grow with the drives."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..runtime.images import load_opencv
from .evaluate import ComparedSet
from .pictures import draw_step

cv2: Any = load_opencv()

APART_NS: Final = 2_000_000_000
"""Neighbouring sets look alike: of each stretch of a drive this long, only the most extreme set is kept."""

_JPEG_QUALITY: Final = 88


@dataclass(frozen=True, slots=True, eq=False)
class ExtremeSet:
    """One set and its picture.

    score : mean of the set's IoUs in visible cells over its classes
    drive, index, timestamp_ns : which set it is
    iou_visible : class -> IoU of this set
    jpeg : the picture, prediction beside truth
    """

    score: float
    drive: str
    index: int
    timestamp_ns: int
    iou_visible: Mapping[str, float]
    jpeg: bytes


class Extremes:
    """Keeps the sets with the highest and the lowest scores; give it to :func:`~.evaluate.evaluate` as `watch`.

    Parameters
    ----------
    count : sets to keep at each end
    draw : what makes the JPEG of a set; None for the cameras, the prediction and the truth side by side
    """

    def __init__(self, count: int = 3, draw: Callable[[ComparedSet], bytes] | None = None) -> None:
        self._best = _Ranking(count, sign=-1.0)
        self._worst = _Ranking(count, sign=1.0)
        self._draw = draw or draw_compared

    def __call__(self, compared: ComparedSet) -> None:
        """Look at a set; it is drawn only when it is kept."""
        if not compared.iou_visible:
            return
        score = float(np.mean(list(compared.iou_visible.values())))
        stretch = (compared.drive.name, compared.truth.timestamp_ns // APART_NS)
        rankings = [ranking for ranking in (self._best, self._worst) if ranking.wants(score, stretch)]
        if not rankings:
            return
        timestamp_ns, jpeg = compared.truth.timestamp_ns, self._draw(compared)
        entry = ExtremeSet(score, compared.drive.name, compared.index, timestamp_ns, compared.iou_visible, jpeg)
        for ranking in rankings:
            ranking.put(entry, stretch)

    @property
    def best(self) -> list[ExtremeSet]:
        """The best sets, the best one first."""
        return self._best.entries

    @property
    def worst(self) -> list[ExtremeSet]:
        """The worst sets that are not among the best, the worst one first."""
        best = {id(entry) for entry in self.best}
        return [entry for entry in self._worst.entries if id(entry) not in best]


_Stretch = tuple[str, int]


class _Ranking:
    """The few sets with the lowest `sign * score`, one of each stretch."""

    def __init__(self, count: int, sign: float) -> None:
        self._count, self._sign = count, sign
        self._kept: list[tuple[float, _Stretch, ExtremeSet]] = []

    @property
    def entries(self) -> list[ExtremeSet]:
        return [entry for _, _, entry in self._kept]

    def wants(self, score: float, stretch: _Stretch) -> bool:
        rank = self._sign * score
        rival = next((kept_rank for kept_rank, kept, _ in self._kept if kept == stretch), None)
        if rival is not None:
            return rank < rival
        return len(self._kept) < self._count or rank < self._kept[-1][0]

    def put(self, entry: ExtremeSet, stretch: _Stretch) -> None:
        self._kept = [kept for kept in self._kept if kept[1] != stretch]
        insort(self._kept, (self._sign * entry.score, stretch, entry), key=lambda kept: kept[0])
        del self._kept[self._count :]


def draw_compared(compared: ComparedSet) -> bytes:
    """Draw the cameras, the prediction and the truth of a set as a JPEG."""
    picture = draw_step(compared.rig, compared.frame_set, compared.predictions, compared.truth)
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:  # imencode fails only for want of memory
        raise MemoryError("JPEG encoder")
    return bytes(data.tobytes())
