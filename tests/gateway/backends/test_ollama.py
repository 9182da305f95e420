"""Ollama's native answers become OpenAI's."""

import orjson
import pytest
from gevent.event import Event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.backends.base import ModelCard
from gateway.backends.normaliser import Normaliser
from gateway.backends.ollama import Ollama
from gateway.kernel.call import Kind, Usage
from gateway.kernel.errors import (
    GatewayError,
    InvalidRequest,
    UpstreamBusy,
    UpstreamCut,
    UpstreamError,
    UpstreamInvalid,
    UpstreamRejected,
)
from tests.fakes.backend import an_upstream
from tests.fakes.calls import make_call
from tests.fakes.upstream import LAST_CHUNK, End, answer, answer_json, chunk, stream, stream_head

NDJSON = "application/x-ndjson"
DONE = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 2}


@pytest.fixture
def backend(upstream, make_pool):
    """The backend at a fake Ollama, with a key."""
    url = upstream.url("ollama")
    made = an_upstream("ollama", url, api_key="sk-upstream")
    return Ollama(made, make_pool(Ollama.http_url(url)))


@pytest.fixture
def reply(upstream, backend, wait):
    """A function that returns the finished answer made of what Ollama says."""

    def ask(document: object, kind: Kind = Kind.CHAT, **fields) -> dict:
        upstream.script(answer_json(document))
        return orjson.loads(backend.reply(make_call(kind, "m", **fields), "m", wait).body)

    return ask


@pytest.fixture
def events(upstream, backend, wait):
    """A function that returns the events made of Ollama's lines."""

    def ask(*lines: dict, kind: Kind = Kind.CHAT) -> list[dict]:
        said = [orjson.dumps(line) + b"\n" for line in lines]
        upstream.script(*stream(*said, content_type=NDJSON))
        call = make_call(kind, "m", stream=True, usage=True)
        frames = b"".join(backend.stream(call, "m", wait, 5.0)).split(b"\n\n")
        assert frames.pop() == b""
        return [orjson.loads(frame.removeprefix(b"data: ")) for frame in frames]

    return ask


def says(content: str = "", **message) -> dict:
    return {"model": "m", "message": {"role": "assistant", "content": content, **message},
            "done": False}  # fmt: skip


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "document", "path"),
    [(Kind.CHAT, says("a") | DONE, "/api/chat"), (Kind.COMPLETION, {"response": "a"} | DONE,
      "/api/generate"), (Kind.EMBEDDINGS, {"embeddings": [[0.5]]}, "/api/embed")],
)  # fmt: skip
def test_each_kind_of_call_has_its_path(upstream, reply, kind, document, path):
    reply(document, kind)

    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", path)
    assert request.headers["authorization"] == "Bearer sk-upstream"
    assert request.json()["model"] == "m"


def test_an_ollama_under_a_path_is_asked_and_looked_at_there(upstream, make_pool, wait):
    url = upstream.url("ollama", "/models/v1")
    backend = Ollama(an_upstream("ollama", url), make_pool(Ollama.http_url(url)))
    upstream.script(answer_json(says("a") | DONE))

    backend.reply(make_call(Kind.CHAT, "m"), "m", wait)

    assert upstream.requests[0].path == "/models/api/chat"
    assert backend.probe().url == f"http://127.0.0.1:{upstream.port}/models/api/tags"


def test_what_ollama_cannot_do_is_refused_before_anything_is_sent(upstream, backend, wait):
    with pytest.raises(InvalidRequest):
        backend.reply(make_call(Kind.EMBEDDINGS, input=[[1, 2]]), "m", wait)

    assert upstream.peers == []


@pytest.mark.parametrize(
    ("url", "http"),
    [("ollama://h:11434", "http://h:11434"), ("ollama://h:11434/", "http://h:11434"),
     ("ollama://h:11434/v1", "http://h:11434"), ("ollama+https://h/v1/", "https://h")],
)  # fmt: skip
def test_its_address_is_the_native_one(url, http):
    assert Ollama.http_url(url) == http


# --- finished answers ----------------------------------------------------------------------------


