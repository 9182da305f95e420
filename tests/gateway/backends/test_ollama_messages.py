"""OpenAI's requests in Ollama's words, one test a mapping."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.ollama_messages import chat_request, embed_request, generate_request
from gateway.kernel.errors import InvalidRequest

PIXEL = "iVBORw0KGgo="


def chat(*messages: dict, **fields) -> dict:
    body = {"messages": list(messages) or [{"role": "user", "content": "Hi"}], **fields}
    return chat_request(body, "llama3", stream=False)


def message(**fields) -> dict:
    """Return what becomes of a single message."""
    (made,) = chat(fields)["messages"]
    return made


# --- messages ------------------------------------------------------------------------------------


def test_a_plain_chat():
    assert chat_request(
        {"messages": [{"role": "user", "content": "Hi"}]}, "llama3", stream=True
    ) == {"model": "llama3", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_roles_stay(role):
    assert message(role=role, content="x")["role"] == role


def test_a_developer_speaks_as_system():
    assert message(role="developer", content="x") == {"role": "system", "content": "x"}


@pytest.mark.parametrize("content", [None, ""])
def test_a_message_without_content_has_an_empty_text(content):
    assert message(role="assistant", content=content)["content"] == ""


def test_texts_of_several_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert message(role="user", content=parts) == {"role": "user", "content": "a\nb"}


@pytest.mark.parametrize("url", [f"data:image/png;base64,{PIXEL}", f"data:;base64,{PIXEL}"])
@pytest.mark.parametrize("wrapped", [True, False], ids=["as an object", "as a text"])
def test_an_image_goes_beside_the_text_without_its_prefix(url, wrapped):
    parts = [{"type": "text", "text": "What is it?"},
             {"type": "image_url", "image_url": {"url": url} if wrapped else url}]  # fmt: skip

    assert message(role="user", content=parts) == {
        "role": "user", "content": "What is it?", "images": [PIXEL]}  # fmt: skip


@pytest.mark.parametrize(
    "source",
    ["http://10.0.0.1/x.png", "file:///etc/passwd", "data:image/png,abc", "", None, 5, {}, []],
)
def test_an_image_that_would_have_to_be_fetched_is_refused(source):
    with pytest.raises(InvalidRequest) as caught:
        message(role="user", content=[{"type": "image_url", "image_url": {"url": source}}])

    assert caught.value.param == "messages"


@pytest.mark.parametrize("part", [{"type": "input_audio"}, {"type": "file"}, {}, "text", None])
def test_a_part_that_ollama_cannot_take_is_refused(part):
    with pytest.raises(InvalidRequest):
        message(role="user", content=[part])


# --- tools ---------------------------------------------------------------------------------------

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
CALL = {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def test_tools_are_passed_on():
    assert chat(tools=TOOLS)["tools"] == TOOLS
    assert chat(tools=TOOLS, tool_choice="auto")["tools"] == TOOLS


def test_tools_that_must_not_be_used_are_left_out():
    assert "tools" not in chat(tools=TOOLS, tool_choice="none")
    assert "tools" not in chat(tools=[])


@pytest.mark.parametrize(
    ("arguments", "given_on"),
    [('{"a": 1}', {"a": 1}), ("", {}), (None, {}), ({"a": 1}, {"a": 1}),
     ("not json", {"arguments": "not json"})],
)  # fmt: skip
def test_the_arguments_of_a_tool_call_become_an_object(arguments, given_on):
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}

    made = message(role="assistant", content=None, tool_calls=[call])

    assert made["tool_calls"] == [{"function": {"name": "f", "arguments": given_on}}]


def test_a_tools_result_is_known_by_the_functions_name():
    asked = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "call_a", "content": "42"}

    *_, made = chat(asked, result)["messages"]

    assert made == {"role": "tool", "content": "42", "tool_name": "f"}


def test_a_name_of_its_own_wins():
    assert message(role="tool", name="g", content="42")["tool_name"] == "g"


def test_only_a_result_has_the_name_of_a_tool():
    assert "tool_name" not in message(role="user", name="Ann", content="Hi")


def test_a_result_of_an_unknown_call_has_no_name():
    assert "tool_name" not in message(role="tool", tool_call_id="call_z", content="42")


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("max_tokens", "num_predict"), ("max_completion_tokens", "num_predict"),
     *((same, same) for same in ("temperature", "top_p", "top_k", "min_p", "seed", "stop",
                                 "frequency_penalty", "presence_penalty"))],
)  # fmt: skip
def test_an_option_goes_under_its_name_there(ours, theirs):
    assert chat(**{ours: 3})["options"] == {theirs: 3}


def test_the_newer_limit_of_tokens_wins():
    assert chat(max_tokens=3, max_completion_tokens=5)["options"] == {"num_predict": 5}


def test_nulls_and_unknown_fields_are_left_out():
    assert set(chat(temperature=None, user="me", logit_bias={})) == {"model", "messages", "stream"}


@pytest.mark.parametrize(
    ("wanted", "format_"),
    [
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
         {"type": "object"}),
        ({"type": "json_schema", "json_schema": {}}, "json"),
        ({"type": "json_schema"}, "json"),
        ({"type": "text"}, None), (None, None), ("json", None),
    ],
)  # fmt: skip
def test_a_format_of_the_answer_is_passed_on(wanted, format_):
    assert chat(response_format=wanted).get("format") == format_


@pytest.mark.parametrize(
    ("effort", "think"),
    [("none", False), ("minimal", False), ("low", "low"), ("medium", "medium"), ("high", "high"),
     ("extreme", None), (None, None)],
)  # fmt: skip
def test_reasoning_effort_becomes_think(effort, think):
    assert chat(reasoning_effort=effort).get("think") == think


@pytest.mark.parametrize(("name", "value"), [("think", False), ("keep_alive", "10m")])
def test_ollamas_own_fields_are_passed_on(name, value):
    assert chat(**{name: value})[name] == value


# --- completions and embeddings ------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_one_prompt_is_taken(prompt):
    made = generate_request({"prompt": prompt, "suffix": "end", "seed": 1}, "m", stream=True)

    assert made == {"model": "m", "prompt": "Once", "suffix": "end", "stream": True,
                    "options": {"seed": 1}}  # fmt: skip


def test_no_prompt_is_an_empty_one():
    assert generate_request({}, "m", stream=False)["prompt"] == ""


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2, 3], [[1, 2]], [None]])
def test_several_prompts_and_tokens_are_refused(prompt):
    with pytest.raises(InvalidRequest) as caught:
        generate_request({"prompt": prompt}, "m", stream=False)

    assert caught.value.param == "prompt"


@pytest.mark.parametrize(("texts", "given_on"), [("a", ["a"]), (["a", "b"], ["a", "b"])])
def test_texts_are_embedded(texts, given_on):
    assert embed_request({"input": texts, "dimensions": 8, "user": "me"}, "m") == {
        "model": "m", "input": given_on, "dimensions": 8}  # fmt: skip


@pytest.mark.parametrize("texts", [[1, 2], [[1, 2], [3]], ["a", 1]])
def test_tokens_are_refused(texts):
    with pytest.raises(InvalidRequest) as caught:
        embed_request({"input": texts}, "m")

    assert (caught.value.status, caught.value.param) == (400, "input")


# --- whatever callers send -----------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "text", "url", "id", "name", "function", "arguments", "schema"]),
        inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
CONTENT = st.none() | st.text(max_size=4) | st.lists(st.dictionaries(
    st.sampled_from(["type", "text", "image_url"]), JSON, max_size=3), max_size=3)  # fmt: skip
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
    optional={"content": CONTENT, "tool_calls": JSON, "tool_call_id": JSON, "name": JSON},
)
FIELDS = st.dictionaries(
    st.sampled_from(["tools", "tool_choice", "response_format", "reasoning_effort", "stop",
                     "suffix", "think"]), JSON, max_size=4)  # fmt: skip


@given(st.lists(MESSAGE, min_size=1, max_size=3), FIELDS)
def test_whatever_a_caller_sends_is_translated_or_refused(messages, fields):
    try:
        made = chat_request({"messages": messages, **fields}, "m", stream=False)
        generate_request({"prompt": "x", **fields}, "m", stream=False)
    except InvalidRequest:
        return

    assert len(orjson.loads(orjson.dumps(made))["messages"]) == len(messages)
