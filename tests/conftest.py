"""What all tests share: a clock, settings, an application, its client and the leak detector."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before prometheus_client is imported: with this set it would write files instead of counting.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # noqa: TID251  # tests guard the door

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from prometheus_client import CollectorRegistry

from gateway.app import Parts, create_app
from gateway.kernel.logs import Log
from gateway.settings import Settings, read_settings
from gateway.usage.metrics import Metrics
from gateway.web.edge import Edge
from gateway.web.services import part_of
from tests.fakes.clock import FakeClock

KEY = "nxs-tests-0123456789abcdef0123456789abcdef"
"""A key that nothing warns about."""
OURS = ("GATEWAY_", "OBSERVABILITY_", "BACKEND_", "OLLAMA_", "MLX_", "HEALTH_CHECK_", "PROMETHEUS_")
OURS_EXACTLY = frozenset(
    "API_KEYS ALLOWED_ORIGINS DATA_DIR DEFAULT_BACKEND LOG_LEVEL MAX_REQUEST_BYTES MAX_WORKERS "
    "METRICS_ENABLED TIMEOUT_SECONDS WEB_CONCURRENCY".split()
)

hypothesis_settings.register_profile(
    "house", deadline=None, max_examples=100, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
hypothesis_settings.load_profile("house")


class Lines(list[bytes]):
    """The log lines of a test's applications."""

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the records of one event."""
        records = [orjson.loads(line) for line in self]
        return [record for record in records if record["event"] == event]


class ClosingClient(FlaskClient):
    """Reads and closes each answer, as a server does, unless told ``buffered=False``."""

    def open(self, *args: Any, buffered: bool = True, **kwargs: Any) -> Any:
        """Send a request."""
        return super().open(*args, buffered=buffered, **kwargs)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of whoever runs it, or a proxy."""
    for name in tuple(os.environ):  # noqa: TID251  # tests guard the door
        if name.startswith(OURS) or name in OURS_EXACTLY or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def lines() -> Lines:
    """Every log line of the test's applications."""
    return Lines()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A configuration with one strong key and the embedded mock."""
    return read_settings(variables(tmp_path))


@pytest.fixture
def make_app(tmp_path: Path, lines: Lines) -> Iterator[Callable[..., Flask]]:
    """A function that makes an application; none may end with a request still open."""
    made: list[Flask] = []

    def make(backends: Any = None, **more: str) -> Flask:
        parts = Parts(
            log=Log("DEBUG", lines.append), metrics=Metrics(CollectorRegistry()), backends=backends
        )
        app = create_app(read_settings({**variables(tmp_path), **more}), parts)
        app.test_client_class = ClosingClient
        made.append(app)
        return app

    yield make
    for app in made:
        open_requests = part_of(app, Edge).in_flight
        assert open_requests == 0, f"leak: {open_requests} request(s) were never finished"


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """The application with the embedded mock; ``app.wsgi_app`` is the edge."""
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Calls the application on its API port."""
    return app.test_client()


@pytest.fixture
def headers() -> dict[str, str]:
    """What a caller with a valid key sends."""
    return {"Authorization": f"Bearer {KEY}"}


def variables(data_dir: Path) -> dict[str, str]:
    """Return the variables of the usual test configuration."""
    return {"GATEWAY_API_KEYS": KEY, "GATEWAY_MOCK": "on", "DATA_DIR": str(data_dir)}
