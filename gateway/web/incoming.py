"""One request and one answer as the rooms see them: without Flask, which the hot path skips."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import orjson

from gateway.kernel.call import Principal
from gateway.kernel.clock import monotonic
from gateway.kernel.ids import request_id_from
from gateway.web.wait import Wait

T = TypeVar("T")
Headers = list[tuple[str, str]]


class Incoming:
    """A request on its way through the gateway.

    Attributes:
        principal: Set by the guard; None on public endpoints.
        facts: What the log line says about this request beside its address and status.
        answer_headers: Headers for the answer even if it is an error.
        endpoint: The template of the matched path, for metrics and logs.

    Shared: Belongs to one request.
    """

    __slots__ = (
        "_parts",
        "_wait",
        "answer_headers",
        "endpoint",
        "environ",
        "facts",
        "principal",
        "request_id",
        "started_s",
    )

    def __init__(self, environ: dict[str, Any], parts: Mapping[type, Any]) -> None:
        self.environ = environ
        self._parts = parts
        self.started_s = monotonic()
        self.request_id = request_id_from(environ.get("HTTP_X_REQUEST_ID"))
        self.principal: Principal | None = None
        self.facts: dict[str, Any] = {}
        self.answer_headers: Headers = []
        self.endpoint = "unmatched"
        self._wait: Wait | None = None

    def part(self, kind: type[T]) -> T:
        """Return the application's part of that type."""
        return cast(T, self._parts[kind])

    def header(self, name: str) -> str | None:
        """Return a header by its WSGI name (``HTTP_X_BACKEND``)."""
        value: str | None = self.environ.get(name)
        return value

    def wait(self) -> Wait:
        """Return this request's sleeper, which watches the caller's connection from now on."""
        if self._wait is None:
            environ = self.environ
            self._wait = Wait(
                environ.get("gunicorn.socket"), watcher=environ.get("gateway.client_watcher")
            )
        return self._wait

    def caller(self) -> Principal:
        """Return who calls, on an endpoint that the guard has passed."""
        if self.principal is None:
            raise RuntimeError("a guarded endpoint ran without a principal")
        return self.principal

    def close(self) -> None:
        """Stop watching the caller."""
        if self._wait is not None:
            self._wait.close()
            self._wait = None

    def hang_up(self) -> None:
        """Close the connection after this answer: its input cannot be trusted or was not read."""
        force_close = self.environ.get("gateway.force_close")
        if force_close is not None:
            force_close()


class Outgoing:
    """An answer: status, headers and the body's blocks."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: Iterable[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.body = body


def json_answer(document: Any, status: int = 200, headers: Headers | None = None) -> Outgoing:
    """Return a JSON answer that no cache keeps."""
    return Outgoing(
        status,
        [("Content-Type", "application/json"), ("Cache-Control", "no-store"), *(headers or ())],
        (document if isinstance(document, bytes) else orjson.dumps(document),),
    )
