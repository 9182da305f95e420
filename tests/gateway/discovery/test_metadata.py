"""What this gateway says about itself follows from its declarations."""

import pytest

from gateway import __version__
from gateway.app import SLICES
from gateway.web.endpoint import endpoints_of

PUBLIC = ["/", "/v1/metadata", "/v1/descriptor"]


@pytest.mark.parametrize("path", PUBLIC)
def test_anyone_may_ask_what_is_here(client, path):
    answer = client.get(path)

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_root_names_every_address(app, client):
    document = client.get("/").json

    assert document["version"] == __version__
    assert document["endpoints"] == sorted({item.path for item in endpoints_of(app)})
    assert "/v1/chat/completions" in document["endpoints"]


def test_every_route_of_the_application_is_described_and_nothing_else(app, client):
    described = {
        (item["method"], item["path"]) for item in client.get("/v1/metadata").json["endpoints"]
    }

    served = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
    }
    assert described == served
    assert len(SLICES) >= 5


def test_every_endpoint_has_a_name_of_its_own_and_a_sentence(client):
    endpoints = client.get("/v1/metadata").json["endpoints"]

    names = [item["operation_id"] for item in endpoints]
    assert len(names) == len(set(names))
    assert all(item["summary"].endswith(".") for item in endpoints)


def test_backends_and_capabilities_follow_the_configuration(make_app):
    app = make_app(
        GATEWAY_MOCK="off", GATEWAY_UPSTREAMS="a=mock://x;b=mock://y", GATEWAY_DEFAULT_UPSTREAM="b",
        GATEWAY_MAX_IN_FLIGHT="7",
    )  # fmt: skip

    document = app.test_client().get("/v1/metadata").json

    assert document["schema_version"] == "v1"
    assert document["backends"] == {"default": "b", "available": ["a", "b"]}
    assert document["capabilities"] == {
        "domains": ["chat", "completion", "embedding"], "modalities": ["text"], "streaming": True,
        "max_concurrency": 7,
    }  # fmt: skip


def test_without_a_chosen_default_the_first_upstream_is_named(make_app):
    app = make_app(GATEWAY_MOCK="off", GATEWAY_UPSTREAMS="a=mock://x;b=mock://y")

    assert app.test_client().get("/v1/metadata").json["backends"]["default"] == "a"


def test_with_no_upstream_at_all_it_still_answers(make_app):
    app = make_app(GATEWAY_MOCK="off")

    document = app.test_client().get("/v1/metadata").json

    assert document["backends"] == {"default": None, "available": []}
    assert document["capabilities"]["domains"] == []


def test_the_descriptor_tells_no_model_names_without_a_key(client, headers):
    answer = client.get("/v1/descriptor")

    [model] = [option for option in answer.json["ui"]["options"] if option["key"] == "model"]
    listed = [item["id"] for item in client.get("/v1/models", headers=headers).json["data"]]
    assert model["type"] == "string"
    assert not any(name in answer.text for name in listed if name != "mock")
    assert answer.json["response_types"]["streaming"] == "text/event-stream"


def test_the_descriptor_says_everything_that_the_metadata_says(client):
    metadata = client.get("/v1/metadata").json

    assert metadata.items() <= client.get("/v1/descriptor").json.items()


def test_no_address_of_an_upstream_is_told(make_app):
    app = make_app(GATEWAY_UPSTREAMS="gpu=http://10.11.12.13:8001/v1")

    for path in PUBLIC:
        assert "10.11.12.13" not in app.test_client().get(path).text
