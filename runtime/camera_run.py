"""One run of a per-camera network on the frames of one instant, in pieces that threads share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

from ..errors import ImageError, NetworkError
from .camera_outputs import DenseOutput, RawOutput
from .detection_output import DetectionOutput
from .frames import Frame
from .preprocess import InputPlan
from .session import Binding
from .stages import StageTimes
from .workers import Piece, Workers

AnyOutput = DenseOutput | DetectionOutput | RawOutput


@dataclass(frozen=True, slots=True)
class CameraResults:
    """How one run went; the values are the network's, see :meth:`HydraNet.rows` and :meth:`HydraNet.outputs`.

    ran : cameras whose image was read and went through the network
    absences : camera -> why its frame could not be used
    invalid : `output/camera` -> why that output is not valid (its rows are zero)
    """

    ran: frozenset[str]
    absences: Mapping[str, str]
    invalid: Mapping[str, str]

    def valid(self, camera: str, outputs: Iterable[str]) -> bool:
        """Whether a camera gave all these outputs."""
        if camera not in self.ran:
            return False
        return not self.invalid or not any(f"{output}/{camera}" in self.invalid for output in outputs)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Cameras whose images go through the network in one batch.

    numbers : of the cameras, in the network's order
    names : theirs
    binding : runs the network on their images
    """

    numbers: Sequence[int]
    names: tuple[str, ...]
    binding: Binding


@dataclass(slots=True)
class _Outcome:
    """What became of one camera's frame."""

    absence: str | None = None
    invalid: dict[str, str] = field(default_factory=dict)


class CameraRun:
    """One run. First all :meth:`preparations` are to be done, then all :meth:`pieces`; in any order, on any thread.

    With one image a batch and one thread a run there is nothing to prepare: a camera is one piece of work (decode,
    preprocess, run, activation) on one thread, while its data is in that processor's cache.

    Parameters
    ----------
    plans, images : of every camera: how its frame becomes an image, and where the network reads it
    outputs : what is made of what the network gives, by name
    groups : the cameras in batches
    frames : camera name -> frame; cameras without one are left out
    stages : gets `decode`, `preprocess`, `network` and `activation`
    """

    def __init__(
        self,
        plans: Sequence[InputPlan],
        images: NDArray[Any],
        outputs: Mapping[str, AnyOutput],
        groups: Sequence[Group],
        frames: Mapping[str, Frame],
        stages: StageTimes,
    ) -> None:
        self._plans = plans
        self._images = images
        self._outputs = outputs
        self._groups = groups
        self._frames = frames
        self._stages = stages
        self._outcomes = [_Outcome() for _ in plans]
        # a run that takes several images, or several threads, waits for images that are prepared side by side
        self._prepared_first = any(len(group.numbers) > 1 or group.binding.threads > 1 for group in groups)

    def preparations(self) -> list[Piece]:
        """Return what is to be done first; not kept here, as pieces hold the run, and the run holds frames."""
        if not self._prepared_first:
            return []
        return [partial(self._prepare, *camera) for group in self._groups for camera in _members(group)]

    def pieces(self) -> list[Piece]:
        """Return what is to be done then."""
        run = self._run_prepared if self._prepared_first else self._run_group
        return [partial(run, group) for group in self._groups]

    def results(self) -> CameraResults:
        """Tell how it went, when all pieces are done."""
        cameras = [camera for group in self._groups for camera in _members(group)]
        outcomes = {name: self._outcomes[number] for number, name in cameras}
        return CameraResults(
            frozenset(name for name, outcome in outcomes.items() if outcome.absence is None),
            {
                name: outcome.absence
                for name, outcome in outcomes.items()
                if outcome.absence is not None and name in self._frames
            },
            {key: reason for outcome in outcomes.values() for key, reason in outcome.invalid.items()},
        )

    def _run_group(self, group: Group) -> None:
        for number, name in _members(group):
            self._prepare(number, name)
        self._run_prepared(group)

    def _prepare(self, number: int, name: str) -> None:
        """Fill a camera's image, with zeros where that cannot be."""
        frame, absence = self._frames.get(name), None
        if frame is None:
            absence = "no frame"
        else:
            try:
                self._plans[number].run(frame, self._images[number], self._stages)
            except ImageError as error:
                absence = str(error)
        if absence is not None:
            self._images[number] = 0
            self._outcomes[number].absence = absence

    def _run_prepared(self, group: Group) -> None:
        failure, results = "", {}
        if any(self._outcomes[number].absence is None for number in group.numbers):
            try:
                with self._stages.measure("network", group.names):
                    results = group.binding.run()
            except NetworkError as error:
                failure = str(error)
        with self._stages.measure("activation", group.names):
            for number, camera in _members(group):
                outcome = self._outcomes[number]
                for name, output in self._outputs.items():
                    if outcome.absence is None and not failure:
                        reason = output.finish(number, results)
                    else:
                        output.clear(number)
                        reason = failure if outcome.absence is None else None
                    if reason:
                        outcome.invalid[f"{name}/{camera}"] = reason


class Perception:
    """What the per-camera networks have to do for one set, and how it went.

    Parameters
    ----------
    runs : network id -> its run
    kept : network id -> how a run of before went whose results are there already
    """

    def __init__(self, runs: Mapping[str, CameraRun], kept: Mapping[str, CameraResults] | None = None) -> None:
        self._runs = runs
        self._kept = {} if kept is None else dict(kept)

    def run(self, workers: Workers) -> None:
        """Run the networks, all threads together."""
        with self.under_way(workers):
            pass

    @contextmanager
    def under_way(self, workers: Workers) -> Iterator[None]:
        """Have the other threads run the networks while this one runs the block, which then helps to finish."""
        workers.run([piece for run in self._runs.values() for piece in run.preparations()])
        with workers.begin_runs([piece for run in self._runs.values() for piece in run.pieces()]):
            yield

    def results(self) -> dict[str, CameraResults]:
        """Tell how it went, when all is done: network id -> results."""
        return self._kept | {name: run.results() for name, run in self._runs.items()}


def _members(group: Group) -> Iterable[tuple[int, str]]:
    return zip(group.numbers, group.names, strict=True)
