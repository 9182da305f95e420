"""Upstream streams made to conform: good events pass byte for byte, the others are repaired.

What comes out: one role a choice, dense tool-call indexes, exactly one finish reason a choice, the
usage last with no choices and only when asked, one ``[DONE]``. A stream without a finish reason is
an upstream failure, however politely it ended.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from gateway.backends.chunks import ChatChoice, CompletionChoice, size_bytes
from gateway.backends.refusals import in_band
from gateway.kernel.call import Call, Kind, Usage
from gateway.kernel.clock import unix_seconds
from gateway.kernel.errors import UpstreamCut, UpstreamError, UpstreamInvalid
from gateway.kernel.ids import new_id
from gateway.kernel.sse import DONE, SseParser, frame
from gateway.kernel.tokens import estimate

_OBJECTS = {Kind.CHAT: "chat.completion.chunk", Kind.COMPLETION: "text_completion"}
_MOST_TOKENS = 2**53
_LATEST_S = 2**53
_MOST_CHOICES = 128
_ID_PREFIXES = {Kind.CHAT: "chatcmpl", Kind.COMPLETION: "cmpl"}
Absent = msgspec.Raw | UnsetType | None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    role: Absent = UNSET
    tool_calls: Absent = None
    function_call: Absent = UNSET


class _Choice(msgspec.Struct, gc=False):
    index: int
    finish_reason: str | UnsetType | None = UNSET
    delta: _Delta | None = None
    text: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]
    usage: Absent = None
    error: Absent = None


_chunk = msgspec.json.Decoder(_Chunk)


class Normaliser:
    """One stream's memory.

    Attributes:
        has_content: Whether anything was heard that a reader would see.
        finished: Whether every choice that began has ended with a finish reason.
        done: Whether the stream was closed with ``[DONE]``; nothing may follow.
        failure: What broke the stream behind content of the same block: to be raised once that
            content is on its way, so that a failure looks the same however its bytes were cut.
        usage: What the upstream reported.

    Args:
        call: Says which names, and whether usage, the caller expects.
        upstream_model: The model's name at the upstream; mapped back when the caller's differs.
    """

    def __init__(self, call: Call, upstream_model: str) -> None:
        self._parser = SseParser()
        self._asked_usage = call.include_usage
        self._prompt_bytes = len(call.body)
        self._object = _OBJECTS[call.kind]
        self._kind = call.kind
        self._public_model = call.model
        self._renames = call.model != upstream_model
        self._rename: tuple[bytes, bytes] | None = None
        self._id = self._model = self._heard_model = ""
        self._created = 0
        self._choices: dict[int, Any] = {}
        self._usage_event = b""
        self._usage_said: dict[str, Any] = {}
        self._text_bytes = 0
        self.has_content = False
        self.finished = False
        self.done = False
        self.failure: UpstreamError | None = None
        self.usage: Usage | None = None

    def feed(self, block: bytes) -> bytes:
        """Return what the client gets for a block of upstream bytes; may be empty.

        Raises:
            UpstreamInvalid: Not JSON, not UTF-8, or an event over 1 MiB.
            UpstreamError: The upstream reported an error inside the stream.
            UpstreamCut: ``[DONE]`` came before a finish reason.
        """
        if self.done:
            return b""
        return self._pass(self._parser.feed(block))

    def finish(self) -> bytes:
        """Return the end of a stream whose upstream closed without ``[DONE]``.

        Half an event behind the model's finish takes nothing from the answer.

        Raises:
            UpstreamCut: The model had not finished.
        """
        if self.done:
            return b""
        try:
            return self._pass([*self._parser.finish(), b"[DONE]"])
        except UpstreamError:
            if not self.finished:
                raise
            return self._end()

    def settled_usage(self) -> Usage:
        """Return the tokens of this stream, counted by ourselves when the upstream did not."""
        return self.usage or Usage(
            prompt_tokens=estimate(self._prompt_bytes),
            completion_tokens=estimate(self._text_bytes),
            estimated=True,
        )

    def _pass(self, events: list[bytes]) -> bytes:
        out: list[bytes] = []
        try:
            for data in events:
                if self.done:
                    break
                if data == b"[DONE]" or data.strip() == b"[DONE]":
                    out.append(self._end())
                elif data:  # empty data is no event
                    out.append(self._event(data))
        except UpstreamError as error:
            if not self.has_content or not any(out):
                raise
            self.failure = error
        return b"".join(out)

    def _event(self, data: bytes) -> bytes:
        if b"\n" in data:  # several data lines; between JSON's tokens a space says the same
            data = data.replace(b"\n", b" ")
        try:
            if not data.isascii():
                data.decode()  # msgspec does not look into the members it skips
            chunk = _chunk.decode(data)
        except msgspec.ValidationError:
            chunk = None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _invalid_stream() from None
        nameable = self._rename is None or data.count(self._rename[0]) == 1
        if chunk is not None and nameable and self._conforms(chunk):
            named = data if self._rename is None else data.replace(*self._rename)
            return b"data: " + named + b"\n\n"
        try:
            return self._repair(data)
        except orjson.JSONEncodeError:  # nested deeper than can be written
            raise _invalid_stream() from None

    def _conforms(self, chunk: _Chunk) -> bool:
        """Tell whether a plain content event of a running stream may pass as it is."""
        if (
            chunk.model != self._heard_model
            or chunk.id != self._id
            or chunk.created != self._created
            or chunk.object != self._object
            or chunk.usage is not None
            or chunk.error is not None
            or len(chunk.choices) != 1
        ):
            return False
        choice = chunk.choices[0]
        if choice.finish_reason is not None or choice.index not in self._choices:
            return False
        if self._choices[choice.index].finished:
            return False
        delta = choice.delta
        if delta is None:
            text = choice.text if self._kind is Kind.COMPLETION else None
        elif delta.role is UNSET and delta.tool_calls is None and delta.function_call is UNSET:
            text = delta.content
        else:
            return False
        if not text:
            return False
        self._text_bytes += size_bytes(text)
        self.has_content = True
        return True

    def _repair(self, data: bytes) -> bytes:
        event = _event_of(data)
        if not event.get("choices") and usage_of(event.get("usage")) is None:
            return b""  # a ping, or Azure's filter results, which bear no id and no model
        changed = self._names(event)
        changed |= self._take_usage(event, data, intact=not changed)
        offered = event.get("choices")
        choices: list[Any] = offered if isinstance(offered, list) else []
        last: list[dict[str, Any]] = []
        kept: list[dict[str, Any]] = []
        for place, choice in enumerate(choices):
            if isinstance(choice, dict):
                changed |= self._choice(choice, place, kept, last)
        if not kept and not last:
            return b""
        changed |= len(kept) != len(choices)
        event["choices"] = kept
        out = b""
        if kept:
            out = frame(orjson.dumps(event) if changed or last else data)
        if last:
            out += frame(orjson.dumps({**event, "choices": last}))
        self._note_finish()
        return out

    def _take_usage(self, event: dict[str, Any], data: bytes, *, intact: bool) -> bool:
        """Keep an event's usage for the end of the stream; tell whether it had any.

        Args:
            data: The event as it came; sent again as it is when intact and without choices.
        """
        usage = usage_of(event.get("usage"))
        if usage is None:
            return False
        self.usage = usage
        self._usage_event = data if intact and event.get("choices") == [] else b""
        self._usage_said = event.pop("usage")
        return True

    def _choice(
        self,
        choice: dict[str, Any],
        place: int,
        kept: list[dict[str, Any]],
        last: list[dict[str, Any]],
    ) -> bool:
        index: Any = choice.get("index")
        changed = not isinstance(index, int) or isinstance(index, bool)
        if changed:
            index = choice["index"] = place
        if not 0 <= index < _MOST_CHOICES:
            raise _invalid_stream()
        kind = ChatChoice if self._kind is Kind.CHAT else CompletionChoice
        state = self._choices.setdefault(index, kind())
        if state.finished:
            return True
        repaired, bears_content = state.repair(choice)
        self._text_bytes += kind.text_bytes(choice)
        self.has_content = self.has_content or bears_content or state.finished
        if state.finished and bears_content:
            last.append(kind.split(choice))
            changed = True
        kept.append(choice)
        return changed or repaired

    def _names(self, event: dict[str, Any]) -> bool:
        """Give an event the stream's one id, object, created and model; tell if it lacked any."""
        if not self._id:
            self._learn_names(event)
        names = {
            "id": self._id,
            "object": self._object,
            "created": self._created,
            "model": self._model,
        }
        wrong = {name: value for name, value in names.items()
                 if event.get(name) != value or isinstance(event[name], float)}  # fmt: skip
        event.update(wrong)
        return bool(wrong)

    def _learn_names(self, event: Mapping[str, Any]) -> None:
        offered_id, created, model = event.get("id"), event.get("created"), event.get("model")
        self._id = (
            offered_id
            if isinstance(offered_id, str) and offered_id
            else new_id(_ID_PREFIXES[self._kind])
        )
        self._created = moment_of(created)
        self._heard_model = model if isinstance(model, str) else ""
        self._model = (
            self._public_model if self._renames or not self._heard_model else self._heard_model
        )
        if self._model != self._heard_model:
            old, new = (
                b'"model":' + orjson.dumps(name) for name in (self._heard_model, self._model)
            )
            self._rename = (old, new)

    def _note_finish(self) -> None:
        self.finished = bool(self._choices) and all(
            state.finished for state in self._choices.values()
        )

    def _end(self) -> bytes:
        if self.done:
            return b""
        if not self.finished:
            raise UpstreamCut("The upstream ended its answer before the model was finished.")
        self.done = True
        if not self._asked_usage:
            return DONE
        if self._usage_event:
            return frame(self._usage_event) + DONE
        last = {
            "id": self._id, "object": self._object, "created": self._created, "model": self._model,
            "choices": [], "usage": usage_json(self.settled_usage(), self._usage_said),
        }  # fmt: skip
        return frame(orjson.dumps(last)) + DONE


def moment_of(created: Any) -> int:
    """Return a reported moment in whole seconds; now when it is no sane one."""
    known = isinstance(created, (int, float)) and not isinstance(created, bool)
    return int(created) if known and 0 < created < _LATEST_S else unix_seconds()


def usage_of(reported: Any) -> Usage | None:
    """Return an upstream's usage object as ours; None when it holds no counts."""
    if not isinstance(reported, dict):
        return None
    counts = [reported.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if not any(isinstance(count, int) for count in counts):
        return None
    prompt, completion = (
        count if isinstance(count, int) and 0 <= count < _MOST_TOKENS else 0 for count in counts
    )
    return Usage(prompt, completion)


def usage_json(usage: Usage, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenAI's usage object with whatever else the upstream said in its own."""
    return usage.as_json() | {name: value for name, value in said.items() if value is not None}


def _event_of(data: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise _invalid_stream() from None
    if not isinstance(event, dict):
        raise _invalid_stream()
    if event.get("error"):
        raise in_band(event["error"])
    return event


def _invalid_stream() -> UpstreamInvalid:
    return UpstreamInvalid(
        "The upstream's stream is not valid JSON events.", code="upstream_invalid_stream"
    )
