"""Servers that speak OpenAI's protocol: what is sent to them, and what their answers become."""

from dataclasses import replace
from typing import ClassVar

import gevent
import msgspec
import orjson
import pytest
from gevent.event import Event

from gateway.backends.base import ModelCard
from gateway.backends.openai_compatible import OpenAICompatible, base_url
from gateway.kernel.call import Kind
from gateway.kernel.errors import (
    UpstreamBusy,
    UpstreamError,
    UpstreamInvalid,
    UpstreamRejected,
)
from tests.fakes.backend import an_upstream
from tests.fakes.calls import make_call
from tests.fakes.upstream import LAST_CHUNK, End, answer, answer_json, chunk, stream, stream_head

REPLY = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "tiny-llama",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}  # fmt: skip
EMBEDDINGS = {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}}


@pytest.fixture
def backend(upstream, make_pool):
    """The backend at a server that is called by its bare address, with a key."""
    url = upstream.url()
    return OpenAICompatible(an_upstream("vllm", url, api_key="sk-upstream"), make_pool(url))


def first_of(backend: OpenAICompatible, call, wait) -> object:
    """Return the first thing that comes of a call."""
    if call.stream:
        return next(backend.stream(call, "tiny-llama", wait, 5.0))
    return backend.reply(call, "tiny-llama", wait)


def sent(call, model="tiny-llama") -> dict:
    """Return the request body for a call."""
    backend = OpenAICompatible(an_upstream("vllm", "http://127.0.0.1:1"), None)
    return orjson.loads(backend.body_for(call, model))


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "document", "path"),
    [(Kind.CHAT, REPLY, "/v1/chat/completions"), (Kind.EMBEDDINGS, EMBEDDINGS, "/v1/embeddings"),
     (Kind.COMPLETION, {"choices": [{"text": "a"}]}, "/v1/completions")],
)  # fmt: skip
def test_each_kind_of_call_has_its_path(upstream, backend, wait, kind, document, path):
    upstream.script(answer_json(document))

    backend.reply(make_call(kind), "tiny-llama", wait)

    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", path)


def test_headers_are_built_from_zero(upstream, backend, wait):
    upstream.script(answer_json(REPLY))

    backend.reply(make_call(), "tiny-llama", wait)

    headers = upstream.requests[0].headers
    assert headers == {
        "content-type": "application/json", "accept": "*/*", "accept-encoding": "identity",
        "authorization": "Bearer sk-upstream", "x-request-id": "req-1",
        "host": f"127.0.0.1:{upstream.port}", "content-length": headers["content-length"],
    }  # fmt: skip


def test_without_a_key_nothing_is_authorized(upstream, make_pool, wait):
    upstream.script(answer_json(REPLY))
    url = upstream.url(path="/api/openai/")
    backend = OpenAICompatible(an_upstream("vllm", url), make_pool(url))

    backend.reply(make_call(), "tiny-llama", wait)

    assert "authorization" not in upstream.requests[0].headers
    assert upstream.requests[0].path == "/api/openai/chat/completions"


@pytest.mark.parametrize(
    ("url", "root"),
    [("http://h:1", "http://h:1/v1"), ("http://h:1/", "http://h:1/v1"),
     ("http://h:1/v1", "http://h:1/v1"), ("http://h:1/v1/", "http://h:1/v1"),
     ("http://h:1/a/b", "http://h:1/a/b")],
)  # fmt: skip
def test_an_address_without_a_path_means_v1(url, root):
    assert base_url(url) == root


@pytest.mark.parametrize("url", ["http://h:1/v1", "https://h/v1"])
def test_its_address_is_the_one_it_connects_to(url):
    assert OpenAICompatible.http_url(url) == url


