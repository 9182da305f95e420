"""Hands metrics over once a second: what changes with every request must not cost every request."""

from collections.abc import Callable
from typing import Any

import gevent

from gateway.usage.metrics import Metrics

PERIOD_S = 1.0


class Sampler:
    """A background greenlet that copies counts into gauges."""

    def __init__(self, metrics: Metrics, in_flight: Callable[[], int]) -> None:
        self._metrics = metrics
        self._in_flight = in_flight
        self._greenlet: Any = None

    def sample(self) -> None:
        """Copy the gauges and hand over the counts now."""
        self._metrics.set("gateway_in_flight_requests", self._in_flight())
        self._metrics.flush()

    def start(self) -> None:
        """Begin copying; returns at once."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Stop copying, after a last time."""
        gevent.kill(self._greenlet)
        self.sample()

    def _run(self) -> None:
        while True:
            self.sample()
            gevent.sleep(PERIOD_S)
