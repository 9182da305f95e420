"""gunicorn's gevent worker, taught to say in our words when it is full or cannot read a request.

It keeps gunicorn's HTTP parser. What it changes: a connection beyond the limit gets a 503 at once
instead of waiting, unseen, for a place; parser errors use the one error envelope; the deadline for
the next request is watched by one timer for all connections; a stopping worker ends its streams
itself, because gunicorn's SIGKILL would beat every ``finally``.
"""

import errno
import socket
import struct
from collections.abc import Iterable
from typing import Any

import gevent
from gunicorn.http import get_parser
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.ggevent import GeventWorker

from gateway.kernel.clock import monotonic
from gateway.kernel.errors import GatewayError, InvalidRequest, Overloaded
from gateway.kernel.ids import new_id
from gateway.web.answer import Answer
from gateway.web.environ import Environments
from gateway.web.errors import refusal
from gateway.web.wait import drain_in, has_unread

RESERVE = 64
"""Places kept for telling callers that all others are taken."""
SEND_BUFFER_BYTES = 131_072
"""Left to itself the kernel keeps 4 MB of answer for each client that does not read."""
DRAIN_MARGIN_S = 5.0
"""Streams are ended this long before gunicorn's SIGKILL."""
_LINGER_BYTES = 67_108_864
"""Three times the usual MAX_REQUEST_BYTES and more: its 413 must outrun the client's sending."""
_LINGER_S = 1.0
_UNREAD_BYTES = 65_536
_FAIR_BYTES = 8_192
_SWEEP_S = 0.5
_READ = 1
_STATUS_OF = {
    LimitRequestLine: (414, "URI Too Long"),
    LimitRequestHeaders: (431, "Request Header Fields Too Large"),
    UnsupportedTransferCoding: (501, "Not Implemented"),
    ExpectationFailed: (417, "Expectation Failed"),
}
_USUAL_ENDS = frozenset(
    {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF, errno.ETIMEDOUT, None}
)
"""How connections end when clients leave, or are too slow (a time-out has no number)."""


