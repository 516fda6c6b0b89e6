"""The bundle: what a manifest may say, which files it may name, and what must run for what."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from octobev.errors import BundleError, InvalidArgument, MissingFile, RigError
from octobev.runtime.bundle import decode_manifest, open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.manifest import CameraNetwork, TopDownNetwork


def test_tiny_bundle_opens_with_typed_tables(write_bundle):
    path = write_bundle()
    bundle = open_bundle(path)
    manifest = bundle.manifest
    assert bundle.sha256 == hashlib.sha256((path / "bundle.toml").read_bytes()).hexdigest()
    assert isinstance(manifest.networks["hydranet"], CameraNetwork)
    assert isinstance(manifest.networks["topdown"], TopDownNetwork)
    assert manifest.grid.shape == (8, 6)
    assert manifest.castouts["road_layout"].classes == {"drivable": ("road", "line"), "divider": ("line",)}
    assert manifest.castouts["occupancy"].bev_classes == ("occupied",)
    assert manifest.networks["topdown"].lifts[0].weighting == "resolution"
    assert manifest.runtime.providers[0].name == "CPUExecutionProvider"


def test_path_of_the_manifest_itself_opens_the_bundle(write_bundle):
    assert open_bundle(write_bundle() / "bundle.toml").manifest.name == "tiny"


def test_opening_a_bundle_loads_neither_onnx_runtime_nor_opencv(write_bundle):
    code = (
        "import sys, octobev; octobev.open_bundle(sys.argv[1]).plan();"
        "print([name for name in ('onnxruntime', 'onnx', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(write_bundle())], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_outputs_are_listed_with_their_kinds(write_bundle):
    assert open_bundle(write_bundle()).outputs == {
        "features": "features",
        "segmentation": "segmentation",
        "depth": "depth",
        "bright": "raw",
        "layout": "road_layout",
        "road_layout": "road_layout",
        "occupancy": "occupancy",
    }


def test_missing_directory_and_missing_manifest_are_missing_files(tmp_path):
    with pytest.raises(MissingFile, match="no such bundle directory"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(MissingFile, match="a bundle is a directory with bundle"):
        open_bundle(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("width = 32", "widht = 32", r"bundle.toml: unknown key at networks.hydranet.input: widht \(did you mean wid"),
        ("[grid]", "zzz = 1\n[grid]", r"unknown key: zzz \(known: schema, name"),
        ("width = 32", 'width = "32"', r"networks\.hydranet\.input\.width must be a whole number, got '32'"),
        ("width = 32", "width = true", r"input\.width must be a whole number, got True"),
        ("width = 32", "width = 0", r"networks\.hydranet\.input: width must be 1\.\.16384, got 0"),
        ("width = 32\nheight = 16", "width = 16384\nheight = 16384", r"width \* height must be at most 33554432"),
        ("resolution_m = 1.0", "resolution_m = 0.001", r"grid: cells must be at most 16777216, got 48000000"),
        ("width = 32\n", "", r"networks\.hydranet\.input\.width: missing key"),
        ("scale = 0.00392156862745098", "scale = nan", r"input\.scale must be finite, got nan"),
        ("scale = 0.00392156862745098", "std = [1, 0, 1]", r"std must be without zeros"),
        ("scale = 0.00392156862745098", "mean = [1, 0]", r"mean must be 3 numbers for rgb, got 2"),
        ("scale = 0.00392156862745098", "fill = 300", r"fill must be 0\.\.255, got 300"),
        ('dtype = "float32"', 'dtype = "uint8"', r"scale, mean and std must be left out for a uint8 input"),
        ('dtype = "float32"', 'dtype = "float"', r"input\.dtype must be one of uint8, float32, got 'float'"),
        ('colour = "rgb"', 'colour = "rgb"\nundistort = true\nsampling = "area"', r'sampling must be "bilinear"'),
        ('kind = "camera"', 'kind = "kamera"', r"hydranet\.kind must be one of camera, topdown, got 'kamera'"),
        ("schema = 1", "schema = 2", r"schema must be 1, got 2"),
        ("resolution_m = 1.0", "resolution_m = 0.7", r"grid: grid extent in x must be a whole number of cells"),
        ("stride = 4\n\n", "stride = 5\n\n", r"features\.stride must be a divisor of the input size 32x16"),
        ("stride = 4\n\n", "\n", r"stride must be given for kind features, got nothing"),
        ('classes = ["road", "line", "obstacle"]\n', "", r"classes must be one name per channel for kind segm"),
        ('"road", "line", "obstacle"]', '"road", "road", "obstacle"]', r"classes must be unique, got road more"),
        ('activation = "softmax"', 'activation = "exp"', r"activation must be none or sigmoid or softmax for"),
        ('activation = "exp"', 'activation = "softmax"', r"activation must be none or exp for kind depth"),
        ('tensor = "bright"', 'tensor = "bright"\nstride = 4', r"stride and classes must be left out for kind raw"),
        ('tensor = "bright"', 'tensor = "logits"', r"outputs' tensors must be unique, got logits more than once"),
        ("outputs.bright]", 'outputs."bri/ght"]', r"must be named with letters, digits and '_' only, got 'bri/ght'"),
        ("outputs.bright]", "outputs.health]", r"must be named other than camera, health, rig, got 'health'"),
        ("outputs.bright]", "outputs.layout]", r"outputs\.layout must be named once in the bundle, got also networks"),
        ("[castouts.occupancy]", "[castouts.layout]", r"castouts\.layout must be named once in the bundle"),
        ('source = "features"', 'source = "depth"', r"lifts\[0\].source must be .* kind features .*, got depth of"),
        ('source = "features"', 'source = "nothing"', r"source must be an output of kind features \(features\), got"),
        ("heights_m = [0.0, 1.0]", "heights_m = []", r"heights_m must be not empty"),
        ("heights_m = [0.0, 1.0]", "heights_m = 0.0", r"lifts\[0\]\.heights_m must be a list, got 0\.0"),
        ('input = "state"', 'input = "lifted"', r"input tensors must be unique, got lifted more than once"),
        ('source = "segmentation"\nclasses', 'source = "depth"\nclasses', r"castouts\.road_layout\.source must be"),
        ('divider = ["line"]', 'divider = ["lane"]', r"classes\.divider must be .* \(road, line, obstacle\), got lane"),
        ('divider = ["line"]', "divider = []", r"classes\.divider must be not empty"),
        ('blocked_by = ["obstacle"]', 'blocked_by = ["car"]', r"blocked_by must be classes of the source"),
        ("prior = { divider = 0.02 }", "prior = { diwider = 0.02 }", r"prior\.diwider must be one of drivable, div"),
        ("prior = { divider = 0.02 }", "prior = { divider = 1.0 }", r"prior\.divider must be between 0 and 1, got"),
        ("prior = { divider = 0.02 }", 'thin = ["line"]', r"thin must be among drivable, divider, got line"),
        ("prior = { divider = 0.02 }", "subsamples = 0", r"subsamples must be 1\.\.8, got 0"),
        ("prior = { divider = 0.02 }", "half_life_s = 0", r"half_life_s must be positive, got 0"),
        ("prior = { divider = 0.02 }", 'occupied_by = ["line"]', r"occupied_by must be left out for kind road_layout"),
        ('depth = "depth"', 'depth = "segmentation"', r"occupancy\.depth must be an output of kind depth \(depth\)"),
        ('occupied_by = ["obstacle"]', "occupied_by = []", r"occupied_by must be not empty"),
        ('occupied_by = ["obstacle"]', 'occupied_by = ["tree"]', r"occupancy\.occupied_by must be classes of"),
        ('cameras = ["*"]', 'cameras = ["*", "a"]', r'networks\.hydranet: cameras must be names and patterns, or'),
        ('cameras = ["*"]', "cameras = []", r"networks\.hydranet: cameras must be not empty"),
        ('colour = "rgb"', 'colour = "rgb"\nfit = "letterbox"', r"input\.fit must be stretch or crop for what"),
        ('license = "MIT"', 'license = "MIT', r"bundle\.toml: not a TOML file"),
    ],
)  # fmt: skip
def test_bad_manifest_is_refused_with_its_path(manifest_text, old, new, match):
    assert old in manifest_text
    text = manifest_text.replace("{sha256 of hydra.onnx}", "0" * 64).replace("{sha256 of topdown.onnx}", "0" * 64)
    decode_manifest(text.encode())
    with pytest.raises(BundleError, match=match):
        decode_manifest(text.replace(old, new, 1).encode())


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('boxes = "boxes"\n', "", r"networks\.hydranet\.outputs\.objects: boxes must be given for kind detections"),
        ('boxes = "boxes"', 'boxes = "heat"', r"outputs' tensors must be unique, got heat more than once"),
        ('boxes = "boxes"', 'boxes = "colours"', r"outputs' tensors must be unique, got colours more than once"),
        ('boxes = "boxes"', "boxes = 4", r"outputs\.objects\.boxes must be a string, got 4"),
        ('"vehicle", "pedestrian"', "", r"classes must be one name per channel for kind detections, got \[\]"),
        ('"pedestrian"]', '"vehicle"]', r"classes must be unique, got vehicle more than once"),
        ('layout = "nchw"\nstride = 4', "", r"objects: stride must be given for kind detections, got nothing"),
        ('boxes = "boxes"', 'boxes = "boxes"\nactivation = "softmax"', r"activation must be none or sigmoid for"),
        ('boxes = "boxes"', 'boxes = "boxes"\nscore_threshold = 1.0', r"score_threshold must be at least 0 and"),
        ('boxes = "boxes"', 'boxes = "boxes"\nscore_threshold = -0.1', r"score_threshold must be at least 0 and below"),
        ('boxes = "boxes"', 'boxes = "boxes"\nmax_overlap = 1.5', r"max_overlap must be 0\.\.1, got 1\.5"),
        ('boxes = "boxes"', 'boxes = "boxes"\nmax_detections = 0', r"max_detections must be 1\.\.4096, got 0"),
        ('boxes = "boxes"', 'boxes = "boxes"\nmax_detection = 9', r"objects: max_detection \(did you mean max_det"),
        ('tensor = "colours"', 'tensor = "colours"\nboxes = "b"', r"boxes must be left out for kind segmentation"),
        ('tensor = "colours"', 'tensor = "colours"\nmax_detections = 9', r"max_overlap must be left out for"),
        ('tensor = "colours"', 'tensor = "colours"\nscore_threshold = 0.5', r"must be left out for kind segmentation"),
    ],
)  # fmt: skip
def test_bad_detections_are_refused_with_their_path(detection_manifest, old, new, match):
    assert old in detection_manifest
    text = detection_manifest.replace("{sha256 of objects.onnx}", "0" * 64)
    decode_manifest(text.encode())
    with pytest.raises(BundleError, match=match):
        decode_manifest(text.replace(old, new, 1).encode())


def test_detections_have_defaults_and_may_come_from_letterboxes(detection_manifest):
    text = detection_manifest.replace("{sha256 of objects.onnx}", "0" * 64)
    manifest = decode_manifest(text.replace('colour = "rgb"', 'colour = "rgb"\nfit = "letterbox"').encode())
    objects = manifest.camera_networks["hydranet"].outputs["objects"]
    assert (objects.score_threshold, objects.max_detections) == (0.4, 64)
    assert objects.tensors == {"tensor": "heat", "boxes": "boxes"}


def test_documented_bundle_is_a_good_one():
    document = Path(__file__).parents[2].joinpath("docs", "bundles.md").read_text(encoding="utf-8")
    manifest = decode_manifest(document.partition("```toml\n")[2].partition("```")[0].encode())
    assert (manifest.name, list(manifest.castouts)) == ("city", ["road_layout", "occupancy"])


def test_manifest_that_is_not_utf8_is_refused():
    with pytest.raises(BundleError, match="not a TOML file"):
        decode_manifest(b"name = '\xff'")


def test_depth_of_another_stride_is_refused_for_a_castout(manifest_text):
    text = manifest_text.replace("{sha256 of hydra.onnx}", "0" * 64).replace("{sha256 of topdown.onnx}", "0" * 64)
    coarse = text.replace('kind = "depth"\nstride = 4', 'kind = "depth"\nstride = 8')
    with pytest.raises(BundleError, match=r"castouts\.occupancy\.depth must be .* with stride 4, .* with stride 8"):
        decode_manifest(coarse.encode())


def test_lift_from_cameras_that_the_source_does_not_have_is_refused(manifest_text):
    text = manifest_text.replace("{sha256 of hydra.onnx}", "0" * 64).replace("{sha256 of topdown.onnx}", "0" * 64)
    few = text.replace('cameras = ["*"]', 'cameras = ["front"]', 1)
    with pytest.raises(BundleError, match=r"cameras must be among those of networks\.hydranet \(front\), got \*"):
        decode_manifest(few.encode())


@pytest.mark.parametrize(
    "file", ["../hydra.onnx", "/tmp/hydra.onnx", "a/../hydra.onnx", "", "./hydra.onnx", "C:/hydra.onnx", "a\\\\b.onnx"]
)
def test_file_outside_the_bundle_is_refused_by_its_name(manifest_text, write_bundle, file):
    with pytest.raises(BundleError, match=r"networks\.hydranet: file must be a relative path inside the bundle"):
        open_bundle(write_bundle(manifest_text.replace('"hydra.onnx"', f'"{file}"')))


def test_link_out_of_the_bundle_is_refused(write_bundle, tmp_path):
    path = write_bundle()
    (path / "hydra.onnx").rename(tmp_path / "elsewhere.onnx")
    (path / "hydra.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match=r"hydranet\.file must be a file inside the bundle, got hydra\.onnx, a link"):
        open_bundle(path)


def test_link_within_the_bundle_is_followed(write_bundle):
    path = write_bundle()
    (path / "hydra.onnx").rename(path / "real.onnx")
    (path / "hydra.onnx").symlink_to("real.onnx")
    assert open_bundle(path).model_bytes("hydranet") == (path / "real.onnx").read_bytes()


def test_missing_model_is_refused_naming_its_table(write_bundle):
    path = write_bundle()
    (path / "topdown.onnx").unlink()
    with pytest.raises(BundleError, match=r"networks\.topdown\.file must be a file in the bundle, got topdown"):
        open_bundle(path)


def test_model_that_is_no_plain_file_is_refused(write_bundle):
    path = write_bundle()
    (path / "topdown.onnx").unlink()
    os.mkfifo(path / "topdown.onnx")
    with pytest.raises(BundleError, match=r"networks\.topdown\.file must be a plain file"):
        open_bundle(path)


def test_empty_model_is_refused(write_bundle):
    path = write_bundle()
    (path / "topdown.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"networks\.topdown\.file: size must be 1\.\."):
        open_bundle(path)


def test_changed_model_is_refused_when_opened_and_when_read_later(write_bundle):
    path = write_bundle()
    bundle = open_bundle(path)
    model = bytearray((path / "hydra.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (path / "hydra.onnx").write_bytes(model)
    with pytest.raises(BundleError, match=r"hydranet\.sha256 must be that of hydra\.onnx \([0-9a-f]{64}\), got"):
        open_bundle(path)
    with pytest.raises(BundleError, match=r"networks\.hydranet\.sha256"):
        bundle.model_bytes("hydranet")


def test_sha256_that_is_none_is_refused(write_bundle, manifest_text):
    with pytest.raises(BundleError, match="sha256 must be 64 hexadecimal digits in lower case"):
        open_bundle(write_bundle(manifest_text.replace("{sha256 of hydra.onnx}", "AB" * 32)))


def test_huge_manifest_is_refused_unread(write_bundle):
    path = write_bundle()
    with (path / "bundle.toml").open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(BundleError, match="size must be at most"):
        open_bundle(path)


def test_plan_without_outputs_is_all_but_bare_features(write_bundle):
    plan = open_bundle(write_bundle()).plan()
    assert plan.outputs == ("segmentation", "depth", "bright", "layout", "road_layout", "occupancy")
    assert plan.networks == {"hydranet": ("features", "segmentation", "depth", "bright")}


def test_plan_follows_castouts_and_lifts_to_what_they_read(write_bundle):
    bundle = open_bundle(write_bundle())
    road = bundle.plan({"road_layout"})
    assert (road.networks, road.topdown, road.castouts) == ({"hydranet": ("segmentation",)}, {}, ("road_layout",))
    occupancy = bundle.plan(["occupancy"])
    assert occupancy.networks == {"hydranet": ("segmentation", "depth")}
    assert occupancy.cast_down == {"segmentation", "depth"}
    layout = bundle.plan(["layout"])
    assert (layout.networks, layout.topdown) == ({"hydranet": ("features",)}, {"topdown": ("layout",)})
    raw = bundle.plan(["bright"])
    assert (raw.networks, raw.cast_down) == ({"hydranet": ("bright",)}, frozenset())
    assert bundle.plan([]).networks == {}


def test_plan_refuses_unknown_names_and_lists_the_known(write_bundle):
    bundle = open_bundle(write_bundle())
    with pytest.raises(InvalidArgument, match=r"outputs of bundle tiny must be among features, .*occupancy, got roads"):
        bundle.plan({"roads", "occupancy"})
    with pytest.raises(InvalidArgument, match="outputs must be a collection of names, got 'occupancy'"):
        bundle.plan("occupancy")


def test_cameras_come_in_the_order_of_the_rig(write_bundle, manifest_text, make_rig):
    rig = make_rig("left", "front", "right")
    named = manifest_text.replace('cameras = ["*"]', 'cameras = ["right", "left"]')
    assert open_bundle(write_bundle(named)).cameras("hydranet", rig) == ("left", "right")
    assert open_bundle(write_bundle(name="all")).cameras("hydranet", rig) == ("left", "front", "right")


def test_camera_that_the_rig_lacks_is_refused_naming_both(write_bundle, manifest_text, make_rig):
    bundle = open_bundle(write_bundle(manifest_text.replace('cameras = ["*"]', 'cameras = ["rear"]')))
    with pytest.raises(RigError, match=r"bundle tiny, networks\.hydranet\.cameras: .*made \(front, left\), got rear"):
        bundle.cameras("hydranet", make_rig("front", "left"))


def test_network_and_source_of_unknown_names_are_refused(write_bundle):
    bundle = open_bundle(write_bundle())
    with pytest.raises(InvalidArgument, match="network must be one of hydranet, topdown, got other"):
        bundle.model_bytes("other")
    with pytest.raises(InvalidArgument, match="per-camera output must be one of"):
        bundle.source_of("layout")
    assert bundle.source_of("depth")[0] == "hydranet"


def test_models_are_parsed_only_after_their_hash_was_checked(write_bundle, make_rig, monkeypatch):
    bundle = open_bundle(write_bundle())
    parsed = []
    monkeypatch.setattr("octobev.runtime.session.parse_model", lambda content, name: parsed.append(name))
    (bundle.path / "hydra.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match=r"hydranet\.sha256 must be that of hydra\.onnx"):
        Runtime(bundle, make_rig("front"))
    assert parsed == []


def test_huge_model_is_refused_unread(write_bundle):
    path = write_bundle()
    with (path / "hydra.onnx").open("r+b") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(BundleError, match=r"hydranet\.file: size must be 1\.\.2147483647 bytes, got 1099511627776"):
        open_bundle(path)


def test_models_are_hashed_without_holding_them(write_bundle):
    path = write_bundle()
    with (path / "hydra.onnx").open("r+b") as file:
        file.truncate(100 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=r"hydranet\.sha256 must be"):
            open_bundle(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20


def test_loop_of_links_is_refused(write_bundle):
    path = write_bundle()
    (path / "hydra.onnx").unlink()
    (path / "hydra.onnx").symlink_to("hydra.onnx")
    with pytest.raises(BundleError, match=r"hydranet\.file must be a file in the bundle, got hydra\.onnx \("):
        open_bundle(path)


@pytest.mark.parametrize("option", ["trt_extra_plugin_lib_paths", "backend_path", "cache_dir", "user_compute_stream"])
def test_provider_options_that_load_or_write_files_are_refused(manifest_text, option):
    options = f'[[runtime.providers]]\nname = "CPUExecutionProvider"\noptions = {{ {option} = "x" }}\n'
    with pytest.raises(BundleError, match=rf"runtime\.providers\[0\]: options must be among .*, got {option}"):
        decode_manifest((pinned(manifest_text) + options).encode())


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (".".join(["a"] * 100_000) + " = 1", "dots in a line must be at most 64, got 99999"),
        ("x = " + "1" * 5000, "not a TOML file: Exceeds the limit"),
        ("x = " + "[" * 50_000, "not a TOML file: maximum recursion depth exceeded"),
        ("x = " + "{a=" * 5_000, "not a TOML file: maximum recursion depth exceeded"),
        ("x = 2020-99-99", "not a TOML file"),
        ("a" * 500_000 + " = 1", "unknown key: aaa"),
    ],
)
def test_manifests_made_to_exhaust_are_refused(manifest_text, text, match):
    with pytest.raises(BundleError, match=match):
        decode_manifest((text + "\n" + pinned(manifest_text)).encode())


def test_manifest_with_very_many_classes_is_read_in_time(manifest_text):
    """In time: within the time limit of a test, which the square of 60,000 is not."""
    names = ", ".join(f'"c{number}"' for number in range(60_000))
    many = pinned(manifest_text).replace('"road", "line", "obstacle"]', f'"road", "line", "obstacle", {names}]')
    assert len(decode_manifest(many.encode()).camera_networks["hydranet"].outputs["segmentation"].classes) == 60_003


def test_mutated_manifests_give_typed_errors_only(manifest_text):
    chance = random.Random(1)
    good = pinned(manifest_text).encode()
    refused = 0
    for _ in range(600):
        mutated = bytearray(good)
        for _ in range(chance.choice((1, 2, 5))):
            at = chance.randrange(len(mutated))
            pieces = (b"", b"\xff", b"=", b"[", b'"', b"nan", b"1e400", b"-1", b"\n", b".", good[at : at + 40])
            piece = chance.choice(pieces)
            mutated[at : at + chance.choice((0, 1, 4))] = piece
        try:
            decode_manifest(bytes(mutated))
        except BundleError:
            refused += 1
    assert refused > 300


def pinned(text: str) -> str:
    """A manifest as it is decoded, not opened: any hash will do."""
    return text.replace("{sha256 of hydra.onnx}", "0" * 64).replace("{sha256 of topdown.onnx}", "0" * 64)
