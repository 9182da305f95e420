"""Finished answers made to conform: good ones pass byte for byte, the others are repaired."""

import base64
import struct
import sys
from array import array
from typing import Any

import msgspec
import orjson
from msgspec import UNSET

from gateway.backends.chunks import (
    FINISH_REASONS,
    ToolCalls,
    finish_reason_of,
    size_bytes,
    spoken_bytes,
)
from gateway.backends.normaliser import Absent, moment_of, usage_json, usage_of
from gateway.backends.refusals import in_band
from gateway.kernel.call import Call, Kind, Reply, Usage
from gateway.kernel.errors import UpstreamInvalid
from gateway.kernel.ids import new_id
from gateway.kernel.tokens import estimate

_PREFIXES = {Kind.CHAT: "chatcmpl", Kind.COMPLETION: "cmpl"}
_OBJECTS = {Kind.CHAT: "chat.completion", Kind.COMPLETION: "text_completion"}


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str | None
    tool_calls: Absent = UNSET
    function_call: Absent = UNSET


class _Choice(msgspec.Struct, gc=False):
    index: int
    finish_reason: str
    message: _Message | None = None
    text: str | None = None


class _Completion(msgspec.Struct, gc=False):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]
    usage: _Usage
    error: Absent = None


_completion = msgspec.json.Decoder(_Completion)


def completion_reply(body: bytes, call: Call, upstream_model: str) -> Reply:
    """Return a chat or legacy completion in OpenAI's shape.

    Raises:
        UpstreamInvalid: Not a completion at all.
        UpstreamError: A 200 that carries an error.
    """
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the members it skips
        said = _completion.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _repaired(body, call, upstream_model)
    if said.error is None and said.id and _conforms(said, call, upstream_model):
        return Reply(body, Usage(said.usage.prompt_tokens, said.usage.completion_tokens))
    return _repaired(body, call, upstream_model)


def _conforms(said: _Completion, call: Call, upstream_model: str) -> bool:
    if said.object != _OBJECTS[call.kind] or not said.choices or call.model != upstream_model:
        return False
    for choice in said.choices:
        if choice.finish_reason not in FINISH_REASONS:
            return False
        if call.kind is Kind.COMPLETION:
            if choice.text is None:
                return False
        elif (
            choice.message is None
            or choice.message.role != "assistant"
            or choice.message.tool_calls not in (UNSET, None)
            or choice.message.function_call not in (UNSET, None)
        ):
            return False
    return True


def _repaired(body: bytes, call: Call, upstream_model: str) -> Reply:
    document = json_object(body)
    if document.get("error"):
        raise in_band(document["error"])
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        raise UpstreamInvalid("The upstream's answer has no choices.")
    heard = document.get("model")
    text_bytes = 0
    for place, choice in enumerate(choices):
        if not isinstance(choice, dict):
            raise UpstreamInvalid("The upstream's answer has a choice that is not an object.")
        text_bytes += _repair_choice(choice, place, call.kind)
    usage = usage_of(document.get("usage")) or Usage(
        estimate(len(call.body)), estimate(text_bytes), estimated=True
    )
    said = document.get("usage")
    named = (
        call.model
        if call.model != upstream_model or not isinstance(heard, str) or not heard
        else heard
    )
    fixed = {
        "id": document.get("id")
        if isinstance(document.get("id"), str) and document["id"]
        else new_id(_PREFIXES[call.kind]),
        "object": _OBJECTS[call.kind],
        "created": moment_of(document.get("created")),
        "model": named,
        "choices": choices,
        "usage": usage_json(usage, said if isinstance(said, dict) and not usage.estimated else {}),
    }
    return Reply(_joined(fixed, document), usage)


