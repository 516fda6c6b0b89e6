"""Faults as one types them: `KIND[:WHOM][AMOUNT]@WHEN`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, NoReturn

from ...errors import InvalidArgument, expected
from . import kinds
from .kinds import ALL, CameraFault, Fault, NetworkFault, Window

_UNITS_NS: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "min": 60_000_000_000}
_DURATION: Final = r"\d+(?:\.\d+)?(?:ns|us|ms|min|s)"
_EXAMPLE_TIME: Final = "a time such as 2s, 250ms or 1min"


@dataclass(frozen=True, slots=True)
class _Amount:
    """How much: what follows whom. sign: letters that it may begin with; needed: whether it may be left out."""

    sign: str
    pattern: str
    must_be: str
    value: Callable[[str], Any]
    needed: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault as one types it.

    word : its name; make : the type of its value; whom : what is named behind the colon; amount : what follows that
    example : for people
    """

    word: str
    make: Callable[..., Fault]
    whom: Literal["camera", "network"] | None
    amount: _Amount | None
    example: str


def _duration_ns(text: str) -> int:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text.lstrip("+-")).groups()  # type: ignore[union-attr]
    return int(Decimal(number) * _UNITS_NS[unit]) * (-1 if text.startswith("-") else 1)


def _share(text: str) -> float:
    return float(Decimal(text[1:]) / 100)


_NUMBER: Final = r"\d+(?:\.\d+)?"
_PERCENT: Final = _Amount("%", f"%{_NUMBER}", "% and a number above 0 and at most 100", _share, needed=False)
_LATER: Final = _Amount("+", rf"\+{_DURATION}", f"+ and {_EXAMPLE_TIME}", _duration_ns, needed=True)
_JUMP: Final = _Amount("+-", rf"[+-]{_DURATION}", f"+ or - and {_EXAMPLE_TIME}", _duration_ns, needed=True)
_FACTOR: Final = _Amount(
    "*", rf"\*{_NUMBER}", "* and a number above 0 and at most 1", lambda text: float(text[1:]), needed=True
)

KINDS: Final = (
    Kind("lose", kinds.Lose, "camera", _PERCENT, "lose:front@2s+3s"),
    Kind("freeze", kinds.Freeze, "camera", None, "freeze:rear@1s+2s"),
    Kind("noise", kinds.Noise, "camera", _FACTOR, "noise:left*0.2@0s"),
    Kind("delay", kinds.Delay, "camera", _LATER, "delay:front+80ms@1s+4s"),
    Kind("reorder", kinds.Reorder, "camera", _PERCENT, "reorder:*@.."),
    Kind("repeat", kinds.Repeat, "camera", None, "repeat:left@.."),
    Kind("clock", kinds.ClockJump, "camera", _JUMP, "clock:front+5s@3s"),
    Kind("corrupt", kinds.Corrupt, "camera", _PERCENT, "corrupt:front%30@2s+2s"),
    Kind("nan", kinds.NotANumber, "network", None, "nan:topdown@3s+200ms"),
    Kind("slow", kinds.Slow, "network", _LATER, "slow:hydranet+50ms@.."),
    Kind("stall-subscriber", kinds.StalledSubscriber, None, None, "stall-subscriber@.."),
    Kind("full-disk", kinds.FullDisk, None, None, "full-disk@3s"),
)
"""Every kind of fault, in the order in which help shows them."""

_BY_WORD: Final = {kind.word: kind for kind in KINDS}
_BY_TYPE: Final = {kind.make: kind for kind in KINDS}


def parse_fault(text: str) -> Fault:
    """Read one fault.

    Parameters
    ----------
    text : `KIND[:WHOM][AMOUNT]@WHEN`. WHOM is the name of a camera or a network, or `*`. WHEN is `START+LENGTH`,
        `START` (for good) or `..` (always), counted from the first frame that is played; units ns, us, ms, s, min

    Raises
    ------
    InvalidArgument
        With the text, the column, what must be there and what is.
    """
    head, at, when = text.partition("@")
    word, colon, rest = head.partition(":")
    kind = _BY_WORD.get(word)
    if kind is None:
        _refuse(text, 0, "kind of fault", f"one of {', '.join(_BY_WORD)}", word)
    if kind.whom is None and colon:
        _refuse(text, len(word), f"after {word}", "@ and when", colon + rest)
    if kind.whom is not None and not colon:
        _refuse(text, len(word), f"after {word}", f": and a {kind.whom}, or :{ALL} for all", at)
    if not at:
        _refuse(text, len(text), "after whom or what", "@ and when, as in @2s+3s, @2s or @..", "")
    begin = len(word) + len(colon)
    whom, amount = _split(kind, rest)
    given: list[Any] = [_window(text, len(head) + 1, when)]
    if kind.whom is not None:
        if not whom or (whom != ALL and not all(letter.isalnum() or letter in "_-." for letter in whom)):
            _refuse(text, begin, kind.whom, f"a name, or {ALL} for all", whom)
        given.append(whom)
    if kind.amount is not None and (amount or kind.amount.needed):
        if not re.fullmatch(kind.amount.pattern, amount, re.ASCII):
            _refuse(text, begin + len(whom), "amount", kind.amount.must_be, amount)
        given.append(kind.amount.value(amount))
    try:
        return kind.make(*given)
    except InvalidArgument as error:
        place = text if kind.amount is None else f"{text}, column {begin + len(whom) + 1}"
        raise InvalidArgument(f"fault {place}: {error}") from error


