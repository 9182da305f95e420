"""The composition: every part made once, handed its settings, joined in order."""

import contextlib
import os

import gevent
import pytest

from gateway import __version__
from gateway.app import create_app, start, stop
from gateway.auth.first_key import DIGESTS, make_first_key
from gateway.kernel.logs import Log
from gateway.pipeline.pipeline import Pipeline
from gateway.routing.catalog import Catalog
from gateway.routing.probes import Probes
from gateway.routing.router import Router
from gateway.settings import read_settings
from gateway.usage.metrics import Metrics
from gateway.usage.sampler import Sampler
from gateway.web.edge import Edge
from gateway.web.endpoint import Guard
from gateway.web.services import part_of
from gateway.web.settings import WebSettings
from gateway.web.stream import StreamCut
from tests.fakes.backend import ScriptedBackend, role, says


@pytest.mark.parametrize(
    "kind",
    [Log, Metrics, Catalog, Router, Pipeline, Probes, Guard, WebSettings, Edge, Sampler],
    ids=lambda kind: kind.__name__,
)
def test_every_part_is_found_by_its_type(app, kind):
    assert part_of(app, kind) is not None


def test_the_edge_is_what_the_server_calls(app):
    assert app.wsgi_app is part_of(app, Edge)


def test_parts_that_a_test_brings_along_are_used(settings, lines):
    app = create_app(settings)

    assert part_of(app, Log) is not lines
    assert part_of(app, WebSettings) is settings.web


def test_two_applications_share_nothing(make_app):
    one, other = make_app(), make_app()

    for kind in (Catalog, Edge, Metrics, Pipeline):
        assert part_of(one, kind) is not part_of(other, kind)


def test_a_key_made_at_the_first_start_opens_the_gateway(make_app, tmp_path):
    key = make_first_key(tmp_path)
    app = make_app(GATEWAY_API_KEYS="")

    answer = app.test_client().get("/v1/models", headers={"X-API-Key": key})

    assert answer.status_code == 200


def test_stored_keys_that_were_spoilt_meanwhile_stop_no_new_worker(
    make_app, headers, lines, tmp_path
):
    """The master refuses them at its start; a worker that is made anew goes on with the others."""
    admin = make_first_key(tmp_path)
    (tmp_path / DIGESTS).write_text("{", encoding="utf-8")

    client = make_app().test_client()

    [line] = lines.events("stored keys unreadable")
    assert line["level"] == "WARNING"
    assert str(tmp_path / DIGESTS) in line["reason"]
    assert client.get("/v1/models", headers=headers).status_code == 200
    assert client.get("/v1/models", headers={"X-API-Key": admin}).status_code == 401


def test_a_worker_tells_what_it_is_when_it_starts_and_that_it_stops(make_app, lines):
    app = make_app(GATEWAY_UPSTREAMS="two=http://127.0.0.1:1;one=http://127.0.0.1:1")

    start(app)
    stop(app)

    [started], [stopped] = lines.events("worker started"), lines.events("worker stopped")
    assert started["version"] == __version__
    assert started["upstreams"] == ["mock", "one", "two"]
    assert started["pid"] == stopped["pid"] == os.getpid()


def test_a_request_for_nobodys_model_is_logged_with_what_was_asked_for(client, headers, lines):
    body = {"model": "nobodys", "messages": [{"role": "user", "content": "x"}]}

    client.post("/v1/chat/completions", headers=headers, json=body)

    [line] = lines.events("request")
    assert (line["model"], line["param"]) == ("nobodys", "model")


def test_no_other_file_is_served(client):
    for path in ("/static/x", "/static/", "/favicon.ico", "/../etc/passwd"):
        assert client.get(path).status_code == 404


def test_nothing_runs_before_the_start_and_nothing_after_the_stop(make_app):
    """The one upstream refuses connections at once: port 1 of this machine."""
    app = make_app(GATEWAY_MOCK="off", GATEWAY_UPSTREAMS="one=http://127.0.0.1:1")
    catalog, probes = part_of(app, Catalog), part_of(app, Probes)
    assert catalog.health()["one"].healthy is None

    start(app)
    with gevent.Timeout(10):
        while catalog.health()["one"].healthy is None:
            gevent.sleep(0.01)
    stop(app)

    assert catalog.health()["one"].healthy is False
    assert probes._greenlets == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/v1",
        "https://127.0.0.1:1/v1",
        "ollama://127.0.0.1:1",
        "mlx://127.0.0.1:1",
        "mock://x",
    ],
)
def test_every_kind_of_upstream_can_be_configured(tmp_path, url):
    settings = read_settings({"GATEWAY_UPSTREAMS": f"one={url}", "DATA_DIR": str(tmp_path)})

    app = create_app(settings)

    assert next(iter(part_of(app, Catalog).snapshot.backends)) == "one"


class Defective(ScriptedBackend):
    """Breaks in a way that nobody foresaw, before or after its first words."""

    def reply(self, call, model, wait):
        raise RuntimeError

    def stream(self, call, model, wait, beat_s):
        if model == "late":
            yield role() + says("a")
        raise RuntimeError


@pytest.mark.parametrize(
    ("model", "stream", "status"),
    [("early", False, 500), ("early", True, 500), ("late", True, 200)],
)
def test_a_defect_is_told_as_one_and_nobody_is_said_to_have_left(
    make_app, headers, lines, model, stream, status
):
    app = make_app(backends=(Defective("gpu").listing("early", "late"),))
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "x"}]}

    answer = app.test_client().post(
        "/v1/chat/completions", headers=headers, json=body, buffered=False
    )
    with contextlib.suppress(StreamCut):
        answer.get_data()
    answer.close()

    metrics = app.test_client().get("/metrics", headers=headers).text
    [line] = [line for line in lines.events("request") if line["method"] == "POST"]
    assert answer.status_code == status
    assert line["code"] == "internal_error"
    assert "gateway_clients_gone_total 0.0" in metrics
    assert 'gateway_upstream_requests_total{status="internal_error",upstream="gpu"} 1.0' in metrics


def test_a_whole_conversation_passes_through_all_parts(client, headers, lines):
    body = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}

    answer = client.post("/v1/chat/completions", headers=headers, json=body)

    assert "Hello" in answer.json["choices"][0]["message"]["content"]
    [line] = lines.events("request")
    assert (line["backend"], line["model"], line["status"]) == ("mock", "mock", 200)
    assert line["tokens_in"] == answer.json["usage"]["prompt_tokens"]
