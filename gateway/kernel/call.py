"""The nouns of a request, each with one meaning in code, logs, metrics and docs."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.kernel.deadline import Deadline


class Kind(StrEnum):
    """What a call asks for; also the capability a backend declares."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDINGS = "embeddings"

    # Enum hashes its members' names in Python code, once for each dictionary access.
    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls.

    Attributes:
        key_id: A public name for the credential; safe to log, never the secret.
        scopes: What the endpoints may ask for.
    """

    key_id: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Tell whether this caller holds a scope."""
        return scope in self.scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a caller asks.

    Attributes:
        members: The body's top-level fields, each still in the caller's own JSON text, nulls left
            out. Relayed untouched unless a backend must change one.
        body: The whole JSON text, for backends that speak another protocol.
        pinned: Upstream that the caller named in ``X-Backend``.
        include_usage: Whether the caller wants the usage chunk of a stream.
    """

    kind: Kind
    model: str
    stream: bool
    members: Mapping[str, Any]
    body: bytes
    request_id: str
    principal: Principal
    deadline: Deadline
    pinned: str | None = None
    include_usage: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream and the model's name there."""

    upstream: str
    model: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Targets in the order in which they are tried, and why these."""

    targets: tuple[Target, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer.

    Attributes:
        estimated: True when the upstream reported nothing and the gateway counted for itself.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return OpenAI's ``usage`` object."""
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        if self.estimated:
            usage["estimated"] = True
        return usage


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer.

    Attributes:
        body: JSON text in OpenAI's shape.
        usage: None when the upstream reported none.
    """

    body: bytes
    usage: Usage | None = None


@dataclass(slots=True)
class Attempt:
    """One try at one Target, for the log line and the receipt."""

    target: Target
    outcome: str = "started"
    took_s: float = 0.0
