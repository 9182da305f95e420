"""What this gateway says it can do, as declared: ``/``, ``/v1/metadata``, ``/v1/descriptor``."""

from collections.abc import Iterable
from typing import Any

from flask import Blueprint

from gateway import __version__
from gateway.backends.base import Backend
from gateway.kernel.call import Kind
from gateway.routing.catalog import Catalog
from gateway.routing.settings import RoutingSettings
from gateway.web.endpoint import PUBLIC, Endpoint, endpoint
from gateway.web.incoming import Incoming, Outgoing, json_answer
from gateway.web.settings import WebSettings

blueprint = Blueprint("metadata", __name__)
_DESCRIPTION = "One OpenAI-compatible door in front of all the AI a team runs."
_DOMAINS = {Kind.CHAT: "chat", Kind.COMPLETION: "completion", Kind.EMBEDDINGS: "embedding"}


class Declared(tuple[Endpoint, ...]):
    """All endpoints of the application, as one of its parts."""

    __slots__ = ()


@endpoint(blueprint, "GET", "/", scope=PUBLIC, operation_id="root.get")
def describe_service(incoming: Incoming) -> Outgoing:
    """Name this service and the addresses it serves."""
    paths = sorted({item.path for item in incoming.part(Declared)})
    return json_answer({"service": "Nexus Gateway", "version": __version__, "endpoints": paths})


@endpoint(blueprint, "GET", "/v1/metadata", scope=PUBLIC, operation_id="metadata.get")
def get_metadata(incoming: Incoming) -> Outgoing:
    """Describe endpoints, capabilities and backends (schema v1)."""
    return json_answer(_metadata(incoming))


@endpoint(blueprint, "GET", "/v1/descriptor", scope=PUBLIC, operation_id="descriptor.get")
def get_descriptor(incoming: Incoming) -> Outgoing:
    """Describe this service for user interfaces: metadata, response types and options."""
    options = [
        {"key": "model", "label": "Model", "type": "string"},
        {
            "key": "temperature",
            "label": "Temperature",
            "type": "number",
            "default": 0.7,
            "min": 0,
            "max": 2,
        },
    ]
    return json_answer({
        **_metadata(incoming),
        "response_types": {"default": "application/json", "streaming": "text/event-stream"},
        "ui_navigation": {"placement": "primary", "group": "chat"},
        "ui": {"options": options},
    })  # fmt: skip


def _metadata(incoming: Incoming) -> dict[str, Any]:
    backends = incoming.part(Catalog).snapshot.backends
    default = incoming.part(RoutingSettings).default_upstream or next(iter(backends), None)
    return {
        "schema_version": "v1",
        "service": {"name": "gateway", "version": __version__, "description": _DESCRIPTION},
        "endpoints": [
            {"path": item.path, "method": item.method,
             "operation_id": item.operation_id, "summary": item.summary}
            for item in incoming.part(Declared)
        ],
        "capabilities": {
            "domains": _domains(backends.values()), "modalities": ["text"], "streaming": True,
            "max_concurrency": incoming.part(WebSettings).max_in_flight,
        },
        "backends": {"default": default, "available": list(backends)},
    }  # fmt: skip


def _domains(backends: Iterable[Backend]) -> list[str]:
    able = frozenset[Kind]().union(*(backend.can for backend in backends))
    return [name for kind, name in _DOMAINS.items() if kind in able]