def describe_fault(fault: Fault) -> str:
    """Give the text that :func:`parse_fault` reads as this fault."""
    kind = _BY_TYPE[type(fault)]
    whom = amount = ""
    if isinstance(fault, CameraFault):
        whom = f":{fault.camera}"
    elif isinstance(fault, NetworkFault):
        whom = f":{fault.network}"
    if isinstance(fault, (kinds.Lose, kinds.Reorder, kinds.Corrupt)):
        usual = type(fault)(fault.window, fault.camera) == fault
        amount = "" if usual else f"%{(Decimal(repr(fault.share)) * 100).normalize():f}"
    elif isinstance(fault, kinds.Noise):
        amount = f"*{Decimal(repr(fault.deviation)):f}"
    elif isinstance(fault, (kinds.Delay, kinds.Slow)):
        amount = f"+{_duration(fault.delay_ns)}"
    elif isinstance(fault, kinds.ClockJump):
        amount = ("+" if fault.jump_ns > 0 else "-") + _duration(abs(fault.jump_ns))
    window = fault.window
    when = _duration(window.start_ns)
    if window.end_ns is not None:
        when += f"+{_duration(window.end_ns - window.start_ns)}"
    return f"{kind.word}{whom}{amount}@{'..' if window == Window() else when}"


def check_names(faults: Iterable[Fault], cameras: Iterable[str], networks: Iterable[str]) -> None:
    """Refuse faults of cameras and networks that are not there.

    Raises
    ------
    InvalidArgument
        With the fault, and the names that there are.
    """
    names = {"camera": tuple(cameras), "network": tuple(networks)}
    for fault in faults:
        for what, whom in (("camera", getattr(fault, "camera", ALL)), ("network", getattr(fault, "network", ALL))):
            if whom != ALL and whom not in names[what]:
                known = f"one of {', '.join(names[what])}, or {ALL}"
                raise InvalidArgument(f"fault {describe_fault(fault)}: " + expected(what, known, whom))


def _split(kind: Kind, rest: str) -> tuple[str, str]:
    """Whom, and how much. Names may have a `-` in them: the last amount that is well formed counts."""
    if kind.amount is None:
        return rest, ""
    if found := re.search(f"(?:{kind.amount.pattern})$", rest, re.ASCII):
        return rest[: found.start()], rest[found.start() :]
    signs = [at for at, letter in enumerate(rest) if letter in kind.amount.sign and (at or letter != ALL)]
    return (rest[: signs[0]], rest[signs[0] :]) if signs else (rest, "")


def _window(text: str, begin: int, when: str) -> Window:
    if when == "..":
        return Window()
    start, plus, length = when.partition("+")
    if not re.fullmatch(_DURATION, start, re.ASCII):
        _refuse(text, begin, "start", f"{_EXAMPLE_TIME}, or .. for always", start)
    start_ns = _duration_ns(start)
    if not plus:
        return Window(start_ns)
    if not re.fullmatch(_DURATION, length, re.ASCII) or _duration_ns(length) == 0:
        _refuse(text, begin + len(start) + 1, "length", f"{_EXAMPLE_TIME}, above 0", length)
    return Window(start_ns, start_ns + _duration_ns(length))


def _refuse(text: str, column: int, what: str, must_be: str, actual: str) -> NoReturn:
    where = f"fault {text or 'without text'}, column {column + 1}: "
    raise InvalidArgument(where + expected(what, must_be, actual or "nothing"))


def _duration(duration_ns: int) -> str:
    unit = next(unit for unit in ("s", "ms", "us", "ns") if duration_ns % _UNITS_NS[unit] == 0)
    return f"{duration_ns // _UNITS_NS[unit]}{unit}"
