"""The JSON tables of nuScenes, read row by row.

A table is one JSON array of objects; `sample_data.json` of the full set is above a gigabyte. The rows are taken out of
a sliding block of text, so memory is that of the rows somebody keeps.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from ..errors import DriveError, MissingFile, expected

_BLOCK: Final = 1 << 20
_MAX_ROW: Final = 1 << 24
_BETWEEN: Final = " \t\r\n,["

Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a table in order.

    Raises
    ------
    MissingFile, DriveError
        No such table; not an array of objects.
    """
    decoder = json.JSONDecoder()
    text, position, ended = "", 0, False
    try:
        with open(path, encoding="utf-8") as file:
            while True:
                while position < len(text) and text[position] in _BETWEEN:
                    position += 1
                if text.startswith("]", position):
                    return
                try:
                    row, position = decoder.raw_decode(text, position)
                except (ValueError, RecursionError) as error:
                    if ended or len(text) - position > _MAX_ROW:
                        got = repr(text[position : position + 60])
                        raise DriveError(expected(str(path), "a JSON array of objects", got)) from error
                    block = file.read(_BLOCK)
                    text, position, ended = text[position:] + block, 0, not block
                    continue
                if not isinstance(row, dict):
                    raise DriveError(expected(f"{path}: row", "an object", repr(row)[:60]))
                yield row
    except FileNotFoundError as error:
        raise MissingFile(f"{path}: no such table") from error
    except OSError as error:
        raise DriveError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DriveError(f"{path}: not a text file: {error}") from error


def rows_by_token(path: Path, tokens: Collection[str] | None = None) -> dict[str, Row]:
    """Read the rows of these tokens (all when None) into a dictionary."""
    rows = ((value(row, "token", str, path), row) for row in read_rows(path))
    return {token: row for token, row in rows if tokens is None or token in tokens}


def value(row: Row, key: str, kind: type, path: Path) -> Any:
    """One value of a row, its type checked."""
    found = row.get(key)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise DriveError(expected(f"{path}: {key} of {row.get('token')}", f"of type {kind.__name__}", repr(found)[:60]))
    return found
