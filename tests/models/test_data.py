import numpy as np
import pytest
from octobev.errors import DriveError
from octobev.models.data import TownWorkers, coarse_depth, cut_middle
from octobev.models.shards import Shard, shard_path, write_shard


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
