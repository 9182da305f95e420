"""Calls as the rooms make them, with the parts a test does not care about filled in."""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from gateway.kernel.call import Call, Kind, Principal
from gateway.kernel.deadline import Deadline

SOMEBODY = Principal("key-1", frozenset({"chat", "embeddings"}))
_FIELDS: Mapping[Kind, dict[str, Any]] = {
    Kind.CHAT: {"messages": [{"role": "user", "content": "Say hello."}]},
    Kind.COMPLETION: {"prompt": "Once upon a time"},
    Kind.EMBEDDINGS: {"input": "Hello"},
}


def make_call(
    kind: Kind = Kind.CHAT,
    model: str = "tiny-llama",
    *,
    stream: bool = False,
    usage: bool = False,
    total_s: float = 30.0,
    pinned: str | None = None,
    **fields: Any,
) -> Call:
    """Return a call; ``fields`` go into its body over the usual ones."""
    body: dict[str, Any] = {"model": model, **_FIELDS[kind], **fields}
    if stream:
        body["stream"] = True
    if usage:
        body["stream_options"] = {"include_usage": True}
    return Call(
        kind=kind,
        model=model,
        stream=stream,
        members={name: msgspec.Raw(orjson.dumps(value)) for name, value in body.items()},
        body=orjson.dumps(body),
        request_id="req-1",
        principal=SOMEBODY,
        deadline=Deadline.after(total_s),
        pinned=pinned,
        include_usage=usage,
    )
