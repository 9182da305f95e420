"""A fake OpenAI server on real sockets: conforming answers, failures by status, recorded quirks.

The model's name chooses what happens. Requests are kept as they arrived, byte for byte.
"""

import base64
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.contract.quirks import QUIRKS, Quirk

CHAT = "sandpiper"
CHAT_WITH_SLASH = "shore/sandpiper"
EMBEDDINGS = "vectors"
EMBEDDINGS_FLOATS = "vectors-floats"
EMBEDDINGS_BASE64 = "vectors-base64"
EMBEDDINGS_NESTED = "vectors-nested"
CUT_REPLY, CUT_STREAM, SILENT, DROP = "cut-reply", "cut-stream", "silent", "drop"
WAIT = "shore_wait"
"""A request's own field: the headers that a refusal is sent with."""
STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529)
TEXT = "Small waders run along the shore."
CREATED = 1_795_000_000
FINGERPRINT = "fp_44709d6fcb"
_LISTED = (
    CHAT, CHAT_WITH_SLASH, EMBEDDINGS, EMBEDDINGS_FLOATS, EMBEDDINGS_BASE64, EMBEDDINGS_NESTED,
    CUT_REPLY, CUT_STREAM, SILENT, DROP,
    *(f"status-{status}" for status in STATUSES),
    *(f"quirk/{quirk.name}" for quirk in QUIRKS),
)  # fmt: skip
_SILENCE_LIMIT_S = 30.0


