"""`octobev bundle tune`, and who takes its profile."""

from __future__ import annotations

import json

import pytest
from octobev.bench.spread import Turns
from octobev.bench.tuning import tuner
from octobev.cli import build, bundle_tune
from octobev.errors import DriveError, MissingFile, ProfileError, RigError
from octobev.fusion.rig import write_rig
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.profile import find_profile, read_profile
from typer.testing import CliRunner


def run(*arguments):
    return CliRunner().invoke(build(), ["bundle", "tune", *map(str, arguments)])


@pytest.fixture
def rig_file(make_rig, tmp_path):
    path = tmp_path / "rig.toml"
    write_rig(make_rig("front", "left"), path)
    return path


@pytest.fixture
def bundle(write_bundle, monkeypatch):
    """The tiny bundle, measured no longer than must be, on four CPUs."""
    monkeypatch.setattr(bundle_tune, "_SECONDS", {False: 0.0, True: 0.0})
    for module in ("settle", "profile"):
        monkeypatch.setattr(f"octobev.runtime.{module}.usable_cpus", lambda: 4)
    return write_bundle()


@pytest.fixture
def one_after_another_is_fast(monkeypatch):
    """Figures that do not depend on this machine: one camera after another takes half the time."""

    def turns(sides, rounds, **_):
        return Turns({side: (50.0 if '"runs_at_once":1' in side else 100.0,) * rounds for side in sides})

    monkeypatch.setattr(tuner, "take_turns", turns)


def test_it_measures_and_a_runtime_takes_the_profile(bundle, drive, make_rig, profiles, one_after_another_is_fast):
    result = run(bundle, "--drive", drive)
    assert result.exit_code == 0, result.output
    for text in (
        "tiny 1.0: A bundle for tests",
        "8 cameras of 320x240, frames of ",
        "> fp32 on CPU",
        "> 4 threads, one camera after another",
        "the networks do not leave open how many images a run takes",
        "fastest: fp32 on CPU; 4 threads, one camera after another: 50.0 ms a set, 2.00 times as fast as without",
        "results stay the same to the bit",
    ):
        assert text in result.stdout
    (path,) = profiles.iterdir()
    assert f"profile: {path}" in result.stdout
    profile = read_profile(path)
    assert (profile.choice.threads, profile.choice.runs_at_once, profile.choice.variant) == (4, 1, "fp32")
    assert (profile.measured.step_ms, profile.measured.default_step_ms) == (50.0, 100.0)
    with Runtime(open_bundle(bundle), make_rig("front")) as runtime:
        assert runtime.provenance.profile == path.name
        assert runtime.arrangement.runs_at_once == 1
    info = CliRunner().invoke(build(), ["bundle", "info", str(bundle)]).stdout
    assert "profile   fp32 on CPU; 4 threads, one camera after another; 50 ms a set of 8 cameras of 320x240, 20" in info
    described = json.loads(CliRunner().invoke(build(), ["bundle", "info", "--json", str(bundle)]).stdout)
    assert described["profile"]["choice"]["runs_at_once"] == 1


