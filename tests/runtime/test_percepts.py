"""What the per-camera networks gave is kept, and stepped on again with another calibration."""

import numpy as np
import pytest
from colours import HEIGHT, WIDTH
from octobev.errors import InvalidArgument
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def turned(rig):
    turn = Pose.planar(0.0, 0.0, 0.05)
    return Rig(tuple(Camera(camera.name, camera.intrinsics, turn @ camera.ego_from_camera) for camera in rig), "turned")


def picture(colour):
    image = np.full((HEIGHT, WIDTH, 3), colour[::-1], dtype=np.uint8)
    image[:, : WIDTH // 3] = 0
    return image


def frame_set(number=0, x_m=0.0, **images):
    pose, timestamp_ns = Pose.planar(x_m, 0, 0), number * 100_000_000
    frames = tuple(Frame(name, timestamp_ns, image, world_from_ego=pose) for name, image in images.items())
    return FrameSet(timestamp_ns, frames, pose)


def test_what_the_cameras_gave_is_stepped_on_again_with_another_calibration(bundle, rig):
    sets = [frame_set(n, x_m=n, front=picture(RED), rear=picture(GREEN)) for n in range(2)]
    with Runtime(bundle, rig) as runtime, Runtime(bundle, turned(rig)) as other:
        kept = [runtime.perceive(frames) for frames in sets]
        runtime.step(frame_set(front=picture(BLUE), rear=picture(BLUE)))
        runtime.recalibrate(turned(rig))
        runtime.reset()
        for frames, percepts in zip(sets, kept, strict=True):
            again, whole = runtime.step(frames, percepts), other.step(frames)
            assert again.bev.keys() == whole.bev.keys()
            for name, output in whole.bev.items():
                for array, expected in zip(again.bev[name].arrays().values(), output.arrays().values(), strict=True):
                    np.testing.assert_array_equal(array, expected)
            assert not again.camera_outputs


def test_what_other_cameras_gave_is_refused(bundle, rig):
    frames = frame_set(rear=picture(RED))
    with Runtime(bundle, rig) as runtime:
        kept = runtime.perceive(frames)
    rear_alone = rig.select(["rear"])
    with (
        Runtime(bundle, rear_alone) as runtime,
        pytest.raises(InvalidArgument, match="rows kept for network colours must be"),
    ):
        runtime.step(frames, kept)