def test_a_chat_answer(reply):
    out = reply(says("Hello") | DONE)

    assert out["object"] == "chat.completion"
    assert out["id"].startswith("chatcmpl-")
    assert out["model"] == "m"
    assert out["choices"] == [{"index": 0, "finish_reason": "stop",
                               "message": {"role": "assistant", "content": "Hello"}}]  # fmt: skip
    assert out["usage"] == {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def test_thoughts_become_reasoning(reply):
    message = reply(says("42", thinking="Hm.") | DONE)["choices"][0]["message"]

    assert message == {"role": "assistant", "content": "42", "reasoning_content": "Hm."}


def test_tool_calls_get_ids_and_text_arguments(reply):
    calls = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "g"}}]

    choice = reply(says("", tool_calls=calls) | DONE)["choices"][0]

    made = choice["message"]["tool_calls"]
    assert [call["function"] for call in made] == [
        {"name": "f", "arguments": '{"a":1}'}, {"name": "g", "arguments": "{}"}]  # fmt: skip
    assert len({call["id"] for call in made}) == 2
    assert {call["type"] for call in made} == {"function"}
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("reason", "meant"), [("stop", "stop"), ("length", "length"), ("load", "stop"), (None, "stop")]
)
def test_why_it_ended_is_told_in_openais_words(reply, reason, meant):
    out = reply(says("a") | DONE | {"done_reason": reason})

    assert out["choices"][0]["finish_reason"] == meant


def test_a_prompt_that_was_wholly_cached_counts_nothing(reply):
    usage = reply(says("a") | {"done": True, "eval_count": 2})["usage"]

    assert usage == {"prompt_tokens": 0, "completion_tokens": 2, "total_tokens": 2}


def test_tokens_that_are_not_reported_are_estimated(reply):
    assert reply(says("a") | {"done": True})["usage"]["estimated"] is True


def test_a_completion(reply):
    out = reply({"response": "upon", **DONE}, Kind.COMPLETION)

    assert out["object"] == "text_completion"
    assert out["choices"] == [
        {"index": 0, "text": "upon", "logprobs": None, "finish_reason": "stop"}]  # fmt: skip


def test_embeddings(reply):
    out = reply({"embeddings": [[0.5], [1.5]], "prompt_eval_count": 4}, Kind.EMBEDDINGS,
                input=["a", "b"])  # fmt: skip

    assert [item["embedding"] for item in out["data"]] == [[0.5], [1.5]]
    assert out["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


def test_embeddings_in_base64(reply):
    out = reply({"embeddings": [[0.5]]}, Kind.EMBEDDINGS, encoding_format="base64")

    assert out["data"][0]["embedding"] == "AAAAPw=="


@pytest.mark.parametrize(
    "document",
    [[], {"embeddings": None}, {"embeddings": []}, {"embeddings": [None]}, {"embedding": [0.5]}],
)
def test_what_holds_no_embeddings_is_refused(reply, document):
    with pytest.raises(UpstreamInvalid):
        reply(document, Kind.EMBEDDINGS)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (404, "model 'llama9' not found", UpstreamRejected), (400, "bad option", UpstreamRejected),
        (500, "llama runner process has terminated", UpstreamError), (503, "busy", UpstreamError),
        (429, "too many", UpstreamBusy), (200, "boom", UpstreamError),
    ],
)  # fmt: skip
def test_a_refusal_means_what_it_says(upstream, backend, wait, status, error, kind):
    upstream.script(answer_json({"error": error}, status))

    with pytest.raises(kind) as caught:
        backend.reply(make_call(), "m", wait)

    assert type(caught.value) is kind


# --- streams -------------------------------------------------------------------------------------


def test_a_chat_stream(events):
    first, second, finish, usage = events(says("Once"), says(" upon"), says() | DONE)

    assert [one["choices"][0]["delta"] for one in (first, second, finish)] == [
        {"content": "Once"}, {"content": " upon"}, {}]  # fmt: skip
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    assert len({(one["id"], one["created"], one["model"], one["object"])
                for one in (first, second, finish, usage)}) == 1  # fmt: skip


def test_a_text_on_the_last_line_is_not_lost(events):
    text, finish, _ = events(says("Once") | DONE)

    assert text["choices"][0]["delta"] == {"content": "Once"}
    assert finish["choices"][0]["delta"] == {}


