"""The ground grid in the images, and the whole picture of a rig."""

from __future__ import annotations

import numpy as np
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.fusion.rig_check import check_rig, measure_coverage
from octobev.replay.drawing import ERROR, FORWARD_AXIS, WARNING, arrange_cameras
from octobev.replay.rig_picture import draw_rig, ground_lines, horizon_line
from octobev.runtime.frames import Frame, FrameSet

LENS = Intrinsics(400, 300, 200.0, 200.0, 199.5, 149.5)
MOUNTING = Pose(np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]))


def rig() -> Rig:
    behind = Pose.planar(0, 0, np.pi) @ MOUNTING
    return Rig((Camera("front", LENS, MOUNTING), Camera("rear", LENS, behind)))


def test_a_level_camera_has_its_horizon_in_the_middle() -> None:
    pixels = horizon_line(LENS, MOUNTING.inverse())
    seen = pixels[np.isfinite(pixels).all(axis=1)]
    assert len(seen) > 300
    np.testing.assert_allclose(seen[:, 1], 149.5, atol=1e-6)


def test_ground_lines_by_hand() -> None:
    lines = {(axis, position): pixels for axis, position, pixels in ground_lines(LENS, MOUNTING.inverse())}
    # 10 m ahead, 1.5 m below: 1.5 / 10 * 200 = 30 pixels below the middle
    across = lines["x", 10.0]
    seen = across[np.isfinite(across).all(axis=1)]
    np.testing.assert_allclose(seen[:, 1], 179.5, atol=1e-6)
    # the line straight ahead runs up the middle; a line to the left is to the left
    ahead = lines["y", 0.0]
    np.testing.assert_allclose(ahead[np.isfinite(ahead).all(axis=1), 0], 199.5, atol=1e-6)
    left = lines["y", 5.0]
    assert (left[np.isfinite(left).all(axis=1), 0] < 199.5).all()
    assert np.isnan(lines["x", -10.0]).all()


def test_the_picture_shows_images_grid_and_findings() -> None:
    healthy = rig()
    image = np.full((300, 400, 3), 90, dtype=np.uint8)
    frames = FrameSet(0, tuple(Frame(name, 0, image) for name in healthy.names))
    picture = draw_rig(healthy, check_rig(healthy), measure_coverage(healthy), frames)
    assert picture.dtype == np.uint8
    share_of_image = (picture == 90).all(axis=-1).mean()
    assert share_of_image > 0.2
    assert not (picture == ERROR).all(axis=-1)[:, :40].any()


def test_the_ego_axis_runs_up_the_middle_of_the_front_image() -> None:
    front = rig().select(["front"])
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    picture = draw_rig(front, (), measure_coverage(front), FrameSet(0, (Frame("front", 0, image),)))
    (tile,) = arrange_cameras(front, 16, 56, 1500, 620, 10)
    shown = picture[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
    columns = np.nonzero((shown == FORWARD_AXIS).all(axis=-1))[1]
    assert len(columns) > 100
    np.testing.assert_allclose(columns, (tile.width - 1) / 2, atol=2)


def test_a_wrong_camera_is_framed() -> None:
    healthy = rig()
    wrong = Rig((Camera("front", LENS, MOUNTING.inverse()), healthy["rear"]))
    picture = draw_rig(wrong, check_rig(wrong), measure_coverage(wrong), None, "wrong")
    assert (picture == ERROR).all(axis=-1).sum() > 500


def test_absent_and_unreadable_images_leave_a_picture() -> None:
    both = rig()
    frames = FrameSet(0, (Frame("front", 0, np.zeros((30, 40, 3), np.uint8)),), absences={"rear": "dropped"})
    picture = draw_rig(both, (), measure_coverage(both), frames)
    assert (np.abs(picture.astype(int) - WARNING).max(axis=-1) < 3).sum() > 100
