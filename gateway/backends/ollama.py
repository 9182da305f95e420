"""Ollama's native protocol: tool arguments are objects, tokens eval counts, streams JSON lines."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import orjson

from gateway.backends.base import BACKENDS, Backend, ModelCard, Probe, Upstream, listed
from gateway.backends.chunks import finish_reason_of
from gateway.backends.ollama_messages import (
    chat_request,
    embed_request,
    generate_request,
    object_in,
    objects_in,
)
from gateway.backends.refusals import check, in_band
from gateway.backends.replies import completion_reply, embeddings_reply, json_object
from gateway.backends.transport import Pool
from gateway.kernel.call import Call, Kind, Reply
from gateway.kernel.clock import unix_seconds
from gateway.kernel.errors import UpstreamInvalid
from gateway.kernel.ids import new_id
from gateway.kernel.sse import LINE_LIMIT_BYTES, frame
from gateway.web.wait import Wait

_PATHS = {
    Kind.CHAT: b"/api/chat",
    Kind.COMPLETION: b"/api/generate",
    Kind.EMBEDDINGS: b"/api/embed",
}


@BACKENDS.register("ollama")
class Ollama(Backend):
    """Speaks to an Ollama server."""

    can: ClassVar = frozenset(Kind)
    schemes: ClassVar[tuple[str, ...]] = ("ollama", "ollama+https")

    def __init__(self, upstream: Upstream, pool: Pool | None) -> None:
        super().__init__(upstream, pool)
        self._base = self.http_url(upstream.url).rstrip("/")
        self._prefix = urlsplit(self._base).path.encode("ascii")
        self._key = upstream.api_key

    @classmethod
    def http_url(cls, url: str) -> str:
        """Return the server's address without a ``/v1`` at its end: this API is the native one."""
        scheme, _, rest = url.partition("://")
        secure = scheme == "ollama+https"
        return f"{'https' if secure else 'http'}://{rest.rstrip('/').removesuffix('/v1')}"

    def reply(self, call: Call, model: str, wait: Wait) -> Reply:
        """Return the finished answer; see ``Backend.reply``."""
        head, asked = self._message(call, model)
        response = self.pool.request(head, asked, wait, call.deadline, patient=True)
        check(response)
        try:
            document = json_object(response.read(self.upstream.max_response_bytes))
        finally:
            response.close()
        if document.get("error"):
            raise in_band(document["error"])
        if call.kind is Kind.EMBEDDINGS:
            return embeddings_reply(_embeddings(document), call, model)
        return completion_reply(orjson.dumps(_completion(document, call.kind, model)), call, model)

    def stream(self, call: Call, model: str, wait: Wait, beat_s: float) -> Iterator[bytes]:
        """Yield the answer's lines as OpenAI events; see ``Backend.stream``."""
        head, asked = self._message(call, model)
        response = yield from self.pool.opening(head, asked, wait, call.deadline, beat_s)
        check(response)
        try:
            events = _Events(call.kind, model)
            rest = b""
            for block in response.blocks(beat_s):
                *lines, rest = (rest + block).split(b"\n")
                if len(rest) > LINE_LIMIT_BYTES:
                    raise UpstreamInvalid(
                        "The upstream sent a line over 1 MiB.", code="upstream_invalid_stream"
                    )
                yield b"".join(events.of(line) for line in lines)
            yield events.of(rest)
        finally:
            response.close()

    def probe(self) -> Probe:
        """Return the address of the list of pulled models."""
        return Probe(
            f"{self._base}/api/tags", {"Authorization": f"Bearer {self._key}"} if self._key else {}
        )

    def models(self, document: Any) -> list[ModelCard]:
        """Return the models of ``{"models": [{"name"}]}``."""
        return [
            ModelCard(item["name"], owned_by="ollama")
            for item in listed(document, "models")
            if isinstance(item.get("name"), str)
        ]

    def _message(self, call: Call, model: str) -> tuple[bytes, bytes]:
        body = orjson.loads(call.body)
        if call.kind is Kind.CHAT:
            request = chat_request(body, model, stream=call.stream)
        elif call.kind is Kind.COMPLETION:
            request = generate_request(body, model, stream=call.stream)
        else:
            request = embed_request(body, model)
        head = (
            b"POST %s%s HTTP/1.1\r\nContent-Type: application/json\r\nAccept-Encoding: identity"
            % (self._prefix, _PATHS[call.kind])
        )
        if self._key:
            head += b"\r\nAuthorization: Bearer " + self._key.encode("latin-1")
        return head, orjson.dumps(request)


