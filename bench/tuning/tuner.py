"""Finds out which way of running a bundle is the fastest on this machine.

One question after another, each with what the one before found: which arithmetic on which execution provider, how many
cameras at once, how many threads, cameras one by one or several in a run; at the end what was found against what is
done without a profile. All choices of a question are open at the same time and step in turns.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import msgspec
import onnxruntime as ort

from ...errors import InvalidArgument, OctobevError, expected
from ...fusion.rig import Rig
from ...runtime.bundle import Bundle, Variant
from ...runtime.cpu import usable_cpus
from ...runtime.frames import FrameSet
from ...runtime.profile import Choice
from ...runtime.settle import settle
from ...runtime.variants import VariantChoice, variants_of
from ..spread import Clock, Sample, Spread, Turns, take_turns
from . import candidates
from .judge import Judge, Verdict
from .trials import Contender, Trial, fastest

_WARM_UP: Final = 2
_FEWEST_ROUNDS: Final = 5
_MOST_ROUNDS: Final = 60
_SETTLE_S: Final = 0.01  # threads of a runtime do not spin

Progress = Callable[[str, int, int], None]
"""What is measured now, how many steps of it are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Question:
    """Something that was measured: the trials, the one in use first, and which was taken.

    notes : what was left out, and why
    """

    name: str
    trials: tuple[Trial, ...]
    taken: Choice
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    default : what is done without a profile
    choice : what is fastest; it may be the same
    default_ms, ms : a whole step of both, milliseconds, measured in turns
    ratio : of `ms` to `default_ms`, round by round; None where both are the same
    """

    questions: tuple[Question, ...]
    default: Choice
    choice: Choice
    default_ms: Spread
    ms: Spread
    ratio: Spread | None


class Tuner:
    """Measures a bundle on a rig.

    Parameters
    ----------
    bundle, rig : what runs
    threads : most threads to use; None: the CPUs that this process may use
    variant : `auto`, or the only one that may be chosen
    own_providers : no other execution providers than those that the bundle names
    seconds : about how long each question is measured
    progress : told what goes on
    settle_s : pause after each step, seconds
    clock : seconds

    Raises
    ------
    InvalidArgument, RigError, BundleError
        More threads than CPUs; the rig lacks a camera that the bundle needs; the bundle has no such variant.
    """

    def __init__(
        self,
        bundle: Bundle,
        rig: Rig,
        *,
        threads: int | None = None,
        variant: VariantChoice = "auto",
        own_providers: bool = False,
        seconds: float = 12.0,
        progress: Progress = lambda what, done, total: None,
        settle_s: float = _SETTLE_S,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._bundle = bundle
        self._rig = rig
        self._sets: Sequence[FrameSet] = ()
        self._seconds = seconds
        self._progress = progress
        self._settle_s = settle_s
        self._clock = clock
        plan = bundle.plan()
        for network in (*plan.networks, *plan.topdown):
            bundle.cameras(network, rig)
        if threads is not None and threads > usable_cpus():
            raise InvalidArgument(expected("threads", f"at most {usable_cpus()}, the CPUs usable here", threads))
        settled = settle(bundle, None, threads=threads, variant=variant)
        own = tuple(provider.name for provider in bundle.manifest.runtime.providers)
        count = settled.arrangement.threads
        self.default = Choice(settled.bundle.variant, own, count, count)
        self._variants: tuple[Variant, ...] = variants_of(bundle) if variant == "auto" else (settled.bundle.variant,)
        available = ort.get_available_providers()
        self._providers = (own,) if own_providers else candidates.provider_lists(bundle, available)
        self._left_out = [name for name in available if name in candidates.ELSEWHERE]
        self._judge = Judge(self.default)
        self._ms: dict[Choice, Spread] = {}

    def run(self, sets: Sequence[FrameSet]) -> Answer:
        """Measure everything on some sets.

        Raises
        ------
        OctobevError
            What is done without a profile cannot run: a network does not load, ...
        """
        self._sets = sets
        cameras = len(self._rig)
        networks = candidates.network_choices(self.default, self._variants, self._providers)
        notes = [f"{candidates.short_name(name)} runs nothing on this machine: not tried" for name in self._left_out]
        questions = [self._ask("networks", networks, notes)]
        if self.default.threads > 1:
            questions.append(self._ask("cameras at once", candidates.run_choices(questions[-1].taken, cameras)))
            questions.append(self._ask("threads", candidates.thread_choices(questions[-1].taken)))
        questions.append(self._ask("cameras in a run", candidates.batch_choices(questions[-1].taken, cameras)))
        best, ratio = questions[-1].taken, None
        if best != self.default:
            questions.append(self._ask("check", (self.default, best)))
            best = questions[-1].taken
            ratio = questions[-1].trials[-1].ratio if best != self.default else None
        return Answer(tuple(questions), self.default, best, self._ms[self.default], self._ms[best], ratio)

    def _ask(self, name: str, choices: Sequence[Choice], notes: Sequence[str] = ()) -> Question:
        """Measure some choices in turns, the one in use first."""
        told = list(notes)
        with ExitStack() as stack:
            contenders, failures = self._load(name, choices, told, stack)
            if not self._ms:
                self._judge.see(contenders)
            verdicts = {choice: self._judge.verdict(contender) for choice, contender in contenders.items()}
            verdicts |= {choice: Verdict(refused=why) for choice, why in failures.items()}
            if len(contenders) == 1 and self._ms:
                return Question(name, _trials(choices, verdicts, None), choices[0], tuple(dict.fromkeys(told)))
            turns = self._measure(name, contenders)
            allowed = {_side(choice): choice for choice in contenders if verdicts[choice].refused is None}
            taken = allowed.get(fastest(turns, _side(choices[0]), list(allowed)), choices[0])
            self._judge.take(contenders[taken])
        self._ms |= {choice: turns[_side(choice)] for choice in contenders}
        return Question(name, _trials(choices, verdicts, turns), taken, tuple(dict.fromkeys(told)))

    def _load(
        self, name: str, choices: Sequence[Choice], told: list[str], stack: ExitStack
    ) -> tuple[dict[Choice, Contender], dict[Choice, str]]:
        """Have every choice predict the sets; returns those that can, and why the others cannot."""
        loaded: dict[Choice, Contender] = {}
        failures: dict[Choice, str] = {}
        for number, choice in enumerate(choices):
            self._progress(f"{name}: loading", number, len(choices))
            try:
                contender = stack.enter_context(Contender(self._bundle, self._rig, choice, self._sets, self._clock))
            except OctobevError as error:
                if not loaded:  # the one in use
                    raise
                failures[choice] = f"cannot run: {error}"
                continue
            if choice.batch > 1 and contender.batches == loaded[choices[0]].batches:
                told.append("the networks do not leave open how many images a run takes")
                continue
            loaded[choice] = contender
        return loaded, failures

    def _measure(self, name: str, contenders: dict[Choice, Contender]) -> Turns:
        round_s = sum(contender.seconds for contender in contenders.values())
        rounds = max(_FEWEST_ROUNDS, min(_MOST_ROUNDS, int(self._seconds / max(round_s, 1e-6))))
        total = (rounds + _WARM_UP) * len(contenders)
        done = itertools.count(1)

        def counted(sample: Sample) -> Sample:
            def run() -> float:
                figure = sample()
                self._progress(name, next(done), total)
                return figure

            return run

        sides = {_side(choice): counted(contender.sample) for choice, contender in contenders.items()}
        return take_turns(sides, rounds, warm_up=_WARM_UP, steady_s=0.0, settle_s=self._settle_s)


def _trials(choices: Sequence[Choice], verdicts: Mapping[Choice, Verdict], turns: Turns | None) -> tuple[Trial, ...]:
    """Put together what was found of each choice, the one in use first."""
    trials = []
    for choice in choices:
        if choice not in verdicts:
            continue
        ms = ratio = None
        if turns is not None and _side(choice) in turns.samples:
            ms = turns[_side(choice)]
            ratio = None if choice == choices[0] else turns.ratio(_side(choice), _side(choices[0]))
        trials.append(Trial(choice, ms, ratio, verdicts[choice].difference, verdicts[choice].refused))
    return tuple(trials)


def _side(choice: Choice) -> str:
    """Name of a side: sides of measurements have names."""
    return msgspec.json.encode(choice).decode()