def test_the_callers_fields_are_relayed_in_their_own_text():
    call = make_call(
        temperature=1.0, reasoning_effort="low", metadata={"a": [1, None]}, brand_new=True,
        response_format={"type": "json_schema", "json_schema": {"name": "x"}},
        max_completion_tokens=5, messages=[{"role": "developer", "content": "Be nice."}],
    )  # fmt: skip
    odd = msgspec.Raw(b'[1.00, 1e3,  "\\u0041"]')
    call = replace(call, members={**call.members, "odd": odd})

    body = OpenAICompatible(an_upstream("vllm", "http://127.0.0.1:1"), None).body_for(
        call, "tiny-llama"
    )

    assert b'[1.00, 1e3,  "\\u0041"]' in body
    assert orjson.loads(body) == orjson.loads(call.body) | {"odd": [1.0, 1000.0, "A"]}


def test_the_model_is_called_by_the_upstreams_name():
    assert sent(make_call(model="chat"), "org/Model@main")["model"] == "org/Model@main"


def test_every_stream_asks_for_its_usage():
    assert sent(make_call(stream=True))["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(make_call())


def test_other_stream_options_stay():
    options = {"include_usage": False, "include_obfuscation": False}

    assert sent(make_call(stream=True, stream_options=options))["stream_options"] == {
        "include_usage": True, "include_obfuscation": False}  # fmt: skip


def test_dropped_fields_and_renamed_ones_are_a_subclass_away():
    class Picky(OpenAICompatible):
        drops = frozenset({"store"})
        renames: ClassVar = {"max_completion_tokens": "max_tokens"}
        developer_role = b'"system"'

    backend = Picky(an_upstream("picky", "http://127.0.0.1:1"), None)
    messages = [{"role": "developer", "content": 'the "developer"'}, {"role": "user"}]
    call = make_call(store=True, max_completion_tokens=5, messages=messages)

    body = orjson.loads(backend.body_for(call, "m"))

    assert body == {
        "model": "m", "max_tokens": 5,
        "messages": [{"role": "system", "content": 'the "developer"'}, {"role": "user"}],
    }  # fmt: skip


# --- answers -------------------------------------------------------------------------------------


def test_a_conforming_answer_passes_byte_for_byte(upstream, backend, wait):
    body = orjson.dumps(REPLY, option=orjson.OPT_INDENT_2)
    upstream.script(answer(body))

    assert backend.reply(make_call(), "tiny-llama", wait).body == body


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_a_compressed_answer_is_refused(upstream, backend, wait, coding):
    upstream.script(answer(b"\x1f\x8b", Content_Encoding=coding))

    with pytest.raises(UpstreamInvalid):
        backend.reply(make_call(), "tiny-llama", wait)


def test_an_answer_may_say_that_it_is_not_compressed(upstream, backend, wait):
    upstream.script(answer_json(REPLY, Content_Encoding="identity"))

    assert backend.reply(make_call(), "tiny-llama", wait).usage.prompt_tokens == 9


@pytest.mark.parametrize("stream_it", [False, True])
@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ((answer_json({"error": {"message": "bad"}}, 400),), UpstreamRejected),
        ((answer_json({"error": "slow down"}, 429, Retry_After="7"),), UpstreamBusy),
        ((answer(b"Internal Server Error", 500, "text/plain"), End.CLOSE), UpstreamError),
        ((answer(b"<html>" + b"x" * 100_000, 502, "text/html"),), UpstreamError),
        ((answer(b"", 307, Location="http://other/"),), UpstreamInvalid),
        ((answer(b"", 204),), UpstreamError),
    ],
    ids=["400", "429", "500 and closed", "502 with a long page", "redirect", "204"],
)
def test_a_refusal_is_told_before_any_block(upstream, backend, wait, steps, kind, stream_it):
    upstream.script(*steps)
    call = make_call(stream=stream_it)

    with pytest.raises(kind) as caught:
        first_of(backend, call, wait)

    assert type(caught.value) is kind
    assert len(upstream.requests) == 1


