"""Every metric of the gateway, declared in one table.

Under gunicorn prometheus_client runs in multiprocess mode: each worker writes its own files and a
scrape adds them up. Label values come only from closed sets, so a caller cannot grow the series.
"""

from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from gateway import __version__
from gateway.usage.tally import BulkHistogram, CounterTally, HistogramTally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Model answers take minutes; the usual buckets end at ten seconds."""


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
        Histogram,
        "gateway_request_latency_seconds",
        "Time from the request to the answer's last byte.",
        ("path",),
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
        Counter,
        "gateway_tokens_total",
        "Tokens of answers, by direction.",
        ("upstream", "direction"),
    ),
    Metric(
        Counter, "gateway_clients_gone_total", "Callers that left before their answer was complete."
    ),
    Metric(Gauge, "gateway_build_info", "Always 1; its label tells the version.", ("version",)),
)


class Metrics:
    """The metrics of one process.

    Shared: One a process. Counters and histograms are tallied without locks, since no greenlet
    switches inside; ``flush`` hands them to prometheus_client.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._counters: dict[str, CounterTally] = {}
        self._histograms: dict[str, HistogramTally] = {}
        self._gauges: dict[str, Gauge] = {}
        for row in TABLE:
            self._declare(row)
        self.set("gateway_build_info", 1, __version__)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        self._counters[name].add(labels, by)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add an observation to a histogram."""
        self._histograms[name].add(labels, value)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge at once; for what changes seldom."""
        gauge = self._gauges[name]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def flush(self) -> None:
        """Hand everything counted so far to prometheus_client."""
        for counter in self._counters.values():
            counter.flush()
        for histogram in self._histograms.values():
            histogram.flush()

    def text(self) -> bytes:
        """Return all metrics, of all workers, in Prometheus' text format."""
        self.flush()
        if values.ValueClass.__name__ == "MmapedValue":
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # has no types
            return generate_latest(registry)
        return generate_latest(self.registry)

    def _declare(self, row: Metric) -> None:
        if row.kind is Histogram:
            metric = BulkHistogram(
                row.name, row.help, row.labels, registry=self.registry, buckets=_SECONDS
            )
            self._histograms[row.name] = HistogramTally(metric, _SECONDS)
        elif row.kind is Counter:
            counter = Counter(row.name, row.help, row.labels, registry=self.registry)
            self._counters[row.name] = CounterTally(counter)
        else:
            # A dead worker's requests are no longer carried; its version is no longer of interest.
            self._gauges[row.name] = Gauge(
                row.name,
                row.help,
                row.labels,
                registry=self.registry,
                multiprocess_mode="livemostrecent" if row.labels else "livesum",
            )
