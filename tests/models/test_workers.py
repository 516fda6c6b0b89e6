import pytest
from octobev.errors import DriveError
from octobev.models.sequences import read_sequences
from octobev.models.shelf import town_path
from octobev.models.workers import TownWorkers
from octobev.replay.rigs import reference_rig


def test_towns_that_are_there_are_not_drawn_again(tmp_path):
    town_path(tmp_path, 4).write_bytes(b"there")
    with (
        TownWorkers(tmp_path, [4], 64, 32) as workers,
        pytest.raises(DriveError, match="all towns are drawn, but a file of them is missing"),
    ):
        workers.wait()
    assert town_path(tmp_path, 4).read_bytes() == b"there"


def test_a_process_draws_what_is_missing(tmp_path):
    with TownWorkers(tmp_path / "new", [3], 64, 32) as workers:
        while not town_path(tmp_path / "new", 3).is_file():
            workers.wait()
    assert read_sequences(town_path(tmp_path / "new", 3)).images.shape[3:5] == (32, 64)


def test_a_process_draws_with_the_rigs_that_it_is_given(tmp_path):
    rig = reference_rig().select(("rear", "front_wide"))
    with TownWorkers(tmp_path, [3], 64, 32, rigs=(rig,)) as workers:
        while not town_path(tmp_path, 3).is_file():
            workers.wait()
    assert read_sequences(town_path(tmp_path, 3)).images.shape[2] == 2


def wait_for_ever(workers):
    while True:
        workers.wait()


def test_a_process_that_dies_is_noticed(tmp_path):
    with (
        TownWorkers(tmp_path, [0], 64, -1) as workers,
        pytest.raises(DriveError, match="process that draws towns ended with exit code"),
    ):
        wait_for_ever(workers)