class GatewayWorker(GeventWorker):
    """Serves both ports of one process.

    Shared: ``_open`` counts connections by listener, ``_idle`` knows since when a connection waits
    for its next request; both change only between switches of greenlets.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit = self.worker_connections
        # The pool itself is larger by the reserve, so that it never blocks accept() unseen.
        self.worker_connections += RESERVE
        self._open: dict[int, int] = {}
        self._idle: dict[Any, float] = {}
        self._watchers: dict[Any, Any] = {}
        self._made: dict[int, Environments] = {}
        self._plain_cfg = PlainConfig(self.cfg)

    def run(self) -> None:
        """Serve until told to stop."""
        sweeper = gevent.get_hub().loop.timer(_SWEEP_S, repeat=_SWEEP_S, ref=False)
        sweeper.start(self._close_idle, update=True)
        for listener in self.sockets:  # accepted sockets inherit it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        super().run()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection, or refuse it when too many are open."""
        place = listener.fileno()
        taken = self._open.get(place, 0)
        self._open[place] = taken + 1
        try:
            if taken >= self._limit:
                self._refuse(client)
            else:
                self._serve(self._environments(listener), client, addr)
        except (NoMoreData, StopIteration):
            pass
        except OSError as error:
            if error.errno not in _USUAL_ENDS:
                self.log.exception("Socket error")
        except Exception as error:  # noqa: BLE001  # the edge: one connection's end is not the worker's
            self.handle_error(None, client, addr, error)
        finally:
            self._open[place] -= 1
            client.close()

    def handle_request(self, environments: Environments, req: Any, sock: Any, addr: Any) -> bool:
        """Answer one request; tell whether its connection may carry another."""
        resp = Answer(req, sock, self._plain_cfg)
        environ = environments.of(req, sock, addr)
        environ["gateway.force_close"] = resp.force_close
        environ["gateway.client_watcher"] = self._watchers.get(sock)
        if not self.alive:
            resp.force_close()
        body: Iterable[bytes] = self.wsgi(environ, resp.start_response)
        try:
            for block in body:
                resp.write(block)
            resp.close()
        except TimeoutError:
            # A FIN would wait for ever behind the bytes that nobody reads.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise
        except OSError:
            raise
        except Exception:
            if not resp.headers_sent:
                raise
            # A second answer inside the first one's body would be worse than a cut.
            self.log.exception("Error inside an answer")
            return False
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
        if resp.must_close:
            _linger(sock)
        return not resp.should_close()

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
        self._say(client, error, phrase)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop accepting (SIGTERM) and give the running requests their time."""
        super().handle_exit(sig, frame)
        drain_in(max(self.cfg.graceful_timeout - DRAIN_MARGIN_S, self.cfg.graceful_timeout / 2))

    def _serve(self, environments: Environments, client: Any, addr: Any) -> None:
        watcher = self._watchers[client] = gevent.get_hub().loop.io(client.fileno(), _READ)
        try:
            self._serve_requests(environments, client, addr)
        finally:
            del self._watchers[client]
            watcher.close()

    def _serve_requests(self, environments: Environments, client: Any, addr: Any) -> None:
        parser = get_parser(self._plain_cfg, Fair(client), addr)
        goes_on = True
        while goes_on:
            # The sweeper watches this wait, cheaper than a timer of its own.
            client.settimeout(None)
            self._idle[client] = monotonic()
            try:
                req = next(parser)
            finally:
                del self._idle[client]
            goes_on = self.handle_request(environments, req, client, addr)
            if goes_on and getattr(req.body.reader, "length", True) and not _is_spent(parser):
                _linger(client)
                return
            if parser.unreader.buf.tell():
                # Requests that lie here already need no waiting: without this nobody else runs.
                _let_others_run()

    def _environments(self, listener: Any) -> Environments:
        place = listener.fileno()
        if place not in self._made:
            self._made[place] = Environments(listener.getsockname())
        return self._made[place]

    def _close_idle(self) -> None:
        """Close connections that were silent too long; all of them when stopping. On the hub."""
        limit_s = self.cfg.keepalive if self.alive else _SWEEP_S
        oldest_s = monotonic() - limit_s
        for client in [client for client, since_s in self._idle.items() if since_s < oldest_s]:
            if has_unread(client):
                continue  # a request has come; only this process was too busy to read it
            try:
                client.shutdown(socket.SHUT_RD)
            except OSError:
                self.log.debug("the client was faster")

    def _refuse(self, client: Any) -> None:
        error = Overloaded("This server has as many connections as it may.", retry_after_s=1)
        self._say(client, error, "Service Unavailable")

    def _say(self, client: Any, error: GatewayError, phrase: str) -> None:
        request_id = new_id("req")
        answer = refusal(error, request_id)
        body = b"".join(answer.body)
        lines = [
            f"HTTP/1.1 {answer.status} {phrase}",
            "Connection: close",
            f"Content-Length: {len(body)}",
            f"x-request-id: {request_id}",
            *[f"{name}: {value}" for name, value in answer.headers],
        ]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        try:
            client.settimeout(_LINGER_S)
            client.sendall(head + body)
            _linger(client)
        except OSError:
            self.log.debug("the client did not wait for its error")


class Fair:
    """A client's socket as gunicorn's parser reads it, which lets others run now and then.

    A receive does not switch while bytes are there, so a client that sends faster than the parser
    reads (a body in chunks of one byte, say) would have the process to itself.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._left = _FAIR_BYTES

    def gettimeout(self) -> float | None:
        """Return the socket's time-out."""
        seconds: float | None = self._sock.gettimeout()
        return seconds

    def settimeout(self, seconds: float | None) -> None:
        """Set the socket's time-out."""
        self._sock.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """Receive; every 8 KiB the others come first."""
        data: bytes = self._sock.recv(size)
        self._left -= len(data)
        if self._left <= 0:
            self._left = _FAIR_BYTES
            _let_others_run()
        return data


class PlainConfig:
    """gunicorn's settings as plain attributes.

    Its own object runs Python code for each look-up, and its parser makes some twenty a request.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg
        self.__dict__.update({name: setting.get() for name, setting in cfg.settings.items()})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cfg, name)


def _let_others_run() -> None:
    """Step back for one whole round of the loop, sockets and timers included.

    ``gevent.sleep(0)`` is not enough: callbacks alone go round up to fifty times before the loop
    looks at a socket again, so new connections would wait for as many turns of a busy one.
    """
    hub = gevent.get_hub()
    timer = hub.loop.timer(0.0)
    try:
        hub.wait(timer)
    finally:
        timer.close()


def _is_spent(parser: Any) -> bool:
    """Read on to the end of a body that nobody wanted, if that is near and well-formed."""
    try:
        return bool(parser.finish_body(monotonic() + _LINGER_S, _UNREAD_BYTES))
    except ParseException:
        return False  # its request was answered already: no second answer for it


def _linger(sock: Any) -> None:
    """Close the sending half and read on for a moment.

    Closing with unread input makes the kernel send a reset, which may overtake the answer.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(_LINGER_S)
        left, ends_s = _LINGER_BYTES, monotonic() + _LINGER_S
        while left > 0 and monotonic() < ends_s:
            read = len(sock.recv(65_536))
            if not read:
                return
            left -= read
            _let_others_run()
    except OSError:
        return
