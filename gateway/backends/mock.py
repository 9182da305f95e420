"""A model server inside the gateway: answers with no model anywhere, and fails on request.

The model's name is the script: ``mock`` answers at once,
``mock/first_byte_s=0.5/gap_s=0.02/chunks=40`` takes its time, ``mock/status=500`` fails,
``mock/fault=cut`` breaks off. So load tests, demos and client tests need nothing else.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from gateway.backends.base import BACKENDS, Backend, ModelCard, Probe
from gateway.backends.refusals import classify
from gateway.backends.replies import completion_reply, embeddings_reply
from gateway.kernel.call import Call, Kind, Reply
from gateway.kernel.clock import unix_seconds
from gateway.kernel.errors import (
    InvalidRequest,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.kernel.ids import new_id
from gateway.kernel.sse import DONE, frame
from gateway.kernel.tokens import estimate
from gateway.web.wait import Wait

NAME = "mock"
DIMENSIONS = 384
FAULTS = ("cut", "error", "garbage", "reset", "stall")
_LONGEST_S = 3600.0
_MOST_DIMENSIONS = 4096
_MOST_CHUNKS = 100_000
_MOST_ECHO = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a model's name asks the mock to do.

    Attributes:
        first_byte_s: Wait before the answer.
        gap_s: Wait between two chunks.
        chunks: Number of content chunks; 0 means the words of the usual answer.
        status: An HTTP status to fail with before any content; 0 means none.
        fault: What goes wrong inside a stream.
        after: Chunks before the fault.
        usage: Whether the answer reports its tokens.
        tool: Whether the answer calls the first tool it was given.
    """

    first_byte_s: float = 0.0
    gap_s: float = 0.0
    chunks: int = 0
    status: int = 0
    fault: str = ""
    after: int = 2
    usage: bool = True
    tool: bool = False

    @classmethod
    def of(cls, model: str) -> "Script":
        """Read a script from a model's name.

        Raises:
            InvalidRequest: An option nobody knows, or a value that cannot be.
        """
        given: dict[str, Any] = {}
        for option in model.split("/")[1:]:
            name, _, text = option.partition("=")
            kind = cls.__annotations__.get(name)
            try:
                if kind is float:
                    given[name] = min(max(_finite(text), 0.0), _LONGEST_S)
                elif kind is int:
                    given[name] = min(max(int(text), 0), _MOST_CHUNKS)
                elif kind is bool:
                    given[name] = text != "off"
                elif kind is str and text in FAULTS:
                    given[name] = text
                else:
                    raise ValueError
            except ValueError:
                raise InvalidRequest(
                    f"The mock model has no option {option!r} "
                    f"(options: {', '.join(cls.__annotations__)}; "
                    f"faults: {', '.join(FAULTS)}).", param="model",
                ) from None  # fmt: skip
        return cls(**given)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


@BACKENDS.register("mock")
class Mock(Backend):
    """Answers from a script; ``mock://fail`` always fails."""

    can: ClassVar = frozenset(Kind)
    schemes: ClassVar[tuple[str, ...]] = ("mock",)
    open_prefix: ClassVar = f"{NAME}/"

    @classmethod
    def http_url(cls, url: str) -> None:  # noqa: ARG003  # the interface
        """Return None: there is nothing to connect to."""
        return

    def reply(self, call: Call, model: str, wait: Wait) -> Reply:
        """Return the scripted answer; see ``Backend.reply``."""
        script = self._script(model)
        _sleep(script.first_byte_s, call, wait)
        _fail_early(script)
        body = orjson.loads(call.body)
        if call.kind is Kind.EMBEDDINGS:
            return embeddings_reply(_embeddings(body), call, model)
        words = _words(body, script)
        _sleep(script.gap_s * len(words), call, wait)
        return completion_reply(
            orjson.dumps(_completion(body, call.kind, model, script, words)), call, model
        )

    def stream(self, call: Call, model: str, wait: Wait, beat_s: float) -> Iterator[bytes]:
        """Yield the scripted answer word by word; see ``Backend.stream``."""
        script = self._script(model)
        yield from _pause(script.first_byte_s, call, wait, beat_s)
        _fail_early(script)
        body = orjson.loads(call.body)
        event = _EventMaker(call.kind, model)
        tool = _tool_call(body) if script.tool else None
        words = [] if tool else _words(body, script)
        if call.kind is Kind.CHAT:
            yield event.of({"role": "assistant", "content": ""})
        for place, word in enumerate(words):
            if script.fault and place == script.after:
                yield from _break(script.fault, call, wait, beat_s)
                return
            if place:
                yield from _pause(script.gap_s, call, wait, beat_s)
            yield event.of({"content": word})
        if tool:
            yield event.of({"tool_calls": [{"index": 0, **tool}]})
        yield event.of({}, "tool_calls" if tool else "stop") + (
            event.usage(_usage(body, words)) if script.usage else b""
        )
        yield DONE

    def probe(self) -> Probe | None:
        """Return None: the list is known."""
        return None

    def models(self, document: Any) -> list[ModelCard]:  # noqa: ARG002  # the interface
        """Return the mock itself and the names it stands in for."""
        names = dict.fromkeys((self.upstream.name, NAME, *self.upstream.serves))
        return [ModelCard(name, owned_by="gateway") for name in names]

    def _script(self, model: str) -> Script:
        if self.upstream.url.rstrip("/").endswith("fail"):
            raise UpstreamUnreachable("This mock upstream always fails.", retry_after_s=1)
        return Script.of(model) if model.startswith(self.open_prefix) else Script()


