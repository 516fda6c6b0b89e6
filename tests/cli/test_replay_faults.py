"""`octobev replay --fault` and `--live` as a user runs them, on a short synthetic drive."""

import json
import re

import pytest
from mcap.reader import NonSeekingReader
from octobev.cli import build
from octobev.replay.faults import KINDS
from typer.testing import CliRunner

SETS, CAMERAS = 4, 8  # of the drive
FEW = ("--outputs", "occupancy")


def run(*arguments):
    return CliRunner().invoke(build(), ["replay", *map(str, arguments)])


def report(*arguments, exit_code=0):
    result = run(*arguments, *FEW, "--json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_same_faults_and_seed_give_the_same_digest(drive):
    faults = ("--fault", "lose:*%30@..", "--fault", "noise:rear*0.2@..", "--fault", "reorder:front_main@..")
    first, again, other = (
        report(drive, *faults, "--fault-seed", seed)["digest"] for seed in (1, 1, 2)
    )  # fmt: skip
    assert first == again
    assert len({first, other, report(drive)["digest"]}) == 3


def test_lost_camera_is_not_used(drive):
    found = report(drive, "--fault", "lose:rear@100ms+200ms")
    assert (found["sets"], found["frames"]) == (SETS, SETS * CAMERAS - 2)


def test_nan_is_withheld_and_exit_code_is_3(drive):
    found = report(drive, "--fault", "nan:topdown@100ms+200ms", exit_code=3)
    assert 0 < found["invalid"]["occupancy"] < SETS


def test_slow_network_takes_longer(drive):
    found = report(drive, "--fault", "slow:topdown+100ms@..")
    assert found["stages_ms"]["topdown"]["p50"] > 100


def test_full_disk_ends_the_recording_only(drive, tmp_path):
    path = tmp_path / "out.mcap"
    found = report(drive, "--fault", "full-disk@0s", "--record", path, exit_code=3)
    assert found["sets"] == SETS
    assert found["recording"] == f"{path}: recording stopped: No space left on device; the file is valid up to there"
    assert found["unrecorded"] == SETS
    with open(path, "rb") as file:
        assert list(NonSeekingReader(file).iter_messages()) == []
    result = run(drive, "--fault", "full-disk@0s", "--record", path, "--force", *FEW)
    assert f"No space left on device; the file is valid up to there; {SETS} sets are not in it" in " ".join(
        result.stdout.split()
    )


def test_stalled_subscriber_stops_nothing(drive, tmp_path):
    found = report(drive, "--fault", "stall-subscriber@..", "--publish", f"ipc://{tmp_path}/topic")
    assert found["sets"] == SETS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault", "lose:front_main"], "column 16: after whom or what must be @ and when"),
        (["--fault", "melt:*@1s"], "column 1: kind of fault must be one of lose, freeze"),
        (["--fault", "full-disk@1s"], "full-disk@1s needs --record OUT.mcap"),
        (["--fault", "stall-subscriber@1s"], "stall-subscriber@1s needs --publish ENDPOINT"),
    ],
)
def test_wrong_fault_is_wrong_usage(drive, arguments, message):
    result = run(drive, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(re.sub("[│╭╰─╮╯]", " ", result.output).split())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("lose:roof@1s", "fault lose:roof@1s: camera must be one of .*front_main"),
        ("nan:brain@1s", "fault nan:brain@1s: network must be one of hydranet, topdown"),
    ],
)
def test_fault_of_what_is_not_there_is_an_error(drive, fault, message):
    result = run(drive, "--fault", fault)
    assert result.exit_code == 1
    assert re.search(message, str(result.exception))


def test_help_shows_every_kind_of_fault():
    text = run("--help").output
    missing = [kind.word for kind in KINDS if kind.example not in text]
    assert missing == []


def test_live_replay_accounts_for_every_frame(drive):
    result = run(drive, "--live", "--rate", "0.1", *FEW, "--json")
    found = json.loads(result.stdout)
    assert found["submitted"] == SETS * CAMERAS
    assert found["flushed"]
    assert found["predictions"] >= found["sets"] >= 1
    assert found["errors"] == {}
    assert found["outputs"] == ["occupancy"]
    assert set(found["latency_ms"]) == {"p50", "p99", "max"}
    for camera in found["cameras"].values():
        assert camera["received"] == SETS
        assert camera["used"] + camera["corrupt"] + sum(camera["dropped"].values()) == SETS
    used = sum(camera["used"] for camera in found["cameras"].values())
    assert result.exit_code == (0 if used == SETS * CAMERAS else 3)


def test_live_replay_records_and_says_what_came_of_it(drive, tmp_path):
    path = tmp_path / "out.mcap"
    result = run(drive, "--live", "--rate", "0.2", "--record", path, "--fault", "lose:rear@0s", *FEW)
    assert result.exit_code in (0, 3), result.output
    text = " ".join(result.stdout.split())
    for words in ("incomplete", "deadline misses", "latency ms: p50", "front_main", "outputs: occupancy"):
        assert words in text
    with open(path, "rb") as file:
        topics = [channel.topic for _, channel, _ in NonSeekingReader(file).iter_messages()]
    assert {"/occupancy", "/tf"} <= set(topics)
