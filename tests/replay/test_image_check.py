"""Images that do not belong to a calibration are found."""

import numpy as np
import pytest
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.fusion.rig_check import Severity
from octobev.replay.image_check import check_images
from octobev.runtime.frames import Frame, FrameSet, PixelFormat


def test_images_of_another_size_are_found():
    lens = Intrinsics(1280, 960, 800, 800, 639.5, 479.5)
    rig = Rig((Camera("front", lens, Pose.identity()), Camera("back", lens, Pose.identity())))
    frames = FrameSet(0, (Frame("front", 0, np.zeros((480, 640, 3), np.uint8)),), absences={"back": "dropped"})
    (finding,) = check_images(rig, frames)
    assert (finding.severity, finding.check, finding.camera) == (Severity.ERROR, "image", "front")
    assert "image size must be 1280x960 as calibrated, got 640x480" in finding.message


@pytest.mark.parametrize("pixel_format", ["nv12", "yuyv"])
def test_sizes_of_yuv_are_those_of_the_image(pixel_format):
    kind = PixelFormat(pixel_format)
    rig = Rig((Camera("front", Intrinsics(1280, 960, 800, 800, 639.5, 479.5), Pose.identity()),))
    right, wrong = (
        FrameSet(0, (Frame("front", 0, np.zeros(kind.array_shape(*size), np.uint8), kind),))
        for size in ((1280, 960), (1280, 640))
    )
    assert check_images(rig, right) == ()
    (finding,) = check_images(rig, wrong)
    assert "got 1280x640" in finding.message
