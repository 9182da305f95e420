"""Repairs of one choice of one streamed event, for chat and for legacy completions.

The facts behind each rule, what clients break on and what servers send, are in
docs/decisions/streams.md.
"""

from typing import Any

import orjson

from gateway.kernel.errors import UpstreamCut
from gateway.kernel.ids import new_id

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_FINISH_SYNONYMS = {
    "end_turn": "stop", "eos": "stop", "eos_token": "stop", "stop_sequence": "stop",
    "complete": "stop", "load": "stop", "unload": "stop",
    "max_tokens": "length", "max_length": "length", "model_length": "length",
    "tool_use": "tool_calls", "tool_call": "tool_calls",
    "safety": "content_filter", "refusal": "content_filter",
}  # fmt: skip
_FAILURES = frozenset({"error", "abort", "aborted", "cancelled"})
_CONTENT_FIELDS = ("content", "tool_calls", "function_call", "refusal", "audio",
                   "reasoning_content", "reasoning", "thinking")  # fmt: skip


def finish_reason_of(value: Any, *, called_tools: bool) -> str:
    """Return a finish reason from OpenAI's closed list; unknown ones break agents' loops.

    Raises:
        UpstreamCut: The reason says that the model did not finish.
    """
    said = value if isinstance(value, str) else ""
    if said.lower() in _FAILURES:
        raise UpstreamCut("The upstream broke off its answer.")
    reason = said if said in FINISH_REASONS else _FINISH_SYNONYMS.get(said.lower(), "stop")
    return "tool_calls" if called_tools and reason == "stop" else reason


class ToolCalls:
    """The tool calls of one choice: dense indexes from 0; id, type and name once each."""

    __slots__ = ("_last", "_places", "_seen")

    def __init__(self) -> None:
        self._places: dict[int | str, int] = {}
        self._last: int | str = ""
        self._seen = 0

    def any(self) -> bool:
        """Tell whether a call was made."""
        return bool(self._seen)

    def repair(self, deltas: list[Any]) -> bool:
        """Bring an event's tool-call deltas into order, in place; tell whether anything changed."""
        changed = False
        for delta in deltas:
            if isinstance(delta, dict):
                changed |= self._one(delta)
        return changed

    def _one(self, delta: dict[str, Any]) -> bool:
        place, is_new = self._place_of(delta)
        changed = _put(delta, "index", place)
        function = delta.get("function")
        if not isinstance(function, dict):
            function = delta["function"] = {}
            changed = True
        if is_new:
            changed |= _put(delta, "type", "function")
            if not isinstance(delta.get("id"), str) or not delta["id"]:
                delta["id"] = new_id("call")
                changed = True
        else:
            changed |= _drop(delta, "id", "type") | _drop(function, "name")
        arguments = function.get("arguments")
        if arguments is None:
            if is_new:
                function["arguments"] = ""
                changed = True
        elif not isinstance(arguments, str):
            function["arguments"] = _as_text(arguments)
            changed = True
        return changed

    def _place_of(self, delta: dict[str, Any]) -> tuple[int, bool]:
        """Return the index of a delta's call and if it is new.

        A function's name under a new id opens a call even at a known index: some servers number
        every call 0. What has neither name, id nor index goes on the last call.
        """
        index, name, function = delta.get("index"), delta.get("id"), delta.get("function")
        opens = isinstance(function, dict) and bool(function.get("name"))
        keys: list[int | str] = [name] if isinstance(name, str) and name else []
        has_new_id = bool(keys) and name not in self._places
        keys += [index] if isinstance(index, int) else []
        keys = keys or [f"call {self._seen}" if opens else self._last]
        known = next((key for key in keys if key in self._places), None)
        if opens and has_new_id:
            known = None
        place = self._seen if known is None else self._places[known]
        self._places.update(dict.fromkeys(keys, place))
        self._seen = max(self._seen, place + 1)
        self._last = keys[0]
        return place, known is None


