"""A backend whose answers are a queue and whose calls are a history."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import orjson

from gateway.backends.base import Backend, ModelCard, Probe, Upstream
from gateway.backends.transport import Timeouts
from gateway.kernel.call import Call, Kind, Reply, Usage
from gateway.kernel.errors import GatewayError
from gateway.kernel.sse import DONE, frame
from gateway.web.wait import Wait

Answer = Reply | GatewayError | Iterable[bytes | GatewayError]
"""A finished answer, a failure, or the blocks of a stream with a failure anywhere among them."""


class ScriptedBackend(Backend):
    """Says what it is told to say, in order, and fails loudly when it is asked more often.

    Attributes:
        calls: Each call it got, with the model's name it was asked for.
        open_streams: Streams begun and not closed.
        streams_closed: Streams closed, however they ended.
    """

    can: ClassVar = frozenset(Kind)
    schemes: ClassVar = ("scripted",)

    def __init__(self, name: str, *answers: Answer, **upstream: Any) -> None:
        super().__init__(an_upstream(name, "scripted://local", **upstream), None)
        self._answers = deque(answers)
        self._cards: tuple[ModelCard, ...] = ()
        self._probe: Probe | None = None
        self.calls: list[tuple[Call, str]] = []
        self.open_streams = 0
        self.streams_closed = 0

    def listing(self, *models: str) -> "ScriptedBackend":
        """Make it list these models without being asked over a network."""
        self._cards = tuple(ModelCard(model) for model in models)
        return self

    def probed_at(self, url: str) -> "ScriptedBackend":
        """Make it wait to be looked at, at an address."""
        self._probe = Probe(url)
        return self

    def taking(self, *kinds: Kind) -> "ScriptedBackend":
        """Make it take only these kinds of calls."""
        self.can = frozenset(kinds)  # type: ignore[misc]  # a test's backend may differ from its class
        return self

    @classmethod
    def http_url(cls, url: str) -> None:
        """Return None: there is nothing to connect to."""

    def reply(self, call: Call, model: str, wait: Wait) -> Reply:
        """Return or raise the next answer."""
        answer = self._next(call, model)
        if isinstance(answer, Reply):
            return answer
        assert isinstance(answer, GatewayError), "a stream was scripted, a reply was asked for"
        raise answer

    def stream(self, call: Call, model: str, wait: Wait, beat_s: float) -> Iterator[bytes]:
        """Yield the blocks of the next answer, raising the failures among them."""
        answer = self._next(call, model)
        assert not isinstance(answer, Reply), "a reply was scripted, a stream was asked for"
        self.open_streams += 1
        try:
            for block in (answer,) if isinstance(answer, GatewayError) else answer:
                if isinstance(block, GatewayError):
                    raise block
                yield block
        finally:
            self.open_streams -= 1
            self.streams_closed += 1

    def probe(self) -> Probe | None:
        """Return where to ask for the models, if anywhere."""
        return self._probe

    def models(self, document: Any) -> list[ModelCard]:
        """Return the listed models, or those of ``{"data": [{"id"}]}``."""
        if document is None:
            return list(self._cards)
        return [ModelCard(item["id"]) for item in document["data"]]

    def _next(self, call: Call, model: str) -> Answer:
        self.calls.append((call, model))
        assert self._answers, f"{self.upstream.name} was asked once more than it was scripted for"
        return self._answers.popleft()


def an_upstream(name: str, url: str, **more: Any) -> Upstream:
    """Return a configured server with the usual limits."""
    usual: dict[str, Any] = {"timeouts": Timeouts(2.0, 5.0, 5.0), "max_response_bytes": 1_048_576}
    return Upstream(name=name, url=url, **(usual | more))


def a_reply(text: str = "Hello") -> Reply:
    """Return a finished chat answer of 3 and 1 tokens."""
    message = {"role": "assistant", "content": text}
    return Reply(orjson.dumps({"choices": [{"index": 0, "message": message}]}), Usage(3, 1))


def role() -> bytes:
    """Return the event that opens a chat stream."""
    return _event({"role": "assistant", "content": ""})


def says(text: str) -> bytes:
    """Return an event that carries text."""
    return _event({"content": text})


def finish(reason: str = "stop") -> bytes:
    """Return the event that ends a choice."""
    return _event({}, reason)


def usage_event(prompt: int, completion: int) -> bytes:
    """Return the event that reports tokens."""
    counts = Usage(prompt, completion).as_json()
    return frame(orjson.dumps({**_NAMES, "choices": [], "usage": counts}))


def talks(*words: str) -> tuple[bytes, ...]:
    """Return the blocks of a whole good stream."""
    return (role(), *map(says, words), finish(), DONE)


_NAMES = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def _event(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return frame(orjson.dumps({**_NAMES, "choices": [choice]}))
