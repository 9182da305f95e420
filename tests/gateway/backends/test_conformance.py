"""One exam for every registered backend, whatever protocol its server speaks."""

import base64
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import gevent
import orjson
import pytest

from gateway.backends.base import BACKENDS, Backend
from gateway.backends.normaliser import Normaliser
from gateway.kernel.call import Call, Kind
from gateway.kernel.errors import (
    ClientGone,
    InvalidRequest,
    UpstreamCut,
    UpstreamInvalid,
    UpstreamTimeout,
)
from gateway.web.wait import Wait
from tests.fakes.backend import an_upstream
from tests.fakes.calls import make_call
from tests.fakes.upstream import FakeUpstream
from tests.gateway.backends.speakers import ARGUMENTS, SPEAKERS, VECTOR, Speaker

FAILURES = [(name, failure) for name in SPEAKERS for failure in SPEAKERS[name].failures]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]


@dataclass
class Candidate:
    """A backend taking the exam, and the server it speaks to."""

    backend: Backend
    speaker: Speaker
    upstream: FakeUpstream
    wait: Wait

    def prepare(self, situation: str) -> str:
        """Let the server say what the situation asks for; return the model to ask for."""
        said = self.speaker.answers[situation]
        if self.speaker.networked:
            self.upstream.script(*said.steps)
        return said.model

    def reply(self, situation: str, kind: Kind = Kind.CHAT, **fields: Any) -> dict:
        """Return a finished answer, asked for under a name of our own."""
        model = self.prepare(situation)
        call = make_call(kind, "public-name", **fields)
        return orjson.loads(self.backend.reply(call, model, self.wait).body)

    def stream(self, situation: str, kind: Kind = Kind.CHAT, **fields: Any) -> list[dict]:
        """Return the events of a stream that ended well."""
        model = self.prepare(situation)
        out = self.listen(make_call(kind, "public-name", stream=True, **fields), model)
        assert out.count(b"[DONE]") == 1
        assert out.endswith(b"data: [DONE]\n\n")
        return [orjson.loads(one.removeprefix(b"data: ")) for one in out.split(b"\n\n")[:-2]]

    def ask(self, call: Call, model: str) -> object:
        """Ask as the call wants it, in one piece or streamed."""
        if call.stream:
            return self.listen(call, model)
        return self.backend.reply(call, model, self.wait)

    def listen(self, call: Call, model: str) -> bytes:
        """Return what a client hears of a stream; raises what breaks it."""
        normaliser, out = Normaliser(call, model), b""
        for block in self.backend.stream(call, model, self.wait, 5.0):
            out += normaliser.feed(block)
            if normaliser.failure is not None:
                raise normaliser.failure
        return out + normaliser.finish()


@pytest.fixture
def admit(upstream, make_pool, wait) -> Callable[[str], Candidate]:
    """A function that prepares a backend for the exam."""

    def candidate(name: str, first_byte_s: float = 2.0) -> Candidate:
        kind, speaker = BACKENDS.get(name), SPEAKERS[name]
        url = upstream.url(speaker.scheme)
        address = kind.http_url(url)
        pool = make_pool(address, first_byte_s=first_byte_s, idle_s=2.0) if address else None
        return Candidate(kind(an_upstream(name, url), pool), speaker, upstream, wait)

    return candidate


@pytest.fixture(params=sorted(SPEAKERS))
def candidate(request, admit) -> Candidate:
    """Each backend in turn."""
    return admit(request.param)


def test_every_registered_backend_takes_this_exam():
    assert set(SPEAKERS) == set(BACKENDS)


# --- finished answers ----------------------------------------------------------------------------


def test_a_chat_is_answered_in_full(candidate):
    out = candidate.reply("chat")

    assert out["object"] == "chat.completion"
    assert out["model"] == "public-name"
    assert isinstance(out["id"], str)
    assert type(out["created"]) is int
    (choice,) = out["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"]["role"] == "assistant"
    assert "ello" in choice["message"]["content"]
    usage = out["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"] > 2
    assert "estimated" not in usage


def test_a_tool_is_called(candidate):
    (choice,) = candidate.reply("tools", tools=TOOLS)["choices"]

    (call,) = choice["message"]["tool_calls"]
    assert set(call) == {"id", "type", "function"}
    assert call["function"]["name"] == "get_weather"
    assert call["function"]["arguments"] in {ARGUMENTS, "{}"}
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"


