import pytest
from octobev.errors import DriveError
from octobev.models.shelf import Shelf, town_path


def never():
    raise DriveError("never comes")


def shelf(folder, towns, wait=never, **changes):
    settings = {"steps_per_file": 2, "window": 3} | changes
    files = [town_path(folder, town) for town in towns]
    return Shelf(files, lambda path: path.read_text(), wait=wait, **settings)


@pytest.fixture
def folder(tmp_path):
    for town in range(6):
        town_path(tmp_path, town).write_text(str(town))
    return tmp_path


def in_use(towns, step):
    return [int(path.read_text()) for path in towns.in_use(step)]


def test_files_come_into_use_one_after_another(folder):
    towns = shelf(folder, [0, 1, 2, 3, 4, 5])
    assert in_use(towns, 0) == [0, 1]
    assert in_use(towns, 1) == [0, 1]
    assert in_use(towns, 2) == [0, 1, 2]
    assert in_use(towns, 4) == [1, 2, 3]
    assert in_use(towns, 10) == [4, 5, 0]


def test_files_that_are_there_already_are_all_in_use_at_once(folder):
    assert in_use(shelf(folder, [0, 1, 2], first=3), 0) == [0, 1, 2]
    assert in_use(shelf(folder, [0, 1, 2, 3, 4], first=3), 0) == [0, 1, 2]
    assert in_use(shelf(folder, [0, 1, 2, 3, 4], first=3), 2) == [1, 2, 3]


def test_a_file_is_read_once_while_it_is_in_use(folder):
    towns = shelf(folder, [0, 1, 2], window=1)
    one, two, three = towns.files
    assert towns.open(two) == "1"
    two.write_text("changed")
    assert towns.open(two) == "1"
    for other in (one, three):
        towns.open(other)
    assert towns.open(two) == "changed"


def test_a_missing_file_is_waited_for(tmp_path):
    waits = []

    def wait():
        waits.append(1)
        if len(waits) == 3:
            town_path(tmp_path, 1).write_text("here")

    towns = shelf(tmp_path, [0, 1], wait=wait)
    assert towns.open(town_path(tmp_path, 1)) == "here"
    assert len(waits) == 3


def test_a_file_that_never_comes_ends_the_training(tmp_path):
    with pytest.raises(DriveError, match="never comes"):
        shelf(tmp_path, [0]).open(town_path(tmp_path, 0))


def test_no_files_are_refused(tmp_path):
    with pytest.raises(DriveError, match="must be at least 1"):
        shelf(tmp_path, [])
