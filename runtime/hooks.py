"""What looks into the runs of networks: a watch on their inputs, tampering with their results to see what follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from numpy.typing import NDArray

InputWatch = Callable[[str, Mapping[str, NDArray[Any]]], None]
"""Looks at the inputs of a network, see :meth:`octobev.runtime.engine.Runtime.watch_inputs`."""

Tamper = Callable[[tuple[str, ...], Mapping[str, NDArray[Any]]], None]
"""Spoils what a network gave, see :meth:`octobev.runtime.engine.Runtime.tamper`."""


@dataclass(slots=True)
class RunHooks:
    """Hooks that the networks of one runtime share; each run looks here, so that they may change between two runs.

    watch : gets the name of a network and its inputs by tensor, before each run
    tampers : network id -> what is done to its outputs, after each run
    """

    watch: InputWatch | None = None
    tampers: dict[str, Tamper] = field(default_factory=dict)

    def now(self) -> Self:
        """Copy them: what is set later does not change the copy."""
        return replace(self, tampers=dict(self.tampers))
