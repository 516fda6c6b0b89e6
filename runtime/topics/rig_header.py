"""The calibration as a part of the header, and back."""

from __future__ import annotations

import numpy as np

from ...errors import WireError, expected
from ...fusion.lens import Intrinsics, LensModel
from ...fusion.pose import Pose
from ...fusion.rig import Camera, Rig
from .header import Header, LensHeader, RigHeader


def to_header(rig: Rig) -> RigHeader:
    """Make the map that goes on the wire."""
    return RigHeader(rig.name, tuple(map(_lens, rig)))


def from_header(header: Header) -> Rig:
    """Read the calibration.

    Raises
    ------
    WireError
        A header without it, or a lens model that is not known.
    CalibrationError, RigError
        A calibration that no camera or rig can have.
    """
    if header.rig is None:
        raise WireError(expected("header of a rig", "one with rig", "none"))
    return Rig(tuple(map(_camera, header.rig.cameras)), header.rig.name)


def _lens(camera: Camera) -> LensHeader:
    lens = camera.intrinsics
    mounting = tuple(camera.ego_from_camera.matrix.ravel().tolist())
    return LensHeader(
        camera.name,
        *(lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy, lens.model.value, lens.coefficients),
        mounting,
    )


def _camera(lens: LensHeader) -> Camera:
    if lens.model not in list(LensModel):
        raise WireError(expected(f"lens model of {lens.name}", f"one of {', '.join(LensModel)}", lens.model))
    intrinsics = Intrinsics(
        lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy, LensModel(lens.model), lens.coefficients
    )
    with np.errstate(all="ignore"):
        mounting = Pose(np.array(lens.ego_from_camera, dtype=np.float64).reshape(4, 4))
    return Camera(lens.name, intrinsics, mounting)
