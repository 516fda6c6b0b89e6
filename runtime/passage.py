"""Frame sets on their way through a runtime, and those to come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..fusion.pose import Pose
from ..fusion.rig import Rig
from .frames import Frame, FrameSet
from .graph import Graph, Percepts
from .hooks import RunHooks
from .predictions import BevOutput, Predictions, StateStatus
from .stages import StageTimes
from .workers import Work, Workers

Aimed = TypeVar("Aimed")
Carried = TypeVar("Carried")

_NOTHING: Final = Work()


class Passage:
    """One frame set on its way through a graph, up to what of it is handed on.

    Its cameras are run at once (:meth:`begin`), or ahead, beside the rest of the set before: first
    :meth:`begin_images`, and when nothing reads any more what the networks gave for that set, :meth:`begin_networks`.
    It holds the frames, and whoever holds it should let go of it soon.

    Parameters
    ----------
    graph : what runs
    frame_set : the set
    hooks : as they are now; a passage that was begun with others is none for the hooks of then
    percepts : what the per-camera networks gave for it before; None: they are to run

    Attributes
    ----------
    frames : by camera of the rig; absences : camera -> why it has none
    perception : the work of the per-camera networks
    stages : what was measured of it
    rest : work on what is only handed on: runs of networks leave some, :meth:`begin_rest` has it done
    tilts_deg : by what the cameras are corrected, see :meth:`level`
    level_from_ego : the poses that views are built of, see :meth:`level`

    Raises
    ------
    InvalidArgument
        `percepts` are those of other networks, outputs or cameras.
    """

    def __init__(self, graph: Graph, frame_set: FrameSet, hooks: RunHooks, percepts: Percepts | None = None) -> None:
        self.graph = graph
        self.frame_set = frame_set
        self.stages = StageTimes()
        self.frames, self.absences = _present(graph.rig, frame_set)
        if percepts is None:
            self.perception = graph.begin_cameras(self.frames, self.stages)
        else:
            self.perception = graph.put_back(percepts)
        self.rest = Work()
        self.tilts_deg: Mapping[str, tuple[float, float]] = {}
        self.level_from_ego: Mapping[str, Pose] = {}
        self._hooks = hooks.now()
        self._images = self._networks = self._look = _NOTHING
        self._ahead = False

    @cached_property
    def fired_from_ego(self) -> dict[str, Pose]:
        """Camera -> `ego_when_it_fired_from_ego_now`, for the cameras that have a frame."""
        return {name: _fired_from_ego(frame, self.frame_set) for name, frame in self.frames.items()}

    def level(self, *, anew: bool) -> None:
        """Find the poses that views are to be built of: :attr:`fired_from_ego`, corrected by the tilts that are known.

        Parameters
        ----------
        anew : forget them first
        """
        levelled, self.level_from_ego = self.graph.levelled, self.fired_from_ego
        if levelled is None:
            return
        if anew:
            levelled.reset()
        self.tilts_deg = levelled.tilts_deg()
        if self.tilts_deg:
            self.level_from_ego = levelled.corrected(self.fired_from_ego)

    def goes_on(self, graph: Graph, frame_set: FrameSet, hooks: RunHooks) -> bool:
        """Whether this is what a step on this set would begin now."""
        return self.graph is graph and self.frame_set is frame_set and self._hooks == hooks.now()

    def begin(self, workers: Workers) -> None:
        """Have the other threads make the images and run the networks, unless they were begun ahead."""
        if not self._ahead:
            self._images = workers.begin(self.perception.image_pieces())
            self._begin_networks(workers, (self._images,))

    def begin_images(self, workers: Workers) -> None:
        """Have the other threads make the images: ahead, when the networks of the set before have read theirs."""
        self._images, self._ahead = workers.begin(self.perception.image_pieces()), True

    def begin_networks(self, workers: Workers, before: Passage) -> None:
        """Have the other threads run the networks ahead, when the images are there.

        Parameters
        ----------
        before : the passage of the set before, of whose per-camera outputs nothing is read any more but by its rest
        """
        self._begin_networks(workers, (before.rest, self._images))

    def run_cameras(
        self,
        aim: Callable[[], Aimed],
        carry: Callable[[Aimed], Carried],
        look_ahead: Callable[[], Passage | None],
        *,
        at_once: bool,
    ) -> tuple[Carried, Passage | None]:
        """Do what is left of all that is cast to the ground, after :meth:`begin`.

        Parameters
        ----------
        aim, carry : work that needs nothing of it; the first may take as long as some images, so it is not done last
        look_ahead : has the others make the images of the set to come, which they do when they find no run left to
            begin with, and this thread, too, while others end theirs; None where there is no such set
        at_once : call it before this thread runs networks; False: when no run is left to begin with

        Returns
        -------
        What `carry` and `look_ahead` gave.
        """
        if not self._ahead:
            self._images.help(most=1)  # no more: others wait to begin with theirs while this thread does Python
            aimed = aim()
            self._images.help()
            carried = carry(aimed)
        self._images.finish()
        following = look_ahead() if at_once else None
        self._networks.help()
        if following is None:
            following = look_ahead()
        if self._ahead:
            carried = carry(aim())
        if following is not None:
            following._images.help(during=self._networks)
        self.rest.help(during=self._networks)
        self._networks.finish()
        return carried, following

    def begin_rest(self, workers: Workers) -> None:
        """Have the other threads do what is only handed on, and was not yet done while runs were waited for."""
        pieces = self.perception.last_pieces()
        if self.graph.levelled is not None:
            pieces.append(self._observe_horizons)
        self.rest.add(pieces)
        workers.help_with(self.rest)

    def begin_look(self, workers: Workers) -> None:
        """Have the other threads work out, after the lift, which ground is observed."""
        self._look = workers.begin(self.graph.topdowns.look_pieces())

    def finish_rest(self) -> None:
        """Do what is left of both, and wait for it; raises what a piece raised."""
        self._look.finish()
        self.rest.finish()

    def predictions(
        self,
        sequence: int,
        status: StateStatus,
        states: Mapping[str, StateStatus],
        bev: Mapping[str, BevOutput],
        failures: Mapping[str, str],
    ) -> Predictions:
        """Put together what a step gave, all of whose work is done.

        Parameters
        ----------
        sequence, status, states, bev : as :class:`~octobev.runtime.predictions.Predictions` has them
        failures : BEV output -> why it was withheld
        """
        rig, frames, results = self.graph.rig, self.frames, self.perception.results().values()
        lost = {camera: why for result in results for camera, why in result.absences.items()}
        absences = self.absences | lost
        return Predictions(
            timestamp_ns=self.frame_set.timestamp_ns,
            sequence=sequence,
            cameras=rig.names,
            camera_mask=np.array([name in frames and name not in absences for name in rig.names]),
            camera_age_ns=_ages(rig, self.frame_set.timestamp_ns, frames),
            absences=absences,
            bev=bev,
            camera_outputs=self.perception.predictions(),
            invalid={key: why for result in results for key, why in result.invalid.items()} | dict(failures),
            state=status,
            provenance=self.graph.provenance,
            spans=self.stages.spans(),
            networks=self.graph.network_of,
            states=states,
            levelled=self.tilts_deg,
        )

    def _observe_horizons(self) -> None:
        if self.graph.levelled is not None:
            with self.stages.measure("level"):
                results = self.perception.results()
                self.graph.levelled.observe(self.frame_set.timestamp_ns, results, self.fired_from_ego)

    def _begin_networks(self, workers: Workers, after: Iterable[Work]) -> None:
        self._networks = workers.begin_runs(self.perception.network_pieces(self.rest), after)
        workers.help_with(self.rest, during=self._networks)  # when there is no run left for them to begin with

    def drop(self) -> None:
        """Do nothing any more; what runs ends before this returns."""
        for work in (self._networks, self._images, self._look, self.rest):  # the last first: none begins when one ends
            work.drop()


class Coming:
    """Frame sets to come, of which the next can be looked at; nothing is asked for before it is needed.

    Parameters
    ----------
    frame_sets : where they come from
    """

    def __init__(self, frame_sets: Iterable[FrameSet]) -> None:
        self._sets = iter(frame_sets)
        self._next: FrameSet | None = None
        self._ended = False
        self._error: BaseException | None = None

    def peek(self) -> FrameSet | None:
        """Give the next set without taking it; None when there is none, or it cannot be had."""
        if self._next is None and not self._ended:
            try:
                self._next = next(self._sets)
            except StopIteration:
                self._ended = True
            except BaseException as error:  # told when its turn has come
                self._ended, self._error = True, error
        return self._next

    def take(self) -> FrameSet | None:
        """Take the next set; None when there is none. Raises what was raised instead of it."""
        frame_set, self._next = self.peek(), None
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # it holds this frame, and the frame would hold it
        return frame_set


def _fired_from_ego(frame: Frame, frame_set: FrameSet) -> Pose:
    """`ego_when_the_camera_fired_from_ego_now`; identity where one of the poses is not known."""
    if frame.world_from_ego is None or frame_set.world_from_ego is None:
        return Pose.identity()
    return frame.world_from_ego.inverse() @ frame_set.world_from_ego


def _present(rig: Rig, frame_set: FrameSet) -> tuple[dict[str, Frame], dict[str, str]]:
    """Frames by camera of the rig, and why the others have none."""
    frames = {frame.camera: frame for frame in frame_set.frames if frame.camera in rig}
    absences = {name: frame_set.absences.get(name, "no frame in this set") for name in rig.names if name not in frames}
    return frames, absences


def _ages(rig: Rig, timestamp_ns: int, frames: Mapping[str, Frame]) -> NDArray[np.int64]:
    ages = [timestamp_ns - frames[name].timestamp_ns if name in frames else 0 for name in rig.names]
    return np.array(ages, dtype=np.int64)
