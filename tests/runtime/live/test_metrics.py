from __future__ import annotations

import logging
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from octobev.errors import EndpointError, MissingDependency
from octobev.runtime.live.health import Health
from octobev.runtime.live.metrics import MetricsServer, make_registry

prometheus_client = pytest.importorskip("prometheus_client", reason="the extra [metrics] is not installed")
parser = pytest.importorskip("prometheus_client.parser")

Make = Callable[..., Health]


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Name and label values, in the order of the labels' names -> value."""
    found = [sample for family in parser.text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value for sample in found}


def test_metrics_are_the_health(make_health: Make) -> None:
    health = make_health(8, stalled={"network": 3.25})
    with MetricsServer(lambda: health, 0) as server:
        text = read(server.url)
    found = samples(text)
    assert found["octobev_up",] == 1
    assert found["octobev_valid",] == 1
    assert found["octobev_uptime_seconds",] == 3723
    assert found["octobev_sets_total",] == 30_412
    assert found["octobev_sets_incomplete_total",] == 12
    assert found["octobev_sets_overrun_total",] == 3
    assert found["octobev_deadline_misses_total",] == 4
    assert found["octobev_resets_total", "first set"] == 1
    assert found["octobev_errors_total", "callback"] == 1
    assert found["octobev_queue_length", "sets"] == 1
    assert found["octobev_resident_memory_bytes",] == 512_000_000
    assert (found["octobev_threads",], found["octobev_open_descriptors",]) == (14, 41)
    assert found["octobev_camera_condition", "roof", "corrupt"] == 1
    assert found["octobev_camera_condition", "roof", "ok"] == 0
    assert found["octobev_camera_condition", "rear", "ok"] == 1
    assert found["octobev_camera_rate_hertz", "rear"] == 29.97
    assert found["octobev_camera_age_seconds", "front_main"] == 0.012
    assert found["octobev_camera_skew_seconds", "front_main"] == -0.0125
    assert found["octobev_camera_frames_received_total", "rear"] == 109_006
    assert found["octobev_camera_frames_used_total", "rear"] == 108_006
    assert found["octobev_camera_frames_dropped_total", "roof", "surplus"] == 990
    assert found["octobev_camera_frames_corrupt_total", "roof"] == 7
    assert found["octobev_camera_frames_queued", "front_left"] == 2
    assert found["octobev_stage_runs_total", "network"] == 30_412
    assert found["octobev_stage_p50_seconds", "network"] == 0.011
    assert found["octobev_stage_p99_seconds", "latency"] == 0.07125
    assert found["octobev_stage_max_seconds", "step"] == 0.127
    assert found["octobev_stage_stalled_seconds", "network"] == 3.25
    assert found["octobev_stage_stalled_seconds", "decode"] == 0
    assert found["octobev_output_computed", "corridor_direction"] == 0
    assert found["octobev_output_valid", "road_layout"] == 1
    assert found["octobev_output_invalid_total", "occupancy"] == 2
    assert found["octobev_info", "ab" * 32, "cd" * 32] == 1
    assert len({name for name, *_ in found}) == 31


def test_what_is_not_known_is_left_out(make_health: Make) -> None:
    health = make_health(0, rss_bytes=None, threads=None, descriptors=None, latency=None)
    found = samples(prometheus_client.generate_latest(make_registry(lambda: health)).decode())
    assert not {("octobev_resident_memory_bytes",), ("octobev_threads",), ("octobev_open_descriptors",)} & set(found)
    assert ("octobev_stage_p50_seconds", "latency") not in found
    assert ("octobev_stage_p50_seconds", "network") in found


def test_every_metric_is_documented(make_health: Make) -> None:
    text = (Path(__file__).parents[3] / "docs" / "live.md").read_text(encoding="utf-8")
    registry = make_registry(lambda: make_health(8, stalled={"network": 1.5}))
    names = {sample.name for family in registry.collect() for sample in family.samples}
    assert {name for name in names if f"`{name}" not in text} == set()


def test_two_runtimes_in_one_process_share_nothing(make_health: Make) -> None:
    before = set(prometheus_client.REGISTRY._names_to_collectors)
    first, second = make_health(sets=1), make_health(sets=2)
    with MetricsServer(lambda: first, 0) as one, MetricsServer(lambda: second, 0) as other:
        assert samples(read(one.url))["octobev_sets_total",] == 1
        assert samples(read(other.url))["octobev_sets_total",] == 2
    assert set(prometheus_client.REGISTRY._names_to_collectors) == before


def test_only_this_machine_is_served_unless_told_otherwise(make_health: Make) -> None:
    with MetricsServer(make_health, 0) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server._server.socket.getsockname()[0] == "127.0.0.1"


def test_ipv6(make_health: Make) -> None:
    try:
        server = MetricsServer(make_health, 0, "::1")
    except EndpointError:
        pytest.skip("no IPv6 here")
    with server:
        assert server.url.startswith("http://[::1]:")
        assert samples(read(server.url))["octobev_up",] == 1


def test_a_health_that_fails_is_told_and_logged(
    make_health: Make, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> Health:
        raise RuntimeError("broken")

    with MetricsServer(fail, 0) as server, caplog.at_level(logging.ERROR, "octobev.metrics"):
        assert samples(read(server.url)) == {("octobev_up",): 0}
        assert samples(read(server.url)) == {("octobev_up",): 0}  # it goes on
    assert "the health cannot be had" in caplog.text
    assert capfd.readouterr() == ("", "")


def test_a_client_that_goes_away_leaves_no_trace(make_health: Make, capfd: pytest.CaptureFixture[str]) -> None:
    with MetricsServer(make_health, 0) as server:
        for request in (b"", b"nonsense\r\n\r\n", b"GET /metrics HTTP/1.0\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server._server.server_port), 20) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset when closed
                client.sendall(request)
        assert samples(read(server.url))["octobev_up",] == 1
    assert capfd.readouterr() == ("", "")


def test_close_frees_the_port_and_ends_the_thread(make_health: Make) -> None:
    server = MetricsServer(make_health, 0)
    port = server._server.server_port
    assert "octobev-metrics" in {thread.name for thread in threading.enumerate()}
    with pytest.raises(EndpointError, match=f"127.0.0.1:{port}: cannot serve metrics there: .*in use"):
        MetricsServer(make_health, port)
    server.close()
    server.close()
    assert "octobev-metrics" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(urllib.error.URLError):
        read(server.url)
    MetricsServer(make_health, port).close()


@pytest.mark.parametrize(("port", "host"), [(0, "192.0.2.1"), (70_000, "127.0.0.1")])
def test_addresses_that_cannot_be_listened_on(make_health: Make, port: int, host: str) -> None:
    with pytest.raises(EndpointError, match=f"{host}:{port}: cannot serve metrics there"):
        MetricsServer(make_health, port, host)


def test_without_the_library_the_error_says_what_to_install(make_health: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    calls: list[Any] = [lambda: make_registry(make_health), lambda: MetricsServer(make_health, 0)]
    for call in calls:
        with pytest.raises(MissingDependency, match=r"pip install 'octobev\[metrics\]'"):
            call()
