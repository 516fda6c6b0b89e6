import json

import pytest
from octobev.cli import build
from octobev.errors import DriveError, InvalidArgument
from octobev.replay.open import open_drive
from octobev.replay.recorder import Recorder
from typer.testing import CliRunner


def run(*arguments):
    return CliRunner().invoke(build(), ["evaluate", *map(str, arguments)])


def test_report_as_json(drive):
    result = run(drive, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["frames"] == 4
    drivable = report["road_layout"]["drivable"]
    assert 0.5 < drivable["iou_visible_20m"] <= 1
    assert {"iou", "iou_visible", "iou_best_visible", "threshold_best", "by_range_m"} <= set(drivable)
    assert 0 <= report["occupancy"]["iou_visible"] <= 1


def test_warm_up_does_not_count(drive):
    assert json.loads(run(drive, drive, "--warm-up", "3", "--json").stdout)["frames"] == 2


def test_readable_table(drive):
    result = run(drive, "--duration", "0.2")
    assert "2 sets" in result.stdout
    assert "drivable" in result.stdout


def test_drive_without_truth_is_refused(drive, tmp_path):
    source = open_drive(drive)
    with Recorder(tmp_path / "plain.mcap", source.rig) as recorder:
        for step in source.steps():
            recorder.write_frames(step.frame_set)
    result = run(tmp_path / "plain.mcap")
    assert isinstance(result.exception, DriveError)
    assert "a drive to evaluate must be one with ground truth" in str(result.exception)


@pytest.mark.parametrize("name", ["synth:", "synth:x"])
def test_seed_must_be_a_number(name):
    result = run(name)
    assert isinstance(result.exception, InvalidArgument)
    assert "seed of a synthetic drive must be a whole number" in str(result.exception)
