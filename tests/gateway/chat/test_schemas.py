"""The chat shapes: what decides and what explains must be one rule."""

import msgspec
import orjson
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.chat.schemas import (
    ROLES,
    ChatRequest,
    CompletionRequest,
    chat_fields,
    check_messages,
    completion_fields,
)
from gateway.kernel.errors import InvalidRequest

EDGES = [
    None, True, False, 0, 1, -1, 128, 129, 2**63 - 1, 2**63, 2**64, 1.0, 1.5, -0.0, "", "a", "1",
    "true", "x" * 512, "x" * 513, "é" * 512, "😀" * 512, [], [1], [True], [None], [1.0], ["a"],
    [""], [[1]], [[]], [["a"]], [[True]], [2**64], [2**70], {}, {"a": 1}, [{}], [{"a": [1]}],
]  # fmt: skip
"""Values at the borders of every rule."""
anything = st.sampled_from(EDGES) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)  # fmt: skip
role = st.sampled_from(ROLES) | anything
content = st.text(max_size=5) | anything | st.lists(st.dictionaries(st.text(max_size=3), anything))
message = st.fixed_dictionaries({"role": role}, optional={"content": content}) | anything
stream_options = st.fixed_dictionaries({}, optional={"include_usage": anything}) | anything
model = st.text(min_size=1, max_size=5) | anything
shared = {
    "stream": anything, "stream_options": stream_options, "max_tokens": anything, "n": anything,
    "temperature": anything,
}  # fmt: skip
chat_bodies = st.fixed_dictionaries(
    {"model": model, "messages": st.lists(message, max_size=3) | anything},
    optional={**shared, "max_completion_tokens": anything, "tools": anything},
)
completion_bodies = st.fixed_dictionaries({"model": model}, optional={**shared, "prompt": anything})


def chat_passes(body: bytes) -> bool:
    """Tell whether the deciding side takes a chat body."""
    try:
        check_messages(chat_fields.decode(body).messages)
    except (msgspec.ValidationError, InvalidRequest):
        return False
    return True


def completion_passes(body: bytes) -> bool:
    """Tell whether the deciding side takes a completion body."""
    try:
        completion_fields.decode(body)
    except msgspec.ValidationError:
        return False
    return True


def encode(document: object) -> bytes:
    """Return JSON; whole numbers of any size stay whole."""
    return msgspec.json.encode(document)


@hypothesis_settings(max_examples=400)
@given(chat_bodies | anything)
@example({"model": "m", "messages": []})
@example({"messages": [{"role": "user"}]})
def test_the_deciding_and_the_explaining_side_agree_on_every_chat_body(document: object):
    explained = (
        ChatRequest().validate(document) if isinstance(document, dict) else {"": "no object"}
    )

    assert chat_passes(encode(document)) == (not explained), explained


@hypothesis_settings(max_examples=300)
@given(completion_bodies | anything)
def test_the_deciding_and_the_explaining_side_agree_on_every_completion_body(document: object):
    explained = (
        CompletionRequest().validate(document) if isinstance(document, dict) else {"": "no object"}
    )

    assert completion_passes(encode(document)) == (not explained), explained


@pytest.mark.parametrize(
    "field",
    ["model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n",
     "tools", "other"],
)  # fmt: skip
def test_both_sides_agree_at_every_border_of_every_chat_field(field: str):
    usual = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    documents = [usual, *({**usual, field: value} for value in EDGES)]

    passing = [chat_passes(encode(document)) for document in documents]

    assert passing == [not ChatRequest().validate(document) for document in documents]
    assert True in passing


@pytest.mark.parametrize("field", ["model", "prompt", "stream", "max_tokens", "n", "other"])
def test_both_sides_agree_at_every_border_of_every_completion_field(field: str):
    documents = [{"model": "m", field: value} for value in EDGES]

    passing = [completion_passes(encode(document)) for document in documents]

    assert passing == [not CompletionRequest().validate(document) for document in documents]
    assert True in passing


def test_both_sides_agree_at_every_border_of_a_messages_content():
    documents = [{"model": "m", "messages": [{"role": "user", "content": v}]} for v in EDGES]

    passing = [chat_passes(encode(document)) for document in documents]

    assert passing == [not ChatRequest().validate(document) for document in documents]
    assert {True, False} == set(passing)


ORDINARY = [
    {},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"stream": None, "stream_options": None, "max_tokens": None, "n": None, "tools": None},
    {"max_completion_tokens": 1, "n": 128},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    {"temperature": 0.1, "user_id": "u", "metadata": {"a": 1}, "anything": [1, {"b": None}]},
]


@pytest.mark.parametrize("more", ORDINARY, ids=str)
@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "Hello"}],
        [{"role": "developer", "content": "x"}, {"role": "assistant", "content": None}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        [{"role": "assistant", "tool_calls": [{"id": "1"}]}, {"role": "tool", "content": ""}],
    ],
)
def test_what_real_clients_send_passes(messages: object, more: dict[str, object]):
    assert chat_passes(encode({"model": "m", "messages": messages, **more}))


@pytest.mark.parametrize("messages", [[{"content": "x"}], [{"role": "robot"}], [{"role": None}]])
def test_a_wrong_role_is_told_with_its_place_and_the_roles_there_are(
    messages: list[dict[str, str]],
):
    with pytest.raises(InvalidRequest) as caught:
        check_messages([{"role": "user"}, *messages])

    assert caught.value.param == "messages[1].role"
    assert all(role in caught.value.message for role in ROLES)


@pytest.mark.parametrize("content", [1, True, {"type": "text"}, ["text"], [None]])
def test_a_wrong_content_is_told_with_its_place(content: object):
    with pytest.raises(InvalidRequest) as caught:
        check_messages([{"role": "user", "content": content}])

    assert caught.value.param == "messages[0].content"


def test_only_the_fields_that_decide_something_are_read():
    wanted = chat_fields.decode(
        orjson.dumps(
            {"model": "m", "messages": [{"role": "user"}], "n": 3, "user": "u", "top_p": 1}
        )
    )

    assert msgspec.structs.asdict(wanted) == {
        "model": "m", "messages": [{"role": "user"}], "stream": None, "stream_options": None,
        "max_tokens": None, "max_completion_tokens": None, "n": 3, "tools": None,
    }  # fmt: skip
