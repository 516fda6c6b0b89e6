"""Parsed TOML into typed structs, strictly: unknown keys, wrong types and bad values are refused with their path."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from ..errors import BundleError, OctobevError, expected

T = TypeVar("T")


def build(kind: type[T], raw: object, path: str = "") -> T:
    """Make a value of a declared type out of parsed TOML.

    Parameters
    ----------
    kind : msgspec.Struct (tagged unions of them too), dataclass, dict[str, ...], tuple[..., ...], Literal, optional or
        scalar type. Integers are accepted for floats; floats must be finite.
    raw : what the TOML parser gave
    path : where in the file it stands, for messages

    Raises
    ------
    BundleError
        Naming the path.
    """
    value: T = _build(kind, raw, path)
    return value


def _build(kind: Any, raw: object, path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is types.UnionType:
        return _build_union(arguments, raw, path)
    if origin is dict:
        return {key: _build(arguments[1], value, _join(path, key)) for key, value in _table(raw, path).items()}
    if origin is tuple:
        if not isinstance(raw, list):
            raise BundleError(expected(path, "a list", _describe(raw)))
        return tuple(_build(arguments[0], value, f"{path}[{index}]") for index, value in enumerate(raw))
    if origin is Literal:
        if not isinstance(raw, str) or raw not in arguments:
            raise BundleError(expected(path, f"one of {', '.join(arguments)}", _describe(raw)))
        return raw
    if dataclasses.is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return _build_struct(kind, raw, path)
    return _build_scalar(kind, raw, path)


def _build_union(kinds: tuple[Any, ...], raw: object, path: str) -> Any:
    """Build an optional value (TOML has no null: it is of its type), or the struct whose tag the table carries."""
    kinds = tuple(kind for kind in kinds if kind is not types.NoneType)
    if len(kinds) == 1:
        return _build(kinds[0], raw, path)
    table = _table(raw, path)
    configs = {kind.__struct_config__.tag: kind for kind in kinds}
    field = kinds[0].__struct_config__.tag_field
    tag = table.get(field)
    if not isinstance(tag, str) or tag not in configs:
        raise BundleError(expected(_join(path, field), f"one of {', '.join(configs)}", _describe(tag)))
    return _build_struct(configs[tag], {key: value for key, value in table.items() if key != field}, path)


def _build_struct(kind: Any, raw: object, path: str) -> Any:
    table = _table(raw, path)
    hints = get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        required = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
        known = [f.name for f in dataclasses.fields(kind)]
    else:
        required = [f.name for f in msgspec.structs.fields(kind) if f.required]
        known = [f.name for f in msgspec.structs.fields(kind)]
    for key in table:
        if key not in known:
            raise BundleError(_unknown_key(key, known, path))
    if missing := [key for key in required if key not in table]:
        raise BundleError(f"{_join(path, missing[0])}: missing key")
    values = {key: _build(hints[key], value, _join(path, key)) for key, value in table.items()}
    try:
        return kind(**values)
    except OctobevError as error:
        raise BundleError(f"{path}: {error}" if path else str(error)) from error


def _build_scalar(kind: Any, raw: object, path: str) -> Any:
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(raw, accepted) or (isinstance(raw, bool) and kind is not bool):
        raise BundleError(expected(path, _NAMES[kind], _describe(raw)))
    if isinstance(raw, float) and not math.isfinite(raw):
        raise BundleError(expected(path, "finite", raw))
    return kind(raw)


def _table(raw: object, path: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise BundleError(expected(path or "document", "a table", _describe(raw)))
    return raw


def _unknown_key(key: str, known: list[str], path: str) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    return f"unknown key at {path}: {key} ({hint})" if path else f"unknown key: {key} ({hint})"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _describe(raw: object) -> str:
    return "nothing" if raw is None else repr(raw)


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
