"""What every backend is: the code that speaks to one kind of upstream."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from gateway.backends.transport import Pool, Timeouts
from gateway.kernel.call import Call, Kind, Reply
from gateway.kernel.errors import UpstreamInvalid
from gateway.kernel.registry import Registry
from gateway.web.wait import Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A configured server.

    Attributes:
        url: With the scheme that chooses the backend.
        serves: Names that callers use, and the model's name there.
        required: Whether readiness needs it.
        embedded: Whether it is our own mock, which never counts as a real upstream.
        implied: Whether nobody configured it and it is merely tried at its usual address.
    """

    name: str
    url: str
    timeouts: Timeouts
    max_response_bytes: int
    api_key: str = field(default="", repr=False)
    serves: Mapping[str, str] = field(default_factory=dict)
    required: bool = False
    embedded: bool = False
    implied: bool = False


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model as an upstream lists it."""

    id: str
    created: int = 0
    owned_by: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """How to ask an upstream what it serves: a GET, off the hot path."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Backend(ABC):
    """Speaks to one upstream.

    Attributes:
        can: The kinds of calls it takes.
        schemes: The URL schemes that choose it.
        open_prefix: Start of model names that it serves although no list names them.

    Shared: One a process and upstream; keeps no state of a call.
    """

    can: ClassVar[frozenset[Kind]]
    schemes: ClassVar[tuple[str, ...]]
    open_prefix: ClassVar[str] = ""

    def __init__(self, upstream: Upstream, pool: Pool | None) -> None:
        self.upstream = upstream
        self._pool = pool

    @property
    def pool(self) -> Pool:
        """The connections to the upstream."""
        if self._pool is None:
            raise RuntimeError(f"upstream {self.upstream.name!r} has no network")
        return self._pool

    def weed(self) -> None:
        """Let go what the upstream has let go; called now and then."""
        if self._pool is not None:
            self._pool.weed()

    @classmethod
    @abstractmethod
    def http_url(cls, url: str) -> str | None:
        """Return the http(s) URL to connect to; None when the backend needs no network."""

    @abstractmethod
    def reply(self, call: Call, model: str, wait: Wait) -> Reply:
        """Return the finished answer to a call that is not streamed."""

    @abstractmethod
    def stream(self, call: Call, model: str, wait: Wait, beat_s: float) -> Iterator[bytes]:
        """Yield an event stream in OpenAI's form, strict or not; ``b""`` after each silent beat."""

    @abstractmethod
    def probe(self) -> Probe | None:
        """Return how to ask for the model list; None when ``models`` needs no answer."""

    @abstractmethod
    def models(self, document: Any) -> list[ModelCard]:
        """Return the models in an answer to the probe.

        Raises:
            UpstreamInvalid: It is no model list.
        """


BACKENDS: Registry[type[Backend]] = Registry("backend")
"""Every kind of backend by name; ``gateway.backends`` files register themselves here."""


def backend_for(url: str) -> type[Backend]:
    """Return the backend whose scheme a URL has.

    Raises:
        LookupError: No backend has it; the message lists the schemes.
    """
    scheme = url.partition("://")[0].lower()
    found = {name: kind for kind in map(BACKENDS.get, BACKENDS) for name in kind.schemes}
    if scheme not in found:
        raise LookupError(f"no backend speaks {scheme}:// (known: {', '.join(sorted(found))})")
    return found[scheme]


def listed(document: Any, member: str) -> list[dict[str, Any]]:
    """Return the objects of a list inside a probe's answer.

    Raises:
        UpstreamInvalid: There is no such list.
    """
    items = document.get(member) if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise UpstreamInvalid("The upstream's model list has an unknown shape.")
    return [item for item in items if isinstance(item, dict)]


def quoted(text: str) -> bytes:
    """Return a string as JSON."""
    return orjson.dumps(text)