def test_a_text_is_completed(candidate):
    out = candidate.reply("completion", Kind.COMPLETION)

    assert (out["object"], out["model"]) == ("text_completion", "public-name")
    (choice,) = out["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["text"]
    assert out["usage"]["total_tokens"] > 2


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_a_text_is_embedded_in_the_encoding_asked_for(candidate, encoding):
    fields = {"encoding_format": encoding} if encoding else {}

    out = candidate.reply("embeddings", Kind.EMBEDDINGS, **fields)

    assert (out["object"], out["model"]) == ("list", "public-name")
    (item,) = out["data"]
    assert (item["object"], item["index"]) == ("embedding", 0)
    vector = item["embedding"]
    assert isinstance(vector, str if encoding == "base64" else list)
    if encoding == "base64":
        raw = base64.b64decode(vector, validate=True)
        vector = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    if candidate.speaker.networked:
        assert vector == VECTOR
    assert out["usage"]["prompt_tokens"] == out["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2, 3]]])
def test_tokens_are_embedded_or_refused_as_the_callers_mistake(candidate, tokens):
    try:
        out = candidate.reply("embeddings", Kind.EMBEDDINGS, input=tokens)
    except InvalidRequest as error:
        refused = error
    else:
        assert len(out["data"]) == 1
        return

    assert (refused.status, refused.param) == (400, "input")
    assert candidate.upstream.requests == []


# --- streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("usage", [True, False], ids=["with usage", "without usage"])
@pytest.mark.parametrize(
    ("situation", "kind", "fields"),
    [("chat stream", Kind.CHAT, {}), ("tools stream", Kind.CHAT, {"tools": TOOLS}),
     ("completion stream", Kind.COMPLETION, {})],
)  # fmt: skip
def test_a_stream_keeps_every_rule(candidate, situation, kind, fields, usage):
    said = candidate.stream(situation, kind, usage=usage, **fields)

    names = {(one["id"], one["object"], one["created"], one["model"]) for one in said}
    assert len(names) == 1
    assert {one["model"] for one in said} == {"public-name"}
    counted = [one for one in said if one.get("usage")]
    assert counted == (said[-1:] if usage else [])
    assert [one["choices"] for one in counted] == ([[]] if usage else [])
    choices = [choice for one in said for choice in one["choices"]]
    assert [choice["index"] for choice in choices] == [0] * len(choices)
    finishes = [choice["finish_reason"] for choice in choices]
    assert finishes[-1] == ("tool_calls" if situation == "tools stream" else "stop")
    assert finishes[:-1] == [None] * (len(finishes) - 1)
    if kind is Kind.CHAT:
        assert ["role" in choice["delta"] for choice in choices] == [True] + [False] * (
            len(choices) - 1
        )
        assert choices[0]["delta"]["role"] == "assistant"
        assert not choices[-1]["delta"].get("content")


def test_a_streamed_chat_is_the_answer_in_pieces(candidate):
    whole = candidate.reply("chat")["choices"][0]["message"]["content"]

    said = candidate.stream("chat stream")

    pieces = [one["choices"][0]["delta"].get("content") or "" for one in said]
    assert "".join(pieces) == whole
    assert len(said) > 2


def test_a_streamed_completion_is_the_answer_in_pieces(candidate):
    whole = candidate.reply("completion", Kind.COMPLETION)["choices"][0]["text"]

    said = candidate.stream("completion stream", Kind.COMPLETION)

    assert "".join(one["choices"][0]["text"] for one in said) == whole


def test_a_streamed_tool_call_is_a_whole_one(candidate):
    said = candidate.stream("tools stream", tools=TOOLS)

    calls = [call for one in said for call in one["choices"][0]["delta"].get("tool_calls") or ()]
    assert [call["index"] for call in calls] == [0] * len(calls)
    assert calls[0]["id"]
    assert calls[0]["type"] == "function"
    assert calls[0]["function"]["name"] == "get_weather"
    assert all("id" not in call for call in calls[1:])
    assert "".join(call["function"]["arguments"] for call in calls) in {ARGUMENTS, "{}"}


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["reply", "stream"])
@pytest.mark.parametrize(("name", "failure"), FAILURES, ids=[f"{n}: {f}" for n, f in FAILURES])
def test_a_failure_means_the_same_from_every_server(admit, name, failure, streamed):
    candidate = admit(name)
    expected = SPEAKERS[name].failures[failure]
    if candidate.speaker.networked:
        candidate.upstream.script(*expected.said.steps)
    call = make_call(stream=streamed)

    with pytest.raises(expected.kind) as caught:
        candidate.ask(call, expected.said.model)

    error = caught.value
    assert (type(error), error.status) == (expected.kind, expected.status)
    assert not any(word in error.message for word in ("gpu7", "<", "127.0.0.1"))
    assert candidate.upstream.unscripted == []


@pytest.mark.parametrize("situation", ["cut stream", "cut but politely"])
def test_a_stream_that_ends_too_early_is_cut(candidate, situation):
    model = candidate.prepare(situation)

    with pytest.raises(UpstreamCut):
        candidate.listen(make_call(stream=True), model)


def test_garbage_in_a_stream_is_an_invalid_answer(candidate):
    model = candidate.prepare("garbage")

    with pytest.raises(UpstreamInvalid):
        candidate.listen(make_call(stream=True), model)


@pytest.mark.parametrize("streamed", [False, True], ids=["reply", "stream"])
def test_the_total_time_bounds_every_backend(candidate, streamed):
    model = candidate.prepare("silence")
    call = make_call(stream=streamed, total_s=0.05)

    began_s = perf_counter()
    with pytest.raises(UpstreamTimeout):
        candidate.ask(call, model)

    assert perf_counter() - began_s < 1.0


NETWORKED = sorted(name for name in SPEAKERS if SPEAKERS[name].networked)


@pytest.mark.parametrize("name", NETWORKED)
def test_an_answer_in_one_piece_may_come_after_the_time_for_a_first_byte(admit, name):
    candidate = admit(name, first_byte_s=0.01)
    said = candidate.speaker.answers["chat"]
    candidate.upstream.script(0.15, *said.steps)

    assert candidate.backend.reply(make_call(), said.model, candidate.wait).usage


@pytest.mark.parametrize("name", NETWORKED)
def test_a_stream_may_not(admit, name):
    candidate = admit(name, first_byte_s=0.01)
    model = candidate.prepare("silence")

    with pytest.raises(UpstreamTimeout) as caught:
        candidate.ask(make_call(stream=True), model)

    assert caught.value.code == "upstream_first_token_timeout"


@pytest.mark.parametrize("streamed", [False, True], ids=["reply", "stream"])
def test_a_caller_that_leaves_cancels_the_upstream(candidate, streamed):
    ours, theirs = socket.socketpair()
    candidate.wait = Wait(ours)
    model = candidate.prepare("silence")
    call = make_call(stream=streamed)
    gevent.spawn_later(0.02, theirs.close)

    began_s = perf_counter()
    with pytest.raises(ClientGone):
        candidate.ask(call, model)

    assert perf_counter() - began_s < 0.12
    assert all(peer.gone.wait(0.1) for peer in candidate.upstream.peers)
    assert len(candidate.upstream.peers) == candidate.speaker.networked
    candidate.wait.close()
    ours.close()


# --- hygiene -------------------------------------------------------------------------------------


def test_nothing_of_the_caller_but_the_request_goes_upstream(candidate):
    candidate.reply("chat")

    for request in candidate.upstream.requests:
        assert not {"cookie", "x-api-key", "authorization", "user-agent"} & set(request.headers)
        assert b"key-1" not in request.head + request.body


def test_the_upstream_is_asked_for_its_own_name_of_the_model(candidate):
    candidate.reply("chat")

    assert all(
        request.json()["model"] == "org/tiny-llama" for request in candidate.upstream.requests
    )
    assert len(candidate.upstream.requests) == candidate.speaker.networked


def test_its_models_are_listed(candidate):
    document = candidate.speaker.models

    cards = candidate.backend.models(document)

    assert [card.id for card in cards] == ["org/tiny-llama"] if document else cards
    assert (candidate.backend.probe() is not None) == candidate.speaker.networked


@pytest.mark.parametrize("document", [[], {}, {"data": 5, "models": 5}, "<html>", 5])
def test_what_is_no_model_list_is_refused(candidate, document):
    if candidate.backend.probe() is None:
        return

    with pytest.raises(UpstreamInvalid):
        candidate.backend.models(document)
