"""Finished answers: good ones pass byte for byte, the others are repaired or refused."""

import base64
import struct
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.replies import completion_reply, embeddings_reply, encoded, json_object
from gateway.kernel.call import Kind, Usage
from gateway.kernel.errors import (
    GatewayError,
    UpstreamBusy,
    UpstreamError,
    UpstreamInvalid,
    UpstreamRejected,
)
from tests.fakes.calls import make_call

GOLDEN = Path(__file__).parent / "golden"
CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                 "message": {"role": "assistant", "content": "Hé\u2028", "refusal": None}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11,
              "prompt_tokens_details": {"cached_tokens": 4}},
    "service_tier": "default",
}  # fmt: skip
COMPLETION = {
    "id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m",
    "choices": [{"index": 0, "text": "upon", "logprobs": None, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}  # fmt: skip
CALL = {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def told(document: object, kind: Kind = Kind.CHAT, at_upstream: str = "m") -> dict:
    """Return what a client gets for this answer."""
    body = completion_reply(orjson.dumps(document), make_call(kind, "m"), at_upstream).body
    return orjson.loads(body)


def chat(message: dict | None = None, finish: object = "stop", **changes) -> dict:
    """Return the good answer with another message, finish or members; None leaves one out."""
    choice = CHAT["choices"][0] | {"finish_reason": finish}
    choice["message"] = {"role": "assistant", "content": "Hi"} if message is None else message
    merged = CHAT | {"choices": [choice]} | changes
    return {name: value for name, value in merged.items() if value is not None}


# --- whole answers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "document"), [(Kind.CHAT, CHAT), (Kind.COMPLETION, COMPLETION)], ids=["chat", "legacy"]
)
def test_a_conforming_answer_passes_byte_for_byte(kind, document):
    body = orjson.dumps(document, option=orjson.OPT_INDENT_2)

    reply = completion_reply(body, make_call(kind, "m"), "m")

    assert reply.body is body
    assert reply.usage == Usage(9, 2)


@pytest.mark.parametrize("name", ["mlx_chat", "mlx_default_model", "mlx_completion"])
def test_a_recorded_conforming_answer_passes_byte_for_byte(name):
    body = (GOLDEN / f"{name}.json").read_bytes()
    kind = Kind.COMPLETION if name.endswith("completion") else Kind.CHAT

    assert completion_reply(body, make_call(kind), "tiny-llama").body == body


@pytest.mark.parametrize("name", ["transformers_chat", "transformers_completion"])
def test_a_recorded_answer_is_not_changed_in_meaning(name):
    body = (GOLDEN / f"{name}.json").read_bytes()
    kind = Kind.COMPLETION if name.endswith("completion") else Kind.CHAT

    reply = completion_reply(body, make_call(kind), "tiny-llama")

    assert orjson.loads(reply.body) == orjson.loads(body)
    assert reply.usage.estimated is False


def test_the_model_is_mapped_back_and_the_rest_kept():
    assert told(CHAT | {"model": "org/long"}, at_upstream="org/long") == CHAT


def test_a_variant_of_the_models_name_that_the_upstream_chose_is_passed_on():
    assert told(CHAT | {"model": "m@main"})["model"] == "m@main"


@pytest.mark.parametrize(
    "lost", ["id", "object", "created", "model", "usage"], ids=lambda name: f"without {name}"
)
def test_a_missing_member_is_filled_in(lost):
    out = told({name: value for name, value in CHAT.items() if name != lost})

    assert out["object"] == "chat.completion"
    assert out["id"].startswith("chatcmpl-")
    assert isinstance(out["created"], int)
    assert out["model"] == "m"
    assert {"prompt_tokens", "completion_tokens", "total_tokens"} <= set(out["usage"])
    assert out["choices"] == CHAT["choices"]


@pytest.mark.parametrize("created", [7.9, "7", None, True, -1, 0, 1e30, float("nan")])
def test_a_created_time_is_a_whole_number(created):
    assert type(told(chat(created=created))["created"]) is int


def test_usage_that_was_not_reported_is_estimated_and_says_so():
    reply = completion_reply(
        orjson.dumps(chat({"role": "assistant", "content": "x" * 40}, usage=None)),
        make_call(model="m"), "m",
    )  # fmt: skip

    assert reply.usage.estimated
    assert reply.usage.completion_tokens == 10
    assert orjson.loads(reply.body)["usage"] == reply.usage.as_json()


def test_an_estimate_counts_tool_calls_and_utf8():
    message = {"role": "assistant", "content": "äö", "tool_calls": [CALL]}

    reply = completion_reply(orjson.dumps(chat(message, usage=None)), make_call(model="m"), "m")

    assert reply.usage.completion_tokens == 2


def test_a_total_that_is_missing_is_added():
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": None, "cost": 1}

    assert told(chat(usage=usage))["usage"] == usage | {"total_tokens": 11}


# --- choices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [None, "model", ""])
def test_the_role_is_always_the_assistants(role):
    message = told(chat({"role": role, "content": "Hi"}))["choices"][0]["message"]

    assert message == {"role": "assistant", "content": "Hi"}


def test_a_message_without_content_has_null():
    assert told(chat({"role": "assistant"}))["choices"][0]["message"]["content"] is None


@pytest.mark.parametrize(
    ("said", "meant"),
    [(None, "stop"), ("", "stop"), ("eos", "stop"), ("max_tokens", "length"), (["stop"], "stop")],
)
def test_a_finish_reason_comes_from_the_closed_list(said, meant):
    assert told(chat(finish=said))["choices"][0]["finish_reason"] == meant


def test_tool_calls_are_put_in_order():
    raw = {"function": {"name": "f", "arguments": {"city": "Oslo"}}, "index": 4, "type": "tool"}
    message = {"role": "assistant", "content": None, "tool_calls": [raw], "function_call": {}}

    choice = told(chat(message, "stop"))["choices"][0]

    (call,) = choice["message"]["tool_calls"]
    assert call.pop("id").startswith("call-")
    assert call == {"type": "function", "function": {"name": "f", "arguments": '{"city":"Oslo"}'}}
    assert "function_call" not in choice["message"]
    assert choice["finish_reason"] == "tool_calls"


def test_good_tool_calls_stay_as_they_are():
    good = chat({"role": "assistant", "content": None, "tool_calls": [CALL]}, "tool_calls")

    assert told(good) == good


def test_choices_without_an_index_get_their_place():
    choice = chat()["choices"][0]
    del choice["index"]

    out = told(chat(choices=[choice, dict(choice)]))

    assert [one["index"] for one in out["choices"]] == [0, 1]


def test_a_legacy_completion_is_repaired_likewise():
    out = told({"choices": [{"text": None, "finish_reason": "eos"}]}, Kind.COMPLETION)

    assert out["object"] == "text_completion"
    assert out["id"].startswith("cmpl-")
    assert out["choices"] == [{"text": "", "finish_reason": "stop", "index": 0}]


# --- what is no answer ---------------------------------------------------------------------------

DEEP = b'{"choices":[{"message":{"role":"x","content":' + b"[" * 400 + b"]" * 400 + b"}}]}"
NO_ANSWERS = {
    "nothing": b"", "HTML": b"<html><body>502</body></html>", "text": b"ok", "a list": b"[]",
    "a number": b"5", "null": b"null", "no choices": b"{}", "empty choices": b'{"choices":[]}',
    "choices of numbers": b'{"choices":[1]}', "a choice without a message": b'{"choices":[{}]}',
    "a message that is a text": b'{"choices":[{"message":"hi"}]}',
    "half of an answer": orjson.dumps(CHAT)[:-9], "an answer and a half": orjson.dumps(CHAT) + b"{",
    "bytes that are not UTF-8": orjson.dumps(CHAT).replace(b"default", b"\xff"),
    "nested too deep to read": b"[" * 100_000, "nested too deep to write": DEEP,
}  # fmt: skip


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
def test_what_is_no_completion_is_refused(body):
    with pytest.raises(UpstreamInvalid) as caught:
        completion_reply(body, make_call(model="m"), "m")

    assert caught.value.status == 502
    assert "html" not in caught.value.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [("boom", UpstreamError), ({"message": "slow", "code": 429}, UpstreamBusy),
     ({"message": "context length", "code": 400}, UpstreamRejected)],
)  # fmt: skip
def test_an_error_in_a_200_is_raised_as_what_it_means(error, kind):
    body = orjson.dumps(CHAT | {"error": error})

    with pytest.raises(kind):
        completion_reply(body, make_call(model="m"), "m")
    with pytest.raises(kind):
        embeddings_reply(body, make_call(Kind.EMBEDDINGS), "m")


@pytest.mark.parametrize("body", [b"[]", b"", b"<p>", b'"x"'])
def test_only_a_json_object_is_taken_from_an_upstream(body):
    with pytest.raises(UpstreamInvalid):
        json_object(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "function", "arguments", "id", "index",
                         "message", "text", "finish_reason", "embedding"]), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(
    choices=st.lists(JSON, max_size=3), usage=JSON,
    kind=st.sampled_from([Kind.CHAT, Kind.COMPLETION]),
)  # fmt: skip
def test_wild_answers_are_repaired_or_refused_and_nothing_else(choices, usage, kind):
    body = orjson.dumps({"choices": choices, "usage": usage})

    try:
        reply = completion_reply(body, make_call(kind, "m"), "m")
    except GatewayError:
        return

    assert orjson.loads(reply.body)["choices"]


