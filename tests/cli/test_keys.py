from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from octobev import Publisher
from octobev.cli import build
from octobev.cli.keys import publisher_keys, subscriber_keys
from octobev.errors import InvalidArgument, KeyFileError, MissingFile
from octobev.runtime.topics.keys import PublisherKeys, SubscriberKeys, read_public_key, read_secret_key
from typer.testing import CliRunner, Result


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default directory of keys, not made yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "octobev" / "keys"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build(), list(map(str, arguments)))


def document(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_the_three_commands_of_the_help_let_a_subscriber_in(home: Path, tmp_path: Path) -> None:
    car = document("keys", "new", "car")
    assert car == {
        "name": "car",
        "public_key": read_secret_key(home / "car.key_secret").public.decode(),
        "public": str(home / "car.key"),
        "secret": str(home / "car.key_secret"),
    }
    laptop = document("keys", "new", "laptop", "--dir", tmp_path / "laptop")
    allowed = document("keys", "allow", laptop["public"])
    assert allowed == {
        "name": "laptop",
        "public_key": laptop["public_key"],
        "path": str(home / "allowed" / "laptop.key"),
    }
    keys = ("--key", laptop["secret"], "--server-key", car["public"], "--timeout", "20")
    endpoint = f"ipc://{tmp_path}/t"
    with Publisher(endpoint, keys=publisher_keys("car", None, endpoint)) as publisher:
        stranger = run("topic", "list", publisher.endpoint, "--timeout", "0.5")
        assert "nothing is published there in 0.5 s: only one of publisher and" in str(stranger.exception)
        publisher.set_rig(_rig(), "cd" * 32)
        found = run("topic", "list", publisher.endpoint, *keys, "--count", "1")
        assert "rig" in found.stdout, found.exception


def _rig() -> Any:
    from octobev import Camera, Intrinsics, Pose, Rig

    return Rig((Camera("front", Intrinsics(640, 480, 500, 500, 320, 240), Pose.identity()),))


def test_secret_keys_are_not_allowed(home: Path) -> None:
    run("keys", "new", "car")
    assert "got a secret one: it must stay with its owner" in str(
        run("keys", "allow", home / "car.key_secret").exception
    )
    assert not (home / "allowed").exists()


def test_keys_are_listed_and_faults_named(home: Path) -> None:
    assert isinstance(run("keys", "list").exception, MissingFile)
    run("keys", "new", "car")
    run("keys", "new", "desk")
    run("keys", "allow", home / "desk.key", "--name", "office")
    listed = document("keys", "list")
    assert [entry["name"] for entry in listed["own"]] == ["car", "desk"]
    assert listed["allowed"] == [{"name": "office", "public_key": read_public_key(home / "desk.key").decode()}]
    assert listed["error"] is None
    text = run("keys", "list").stdout
    assert "office" in text
    assert listed["own"][0]["public_key"] in text
    secret = read_secret_key(home / "car.key_secret").secret.decode()
    assert secret not in text + json.dumps(listed)
    (home / "car.key_secret").chmod(0o644)
    (home / "allowed" / "office.key").write_text("nonsense")
    result = run("keys", "list")
    assert result.exit_code == 1
    assert "must be mode 0600, got 0644" in result.stdout
    assert "nobody is let in" in result.stdout
    assert run("keys", "list", "--json").exit_code == 1


def test_a_new_key_is_called_like_the_machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "car7.example.org")
    assert "stays here" in run("keys", "new").stdout
    assert (home / "car7.key").exists()
    assert isinstance(run("keys", "new").exception, InvalidArgument)
    assert isinstance(run("keys", "allow", home / "car7.key_secret").exception, KeyFileError | InvalidArgument)


def test_options_become_keys(home: Path, tmp_path: Path) -> None:
    assert publisher_keys(None, None, None) is None
    assert publisher_keys("car", None, "ipc:///x") == PublisherKeys(home / "car.key_secret", home / "allowed")
    assert publisher_keys("/k/car.key_secret", None, "ipc:///x") == PublisherKeys(
        Path("/k/car.key_secret"), Path("/k/allowed")
    )
    assert publisher_keys("car.key_secret", tmp_path, "ipc:///x") == PublisherKeys(Path("car.key_secret"), tmp_path)
    assert subscriber_keys(None, None) is None
    assert subscriber_keys("desk", "car.key") == SubscriberKeys(home / "desk.key_secret", Path("car.key"))
    with pytest.raises(typer.BadParameter, match="needs --key"):
        publisher_keys(None, tmp_path, "ipc:///x")
    for key, server in (("desk", None), (None, "car")):
        with pytest.raises(typer.BadParameter, match="too"):
            subscriber_keys(key, server)


def test_a_replay_that_does_not_publish_takes_no_key(home: Path) -> None:
    assert run("replay", "demo", "--key", "car").exit_code == 2
    assert run("replay", "demo", "--publish", "ipc:///x", "--allowed", home).exit_code == 2
    assert run("run", "--source", "drive:none.mcap", "--key", "car").exit_code == 2
    stalled = ("--fault", "stall-subscriber@..")
    result = run("replay", "demo", "--publish", "ipc:///x", "--key", "car", *stalled)
    assert result.exit_code == 2
    assert "without --key" in result.output
