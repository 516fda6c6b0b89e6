"""`octobev replay` as a user runs it, on a short synthetic drive and the bundle that is shipped."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.writer import Writer
from octobev.cli import build
from octobev.errors import RecordingError, RigError
from octobev.fusion.rig import Rig, write_rig
from octobev.models.variant_files import write_variants
from octobev.replay.open import open_drive
from octobev.runtime.bundle import open_bundle
from octobev.runtime.topics.subscriber import Subscriber
from typer.testing import CliRunner

SETS = 4  # of the drive


def run(*arguments):
    return CliRunner().invoke(build(), ["replay", *map(str, arguments)])


def summary(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_summary_as_json(drive):
    report = summary(drive)
    assert report["sets"] == SETS
    assert report["frames"] == SETS * 8
    assert len(report["cameras"]) == 8
    assert (report["dropped"], report["corrupt"], report["truncated"]) == (0, 0, None)
    assert {"road_layout", "occupancy", "segmentation", "depth"} <= set(report["outputs"])
    assert set(report["stages_ms"]["network"]) == {"p50", "p99"}
    assert report["provenance"]["bundle_name"] == "octobev-reference"


def test_variant_is_chosen_and_told(drive, fp32_bundle, tmp_path):
    bundle = open_bundle(fp32_bundle)
    same = {spec.file: bundle.model_bytes(name) for name, spec in bundle.manifest.networks.items()}
    write_variants(bundle, same, tmp_path / "both")
    for variant in ("fp32", "int8"):
        report = summary(drive, "--duration", "0.1", "--bundle", tmp_path / "both", "--variant", variant)
        assert report["provenance"]["variant"] == variant
        result = run(drive, "--duration", "0.1", "--bundle", tmp_path / "both", "--variant", variant)
        assert f"{bundle.manifest.name} {bundle.manifest.version}, {variant}" in " ".join(result.stdout.split())
    refused = run(drive, "--bundle", fp32_bundle, "--variant", "int8")
    assert "must be int8, got fp32 only" in str(refused.exception)
    assert run(drive, "--variant", "fp16").exit_code == 2


def test_digest_depends_on_the_drive_only(drive):
    one, two = (summary(drive, "--threads", threads)["digest"] for threads in (1, 2))
    assert one == two
    assert summary(drive, "--duration", "0.2")["digest"] != one


def test_only_the_wanted_outputs_and_cameras(drive):
    report = summary(drive, "--outputs", "occupancy", "--cameras", "front_main,rear")
    assert report["outputs"] == ["occupancy"]
    assert report["cameras"] == ["front_main", "rear"]
    assert report["frames"] == SETS * 2


def test_part_of_a_drive(drive):
    assert summary(drive, "--start", "0.125", "--duration", "0.25")["sets"] == 2


def test_readable_summary(drive):
    result = run(drive)
    assert result.exit_code == 0
    for words in ("4 sets", "32 frames of 8 cameras", "road_layout", "network", "digest"):
        assert words in " ".join(result.stdout.split())


def test_detections_are_counted_recorded_and_drawn(drive, write_bundle, detection_manifest, tmp_path):
    bundle = write_bundle(
        detection_manifest.replace("stride = 4\nclasses", "stride = 4\nscore_threshold = 0.6\nclasses", 1)
    )
    recording, pictures = tmp_path / "out.mcap", tmp_path / "pictures"
    arguments = (drive, "--bundle", bundle, "--outputs", "objects")
    report = summary(*arguments, "--threads", 2, "--record", recording, "--pictures", pictures)
    assert report["outputs"] == ["objects"]
    assert report["invalid"] == {}
    counts = report["detections"]["objects"]
    assert list(counts) == ["vehicle", "pedestrian"]
    assert sum(counts.values()) > SETS
    assert report["digest"] == summary(*arguments, "--threads", 1)["digest"]
    with open(recording, "rb") as file:
        found = make_reader(file).get_summary()
    topics = {channel.topic: found.schemas[channel.schema_id].name for channel in found.channels.values()}
    assert topics["/front_main/annotations/objects"] == "foxglove.ImageAnnotations"
    assert found.statistics.message_count >= SETS * 8
    assert len(list(pictures.glob("*.png"))) == SETS
    assert "objects: " in run(*arguments).stdout


def test_recording_can_be_opened_and_is_the_same_twice(drive, tmp_path):
    for name in ("one.mcap", "two.mcap"):
        summary(drive, "--record", tmp_path / name)
    assert (tmp_path / "one.mcap").read_bytes() == (tmp_path / "two.mcap").read_bytes()


def test_recording_is_not_overwritten_unless_forced(drive, tmp_path):
    existing = tmp_path / "out.mcap"
    existing.write_bytes(b"precious")
    result = run(drive, "--record", existing)
    assert isinstance(result.exception, OSError)
    assert "out.mcap: exists already" in str(result.exception)
    assert existing.read_bytes() == b"precious"
    summary(drive, "--record", existing, "--force")
    assert existing.stat().st_size > 1000


@pytest.mark.parametrize(
    "arguments", [["--record", "{drive}"], ["--trace", "{drive}"], ["--live", "--record", "{drive}"]]
)
def test_drive_that_is_read_is_never_overwritten(drive, tmp_path, arguments):
    copy, link = tmp_path / "copy.mcap", tmp_path / "link.mcap"
    copy.write_bytes(drive.read_bytes())
    link.symlink_to(copy)
    for target in (copy, link):
        result = run(copy, *(argument.format(drive=target) for argument in arguments), "--force")
        assert isinstance(result.exception, RecordingError)
        assert f"{target} must be another file than those that are read" in str(result.exception)
    assert copy.read_bytes() == drive.read_bytes()


def test_recording_and_trace_are_two_files(drive, tmp_path):
    result = run(drive, "--record", tmp_path / "a", "--trace", tmp_path / "." / "a")
    assert "--trace must be another file than --record" in str(result.exception)
    assert not (tmp_path / "a").exists()


def test_recording_with_frames_is_a_drive_that_gives_the_same_predictions(drive, tmp_path):
    report = summary(drive, "--record", tmp_path / "whole.mcap", "--record-frames", "--cameras", "rear,front_main")
    again = summary(tmp_path / "whole.mcap", "--cameras", "rear,front_main")
    assert again["digest"] == report["digest"]
    assert next(open_drive(tmp_path / "whole.mcap").steps()).truth is not None


def test_pictures_of_every_set(drive, tmp_path):
    summary(drive, "--pictures", tmp_path / "out", "--duration", "0.2")
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_other_calibration_is_used(drive, tmp_path):
    from octobev.fusion.rig import write_rig

    rig = open_drive(drive).rig
    write_rig(rig.select(["rear"]), tmp_path / "rig.toml")
    assert summary(drive, "--rig", tmp_path / "rig.toml")["cameras"] == ["rear"]


def test_published_predictions_are_received(drive, tmp_path):
    """At a tenth of its speed, so that the subscriber has seconds to connect on a busy machine."""
    endpoint = f"ipc://{tmp_path}/topic"
    command = [sys.executable, "-m", "octobev", "replay", str(drive), "--publish", endpoint, "--rate", "0.1", "--json"]
    with (
        Subscriber(endpoint, ["road_layout", "rig"]) as subscriber,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
    ):
        try:
            messages = {}
            while len(messages) < 2:
                message = subscriber.receive(60)
                messages[message.topic] = message
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["sets"] == SETS
    layout = messages["road_layout"].road_layout()
    assert layout.classes[0] == "drivable"
    assert np.isfinite(layout.probability).all()
    assert len(messages["rig"].header.rig.cameras) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere/drive.mcap"], "/nowhere/drive.mcap"),
        (["{drive}", "--cameras", "roof"], "camera must be one of"),
        (["{drive}", "--outputs", "lanes"], "outputs of bundle octobev-reference must be among"),
        (["{drive}", "--bundle", "/nowhere"], "/nowhere: no such bundle directory"),
        (["{drive}", "--rate", "0"], "rate must be positive and finite, got 0"),
        (["{drive}", "--live", "--rate", "inf"], "rate must be positive and finite, got inf"),
        (["{drive}", "--start", "inf"], "start_s must be finite seconds from 0 on, got inf"),
        (["{drive}", "--start", "9"], "town: frame sets from 9 s on must be at least one, got none"),
        (
            ["{drive}", "--live", "--start", "9", "--duration", "1"],
            "from 9 s on for 1 s must be at least one",
        ),
        (["{drive}", "--threads", "100000"], "threads must be at most 1024, got 100000"),
        (["{drive}", "--bundle", "{drive}"], "must be a directory with bundle.toml in it, or that file, got another"),
        (["{drive}", "--rig", "/nowhere/rig.toml"], "/nowhere/rig.toml: no such rig file"),
        ([""], "drive must be a path, got an empty text"),
        (["{drive}", "--pictures", "{drive}"], "town.mcap must be a folder, got a file"),
        (["{drive}", "--record", "/nowhere/out.mcap"], "/nowhere must be a folder, got nothing of that name"),
        (["{drive}", "--trace", "{drive}/out.json"], "town.mcap must be a folder, got a file"),
        (["{drive}", "--publish", "carrier-pigeon://x"], "carrier-pigeon"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_1(drive, arguments, message):
    arguments = [argument.format(drive=drive) for argument in arguments]
    command = [sys.executable, "-m", "octobev", "replay", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_rig_of_other_cameras_is_refused_and_of_some_others_told(drive, tmp_path):
    rig = open_drive(drive).rig
    other = tmp_path / "other.toml"
    write_rig(Rig(tuple(replace(camera, name=f"{camera.name}_2") for camera in rig), "other"), other)
    refused = run(drive, "--rig", other)
    assert isinstance(refused.exception, RigError)
    assert "other.toml: cameras must be some of the drive's (front_main, " in str(refused.exception)
    assert str(refused.exception).endswith("got " + ", ".join(f"{name}_2" for name in rig.names))
    some = tmp_path / "some.toml"
    write_rig(Rig((*list(rig)[:-1], replace(rig["rear"], name="back")), "some"), some)
    result = run(drive, "--rig", some, "--duration", "0.1", "--json")
    assert f"octobev: {some}: town has no frames of back\n" in result.stderr
    assert f"octobev: {some}: frames of rear are left out: not in it\n" in result.stderr
    report = json.loads(result.stdout)
    assert (report["sets"], report["frames"]) == (1, 7)


def test_drive_without_calibration_is_replayed_with_a_rig(drive, tmp_path):
    bare, rig = tmp_path / "bare.mcap", tmp_path / "rig.toml"
    write_rig(open_drive(drive).rig, rig)
    with drive.open("rb") as source, bare.open("wb") as target:
        writer = Writer(target)
        writer.start()
        schemas, channels = {}, {}
        for schema, channel, message in make_reader(source).iter_messages():
            if schema.name == "foxglove.CameraCalibration":
                continue
            if channel.id not in channels:
                key = schemas.setdefault(schema.id, writer.register_schema(schema.name, schema.encoding, schema.data))
                channels[channel.id] = writer.register_channel(channel.topic, channel.message_encoding, key)
            writer.add_message(channels[channel.id], message.log_time, message.data, message.publish_time)
        writer.finish()
    assert "or give a rig" in str(run(bare).exception)
    assert summary(bare, "--rig", rig)["digest"] == summary(drive, "--rig", rig)["digest"]


def test_folder_of_images_is_replayed_with_a_rig_from_elsewhere(drive, tmp_path):
    source, rig = open_drive(drive), tmp_path / "rig.toml"
    write_rig(source.rig, rig)
    step = next(iter(source.steps()))
    for frame in step.frame_set.frames:
        folder = tmp_path / "folder" / "images" / frame.camera
        folder.mkdir(parents=True)
        (folder / f"{frame.timestamp_ns}.jpg").write_bytes(frame.data)
    assert "rig.toml: no such rig file" in str(run(tmp_path / "folder").exception)
    assert summary(tmp_path / "folder", "--rig", rig)["frames"] == 8


def test_truncated_drive_is_replayed_as_far_as_it_goes_with_exit_code_3(drive, tmp_path):
    content = drive.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(content[: len(content) * 3 // 4])
    result = run(cut, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 3
    assert report["truncated"]
    assert 0 < report["sets"] < SETS


def test_wrong_usage_is_exit_code_2():
    assert run().exit_code == 2
    assert run("demo", "--threads", "0").exit_code == 2
    assert run("demo", "--record-frames").exit_code == 2
    assert run("demo", "--record-belief").exit_code == 2
