"""`--fault` and its help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from ..replay.faults import Fault

_PANEL: Final = "Faults on demand"

FaultOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="SPEC",
        help="Let something fail; repeatable. SPEC is KIND[:WHOM][AMOUNT]@WHEN: see the end.",
        rich_help_panel=_PANEL,
    ),
]
FaultSeedOption = Annotated[
    int,
    typer.Option("--fault-seed", min=0, help="Seed of what faults leave to chance.", rich_help_panel=_PANEL),
]

FAULT_HELP: Final = """\
**Faults**, by example:

- `lose:front@2s+3s` frames do not arrive, from 2 s on, for 3 s. `lose:front%20@2s`: a fifth of them, for good

- `freeze:rear@1s+2s` the same image again and again, with new times

- `noise:left*0.2@0s` noise on the pixels; its standard deviation is 0.2 of full scale

- `delay:front+80ms@1s+4s` frames arrive later

- `reorder:*@..` neighbouring frames change places, half of the time. `*`: all cameras; `..`: always

- `repeat:left@..` every frame arrives twice

- `clock:front+5s@3s` its clock is 5 s fast (`-5s`: slow). `clock:*+5s@3s`: that of all cameras and of the poses

- `corrupt:front%30@2s+2s` damaged bytes, in 30 % of its frames; bare pixels are encoded as JPEG first

- `nan:topdown@3s+200ms` NaN in what a network of the bundle gives

- `slow:hydranet+50ms@..` each run of a network takes longer

- `stall-subscriber@..` a subscriber that never reads; needs `--publish` without `--key`

- `full-disk@3s` no room for the recording; needs `--record`

Times count from the first frame that is played; units ns, us, ms, s, min.
"""


def parse_faults(texts: Sequence[str] | None, *, published: bool, recorded: bool) -> list[Fault]:
    """Read the values of `--fault`; a wrong one, and one without what it is about, is wrong usage."""
    if not texts:
        return []
    from ..errors import InvalidArgument
    from ..replay.faults import parse_fault
    from ..replay.faults.kinds import FullDisk, StalledSubscriber

    faults = []
    for text in texts:
        try:
            fault = parse_fault(text)
        except InvalidArgument as error:
            raise typer.BadParameter(str(error), param_hint="--fault") from error
        if isinstance(fault, StalledSubscriber) and not published:
            raise typer.BadParameter(f"{text} needs --publish ENDPOINT without --key", param_hint="--fault")
        if isinstance(fault, FullDisk) and not recorded:
            raise typer.BadParameter(f"{text} needs --record OUT.mcap", param_hint="--fault")
        faults.append(fault)
    return faults
