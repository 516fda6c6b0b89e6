"""Predictions that say that there is nothing to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..engine import Runtime
from ..predictions import Predictions, StateStatus
from ..references import image_output


def withheld_predictions(runtime: Runtime, timestamp_ns: int, reason: str, absences: Mapping[str, str]) -> Predictions:
    """Make predictions without any output: each that the runtime would give is named in `invalid`, for this reason.

    Parameters
    ----------
    timestamp_ns : capture time that they are about
    reason : why there is nothing
    absences : camera -> why its frame was not used; the others get `reason`
    """
    cameras = runtime.rig.names
    invalid: dict[str, str] = {}
    for name in runtime.plan.outputs:
        source = image_output(runtime.bundle.manifest, name)
        if source is None:
            invalid[name] = reason
        else:
            of_network = runtime.bundle.needed_cameras(runtime.plan, source[0], runtime.rig)
            invalid |= {f"{name}/{camera}": reason for camera in of_network}
    return Predictions(
        timestamp_ns=timestamp_ns,
        sequence=0,
        cameras=cameras,
        camera_mask=np.zeros(len(cameras), dtype=np.bool_),
        camera_age_ns=np.zeros(len(cameras), dtype=np.int64),
        absences={camera: absences.get(camera, reason) for camera in cameras},
        bev={},
        camera_outputs={},
        invalid=invalid,
        state=StateStatus(False, reason, 0),
        provenance=runtime.provenance,
    )


def without_outputs(predictions: Predictions, runtime: Runtime, reason: str) -> Predictions:
    """Withhold every output of a step, for this reason: what is remembered alone is no news."""
    withheld = withheld_predictions(runtime, predictions.timestamp_ns, reason, predictions.absences)
    return replace(withheld, state=predictions.state, spans=predictions.spans)
