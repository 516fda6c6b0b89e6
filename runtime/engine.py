"""The runtime: a bundle, a rig, and the step from a frame set to predictions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from ..errors import InvalidArgument, expected
from ..fusion.rig import Rig
from .arrangement import Arrangement
from .bundle import Bundle, Plan
from .frames import Frame, FrameSet, PixelFormat
from .graph import Graph, Percepts
from .hooks import InputWatch, RunHooks, Tamper
from .memory import Memory, Motion
from .passage import Coming, Passage
from .predictions import Predictions, Provenance, StateStatus
from .recalibration import check_recalibration
from .sessions import Sessions
from .settle import ProfileChoice, settle
from .variants import VariantChoice
from .workers import Workers

Following = Callable[[], FrameSet | None]
"""Gives the set of the next step, if it is there already, see :meth:`Runtime.step`."""


class Runtime:
    """Steps from frame sets to predictions: deterministic, one step after another.

    Parameters
    ----------
    bundle : the opened model bundle
    rig : the calibration in use; frames of other cameras are ignored
    outputs : names of the wanted outputs (see `octobev bundle info`); only what they need is loaded and run, on the
        cameras that it needs. None: `bundle.default_outputs`
    threads : worker threads; None: those of the profile, else the CPUs that this process may use. Results do not
        depend on it.
    max_gap_s : a longer time between two sets, or without anything usable from a network, makes the state begin anew
    variant : which arithmetic the networks compute in: `fp32`, `int8`, or `auto`: that of the profile, else int8 where
        the bundle has it and the processor has int8 dot products. `bundle.variant` and the predictions' provenance say
        which one it is.
    profile : what was measured to be fast, see :mod:`octobev.runtime.profile`; `threads` and `variant` that are given
        win over it. `auto`: what `octobev bundle tune` wrote for this bundle on this machine; None: nothing
    level : find the cameras' tilts against the ground while driving, and correct the views of the ground by what is
        sure of them, if the bundle's manifest says by what (`level_by`), see :mod:`octobev.fusion.levelling`.
        `Predictions.levelled` says what was corrected. False: the calibration is taken as it is

    Attributes
    ----------
    arrangement : how the work is spread over the threads

    Raises
    ------
    InvalidArgument
        An unknown output or variant, or no thread.
    RigError
        What is wanted needs a camera that the rig lacks.
    BundleError
        A network is not what the manifest declares, or the bundle has no such variant.
    """

    def __init__(
        self,
        bundle: Bundle,
        rig: Rig,
        outputs: Iterable[str] | None = None,
        threads: int | None = None,
        *,
        max_gap_s: float = 1.0,
        variant: VariantChoice = "auto",
        profile: ProfileChoice = "auto",
        level: bool = True,
    ) -> None:
        settled = settle(bundle, profile, threads=threads, variant=variant)
        self.bundle = settled.bundle
        self.arrangement: Arrangement = settled.arrangement
        self.threads = self.arrangement.threads
        self._profile = settled.profile
        self._hooks = RunHooks()
        self._sessions = Sessions(self.bundle, self.threads, self._hooks, self.arrangement.network_threads)
        self._memory = Memory(max_gap_s)
        self._max_gap_s = max_gap_s
        self._level, self._level_anew = level, False
        self._building = threading.Lock()  # held by whoever makes another graph, never by a step
        with settled.named_in_errors():
            self._graph = self._make_graph(self.bundle.plan(outputs, level=level), rig)  # of the latest step
        self._next = self._graph  # of the next step; replaced as a whole by any thread
        self._formats: frozenset[PixelFormat] = frozenset()
        self._sequence = 0
        self._closed = False
        self._ahead: Passage | None = None  # begun, for the next step
        self._workers = Workers(self.threads, self.arrangement.runs_at_once)

    @property
    def rig(self) -> Rig:
        """The calibration of the next step."""
        return self._next.rig

    @property
    def plan(self) -> Plan:
        """What is to run in the next step."""
        return self._next.plan

    @property
    def provenance(self) -> Provenance:
        """What the predictions of the next step will say made them."""
        return self._next.provenance

    def perceive(self, frame_set: FrameSet) -> Percepts:
        """Run the per-camera networks alone, and keep what they give for steps with other calibrations.

        How cameras are mounted makes no difference to these networks: only to where on the ground their results are.
        Nothing that is carried over time changes.
        """
        self._check_open()
        self._drop_ahead()
        passage = Passage(self._next, frame_set, self._hooks)
        passage.perception.run(self._workers)
        return passage.graph.keep(passage.perception.results())

    def step(
        self, frame_set: FrameSet, percepts: Percepts | None = None, *, following: Following | None = None
    ) -> Predictions:
        """Predict for one frame set.

        A camera that is absent, or whose image cannot be decoded, is masked and named in `absences`; a network's NaN or
        Inf, or its failure, withholds that output and names it in `invalid`; a top-down network's state is then again
        what it was before, and is carried on from there. None of these raises.

        Parameters
        ----------
        percepts : what :meth:`perceive` gave for this set, also under another calibration of the same lenses; the
            per-camera networks then do not run, and per-camera outputs are left out. None: they run
        following : asked on this thread when no camera of this set is left to begin with, and once more if it gave
            nothing: gives the set that the next step will be on, if it is there already, else None. Its cameras begin
            beside the rest of this step, which makes more steps in the same time, and this one a little longer;
            predictions are the same to the bit. If the next step is on another set after all, what was begun is left
            undone. The set is held until then. See :meth:`stream` for sets that are all there

        Raises
        ------
        InvalidArgument
            The runtime is closed; or `percepts` are those of other networks, outputs or cameras.
        """
        return self._step(frame_set, percepts, following)

    def stream(self, frame_sets: Iterable[FrameSet]) -> Iterator[Predictions]:
        """Predict for one frame set after another: more of them in the same time than by :meth:`step`.

        The predictions are those of steps, to the bit, and so is what a set raises when its turn has come. While one
        set's top-down networks run on one thread (or a few), the others begin with the next one's cameras. It is asked
        for when this one's networks begin: one set ahead and no more.

        All happens on the thread that iterates, which may do between two sets whatever it may do between two steps.
        Ending early (`close()` of the iterator) leaves the set that was begun undone.

        Raises
        ------
        InvalidArgument
            The runtime is closed.
        """
        self._check_open()
        return self._stream(Coming(frame_sets))

    def _stream(self, coming: Coming) -> Iterator[Predictions]:
        try:
            while (frame_set := coming.take()) is not None:
                predictions = self._step(frame_set, following=coming.peek, at_once=True)
                del frame_set  # nothing of a set is held here when its predictions are handed on
                yield predictions
                del predictions
        finally:
            self._drop_ahead()

    def recalibrate(self, rig: Rig, *, check: bool = True) -> None:
        """Take another calibration from the next step on; the map and the recurrent states go on.

        May be called from any thread. All that depends on the calibration is made anew on the calling thread while
        steps go on, and takes its place between two of them. Image sizes may change.

        Parameters
        ----------
        rig : the same cameras in the same order
        check : refuse what :func:`octobev.fusion.rig_check.check_cameras` finds to be an error; its warnings are
            logged. False for a vehicle whose cameras really are mounted as the check takes for impossible

        Raises
        ------
        RigError
            Other cameras, or a calibration that no real vehicle can have. The one in use stays, untouched.
        """
        with self._building:
            check_recalibration(rig, self._next.rig, plausible=check)
            self._replace(self._next.plan, rig)

    def want(self, outputs: Iterable[str] | None = None) -> None:
        """Give these outputs from the next step on, and no others; networks that they do not need do not run.

        May be called from any thread. Networks are loaded on the calling thread while steps go on; those that ran a
        while ago are still loaded, see :class:`octobev.runtime.sessions.Sessions`. What both the old and the new
        outputs need goes on as if nothing had happened; a network or cast-out that did not run begins with nothing.

        Parameters
        ----------
        outputs : names; empty: no network runs; None: `bundle.default_outputs`

        Raises
        ------
        InvalidArgument, RigError, BundleError
            As when a runtime is made. What was wanted stays.
        """
        with self._building:
            plan = self.bundle.plan(outputs, level=self._level)
            if plan != self._next.plan:
                self._replace(plan, self._next.rig)

    def reset(self, reason: str = "asked for") -> None:
        """Forget what is carried over time; the next step says so."""
        self._memory.forget(reason)
        self._level_anew = True

    def watch_inputs(self, watch: InputWatch | None) -> None:
        """Have something called with what each network is about to read: to calibrate it, or to look for a fault.

        Parameters
        ----------
        watch : gets the id of a network and its inputs by tensor name, before each of its runs: a per-camera network
            runs once a camera (or group of them), on one of the worker threads. The arrays are the network's own
            memory, which the next run overwrites: read or copy them. None: nothing any more
        """
        self._hooks.watch = watch

    def tamper(self, network_id: str, tamper: Tamper | None) -> None:
        """Have something done to what a network gives, to see what follows from it: NaN, an error, a slow run.

        For tests and fault injection. May be called from any thread; costs nothing while nothing is set.

        Parameters
        ----------
        network_id : id of a network in the manifest, whether it runs now or not
        tamper : called after each run of that network, before anything reads its results, on the thread of the run
            (several at a time for a per-camera network): `tamper(cameras, outputs)`. `cameras`: names of those whose
            images were run, usually one; empty for a top-down network. `outputs`: arrays by the tensor names of the
            ONNX file, recurrent states among them; what is written into them is taken for the network's own. To wait
            in it makes the network slow; to raise :class:`~octobev.errors.NetworkError` makes it fail. None: leave
            the network alone again

        Raises
        ------
        InvalidArgument
            The bundle has no such network.
        """
        if network_id not in self.bundle.manifest.networks:
            raise InvalidArgument(expected("network", f"one of {', '.join(self.bundle.manifest.networks)}", network_id))
        if tamper is None:
            self._hooks.tampers.pop(network_id, None)
        else:
            self._hooks.tampers[network_id] = tamper

    def close(self) -> None:
        """End the worker threads. A closed runtime cannot step."""
        self._closed = True
        self._drop_ahead()
        self._workers.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _make_graph(self, plan: Plan, rig: Rig, before: Graph | None = None) -> Graph:
        return Graph(
            self.bundle,
            plan,
            rig,
            self._sessions,
            arrangement=self.arrangement,
            profile=self._profile,
            max_gap_s=self._max_gap_s,
            before=before,
        )

    def _step(
        self,
        frame_set: FrameSet,
        percepts: Percepts | None = None,
        following: Following | None = None,
        *,
        at_once: bool = False,
    ) -> Predictions:
        """Step; `at_once`: ask for the following set as soon as possible, as it is there and remains the next one."""
        self._check_open()
        passage = self._take_up(frame_set, percepts)
        graph, workers, stages = passage.graph, self._workers, passage.stages
        try:
            passage.begin(workers)
            (status, states), ahead = passage.run_cameras(
                lambda: self._aim(passage),
                lambda motion: self._carry(passage, *motion),
                lambda: self._look_ahead(following),
                at_once=at_once,
            )
            results = passage.perception.results()
            if ahead is not None:  # else the others help to lift
                passage.begin_rest(workers)
            with stages.measure("lift"):
                graph.topdowns.lift(results, self.threads if ahead is None else self.arrangement.threads_beside)
            if ahead is None:
                passage.begin_rest(workers)
            passage.begin_look(workers)
            if ahead is None:  # a set may have come meanwhile
                ahead = self._look_ahead(following)
            with stages.measure("castout"):
                bev = graph.castouts.step(results, passage.level_from_ego, workers.map)
            if ahead is not None:
                ahead.begin_networks(workers, passage)
            with stages.measure("topdown"):
                failures = graph.topdowns.run(beside=ahead is not None)
            passage.finish_rest()
            with stages.measure("collect"):
                bev |= graph.topdowns.values()
        except BaseException:  # what a hook raises: carried to here, and nothing taken in
            self._drop_ahead()
            passage.drop()
            self._memory.forget("the step before was broken off")
            raise
        states |= {name: replace(states[name], restored=why) for name, why in failures.items() if name in states}
        predictions = passage.predictions(self._sequence, status, states, bev, failures)
        self._sequence += 1
        return predictions

    def _aim(self, passage: Passage) -> tuple[StateStatus, Motion | None]:
        """Have the view transforms of a set ready; says how the ego moved to it."""
        graph, frame_set = passage.graph, passage.frame_set
        with passage.stages.measure("aim"):
            status, motion = self._memory.follow(frame_set.timestamp_ns, frame_set.world_from_ego)
            if graph is not self._graph:
                graph.keep_level(self._graph)
                if motion is not None:
                    graph.take_over(self._graph)
                self._graph = graph
            anew, self._level_anew = self._level_anew, False
            passage.level(anew=anew)
            graph.topdowns.aim(passage.level_from_ego)
        return status, motion

    def _carry(
        self, passage: Passage, status: StateStatus, motion: Motion | None
    ) -> tuple[StateStatus, dict[str, StateStatus]]:
        """Carry what is remembered to a set; says how it went, as a whole and for each output."""
        with passage.stages.measure("carry"):
            return status, passage.graph.carry(passage.frame_set.timestamp_ns, status, motion)

    def _take_up(self, frame_set: FrameSet, percepts: Percepts | None) -> Passage:
        """Give the passage of a set, also one that was begun ahead, unless something changed since then."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            if percepts is None and ahead.goes_on(self._next, frame_set, self._hooks):
                return ahead
            ahead.drop()
        passage = Passage(self._next, frame_set, self._hooks, percepts)
        self._note_formats(passage.frames)
        return passage

    def _look_ahead(self, following: Following | None) -> Passage | None:
        """Begin with the set of the next step, if it is there and threads are that could."""
        frame_set = None if following is None or self.threads == 1 else following()
        if not isinstance(frame_set, FrameSet):  # anything else is refused when its turn has come
            return None
        self._ahead = ahead = Passage(self._next, frame_set, self._hooks)
        ahead.begin_images(self._workers)
        return ahead

    def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.drop()

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidArgument("this runtime is closed; make a new one")

    def _replace(self, plan: Plan, rig: Rig) -> None:
        """Make the graph of the next step; the caller holds the lock."""
        self._check_open()
        try:
            graph = self._make_graph(plan, rig, self._next)
            graph.warm(self._formats)
            self._next = graph
        finally:
            self._sessions.trim(self._next.loaded)

    def _note_formats(self, frames: Mapping[str, Frame]) -> None:
        formats = {frame.pixel_format for frame in frames.values()}
        if not formats <= self._formats:
            self._formats |= formats
