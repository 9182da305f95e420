"""Embeddings through the official client, whichever encoding the upstream offers."""

import base64
import struct
from typing import Any

import pytest

from tests.contract import fake_openai
from tests.contract.flavours import Flavour
from tests.contract.running import Gateway
from tests.contract.sites import Site

KINDS = (
    fake_openai.EMBEDDINGS,
    fake_openai.EMBEDDINGS_FLOATS,
    fake_openai.EMBEDDINGS_BASE64,
    fake_openai.EMBEDDINGS_NESTED,
)
"""An upstream that does as asked, one that knows only floats, only base64, and a list in a list."""


def embed(client: Flavour, **request: Any) -> Any:
    return client.ask(lambda c: c.embeddings.create(**request))


@pytest.mark.needs("embeddings")
def test_the_clients_default_and_plain_floats_agree(site: Site, flavour: type[Flavour]) -> None:
    """Unasked, the client wants base64 and decodes it; asked for floats, it gets the same."""
    request = {"model": site.embeddings_model, "input": "The tide comes in."}

    with flavour(site.gateway) as client:
        decoded = embed(client, **request)
        floats = embed(client, **request, encoding_format="float")

    assert decoded.object == "list"
    assert decoded.model == site.embeddings_model
    assert decoded.usage.total_tokens > 0
    assert decoded.data[0].object == "embedding"
    assert decoded.data[0].embedding == pytest.approx(floats.data[0].embedding, abs=1e-6)
    assert len(floats.data[0].embedding) > 1


@pytest.mark.needs("embeddings")
def test_several_texts_keep_their_order(site: Site, flavour: type[Flavour]) -> None:
    texts = ["a", "some more", "the longest of the three"]

    with flavour(site.gateway) as client:
        together = embed(client, model=site.embeddings_model, input=texts)
        alone = [embed(client, model=site.embeddings_model, input=text) for text in texts]

    assert [item.index for item in together.data] == [0, 1, 2]
    for item, single in zip(together.data, alone, strict=True):
        assert item.embedding == pytest.approx(single.data[0].embedding, abs=1e-5)


@pytest.mark.needs("dimensions")
def test_dimensions_decide_the_length(site: Site, flavour: type[Flavour]) -> None:
    with flavour(site.gateway) as client:
        answer = embed(client, model=site.embeddings_model, input="x", dimensions=4)

    assert len(answer.data[0].embedding) == 4


@pytest.mark.needs("tokens")
@pytest.mark.parametrize(
    ("tokens", "vectors"), [([1, 2, 3], 1), ([[1, 2], [3]], 2)], ids=["one list", "two lists"]
)
def test_tokens_are_taken_in_place_of_texts(
    site: Site, flavour: type[Flavour], tokens: list, vectors: int
) -> None:
    """As frameworks send them that count tokens themselves."""
    with flavour(site.gateway) as client:
        answer = embed(client, model=site.embeddings_model, input=tokens)

    assert len(answer.data) == vectors


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize("wanted", [{}, {"encoding_format": "float"}], ids=["default", "float"])
def test_the_client_gets_the_right_numbers_whatever_the_upstream_offers(
    fake_gateway: Gateway, flavour: type[Flavour], model: str, wanted: dict[str, str]
) -> None:
    with flavour(fake_gateway) as client:
        answer = embed(client, model=model, input=["one", "three"], **wanted)

    assert [list(item.embedding) for item in answer.data] == [
        fake_openai.vector_for("one"),
        fake_openai.vector_for("three"),
    ]


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize("wanted", [None, "float", "base64"])
def test_the_encoding_on_the_wire_is_the_one_asked_for(
    fake_gateway: Gateway, model: str, wanted: str | None
) -> None:
    """Node's client decodes floats into garbage without an error; without a wish, floats."""
    request = {"model": model, "input": "one", **({"encoding_format": wanted} if wanted else {})}

    with fake_gateway.connect() as connection:
        answer = connection.ask("POST", "/v1/embeddings", request)

    vector = answer.json()["data"][0]["embedding"]
    if wanted == "base64":
        raw = base64.b64decode(vector, validate=True)
        vector = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    assert vector == fake_openai.vector_for("one")
