"""Images cast to the ground land where their pixels come from."""

from __future__ import annotations

import numpy as np
import pytest
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.replay.mosaic import CameraView, cast_to_ground, make_mosaic, set_from_ego, views_of
from octobev.runtime.frames import Frame, FrameSet, PixelFormat

GRID = BevGrid(-20.0, 20.0, -20.0, 20.0, 0.25)
OPTICAL = Pose(np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]))
TILT = Pose(
    np.array([[1.0, 0, 0, 0], [0, np.cos(-0.3), -np.sin(-0.3), 0], [0, np.sin(-0.3), np.cos(-0.3), 0], [0, 0, 0, 1]])
)
LENSES = [
    Intrinsics(400, 300, 220.0, 220.0, 199.5, 149.5),
    Intrinsics(400, 300, 150.0, 150.0, 199.5, 149.5, LensModel.KANNALA_BRANDT, (0.03, -0.01, 0.002, -0.0005)),
]


def mounted(yaw: float, x: float = 0.0, z: float = 1.6) -> Pose:
    lifted = np.eye(4)
    lifted[:3, 3] = (x, 0.0, z)
    return Pose.planar(0, 0, yaw) @ Pose(lifted) @ OPTICAL @ TILT


def paint(lens: Intrinsics, set_from_camera: Pose) -> np.ndarray:
    """Render a ground whose blue grows forward and whose red grows to the left."""
    u, v = np.meshgrid(np.arange(lens.width), np.arange(lens.height))
    rays, valid = lens.unproject(np.stack((u, v), axis=-1).astype(float))
    directions = rays @ set_from_camera.rotation.T
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = -set_from_camera.translation_m[2] / directions[..., 2]
    hit = valid & (distance > 0)
    ground = set_from_camera.translation_m + directions * np.where(hit, distance, 0.0)[..., None]
    image = np.zeros((lens.height, lens.width, 3), dtype=np.uint8)
    image[..., 0] = np.where(hit, np.clip((ground[..., 0] + 25) * 5, 0, 255), 0)
    image[..., 2] = np.where(hit, np.clip((ground[..., 1] + 25) * 5, 0, 255), 0)
    return image


@pytest.mark.parametrize("lens", LENSES, ids=["pinhole", "fisheye"])
@pytest.mark.parametrize("yaw", [0.0, 1.0, -2.5])
def test_a_painted_ground_comes_back(lens: Intrinsics, yaw: float) -> None:
    pose = mounted(yaw)
    picture, weight = cast_to_ground(CameraView("c", paint(lens, pose), lens, pose), GRID)
    x, y = np.moveaxis(GRID.centres(), -1, 0)
    near = (weight > 0) & (np.hypot(x, y) < 12)
    assert near.sum() > 500
    # an ego heading of `yaw` to the left: seen cells are there
    heading = np.arctan2((y * near).sum(), (x * near).sum())
    assert np.angle(np.exp(1j * (heading - yaw))) == pytest.approx(0.0, abs=0.1)
    np.testing.assert_allclose(picture[near][:, 0] / 5.0 - 25, x[near], atol=0.5)
    np.testing.assert_allclose(picture[near][:, 2] / 5.0 - 25, y[near], atol=0.5)


def test_the_camera_with_the_finer_pixels_wins() -> None:
    pose = mounted(0.0)
    coarse, fine = LENSES[0].resized(100, 75), LENSES[0]
    dark, light = np.full((75, 100, 3), 10, np.uint8), np.full((300, 400, 3), 250, np.uint8)
    mosaic = make_mosaic([CameraView("a", dark, coarse, pose), CameraView("b", light, fine, pose)], GRID)
    both = mosaic.count == 2
    assert both.sum() > 500
    assert mosaic.picture[both].mean() > 225
    assert np.nanmin(mosaic.disagreement) == pytest.approx(120.0)


def test_cells_that_nobody_sees_are_black_and_counted_zero() -> None:
    pose = mounted(0.0)
    view = CameraView("a", np.full((300, 400, 3), 200, np.uint8), LENSES[0], pose)
    mosaic = make_mosaic([view], GRID)
    behind = GRID.centres()[..., 0] < 0
    assert not mosaic.count[behind].any()
    assert not mosaic.picture[behind].any()
    assert np.isnan(mosaic.disagreement).all()
    assert not make_mosaic([], GRID).picture.any()


def test_a_camera_below_the_ground_sees_none_of_it() -> None:
    view = CameraView("a", np.full((300, 400, 3), 200, np.uint8), LENSES[0], mounted(0.0, z=-1.0))
    assert not cast_to_ground(view, GRID)[1].any()


def test_every_image_is_cast_from_where_it_was_taken() -> None:
    """Two cameras 50 ms apart on a moving, turning car agree on the ground."""
    lens = LENSES[0]
    rig = Rig((Camera("early", lens, mounted(0.3)), Camera("late", lens, mounted(-0.3))))
    world_from_set = Pose.planar(100.0, 50.0, 0.7)
    moved = {"early": Pose.planar(-0.65, 0.01, -0.03), "late": Pose.planar(0.0, 0.0, 0.0)}
    frames = tuple(
        Frame(
            c.name, 0, paint(lens, moved[c.name] @ c.ego_from_camera), PixelFormat.BGR8, world_from_set @ moved[c.name]
        )
        for c in rig
    )
    frame_set = FrameSet(0, frames, world_from_set)
    np.testing.assert_allclose(set_from_ego(frame_set, "early").matrix, moved["early"].matrix, atol=1e-9)
    near = np.hypot(*np.moveaxis(GRID.centres(), -1, 0)) < 10
    mosaic = make_mosaic(views_of(frame_set, rig), GRID)
    overlap = near & (mosaic.count == 2)
    assert overlap.sum() > 100
    moving = np.nanmedian(mosaic.disagreement[overlap])
    still = FrameSet(0, tuple(Frame(f.camera, 0, f.data) for f in frames), world_from_set)
    assert moving < 0.5 * np.nanmedian(make_mosaic(views_of(still, rig), GRID).disagreement[overlap])


def test_absent_cameras_and_colour_orders() -> None:
    lens = LENSES[0]
    rig = Rig(tuple(Camera(name, lens, mounted(0.0)) for name in ("a", "b", "c", "d")))
    colour = np.zeros((300, 400, 3), np.uint8)
    colour[..., 0] = 200
    grey = np.full((450, 400), 126, np.uint8)
    grey[300:] = 128
    frames = (
        Frame("a", 0, colour, PixelFormat.RGB8),
        Frame("c", 0, colour[..., 0].copy(), PixelFormat.MONO8),
        Frame("d", 0, grey, PixelFormat.NV12),
    )
    views = list(views_of(FrameSet(0, frames, absences={"b": "dropped"}), rig))
    assert [view.name for view in views] == ["a", "c", "d"]
    assert views[0].image[0, 0].tolist() == [0, 0, 200]
    assert views[1].image[0, 0].tolist() == [200, 200, 200]
    assert views[2].image[0, 0].tolist() == [128, 128, 128]
