"""Finds out which way of running a bundle is the fastest on this machine.

One question after another, each with what the one before found: which arithmetic on which execution provider, how many
cameras at once, how many threads, cameras one by one or several in a run; at the end what was found against what is
done without a profile. All choices of a question are open at the same time and step in turns.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import msgspec
import onnxruntime as ort

from ...errors import OctobevError
from ...fusion.rig import Rig
from ...runtime.bundle import Bundle, Variant
from ...runtime.cpu import fast_int8
from ...runtime.frames import FrameSet
from ...runtime.predictions import Predictions
from ...runtime.profile import Choice
from ...runtime.settle import settle
from ...runtime.variants import VariantChoice, variants_of
from ..spread import SETTLE_S, Clock, Sample, Spread, Turns, take_turns
from . import candidates
from .differences import NEAR, Difference, difference, digest
from .trials import Contender, Trial, fastest

AGREEING: Final = 0.95
"""Share of the values that must be near those of float32 for another arithmetic or provider to be chosen."""

_WARM_UP: Final = 2
_FEWEST_ROUNDS: Final = 5
_MOST_ROUNDS: Final = 60

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
    RigError, BundleError
        The rig lacks a camera that the bundle needs; the bundle has no such variant.
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
        settle_s: float = SETTLE_S,
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
        settled = settle(bundle, None, threads=threads, variant=variant)
        own = tuple(provider.name for provider in bundle.manifest.runtime.providers)
        count = settled.arrangement.threads
        self.default = Choice(settled.bundle.variant, own, count, count)
        self._variants: tuple[Variant, ...] = variants_of(bundle) if variant == "auto" else (settled.bundle.variant,)
        available = ort.get_available_providers()
        self._providers = (own,) if own_providers else candidates.provider_lists(bundle, available)
        self._left_out = [name for name in available if name in candidates.ELSEWHERE]
        self._digests: dict[tuple[Variant, tuple[str, ...]], str] = {}
        self._reference: list[Predictions] = []
        self._usually_withheld: frozenset[str] = frozenset()
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
        failures: dict[Choice, str] = {}
        told = list(notes)
        with ExitStack() as stack:
            contenders = self._load(name, choices, failures, told, stack)
            self._compare(contenders)
            differences = {choice: self._difference(contender) for choice, contender in contenders.items()}
            refusals = {choice: self._refusal(each, differences[choice]) for choice, each in contenders.items()}
            turns = self._measure(name, contenders) if len(contenders) > 1 or not self._ms else None
        in_use, taken = _side(choices[0]), choices[0]
        if turns is not None:
            self._ms |= {choice: turns[_side(choice)] for choice in contenders}
            allowed = {_side(choice): choice for choice in contenders if refusals[choice] is None}
            winner = fastest(turns, in_use, list(allowed))
            taken = allowed.get(winner, taken)
        trials = [
            Trial(
                choice,
                turns[_side(choice)] if turns is not None and choice in contenders else None,
                turns.ratio(_side(choice), in_use)
                if turns is not None and choice in contenders and choice != choices[0]
                else None,
                differences.get(choice),
                failures.get(choice, refusals.get(choice)),
            )
            for choice in choices
            if choice in contenders or choice in failures
        ]
        return Question(name, tuple(trials), taken, tuple(dict.fromkeys(told)))

    def _load(
        self, name: str, choices: Sequence[Choice], failures: dict[Choice, str], told: list[str], stack: ExitStack
    ) -> dict[Choice, Contender]:
        """Have every choice predict the sets; one that cannot goes to `failures`, unless it is the one in use."""
        loaded: dict[Choice, Contender] = {}
        for number, choice in enumerate(choices):
            self._progress(f"{name}: loading", number, len(choices))
            try:
                contender = stack.enter_context(Contender(self._bundle, self._rig, choice, self._sets, self._clock))
            except OctobevError as error:
                if not loaded:
                    raise
                failures[choice] = f"cannot run: {error}"
                continue
            if choice.batch > 1 and contender.batches == loaded[choices[0]].batches:
                told.append("the networks do not leave open how many images a run takes")
                continue
            loaded[choice] = contender
        return loaded

    def _compare(self, contenders: dict[Choice, Contender]) -> None:
        """Remember what the first contenders gave, which later ones are compared with."""
        if not self._reference:
            own = self.default.providers
            plain = [each for choice, each in contenders.items() if (choice.variant, choice.providers) == ("fp32", own)]
            self._reference = [*plain, contenders[self.default]][0].steps
            self._usually_withheld = contenders[self.default].withheld
        for choice, contender in contenders.items():
            self._digests.setdefault((choice.variant, choice.providers), digest(contender.steps))

    def _difference(self, contender: Contender) -> Difference | None:
        return None if contender.steps is self._reference else difference(contender.steps, self._reference)

    def _refusal(self, contender: Contender, found: Difference | None) -> str | None:
        """Why a choice cannot be taken, however fast it is."""
        choice = contender.choice
        if (choice.variant, choice.providers) == (self.default.variant, self.default.providers):
            found = None  # it is what runs anyway
        if self._digests[choice.variant, choice.providers] != digest(contender.steps):
            return "its results are not the same to the bit"
        if missing := contender.withheld - self._usually_withheld:
            return f"it withholds {', '.join(sorted(missing))}"
        if choice.variant == "int8" and self.default.variant != "int8" and not fast_int8():
            return "without 8-bit dot products sums may saturate"
        if found is not None and found.near < AGREEING:
            return f"only {found.near:.0%} of the values of an output are within {NEAR:g} of fp32"
        return None

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
        return take_turns(sides, rounds, warm_up=_WARM_UP, settle_s=self._settle_s)


def _side(choice: Choice) -> str:
    """Name of a side: sides of measurements have names."""
    return msgspec.json.encode(choice).decode()
