"""What the upstream gets: the caller's own bytes, and nothing else of the caller."""

import json
import uuid
from typing import Any

import msgspec
import pytest

from tests.contract import fake_openai
from tests.contract.fake_openai import FakeOpenAI, Received
from tests.contract.flavours import Flavour
from tests.contract.running import Gateway
from tests.contract.sites import MESSAGES, PICTURE, WEATHER

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
AWKWARD = {
    "temperature": "1.0",
    "top_p": "1",
    "seed": "123456789012345678901234567890",
    "presence_penalty": "-0.0",
    "frequency_penalty": "1e-2",
    "logit_bias": '{"50256": -100.0, "1":5.50}',
    "shore_option": '{ "deep" : [1.00, {"b":2,"a":1}, "\\u00e9\\/é\\ud83c\\udf0a"] ,"t":true}',
    "user": '"caf\\u00e9 \\ud83c\\udf0a 🌊"',
    "metadata": '{"run":"7","empty":""}',
    "messages": '[ {"role" :"user","content":"two  spaces\\ttab \\u2028"} ]',
    "empty": "{}",
    "zero": "0.10",
}
"""Members in spellings that a round trip through any JSON library would change."""
NEWER: dict[str, Any] = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
    },
    "tools": [WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    "parallel_tool_calls": False,
    "reasoning_effort": "low",
    "service_tier": "flex",
    "store": True,
    "metadata": {"run": "7"},
    "prediction": {"type": "content", "content": "once"},
    "modalities": ["text"],
    "audio": {"voice": "alloy", "format": "mp3"},
    "max_completion_tokens": 99,
    "logprobs": True,
    "top_logprobs": 2,
    "seed": 12345678901234567,
    "stop": ["\n\n"],
}
"""Parameters that the gateway does not look at, or looks at without changing."""


def members_of(received: Received) -> dict[str, str]:
    """Return the body's top-level members as the text they were sent in."""
    return {name: bytes(raw).decode() for name, raw in _members.decode(received.body).items()}


def sent_by(gateway: Gateway, upstream: FakeOpenAI, path: str, body: bytes) -> Received:
    """Send a body by hand; return what the upstream got."""
    mark = f"relay-{uuid.uuid4().hex}"
    with gateway.connect() as connection:
        answer = connection.ask("POST", path, body, {"x-request-id": mark})
    assert answer.status == 200, answer.body
    (received,) = upstream.calls(mark)
    return received


@pytest.mark.parametrize("stream", ["true", "false"])
def test_every_member_reaches_the_upstream_in_its_own_spelling(
    fake_gateway: Gateway, upstream: FakeOpenAI, stream: str
) -> None:
    """1.0 stays 1.0, a big integer stays big, escapes and spaces stay where they are."""
    wanted = {"model": f'"{fake_openai.CHAT}"', **AWKWARD, "stream": stream}
    body = "{" + ",".join(f'"{name}": {text}' for name, text in wanted.items()) + "}"

    received = sent_by(fake_gateway, upstream, "/v1/chat/completions", body.encode())

    got = members_of(received)
    if stream == "true":
        assert got.pop("stream_options") == '{"include_usage":true}'
    assert got == wanted


def test_extra_body_of_the_official_client_arrives_untouched(
    fake_gateway: Gateway, upstream: FakeOpenAI, flavour: type[Flavour]
) -> None:
    """Nested, with floats that are whole and integers beyond 64 bits."""
    mark = f"relay-{uuid.uuid4().hex}"
    extra = {"deep": {"one": 1.0, "big": 2**70, "list": [1.50, None, "é"]}, "top_k": 40}

    with flavour(fake_gateway) as client:
        client.ask(
            lambda c: c.chat.completions.create(
                model=fake_openai.CHAT,
                messages=MESSAGES,
                temperature=1.0,
                extra_body=extra,
                extra_headers={"x-request-id": mark},
            )
        )

    (received,) = upstream.calls(mark)
    got = members_of(received)
    deep = f'{{"one":1.0,"big":{2**70},"list":[1.5,null,"é"]}}'
    assert got["deep"].replace(" ", "") == deep
    assert got["top_k"] == "40"
    assert got["temperature"] == "1.0"
    assert json.loads(got["messages"]) == MESSAGES


def test_newer_parameters_are_relayed(
    fake_gateway: Gateway, upstream: FakeOpenAI, flavour: type[Flavour]
) -> None:
    """Each with the value the caller gave it."""
    mark = f"relay-{uuid.uuid4().hex}"
    request = {"model": fake_openai.CHAT, "messages": MESSAGES, **NEWER}

    with flavour(fake_gateway) as client:
        client.ask(
            lambda c: c.chat.completions.create(**request, extra_headers={"x-request-id": mark})
        )

    (received,) = upstream.calls(mark)
    assert received.json() == request


def test_a_picture_is_relayed_byte_for_byte(fake_gateway: Gateway, upstream: FakeOpenAI) -> None:
    """Data URLs are neither decoded nor fetched."""
    text = json.dumps(PICTURE)
    body = f'{{"model":"{fake_openai.CHAT}","messages":{text}}}'

    received = sent_by(fake_gateway, upstream, "/v1/chat/completions", body.encode())

    assert members_of(received)["messages"] == text


def test_stream_options_keep_what_the_caller_put_there(
    fake_gateway: Gateway, upstream: FakeOpenAI
) -> None:
    """Usage is asked for on every stream, because the accounts need it."""
    request = {
        "model": fake_openai.CHAT, "messages": MESSAGES, "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": False},
    }  # fmt: skip

    received = sent_by(fake_gateway, upstream, "/v1/chat/completions", json.dumps(request).encode())

    options = received.json()["stream_options"]
    assert options == {"include_obfuscation": False, "include_usage": True}


def test_an_encoding_format_is_not_invented(fake_gateway: Gateway, upstream: FakeOpenAI) -> None:
    """vLLM refuses one it does not know; null counts as not sent."""
    body = f'{{"model":"{fake_openai.EMBEDDINGS}","input":"x","encoding_format":null}}'

    received = sent_by(fake_gateway, upstream, "/v1/embeddings", body.encode())

    assert received.json() == {"model": fake_openai.EMBEDDINGS, "input": "x"}


def test_nothing_of_the_callers_headers_goes_upstream(
    fake_gateway: Gateway, upstream: FakeOpenAI, flavour: type[Flavour]
) -> None:
    """Headers are built from zero; the credential is the gateway's own, the request id ours."""
    mark = f"relay-{uuid.uuid4().hex}"
    mine = {"x-request-id": mark, "Cookie": "session=1", "X-Anything": "1", "Referer": "http://x"}

    with flavour(fake_gateway) as client:
        client.ask(
            lambda c: c.chat.completions.create(
                model=fake_openai.CHAT, messages=MESSAGES, extra_headers=mine
            )
        )

    (received,) = upstream.calls(mark)
    assert set(received.headers) == {
        "host", "content-type", "content-length", "accept", "accept-encoding", "authorization",
        "x-request-id",
    }  # fmt: skip
    assert received.headers["authorization"] == "Bearer the-upstream-credential"
    assert received.headers["accept-encoding"] == "identity"
    assert fake_gateway.key not in repr(received.headers)
