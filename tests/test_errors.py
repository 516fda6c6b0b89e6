import errno
import os

import pytest
from octobev.errors import unwritable


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", "folder must be a file, got a folder"),
        ("file/a", "file/a: file must be a folder, got a file"),
        ("file/a/b", "file/a/b: file must be a folder, got a file"),
        ("missing/a", "missing/a: missing must be a folder, got nothing of that name"),
        ("file", "file: exists already; --force overwrites it"),
    ],
)
def test_what_stands_in_the_way_of_a_file(here, path, message):
    with pytest.raises(OSError, match=r".") as caught:
        open(path, "x").close()
    assert unwritable(path, caught.value) == message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file", "file must be a folder, got a file"),
        ("file/a", "file/a: file must be a folder, got a file"),
        ("file/a/b", "file/a/b: file must be a folder, got a file"),
    ],
)
def test_what_stands_in_the_way_of_a_folder(here, path, message):
    with pytest.raises(OSError, match=r".") as caught:
        os.makedirs(path, exist_ok=True)
    assert unwritable(path, caught.value, folder=True) == message


@pytest.mark.parametrize("folder", [False, True])
def test_what_the_system_says_where_nothing_stands_in_the_way(here, folder):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert unwritable("folder/a", error, folder=folder) == "folder/a: cannot be written: No space left on device"
