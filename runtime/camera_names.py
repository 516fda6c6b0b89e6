"""Which cameras of a rig a manifest means: names, and patterns in which `*` stands for any letters.

A name is meant as it is written. The letters of a pattern match in either case, since some rigs shout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from ..errors import RigError, expected
from ..fusion.rig import Rig

ANY: Final = "*"
"""Stands for any letters of a camera's name, none among them; alone for every camera."""


def covers(names: Iterable[str], wanted: str) -> bool:
    """Whether one of these names and patterns admits every camera that another name or pattern admits."""
    return any(_expression(name).fullmatch(wanted) for name in names)


def select_cameras(rig: Rig, names: Sequence[str], where: str) -> tuple[str, ...]:
    """Select the cameras of a rig that some names and patterns mean, in the rig's order.

    Parameters
    ----------
    names : a name must be in the rig; a pattern may find nothing as long as another one does
    where : what asks for them, for messages

    Raises
    ------
    RigError
        The rig lacks a camera that is named, or has none that is meant.
    """
    has = f"rig {rig.name} ({', '.join(rig.names)})"
    if missing := [name for name in names if ANY not in name and name not in rig]:
        raise RigError(f"{where}: " + expected("camera", f"one of {has}", ", ".join(missing)))
    selected = tuple(camera for camera in rig.names if covers(names, camera))
    if not selected:
        raise RigError(f"{where}: " + expected("cameras", f"patterns that match one of {has}", ", ".join(names)))
    return selected


def _expression(name: str) -> re.Pattern[str]:
    first, *others = map(re.escape, name.split(ANY))
    if not others:
        return re.compile(first)
    # atomic groups: each part where it is found first, or a pattern of many parts would be tried in every way
    between = "".join(f"(?>.*?{part})" for part in others[:-1])
    return re.compile(f"{first}{between}.*{others[-1]}", re.IGNORECASE)
