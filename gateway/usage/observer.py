"""The last step of every request: counted, timed, and told in one log line."""

from gateway.kernel.logs import Log
from gateway.usage.metrics import Metrics
from gateway.web.incoming import Incoming

_OK = 200
_FAILED = 500
_QUIET = frozenset({"/health", "/readyz", "/metrics"})
"""What machines ask every few seconds; counted, not logged unless it fails."""


class RequestObserver:
    """Told once about each finished request by the edge."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log

    def finished(self, incoming: Incoming, endpoint: str, status: int, took_s: float) -> None:
        """Count and log a request.

        Args:
            endpoint: The route's template, never the raw path, so that callers cannot make series.
        """
        self._metrics.count("gateway_requests_total", endpoint, str(status))
        self._metrics.observe("gateway_request_latency_seconds", took_s, endpoint)
        code = incoming.facts.get("code")
        if code == "client_gone":
            self._metrics.count("gateway_clients_gone_total")
        if endpoint.rpartition(" ")[2] in _QUIET and status == _OK:
            return
        is_failure = status >= _FAILED or (status == _OK and code not in {None, "client_gone"})
        write = self._log.warning if is_failure else self._log.info
        write(
            "request", request_id=incoming.request_id, method=incoming.environ["REQUEST_METHOD"],
            endpoint=endpoint, status=status, duration_ms=round(took_s * 1000, 1), **incoming.facts,
        )  # fmt: skip
