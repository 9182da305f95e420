"""One choice of one event: what changes, what does not, and what is told about it."""

import pytest

from gateway.backends.chunks import (
    FINISH_REASONS,
    ChatChoice,
    CompletionChoice,
    ToolCalls,
    finish_reason_of,
    size_bytes,
    spoken_bytes,
)


def test_reasons_of_the_closed_list_stay():
    reasons = ["stop", "length", "tool_calls", "content_filter", "function_call"]

    assert set(reasons) == FINISH_REASONS
    assert [finish_reason_of(reason, called_tools=False) for reason in reasons] == reasons


@pytest.mark.parametrize(
    ("meant", "words"),
    [
        ("stop", "end_turn eos eos_token stop_sequence complete load unload"),
        ("length", "max_tokens max_length model_length"), ("tool_calls", "tool_use tool_call"),
        ("content_filter", "safety refusal"),
    ],
)  # fmt: skip
def test_other_servers_words_are_known(meant, words):
    for word in words.split():
        assert finish_reason_of(word, called_tools=False) == meant
        assert finish_reason_of(word.upper(), called_tools=False) == meant


@pytest.mark.parametrize(
    "member",
    ["content", "tool_calls", "function_call", "refusal", "audio", "reasoning_content", "reasoning",
     "thinking"],
)  # fmt: skip
def test_everything_that_a_reader_would_see_is_content(member):
    value = [{"index": 0}] if member == "tool_calls" else {"data": "x"}
    choice = {"index": 0, "delta": {"role": "assistant", member: value}, "finish_reason": None}

    _, bears_content = ChatChoice().repair(choice)

    assert bears_content


def test_called_tools_only_overrule_a_plain_stop():
    told = {reason: finish_reason_of(reason, called_tools=True) for reason in FINISH_REASONS}

    assert told == {reason: reason for reason in FINISH_REASONS} | {"stop": "tool_calls"}


def test_a_choice_in_order_is_not_changed():
    state = ChatChoice()
    first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    text = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}

    assert [state.repair(choice) for choice in (first, text, last)] == [
        (False, False), (False, True), (False, False)]  # fmt: skip
    assert state.finished


def test_a_choice_without_its_finish_member_gets_it():
    choice = {"index": 0, "delta": {"role": "assistant", "content": "a"}}

    assert ChatChoice().repair(choice) == (True, True)
    assert choice["finish_reason"] is None


def test_unknown_members_of_a_choice_and_its_delta_stay():
    choice = {"index": 0, "finish_reason": None, "logprobs": {"content": []}, "extra": 1,
              "delta": {"role": None, "content": "a", "reasoning": "b", "extra": 2}}  # fmt: skip

    ChatChoice().repair(choice)

    assert choice == {"index": 0, "finish_reason": None, "logprobs": {"content": []}, "extra": 1,
                      "delta": {"role": "assistant", "content": "a", "reasoning": "b",
                                "extra": 2}}  # fmt: skip


def test_the_finish_of_a_choice_can_be_taken_off():
    choice = {"index": 3, "delta": {"content": "a"}, "finish_reason": "length"}

    last = ChatChoice.split(choice)

    assert choice == {"index": 3, "delta": {"content": "a"}, "finish_reason": None}
    assert last == {"index": 3, "delta": {}, "finish_reason": "length"}


def test_the_finish_of_a_completion_can_be_taken_off():
    choice = {"index": 3, "text": "a", "finish_reason": "length"}

    last = CompletionChoice.split(choice)

    assert choice == {"index": 3, "text": "a", "finish_reason": None}
    assert last == {"index": 3, "text": "", "logprobs": None, "finish_reason": "length"}


@pytest.mark.parametrize("text", [None, 5, ["a"]])
def test_a_completion_whose_text_is_no_text_has_an_empty_one(text):
    choice = {"index": 0, "text": text, "finish_reason": None}

    assert CompletionChoice().repair(choice) == (True, False)
    assert choice["text"] == ""


def test_tool_calls_in_order_are_not_changed():
    calls = ToolCalls()
    opened = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    goes_on = {"index": 0, "function": {"arguments": "{}"}}

    assert [calls.repair([delta]) for delta in (opened, goes_on)] == [False, False]


def test_it_is_known_whether_a_call_was_made():
    calls = ToolCalls()
    before = calls.any()

    calls.repair([{"index": 0}])

    assert (before, calls.any()) == (False, True)


def test_a_call_that_opens_without_function_and_arguments_gets_them_empty():
    delta = {"index": 0, "id": "a", "type": "tool"}

    ToolCalls().repair([delta])

    assert delta == {"index": 0, "id": "a", "type": "function", "function": {"arguments": ""}}


def test_what_is_no_tool_call_is_passed_over():
    assert ToolCalls().repair([None, "x", 5]) is False


@pytest.mark.parametrize(("text", "size"), [("abc", 3), ("äö", 4), ("👋", 4), ("", 0), (None, 0)])
def test_texts_are_measured_in_utf8(text, size):
    assert size_bytes(text) == size


def test_everything_a_model_writes_is_measured():
    message = {"content": "ab", "reasoning_content": "cde",
               "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}, None,
                              {"function": None}]}  # fmt: skip

    assert spoken_bytes(message) == 8


@pytest.mark.parametrize("calls", [None, "x", {"a": 1}, 5])
def test_tool_calls_of_another_shape_measure_nothing(calls):
    assert spoken_bytes({"content": "ab", "tool_calls": calls}) == 2


@pytest.mark.parametrize(
    ("state", "choice"),
    [(ChatChoice(), {"delta": {"role": "assistant", "content": "a"}}),
     (CompletionChoice(), {"text": "a"})],
    ids=["chat", "completion"],
)  # fmt: skip
def test_an_empty_finish_reason_is_none(state, choice):
    choice = {"index": 0, "logprobs": None, **choice, "finish_reason": ""}

    assert state.repair(choice) == (True, True)
    assert choice["finish_reason"] is None
    assert not state.finished