class _Events:
    """Turns Ollama's lines into OpenAI events of one stream."""

    def __init__(self, kind: Kind, model: str) -> None:
        self._kind = kind
        self._calls = 0
        chat = kind is Kind.CHAT
        self._names = {
            "id": new_id("chatcmpl" if chat else "cmpl"),
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": unix_seconds(),
            "model": model,
        }

    def of(self, line: bytes) -> bytes:
        """Return the events for one line.

        Raises:
            UpstreamInvalid: It is no JSON object.
            UpstreamError: It reports an error.
        """
        if not line.strip():
            return b""
        said = json_object(line)
        if said.get("error"):
            raise in_band(said["error"])
        choice = (
            self._chat(said)
            if self._kind is Kind.CHAT
            else {"index": 0, "text": _text(said, "response")}
        )
        choice["finish_reason"] = None
        out = b""
        if choice.get("delta") or choice.get("text"):
            out = self._event([choice])
        if said.get("done"):
            out += self._last(said)
        return out

    def _chat(self, said: Mapping[str, Any]) -> dict[str, Any]:
        message = object_in(said, "message")
        delta: dict[str, Any] = {}
        if thoughts := _text(message, "thinking"):
            delta["reasoning_content"] = thoughts
        if content := _text(message, "content"):
            delta["content"] = content
        calls = _tool_calls(message, self._calls)
        if calls:
            self._calls += len(calls)
            delta["tool_calls"] = calls
        return {"index": 0, "delta": delta}

    def _last(self, said: Mapping[str, Any]) -> bytes:
        reason = finish_reason_of(said.get("done_reason") or "stop", called_tools=bool(self._calls))
        empty: dict[str, Any] = {"delta": {}} if self._kind is Kind.CHAT else {"text": ""}
        finish = self._event([{"index": 0, **empty, "finish_reason": reason}])
        usage = _usage(said)
        return finish + (self._event([], usage=usage) if usage else b"")

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return frame(orjson.dumps({**self._names, "choices": choices, **more}))


def _tool_calls(message: Mapping[str, Any], first: int) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for call in objects_in(message, "tool_calls"):
        function = object_in(call, "function")
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
        calls.append({
            "index": first + len(calls), "id": call.get("id") or new_id("call"), "type": "function",
            "function": {"name": function.get("name", ""), "arguments": text},
        })  # fmt: skip
    return calls


def _usage(said: Mapping[str, Any]) -> dict[str, int] | None:
    counts = [said.get(name) for name in ("prompt_eval_count", "eval_count")]
    if not any(isinstance(count, int) for count in counts):
        return None
    # A prompt that is wholly cached has no eval count at all.
    prompt, completion = (count if isinstance(count, int) else 0 for count in counts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _completion(said: Mapping[str, Any], kind: Kind, model: str) -> dict[str, Any]:
    message = object_in(said, "message")
    calls = _tool_calls(message, 0)
    reason = finish_reason_of(said.get("done_reason") or "stop", called_tools=bool(calls))
    if kind is Kind.COMPLETION:
        choice = {
            "index": 0,
            "text": _text(said, "response"),
            "logprobs": None,
            "finish_reason": reason,
        }
    else:
        spoken: dict[str, Any] = {
            "role": "assistant",
            "content": _text(message, "content") or (None if calls else ""),
        }
        if thoughts := _text(message, "thinking"):
            spoken["reasoning_content"] = thoughts
        if calls:
            spoken["tool_calls"] = calls
        choice = {"index": 0, "message": spoken, "finish_reason": reason}
    return {"model": model, "choices": [choice], "usage": _usage(said)}


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


def _embeddings(said: Mapping[str, Any]) -> bytes:
    vectors = said.get("embeddings")
    if not isinstance(vectors, list):
        raise UpstreamInvalid("The upstream's answer has no embeddings.")
    tokens = said.get("prompt_eval_count")
    usage = {"prompt_tokens": tokens, "total_tokens": tokens} if isinstance(tokens, int) else None
    return orjson.dumps({"data": [{"embedding": vector} for vector in vectors], "usage": usage})
