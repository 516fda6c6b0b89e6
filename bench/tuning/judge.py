"""Which choices may be taken, by what they give; how fast they are is not looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ...runtime.cpu import fast_int8
from ...runtime.predictions import Predictions
from ...runtime.profile import Choice
from .differences import NEAR, Difference, difference
from .trials import Contender

AGREEING: Final = 0.95
"""Share of the values that must be near those of float32 for another arithmetic or provider to be taken."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of a choice's results.

    difference : from float32 on the bundle's own execution providers; None: it is that, or nothing can be compared
    refused : why it cannot be taken; None: it can
    """

    difference: Difference | None = None
    refused: str | None = None


class Judge:
    """Compares results with those of float32, and with those of the same networks in another arrangement.

    Parameters
    ----------
    default : what runs without a profile
    """

    def __init__(self, default: Choice) -> None:
        self._default = default
        self._reference: list[Predictions] = []
        self._usually_withheld: frozenset[str] = frozenset()
        self._digests: dict[object, str] = {}

    def see(self, contenders: Mapping[Choice, Contender]) -> None:
        """Look at the first contenders, with the default among them: others are compared with these."""
        default = contenders[self._default]
        plain = ("fp32", self._default.providers)
        self._reference = next((each.steps for choice, each in contenders.items() if _networks(choice) == plain), [])
        self._reference = self._reference or default.steps
        self._usually_withheld = default.withheld
        self.take(default)

    def take(self, contender: Contender) -> None:
        """From now on its networks must give the same bits in every arrangement."""
        self._digests.setdefault(_networks(contender.choice), contender.digest)

    def verdict(self, contender: Contender) -> Verdict:
        """Judge a choice."""
        choice = contender.choice
        found = None if contender.steps is self._reference else difference(contender.steps, self._reference)
        return Verdict(found, self._refusal(contender, None if self._runs_anyway(choice) else found))

    def _refusal(self, contender: Contender, found: Difference | None) -> str | None:
        choice = contender.choice
        bits = self._digests.get(_networks(choice))
        if bits is not None and bits != contender.digest:
            return "its results are not the same to the bit"
        if missing := contender.withheld - self._usually_withheld:
            return f"it withholds {', '.join(sorted(missing))}"
        if choice.variant == "int8" and self._default.variant != "int8" and not fast_int8():
            return "without 8-bit dot products sums may saturate"
        if found is not None and found.near < AGREEING:
            return f"only {found.near:.0%} of the values of an output are within {NEAR:g} of fp32"
        return None

    def _runs_anyway(self, choice: Choice) -> bool:
        return _networks(choice) == _networks(self._default)


def _networks(choice: Choice) -> tuple[str, tuple[str, ...]]:
    """What decides about results, as against how work is spread."""
    return choice.variant, choice.providers
