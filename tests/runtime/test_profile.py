from __future__ import annotations

import logging
import sys
from pathlib import Path

import msgspec
import pytest
from octobev.errors import ProfileError
from octobev.runtime.bundle import open_bundle
from octobev.runtime.profile import (
    Choice,
    Machine,
    Measured,
    Profile,
    find_profile,
    forget_profiles,
    profile_directory,
    read_profile,
    write_profile,
)

HERE = Machine("A processor", 4, "1.32.0", ("CPUExecutionProvider",))
CHOICE = Choice("fp32", ("CPUExecutionProvider",), 4, 2)
MEASURED = Measured("2026-01-02T03:04:05Z", "0.1.0", "synthetic-1", "2 of 32x16", 10.0, 20.0)


@pytest.fixture
def bundle(write_bundle):
    return open_bundle(write_bundle())


def profile_of(bundle, machine: Machine = HERE, choice: Choice = CHOICE) -> Profile:
    return Profile(1, bundle.manifest.name, bundle.sha256, machine, choice, MEASURED)


def test_what_is_written_is_found_on_the_same_machine(bundle, tmp_path):
    profile = profile_of(bundle)
    path = write_profile(profile, tmp_path / "new" / "folder")
    assert path.parent == tmp_path / "new" / "folder"
    assert path.name.startswith("tiny-")
    assert find_profile(bundle, path.parent, HERE) == profile
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing temporary stays
    assert '\n  "choice": {\n' in path.read_text(encoding="utf-8")  # people can read it


def test_each_machine_has_a_file_of_its_own(bundle, tmp_path):
    other = msgspec.structs.replace(HERE, cpus=8)
    write_profile(profile_of(bundle), tmp_path)
    write_profile(profile_of(bundle, other), tmp_path)
    assert find_profile(bundle, tmp_path, other) == profile_of(bundle, other)
    assert find_profile(bundle, tmp_path, HERE) == profile_of(bundle)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("onnxruntime", "1.31.0", "onnxruntime 1.31.0, here 1.32.0"),
        ("cpu", "Another", "cpu Another, here A processor"),
        ("cpus", 8, "cpus 8, here 4"),
        ("providers", ("X", "Y"), "providers X, Y, here CPUExecutionProvider"),
    ],
)
def test_profile_of_another_machine_is_left_alone_with_a_word(bundle, tmp_path, caplog, field, value, message):
    write_profile(profile_of(bundle, msgspec.structs.replace(HERE, **{field: value})), tmp_path)
    with caplog.at_level(logging.INFO, "octobev.runtime.profile"):
        assert find_profile(bundle, tmp_path, HERE) is None
    assert message in caplog.text
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_file_that_was_carried_here_under_the_right_name_is_looked_into(bundle, tmp_path, caplog):
    elsewhere = write_profile(profile_of(bundle, msgspec.structs.replace(HERE, cpus=8)), tmp_path)
    elsewhere.rename(tmp_path / profile_of(bundle).name)
    with caplog.at_level(logging.INFO, "octobev.runtime.profile"):
        assert find_profile(bundle, tmp_path, HERE) is None
    assert "of another machine: cpus 8, here 4" in caplog.text


def test_changed_bundle_has_no_profile(bundle, write_bundle, manifest_text, tmp_path):
    write_profile(profile_of(bundle), tmp_path)
    changed = open_bundle(write_bundle(manifest_text.replace('version = "1.0"', 'version = "1.1"'), name="changed"))
    assert find_profile(changed, tmp_path, HERE) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "not a profile: Input data was truncated"),
        (lambda text: "", "not a profile"),
        (lambda text: text.replace('"schema": 1', '"schema": 2'), "schema must be 1, got 2"),
        (lambda text: text.replace('"threads": 4', '"threads": 5'), "choice.threads must be at most the 4 CPUs, got 5"),
        (
            lambda text: text.replace('"threads": 4', '"threads": 0'),
            "threads must be at least 1, got 0 - at `$.choice`",
        ),
        (lambda text: text.replace('"runs_at_once": 2', '"runs_at_once": 9'), "runs_at_once must be 1..4"),
        (lambda text: text.replace('"batch": 1', '"batch": 0'), "batch must be 1..1024, got 0"),
        (lambda text: text.replace('"batch"', '"bacth"'), "unknown field `bacth` - at `$.choice`"),
        (lambda text: text.replace('"fp32"', '"fp8"'), "Invalid enum value 'fp8' - at `$.choice.variant`"),
        (lambda text: text + " " * (1 << 16), "size must be at most 65536 bytes"),
    ],
)
def test_broken_profile_is_not_used_and_a_warning_says_why(bundle, tmp_path, caplog, change, message):
    path = write_profile(profile_of(bundle), tmp_path)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert find_profile(bundle, tmp_path, HERE) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(path) in record.getMessage()
    assert message in record.getMessage()
    assert "octobev bundle tune" in record.getMessage()


def test_profile_that_is_no_file_is_an_error_of_its_own(bundle, tmp_path):
    (tmp_path / profile_of(bundle).name).mkdir()
    with pytest.raises(ProfileError, match="Is a directory"):
        read_profile(tmp_path / profile_of(bundle).name)
    assert find_profile(bundle, tmp_path, HERE) is None


def test_failure_to_write_leaves_the_old_profile(bundle, tmp_path, monkeypatch):
    path = write_profile(profile_of(bundle), tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ProfileError, match=r"\.json: No space left on device"):
        write_profile(profile_of(bundle, choice=Choice("fp32", ("CPUExecutionProvider",), 1, 1)), tmp_path)
    assert read_profile(path) == profile_of(bundle)
    assert [file for file in tmp_path.iterdir() if file.is_file()] == [path]


def test_directory_that_cannot_be_made_is_a_clear_error(bundle, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(
        ProfileError, match=r"no place for profiles: .*/file/profiles: .*/file must be a folder, got a file"
    ):
        write_profile(profile_of(bundle), tmp_path / "file" / "profiles")


def test_forgetting_removes_those_of_all_machines_and_of_no_other_bundle(bundle, write_bundle, manifest_text, tmp_path):
    other = open_bundle(write_bundle(manifest_text.replace('version = "1.0"', 'version = "1.1"'), name="other"))
    directory = tmp_path / "profiles"
    write_profile(profile_of(bundle), directory)
    write_profile(profile_of(bundle, msgspec.structs.replace(HERE, cpus=8)), directory)
    stays = write_profile(profile_of(other), directory)
    assert len(forget_profiles(bundle, directory)) == 2
    assert list(directory.iterdir()) == [stays]
    assert forget_profiles(bundle, directory) == ()


@pytest.mark.skipif(sys.platform != "linux", reason="where the system keeps such files")
@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({"OCTOBEV_PROFILES": "off"}, None),
        ({"OCTOBEV_PROFILES": "/somewhere"}, Path("/somewhere")),
        ({"XDG_STATE_HOME": "/state"}, Path("/state/octobev/profiles")),
        ({"OCTOBEV_PROFILES": "", "XDG_STATE_HOME": "relative"}, Path.home() / ".local/state/octobev/profiles"),
        ({}, Path.home() / ".local/state/octobev/profiles"),
    ],
)
def test_directory_of_profiles(environment, directory):
    assert profile_directory(environment) == directory


def test_without_a_place_for_profiles_none_is_found_and_none_written(bundle):
    assert profile_directory() is None  # as conftest.py has it
    assert find_profile(bundle) is None
    with pytest.raises(ProfileError, match="no place for profiles: OCTOBEV_PROFILES=off"):
        write_profile(profile_of(bundle))
