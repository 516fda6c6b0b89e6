"""Whether a calibration may take the place of another one while a runtime runs."""

from __future__ import annotations

import logging
from typing import Final

from ..errors import RigError, expected
from ..fusion.rig import Rig
from ..fusion.rig_check import Severity, check_cameras

_LOG: Final = logging.getLogger("octobev.runtime.recalibration")


def check_recalibration(rig: Rig, current: Rig, *, plausible: bool = True) -> None:
    """Check a calibration against the one in use.

    How far it is from the one in use does not matter: a camera that was knocked has moved.

    Parameters
    ----------
    plausible : also check that a real vehicle can have it

    Raises
    ------
    RigError
        Other cameras than those in use or another order, which is the order of the bits of `seen_by`; or, if asked
        for, whatever the rig check calls an error, each with its camera, what is expected and what is there.
    """
    if rig.names != current.names:
        raise RigError(expected("cameras of the new calibration", ", ".join(current.names), ", ".join(rig.names)))
    if not plausible:
        return
    findings = check_cameras(rig)
    errors = [str(finding) for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        raise RigError(f"the new calibration was refused: {'; '.join(errors)}")
    for finding in findings:
        _LOG.warning("new calibration: %s", finding)
