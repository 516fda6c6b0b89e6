"""`octobev rig refine`, and what `octobev evaluate --refine` says."""

import json

import pytest
from octobev.cli import build
from octobev.errors import RecordingError
from octobev.fusion.rig import read_rig, write_rig
from octobev.replay import refine as refinement
from octobev.replay.disturbance import Disturbance
from octobev.replay.open import open_drive
from octobev.replay.refine import Refinement
from typer.testing import CliRunner


def run(*arguments):
    return CliRunner().invoke(build(), [*map(str, arguments)])


@pytest.fixture
def half_a_degree(monkeypatch):
    """What would be found in a drive that is long enough; yields what was asked."""
    asked = {}

    def found(frame_sets, bundle, rig, *, threads=None, variant="auto", progress=None):
        asked.update(sets=len(list(frame_sets)), rig=rig)
        if progress is not None:
            progress(1, 2)
        refined = Disturbance(pitch_deg=-0.5).rig(rig)
        curve = ((0.0, 0.5), (0.5, 0.75), (1.0, 0.6))
        return Refinement(refined, True, None, 0.5, 0.03, 0.5, curve, 0.5, 0.75, 40, 48)

    monkeypatch.setattr(refinement, "refine_rig", found)
    return asked


def test_a_short_drive_is_not_enough_and_changes_nothing(drive, tmp_path):
    result = run("rig", "refine", drive, "--output", tmp_path / "rig.toml")
    assert result.exit_code == 3, result.output
    assert "not sure, nothing is changed: the drive must be at least 3 stretches" in result.stdout
    assert not (tmp_path / "rig.toml").exists()


def test_not_sure_as_json(drive):
    result = run("rig", "refine", drive, "--json")
    assert result.exit_code == 3, result.output
    report = json.loads(result.stdout)
    assert (report["sure"], report["applied_deg"], report["output"]) == (False, 0.0, None)
    assert report["standard_error_deg"] is None


def test_the_curve_the_cameras_and_the_file(drive, tmp_path, half_a_degree):
    result = run("rig", "refine", drive, "--output", tmp_path / "rig.toml")
    assert result.exit_code == 0, result.output
    assert "+0.500 deg  0.750  ######" in result.stdout
    assert "best of those tried" in result.stdout
    assert "pitch +0.500 deg, standard error 0.030" in result.stdout
    assert "all cameras turned by +0.500 deg: similarity 0.500 -> 0.750" in result.stdout
    assert half_a_degree["sets"] == 4
    assert read_rig(tmp_path / "rig.toml").names == open_drive(drive).rig.names


def test_a_file_is_not_overwritten_unless_told_so(drive, tmp_path, half_a_degree):
    (tmp_path / "rig.toml").write_text("mine")
    result = run("rig", "refine", drive, "--output", tmp_path / "rig.toml")
    assert isinstance(result.exception, RecordingError)
    assert "rig.toml: exists already; --force overwrites it" in str(result.exception)
    assert (tmp_path / "rig.toml").read_text() == "mine"
    assert run("rig", "refine", drive, "--output", tmp_path / "rig.toml", "--force").exit_code == 0


def test_a_place_that_cannot_be_written_is_found_before_the_work(drive, tmp_path, monkeypatch):
    monkeypatch.setattr(refinement, "refine_rig", lambda *_, **__: pytest.fail("it began"))
    for target, message in (("missing/rig.toml", "missing must be a folder"), (".", "must be a file, got a folder")):
        result = run("rig", "refine", drive, "--output", tmp_path / target, "--force")
        assert isinstance(result.exception, RecordingError)
        assert message in str(result.exception)


def test_sources_of_the_rig_file_stay(drive, tmp_path, half_a_degree):
    write_rig(open_drive(drive).rig, tmp_path / "rig.toml", {"rear": "rtsp://camera/1"})
    arguments = ("rig", "refine", drive, "--rig", tmp_path / "rig.toml", "--output", tmp_path / "new.toml")
    assert run(*arguments).exit_code == 0
    text = (tmp_path / "new.toml").read_text()
    assert text.count('source = "rtsp://camera/1"') == 1


def test_only_a_part_of_the_drive(drive, half_a_degree):
    assert run("rig", "refine", drive, "--duration", "0.25").exit_code == 0
    assert half_a_degree["sets"] == 2


def test_evaluation_with_what_was_found(drive, half_a_degree):
    result = run("evaluate", drive, "--perturb-pitch-deg", "0.5", "--refine", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["settings"]["refine"] is True
    assert report["refinements"][0]["applied_deg"] == 0.5
    right = json.loads(run("evaluate", drive, "--json").stdout)
    assert right["settings"]["refine"] is False
    assert right["refinements"] == []
    refined, known = (figures["road_layout"]["drivable"]["iou"] for figures in (report, right))
    assert refined == pytest.approx(known, abs=1e-3)  # the truth again, which nobody told it
