"""The Python of docs/live.md and docs/embedding.md runs as printed."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import octobev
import pytest
from colours import HEIGHT, WIDTH, colours_model, make_bundle, memory_model, two_cameras
from octobev import Frame, LiveRuntime, LiveSettings, PixelFormat, Pose, Predictions, write_rig
from octobev.replay.recorder import record_drive
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.live.health import Health

DOCS = Path(__file__).parents[2] / "docs"
LONG_S = 60.0
START_NS = 1_700_000_000_000_000_000


def snippets(page: str, containing: str = "") -> list[str]:
    found = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    return [snippet for snippet in found if containing in snippet]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run the one snippet of a page that contains a text, with these names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def execute(page: str, containing: str, **names: Any) -> dict[str, Any]:
        (snippet,) = snippets(page, containing)
        exec(compile(snippet, page, "exec"), names)
        return names

    return execute


@pytest.fixture
def rig() -> octobev.Rig:
    return two_cameras()


@pytest.fixture
def bundle(tmp_path: Path) -> octobev.Bundle:
    folder = tmp_path / "bundle"
    folder.mkdir()
    return make_bundle(folder, {"colours": colours_model(), "memory": memory_model()})


@pytest.fixture
def live(bundle: octobev.Bundle, rig: octobev.Rig) -> Any:
    with LiveRuntime(bundle, rig, settings=LiveSettings(threads=1)) as live:
        yield live


@pytest.mark.parametrize("page", ["live.md", "embedding.md"])
def test_every_snippet_is_run_here(page: str) -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    for snippet in snippets(page):
        compile(snippet, page, "exec")
        marks = re.findall(rf'"{page}", "([^"]+)"', source)
        assert [mark for mark in marks if mark in snippet], f"nothing here runs:\n{snippet}"


def test_first_lines_of_live_use(run: Any, bundle: octobev.Bundle, rig: octobev.Rig) -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    given = {"image": image, "timestamp_ns": START_NS, "world_from_ego": Pose.identity()}
    names = run("live.md", "live.submit(", bundle=bundle, rig=rig, **given)
    assert names["health"].cameras["front"].received == 1


def test_synchroniser(run: Any, rig: octobev.Rig) -> None:
    names = run("live.md", "sync.push", rig=rig, time=time, timestamp_ns=START_NS, payload=b"")
    assert names["sync"].status(time.monotonic_ns()).cameras["front"].queued == 1


def test_metrics(live: LiveRuntime, monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    metrics = pytest.importorskip("octobev.runtime.live.metrics")
    pytest.importorskip("prometheus_client")
    server = metrics.MetricsServer
    monkeypatch.setattr(metrics, "MetricsServer", lambda health, port: server(health, 0 * port))  # any free port
    run("live.md", "MetricsServer(runtime.health", runtime=live)["metrics"].close()


def test_pixel_formats(run: Any) -> None:
    class Buffer:
        def reshape(self, *shape: int) -> Any:
            return np.zeros(shape, np.uint8)

    names = {"Frame": Frame, "PixelFormat": PixelFormat, "buffer": Buffer(), "height": HEIGHT, "width": WIDTH}
    run("live.md", "PixelFormat.NV12", timestamp_ns=START_NS, **names)


def test_faults(run: Any, rig: octobev.Rig, tmp_path: Path) -> None:
    record_drive(SyntheticDrive(20_003, 0.25, rate_hz=8.0, rig=rig), tmp_path / "drive.mcap")
    drive = run("live.md", "FaultyDrive(", octobev=octobev)["drive"]
    assert len(list(drive.steps())) == 2


def test_sources(run: Any, rig: octobev.Rig, live: LiveRuntime, capsys: pytest.CaptureFixture[str]) -> None:
    write_rig(rig, "rig.toml")
    text = Path("rig.toml").read_text(encoding="utf-8")
    source = 'source = "ring:nobody-writes-this"\n'
    Path("rig.toml").write_text(text.replace("[[cameras]]\n", f"[[cameras]]\n{source}"), encoding="utf-8")
    run("live.md", "make_sources(rig", rig=rig, live=live, time=time)
    assert capsys.readouterr().out


def test_complete_host(run: Any, bundle: octobev.Bundle, rig: octobev.Rig, tmp_path: Path) -> None:
    ended, planned = threading.Event(), []

    def images(seed: int) -> Any:
        noise = np.random.default_rng(seed)
        while not ended.wait(0.05):
            yield time.time_ns(), noise.integers(0, 60, (HEIGHT, WIDTH, 3), np.uint8)

    def poses() -> Any:
        while not ended.wait(0.02):
            yield time.time_ns(), Pose.identity()

    def plan(predictions: Predictions) -> None:
        planned.append(predictions)
        if predictions.state.carried:
            ended.set()

    before = set(threading.enumerate())
    host = run("embedding.md", "def host(")["host"]
    rescue = threading.Timer(LONG_S, ended.set)
    rescue.start()
    host(bundle, rig, {"front": images(1), "rear": images(2)}, poses(), plan, ended, f"ipc://{tmp_path}/topics")
    rescue.cancel()
    rescue.join()
    assert planned[-1].state.carried
    assert set(threading.enumerate()) == before


def test_what_a_planner_checks(run: Any) -> None:
    usable = run("embedding.md", "def usable(")["usable"]
    predictions = SimpleNamespace(timestamp_ns=START_NS, road_layout="a road")
    health = SimpleNamespace(valid=True, stalled={})
    for value, kind in ((predictions, Predictions), (health, Health)):
        assert all(hasattr(kind, name) for name in vars(value))
    assert usable(predictions, health, START_NS + 299_000_000)
    assert not usable(predictions, health, START_NS + 300_000_000)
    assert not usable(None, health, START_NS)
    assert not usable(SimpleNamespace(timestamp_ns=START_NS, road_layout=None), health, START_NS)
    assert not usable(predictions, SimpleNamespace(valid=False, stalled={}), START_NS)
    assert not usable(predictions, SimpleNamespace(valid=True, stalled={"step": 1.5}), START_NS)
