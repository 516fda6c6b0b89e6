"""TOML that somebody else wrote: what is made to exhaust memory or stack is refused, as what is no TOML is."""

from __future__ import annotations

import tomllib
from typing import Any, Final

from ..errors import expected

LARGEST_FILE: Final = 1 << 20
"""Bytes of a manifest or rig; real ones have some thousands."""

_MOST_DOTS: Final = 64
"""In a line: tomllib's memory grows with the square of the parts of a key, 100,000 of them (a.a.a...) take 40 GB."""


def parse_toml(content: bytes) -> dict[str, Any]:
    """Parse the bytes of a file.

    Raises
    ------
    ValueError
        Not TOML, not UTF-8, an endless number, too deep, or too large.
    """
    if len(content) > LARGEST_FILE:
        raise ValueError(expected("size", f"at most {LARGEST_FILE} bytes", len(content)))
    if (dots := max(line.count(b".") for line in content.split(b"\n"))) > _MOST_DOTS:
        raise ValueError(expected("dots in a line", f"at most {_MOST_DOTS}", dots))
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError(str(error)) from error
