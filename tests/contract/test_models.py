"""The model list and the legacy completions endpoint through the official client."""

import openai
import pytest

from tests.contract import fake_openai
from tests.contract.flavours import Flavour
from tests.contract.running import Gateway
from tests.contract.sites import Site
from tests.contract.strict import FINISH_REASONS, read_stream


def test_every_listed_model_has_every_field(site: Site, flavour: type[Flavour]) -> None:
    """Other clients than OpenAI's need ``created`` and ``owned_by``; some servers send neither."""
    with flavour(site.gateway) as client:
        page = client.ask(lambda c: c.models.list())

    assert page.object == "list"
    assert site.model in [model.id for model in page.data]
    for model in page.data:
        assert model.object == "model"
        assert type(model.created) is int
        assert model.created > 0
        assert model.owned_by


def test_every_listed_model_can_be_retrieved(site: Site, flavour: type[Flavour]) -> None:
    """Also before servers that have no such endpoint, or answer with the list again."""
    with flavour(site.gateway) as client:
        listed = client.ask(lambda c: c.models.list()).data[:3]
        retrieved = [client.ask(lambda c, m=model: c.models.retrieve(m.id)) for model in listed]

    assert retrieved == listed


def test_a_name_with_a_slash_is_one_name(fake_gateway: Gateway, flavour: type[Flavour]) -> None:
    """The client asks for ``/v1/models/shore%2Fsandpiper``."""
    with flavour(fake_gateway) as client:
        model = client.ask(lambda c: c.models.retrieve(fake_openai.CHAT_WITH_SLASH))

    assert model.id == fake_openai.CHAT_WITH_SLASH
    assert model.owned_by == "shore"
    assert model.created == fake_openai.CREATED


def test_a_name_with_a_slash_can_be_called(fake_gateway: Gateway, flavour: type[Flavour]) -> None:
    request = {
        "model": fake_openai.CHAT_WITH_SLASH,
        "messages": [{"role": "user", "content": "Hi"}],
    }

    with flavour(fake_gateway) as client:
        completion = client.ask(lambda c: c.chat.completions.create(**request))

    assert completion.model == fake_openai.CHAT_WITH_SLASH


def test_a_model_that_nobody_serves_is_not_found(site: Site, flavour: type[Flavour]) -> None:
    """With the code that clients match, from the list and from the endpoints."""
    request = {"model": "no/such-model", "messages": [{"role": "user", "content": "Hi"}]}

    with flavour(site.gateway) as client:
        with pytest.raises(openai.NotFoundError) as retrieved:
            client.ask(lambda c: c.models.retrieve("no/such-model"))
        with pytest.raises(openai.NotFoundError) as called:
            client.ask(lambda c: c.chat.completions.create(**request))

    for caught in (retrieved, called):
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"
        assert caught.value.type == "invalid_request_error"


@pytest.mark.needs("completions")
def test_a_legacy_completion_is_whole(site: Site, flavour: type[Flavour]) -> None:
    request = {"model": site.model, "prompt": "Once upon a time", "max_tokens": 4}

    with flavour(site.gateway) as client:
        completion = client.ask(lambda c: c.completions.create(**request))

    assert completion.id
    assert completion.object == "text_completion"
    assert isinstance(completion.choices[0].text, str)
    assert completion.choices[0].index == 0
    assert completion.choices[0].finish_reason in FINISH_REASONS
    assert completion.usage.total_tokens > 0


@pytest.mark.needs("completions")
@pytest.mark.parametrize("usage", [False, True], ids=["without usage", "with usage"])
def test_a_legacy_completion_streams(site: Site, flavour: type[Flavour], *, usage: bool) -> None:
    """The client sees text and one finish; the bytes pass the strict reader."""
    options = {"stream_options": {"include_usage": True}} if usage else {}
    request = {
        "model": site.model, "prompt": "Once upon", "max_tokens": 4, "stream": True, **options,
    }  # fmt: skip

    with flavour(site.gateway) as client:
        chunks = client.chunks(lambda c: c.completions.create(**request))
    with site.gateway.connect() as connection:
        body = connection.ask("POST", "/v1/completions", request).body

    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert [choice.finish_reason is not None for choice in choices].count(True) == 1
    assert (chunks[-1].usage is not None) == usage
    assert read_stream(body, usage=usage, object_name="text_completion").choices
