"""The model list: what can be used, as OpenAI lists it."""

import pytest

from gateway.backends.base import ModelCard
from gateway.routing.catalog import Catalog
from gateway.web.services import part_of
from tests.fakes.backend import ScriptedBackend


@pytest.fixture
def listing_app(make_app):
    """An application over one upstream that was heard from."""
    app = make_app(backends=(unheard(),))
    part_of(app, Catalog).learn(
        "gpu",
        [
            ModelCard("zeta", created=5, owned_by="lab"),
            ModelCard("/models/tiny-llama@main"),
            ModelCard("org/model:7b", facts={"context_length": 4096}),
        ],
    )
    return app


def unheard():
    """Return a backend that was not looked at yet."""
    return ScriptedBackend("gpu").probed_at("http://127.0.0.1:1/models")


def ask(app, path, headers):
    """Return the JSON at an address."""
    return app.test_client().get(path, headers=headers)


def test_models_come_sorted_with_every_field_that_clients_rely_on(listing_app, headers):
    answer = ask(listing_app, "/v1/models", headers)

    data = answer.json["data"]
    assert answer.json["object"] == "list"
    assert [item["id"] for item in data] == ["/models/tiny-llama@main", "org/model:7b", "zeta"]
    for item in data:
        assert item["object"] == "model"
        assert isinstance(item["created"], int)
        assert item["created"] > 0
        assert item["owned_by"]
    assert (data[2]["created"], data[2]["owned_by"]) == (5, "lab")
    assert data[1]["context_length"] == 4096


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/zeta", "zeta"),
        ("/v1/models/org/model:7b", "org/model:7b"),
        ("/v1/models/org%2Fmodel:7b", "org/model:7b"),
        ("/v1/models//models/tiny-llama@main", "/models/tiny-llama@main"),
        ("/v1/models/%2Fmodels%2Ftiny-llama@main", "/models/tiny-llama@main"),
    ],
)
def test_a_model_is_described_whatever_slashes_its_name_has(listing_app, headers, path, model):
    answer = ask(listing_app, path, headers)

    assert answer.status_code == 200
    assert answer.json["id"] == model


def test_a_model_alone_is_the_same_as_in_the_list(listing_app, headers):
    listed = ask(listing_app, "/v1/models", headers).json["data"]

    for item in listed:
        assert ask(listing_app, f"/v1/models/{item['id']}", headers).json == item


@pytest.mark.parametrize("name", ["nobody", "org", "org/model", "zeta/x", "..", "ZETA"])
def test_an_unknown_model_is_a_404_that_says_where_to_look(listing_app, headers, name):
    answer = ask(listing_app, f"/v1/models/{name}", headers)

    assert answer.status_code == 404
    assert answer.json["error"]["code"] == "model_not_found"
    assert "GET /v1/models" in answer.json["error"]["message"]


def test_the_list_follows_the_catalog(listing_app, headers):
    part_of(listing_app, Catalog).learn("gpu", [ModelCard("new")])

    assert [m["id"] for m in ask(listing_app, "/v1/models", headers).json["data"]] == ["new"]


def test_an_upstream_that_went_silent_keeps_its_models_listed(listing_app, headers):
    part_of(listing_app, Catalog).lost("gpu", "ConnectionError")

    assert len(ask(listing_app, "/v1/models", headers).json["data"]) == 3


def test_before_anything_was_heard_the_list_is_empty_not_an_error(make_app, headers):
    answer = ask(make_app(backends=(unheard(),)), "/v1/models", headers)

    assert answer.json == {"object": "list", "data": []}


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/mock"])
def test_the_list_is_for_callers_with_a_key(client, path):
    assert client.get(path).status_code == 401
