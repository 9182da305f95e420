"""How a server of each kind answers; the exam in test_conformance.py is taken with these.

A new backend needs one more entry in ``SPEAKERS``: what its server says, byte for byte, when it is
asked for the text ``Hello there`` (9 tokens in, 2 out), for a call of ``get_weather`` with
``{"city":"Oslo"}``, and for the vector ``[0.5, -1.25]``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gevent.event import Event

from gateway.kernel.errors import (
    UpstreamBusy,
    UpstreamCredential,
    UpstreamError,
    UpstreamInvalid,
    UpstreamRejected,
    UpstreamReset,
)
from tests.fakes.upstream import End, Script, answer, answer_json, chunk, stream, stream_head

MODEL = "org/tiny-llama"
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
ARGUMENTS = '{"city":"Oslo"}'
VECTOR = [0.5, -1.25]


@dataclass(frozen=True)
class Said:
    """One answer: the model's name that brings it about, and what the server then does."""

    steps: Script = ()
    model: str = MODEL


@dataclass(frozen=True)
class Failure:
    """One way to fail: how it looks on the wire, and what it must mean to a caller."""

    said: Said
    kind: type[UpstreamError]
    status: int


@dataclass(frozen=True)
class Speaker:
    """One kind of server.

    Attributes:
        scheme: Of the address it is configured by.
        answers: By what was asked for.
        failures: By what goes wrong.
        models: The document that lists ``MODEL``; None when there is none.
        networked: Whether there is a server at all.
    """

    scheme: str
    answers: Mapping[str, Said]
    failures: Mapping[str, Failure]
    models: Any
    networked: bool = True


def http_failures(error: Any, unknown_model: bytes) -> dict[str, Failure]:
    """Return how any server behind HTTP can fail, with its own shape of an error."""
    page = b"<html><body><h1>Bad Gateway</h1>gpu7.internal</body></html>"
    wire: dict[str, tuple[Script, type[UpstreamError], int]] = {
        "a bad request": ((answer_json(error, 400),), UpstreamRejected, 400),
        "a wrong key": ((answer_json(error, 401),), UpstreamCredential, 502),
        "an unknown model": ((unknown_model,), UpstreamRejected, 404),
        "a wrong path": ((answer(b"Not Found", 404, "text/plain"),), UpstreamInvalid, 502),
        "too much work": ((answer_json(error, 429, Retry_After="7"),), UpstreamBusy, 429),
        "a defect": ((answer_json(error, 500),), UpstreamError, 502),
        "a defect without words": ((answer(b"", 500),), UpstreamError, 502),
        "a page with a 502": ((answer(page, 502, "text/html"),), UpstreamError, 502),
        "a page with a 200": ((answer(page, 200, "text/html"),), UpstreamInvalid, 502),
        "a redirect": ((answer(b"", 307, Location="/"),), UpstreamInvalid, 502),
        "a hang-up": ((End.CLOSE,), UpstreamReset, 502),
        "a reset": ((End.RESET,), UpstreamReset, 502),
    }
    return {
        name: Failure(Said(steps), kind, status) for name, (steps, kind, status) in wire.items()
    }


# --- OpenAI's protocol ---------------------------------------------------------------------------


