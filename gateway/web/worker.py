"""gunicorn's gevent worker, taught to say in our own words when it is full or cannot read a request.

It keeps gunicorn's HTTP parser and socket handling. What it changes: head and body of a small
answer leave in one write; a connection beyond the limit gets a 503 at once instead of waiting,
unseen, for a place; parser errors use the one error envelope; a stopping worker ends its streams
itself, because gunicorn's SIGKILL would beat every ``finally``.
"""

import socket
from typing import Any

from gevent import Timeout
from gunicorn.http import wsgi
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.ggevent import GeventWorker

from gateway.kernel.errors import GatewayError, InvalidRequest, Overloaded
from gateway.kernel.ids import new_id
from gateway.web.errors import refusal
from gateway.web.incoming import Outgoing
from gateway.web.wait import drain_in

RESERVE = 64
"""Places kept for telling callers that all others are taken."""
DRAIN_MARGIN_S = 5.0
"""Streams are ended this long before gunicorn's SIGKILL."""
_LINGER_BYTES = 4_194_304
_LINGER_S = 1.0
_STATUS_OF = {
    LimitRequestLine: (414, "URI Too Long"),
    LimitRequestHeaders: (431, "Request Header Fields Too Large"),
    UnsupportedTransferCoding: (501, "Not Implemented"),
    ExpectationFailed: (417, "Expectation Failed"),
}


class GatewayWorker(GeventWorker):
    """Serves both ports of one process.

    Shared: ``_open`` counts connections by listener and changes only between switches of greenlets.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit = self.worker_connections
        # The pool itself is larger by the reserve, so that it never blocks accept() silently.
        self.worker_connections += RESERVE
        self._open: dict[int, int] = {}

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection, or refuse it when too many are open."""
        place = listener.fileno()
        taken = self._open.get(place, 0)
        self._open[place] = taken + 1
        try:
            if taken >= self._limit:
                self._refuse(client)
            else:
                super().handle(listener, client, addr)
        finally:
            self._open[place] -= 1

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """Answer one request on a connection that may carry more."""
        resp, environ = wsgi.create(req, sock, addr, listener_name, self.cfg)
        environ["wsgi.multithread"] = True
        environ["gateway.force_close"] = resp.force_close
        if not self.alive:
            resp.force_close()
        body = self.wsgi(environ, resp.start_response)
        try:
            if isinstance(body, tuple) and len(body) == 1 and resp.response_length == len(body[0]):
                _write_whole(resp, sock, body[0])
            else:
                for block in body:
                    resp.write(block)
                resp.close()
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
        if resp.should_close():
            if resp.must_close:
                _linger(sock)
            raise StopIteration
        return True

    def handle_error(self, _req: Any, client: Any, _addr: Any, exc: BaseException) -> None:
        """Answer what gunicorn's parser could not read, or what broke before any answer began."""
        if isinstance(exc, ParseException):
            error: GatewayError = InvalidRequest(
                "The HTTP request cannot be read.", code="invalid_http"
            )
            error.status, phrase = _STATUS_OF.get(type(exc), (400, "Bad Request"))
        else:
            self.log.error("Error handling request", exc_info=exc)
            error, phrase = GatewayError("An internal error happened."), "Internal Server Error"
        self._say(client, refusal(error, new_id("req")), phrase)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop accepting (SIGTERM) and give the running requests their time."""
        super().handle_exit(sig, frame)
        drain_in(max(self.cfg.graceful_timeout - DRAIN_MARGIN_S, self.cfg.graceful_timeout / 2))

    def _refuse(self, client: Any) -> None:
        error = Overloaded("This server has as many connections as it may.", retry_after_s=1)
        self._say(client, refusal(error, new_id("req")), "Service Unavailable")
        client.close()

    def _say(self, client: Any, answer: Outgoing, phrase: str) -> None:
        body = b"".join(answer.body)
        lines = [
            f"HTTP/1.1 {answer.status} {phrase}",
            "Connection: close",
            f"Content-Length: {len(body)}",
        ]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        try:
            client.settimeout(_LINGER_S)
            client.sendall(head + body)
            _linger(client)
        except OSError:
            self.log.debug("the client did not wait for its error")


def _write_whole(resp: Any, sock: Any, body: bytes) -> None:
    """Send head and body in one write: one segment for the client, one system call for us."""
    head = "".join(
        [*resp.default_headers(), *(f"{name}: {value}\r\n" for name, value in resp.headers), "\r\n"]
    )
    resp.headers_sent = True
    resp.sent = len(body)
    sock.sendall(head.encode("latin-1") + (b"" if resp.req.method == "HEAD" else body))


def _linger(sock: Any) -> None:
    """Close the sending half and read on for a moment.

    Closing with unread input makes the kernel send a reset, which may overtake the answer.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(_LINGER_S)
        left = _LINGER_BYTES
        with Timeout(_LINGER_S, exception=False):
            while left > 0:
                read = len(sock.recv(65_536))
                if not read:
                    return
                left -= read
    except OSError:
        return
