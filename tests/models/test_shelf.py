import pytest
from octobev.errors import DriveError
from octobev.models.shelf import TownShelf, town_path


def never():
    raise DriveError("never comes")


def shelf(folder, towns, wait=never, **changes):
    settings = {"steps_per_town": 2, "window": 3} | changes
    return TownShelf(folder, towns, lambda path: path.read_text(), wait=wait, **settings)


@pytest.fixture
def folder(tmp_path):
    for town in range(6):
        town_path(tmp_path, town).write_text(str(town))
    return tmp_path


def test_towns_come_into_use_one_after_another(folder):
    towns = shelf(folder, [0, 1, 2, 3, 4, 5])
    assert towns.towns_in_use(0) == [0, 1]
    assert towns.towns_in_use(1) == [0, 1]
    assert towns.towns_in_use(2) == [0, 1, 2]
    assert towns.towns_in_use(4) == [1, 2, 3]
    assert towns.towns_in_use(10) == [4, 5, 0]


def test_a_town_is_read_once_while_it_is_in_use(folder):
    towns = shelf(folder, [0, 1, 2], window=1)
    assert towns.open(1) == "1"
    town_path(folder, 1).write_text("changed")
    assert towns.open(1) == "1"
    for town in (2, 3):
        towns.open(town)
    assert towns.open(1) == "changed"


def test_a_missing_town_is_waited_for(tmp_path):
    waits = []

    def wait():
        waits.append(1)
        if len(waits) == 3:
            town_path(tmp_path, 1).write_text("here")

    assert shelf(tmp_path, [0, 1], wait=wait).open(1) == "here"
    assert len(waits) == 3


def test_a_town_that_never_comes_ends_the_training(tmp_path):
    with pytest.raises(DriveError, match="never comes"):
        shelf(tmp_path, [0]).open(0)


def test_no_towns_are_refused(tmp_path):
    with pytest.raises(DriveError, match="must be at least 1"):
        shelf(tmp_path, [])
