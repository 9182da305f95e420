"""The declaration of an endpoint, from which route, guard, metadata and documentation follow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from flask import Blueprint, Flask, Response, request
from marshmallow import Schema
from werkzeug.routing import PathConverter

from gateway.web.incoming import Incoming, Outgoing

View = Callable[..., Outgoing]
PUBLIC = "public"
"""The scope of endpoints that need no credential; each is on a reviewed list (tests/rules)."""
INCOMING = "gateway.incoming"
"""Where the edge leaves the request in the WSGI environment."""


class AnyPath(PathConverter):
    """The rest of an address, even if it begins with a slash: some models are named by a path."""

    regex = ".+?"
    part_isolating = False


class Guard(Protocol):
    """Decides who may pass."""

    def admit(self, incoming: Incoming, scope: str) -> None:
        """Set the principal, or raise AuthError or NotAllowed."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method at one address.

    Attributes:
        operation_id: Its stable name in discovery documents.
        summary: The first line of the view's docstring.
        hot: Whether the edge calls it without going through Flask.
        observed: Whether the observability port serves it too, without a credential.
    """

    method: str
    path: str
    scope: str
    operation_id: str
    summary: str
    view: View
    body: type[Schema] | None = None
    reply: type[Schema] | None = None
    hot: bool = False
    observed: bool = False

    def run(self, incoming: Incoming, **arguments: Any) -> Outgoing:
        """Answer a request: guard first, then the view."""
        if self.scope != PUBLIC:
            guard: Guard = incoming.part(Guard)  # type: ignore[type-abstract]  # looked up by protocol
            guard.admit(incoming, self.scope)
        return self.view(incoming, **arguments)


def endpoint(  # noqa: PLR0913  # a declaration, read like a table row
    blueprint: Blueprint,
    method: str,
    path: str,
    *,
    scope: str,
    operation_id: str,
    body: type[Schema] | None = None,
    reply: type[Schema] | None = None,
    hot: bool = False,
    observed: bool = False,
) -> Callable[[View], View]:
    """Declare a function from Incoming to Outgoing as an endpoint.

    Args:
        scope: What a caller must hold, or ``PUBLIC``. There is no default: nothing is open by
            oversight.
        hot: Let the edge call it without Flask (its path must have no variable parts).
        observed: Serve it on the observability port too.
    """

    def declare(view: View) -> View:
        summary = (view.__doc__ or "").strip().partition("\n")[0]
        declared = Endpoint(
            method, path, scope, operation_id, summary, view, body, reply, hot, observed
        )

        def through_flask(**arguments: Any) -> Response:
            incoming: Incoming = request.environ[INCOMING]
            incoming.endpoint = declared.path
            answer = declared.run(incoming, **arguments)
            return Response(answer.body, answer.status, answer.headers, direct_passthrough=True)

        # strict_slashes off: a redirect on POST costs a round trip and some clients drop the body.
        blueprint.add_url_rule(
            path, f"{view.__name__}", through_flask, methods=[method],
            strict_slashes=False, provide_automatic_options=False,
        )  # fmt: skip
        blueprint.record_once(lambda state: _filed(state.app.extensions).append(declared))
        return view

    return declare


def _filed(extensions: dict[str, Any]) -> list[Endpoint]:
    filed: list[Endpoint] = extensions.setdefault("gateway.endpoints", [])
    return filed


def endpoints_of(app: Flask) -> list[Endpoint]:
    """Return everything an application serves, by address and method."""
    return sorted(_filed(app.extensions), key=lambda item: (item.path, item.method))
