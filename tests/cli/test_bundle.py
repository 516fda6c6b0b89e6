"""`octobev bundle info` and `verify`."""

from __future__ import annotations

import json

import pytest
from octobev.cli.bundle import app
from octobev.errors import BundleError, MissingFile
from octobev.runtime.bundle import REFERENCE_BUNDLE
from typer.testing import CliRunner

RUN = CliRunner()


def test_info_names_networks_and_outputs(write_bundle):
    result = RUN.invoke(app, ["info", str(write_bundle())])
    assert result.exit_code == 0
    for text in (
        "tiny 1.0  A bundle for tests",
        "variants  fp32 (runs here)",
        "8 x 6 cells of 1 m",
        "camera   32x16 rgb float32; cameras *; hydra.onnx",
        "topdown  lifts features",
        "of hydranet: road, line, obstacle",
        "cast out of segmentation: drivable, divider",
        "bright               raw           of hydranet",
    ):
        assert text in result.stdout


def test_without_a_path_it_is_the_bundle_that_is_shipped():
    result = RUN.invoke(app, ["info", "--json"])
    assert json.loads(result.stdout)["path"] == str(REFERENCE_BUNDLE)
    result = RUN.invoke(app, ["verify", "--json"])
    assert json.loads(result.stdout)["path"] == str(REFERENCE_BUNDLE)


def test_info_as_json_is_one_object(write_bundle):
    result = RUN.invoke(app, ["info", "--json", str(write_bundle())])
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert report["outputs"]["occupancy"] == "occupancy"
    assert report["manifest"]["networks"]["topdown"]["kind"] == "topdown"
    assert report["manifest"]["grid"]["x_max_m"] == 8.0
    assert len(report["sha256"]) == 64
    assert (report["variant"], report["variants"]) == ("fp32", ["fp32"])


def test_detections_are_named_and_verified(write_bundle, detection_manifest):
    path = str(write_bundle(detection_manifest))
    shown = RUN.invoke(app, ["info", path]).stdout
    assert "objects              detections    of hydranet: vehicle, pedestrian" in shown
    verified = RUN.invoke(app, ["verify", path])
    assert verified.exit_code == 0, verified.output
    assert "camera/camera/objects detections    boxes float32 [" in verified.stdout
    report = json.loads(RUN.invoke(app, ["verify", "--json", path]).stdout)
    (objects,) = [output for output in report["outputs"] if output["kind"] == "detections"]
    assert {name: dtype for name, (dtype, _) in objects["arrays"].items()} == {
        "boxes": "float32", "scores": "float32", "class_ids": "uint16",
    }  # fmt: skip
    assert objects["arrays"]["boxes"][1][1] == 4


def test_verify_runs_every_output_once(write_bundle):
    result = RUN.invoke(app, ["verify", str(write_bundle())])
    assert result.exit_code == 0, result.stdout
    assert "network   hydranet             CPUExecutionProvider" in result.stdout
    assert "camera/camera/segmentation" in result.stdout
    assert "tiny 1.0 is a good bundle" in result.stdout


def test_every_variant_is_verified(write_bundle, hydra_model, manifest_text):
    table = '\n[networks.hydranet.variants.int8]\nfile = "{file}"\nsha256 = "{sha256 of {file}}"\n'
    good, bad = (manifest_text + table.replace("{file}", file) for file in ("good.onnx", "bad.onnx"))
    path = write_bundle(good, {"good.onnx": hydra_model()}, name="good")
    assert "variants  fp32, int8\n" in RUN.invoke(app, ["verify", str(path)]).stdout
    assert set(json.loads(RUN.invoke(app, ["info", "--json", str(path)]).stdout)["variants"]) == {"fp32", "int8"}
    dark = bad.replace("scale = 0.0039", "scale = 0.0009")
    path = write_bundle(dark, {"bad.onnx": hydra_model(with_nan=True)}, name="bad")
    with pytest.raises(BundleError, match="bundle tiny, int8: outputs of a grey image must be valid, got depth/camera"):
        RUN.invoke(app, ["verify", str(path)], catch_exceptions=False, standalone_mode=False)


def test_verify_as_json_tells_types_and_shapes(write_bundle):
    report = json.loads(RUN.invoke(app, ["verify", "--json", str(write_bundle())]).stdout)
    outputs = {output["topic"]: output for output in report["outputs"]}
    assert report["ok"] is True
    assert report["providers"] == {"hydranet": ["CPUExecutionProvider"], "topdown": ["CPUExecutionProvider"]}
    assert outputs["road_layout"]["arrays"]["probability"] == ["float32", [2, 8, 6]]
    assert outputs["layout"]["kind"] == "road_layout"
    assert outputs["camera/camera/features"]["arrays"]["values"] == ["float32", [2, 4, 8]]
    assert {"onnxruntime", "numpy", "octobev"} <= set(report["versions"])


def test_verify_uses_the_cameras_that_the_manifest_names(write_bundle, manifest_text):
    named = manifest_text.replace('cameras = ["*"]', 'cameras = ["left", "right"]')
    report = json.loads(RUN.invoke(app, ["verify", "--json", str(write_bundle(named))]).stdout)
    topics = [output["topic"] for output in report["outputs"]]
    assert "camera/left/depth" in topics
    assert "camera/right/depth" in topics


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("width = 32", "widht = 32", "unknown key at networks.hydranet.input: widht"),
        ('tensor = "image"', 'tensor = "picture"', "networks.hydranet.input.tensor must be an input of the ONNX file"),
        ('tensor = "lifted"', 'tensor = "lift"', "lift"),
    ],
)
def test_bad_bundle_is_exit_code_1_and_says_why(write_bundle, manifest_text, old, new, match):
    path = write_bundle(manifest_text.replace(old, new, 1))
    result = RUN.invoke(app, ["verify", str(path)])
    assert result.exit_code == 1
    assert isinstance(result.exception, BundleError)
    assert match in str(result.exception)
    result = RUN.invoke(app, ["verify", "--json", str(path)])
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert report["ok"] is False
    assert match in report["error"]


def test_bundle_whose_network_gives_nan_is_refused(write_bundle, hydra_model, manifest_text):
    dark = manifest_text.replace("scale = 0.0039", "scale = 0.0009")
    path = write_bundle(dark, {"hydra.onnx": hydra_model(with_nan=True)})
    with pytest.raises(BundleError, match="outputs of a grey image must be valid, got depth/camera: network gave NaN"):
        RUN.invoke(app, ["verify", str(path)], catch_exceptions=False, standalone_mode=False)


def test_missing_bundle_is_a_missing_file(tmp_path):
    result = RUN.invoke(app, ["info", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert isinstance(result.exception, MissingFile)


def test_info_says_by_what_cameras_are_levelled(write_bundle):
    result = RUN.invoke(app, ["info"])
    assert "levelled  by horizon" in result.stdout
    assert "levelled" not in RUN.invoke(app, ["info", str(write_bundle())]).stdout
