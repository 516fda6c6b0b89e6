"""Runs rows one after another."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..errors import InvalidArgument, OctobevError, expected
from .material import Material
from .row import Outcome, Row
from .spread import Clock

EXTRA = "pip install 'octobev[bench]'"


def installed(module: str) -> bool:
    """Whether a module is there; it is not imported."""
    return importlib.util.find_spec(module) is not None


def choose(rows: Sequence[Row], keys: Iterable[str] | None) -> tuple[Row, ...]:
    """Pick rows by key, in the table's order; None: all.

    Raises
    ------
    InvalidArgument
        No row has that key.
    """
    if keys is None:
        return tuple(rows)
    wanted = list(keys)
    known = [row.key for row in rows]
    for key in wanted:
        if key not in known:
            raise InvalidArgument(expected("key of a row", f"one of {', '.join(known)}", repr(key)))
    return tuple(row for row in rows if row.key in wanted)


def run_rows(
    rows: Iterable[Row],
    material: Material,
    *,
    has: Callable[[str], bool] = installed,
    clock: Clock = time.perf_counter,
) -> Iterator[Outcome]:
    """Measure the rows; one that cannot be measured says why and does not stop the others.

    Parameters
    ----------
    has : whether a module is installed
    clock : seconds
    """
    for row in rows:
        if missing := [module for module in row.needs if not has(module)]:
            yield Outcome(row, skipped=f"{', '.join(missing)} not installed: {EXTRA}")
            continue
        begin = clock()
        try:
            figures = row.measure(material)
        except OctobevError as error:
            yield Outcome(row, failed=str(error), seconds=clock() - begin)
        except Exception as error:  # a peer's own: one that breaks must not take the other rows with it
            reason = (str(error).strip() or "no message").splitlines()[0]
            yield Outcome(row, failed=f"{type(error).__name__}: {reason}", seconds=clock() - begin)
        else:
            yield Outcome(row, figures, seconds=clock() - begin)