# --- embeddings ----------------------------------------------------------------------------------

VECTOR = [0.5, -1.25, 3.0]
BASE64 = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
EMBEDDINGS = {
    "object": "list", "model": "m", "data": [{"object": "embedding", "index": 0}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}  # fmt: skip


def embedded(vector: object, wanted: str | None, **changes) -> dict:
    document = EMBEDDINGS | {"data": [{"embedding": vector}]} | changes
    fields = {"encoding_format": wanted} if wanted else {}
    call = make_call(Kind.EMBEDDINGS, "m", **fields)
    return orjson.loads(embeddings_reply(orjson.dumps(document), call, "m").body)


@pytest.mark.parametrize("offered", [VECTOR, BASE64, [VECTOR]], ids=["floats", "base64", "nested"])
@pytest.mark.parametrize(
    ("wanted", "given_back"), [("base64", BASE64), ("float", VECTOR), (None, VECTOR)]
)
def test_embeddings_come_in_the_encoding_that_was_asked_for(offered, wanted, given_back):
    assert embedded(offered, wanted)["data"] == [
        {"embedding": given_back, "object": "embedding", "index": 0}]  # fmt: skip


def test_embeddings_get_every_member_that_clients_need():
    out = embedded(VECTOR, None, object="embeddings", model=None, usage=None, extra="kept")

    assert out["object"] == "list"
    assert out["model"] == "m"
    assert out["extra"] == "kept"
    assert out["usage"]["estimated"] is True
    assert out["usage"]["prompt_tokens"] == out["usage"]["total_tokens"] > 0


def test_embeddings_cost_no_completion_tokens():
    body = orjson.dumps({"data": [{"embedding": VECTOR}]})

    usage = embeddings_reply(body, make_call(Kind.EMBEDDINGS, "m"), "m").usage

    assert (usage.completion_tokens, usage.estimated) == (0, True)


def test_embeddings_keep_the_upstreams_count_and_order():
    data = [{"embedding": VECTOR, "index": 1}, {"embedding": VECTOR, "index": 0}]

    out = embedded(None, None, data=data)

    assert [item["index"] for item in out["data"]] == [1, 0]
    assert out["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_the_model_of_embeddings_is_mapped_back():
    body = orjson.dumps(EMBEDDINGS | {"model": "up", "data": [{"embedding": VECTOR}]})

    reply = embeddings_reply(body, make_call(Kind.EMBEDDINGS, "m"), "up")

    assert orjson.loads(reply.body)["model"] == "m"
    assert reply.usage == Usage(3, 0)


@pytest.mark.parametrize(
    "data", [None, [], {}, "x", [1], [None], [{}]],
    ids=["missing", "empty", "an object", "a text", "numbers", "nulls", "no embedding"],
)  # fmt: skip
def test_what_holds_no_embeddings_is_refused(data):
    with pytest.raises(UpstreamInvalid):
        embedded(None, None, data=data)


@pytest.mark.parametrize(
    "vector",
    [[], None, 5, {}, ["a"], [None], [[1.0], [2.0]], "not base64!", "AAA=", BASE64[:-4] + "AA=="],
)
@pytest.mark.parametrize("as_base64", [True, False])
def test_what_is_no_vector_is_refused(vector, as_base64):
    with pytest.raises(UpstreamInvalid):
        encoded(vector, as_base64=as_base64)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_vector_survives_the_way_to_base64_and_back(vector):
    packed = encoded(vector, as_base64=True)

    assert encoded(packed, as_base64=False) == vector
    assert encoded(packed, as_base64=True) == packed