@dataclass(frozen=True)
class Received:
    """A request as the upstream got it."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class FakeOpenAI:
    """The server; runs in threads of the test process."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.port = int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def calls(self, request_id: str) -> list[Received]:
        """Return the requests that carried this request id."""
        found = list(self.received)
        return [call for call in found if call.headers.get("x-request-id") == request_id]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def log_message(self, *_: object) -> None:
        """Say nothing: tests look at what was received."""

    def do_GET(self) -> None:
        self._record(b"")
        if self.path == "/v1/models":
            data = [
                {"id": name, "object": "model", "created": CREATED, "owned_by": "shore"}
                for name in _LISTED
            ]
            self.send_json(200, {"object": "list", "data": data})
        else:
            self.send_json(404, _error("Not Found", "not_found"))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self._record(raw)
        body = json.loads(raw)
        model = body["model"]
        with suppress(ConnectionError):
            if model.startswith("quirk/"):
                self._replay(QUIRK_BY_NAME[model.removeprefix("quirk/")])
            elif model.startswith("status-"):
                self._refuse(int(model.removeprefix("status-")), body.get(WAIT))
            elif model in _FAULTS:
                _FAULTS[model](self)
            elif self.path == "/v1/embeddings":
                self.send_json(200, _embeddings(body))
            else:
                self._answer(body)

    def send_json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        payload = json.dumps(document, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def write_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _record(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.fake.received.append(Received(self.path, headers, body))

    def _answer(self, body: dict[str, Any]) -> None:
        chat = self.path == "/v1/chat/completions"
        if not body.get("stream"):
            self.send_json(200, _completion(body) if chat else _text_completion(body))
            return
        self.start_stream()
        for event in _chat_events(body) if chat else _text_events(body):
            self.write_chunk(b"data: %s\n\n" % json.dumps(event, separators=(",", ":")).encode())
        self.write_chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, status: int, wait: dict[str, str] | None) -> None:
        headers = wait if wait is not None else {"retry-after-ms": "40"} if status == 429 else None
        error = _error(f"The shore says {status}.", f"shore_{status}", param="messages")
        self.send_json(status, error, headers)

    def _replay(self, quirk: Quirk) -> None:
        """Send a recorded answer with the framing it had."""
        body = quirk.upstream_bytes()
        version = "HTTP/1.0" if quirk.framing == "close" else "HTTP/1.1"
        lines = [f"{version} {quirk.status} Recorded", f"Content-Type: {quirk.content_type}"]
        lines += [f"{name}: {value}" for name, value in quirk.headers]
        chunked = quirk.framing in {"chunked", "unfinished"}
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        elif quirk.framing == "length":
            lines.append(f"Content-Length: {len(body)}")
        self.wfile.write("\r\n".join([*lines, "", ""]).encode())
        step = quirk.piece or len(body) or 1
        for start in range(0, len(body), step):
            piece = body[start : start + step]
            if chunked:
                self.write_chunk(piece)
            else:
                self.wfile.write(piece)
        if quirk.framing == "chunked":
            self.wfile.write(b"0\r\n\r\n")
        elif quirk.framing != "length":
            self.hang_up()


QUIRK_BY_NAME = {quirk.name: quirk for quirk in QUIRKS}


def _cut_reply(handler: _Handler) -> None:
    payload = json.dumps(_completion({"model": CUT_REPLY})).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(payload)))
    handler.end_headers()
    handler.wfile.write(payload[: len(payload) // 2])
    handler.hang_up()


def _cut_stream(handler: _Handler) -> None:
    handler.start_stream()
    for event in list(_chat_events({"model": CUT_STREAM}))[:3]:
        handler.write_chunk(b"data: %s\n\n" % json.dumps(event).encode())
    handler.hang_up()


def _silent(handler: _Handler) -> None:
    handler.connection.settimeout(_SILENCE_LIMIT_S)
    handler.close_connection = True
    with suppress(TimeoutError):
        handler.connection.recv(1)


_FAULTS: dict[str, Callable[[_Handler], None]] = {
    CUT_REPLY: _cut_reply,
    CUT_STREAM: _cut_stream,
    SILENT: _silent,
    DROP: _Handler.hang_up,
}


def _error(message: str, code: str, param: str | None = None) -> dict[str, Any]:
    error = {"message": message, "type": "shore_error", "param": param, "code": code}
    return {"error": error}


def _usage(completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 11,
        "completion_tokens": completion_tokens,
        "total_tokens": 11 + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def tool_calls_for(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one call of every tool offered, as this server makes them."""
    return [
        {
            "id": f"call_shore_{place}",
            "type": "function",
            "function": {
                "name": tool["function"]["name"],
                "arguments": json.dumps({"city": "Zürich", "place": place}),
            },
        }
        for place, tool in enumerate(tools)
    ]


def _text_for(body: dict[str, Any]) -> str:
    return '{"answer": 42}' if "response_format" in body else TEXT


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    calls = tool_calls_for(body.get("tools") or [])
    message: dict[str, Any] = {"role": "assistant", "content": _text_for(body), "refusal": None}
    if calls:
        message |= {"content": None, "tool_calls": calls}
    choices = [
        {
            "index": index,
            "message": message,
            "logprobs": None,
            "finish_reason": "tool_calls" if calls else "stop",
        }
        for index in range(body.get("n") or 1)
    ]
    return {
        "id": "chatcmpl-shore", "object": "chat.completion", "created": CREATED,
        "model": body["model"], "choices": choices, "usage": _usage(7),
        "service_tier": "default", "system_fingerprint": FINGERPRINT,
    }  # fmt: skip


def _deltas(body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str | None]]:
    calls = tool_calls_for(body.get("tools") or [])
    yield {"role": "assistant", "content": None if calls else "", "refusal": None}, None
    if not calls:
        words = _text_for(body).split(" ")
        for place, word in enumerate(words):
            yield {"content": word if place == 0 else f" {word}"}, None
    for index, call in enumerate(calls):
        function = {"name": call["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{**call, "index": index, "function": function}]}, None
        arguments = call["function"]["arguments"]
        for start in range(0, len(arguments), 5):
            piece = {"index": index, "function": {"arguments": arguments[start : start + 5]}}
            yield {"tool_calls": [piece]}, None
    yield {}, "tool_calls" if calls else "stop"


def _chat_events(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    base = {
        "id": "chatcmpl-shore", "object": "chat.completion.chunk", "created": CREATED,
        "model": body["model"], "service_tier": "default", "system_fingerprint": FINGERPRINT,
    }  # fmt: skip
    usage = {"usage": None} if asked else {}
    for delta, reason in _deltas(body):
        for index in range(body.get("n") or 1):
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
            yield {**base, "choices": [choice], **usage}
    if asked:
        yield {**base, "choices": [], "usage": _usage(7)}


def _text_completion(body: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "text": TEXT, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": "cmpl-shore", "object": "text_completion", "created": CREATED,
        "model": body["model"], "choices": [choice], "usage": _usage(7),
    }  # fmt: skip


def _text_events(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    base = {
        "id": "cmpl-shore",
        "object": "text_completion",
        "created": CREATED,
        "model": body["model"],
    }
    for text, reason in ((TEXT[:11], None), (TEXT[11:], None), ("", "stop")):
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        yield {**base, "choices": [choice]}
    if asked:
        yield {**base, "choices": [], "usage": _usage(7)}


def vector_for(item: Any, size: int = 8) -> list[float]:
    """Return the embedding this server gives a text or tokens; exact in 32 bits."""
    seed = len(json.dumps(item))
    return [(seed * 31 + place * 17) % 64 / 64 - 0.5 for place in range(size)]


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    given = body["input"]
    single = isinstance(given, str) or isinstance(given[0], int)
    wanted = body.get("encoding_format") == "base64" and body["model"] == EMBEDDINGS
    data = []
    for index, item in enumerate([given] if single else given):
        vector: Any = vector_for(item, body.get("dimensions") or 8)
        if wanted or body["model"] == EMBEDDINGS_BASE64:
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        elif body["model"] == EMBEDDINGS_NESTED:
            vector = [vector]
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}
