"""The strict reader itself: a reader that forgives would make every test that uses it worthless."""

import json
from typing import Any

import pytest

from tests.contract.quirks import QUIRKS
from tests.contract.strict import StreamError, read_broken, read_stream

NAMES = {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
DONE = "data: [DONE]\n\n"
ERROR = {"error": {"message": "It broke.", "type": "upstream_error", "code": "upstream_cut"}}


def chunk(delta: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**NAMES, "choices": [choice], **more}


def call(index: Any, arguments: Any = "", **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, **more, "function": {"arguments": arguments}}]}


def named_call(index: Any, arguments: Any = "", name: str = "f") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": "a", "type": "function", "function": function}]}


def lines(*events: Any) -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


FIRST = chunk({"role": "assistant", "content": ""})
TEXT = chunk({"content": "hi"})
LAST = chunk({}, "stop")
TALLY = {**NAMES, "choices": [], "usage": USAGE}
GOOD = lines(FIRST, TEXT, LAST) + DONE


def test_a_good_stream_is_read_whole() -> None:
    transcript = read_stream(GOOD.encode(), usage=False)

    assert transcript.choices[0].text == "hi"
    assert transcript.choices[0].role == "assistant"
    assert transcript.choices[0].finish_reason == "stop"
    assert transcript.names == NAMES


def test_keepalive_comments_may_stand_anywhere() -> None:
    beat = ": keepalive\n\n"

    body = beat + lines(FIRST) + beat + lines(TEXT, LAST) + beat + DONE + beat

    assert read_stream(body.encode(), usage=False).choices[0].text == "hi"


def test_usage_is_read_when_it_was_asked_for() -> None:
    body = lines(FIRST, LAST, TALLY) + DONE

    assert read_stream(body.encode(), usage=True).usage == USAGE


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (lines(FIRST, LAST), "no .DONE."),
        (DONE, "no choices"),
        (lines(FIRST, TEXT) + DONE, "never finished"),
        (GOOD + DONE, "after .DONE."),
        (GOOD + lines(TEXT), "after .DONE."),
        (GOOD[:-1], "blank line"),
        (GOOD.replace("\n", "\r\n"), "carriage return"),
        ("id: 1\n" + GOOD, "not a data line"),
        ("retry: 3\n\n" + GOOD, "not a data line"),
        ("event: ping\ndata: {}\n\n" + GOOD, "not a data line"),
        (GOOD.replace("data: ", "data:", 1), "not a data line"),
        (": hello\n\n" + GOOD, "not a data line"),
        (lines(FIRST).replace(", ", ",\n", 1) + lines(LAST) + DONE, "several lines"),
        (lines(FIRST, [], LAST) + DONE, "no object"),
        (lines(FIRST, {**TEXT, "id": "c-2"}, LAST) + DONE, "changed"),
        (lines(FIRST, {**TEXT, "created": 8}, LAST) + DONE, "changed"),
        (lines(FIRST, {**TEXT, "model": "n"}, LAST) + DONE, "changed"),
        (lines({**FIRST, "created": 7.5}) + DONE, "created"),
        (lines({**FIRST, "id": ""}) + DONE, "no id"),
        (lines({**FIRST, "object": "chat.completion"}) + DONE, "object is"),
        (lines({**FIRST, "choices": None}) + DONE, "no choices list"),
        (lines(FIRST, LAST, TALLY) + DONE, "no usage was asked"),
        (lines(FIRST, {**LAST, "usage": USAGE}) + DONE, "usage beside choices"),
        (lines({**NAMES, "choices": []}, FIRST, LAST) + DONE, "no usage was asked"),
        (lines(chunk({"content": "hi"}), LAST) + DONE, "role in a delta"),
        (lines(FIRST, FIRST, LAST) + DONE, "role in a delta"),
        (lines(chunk({"role": None}), LAST) + DONE, "role None"),
        (lines(FIRST, LAST, TEXT) + DONE, "goes on after"),
        (lines(FIRST, LAST, LAST) + DONE, "goes on after"),
        (lines(FIRST, chunk({}, "end_turn")) + DONE, "finish_reason"),
        (lines(FIRST, chunk({"content": "x"}, "stop")) + DONE, "a finish beside"),
        (lines(FIRST, chunk(None, "stop")) + DONE, "delta is None"),
        (lines({**NAMES, "choices": [{"delta": {}, "finish_reason": None}]}) + DONE, "index None"),
        (lines({**NAMES, "choices": [{"index": 0, "delta": {}}]}) + DONE, "without finish_reason"),
        (lines(FIRST, chunk({"function_call": {}}), LAST) + DONE, "function_call"),
        (lines(FIRST, chunk(named_call(1)), LAST) + DONE, "after 0 calls"),
        (lines(FIRST, chunk(named_call(None)), LAST) + DONE, "index None"),
        (lines(FIRST, chunk(call(0)), LAST) + DONE, "of type None"),
        (lines(FIRST, chunk(named_call(0, {})), LAST) + DONE, "arguments are"),
        (lines(FIRST, chunk(named_call(0)), chunk(named_call(0)), LAST) + DONE, "repeated"),
        (lines(FIRST, chunk(named_call(0)), chunk(call(0, id="a")), LAST) + DONE, "repeated"),
        (lines(FIRST, chunk(named_call(0)), LAST) + DONE, "tool calls that end"),
        (lines(FIRST, chunk({"tool_calls": []}), LAST) + DONE, "tool_calls is"),
        (lines(FIRST, ERROR), "an error"),
    ],
)
def test_each_broken_rule_is_noticed(body: str, complaint: str) -> None:
    with pytest.raises(StreamError, match=complaint):
        read_stream(body.encode(), usage=False)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (lines(FIRST, LAST) + DONE, "usage asked True"),
        (lines(FIRST, TALLY, LAST) + DONE, "after the usage"),
        (lines(FIRST, LAST, TALLY, TALLY) + DONE, "after the usage"),
        (lines(FIRST, LAST, {**TALLY, "usage": None}) + DONE, "usage is None"),
        (lines(FIRST, LAST, {**TALLY, "usage": {**USAGE, "total_tokens": 9}}) + DONE, "add up"),
    ],
)
def test_each_broken_rule_of_usage_is_noticed(body: str, complaint: str) -> None:
    with pytest.raises(StreamError, match=complaint):
        read_stream(body.encode(), usage=True)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (GOOD, "no error"),
        (lines(FIRST, ERROR) + DONE, "after an error"),
        (lines(FIRST, {"error": {"message": "x"}}), "without type"),
        (lines(FIRST, {"error": "x"}), "no object"),
        (lines(FIRST, {**TEXT, **ERROR}), "an error beside"),
    ],
)
def test_each_broken_rule_of_a_broken_stream_is_noticed(body: str, complaint: str) -> None:
    with pytest.raises(StreamError, match=complaint):
        read_broken(body.encode())


def test_most_recorded_quirks_break_some_rule_before_they_are_repaired() -> None:
    """Or the replays would prove nothing: only what conforms may pass as it came."""
    passing = set()
    for quirk in QUIRKS:
        if quirk.ends == "done":
            try:
                read_stream(
                    quirk.upstream_bytes(),
                    usage=quirk.wants_usage,
                    object_name=quirk.object_name,
                )
            except (StreamError, json.JSONDecodeError):
                continue
            passing.add(quirk.name)

    assert passing == {"openai-text-usage", "reasoning", "identity-encoding"}
