"""The health of a live runtime for Prometheus: a collector on a registry of its own, and a small HTTP server."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ...errors import EndpointError, MissingDependency
from .health import CameraCondition, CameraHealth, Health, OutputHealth, Spread

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

LOOPBACK: Final = "127.0.0.1"

_IDLE_S: Final = 5.0
_LOG: Final = logging.getLogger("octobev.metrics")
Rows = list[tuple[tuple[str, ...], float | None]]
"""Values with their labels; what is None is left out."""


class MetricsServer:
    """Serves metrics over HTTP, any path, until it is closed.

    One thread, `octobev-metrics`, and one for each request while it lasts. Nothing is kept between requests: each asks
    for the health anew. What fails is logged under `octobev.metrics`, and then `octobev_up` is 0.

    Parameters
    ----------
    health : gives the state now, from any thread, such as `LiveRuntime.health`
    port : TCP port; 0 takes a free one, see :attr:`url`
    host : address to listen on. There is neither encryption nor a password: beyond the loopback interface everybody who
        reaches the port may read

    Raises
    ------
    MissingDependency
        prometheus-client is not installed.
    EndpointError
        The address cannot be listened on: in use, not this machine's, not permitted.
    """

    def __init__(self, health: Callable[[], Health], port: int, host: str = LOOPBACK) -> None:
        registry = make_registry(health)
        from prometheus_client import make_wsgi_app

        try:
            self._server = make_server(
                host, port, make_wsgi_app(registry), _Server6 if ":" in host else _Server, handler_class=_Handler
            )
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise EndpointError(f"{host}:{port}: cannot serve metrics there: {reason}") from error
        self._host = f"[{host}]" if ":" in host else host
        self._closed = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="octobev-metrics", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where Prometheus finds the metrics."""
        return f"http://{self._host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop serving and end the thread. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def make_registry(health: Callable[[], Health]) -> CollectorRegistry:
    """Make a registry with the metrics of one runtime, for hosts that serve metrics themselves.

    Raises
    ------
    MissingDependency
        prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise MissingDependency("metrics need prometheus-client: pip install 'octobev[metrics]'") from error
    registry = CollectorRegistry()
    registry.register(_HealthCollector(health))
    return registry


class _HealthCollector:
    """Asks for the health whenever metrics are asked for."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Give all metrics; only `octobev_up` when the health cannot be had."""
        try:
            health = self._health()
        except Exception:
            _LOG.exception("the health cannot be had")
            yield _gauge("up", "Whether the state of the runtime could be had.", 0)
            return
        yield _gauge("up", "Whether the state of the runtime could be had.", 1)
        yield from _runtime(health)
        yield from _cameras(health.cameras)
        yield from _stages(health)
        yield from _outputs(health.outputs)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing on stderr: a client that goes away is none of the host's business."""
        _LOG.debug("a request from %s failed", client_address, exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log no requests."""


def _runtime(health: Health) -> Iterator[Metric]:
    from prometheus_client.core import InfoMetricFamily

    identity = {"rig_sha256": health.rig_sha256, "bundle_sha256": health.bundle_sha256}
    yield InfoMetricFamily("octobev", "Calibration and bundle in use.", identity)
    yield _gauge("uptime_seconds", "Time since the runtime was started.", health.uptime_ns / 1e9)
    yield _gauge("valid", "Whether the latest predictions say anything.", health.valid)
    yield _counter("sets", "Sets of frames that were stepped.", health.sets)
    yield _counter("sets_incomplete", "Sets that were stepped without one of the cameras.", health.incomplete)
    yield _counter("sets_overrun", "Sets dropped because a newer one was there.", health.overrun)
    yield _counter("deadline_misses", "Sets that took longer than the frame budget.", health.deadline_misses)
    yield _counter("resets", "How often what is carried over time began anew.", _rows(health.resets), "reason")
    yield _counter("errors", "Errors that were caught.", _rows(health.errors), "where")
    yield _gauge("queue_length", "What waits now.", _rows(health.queues), "queue")
    yield _gauge("resident_memory_bytes", "Resident memory of the process.", health.rss_bytes)
    yield _gauge("threads", "Threads of the process.", health.threads)
    yield _gauge("open_descriptors", "Open file descriptors of the process.", health.descriptors)


def _cameras(cameras: Mapping[str, CameraHealth]) -> Iterator[Metric]:
    def each(value: Callable[[CameraHealth], float | None]) -> Rows:
        return [((name,), value(camera)) for name, camera in cameras.items()]

    conditions: Rows = [
        ((n, which.value), c.condition is which) for n, c in cameras.items() for which in CameraCondition
    ]
    yield _gauge("camera_condition", "1 for the condition that the camera is in.", conditions, "camera", "condition")
    yield _gauge("camera_rate_hertz", "Frames that arrive per second.", each(lambda c: c.rate_hz), "camera")
    yield _gauge("camera_age_seconds", "Since the latest frame arrived.", each(lambda c: _seconds(c.age_ns)), "camera")
    yield _gauge(
        "camera_skew_seconds", "Capture time minus that of its set.", each(lambda c: _seconds(c.skew_ns)), "camera"
    )
    yield _counter("camera_frames_received", "Frames that arrived.", each(lambda c: c.received), "camera")
    yield _counter("camera_frames_used", "Frames that went through the networks.", each(lambda c: c.used), "camera")
    dropped: Rows = [((name, why), n) for name, camera in cameras.items() for why, n in camera.dropped.items()]
    yield _counter("camera_frames_dropped", "Frames that were not used.", dropped, "camera", "reason")
    yield _counter("camera_frames_corrupt", "Frames that could not be read.", each(lambda c: c.corrupt), "camera")
    yield _gauge("camera_frames_queued", "Frames that wait for their set.", each(lambda c: c.queued), "camera")


def _stages(health: Health) -> Iterator[Metric]:
    spreads: dict[str, Spread] = dict(health.stages)
    if health.latency is not None:
        spreads["latency"] = health.latency

    def each(value: Callable[[Spread], float]) -> Rows:
        return [((name,), value(spread)) for name, spread in spreads.items()]

    yield _counter("stage_runs", "How often a stage ran.", each(lambda s: s.count), "stage")
    yield _gauge("stage_p50_seconds", "Median of what it took lately.", each(lambda s: s.p50_ms / 1e3), "stage")
    yield _gauge("stage_p99_seconds", "99th percentile of it.", each(lambda s: s.p99_ms / 1e3), "stage")
    yield _gauge("stage_max_seconds", "Most that it took lately.", each(lambda s: s.max_ms / 1e3), "stage")
    stalled: Rows = [((name,), health.stalled.get(name, 0.0)) for name in {**health.stages, **health.stalled}]
    yield _gauge("stage_stalled_seconds", "For how long it has been stuck; 0 when it is not.", stalled, "stage")


def _outputs(outputs: Mapping[str, OutputHealth]) -> Iterator[Metric]:
    def each(value: Callable[[OutputHealth], float]) -> Rows:
        return [((name,), value(output)) for name, output in outputs.items()]

    yield _gauge("output_computed", "Whether it is computed now.", each(lambda o: o.computed), "output")
    yield _gauge("output_valid", "Whether it was in the latest predictions.", each(lambda o: o.valid), "output")
    yield _counter("output_invalid", "In how many predictions it was withheld.", each(lambda o: o.invalid), "output")


def _gauge(name: str, text: str, values: Rows | float | None, *labels: str) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(f"octobev_{name}", text, labels=labels), values)


def _counter(name: str, text: str, values: Rows | float, *labels: str) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(f"octobev_{name}", text, labels=labels), values)


def _filled(family: Any, values: Rows | float | None) -> Metric:
    for labels, value in values if isinstance(values, list) else [((), values)]:
        if value is not None:
            family.add_metric(labels, float(value))
    metric: Metric = family
    return metric


def _rows(counts: Mapping[str, int]) -> Rows:
    return [((name,), count) for name, count in counts.items()]


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
