import numpy as np
import pytest
from octobev.errors import DriveError
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera
from octobev.models.data import TownWorkers, coarse_depth, cut_middle, draw_image, draw_town
from octobev.models.mountings import EGO_FROM_OPTICAL
from octobev.models.shards import Shard, shard_path, write_shard
from octobev.replay.render import CLASSES, View


def test_middle_of_a_tall_image():
    image = np.broadcast_to(np.arange(240, dtype=np.uint8)[:, None, None], (240, 320, 3))
    middle = cut_middle(image, 320 / 192)
    assert middle.shape == (192, 320, 3)
    assert middle[0, 0, 0] == 24


def test_middle_of_a_wide_image():
    image = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (60, 200, 3))
    middle = cut_middle(image, 320 / 192)
    assert middle.shape == (60, 100, 3)
    assert middle[0, 0, 0] == 50


def test_coarse_depth_is_the_geometric_mean():
    depth = np.array([[2.0, 8.0, 5.0, 5.0], [2.0, 8.0, 5.0, np.inf]], np.float32)
    np.testing.assert_allclose(coarse_depth(depth), [[4.0, 10.0]], rtol=1e-3)


def test_towns_that_are_there_are_not_drawn_again(tmp_path):
    empty = np.zeros((1, 2, 2), np.uint8)
    write_shard(Shard(empty[..., None].repeat(3, -1), empty, empty.astype(np.float16)), shard_path(tmp_path, 4))
    with (
        TownWorkers(tmp_path, [4], 320, 192) as workers,
        pytest.raises(DriveError, match="all towns are drawn, but a file of training frames is missing"),
    ):
        workers.wait()


class SlopeRenderer:
    """Draws blue for the camera's ray to the right and red for the ray downwards."""

    def render(self, camera, world_from_ego, timestamp_ns):
        lens = camera.intrinsics
        v, u = np.mgrid[0 : lens.height, 0 : lens.width].astype(float)
        image = np.zeros((lens.height, lens.width, 3), np.uint8)
        image[..., 0] = np.clip(128 + 100 * (u - lens.cx) / lens.fx, 0, 255)
        image[..., 2] = np.clip(128 + 100 * (v - lens.cy) / lens.fy, 0, 255)
        return View(image)


@pytest.mark.parametrize("jpeg", [True, False])
def test_pixels_look_where_the_lens_of_the_network_says(jpeg):
    camera = Camera("a", Intrinsics(1280, 960, 640.0, 640.0, 639.5, 479.5), EGO_FROM_OPTICAL)
    image = draw_image(SlopeRenderer(), camera, Pose.identity(), 0, (320, 192), jpeg).astype(float)
    assert image.shape == (192, 320, 3)
    v, u = np.mgrid[0:192, 0:320]
    for channel, wanted in ((2, 128 + 100 * (u - 159.5) / 160), (0, 128 + 100 * (v - 95.5) / 160)):
        error = (image[..., channel] - wanted)[4:-4, 4:-4]
        assert abs(error.mean()) < 0.6  # a pixel is 0.6 levels
        assert np.abs(error).mean() < 3.0


def test_town_is_drawn_with_its_truth():
    shard = draw_town(0, 64, 32, poses=3)
    assert len(shard) == 24
    assert shard.images.shape == (24, 32, 64, 3)
    assert shard.labels.shape == (24, 32, 64)
    assert shard.depth_m.shape == (24, 16, 32)
    seen = set(np.unique(shard.labels).tolist())
    assert {CLASSES.index(name) for name in ("other", "drivable", "obstacle")} <= seen <= set(range(len(CLASSES)))
    assert (shard.depth_m > 0).all()
    assert shard.depth_m.max() == 80.0
    drivable = shard.labels[:, ::2, ::2] == CLASSES.index("drivable")
    assert np.median(shard.depth_m[drivable]) < 20.0