def _sleep(seconds: float, call: Call, wait: Wait) -> None:
    """Sleep, but not past the call's deadline."""
    left_s = call.deadline.remaining_s()
    wait.sleep(min(seconds, left_s))
    if seconds > left_s:
        raise UpstreamTimeout("The answer took longer than this request may take.")


def _pause(seconds: float, call: Call, wait: Wait, beat_s: float) -> Iterator[bytes]:
    """Sleep, with an empty block after each silent beat."""
    while seconds > beat_s:
        _sleep(beat_s, call, wait)
        seconds -= beat_s
        yield b""
    if seconds > 0:
        _sleep(seconds, call, wait)


def _fail_early(script: Script) -> None:
    if script.status:
        raise classify(
            script.status, "This failure was asked for by the model's name.", None, None, 1.0
        )


def _break(fault: str, call: Call, wait: Wait, beat_s: float) -> Iterator[bytes]:
    if fault == "reset":
        raise UpstreamReset("The mock broke its connection, as asked.")
    if fault == "stall":
        yield from _pause(_LONGEST_S, call, wait, beat_s)
        raise UpstreamTimeout("The mock was silent, as asked.", code="upstream_stalled")
    if fault == "error":
        yield frame(
            b'{"error":{"message":"The mock failed, as asked.","type":"server_error","code":500}}'
        )
    elif fault == "garbage":
        yield frame(b'{"choices": [')


class _EventMaker:
    """Makes the events of one stream."""

    def __init__(self, kind: Kind, model: str) -> None:
        self._chat = kind is Kind.CHAT
        names = {
            "id": new_id("chatcmpl" if self._chat else "cmpl"),
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": unix_seconds(),
            "model": model,
        }
        self._names = names

    def of(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        """Return a content event."""
        spoken: dict[str, Any] = (
            {"delta": delta} if self._chat else {"text": delta.get("content", "")}
        )
        choice = {"index": 0, **spoken, "finish_reason": finish_reason}
        return frame(orjson.dumps({**self._names, "choices": [choice]}))

    def usage(self, usage: dict[str, int]) -> bytes:
        """Return the usage event."""
        return frame(orjson.dumps({**self._names, "choices": [], "usage": usage}))


def _words(body: dict[str, Any], script: Script) -> list[str]:
    if script.chunks:
        return [f"word{place} " for place in range(script.chunks)]
    asked = _last_text(body)[:_MOST_ECHO]
    answer = (
        f"This is the gateway's built-in mock model. You said: {asked}"
        if asked
        else "Hello from the mock model."
    )
    words = [f"{word} " for word in answer.split(" ")]
    words[-1] = words[-1].rstrip(" ")
    return words[: _limit(body)]


def _limit(body: dict[str, Any]) -> int | None:
    limits = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


def _last_text(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    said = messages[-1].get("content") if messages else body.get("prompt")
    if isinstance(said, list):
        said = " ".join(
            str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in said
        )
    return said if isinstance(said, str) else ""


def _usage(body: dict[str, Any], words: list[str]) -> dict[str, int]:
    prompt = estimate(len(orjson.dumps(body.get("messages") or body.get("prompt"))))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": len(words),
        "total_tokens": prompt + len(words),
    }


def _tool_call(body: dict[str, Any]) -> dict[str, Any] | None:
    tools = body.get("tools")
    if not tools:
        return None
    function = tools[0].get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return {
        "id": new_id("call"),
        "type": "function",
        "function": {"name": name if isinstance(name, str) else "", "arguments": "{}"},
    }


def _completion(
    body: dict[str, Any], kind: Kind, model: str, script: Script, words: list[str]
) -> dict[str, Any]:
    tool = _tool_call(body) if script.tool and kind is Kind.CHAT else None
    text = "".join(words)
    if kind is Kind.COMPLETION:
        choice: dict[str, Any] = {
            "index": 0,
            "text": text,
            "logprobs": None,
            "finish_reason": "stop",
        }
    else:
        message: dict[str, Any] = {"role": "assistant", "content": None if tool else text}
        if tool:
            message["tool_calls"] = [tool]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop"}
    document = {"model": model, "choices": [choice]}
    return document | ({"usage": _usage(body, words)} if script.usage else {})


def _embeddings(body: dict[str, Any]) -> bytes:
    given = body.get("input")
    single = isinstance(given, str) or (
        isinstance(given, list) and given and isinstance(given[0], int)
    )
    texts = [given] if single else given
    wanted = body.get("dimensions")
    size = wanted if isinstance(wanted, int) and 0 < wanted <= _MOST_DIMENSIONS else DIMENSIONS
    data = [{"embedding": _vector(orjson.dumps(text), size)} for text in texts or ()]
    tokens = estimate(len(orjson.dumps(given)))
    return orjson.dumps({"data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


def _vector(text: bytes, size: int) -> list[float]:
    """Return a unit vector that only depends on the text; it means nothing."""
    raw = hashlib.shake_128(text).digest(size)
    values = [byte - 127.5 for byte in raw]
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values]
