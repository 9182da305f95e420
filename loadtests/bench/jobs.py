"""What the runner asks of the load generator, and what it answers: one JSON line each way."""

import msgspec

from loadtests.bench import figures


class Endpoint(msgspec.Struct, frozen=True):
    """Where to ask for chat completions; ``pid`` is the measured tree's root, 0 for none."""

    port: int
    path: str
    headers: dict[str, str]
    pid: int = 0


class Job(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """What all jobs have in common: where, which model, and after how long it has failed."""

    endpoint: Endpoint
    model: str
    stream: bool = False
    prompt_chars: int = 0
    limit_s: float = 60.0


class ClosedLoop(Job, frozen=True, tag=True, kw_only=True):
    """So many connections ask again as soon as they are answered, until one of the two bounds.

    Processor time is taken until ``deferred_s`` after the last answer: work put off counts too.
    """

    connections: int
    max_s: float
    max_requests: int = 1_000_000
    deferred_s: float = 0.3


class OpenLoop(Job, frozen=True, tag=True, kw_only=True):
    """Requests leave at fixed times, whatever became of the earlier ones."""

    requests_per_s: float
    max_s: float


class Crowd(Job, frozen=True, tag=True, kw_only=True):
    """Many paced streams at once; processor time is taken in a window in which all of them run.

    They must have begun within ``opening_s``: the window lies before the planned end of the first.
    """

    streams: int
    opening_s: float
    window_s: float


class Hold(Job, frozen=True, tag=True, kw_only=True):
    """Many slow streams are opened for their memory, then dropped."""

    streams: int


AnyJob = ClosedLoop | OpenLoop | Crowd | Hold


class Outcome(msgspec.Struct, kw_only=True):
    """What one job found; with a problem the figures are void.

    Units: latencies run from sending to the last byte, lags from the upstream's sending of a chunk
    to its arrival; ``late_ms`` is how late the generator itself sent (open loop).
    """

    problems: list[str] = []
    requests: int = 0
    chunks: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    memory_mb: float = 0.0
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    lag_p50_ms: float | None = None
    lag_p99_ms: float | None = None
    late_p99_ms: float | None = None

    def set_latencies(self, latencies_ns: list[int]) -> None:
        """Fill in the latency percentiles."""
        if latencies_ns:
            self.latency_p50_ms = figures.percentile(latencies_ns, 0.50) / 1e6
            self.latency_p99_ms = figures.percentile(latencies_ns, 0.99) / 1e6

    def set_lags(self, lags_ns: list[int]) -> None:
        """Fill in the chunk lag percentiles."""
        if lags_ns:
            self.lag_p50_ms = figures.percentile(lags_ns, 0.50) / 1e6
            self.lag_p99_ms = figures.percentile(lags_ns, 0.99) / 1e6
