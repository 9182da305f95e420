"""Is the answer right? Checks each reply and each chunk: a broken gateway cannot look fast."""

from dataclasses import dataclass, field

import msgspec

from loadtests.bench import canned, wire

_NUMBER_DIGITS = 5


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    total_tokens: int = 0


class _Completion(msgspec.Struct):
    object: str
    choices: list[_Choice]
    usage: _Usage


class _StreamChoice(msgspec.Struct):
    delta: _Message
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    object: str
    choices: list[_StreamChoice]


_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def find_reply_problem(status: int, body: bytes) -> str | None:
    """Say what is wrong with a finished answer; None when it is the one the fake upstream gave."""
    if status != 200:
        return f"status {status}: {_shorten(body)}"
    try:
        completion = _decode_completion(body)
    except msgspec.DecodeError as exc:
        return f"no chat completion ({exc}): {_shorten(body)}"
    if completion.object != "chat.completion" or not completion.choices:
        return f"no chat completion: {_shorten(body)}"
    choice = completion.choices[0]
    if choice.message.content != canned.REPLY_TEXT or choice.finish_reason != "stop":
        return f"another text than the upstream's: {_shorten(body)}"
    if completion.usage.total_tokens != canned.USAGE["total_tokens"]:
        return f"another usage than the upstream's: {_shorten(body)}"
    return None


@dataclass(slots=True)
class StreamCheck:
    """Follows one stream: counts its content chunks, checks their order, reads back their lag."""

    lags_ns: list[int]
    chunks: int = 0
    finished: bool = False
    done: bool = False
    problem: str | None = None
    _events: wire.EventReader = field(default_factory=wire.EventReader)

    def feed(self, body: bytes, now_ns: int) -> None:
        """Take body bytes that arrived at the given monotonic time."""
        for data in self._events.feed(body):
            if data == b"[DONE]":
                self._expect(not self.done, "a second [DONE]")
                self.done = True
            else:
                self._check(data, now_ns)

    def find_problem(self, status: int, expected_chunks: int) -> str | None:
        """Say what is wrong with the whole stream; None when it is right."""
        if status != 200:
            return f"status {status}"
        if self.problem:
            return self.problem
        if self.chunks != expected_chunks:
            return f"{self.chunks} content chunks instead of {expected_chunks}"
        if not self.finished:
            return "no finish_reason"
        return (
            None if self.done and self._events.is_empty else "the stream does not end with [DONE]"
        )

    def _check(self, data: bytes, now_ns: int) -> None:
        try:
            chunk = _decode_chunk(data)
        except msgspec.DecodeError as exc:
            self._expect(False, f"no chunk ({exc}): {_shorten(data)}")
            return
        self._expect(chunk.object == "chat.completion.chunk", "an event that is no chunk")
        self._expect(not self.done, "an event after [DONE]")
        if not chunk.choices:
            return
        choice = chunk.choices[0]
        if choice.finish_reason:
            self.finished = True
        if choice.delta.content:
            self._count(choice.delta.content, now_ns)

    def _count(self, content: str, now_ns: int) -> None:
        number, _, stamp = content.partition("@")
        right = len(number) == _NUMBER_DIGITS and number.isdigit() and int(number) == self.chunks
        self._expect(right, f"chunk {self.chunks} is out of order: {content[:40]!r}")
        self.chunks += 1
        if right:
            self.lags_ns.append(now_ns - int(stamp))

    def _expect(self, fact: bool, otherwise: str) -> None:
        if not fact and self.problem is None:
            self.problem = otherwise


def _shorten(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")
