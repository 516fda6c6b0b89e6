"""One run of a per-camera network on the frames of one instant, in pieces that threads share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from numpy.typing import NDArray

from ..errors import NetworkError
from .camera_images import ImagePreparation
from .camera_outputs import DenseOutput, RawOutput
from .detection_output import DetectionOutput
from .level_output import LevelOutput
from .packed_outputs import PackedOutputs, PackedValues
from .predictions import ByCamera, CameraPrediction, CameraPredictions
from .session import Binding
from .stages import StageTimes
from .workers import Piece, Work, Workers

QUICK_NS: Final = 50_000
"""A network that once ran in less shares a piece of work with others: threads that take turns would cost more."""

AnyOutput = DenseOutput | LevelOutput | DetectionOutput | RawOutput


@dataclass(frozen=True, slots=True)
class CameraResults:
    """How one run went; the values are the network's, see :meth:`HydraNet.rows` and :meth:`CameraRun.predictions`.

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
    bindings : run the network on their images, one for each of the two turns of :class:`CameraImages`
    """

    numbers: Sequence[int]
    names: tuple[str, ...]
    bindings: Sequence[Binding]

    @property
    def quickest_ns(self) -> float:
        """Wall time of the quickest run so far; infinite before the first."""
        return min(binding.quickest_ns for binding in self.bindings)


@dataclass(slots=True)
class _Outcome:
    """What became of one camera's image.

    failure : why the network gave nothing
    given : what it gave, by tensor
    invalid : output -> why that one is not valid
    """

    failure: str | None = None
    given: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)


class CameraRun:
    """One run, in pieces of work that may each be done on any thread, those of one list in any order.

    First the images are prepared (decode, preprocess), then come all :meth:`pieces` (run, activation): now everything
    is there that is cast to the ground. What is only handed on is the rest, of which each run leaves a piece for later:
    for threads that have no run left to begin with, or when all runs are done. One camera after another through all of
    it would be slower: after a network has run, the code for everything else comes from memory again.

    Parameters
    ----------
    images : their preparation, which other networks may share
    names : of all outputs, in the order of the predictions
    outputs : what is made of what the network gives, by name
    packed : the other outputs, which are checked and copied together
    cast_down : those whose rows the ground reads
    predict : copies a camera's part of an output: name, number of the camera
    groups : the cameras in batches
    stages : gets `network`, `activation` and `collect`
    """

    def __init__(
        self,
        images: ImagePreparation,
        names: Sequence[str],
        outputs: Mapping[str, AnyOutput],
        packed: PackedOutputs,
        cast_down: Collection[str],
        predict: Callable[[str, int], CameraPrediction],
        groups: Sequence[Group],
        stages: StageTimes,
    ) -> None:
        self.images = images
        self._names = names
        self._outputs = outputs
        self._packed = packed
        self._cast_down = cast_down
        self._predict = predict
        self._groups = groups
        self._stages = stages
        self._cameras = [camera for group in groups for camera in _members(group)]
        self._outcomes = [_Outcome() for _ in self._cameras]
        self._collected: dict[str, dict[str, CameraPrediction]] = {}
        self._given: dict[str, PackedValues] = {}

    def pieces(self, wanted: Collection[str], rest: Work) -> tuple[list[Piece], list[Piece]]:
        """Return what is to be done first, and of this what is quickly done.

        Not kept here, as pieces hold the run, and the run holds frames.

        Parameters
        ----------
        wanted : outputs that :meth:`predictions` is to have
        rest : gets what each run leaves to be done
        """
        self._collected = {name: {} for name in self._outputs if name in wanted}
        long: list[Piece] = []
        quick: list[Piece] = []
        for group in self._groups:
            (quick if group.quickest_ns <= QUICK_NS else long).append(partial(self._run, group, rest))
        return long, quick

    def last_pieces(self, wanted: Collection[str]) -> list[Piece]:
        """Return what remains when all runs are done, besides what each of them left; it is quickly done."""
        return [partial(self._collect_packed, wanted)] if self._packed.names else []

    def results(self) -> CameraResults:
        """Tell how it went; before the rest is done, for what is cast to the ground."""
        invalid = {
            f"{output}/{name}": outcome.invalid[output]
            for (_, name), outcome in zip(self._cameras, self._outcomes, strict=True)
            if outcome.invalid
            for output in self._names
            if output in outcome.invalid
        }
        return CameraResults(self.images.used, self.images.unusable, invalid)

    def given(self) -> dict[str, ByCamera | PackedValues]:
        """Give what was collected, see :class:`octobev.runtime.predictions.CameraPredictions`."""
        given: dict[str, ByCamera | PackedValues] = {}
        for name in self._names:
            if (collected := self._collected.get(name)) is not None:
                given[name] = {camera: collected[camera] for _, camera in self._cameras if camera in collected}
            elif name in self._given:
                given[name] = self._given[name]
        return given

    def predictions(self) -> CameraPredictions:
        """Give what was collected, in memory of its own: output -> camera -> value, where it is valid."""
        return CameraPredictions(self.given())

    def _has_image(self, number: int) -> bool:
        return self.images.absences[number] is None

    def _run(self, group: Group, rest: Work) -> None:
        if any(map(self._has_image, group.numbers)):
            failure, given = None, {}
            try:
                with self._stages.measure("network", group.names):
                    given = group.bindings[self.images.turn].run()
            except NetworkError as error:
                failure = str(error)
            for number in group.numbers:
                self._outcomes[number].failure, self._outcomes[number].given = failure, given
        if self._cast_down:
            with self._stages.measure("activation", group.names):
                for name in self._outputs:
                    if name in self._cast_down:
                        self._finish(name, group.numbers)
        if any(name in self._collected or name not in self._cast_down for name in self._outputs):
            rest.add([partial(self._collect, group)])

    def _collect(self, group: Group) -> None:
        """Finish a group's outputs, and copy those that are wanted, each while it is in the cache."""
        with self._stages.measure("collect", group.names):
            for number, camera in _members(group):
                for name in self._outputs:
                    if name not in self._cast_down:
                        self._finish(name, (number,))
                    valid = self._has_image(number) and name not in self._outcomes[number].invalid
                    if valid and (collected := self._collected.get(name)) is not None:
                        collected[camera] = self._predict(name, number)

    def _collect_packed(self, wanted: Collection[str]) -> None:
        """Finish and copy the packed outputs for all cameras."""
        with self._stages.measure("collect"):
            seen = [number for number, _ in self._cameras if self._has_image(number)]
            ran = [number for number in seen if self._outcomes[number].failure is None]
            values, invalid = self._packed.collect(ran)
            self._given |= dict.fromkeys([name for name in self._packed.names if name in wanted], values)
            for number, reasons in invalid.items():
                self._outcomes[number].invalid |= reasons
            for number in seen if len(ran) < len(seen) else ():
                if (failure := self._outcomes[number].failure) is not None:
                    self._outcomes[number].invalid |= dict.fromkeys(self._packed.names, failure)

    def _finish(self, name: str, numbers: Iterable[int]) -> None:
        output = self._outputs[name]
        for number in numbers:
            outcome = self._outcomes[number]
            if self._has_image(number) and outcome.failure is None:
                reason = output.finish(number, outcome.given)
            else:
                output.clear(number)
                reason = outcome.failure if self._has_image(number) else None
            if reason:
                outcome.invalid[name] = reason