def test_a_refusal_does_not_cost_the_connection(upstream, backend, wait):
    upstream.script(answer_json({"error": "bad"}, 400))
    upstream.script(answer_json(REPLY))
    with pytest.raises(UpstreamRejected):
        backend.reply(make_call(), "tiny-llama", wait)

    backend.reply(make_call(), "tiny-llama", wait)

    assert len(upstream.peers) == 1


@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/plain"])
def test_a_stream_that_is_none_is_refused(upstream, backend, wait, kind):
    upstream.script(answer(b"{}", content_type=kind))

    with pytest.raises(UpstreamInvalid):
        next(backend.stream(make_call(stream=True), "tiny-llama", wait, 5.0))


def test_a_stream_is_the_upstreams_own_bytes(upstream, backend, wait):
    upstream.script(*stream(b": hi\n\n", b"data: {", b"}\n\ndata: [DONE]\n\n"))

    blocks = backend.stream(make_call(stream=True), "tiny-llama", wait, 5.0)

    assert b"".join(blocks) == b": hi\n\ndata: {}\n\ndata: [DONE]\n\n"


def test_silence_is_told_in_beats(upstream, backend, wait):
    go_on = Event()
    upstream.script(stream_head(), go_on, chunk(b"data: [DONE]\n\n"), LAST_CHUNK)
    blocks = backend.stream(make_call(stream=True), "tiny-llama", wait, 0.01)

    silence = next(blocks)
    go_on.set()

    assert silence == b""
    assert b"".join(blocks) == b"data: [DONE]\n\n"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_a_stream_that_is_left_at_its_done_keeps_its_connection(upstream, backend, wait, end):
    late = Event()
    upstream.script(stream_head(), chunk(b"data: [DONE]" + end), late, LAST_CHUNK)
    upstream.script(answer_json(REPLY))
    blocks = backend.stream(make_call(stream=True), "tiny-llama", wait, 5.0)
    next(blocks)
    blocks.close()
    late.set()
    for _ in range(5):
        gevent.sleep(0)

    backend.reply(make_call(), "tiny-llama", wait)

    assert len(upstream.peers) == 1


@pytest.mark.parametrize("said", [b"data: {}\n\n", b'data: {"x":"data: [DONE]', b"data: [DONE]\n"])
def test_a_stream_that_is_left_earlier_is_cancelled(upstream, backend, wait, said):
    upstream.script(stream_head(), chunk(said), Event())
    blocks = backend.stream(make_call(stream=True), "tiny-llama", wait, 5.0)
    next(blocks)

    blocks.close()

    assert upstream.peers[0].gone.wait(0.1)


# --- models --------------------------------------------------------------------------------------


def test_the_models_are_asked_for_with_the_key(upstream, backend):
    probe = backend.probe()

    assert probe.url == upstream.url(path="/v1/models")
    assert probe.headers == {"Authorization": "Bearer sk-upstream"}
    assert "sk-upstream" not in repr(probe)


def test_models_are_listed_whatever_members_they_lack(backend):
    listed = [{"id": "a", "created": 7.5, "owned_by": "me"}, {"id": "b", "created": "x",
              "owned_by": None}, {"id": ""}, {"id": 5}, {}, "c"]  # fmt: skip

    assert backend.models({"data": listed}) == [ModelCard("a", 7, "me"), ModelCard("b")]


@pytest.mark.parametrize("document", [None, [], {}, {"data": None}, {"data": {}}, "x"])
def test_what_is_no_model_list_is_refused(backend, document):
    with pytest.raises(UpstreamInvalid):
        backend.models(document)


@pytest.mark.parametrize("created", [1e30, -1e30, 2**53, float("inf"), float("nan")])
def test_a_model_made_at_no_sane_time_is_listed_as_all_others(backend, created):
    cards = backend.models({"data": [{"id": "a", "created": created}, {"id": "b", "created": 7}]})

    assert cards == [ModelCard("a"), ModelCard("b", 7)]
    assert orjson.dumps([card.created for card in cards]) == b"[0,7]"
