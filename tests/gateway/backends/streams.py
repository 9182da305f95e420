"""Upstream events to feed to a normaliser, and what comes out of it taken apart."""

from typing import Any

import orjson

from gateway.backends.normaliser import Normaliser
from gateway.kernel.call import Kind
from gateway.kernel.sse import DONE
from tests.fakes.calls import make_call

NAMES = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
ROLE = {"role": "assistant", "content": ""}
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def event(delta: dict | None = None, finish: str | None = None, index: int = 0, **more) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return frame({**NAMES, "choices": [choice], **more})


def frame(document: Any) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def says(text: str, finish: str | None = None, **more) -> bytes:
    return event({"content": text}, finish, **more)


def calls(*deltas: dict) -> bytes:
    return event({"tool_calls": list(deltas)})


def normaliser(
    kind: Kind = Kind.CHAT, *, usage: bool = False, at_upstream: str = "m"
) -> Normaliser:
    return Normaliser(make_call(kind, "m", stream=True, usage=usage), at_upstream)


def heard(*blocks: bytes, **how) -> bytes:
    """Return what a client gets for these upstream blocks."""
    stream = normaliser(**how)
    out = []
    for block in blocks:
        out.append(stream.feed(block))
        if stream.failure is not None:
            raise stream.failure
    return b"".join([*out, stream.finish()])


def events(out: bytes) -> list[dict]:
    """Return the events of a canonical stream that ended well."""
    assert out.endswith(DONE)
    frames = out.removesuffix(DONE).split(b"\n\n")
    assert frames.pop() == b""
    return [orjson.loads(one.removeprefix(b"data: ")) for one in frames]


def deltas(out: bytes) -> list[dict]:
    return [one["choices"][0]["delta"] for one in events(out) if one["choices"]]


def finishes(out: bytes) -> list[tuple[int, str]]:
    return [
        (choice["index"], choice["finish_reason"])
        for one in events(out)
        for choice in one["choices"]
        if choice["finish_reason"]
    ]


CALL_A = {"index": 0, "id": "call_a", "type": "function",
          "function": {"name": "f", "arguments": ""}}  # fmt: skip
