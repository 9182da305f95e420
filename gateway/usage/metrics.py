"""Every metric of the gateway, declared in one table.

Under gunicorn prometheus_client runs in multiprocess mode: each worker writes its own files and a
scrape adds them up. Label values come only from closed sets, so a caller cannot grow the series.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from gateway import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table."""

    kind: type[Any]
    name: str
    help: str
    labels: tuple[str, ...] = ()


TABLE = (
    Metric(Counter, "gateway_requests_total", "Finished requests.", ("path", "status")),
    Metric(
        Histogram, "gateway_request_latency_seconds", "Time from request to last byte.", ("path",)
    ),
    Metric(Gauge, "gateway_in_flight_requests", "Requests being carried, streams included."),
    Metric(
        Counter,
        "gateway_auth_failures_total",
        "Requests refused for their credential.",
        ("reason",),
    ),
    Metric(
        Counter,
        "gateway_upstream_requests_total",
        "Attempts at an upstream.",
        ("upstream", "status"),
    ),
    Metric(Histogram, "gateway_upstream_latency_seconds", "Time of an attempt.", ("upstream",)),
    Metric(
        Histogram,
        "gateway_time_to_first_token_seconds",
        "Time to the first content of a stream.",
        ("upstream",),
    ),
    Metric(
        Counter, "gateway_tokens_total", "Tokens of finished answers.", ("upstream", "direction")
    ),
    Metric(
        Counter, "gateway_clients_gone_total", "Callers that left before their answer was complete."
    ),
    Metric(Gauge, "gateway_build_info", "Always 1; its label tells the version.", ("version",)),
)


class Metrics:
    """The metrics of one process, their labelled children kept in dictionaries.

    Shared: One a process; prometheus_client's own locks guard the values.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._metrics = {row.name: _declare(row, self.registry) for row in TABLE}
        self._children: dict[tuple[str, ...], Any] = {}
        self.of("gateway_build_info", __version__).set(1)

    def of(self, name: str, *labels: str) -> Any:
        """Return a metric, or its child for these label values; the look-up is one dictionary access."""
        key = (name, *labels)
        child = self._children.get(key)
        if child is None:
            metric = self._metrics[name]
            child = self._children[key] = metric.labels(*labels) if labels else metric
        return child

    def text(self) -> bytes:
        """Return all metrics, of all workers, in Prometheus' text format."""
        if values.ValueClass.__name__ == "MmapedValue":
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
            return generate_latest(registry)
        return generate_latest(self.registry)

    def names(self) -> Iterable[str]:
        """Return every declared name."""
        return (row.name for row in TABLE)


def _declare(row: Metric, registry: CollectorRegistry) -> Any:
    if row.kind is Histogram:
        return Histogram(row.name, row.help, row.labels, registry=registry, buckets=_SECONDS)
    if row.kind is Gauge:
        mode = "livesum" if not row.labels else "livemostrecent"
        return Gauge(row.name, row.help, row.labels, registry=registry, multiprocess_mode=mode)
    return row.kind(row.name, row.help, row.labels, registry=registry)
