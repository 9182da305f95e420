"""The outermost WSGI callable: identity, size of the crowd, errors and headers of every request."""

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, Protocol

from flask import Flask, Response, request

from gateway.kernel.clock import monotonic
from gateway.kernel.errors import (
    AuthError,
    ClientGone,
    GatewayError,
    InvalidRequest,
    NotFound,
    Overloaded,
)
from gateway.kernel.logs import Log
from gateway.web.cors import Cors
from gateway.web.endpoint import INCOMING, Endpoint, endpoints_of
from gateway.web.errors import refusal, translate
from gateway.web.incoming import Headers, Incoming, Outgoing
from gateway.web.services import parts_of
from gateway.web.settings import WebSettings

_SENT_AT_ONCE_BYTES = 65_536
"""The kernel takes as much without waiting for the client, so such an answer is as good as sent."""
StartResponse = Callable[..., Any]
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_STATUS_LINES[ClientGone.status] = f"{ClientGone.status} Client Closed Request"


class Observer(Protocol):
    """Told once about every finished request."""

    def finished(self, incoming: Incoming, endpoint: str, status: int, took_s: float) -> None:
        """Count and log it."""


class Edge:
    """Wraps the Flask application; hot endpoints are called without it.

    Shared: One a process. ``in_flight`` is only changed between switches of greenlets.
    """

    def __init__(self, app: Flask, settings: WebSettings, observer: Observer, log: Log) -> None:
        self._inner = app.wsgi_app
        self._parts = parts_of(app)
        self._observer = observer
        self._log = log
        self._cors = Cors(settings)
        self._limit = settings.max_in_flight
        self._write_timeout_s = settings.write_timeout_s
        self._observability_port = str(settings.observability_port)
        declared = endpoints_of(app)
        self._hot = {(item.method, item.path): item for item in declared if item.hot}
        self._observed = {(item.method, item.path): item for item in declared if item.observed}
        self.in_flight = 0
        app.register_error_handler(Exception, self._from_flask)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        incoming = environ[INCOMING] = Incoming(environ, self._parts)
        connection = environ.get("gunicorn.socket")
        if connection is not None:
            # A client that does not read must not hold a greenlet and an upstream for ever.
            connection.settimeout(self._write_timeout_s)
        self.in_flight += 1
        try:
            answer = self._answer(incoming)
            if answer is None:
                return self._through_flask(incoming, start_response)
        except BaseException:
            self.in_flight -= 1
            incoming.close()
            raise
        headers = self._headers(incoming, answer.headers)
        return self._send(incoming, Outgoing(answer.status, headers, answer.body), start_response)

    def _answer(self, incoming: Incoming) -> Outgoing | None:
        """Return the answer to anything that needs no Flask; None for the rest."""
        environ = incoming.environ
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if environ.get("SERVER_PORT") == self._observability_port:
            return self._observe(incoming, "GET" if method == "HEAD" else method, path)
        if self.in_flight > self._limit:
            return self._overloaded(incoming)
        if "HTTP_HOST" not in environ and environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
            return self._no_host(incoming)
        if method == "OPTIONS" and self._cors.enabled:
            return self._cors.preflight(environ)
        hot = self._hot.get((method, path))
        if hot is None:
            return None
        incoming.endpoint = path
        return self._run(incoming, hot.run)

    def _send(
        self, incoming: Incoming, answer: Outgoing, start_response: StartResponse
    ) -> Iterable[bytes]:
        status, body = answer.status, answer.body
        size = sum(map(len, body)) if isinstance(body, tuple) else None
        if size is not None and status != HTTPStatus.NO_CONTENT:
            answer.headers.append(("Content-Length", str(size)))
        start_response(_STATUS_LINES.get(status, f"{status} Unknown"), answer.headers)
        if size is not None and size <= _SENT_AT_ONCE_BYTES:
            self._finish(incoming, status)
            return body
        return _Finishing(body, lambda: self._finish(incoming, status))

    def _finish(self, incoming: Incoming, status: int) -> None:
        self.in_flight -= 1
        incoming.close()
        self._observer.finished(
            incoming, incoming.endpoint, status, monotonic() - incoming.started_s
        )

    def _headers(self, incoming: Incoming, headers: Headers) -> Headers:
        out = [
            *headers, *incoming.answer_headers, ("x-request-id", incoming.request_id),
            ("X-Content-Type-Options", "nosniff"),
        ]  # fmt: skip
        if self._cors.enabled:
            out += self._cors.headers(incoming.environ)
        return out

    def _run(self, incoming: Incoming, run: Callable[[Incoming], Outgoing]) -> Outgoing:
        try:
            return run(incoming)
        except Exception as error:  # noqa: BLE001  # the edge
            return self._failed(incoming, error)

    def _failed(self, incoming: Incoming, error: Exception) -> Outgoing:
        failure = translate(error)
        if type(failure) is GatewayError and failure is not error:
            self._log.error("unexpected error", error, request_id=incoming.request_id)
        self._note(incoming, failure)
        if isinstance(failure, ClientGone):
            incoming.hang_up()
        return refusal(failure, incoming.request_id)

    @staticmethod
    def _note(incoming: Incoming, failure: GatewayError) -> None:
        """Leave for the log line what an operator asks first about a failure."""
        facts = incoming.facts
        facts.setdefault("code", failure.code)
        facts["param"] = failure.param
        facts["upstream_status"] = (failure.details or {}).get("upstream_status")
        if isinstance(failure, AuthError):
            facts["client"] = incoming.environ.get("REMOTE_ADDR")

    def _observe(self, incoming: Incoming, method: str, path: str) -> Outgoing:
        found: Endpoint | None = self._observed.get((method, path))
        if found is None:
            paths = ", ".join(sorted(path for _, path in self._observed))
            return self._failed(incoming, NotFound(f"This port serves {paths}."))
        incoming.endpoint = f"observability {path}"
        return self._run(incoming, found.view)

    def _overloaded(self, incoming: Incoming) -> Outgoing:
        incoming.hang_up()
        return self._failed(
            incoming,
            Overloaded(f"This server already carries {self._limit} requests.", retry_after_s=1),
        )

    def _no_host(self, incoming: Incoming) -> Outgoing:
        incoming.hang_up()
        return self._failed(incoming, InvalidRequest("HTTP/1.1 requests need a Host header."))

    def _through_flask(self, incoming: Incoming, start_response: StartResponse) -> Iterable[bytes]:
        status = 500

        def start(line: str, headers: Headers, exc_info: Any = None) -> Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, self._headers(incoming, headers), exc_info)

        body = self._inner(incoming.environ, start)
        return _Finishing(body, lambda: self._finish(incoming, status))

    def _from_flask(self, error: Exception) -> Response:
        answer = self._failed(request.environ[INCOMING], error)
        return Response(answer.body, answer.status, answer.headers)


class _Finishing:
    """A body that tells when the server is done with it, however that came about."""

    __slots__ = ("_blocks", "_body", "_finish")

    def __init__(self, body: Iterable[bytes], finish: Callable[[], None]) -> None:
        self._body = body
        self._blocks = iter(body)
        self._finish: Callable[[], None] | None = finish

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)

    def close(self) -> None:
        """Close the body and report; safe to call twice."""
        finish, self._finish = self._finish, None
        if finish is None:
            return
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            finish()