def test_it_measures_for_real(bundle, rig_file, profiles):
    result = run(bundle, "--rig", rig_file, "--threads", 2, "--quick", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["written"] == str(*profiles.iterdir())
    assert [question["name"] for question in report["questions"]][:3] == ["networks", "cameras at once", "threads"]
    trials = report["questions"][1]["trials"]
    assert [(trial["threads"], trial["runs_at_once"]) for trial in trials] == [(2, 2), (2, 1)]
    assert all(trial["step_ms"]["median"] > 0 and trial["refused"] is None for trial in trials)
    assert report["profile"]["machine"]["cpus"] == 4
    assert report["profile"]["choice"]["threads"] <= 2
    assert report["machine"]["packages"]["onnxruntime"] == report["profile"]["machine"]["onnxruntime"]


def test_a_drive_is_measured_on_its_own_frames(bundle, drive, profiles):
    result = run(bundle, "--drive", drive, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "8 cameras of 320x240, frames of" in result.stdout
    assert "nothing was written (--dry-run)" in result.stdout
    assert not profiles.exists()


def test_dry_run_needs_no_place_for_profiles(bundle, drive):
    assert run(bundle, "--drive", drive, "--dry-run", "--threads", 1).exit_code == 0


def test_interruption_leaves_the_old_profile(bundle, drive, profiles, monkeypatch, one_after_another_is_fast):
    run(bundle, "--drive", drive)
    (path,) = profiles.iterdir()
    before = path.read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuner, "take_turns", interrupted)
    result = run(bundle, "--drive", drive)
    assert result.exit_code == 130
    assert "interrupted; no profile was written, one that was there stays" in result.stderr
    assert list(profiles.iterdir()) == [path]
    assert path.read_bytes() == before


def test_measuring_does_not_look_at_the_old_profile(bundle, drive, profiles, one_after_another_is_fast):
    first, second = (json.loads(run(bundle, "--drive", drive, "--json").stdout) for _ in range(2))
    assert first["profile"]["choice"] == second["profile"]["choice"]
    assert first["default_step_ms"] == second["default_step_ms"]


def test_forgetting(bundle, drive, profiles, one_after_another_is_fast):
    run(bundle, "--drive", drive)
    (path,) = profiles.iterdir()
    assert run(bundle, "--forget").stdout == f"removed {path}\n"
    assert find_profile(open_bundle(bundle)) is None
    assert run(bundle, "--forget").stdout == "there was no profile of this bundle\n"
    assert json.loads(run(bundle, "--forget", "--json").stdout) == {"forgotten": []}


def test_another_variant_is_never_taken_in_silence(
    bundle, write_bundle, manifest_text, hydra_model, drive, profiles, monkeypatch
):
    table = '[networks.hydranet.variants.int8]\nfile = "h8.onnx"\nsha256 = "{sha256 of h8.onnx}"\n'
    both = write_bundle(manifest_text + table, {"h8.onnx": hydra_model()}, name="both")
    for name in ("octobev.bench.tuning.judge.fast_int8", "octobev.runtime.variants.fast_int8"):
        monkeypatch.setattr(name, lambda: ("avx512_vnni",))

    def turns(sides, rounds, **_):
        return Turns({side: (50.0 if '"fp32"' in side else 100.0,) * rounds for side in sides})

    monkeypatch.setattr(tuner, "take_turns", turns)
    result = run(both, "--drive", drive)
    assert "RESULTS CHANGE: networks run in fp32 on CPU from now on, until now in int8 on CPU" in result.stdout
    assert "from fp32: at most 0, in" in result.stdout
    assert read_profile(*profiles.iterdir()).choice.variant == "fp32"
    fixed = run(both, "--drive", drive, "--variant", "int8")
    assert "RESULTS CHANGE" not in fixed.stdout
    assert read_profile(*profiles.iterdir()).choice.variant == "int8"


def test_what_cannot_be_measured_is_said_before_anything_is(bundle, write_bundle, manifest_text, rig_file, tmp_path):
    with pytest.raises(ProfileError, match="no place for profiles: OCTOBEV_PROFILES=off"):
        fail(bundle, "--rig", rig_file)
    with pytest.raises(RigError, match=r"rig must be reference, six, fisheye or a rig\.toml, got 'seven'"):
        fail(bundle, "--rig", "seven", "--dry-run")
    with pytest.raises(MissingFile, match="no such bundle directory"):
        fail(tmp_path / "nowhere")
    with pytest.raises(MissingFile, match="no such drive"):
        fail(bundle, "--drive", tmp_path / "nowhere.mcap", "--dry-run")
    named = write_bundle(manifest_text.replace('cameras = ["*"]', 'cameras = ["rear"]'), name="named")
    with pytest.raises(RigError, match="rear"):
        fail(named, "--rig", rig_file, "--dry-run")


def test_drive_without_the_cameras_of_the_rig(bundle, rig_file, drive):
    with pytest.raises(DriveError, match="at least one with a frame of front, left, got none"):
        fail(bundle, "--drive", drive, "--rig", rig_file, "--dry-run")


def test_place_that_cannot_be_written_is_said_before_measuring(bundle, rig_file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("OCTOBEV_PROFILES", str(tmp_path / "file" / "profiles"))
    with pytest.raises(ProfileError, match=r"no place for profiles: .* must be a folder, got a file"):
        fail(bundle, "--rig", rig_file)


def fail(*arguments):
    CliRunner().invoke(build(), ["bundle", "tune", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)
