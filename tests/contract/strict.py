"""The strictest reader of chat streams we know: every rule that some client depends on.

The official client forgives much of this; others do not, so the gateway must not need forgiveness.
"""

import json
from dataclasses import dataclass, field
from typing import Any

FINISH_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}
KEEPALIVE = ": keepalive"


class StreamError(AssertionError):
    """A rule was broken."""


@dataclass
class Choice:
    """What one choice said."""

    text: str = ""
    role: str | None = None
    finish_reason: str | None = None
    tool_calls: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Transcript:
    """A whole stream."""

    choices: dict[int, Choice] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    done: bool = False
    events: int = 0


def read_stream(
    body: bytes, *, usage: bool, object_name: str = "chat.completion.chunk"
) -> Transcript:
    """Return what a stream that ended well says; raise StreamError at the first broken rule."""
    transcript = _read(body, usage, object_name)
    _rule(transcript.error is None, f"an error: {transcript.error}")
    _rule(transcript.done, "no [DONE]")
    _rule(bool(transcript.choices), "no choices at all")
    for index, choice in transcript.choices.items():
        _rule(choice.finish_reason is not None, f"choice {index} never finished")
    _rule((transcript.usage is not None) == usage, f"usage asked {usage}, got {transcript.usage}")
    return transcript


def read_broken(body: bytes, object_name: str = "chat.completion.chunk") -> Transcript:
    """Return what a stream that must end with an error event says."""
    transcript = _read(body, False, object_name)
    _rule(transcript.error is not None, "no error event")
    _rule(not transcript.done, "[DONE] in spite of an error")
    return transcript


def _read(body: bytes, usage: bool, object_name: str) -> Transcript:
    text = body.decode("utf-8")
    _rule("\r" not in text, "a carriage return")
    _rule(text.endswith("\n\n"), "the last event has no blank line")
    transcript = Transcript()
    for block in text[:-2].split("\n\n"):
        if block == KEEPALIVE:
            continue
        _rule(block.startswith("data: "), f"not a data line: {block[:40]!r}")
        _rule("\n" not in block, f"an event of several lines: {block[:60]!r}")
        _rule(not transcript.done, "something after [DONE]")
        _rule(transcript.error is None, "something after an error event")
        if block == "data: [DONE]":
            transcript.done = True
        else:
            _event(json.loads(block[6:]), transcript, usage, object_name)
    return transcript


def _event(event: Any, transcript: Transcript, usage: bool, object_name: str) -> None:
    _rule(isinstance(event, dict), "an event that is no object")
    transcript.events += 1
    if event.get("error"):
        transcript.error = _error(event)
        return
    names = {name: event.get(name) for name in ("id", "object", "created", "model")}
    _rule(names["object"] == object_name, f"object is {names['object']!r}")
    _rule(isinstance(names["id"], str) and bool(names["id"]), "no id")
    _rule(isinstance(names["model"], str) and bool(names["model"]), "no model")
    _rule(type(names["created"]) is int, f"created is {names['created']!r}")
    transcript.names = transcript.names or names
    _rule(transcript.names == names, f"id, created or model changed: {names}")
    _rule(transcript.usage is None, "an event after the usage")
    choices = event.get("choices")
    _rule(isinstance(choices, list), "no choices list")
    if choices:
        _rule(event.get("usage") is None, "usage beside choices")
        for choice in choices:
            _choice(choice, transcript, object_name)
        return
    _rule(usage, "an event without choices although no usage was asked for")
    transcript.usage = _checked_usage(event.get("usage"))


def _error(event: dict[str, Any]) -> dict[str, Any]:
    error = event["error"]
    _rule(set(event) == {"error"}, f"an error beside {set(event)}")
    _rule(isinstance(error, dict), "an error that is no object")
    for name in ("message", "type", "code"):
        _rule(isinstance(error.get(name), str) and bool(error[name]), f"an error without {name}")
    return error


def _checked_usage(usage: Any) -> dict[str, Any]:
    _rule(isinstance(usage, dict), f"usage is {usage!r}")
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    _rule(all(type(count) is int and count >= 0 for count in counts), f"usage counts {counts}")
    _rule(counts[0] + counts[1] == counts[2], f"usage does not add up: {counts}")
    return usage


def _choice(choice: Any, transcript: Transcript, object_name: str) -> None:
    _rule(isinstance(choice, dict), "a choice that is no object")
    index = choice.get("index")
    _rule(type(index) is int, f"a choice with index {index!r}")
    state = transcript.choices.get(index)
    is_first = state is None
    if state is None:
        state = transcript.choices[index] = Choice()
    _rule(state.finish_reason is None, f"choice {index} goes on after its finish")
    _rule("finish_reason" in choice, "a choice without finish_reason")
    if object_name == "text_completion":
        _rule(isinstance(choice.get("text"), str), "a completion without text")
        state.text += choice["text"]
    else:
        _delta(choice.get("delta"), state, is_first=is_first)
    reason = choice["finish_reason"]
    _rule(reason is None or reason in FINISH_REASONS, f"finish_reason {reason!r}")
    if reason is not None:
        _rule(not (state.tool_calls and reason == "stop"), "tool calls that end with 'stop'")
        delta = {k: v for k, v in (choice.get("delta") or {}).items() if k != "role"}
        _rule(not any(delta.values()), f"a finish beside {delta}")
        state.finish_reason = reason


def _delta(delta: Any, state: Choice, *, is_first: bool) -> None:
    _rule(isinstance(delta, dict), f"delta is {delta!r}")
    _rule(("role" in delta) == is_first, f"role in a delta: {'role' in delta}, first: {is_first}")
    if is_first:
        _rule(delta["role"] == "assistant", f"role {delta['role']!r}")
        state.role = delta["role"]
    content = delta.get("content")
    _rule(content is None or isinstance(content, str), f"content is {content!r}")
    state.text += content or ""
    _rule(delta.get("function_call") is None, "the ancient function_call")
    calls = delta.get("tool_calls")
    _rule(calls is None or (isinstance(calls, list) and bool(calls)), f"tool_calls is {calls!r}")
    for call in calls or ():
        _tool_call(call, state)


def _tool_call(call: Any, state: Choice) -> None:
    _rule(isinstance(call, dict), "a tool call that is no object")
    index, function = call.get("index"), call.get("function")
    _rule(type(index) is int, f"a tool call with index {index!r}")
    _rule(isinstance(function, dict), "a tool call without function")
    arguments = function.get("arguments")
    _rule(isinstance(arguments, str), f"arguments are {arguments!r}")
    if index == len(state.tool_calls):
        _rule(call.get("type") == "function", f"a tool call of type {call.get('type')!r}")
        _rule(isinstance(call.get("id"), str) and bool(call["id"]), "a tool call without id")
        _rule(isinstance(function.get("name"), str), "a tool call without name")
        state.tool_calls.append(
            {"id": call["id"], "name": function["name"], "arguments": arguments}
        )
        return
    _rule(index < len(state.tool_calls), f"tool call {index} after {len(state.tool_calls)} calls")
    _rule(not ({"id", "type"} & set(call)), f"id or type repeated: {call}")
    _rule("name" not in function, "a repeated function name")
    state.tool_calls[index]["arguments"] += arguments


def _rule(holds: bool, broken: str) -> None:
    if not holds:
        raise StreamError(broken)
