"""The fake upstream's bytes: conforming OpenAI answers, cut once so that sending is a join.

Every content chunk carries its number and the monotonic time of its sending, as
``00007@0000123456789012345 ``.
"""

import json
from dataclasses import dataclass

STAMP_DIGITS = 19
REPLY_TEXT = "The quick brown fox jumps over the lazy dog."
USAGE = {"prompt_tokens": 9, "completion_tokens": 10, "total_tokens": 19}

_STAMP_MARK = "#" * STAMP_DIGITS
_CREATED = 1_790_000_000
_ID = "chatcmpl-bench0000000000000000000"


@dataclass(frozen=True, slots=True)
class StreamScript:
    """One model's stream, ready to send: a content chunk is two halves around its time stamp."""

    opening: bytes
    content: tuple[tuple[bytes, bytes], ...]
    closing: bytes

    def at_once(self, now_ns: int) -> bytes:
        """Write the whole stream with one time stamp."""
        stamp = format_stamp(now_ns)
        halves = [head + stamp + tail for head, tail in self.content]
        return b"".join((self.opening, *halves, self.closing))


def format_stamp(now_ns: int) -> bytes:
    """Write a monotonic time in so many digits that all frame lengths are known before."""
    return b"%019d" % now_ns


def http_reply(status: str, body: bytes) -> bytes:
    """Frame a JSON answer."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


def completion(model: str) -> bytes:
    """Frame the finished answer of one model."""
    message = {"role": "assistant", "content": REPLY_TEXT, "refusal": None}
    return http_reply(
        "200 OK",
        _dump(
            {
                "id": _ID,
                "object": "chat.completion",
                "created": _CREATED,
                "model": model,
                "choices": [
                    {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
                ],
                "usage": USAGE,
            }
        ),
    )


def model_list(models: tuple[str, ...]) -> bytes:
    """Frame the answer of ``GET /v1/models``."""
    rows = [
        {"id": model, "object": "model", "created": _CREATED, "owned_by": "bench"}
        for model in models
    ]
    return http_reply("200 OK", _dump({"object": "list", "data": rows}))


def refusal(status: str, message: str) -> bytes:
    """Frame an error in OpenAI's envelope."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return http_reply(status, _dump({"error": error}))


def stream_script(model: str, chunks: int, *, with_usage: bool) -> StreamScript:
    """Prepare one model's stream.

    Shape: a role chunk, the content chunks, a chunk with the finish reason and an empty delta, the
    usage chunk if asked for, ``data: [DONE]``.
    """
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    role = _frame(_event(model, {"role": "assistant", "content": ""}, None))
    content = tuple(_content_halves(model, number) for number in range(chunks))
    closing = [_frame(_event(model, {}, "stop"))]
    if with_usage:
        closing.append(_frame(_usage_event(model)))
    closing += [_frame(b"data: [DONE]\n\n"), b"0\r\n\r\n"]
    return StreamScript(head + role, content, b"".join(closing))


def _content_halves(model: str, number: int) -> tuple[bytes, bytes]:
    event = _event(model, {"content": f"{number:05d}@{_STAMP_MARK} "}, None)
    head, tail = _frame(event).split(_STAMP_MARK.encode())
    return head, tail


def _event(model: str, delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return b"data: " + _dump(_chunk(model) | {"choices": [choice]}) + b"\n\n"


def _usage_event(model: str) -> bytes:
    return b"data: " + _dump(_chunk(model) | {"choices": [], "usage": USAGE}) + b"\n\n"


def _chunk(model: str) -> dict[str, object]:
    return {
        "id": _ID,
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": model,
        "system_fingerprint": "fp_bench",
    }


def _frame(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
