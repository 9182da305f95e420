"""Health, readiness and metrics, on both ports."""

import gevent
import pytest

from gateway import __version__
from gateway.backends.base import ModelCard
from gateway.routing.catalog import Catalog
from gateway.web import wait
from gateway.web.services import part_of
from tests.fakes import wsgi

TWO = {"GATEWAY_MOCK": "off", "GATEWAY_UPSTREAMS": "one=http://127.0.0.1:1;two=http://127.0.0.1:2"}


@pytest.fixture
def two_upstreams(make_app):
    """An application over two upstreams that were not looked at yet."""
    return make_app(**TWO)


@pytest.fixture
def draining():
    """A process that was told to stop."""
    wait.drain_in(3600)
    yield
    wait._sweeper_of(gevent.get_hub()).drain_at_s = float("inf")


def get(app, path, headers=None):
    """Return the answer of the API port."""
    return app.test_client().get(path, headers=headers)


# --- health --------------------------------------------------------------------------------------


def test_health_tells_version_and_time_without_a_key(client):
    document = client.get("/health").json

    assert document["ok"] is True
    assert document["status"] == "ok"
    assert document["version"] == __version__
    assert document["timestamp"].endswith("+00:00")


@pytest.mark.parametrize("look", [None, "learn", "lost"])
def test_health_is_200_whatever_the_upstreams_do(two_upstreams, look):
    catalog = part_of(two_upstreams, Catalog)
    if look == "learn":
        catalog.learn("one", [ModelCard("m")])
    elif look == "lost":
        catalog.lost("one", "ConnectionError")
        catalog.lost("two", "ConnectionError")

    answer = get(two_upstreams, "/health")

    words = {None: "unknown", "learn": "healthy", "lost": "unreachable"}
    assert answer.status_code == 200
    assert answer.json["ok"] is True
    assert answer.json["status"] == ("ok" if look == "learn" else "degraded")
    assert answer.json["services"]["one"] == words[look]


def test_health_is_200_while_draining(client, draining):
    assert client.get("/health").status_code == 200


def test_health_is_200_with_no_upstream_at_all(make_app):
    assert get(make_app(GATEWAY_MOCK="off"), "/health").status_code == 200


# --- readiness -----------------------------------------------------------------------------------


def test_the_embedded_mock_alone_is_ready(client):
    document = client.get("/readyz")

    assert document.status_code == 200
    assert document.json == {
        "ok": True, "ready": True, "status": "ready", "checks": {"process": "ok"},
    }  # fmt: skip


def test_upstreams_that_were_not_looked_at_are_not_ready(two_upstreams):
    answer = get(two_upstreams, "/readyz")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json == {
        "ok": False, "ready": False, "status": "not_ready",
        "checks": {"one": "unknown", "two": "unknown", "process": "ok"},
    }  # fmt: skip


def test_one_upstream_that_answers_is_enough(two_upstreams):
    catalog = part_of(two_upstreams, Catalog)
    catalog.lost("one", "ConnectionError")
    catalog.learn("two", [])

    answer = get(two_upstreams, "/readyz")

    assert answer.status_code == 200
    assert answer.json["checks"] == {"one": "unavailable", "two": "ok", "process": "ok"}


def test_when_the_last_one_is_lost_it_is_no_longer_ready(two_upstreams):
    catalog = part_of(two_upstreams, Catalog)
    catalog.learn("one", [])
    assert get(two_upstreams, "/readyz").status_code == 200

    catalog.lost("one", "ConnectionError")

    assert get(two_upstreams, "/readyz").status_code == 503


def test_a_draining_process_is_not_ready_however_well_its_upstreams_are(client, draining):
    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json["checks"]["process"] == "draining"


def test_both_ports_tell_the_same_readiness(two_upstreams):
    answers = [
        wsgi.ask(two_upstreams.wsgi_app, wsgi.environ(path="/readyz", port=port))
        for port in (8800, 8801)
    ]

    assert [answer.status for answer in answers] == [503, 503]
    assert answers[0].read() == answers[1].read()


# --- upstreams -----------------------------------------------------------------------------------


def test_the_last_look_at_each_upstream_is_told(two_upstreams, headers):
    catalog = part_of(two_upstreams, Catalog)
    catalog.learn("one", [ModelCard("a"), ModelCard("b")])
    catalog.lost("two", "ConnectTimeout")

    document = get(two_upstreams, "/health/upstreams", headers).json

    assert document["ok"] is False
    one, two = document["upstreams"]["one"], document["upstreams"]["two"]
    assert (one["ok"], one["status"], one["models"]) == (True, "healthy", 2)
    assert 0 <= one["age_s"] < 60
    assert (two["ok"], two["status"], two["error"]) == (False, "unreachable", "ConnectTimeout")


def test_an_upstream_that_was_never_looked_at_has_no_age(two_upstreams, headers):
    document = get(two_upstreams, "/health/upstreams", headers).json

    assert document["upstreams"]["one"] == {"ok": False, "status": "unknown", "models": 0}


def test_an_upstream_that_nobody_configured_is_told_but_does_not_make_it_unwell(
    client, app, headers
):
    """Beside the mock, an Ollama is tried that most machines do not run."""
    part_of(app, Catalog).lost("ollama", "connection refused")

    document = client.get("/health/upstreams", headers=headers).json

    assert document["ok"] is True
    assert document["upstreams"]["ollama"]["error"] == "connection refused"
    assert document["upstreams"]["mock"]["ok"] is True


def test_no_address_of_an_upstream_is_told(two_upstreams, headers):
    text = (
        get(two_upstreams, "/health/upstreams", headers).text + get(two_upstreams, "/health").text
    )

    assert "127.0.0.1" not in text


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_come_in_the_text_format_of_prometheus(client, headers):
    client.get("/nowhere")

    answer = client.get("/metrics", headers=headers)

    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert 'gateway_requests_total{path="unmatched",status="404"} 1.0\n' in answer.text


@pytest.mark.parametrize("port", [8800, 8801])
def test_switched_off_there_are_no_metrics_on_either_port(make_app, headers, port):
    app = make_app(METRICS_ENABLED="false")
    request = wsgi.environ(path="/metrics", port=port, HTTP_AUTHORIZATION=headers["Authorization"])

    answer = wsgi.ask(app.wsgi_app, request)

    assert answer.status == 404
    assert b"METRICS_ENABLED" in answer.read()
