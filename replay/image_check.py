"""Finding images that do not belong to a calibration."""

from __future__ import annotations

from ..errors import ImageError
from ..fusion.rig import Rig
from ..fusion.rig_check import Finding, Severity
from ..runtime.frames import FrameSet, PixelFormat
from ..runtime.images import pixels_of


def check_images(rig: Rig, frame_set: FrameSet) -> tuple[Finding, ...]:
    """Look for images that are not what the calibration is about: another size, or none at all."""
    findings = []
    for camera in rig:
        frame = frame_set.frame(camera.name)
        if frame is not None:
            size = (camera.intrinsics.width, camera.intrinsics.height)
            try:
                pixels_of(frame, size, 8 if frame.pixel_format is PixelFormat.JPEG else 1)
            except ImageError as error:
                findings.append(Finding(Severity.ERROR, "image", camera.name, str(error)))
    return tuple(findings)
