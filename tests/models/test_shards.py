import numpy as np
import pytest
from octobev.errors import DriveError
from octobev.models.shards import Shard, ShardSampler, read_shard, shard_path, write_shard


def shard(town, views=3):
    return Shard(
        np.full((views, 4, 6, 3), town, np.uint8),
        np.full((views, 4, 6), town, np.uint8),
        np.full((views, 2, 3), town, np.float16),
    )


def never():
    raise DriveError("never comes")


def sampler(folder, towns, wait=never, **changes):
    settings = {"seed": 1, "batch": 8, "steps_per_town": 2, "window": 3} | changes
    return ShardSampler(folder, towns, wait=wait, **settings)


@pytest.fixture
def folder(tmp_path):
    for town in range(6):
        write_shard(shard(town), shard_path(tmp_path, town))
    return tmp_path


def test_shard_survives_the_disk(tmp_path):
    write_shard(shard(7), tmp_path / "town.npz")
    read = read_shard(tmp_path / "town.npz")
    assert len(read) == 3
    for name in ("images", "labels", "depth_m"):
        written = getattr(shard(7), name)
        np.testing.assert_array_equal(getattr(read, name), written)
        assert getattr(read, name).dtype == written.dtype
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"not an archive"])
def test_broken_shard_is_named(tmp_path, content):
    path = tmp_path / "town.npz"
    path.write_bytes(content)
    with pytest.raises(DriveError, match=r"town\.npz: not a file of training frames"):
        read_shard(path)


def test_towns_come_into_use_one_after_another(folder):
    drawn = sampler(folder, [0, 1, 2, 3, 4, 5])
    assert drawn.towns_in_use(0) == [0, 1]
    assert drawn.towns_in_use(1) == [0, 1]
    assert drawn.towns_in_use(2) == [0, 1, 2]
    assert drawn.towns_in_use(4) == [1, 2, 3]
    assert drawn.towns_in_use(10) == [4, 5, 0]


def test_batches_come_from_the_towns_in_use(folder):
    batch = sampler(folder, [0, 1, 2, 3, 4, 5], batch=200).draw(4)
    assert set(batch.images[:, 0, 0, 0].tolist()) == {1, 2, 3}
    np.testing.assert_array_equal(batch.images[:, 0, 0, 0], batch.labels[:, 0, 0])
    np.testing.assert_array_equal(batch.labels[:, 0, 0], batch.depth_m[:, 0, 0])


def test_a_step_draws_the_same_batch_whatever_was_drawn_before(folder):
    one, other = sampler(folder, [0, 1, 2, 3]), sampler(folder, [0, 1, 2, 3])
    for step in range(5):
        one.draw(step)
    np.testing.assert_array_equal(one.draw(5).images, other.draw(5).images)


def test_a_missing_town_is_waited_for(tmp_path):
    write_shard(shard(0), shard_path(tmp_path, 0))
    waits = []

    def wait():
        waits.append(1)
        if len(waits) == 3:
            write_shard(shard(1), shard_path(tmp_path, 1))

    sampler(tmp_path, [0, 1], wait=wait).draw(0)
    assert len(waits) == 3


def test_a_town_that_never_comes_ends_the_training(tmp_path):
    with pytest.raises(DriveError, match="never comes"):
        sampler(tmp_path, [0]).draw(0)


def test_no_towns_are_refused(tmp_path):
    with pytest.raises(DriveError, match="must be at least 1"):
        sampler(tmp_path, [])