def _repair_choice(choice: dict[str, Any], place: int, kind: Kind) -> int:
    """Bring a choice into order, in place; return how much text it bears."""
    if not isinstance(choice.get("index"), int):
        choice["index"] = place
    if kind is Kind.COMPLETION:
        choice["text"] = choice["text"] if isinstance(choice.get("text"), str) else ""
        choice["finish_reason"] = finish_reason_of(
            choice.get("finish_reason") or "stop", called_tools=False
        )
        return size_bytes(choice["text"])
    message = choice.get("message")
    if not isinstance(message, dict):
        raise UpstreamInvalid("The upstream's answer has a choice without a message.")
    calls = message.get("tool_calls")
    called = [item for item in calls if isinstance(item, dict)] if isinstance(calls, list) else []
    if called:
        message["tool_calls"] = called
        for tool_call in called:
            # Each item is a call of its own, whatever its id or index says. ``index`` belongs to
            # streams; strict clients refuse it in a finished answer.
            ToolCalls().repair([tool_call])
            tool_call.pop("index", None)
        message.pop("function_call", None)
    message["role"] = "assistant"
    message.setdefault("content", None)
    choice["finish_reason"] = finish_reason_of(
        choice.get("finish_reason") or "stop", called_tools=bool(called)
    )
    return spoken_bytes(message)


def embeddings_reply(body: bytes, call: Call, upstream_model: str) -> Reply:
    """Return embeddings in the encoding the caller asked for, whatever the upstream offers.

    openai-node asks for base64 and decodes a list of floats into garbage without an error, so the
    encoding is converted here both ways.

    Raises:
        UpstreamInvalid: Not a list of embeddings.
    """
    document = json_object(body)
    if document.get("error"):
        raise in_band(document["error"])
    data = document.get("data")
    if not isinstance(data, list) or not data:
        raise UpstreamInvalid("The upstream's answer has no embeddings.")
    as_base64 = bytes(call.members.get("encoding_format", b"")) == b'"base64"'
    for place, item in enumerate(data):
        if not isinstance(item, dict):
            raise UpstreamInvalid("The upstream's answer has an embedding that is not an object.")
        item["object"] = "embedding"
        item["index"] = item["index"] if isinstance(item.get("index"), int) else place
        item["embedding"] = encoded(item.get("embedding"), as_base64=as_base64)
    said = document.get("usage")
    counted = usage_of(said)
    usage = counted or Usage(estimate(len(call.body)), 0, estimated=True)
    heard = document.get("model")
    shown = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
    if usage.estimated:
        shown["estimated"] = True
    fixed = {
        "object": "list",
        "data": data,
        "model": call.model
        if call.model != upstream_model or not isinstance(heard, str)
        else heard,
        "usage": shown | (said if isinstance(said, dict) and counted else {}),
    }
    return Reply(_joined(fixed, document), usage)


def encoded(vector: Any, *, as_base64: bool) -> Any:
    """Return a vector as base64 of little-endian float32, or as a list of floats.

    Raises:
        UpstreamInvalid: Neither floats nor base64 of float32.
    """
    if isinstance(vector, list) and len(vector) == 1 and isinstance(vector[0], list):
        vector = vector[0]
    try:
        if isinstance(vector, str):
            raw = base64.b64decode(vector, validate=True)
            if not raw or len(raw) % 4:
                raise ValueError
            return vector if as_base64 else _floats(raw)
        if not isinstance(vector, list) or not vector:
            raise TypeError
        numbers = array("f", vector)
    except (TypeError, ValueError, OverflowError, struct.error):
        raise UpstreamInvalid(
            "The upstream's answer has an embedding that is not a vector."
        ) from None
    if not as_base64:
        return vector
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def _floats(raw: bytes) -> list[float]:
    numbers = array("f")
    numbers.frombytes(raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _joined(fixed: dict[str, Any], document: dict[str, Any]) -> bytes:
    """Return the repaired members as JSON, with the others the upstream sent."""
    try:
        return orjson.dumps(fixed | {k: v for k, v in document.items() if k not in fixed})
    except orjson.JSONEncodeError:
        raise UpstreamInvalid("The upstream's answer is nested too deep.") from None


def json_object(body: bytes) -> dict[str, Any]:
    """Return a JSON object from an upstream.

    Raises:
        UpstreamInvalid: Anything else: HTML, nothing, a list, broken JSON.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamInvalid("The upstream answered something that is not JSON.") from None
    if not isinstance(document, dict):
        raise UpstreamInvalid("The upstream answered JSON that is not an object.")
    return document
