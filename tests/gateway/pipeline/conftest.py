"""A stage for calls: scripted backends, a plan over them, and the figures that are kept."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.kernel.call import Plan, Target
from gateway.kernel.registry import load_folder
from gateway.routing.catalog import Catalog
from gateway.usage.metrics import Metrics
from gateway.web.incoming import Incoming
from gateway.web.wait import Wait
from tests.fakes.backend import ScriptedBackend
from tests.fakes.clock import FakeClock

load_folder("gateway.routing.policies")


class Stage:
    """Backends in the order in which they are tried, and what a call leaves behind."""

    def __init__(self, clock: FakeClock, *backends: ScriptedBackend) -> None:
        self.backends = backends
        self.catalog = Catalog(backends, clock)
        self.metrics = Metrics(CollectorRegistry())
        self.incoming = Incoming({}, {})
        self.incoming._wait = Wait(clock=clock)
        targets = (Target(one.upstream.name, f"{one.upstream.name}-model") for one in backends)
        self.plan = Plan(tuple(targets), "direct:model")

    def figure(self, name: str, **labels: Any) -> float:
        """Return a figure, 0 if it was never counted."""
        self.metrics.flush()
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def attempts_counted(self, upstream: str, status: str) -> float:
        """Return how many attempts at an upstream ended so."""
        return self.figure("gateway_upstream_requests_total", upstream=upstream, status=status)

    def asked(self) -> list[int]:
        """Return how often each backend was asked."""
        return [len(backend.calls) for backend in self.backends]


@pytest.fixture
def stage(clock: FakeClock) -> Callable[..., Stage]:
    """A function that sets the stage with backends; no stream may stay open on it."""
    stages = []

    def make(*backends: ScriptedBackend) -> Stage:
        stages.append(Stage(clock, *backends))
        return stages[-1]

    yield make
    for made in stages:
        left_open = [one.upstream.name for one in made.backends if one.open_streams]
        assert left_open == [], f"leak: the streams of {left_open} were never closed"
