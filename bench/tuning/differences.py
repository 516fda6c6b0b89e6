"""How far what one choice gives is from what another gives for the same frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...runtime.predictions import (
    BevOutput,
    BevTensor,
    CameraOutput,
    CameraPrediction,
    CorridorDirection,
    OccupancyGrid,
    Predictions,
    RoadLayout,
)

NEAR: Final = 0.1
"""Two values are near each other that are no farther apart: probabilities, others as a share of the largest."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far results are apart. Probabilities are compared as they are, others as a share of the largest value.

    largest : of all values
    output : the one that has it
    near : share of the values that are within :data:`NEAR`, in the output where it is least
    """

    largest: float
    output: str
    near: float


def digest(steps: Iterable[Predictions]) -> str:
    """SHA-256 over everything that steps gave: equal for equal bits."""
    sha256 = hashlib.sha256()
    for predictions in steps:
        predictions.digest_into(sha256)
    return sha256.hexdigest()


def difference(steps: Sequence[Predictions], reference: Sequence[Predictions]) -> Difference | None:
    """Compare what two choices gave for the same sets; None: nothing that can be compared number by number.

    What only one of them gave is infinitely far apart.
    """
    apart: dict[str, list[NDArray[np.float64]]] = {}
    for given, wanted in zip(steps, reference, strict=True):
        ours = dict(wanted.outputs())
        for topic, output in given.outputs():
            name = topic.rpartition("/")[2]
            pair = (_values(output), _values(ours[topic]) if topic in ours else None)
            if pair[0] is not None:
                apart.setdefault(name, []).append(_apart(*pair))
        for topic in ours.keys() - dict(given.outputs()).keys():
            apart.setdefault(topic.rpartition("/")[2], []).append(np.array([np.inf]))
    found = {name: np.concatenate(parts) for name, parts in apart.items() if sum(map(len, parts))}
    if not found:
        return None
    worst = max(found, key=lambda name: float(found[name].max()))
    return Difference(float(found[worst].max()), worst, min(float(np.mean(each <= NEAR)) for each in found.values()))


def _values(output: BevOutput | CameraPrediction) -> NDArray[Any] | None:
    """The numbers of an output that are there for every cell or pixel; None for lists of objects and for integers."""
    values: NDArray[Any]
    if isinstance(output, RoadLayout | OccupancyGrid):
        values = output.probability
    elif isinstance(output, CorridorDirection):
        values = output.confidence
    elif isinstance(output, BevTensor | CameraOutput):
        values = output.values
    else:
        return None
    if isinstance(output, CameraOutput) and output.kind == "segmentation":
        return values
    if isinstance(output, BevTensor | CameraOutput):
        return values if np.issubdtype(values.dtype, np.floating) else None
    return values


def _apart(theirs: NDArray[Any] | None, ours: NDArray[Any] | None) -> NDArray[np.float64]:
    if theirs is None or ours is None or theirs.shape != ours.shape:
        return np.array([np.inf])
    wide = ours.astype(np.float64)
    scale = max(float(np.abs(wide).max(initial=0.0)), 1.0)
    return (np.abs(theirs - wide) / scale).ravel()
