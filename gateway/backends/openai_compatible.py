"""Servers that speak OpenAI's protocol: vLLM, MAX, llama.cpp, LiteLLM, OpenAI itself and more."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from gateway.backends.base import BACKENDS, Backend, ModelCard, Probe, Upstream, listed, quoted
from gateway.backends.refusals import check
from gateway.backends.replies import completion_reply, embeddings_reply
from gateway.backends.transport import Pool
from gateway.kernel.call import Call, Kind, Reply
from gateway.kernel.errors import UpstreamInvalid
from gateway.web.wait import Wait

PATHS = {
    Kind.CHAT: "/chat/completions",
    Kind.COMPLETION: "/completions",
    Kind.EMBEDDINGS: "/embeddings",
}
_LATEST_S = 2**53
_ENDS = (b"data: [DONE]\n\n", b"data: [DONE]\r\n\r\n")
_USAGE_WANTED = msgspec.Raw(b'{"include_usage":true}')


@BACKENDS.register("openai_compatible")
class OpenAICompatible(Backend):
    """Relays the caller's fields untouched, save the model's name.

    Attributes:
        drops: Fields this kind of server refuses.
        renames: Fields it knows under an older name.
        developer_role: Its name for the role ``developer``.
    """

    can: ClassVar = frozenset(Kind)
    schemes: ClassVar[tuple[str, ...]] = ("http", "https")
    drops: ClassVar[frozenset[str]] = frozenset()
    renames: ClassVar[Mapping[str, str]] = {}
    developer_role: ClassVar[bytes] = b""

    def __init__(self, upstream: Upstream, pool: Pool | None) -> None:
        super().__init__(upstream, pool)
        self._base = base_url(self.http_url(upstream.url))
        prefix = urlsplit(self._base).path
        self._heads = {
            kind: b"POST %s%s HTTP/1.1\r\n" % (prefix.encode("ascii"), path.encode("ascii"))
            for kind, path in PATHS.items()
        }
        fixed = [b"Content-Type: application/json", b"Accept: */*", b"Accept-Encoding: identity"]
        if upstream.api_key:
            fixed.append(b"Authorization: Bearer " + upstream.api_key.encode("latin-1"))
        self._fixed = b"\r\n".join(fixed)

    @classmethod
    def http_url(cls, url: str) -> str:
        """Return the URL itself, or with http in place of a scheme of our own."""
        scheme, _, rest = url.partition("://")
        return url if scheme in {"http", "https"} else f"http://{rest}"

    def reply(self, call: Call, model: str, wait: Wait) -> Reply:
        """Return the finished answer; see ``Backend.reply``."""
        head, asked = self._head(call), self.body_for(call, model)
        response = self.pool.request(head, asked, wait, call.deadline, patient=True)
        check(response)
        try:
            body = response.read(self.upstream.max_response_bytes)
        finally:
            response.close()
        if call.kind is Kind.EMBEDDINGS:
            return embeddings_reply(body, call, model)
        return completion_reply(body, call, model)

    def stream(self, call: Call, model: str, wait: Wait, beat_s: float) -> Iterator[bytes]:
        """Yield the upstream's own bytes; see ``Backend.stream``."""
        head, asked = self._head(call), self.body_for(call, model)
        response = yield from self.pool.opening(head, asked, wait, call.deadline, beat_s)
        check(response)
        last = b""
        try:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise UpstreamInvalid(
                    "The upstream answered a streamed request without an event stream."
                )
            for block in response.blocks(beat_s):
                last = block or last
                yield block
        finally:
            response.close(ending=last.endswith(_ENDS))

    def probe(self) -> Probe:
        """Return the address of the model list."""
        key = self.upstream.api_key
        return Probe(f"{self._base}/models", {"Authorization": f"Bearer {key}"} if key else {})

    def models(self, document: Any) -> list[ModelCard]:
        """Return the models of ``{"data": [{"id"}]}``."""
        cards = []
        for item in listed(document, "data"):
            name, created, owner = item.get("id"), item.get("created"), item.get("owned_by")
            if isinstance(name, str) and name:
                made = created if isinstance(created, (int, float)) else 0
                made = int(made) if 0 < made < _LATEST_S else 0
                cards.append(ModelCard(name, made, owner if isinstance(owner, str) else ""))
        return cards

    def body_for(self, call: Call, model: str) -> bytes:
        """Return the request body: the caller's members with what must change."""
        members: dict[str, Any] = {
            self.renames.get(name, name): raw
            for name, raw in call.members.items()
            if name not in self.drops
        }
        members["model"] = msgspec.Raw(quoted(model))
        if call.stream:
            members["stream_options"] = _with_usage(members.get("stream_options"))
        if self.developer_role and "messages" in members:
            members["messages"] = _renamed_role(members["messages"], self.developer_role)
        return msgspec.json.encode(members)

    def _head(self, call: Call) -> bytes:
        return b"%s%s\r\nx-request-id: %s" % (
            self._heads[call.kind], self._fixed, call.request_id.encode("ascii"),
        )  # fmt: skip


def _with_usage(options: Any) -> Any:
    """Return stream options that ask for usage: the ledger needs it even if the caller does not."""
    if options is None:
        return _USAGE_WANTED
    wanted = msgspec.json.decode(options, type=dict[str, msgspec.Raw])
    wanted["include_usage"] = msgspec.Raw(b"true")
    return msgspec.Raw(msgspec.json.encode(wanted))


def _renamed_role(messages: Any, role: bytes) -> Any:
    if b'"developer"' not in bytes(messages):
        return messages
    decoded = msgspec.json.decode(messages, type=list[dict[str, msgspec.Raw]])
    for message in decoded:
        if bytes(message.get("role", b"")) == b'"developer"':
            message["role"] = msgspec.Raw(role)
    return msgspec.Raw(msgspec.json.encode(decoded))


def base_url(url: str) -> str:
    """Return a server's API root: a URL without a path gets ``/v1``."""
    url = url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"