def _openai(name: str, choice: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    choices = [] if choice is None else [{"index": 0, **choice}]
    return {"id": f"{name}-1", "object": name, "created": 1_700_000_000, "model": MODEL,
            "choices": choices, **more}  # fmt: skip


def _call(**more: Any) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": ARGUMENTS}
    return {"id": "call_1", "type": "function", "function": function, **more}


def _chunks(*choices: dict[str, Any] | None, name: str = "chat.completion.chunk") -> list[bytes]:
    events = [_openai(name, choice) for choice in choices]
    events.append(_openai(name, None, usage=USAGE))
    return [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]


def _text(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"delta": {"content": text} if text else {}, "finish_reason": finish}


ROLE = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
WORDS = _chunks(ROLE, _text("Hello"), _text(" there"), _text("", "stop"))
CALLING = _chunks(ROLE, {"delta": {"tool_calls": [_call(index=0)]}, "finish_reason": None},
                  _text("", "tool_calls"))  # fmt: skip
COMPLETION = _chunks(
    {"text": "Hello", "finish_reason": None}, {"text": " there", "finish_reason": "stop"},
    name="text_completion",
)  # fmt: skip
_EMBEDDED = {
    "object": "list", "model": MODEL, "usage": {"prompt_tokens": 9, "total_tokens": 9},
    "data": [{"object": "embedding", "index": 0, "embedding": VECTOR}],
}  # fmt: skip
_SPOKEN = {"message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}
_CALLED = {"message": {"role": "assistant", "content": None, "tool_calls": [_call()]},
           "finish_reason": "tool_calls"}  # fmt: skip

OPENAI = Speaker(
    scheme="http",
    answers={
        "chat": Said((answer_json(_openai("chat.completion", _SPOKEN, usage=USAGE)),)),
        "chat stream": Said(stream(*WORDS)),
        "tools": Said((answer_json(_openai("chat.completion", _CALLED, usage=USAGE)),)),
        "tools stream": Said(stream(*CALLING)),
        "completion": Said((answer_json(_openai(
            "text_completion", {"text": "Hello there", "finish_reason": "stop"}, usage=USAGE)),)),
        "completion stream": Said(stream(*COMPLETION)),
        "embeddings": Said((answer_json(_EMBEDDED),)),
        "silence": Said((Event(),)),
        "cut stream": Said((*stream(*WORDS[:2])[:-1], End.CLOSE)),
        "cut but politely": Said(stream(*WORDS[:3])),
        "garbage": Said(stream(*WORDS[:1], b"data: {]\n\n")),
    },
    failures=http_failures(
        {"error": {"message": "bad thing", "type": "bad"}},
        answer_json({"error": {"message": "The model `x` does not exist"}}, 404),
    ),
    models={"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1}]},
)  # fmt: skip

# --- mlx_lm.server: HTTP/1.0, a role in every chunk, an object of another name -------------------


def _mlx_stream(events: list[bytes]) -> Script:
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: keepalive 1/1\n\n"
    *spoken, usage, done = events
    spoken = [event.replace(b'"delta": {', b'"delta": {"role": "assistant", ') for event in spoken]
    spoken = [
        event.replace(b', "role": "assistant"', b"").replace(b", }", b"}") for event in spoken
    ]
    odd = usage.replace(b"chat.completion.chunk", b"chat.completion")
    return (head, *spoken, odd, done, End.CLOSE)


MLX = Speaker(
    scheme="mlx",
    answers=OPENAI.answers | {
        "chat stream": Said(_mlx_stream(WORDS)),
        "tools stream": Said(_mlx_stream(CALLING)),
        "completion stream": Said(_mlx_stream(COMPLETION)),
        "cut stream": Said((*_mlx_stream(WORDS)[:3], End.CLOSE)),
        "cut but politely": Said((*_mlx_stream(WORDS)[:3], b"data: [DONE]\n\n", End.CLOSE)),
    },
    failures=http_failures(
        {"error": "bad thing"},
        answer_json({"error": "Cannot find an appropriate cached snapshot folder for it."}, 404),
    ),
    models={"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1}]},
)  # fmt: skip

# --- Ollama's native protocol --------------------------------------------------------------------

_COUNTS = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 2}


def _lines(*lines: dict[str, Any]) -> list[bytes]:
    return [json.dumps({"model": MODEL, "done": False, **line}).encode() + b"\n" for line in lines]


def _said(text: str = "", **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text, **more}}


def _ollama_stream(*lines: dict[str, Any]) -> Said:
    return Said(stream(*_lines(*lines), content_type="application/x-ndjson"))


_OLLAMA_CALL = {"tool_calls": [{"function": {"name": "get_weather",
                                             "arguments": json.loads(ARGUMENTS)}}]}  # fmt: skip
OLLAMA = Speaker(
    scheme="ollama",
    answers={
        "chat": Said((answer_json(_said("Hello there") | _COUNTS),)),
        "chat stream": _ollama_stream(_said("Hello"), _said(" there"), _said() | _COUNTS),
        "tools": Said((answer_json(_said(**_OLLAMA_CALL) | _COUNTS),)),
        "tools stream": _ollama_stream(_said(**_OLLAMA_CALL), _said() | _COUNTS),
        "completion": Said((answer_json({"response": "Hello there", **_COUNTS}),)),
        "completion stream": _ollama_stream(
            {"response": "Hello"}, {"response": " there"}, {"response": "", **_COUNTS}),
        "embeddings": Said((answer_json({"embeddings": [VECTOR], "prompt_eval_count": 9}),)),
        "silence": Said((Event(),)),
        "cut stream": Said((stream_head(), *map(chunk, _lines(_said("Hello"))), End.CLOSE)),
        "cut but politely": _ollama_stream(_said("Hello")),
        "garbage": Said(stream(b"{]\n")),
    },
    failures=http_failures(
        {"error": "bad thing"}, answer_json({"error": "model 'x' not found"}, 404)
    ),
    models={"models": [{"name": MODEL, "details": {}}]},
)  # fmt: skip

# --- the embedded mock: the model's name is the script -------------------------------------------


def _mock(script: str, kind: type[UpstreamError], status: int) -> Failure:
    return Failure(Said(model=f"mock/{script}"), kind, status)


MOCK = Speaker(
    scheme="mock",
    answers={
        **dict.fromkeys(("chat", "chat stream", "completion", "completion stream", "embeddings"),
                        Said(model="mock")),
        **dict.fromkeys(("tools", "tools stream"), Said(model="mock/tool")),
        "silence": Said(model="mock/first_byte_s=60"),
        "cut stream": Said(model="mock/fault=cut"),
        "cut but politely": Said(model="mock/fault=cut"),
        "garbage": Said(model="mock/fault=garbage"),
    },
    failures={
        "a bad request": _mock("status=400", UpstreamRejected, 400),
        "a wrong key": _mock("status=401", UpstreamCredential, 502),
        "too much work": _mock("status=429", UpstreamBusy, 429),
        "a defect": _mock("status=500", UpstreamError, 502),
    },
    models=None,
    networked=False,
)  # fmt: skip

SPEAKERS: Mapping[str, Speaker] = {
    "openai_compatible": OPENAI, "mlx": MLX, "ollama": OLLAMA, "mock": MOCK,
}  # fmt: skip
"""By the name under which the backend is registered."""
