"""The drive that a command-line argument names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import InvalidArgument, expected

if TYPE_CHECKING:
    from ..fusion.rig import Rig
    from ..replay.drive import Drive

DEMO: Final = "demo"
SYNTHETIC_PREFIX: Final = "synth:"

DEMO_SEED: Final = 20_003
DEMO_SECONDS: Final = 8.0
DEMO_RATE_HZ: Final = 10.0
DEMO_SIZE: Final = (640, 480)


def is_synthetic(name: str) -> bool:
    """Whether a drive is made on the spot and not read."""
    return name == DEMO or name.startswith(SYNTHETIC_PREFIX)


def open_source(
    name: str,
    *,
    seconds: float = 20.0,
    rate_hz: float = 10.0,
    rig: Rig | None = None,
    cameras: list[str] | None = None,
) -> Drive:
    """Open a drive: a path, `demo`, or `synth:SEED` for a synthetic drive of `seconds` at `rate_hz`.

    Parameters
    ----------
    rig : calibrations in place of those of a recorded drive
    cameras : only these, None for all
    """
    if not is_synthetic(name):
        from ..replay.open import open_drive

        return open_drive(name, rig=rig, cameras=cameras)
    from ..replay.rigs import reference_rig
    from ..replay.synthetic import SyntheticDrive

    mounted = reference_rig() if cameras is None else reference_rig().select(cameras)
    if name == DEMO:
        return SyntheticDrive(DEMO_SEED, DEMO_SECONDS, rate_hz=DEMO_RATE_HZ, size=DEMO_SIZE, rig=mounted)
    seed = name.removeprefix(SYNTHETIC_PREFIX)
    if not seed.isdecimal():
        raise InvalidArgument(expected("seed of a synthetic drive", "a whole number, as in synth:20001", repr(name)))
    return SyntheticDrive(int(seed), seconds, rate_hz=rate_hz, rig=mounted)
