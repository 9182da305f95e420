"""What real servers do to this protocol, one line each; the bytes lie in ``golden/``.

``<name>.upstream`` is what the server sends after the head, ``<name>.client`` what our client must
receive, byte for byte.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
SSE = "text/event-stream"
JSON = "application/json"
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
USAGE = {"stream_options": {"include_usage": True}}
TOOLS = {"tools": [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("get_weather", "get_time")
]}  # fmt: skip


@dataclass(frozen=True)
class Quirk:
    """One recorded answer.

    Attributes:
        framing: ``chunked``; ``unfinished`` (no last chunk); ``close`` (HTTP/1.0, no length);
            ``length`` (Content-Length).
        piece: Bytes in one write; 0 means all at once.
        ends: ``done``; ``cut`` (an error event, an unfinished body); ``reply`` (one JSON answer);
            ``error`` (a real HTTP error).
        error: The code of the error the client sees.
    """

    name: str
    note: str
    asks: dict[str, Any] = field(default_factory=dict)
    path: str = CHAT
    status: int = 200
    content_type: str = SSE
    headers: tuple[tuple[str, str], ...] = ()
    framing: str = "chunked"
    piece: int = 0
    ends: str = "done"
    client_status: int = 200
    error: str = ""
    stream: bool = True
    prefix: str = ""

    @property
    def model(self) -> str:
        return f"{self.prefix}quirk/{self.name}"

    @property
    def object_name(self) -> str:
        return "text_completion" if self.path == COMPLETIONS else "chat.completion.chunk"

    @property
    def wants_usage(self) -> bool:
        return self.asks.get("stream_options") == USAGE["stream_options"]

    def request(self) -> dict[str, Any]:
        said: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
        if self.path == COMPLETIONS:
            said = {"prompt": "Hi"}
        return {"model": self.model, **said, "stream": self.stream, **self.asks}

    def upstream_bytes(self) -> bytes:
        return (GOLDEN / f"{self.name}.upstream").read_bytes()

    def client_file(self) -> Path:
        return GOLDEN / f"{self.name}.client"


def _cut(name: str, note: str, error: str, **more: Any) -> Quirk:
    return Quirk(name, note, ends="cut", error=error, **more)


def _refused(name: str, note: str, client_status: int, error: str, **more: Any) -> Quirk:
    return Quirk(name, note, ends="error", client_status=client_status, error=error, **more)


def _reply(name: str, note: str, **more: Any) -> Quirk:
    return Quirk(
        name, note, ends="reply", stream=False, content_type=JSON, framing="length", **more
    )


QUIRKS = (
    # -- streams that end well -----------------------------------------------------------------
    Quirk("openai-text-usage", "OpenAI itself: nothing may change", asks=USAGE),
    Quirk("openai-tools-parallel", "OpenAI itself: two calls, arguments in pieces", asks=TOOLS),
    Quirk("openai-renamed", "a name of ours for the model is mapped back", prefix="fake:"),
    Quirk("transformers-text", "transformers 5.23: no finish key, usage unasked, no [DONE]"),
    Quirk("transformers-text-usage", "the same with usage asked for", asks=USAGE),
    Quirk("transformers-tools", "transformers 5.23: two whole calls", asks=TOOLS),
    Quirk("transformers-completion", "transformers 5.23, legacy endpoint", path=COMPLETIONS),
    Quirk("mlx-text", "mlx_lm 0.32: HTTP/1.0, keepalive, role in every chunk", framing="close"),
    Quirk("mlx-text-usage", "mlx_lm 0.32: usage of object chat.completion", USAGE, framing="close"),
    Quirk("mlx-tools", "mlx_lm 0.32: text and calls in one delta", TOOLS, framing="close"),
    Quirk("mlx-completion-usage", "mlx_lm 0.32, legacy", USAGE, COMPLETIONS, framing="close"),
    Quirk("max-text-usage", "MAX 26.7: finish on the last content chunk", asks=USAGE),
    Quirk("llama-cpp-text-usage", "llama-cpp-python 0.3.36: never any usage", asks=USAGE),
    Quirk("llama-cpp-forced-tool", "role null, content null and function_call", asks=TOOLS),
    Quirk("litellm-text-usage", "LiteLLM 1.106: usage beside an empty choice", asks=USAGE),
    Quirk("litellm-two-choices", "LiteLLM 1.106: two choices in one chunk", asks={"n": 2}),
    Quirk("azure-first-chunk", "Azure: a first chunk without choices", asks=USAGE),
    Quirk("vllm-usage-everywhere", "usage in every chunk (continuous_usage_stats)", asks=USAGE),
    Quirk("usage-too-early", "usage before the finish", asks=USAGE),
    Quirk("reasoning", "reasoning before the text is relayed"),
    Quirk("crlf-without-space", "CRLF, 'data:' without a space, seven bytes a write", piece=7),
    Quirk("no-last-blank-line", "[DONE] without its blank line", framing="length"),
    Quirk("id-retry-event", "id:, retry: and event: lines, and an event of two data lines"),
    Quirk("ping-events", "event: ping with {} breaks clients"),
    Quirk("finish-end-turn", "finish reasons of other houses"),
    Quirk("finish-twice", "a second finish, and text after it"),
    Quirk("tools-no-index", "tool calls without index", asks=TOOLS),
    Quirk("tools-no-index-pieces", "the same, arguments in pieces without an id", asks=TOOLS),
    Quirk("tools-all-zero", "every call numbered 0, told apart by id", asks=TOOLS),
    Quirk("tools-nothing-but-names", "neither id nor index", asks=TOOLS),
    Quirk("tools-index-from-one", "tool calls counted from 1", asks=TOOLS),
    Quirk("tools-repeated-id", "id, type and name in every delta", asks=TOOLS),
    Quirk("tools-object-arguments", "arguments as an object; finish 'stop'", asks=TOOLS),
    Quirk("error-after-finish", "the model had finished: the answer is whole"),
    Quirk("identity-encoding", "says identity where nothing is meant",
          headers=(("Content-Encoding", "identity"),)),
    Quirk("choices-no-index", "choices without index; error null"),
    # -- streams that break after content --------------------------------------------------------
    _cut("llama-cpp-interrupted", "[DONE] without finish, body unfinished", "upstream_truncated",
         framing="unfinished"),
    _cut("ends-without-finish", "a polite end in mid-sentence", "upstream_truncated"),
    _cut("connection-lost", "the body is never finished", "upstream_truncated",
         framing="unfinished"),
    _cut("error-object", "an error object in mid-stream", "upstream_error"),
    _cut("error-event", "event: error, error as a text", "upstream_error"),
    _cut("broken-json", "an event that is not JSON", "upstream_invalid_stream"),
    _cut("broken-utf8", "an event that is not UTF-8", "upstream_invalid_stream"),
    # -- failures before any content: real HTTP errors -------------------------------------------
    _refused("llama-cpp-context", "200 and not one byte", 502, "upstream_truncated",
             framing="unfinished"),
    _refused("nothing", "200 and a polite end", 502, "upstream_truncated"),
    _refused("first-event-context", "context length as the first event", 400,
             "context_length_exceeded"),
    _refused("litellm-sse-500", "HTTP 500 with an event-stream body", 502, "upstream_error",
             status=500),
    _refused("json-not-stream", "one JSON answer to a streamed request", 502,
             "upstream_invalid_response", content_type=JSON, framing="length"),
    _refused("html-200", "200 with a proxy's HTML", 502, "upstream_invalid_response",
             content_type="text/html", framing="length"),
    _refused("html-502", "502 with a proxy's HTML", 502, "upstream_error", status=502,
             content_type="text/html", framing="length"),
    _refused("redirect", "a redirect is never followed", 502, "upstream_invalid_response",
             status=307, headers=(("Location", "http://127.0.0.1:9/v1"),), framing="length"),
    _refused("compressed", "gzip in spite of identity", 502, "upstream_invalid_response",
             headers=(("Content-Encoding", "gzip"),), framing="length"),
    _refused("transformers-unknown-model", "400, detail as a text", 404, "model_not_found",
             status=400, content_type=JSON, framing="length"),
    _refused("transformers-bad-field", "422, detail as a list", 422, "upstream_rejected",
             status=422, content_type=JSON, framing="length"),
    _refused("mlx-unknown-model", "404, error as a text", 404, "model_not_found",
             status=404, content_type=JSON, framing="close"),
    _refused("mlx-bad-type", "400, error as a text", 400, "upstream_rejected",
             status=400, content_type=JSON, framing="close"),
    _refused("max-extra-field", "400 in OpenAI's shape", 400, "extra_forbidden",
             status=400, content_type=JSON, framing="length"),
    _refused("llama-cpp-500", "500 as plain text", 502, "upstream_error", status=500,
             content_type="text/plain", framing="length"),
    # -- answers in one piece ----------------------------------------------------------------------
    _reply("reply-openai", "OpenAI itself: nothing may change"),
    _reply("reply-transformers", "transformers 5.23: another model name, control characters"),
    _reply("reply-mlx-tools", "mlx_lm 0.32: whole calls", asks=TOOLS),
    _reply("reply-no-usage", "no usage, no role, no index, finish_reason null"),
    _reply("reply-tools-no-id", "two calls without id and index", asks=TOOLS),
    _reply("reply-object-arguments", "arguments as an object, finish 'stop'", asks=TOOLS),
)  # fmt: skip