class ChatChoice:
    """State of one choice of a chat stream."""

    __slots__ = ("_tools", "finished", "spoke")

    def __init__(self) -> None:
        self._tools = ToolCalls()
        self.spoke = False
        self.finished = False

    def repair(self, choice: dict[str, Any]) -> tuple[bool, bool]:
        """Bring a choice into order, in place.

        Returns:
            Whether anything changed, and whether it bears content.
        """
        delta = choice.get("delta")
        changed = not isinstance(delta, dict)
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
        changed |= self._role(delta)
        calls = delta.get("tool_calls")
        if isinstance(calls, list) and calls:
            changed |= self._tools.repair(calls)
            changed |= _drop(delta, "function_call")
        if choice.get("finish_reason"):  # some servers say "" where others say null
            self.finished = True
            reason = finish_reason_of(choice["finish_reason"], called_tools=self._tools.any())
            changed |= _put(choice, "finish_reason", reason)
        else:
            changed |= _put(choice, "finish_reason", None)
        return changed, any(delta.get(name) for name in _CONTENT_FIELDS)

    def _role(self, delta: dict[str, Any]) -> bool:
        if self.spoke:
            return _drop(delta, "role")
        self.spoke = True
        if delta.get("role") == "assistant":
            return False
        rest = dict(delta)
        delta.clear()
        delta.update(
            {"role": "assistant", "content": ""} | {k: v for k, v in rest.items() if k != "role"}
        )
        return True

    @staticmethod
    def split(choice: dict[str, Any]) -> dict[str, Any]:
        """Take the finish off a choice that bears content; return one that carries it alone."""
        last = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        choice["finish_reason"] = None
        return last

    @staticmethod
    def text_bytes(choice: dict[str, Any]) -> int:
        """Return how much text a choice carries, for an estimate of its tokens."""
        return spoken_bytes(choice["delta"])


class CompletionChoice:
    """State of one choice of a legacy completion stream."""

    __slots__ = ("finished",)

    def __init__(self) -> None:
        self.finished = False

    def repair(self, choice: dict[str, Any]) -> tuple[bool, bool]:
        """Bring a choice into order, in place; see ``ChatChoice.repair``."""
        changed = _put(
            choice, "text", choice["text"] if isinstance(choice.get("text"), str) else ""
        )
        if choice.get("finish_reason"):  # some servers say "" where others say null
            self.finished = True
            changed |= _put(
                choice,
                "finish_reason",
                finish_reason_of(choice["finish_reason"], called_tools=False),
            )
        else:
            changed |= _put(choice, "finish_reason", None)
        return changed, bool(choice["text"])

    @staticmethod
    def split(choice: dict[str, Any]) -> dict[str, Any]:
        """Take the finish off a choice that bears text; return the choice that carries it alone."""
        last = {"index": choice["index"], "text": "", "logprobs": None,
                "finish_reason": choice["finish_reason"]}  # fmt: skip
        choice["finish_reason"] = None
        return last

    @staticmethod
    def text_bytes(choice: dict[str, Any]) -> int:
        """Return how much text a choice carries."""
        return size_bytes(choice["text"])


def spoken_bytes(message: dict[str, Any]) -> int:
    """Return how much a model wrote in a message or delta: text, reasoning and tool arguments."""
    size = size_bytes(message.get("content")) + size_bytes(message.get("reasoning_content"))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            size += size_bytes(function.get("name")) + size_bytes(function.get("arguments"))
    return size


def size_bytes(text: Any) -> int:
    """Return the length of a text in UTF-8; 0 for anything else."""
    if not isinstance(text, str):
        return 0
    return len(text) if text.isascii() else len(text.encode())


def _put(target: dict[str, Any], name: str, value: Any) -> bool:
    """Set a member; tell whether that changed anything."""
    if name in target and target[name] == value and type(target[name]) is type(value):
        return False
    target[name] = value
    return True


def _drop(target: dict[str, Any], *names: str) -> bool:
    """Remove members; tell whether any was there."""
    present = [name for name in names if name in target]
    for name in present:
        del target[name]
    return bool(present)


def _as_text(arguments: Any) -> str:
    return orjson.dumps(arguments).decode()
