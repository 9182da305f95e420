"""A raw upstream on loopback: says exactly the bytes it is told to say and remembers what it heard.

A script is a row of steps for one request: bytes to send as they are, a number of seconds to wait,
an ``Event`` to wait for, or an ``End``. It speaks no protocol by itself, so it can break any.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Any

import gevent
import orjson
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer

_READ_BYTES = 65_536
_LINGER_OFF = struct.pack("ii", 1, 0)


class End(Enum):
    """How a script can end its connection before the next request."""

    CLOSE = auto()
    HALF_CLOSE = auto()
    RESET = auto()


Step = bytes | float | Event | End
Script = Iterable[Step]


class Request:
    """What came in: the head as bytes, its parts, the body, and what followed at once."""

    def __init__(self, head: bytes, peer: "Peer") -> None:
        self.head = head
        self.body = b""
        self.behind = b""
        self.peer = peer
        line, *rows = head.split(b"\r\n")
        self.method, self.path, self.version = line.decode("latin-1").split(" ")
        pairs = (row.decode("latin-1").partition(":") for row in rows)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}

    def json(self) -> Any:
        """Return the body as JSON."""
        return orjson.loads(self.body)


class Peer:
    """One accepted connection: what it said so far and how it left.

    Attributes:
        gone: Set once the peer has closed its side.
        left_by: ``"fin"`` or ``"reset"`` once it is gone.
        sent_bytes: How much of the script went out.
    """

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.gone = Event()
        self.left_by: str | None = None
        self.sent_bytes = 0
        self._heard = b""
        self._stirred = Event()

    def listen(self) -> None:
        """Read until the peer leaves."""
        try:
            while data := self.sock.recv(_READ_BYTES):
                self._heard += data
                self._stirred.set()
            self.left_by = "fin"
        except OSError:
            self.left_by = "reset"
        self.gone.set()
        self._stirred.set()

    def take(self) -> Request | None:
        """Return the next whole request; None when the peer left before its end."""
        while True:
            head, blank, rest = self._heard.partition(b"\r\n\r\n")
            if blank:
                request = Request(head, self)
                size = int(request.headers.get("content-length", "0"))
                if len(rest) >= size:
                    request.body, request.behind = rest[:size], rest[size:]
                    self._heard = request.behind
                    return request
            if self.gone.is_set():
                return None
            self._stirred.wait()
            self._stirred.clear()

    def do(self, step: Step) -> bool:
        """Carry out a step; tell whether the connection still stands."""
        if isinstance(step, bytes):
            self.sock.sendall(step)
            self.sent_bytes += len(step)
            # Let the other side read these bytes by themselves before more follow.
            gevent.sleep(0)
        elif isinstance(step, Event):
            step.wait()
        elif isinstance(step, (int, float)):
            gevent.sleep(step)
        elif step is End.HALF_CLOSE:
            self.sock.shutdown(socket.SHUT_WR)
        else:
            if step is End.RESET:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
            return False
        return True


class FakeUpstream:
    """The server.

    Args:
        tls: A server-side context; None speaks plain.
        deaf: Never read, so that a long request finds no room.
    """

    def __init__(self, tls: Any = None, *, deaf: bool = False) -> None:
        self._tls = tls
        self._deaf = deaf
        self._scripts: deque[Script] = deque()
        self._usual: Callable[[Request], Script] | None = None
        self._greeting: Script = ()
        self.peers: list[Peer] = []
        self.requests: list[Request] = []
        self.unscripted: list[Request] = []
        self._server = StreamServer(("127.0.0.1", 0), self._serve, spawn=Pool())
        self._server.start()
        self.port: int = self._server.server_port

    def url(self, scheme: str = "http", path: str = "", host: str = "127.0.0.1") -> str:
        """Return the address of a path on this server."""
        return f"{scheme}://{host}:{self.port}{path}"

    def script(self, *steps: Step) -> None:
        """Queue the answer to one more request."""
        self._scripts.append(steps)

    def always(self, *steps: Step) -> None:
        """Answer every request that has no script of its own with these steps."""
        self._usual = lambda _: steps

    def answer_with(self, choose: Callable[[Request], Script]) -> None:
        """Let a function choose the steps for every request that has no script of its own."""
        self._usual = choose

    def greet(self, *steps: Step) -> None:
        """Do this on every new connection before anything is read."""
        self._greeting = steps

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self._server.stop(timeout=0)
        for peer in self.peers:
            peer.sock.close()

    def _serve(self, sock: Any, address: Any) -> None:
        reader = None
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(sock)
            self.peers.append(peer)
            if not self._deaf:
                reader = gevent.spawn(peer.listen)
            if not all(peer.do(step) for step in self._greeting):
                return
            while (request := peer.take()) is not None:
                self.requests.append(request)
                if not all(peer.do(step) for step in self._next(request)):
                    return
        except OSError:
            return  # the peer is gone, or refused our certificate
        finally:
            if reader is not None:
                reader.kill()
            sock.close()

    def _next(self, request: Request) -> Script:
        if self._scripts:
            return self._scripts.popleft()
        if self._usual is not None:
            return self._usual(request)
        self.unscripted.append(request)
        return (answer(b"nothing is scripted", 501, "text/plain"), End.CLOSE)


def answer(
    body: bytes, status: int = 200, content_type: str = "application/json", **headers: str
) -> bytes:
    """Return a whole HTTP/1.1 answer with a Content-Length."""
    rows = [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return _head(status, rows, headers) + body


def answer_json(document: Any, status: int = 200, **headers: str) -> bytes:
    """Return a whole answer around a JSON document."""
    return answer(orjson.dumps(document), status, **headers)


def stream_head(content_type: str = "text/event-stream", **headers: str) -> bytes:
    """Return the head of a chunked 200."""
    rows = [f"Content-Type: {content_type}", "Transfer-Encoding: chunked"]
    return _head(200, rows, headers)


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body; nothing in it means the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = chunk(b"")


def stream(*blocks: bytes, content_type: str = "text/event-stream") -> tuple[bytes, ...]:
    """Return the steps of a whole chunked answer, one chunk a block."""
    return (stream_head(content_type), *map(chunk, blocks), LAST_CHUNK)


def _head(status: int, rows: list[str], headers: dict[str, str]) -> bytes:
    more = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status} X", *rows, *more, "", ""]).encode("latin-1")
