"""One row of the table: what is measured, its bar, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .spread import Spread, rounded

if TYPE_CHECKING:
    from .material import Material


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must come to.

    limit : the bar
    at_least : the figure must not be less; False: it must not be more
    aim : what would be better still, for the reader alone
    """

    limit: float
    at_least: bool
    aim: float | None = None

    def met(self, value: float) -> bool:
        """Whether a figure comes to the bar."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        aim = "" if self.aim is None else f" (aim {self.aim:g})"
        return f"{'>=' if self.at_least else '<='} {self.limit:g}{aim}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a row's measurement found.

    value : the figure that the bar is about
    sides : what it was made of, and what else is worth knowing; the unit stands in each name
    notes : how it was measured, where that is decided while it runs
    missed : conditions besides the bar that do not hold; each says what was wanted and what is
    bar : the bar, where it is known only after the measurement
    """

    value: Spread
    sides: Mapping[str, Spread] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    key : stable name
    title : what is compared, one line
    unit : of the figure; `x` for a ratio
    bar : what it must come to
    measure : does it
    needs : modules outside the run-time dependencies that it cannot do without
    """

    key: str
    title: str
    unit: str
    bar: Bar
    measure: Callable[[Material], Figures]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row: figures, or why there are none.

    seconds : how long it took
    """

    row: Row
    figures: Figures | None = None
    skipped: str | None = None
    failed: str | None = None
    seconds: float = 0.0

    @property
    def bar(self) -> Bar:
        """The bar that counts."""
        return self.row.bar if self.figures is None or self.figures.bar is None else self.figures.bar

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None when there is no figure."""
        if self.figures is None:
            return None
        return self.bar.met(self.figures.value.median) and not self.figures.missed

    def as_dict(self) -> dict[str, Any]:
        """Give everything by name, for JSON."""
        bar = {"limit": rounded(self.bar.limit), "at_least": self.bar.at_least, "aim": self.bar.aim}
        found: dict[str, Any] = {"title": self.row.title, "unit": self.row.unit, "bar": bar, "met": self.met}
        found |= {"value": None, "skipped": self.skipped, "failed": self.failed, "seconds": round(self.seconds, 2)}
        if self.figures is not None:
            found["value"] = self.figures.value.as_dict()
            found["sides"] = {name: side.as_dict() for name, side in self.figures.sides.items()}
            found["notes"] = list(self.figures.notes)
            found["missed"] = list(self.figures.missed)
        return found