def test_streamed_thoughts_and_tool_calls(events):
    call = {"function": {"name": "f", "arguments": {"a": 1}}}

    thought, first, second, finish, _ = events(
        says(thinking="Hm."), says(tool_calls=[call]), says(tool_calls=[call]), says() | DONE
    )

    assert thought["choices"][0]["delta"] == {"reasoning_content": "Hm."}
    made = [one["choices"][0]["delta"]["tool_calls"][0] for one in (first, second)]
    assert [call["index"] for call in made] == [0, 1]
    assert made[0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert finish["choices"][0]["finish_reason"] == "tool_calls"


def test_a_completion_stream(events):
    text, finish, usage = events({"response": "a"}, {"response": "", **DONE}, kind=Kind.COMPLETION)

    assert text["object"] == "text_completion"
    assert text["choices"] == [{"index": 0, "text": "a", "finish_reason": None}]
    assert finish["choices"][0] == {"index": 0, "text": "", "finish_reason": "stop"}
    assert usage["usage"]["total_tokens"] == 11


def test_lines_may_be_cut_at_every_byte(upstream, backend, wait):
    wire = b"".join(orjson.dumps(line) + b"\n" for line in (says("\u00e9"), says() | DONE))
    call = make_call(model="m", stream=True)
    for place in range(1, len(wire)):
        upstream.script(*stream(wire[:place], wire[place:], content_type=NDJSON))

    for place in range(1, len(wire)):
        normaliser = Normaliser(call, "m")
        out = b"".join(map(normaliser.feed, backend.stream(call, "m", wait, 5.0)))
        assert '"content":"\u00e9"'.encode() in out, f"cut at byte {place}"
        assert (out + normaliser.finish()).count(b"[DONE]") == 1


def test_a_last_line_may_lack_its_line_feed(upstream, backend, wait):
    upstream.script(*stream(orjson.dumps(says("a") | DONE), content_type=NDJSON))

    out = b"".join(backend.stream(make_call(stream=True), "m", wait, 5.0))

    assert b'"finish_reason":"stop"' in out


def test_silence_is_told_in_beats(upstream, backend, wait):
    go_on = Event()
    upstream.script(stream_head(NDJSON), go_on, chunk(b"{}\n"), LAST_CHUNK)
    blocks = backend.stream(make_call(stream=True), "m", wait, 0.01)

    assert next(blocks) == b""
    blocks.close()


def test_a_stream_without_a_last_line_is_cut(upstream, backend, wait):
    upstream.script(stream_head(NDJSON), chunk(orjson.dumps(says("a")) + b"\n"), End.CLOSE)
    call = make_call(model="m", stream=True)
    normaliser = Normaliser(call, "m")
    for block in backend.stream(call, "m", wait, 5.0):
        normaliser.feed(block)

    with pytest.raises(UpstreamCut):
        normaliser.finish()


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[]\n", b"5\n", b"<html>\n", b"x" * 1_100_000, b'{"error":"boom"}\n'],
    ids=["text", "a list", "a number", "HTML", "a line over 1 MiB", "an error"],
)  # fmt: skip
def test_garbage_in_a_stream_is_an_upstream_error(upstream, backend, wait, line):
    upstream.script(*stream(orjson.dumps(says("a")) + b"\n", line, content_type=NDJSON))

    with pytest.raises(UpstreamError):
        list(backend.stream(make_call(stream=True), "m", wait, 5.0))


def test_a_line_without_an_end_is_given_up_at_1_mib(upstream, backend, wait):
    upstream.script(stream_head(NDJSON), chunk(b"x" * 1_100_000), Event())

    with pytest.raises(UpstreamInvalid, match="1 MiB"):
        list(backend.stream(make_call(stream=True), "m", wait, 5.0))


@pytest.mark.parametrize(
    "said",
    [{"message": "hi"}, {"message": [1]}, {"message": {"tool_calls": 5}}, {"message": None},
     {"message": {"tool_calls": ["x"]}}, {"message": {"content": ["x"], "thinking": 5}}, {}],
)  # fmt: skip
def test_members_of_another_shape_are_passed_over(events, said):
    finish, _ = events(said, DONE)

    assert finish["choices"][0]["finish_reason"] == "stop"


def test_counts_of_another_shape_are_no_counts(events):
    (finish,) = events(DONE | {"eval_count": "many", "prompt_eval_count": None})

    assert finish["choices"][0]["finish_reason"] == "stop"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["content", "thinking", "tool_calls", "function", "name", "arguments",
                         "id"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


SAID = st.dictionaries(
    st.sampled_from(["message", "response", "done", "done_reason", "eval_count",
                     "prompt_eval_count", "error", "embeddings"]), JSON)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=SAID, kind=st.sampled_from(Kind))
def test_whatever_ollama_says_becomes_an_answer_or_one_of_our_errors(
    upstream, backend, wait, said, kind
):
    upstream.script(answer_json(said))

    try:
        reply = backend.reply(make_call(kind, "m"), "m", wait)
    except GatewayError:
        return

    assert isinstance(orjson.loads(reply.body), dict)
    assert isinstance(reply.usage, Usage)


# --- models --------------------------------------------------------------------------------------


def test_the_pulled_models_are_listed(upstream, backend):
    assert backend.probe().url == upstream.url(path="/api/tags")
    assert backend.models({"models": [{"name": "llama3:latest"}, {"name": 5}, {}]}) == [
        ModelCard("llama3:latest", owned_by="ollama")]  # fmt: skip


def test_a_page_instead_of_an_answer_is_invalid(upstream, backend, wait):
    upstream.script(answer(b"<html></html>", content_type="text/html"))

    with pytest.raises(UpstreamInvalid):
        backend.reply(make_call(), "m", wait)
