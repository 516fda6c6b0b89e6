"""Images that do not belong to a calibration are found."""

import numpy as np
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.fusion.rig_check import Severity
from octobev.replay.image_check import check_images
from octobev.runtime.frames import Frame, FrameSet


def test_images_of_another_size_are_found():
    lens = Intrinsics(1280, 960, 800, 800, 639.5, 479.5)
    rig = Rig((Camera("front", lens, Pose.identity()), Camera("back", lens, Pose.identity())))
    frames = FrameSet(0, (Frame("front", 0, np.zeros((480, 640, 3), np.uint8)),), absences={"back": "dropped"})
    (finding,) = check_images(rig, frames)
    assert (finding.severity, finding.check, finding.camera) == (Severity.ERROR, "image", "front")
    assert "image size must be 1280x960 as calibrated, got 640x480" in finding.message
