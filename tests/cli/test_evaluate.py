import json
import sys
from itertools import islice

import pytest
from octobev.cli import build
from octobev.errors import BundleError, DriveError, InvalidArgument, MissingDependency, RigError
from octobev.replay.open import open_drive
from octobev.replay.recorder import Recorder
from octobev.runtime.engine import Runtime
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


CLASS_KEYS = {
    "iou",
    "iou_visible",
    "iou_remembered",
    "iou_best_visible",
    "threshold_best",
    "f1_tolerant",
    "by_range_m",
}


def test_every_key_is_there_measured_or_null(drive):
    report = json.loads(run(drive, "--duration", "0.3", "--json").stdout)
    classes = {**report["road_layout"], "occupancy": report["occupancy"]}
    assert all(set(figures) >= CLASS_KEYS for figures in classes.values())
    assert set(report["calibration_error"]) == set(classes)
    assert all(0 <= error <= 1 for error in report["calibration_error"].values())
    assert set(report["corridor_direction_deg"]) == {"median", "p90"}
    assert set(report["intersections"]) == {"precision", "recall"}
    assert set(report["polylines"]) == {"lane_divider", "road_edge"}
    for figures in report["polylines"].values():
        assert set(figures["chamfer_ap"]) == {"0.5", "1.0", "1.5", "mean"}
        assert all(0 <= value <= 1 for value in figures["chamfer_ap"].values())
    assert report["settings"]["drives"] == [open_drive(drive).name]
    assert report["settings"]["variant"] in ("fp32", "int8")


def test_a_camera_left_out_costs_what_only_it_sees(drive):
    cameras = open_drive(drive).rig.names
    arguments = [word for name in cameras if name != "rear" for word in ("--without-camera", name)]
    whole, rear = (json.loads(run(drive, *options, "--json").stdout) for options in ([], arguments))
    assert rear["road_layout"]["drivable"]["iou"] < whole["road_layout"]["drivable"]["iou"] / 2
    assert len(rear["settings"]["without_cameras"]) == 7


def test_unknown_camera_is_refused(drive):
    result = run(drive, "--without-camera", "cellar")
    assert isinstance(result.exception, RigError)
    assert "camera must be one of front_main" in str(result.exception)


def test_wrong_pitch_costs(drive):
    right, wrong = (json.loads(run(drive, *more, "--json").stdout) for more in ([], ["--perturb-pitch-deg", "3"]))
    assert wrong["road_layout"]["drivable"]["iou_visible"] < right["road_layout"]["drivable"]["iou_visible"] - 0.02


def test_faults_of_a_seed_are_reproducible(drive):
    options = ["--perturb-mounting-deg", "1", "--odometry-noise", "5", "--odometry-noise-deg", "1"]
    first, second, other = (
        json.loads(run(drive, *options, "--seed", seed, "--json").stdout)["road_layout"] for seed in (1, 1, 2)
    )
    assert first == second != other


def test_variant_that_the_bundle_has_not(drive, fp32_bundle):
    report = run(drive, "--bundle", fp32_bundle, "--variant", "fp32", "--duration", "0.1", "--json")
    assert json.loads(report.stdout)["settings"]["variant"] == "fp32"
    result = run(drive, "--bundle", fp32_bundle, "--variant", "int8")
    assert isinstance(result.exception, BundleError)
    assert "must be int8, got fp32 only" in str(result.exception)


def test_interrupt_gives_what_was_done(drive, monkeypatch):
    def streamed(runtime, frame_sets, *, stream=Runtime.stream):
        yield from islice(stream(runtime, frame_sets), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Runtime, "stream", streamed)
    result = run(drive, drive, "--json")
    assert result.exit_code == 130
    report = json.loads(result.stdout)
    assert (report["frames"], report["interrupted"]) == (2, True)
    assert report["road_layout"]["drivable"]["iou"] > 0


def test_damaged_drive_is_said_to_be(drive, tmp_path):
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(drive.read_bytes()[: drive.stat().st_size * 3 // 4])
    result = run(cut, "--json")
    assert result.exit_code == 3
    assert "cut.mcap ends at byte" in json.loads(result.stdout)["truncated"][0]


def test_report_is_a_page_with_pictures(drive, tmp_path):
    pytest.importorskip("matplotlib")
    result = run(drive, "--report", tmp_path / "report", "--json")
    assert f"report: {tmp_path}/report/index.html" in result.stderr
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == json.loads(result.stdout)
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("data:image/svg+xml") == 4
    assert page.count("data:image/jpeg;base64,/9j/") == 2  # within two seconds: one best, one worst


def test_report_without_matplotlib_fails_before_the_work(drive, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(Runtime, "step", lambda *_: pytest.fail("worked in vain"))
    result = run(drive, "--report", tmp_path)
    assert isinstance(result.exception, MissingDependency)


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