class Perception:
    """What the per-camera networks have to do for one set, and how it went.

    Parameters
    ----------
    runs : network id -> its run
    wanted : outputs that are to be collected
    kept : network id -> how a run of before went whose results are there already
    """

    def __init__(
        self,
        runs: Mapping[str, CameraRun],
        wanted: Collection[str] = (),
        kept: Mapping[str, CameraResults] | None = None,
    ) -> None:
        self._runs = runs
        self._wanted = wanted
        self._kept = {} if kept is None else dict(kept)

    def run(self, workers: Workers) -> None:
        """Do everything, all threads together."""
        workers.run(self.image_pieces())
        rest = Work()
        workers.begin_runs(self.network_pieces(rest)).finish()
        rest.add(self.last_pieces())
        workers.help_with(rest)
        rest.finish()

    def image_pieces(self) -> list[Piece]:
        """Return what is to be done first: making the images."""
        preparations = {id(run.images): run.images for run in self._runs.values()}
        return [piece for images in preparations.values() for piece in images.pieces()]

    def network_pieces(self, rest: Work) -> list[Piece]:
        """Return what is to be done when all images are there; after it everything is that is cast to the ground.

        Parameters
        ----------
        rest : gets what each run leaves to be done: what is only handed on
        """
        return _shared(run.pieces(self._wanted, rest) for run in self._runs.values())

    def last_pieces(self) -> list[Piece]:
        """Return what is to be done when all runs are done, besides what they left."""
        pieces = [piece for run in self._runs.values() for piece in run.last_pieces(self._wanted)]
        return [partial(_in_a_row, pieces)] if pieces else []

    def results(self) -> dict[str, CameraResults]:
        """Tell how it went, see :meth:`CameraRun.results`: network id -> results."""
        return self._kept | {name: run.results() for name, run in self._runs.items()}

    def predictions(self) -> CameraPredictions:
        """Give the wanted outputs, when the rest is done, see :meth:`CameraRun.predictions`."""
        given: dict[str, ByCamera | PackedValues] = {}
        for run in self._runs.values():
            given |= run.given()
        return CameraPredictions(given)


def _members(group: Group) -> Iterable[tuple[int, str]]:
    return zip(group.numbers, group.names, strict=True)


def _shared(runs: Iterable[tuple[list[Piece], list[Piece]]]) -> list[Piece]:
    """Gather the pieces of several runs for threads to share: those that are quickly done are one."""
    long: list[Piece] = []
    quick: list[Piece] = []
    for own_long, own_quick in runs:
        long += own_long
        quick += own_quick
    return [*long, partial(_in_a_row, quick)] if quick else long


def _in_a_row(pieces: Iterable[Piece]) -> None:
    for piece in pieces:
        piece()
