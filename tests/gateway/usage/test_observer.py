"""The last step of every request: counted, timed, told in one line."""

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.kernel.logs import Log
from gateway.usage.metrics import Metrics
from gateway.usage.observer import RequestObserver
from tests.fakes import wsgi


@pytest.fixture
def metrics():
    """Metrics of their own registry."""
    return Metrics(CollectorRegistry())


@pytest.fixture
def finish(metrics):
    """A function that finishes a request and returns what was logged about it."""

    def finished(endpoint, status=200, took_s=0.0123, **facts):
        written = []
        incoming = wsgi.incoming("POST", "/raw/path?q=1", HTTP_X_REQUEST_ID="r1")
        incoming.facts.update(facts)
        observer = RequestObserver(metrics, Log("DEBUG", written.append))
        observer.finished(incoming, endpoint, status, took_s)
        return [orjson.loads(line) for line in written]

    return finished


def value(metrics, name, **labels):
    """Return a sample after everything was handed over."""
    metrics.flush()
    return metrics.registry.get_sample_value(name, labels)


def test_a_request_is_one_line_with_what_is_known_about_it(finish):
    [line] = finish("/v1/chat/completions", backend="mock", tokens_in=3, principal="k1")

    line.pop("timestamp")
    line.pop("pid")
    assert line == {
        "level": "INFO", "event": "request", "request_id": "r1", "method": "POST",
        "endpoint": "/v1/chat/completions", "status": 200, "duration_ms": 12.3, "backend": "mock",
        "tokens_in": 3, "principal": "k1",
    }  # fmt: skip


def test_the_raw_path_is_neither_logged_nor_counted(finish, metrics):
    lines = finish("unmatched", 404)

    assert "/raw/path" not in str(lines)
    assert b"/raw/path" not in metrics.text()


def test_a_request_is_counted_and_timed_by_its_template(finish, metrics):
    finish("/v1/models", 200, 0.3)

    assert value(metrics, "gateway_requests_total", path="/v1/models", status="200") == 1
    assert value(metrics, "gateway_request_latency_seconds_sum", path="/v1/models") == 0.3


@pytest.mark.parametrize(("code", "gone"), [("client_gone", 1), ("upstream_timeout", 0), (None, 0)])
def test_callers_that_left_are_counted(finish, metrics, code, gone):
    finish("/v1/chat/completions", 499, **({"code": code} if code else {}))

    assert value(metrics, "gateway_clients_gone_total") == gone


@pytest.mark.parametrize("path", ["/health", "/readyz", "/metrics"])
@pytest.mark.parametrize("port", ["", "observability "])
def test_what_machines_ask_every_second_is_counted_in_silence(finish, metrics, path, port):
    assert finish(port + path) == []
    assert value(metrics, "gateway_requests_total", path=port + path, status="200") == 1


def test_a_health_check_that_fails_is_logged(finish):
    assert finish("observability /readyz", 503) != []
    assert finish("/health/upstreams", 200) != []


@pytest.mark.parametrize(
    ("status", "facts", "level"),
    [
        (200, {}, "INFO"),
        (404, {"code": "model_not_found"}, "INFO"),
        (429, {"code": "rate_limited"}, "INFO"),
        (499, {"code": "client_gone"}, "INFO"),
        (200, {"code": "client_gone"}, "INFO"),
        (200, {"code": "upstream_truncated"}, "WARNING"),
        (500, {"code": "internal_error"}, "WARNING"),
        (503, {"code": "no_backend"}, "WARNING"),
        (599, {}, "WARNING"),
    ],
)
def test_what_an_operator_should_look_at_is_a_warning(finish, status, facts, level):
    """A caller's mistake or leave is not; a stream that ended badly after its 200 is."""
    [line] = finish("/v1/chat/completions", status, **facts)

    assert line["level"] == level


def test_figures_that_were_estimated_are_told_as_such(finish):
    [guessed] = finish("/v1/chat/completions", tokens_in=3, estimated=True)
    [reported] = finish("/v1/chat/completions", tokens_in=3, estimated=None)

    assert guessed["estimated"] is True
    assert "estimated" not in reported
